// Package npm installs the npm packages that tests need, once for a machine and outside the tree, and runs Node.js on
// them. What an application runs against the broker is tested as it is published.
package npm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// installLimit is how long the download may take.
const installLimit = 5 * time.Minute

// Modules gives the folder node_modules with the packages of a lock file. files holds package.json and package-lock.json;
// name says what they are for. The first call on a machine, and the first after a change of the lock file, downloads them.
func Modules(name string, files fs.FS) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), installLimit)
	defer cancel()
	dir, err := Install(ctx, filepath.Join(cache, "coatcheck-tools"), name, files)
	return filepath.Join(dir, "node_modules"), err
}

// Tool finds a program.
func Tool(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s is needed and not there; on Debian: apt-get install nodejs npm", name)
	}
	return path, nil
}

// Install installs the packages of the lock file in a folder under root that has the lock file's hash in its name, and
// gives that folder. It is filled under another name and then renamed, so that what has the name is complete, whoever
// else installs at the same time.
func Install(ctx context.Context, root, name string, files fs.FS) (string, error) {
	lock, err := fs.ReadFile(files, "package-lock.json")
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(lock)
	dir := filepath.Join(root, name+"-"+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return dir, err
	}
	npm, err := Tool("npm")
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(root, 0o750); err != nil {
		return "", err
	}
	draft, err := os.MkdirTemp(root, name+"-draft-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(draft) }()
	if err := os.CopyFS(draft, files); err != nil {
		return "", err
	}
	if err := clean(ctx, npm, draft); err != nil {
		return "", err
	}
	if err := os.Rename(draft, dir); err != nil {
		if _, there := os.Stat(dir); there != nil {
			return "", err
		}
	}
	return dir, nil
}

// clean runs npm's clean install: exactly what is in the lock file, and no scripts of packages.
func clean(ctx context.Context, npm, dir string) error {
	cmd := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("npm ci: %w\n%s", err, out.Bytes())
	}
	return nil
}

package oidcprovider

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

//go:embed package.json package-lock.json
var packageFiles embed.FS

// installLimit is how long the download of the npm packages may take.
const installLimit = 5 * time.Minute

// modules gives the folder of the installed npm packages.
var modules = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), installLimit)
	defer cancel()
	dir, err := install(ctx, filepath.Join(cache, "coatcheck-tools"))
	return filepath.Join(dir, "node_modules"), err
})

// tool finds a program.
func tool(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s is needed and not there; on Debian: apt-get install nodejs npm", name)
	}
	return path, nil
}

// install installs the packages of the lock file in a folder under root that has the lock file's hash in its name, and
// gives that folder. It is filled under another name and then renamed, so that what has the name is complete, whoever
// else installs at the same time.
func install(ctx context.Context, root string) (string, error) {
	lock, err := packageFiles.ReadFile("package-lock.json")
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(lock)
	dir := filepath.Join(root, "oidc-provider-"+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return dir, err
	}
	npm, err := tool("npm")
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(root, 0o750); err != nil {
		return "", err
	}
	draft, err := os.MkdirTemp(root, "oidc-provider-draft-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(draft) }()
	if err := os.CopyFS(draft, packageFiles); err != nil {
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

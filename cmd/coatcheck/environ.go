package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// environ is the environment of the process.
type environ map[string]string

func newEnviron(list []string) environ {
	e := make(environ, len(list))
	for _, pair := range list {
		name, value, _ := strings.Cut(pair, "=")
		e[name] = value
	}
	return e
}

func (e environ) get(name string) string { return e[name] }

var variable = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// expand replaces ${NAME}. A name that is not set is an error: an empty secret would be a surprise later.
func (e environ) expand(s string) (string, error) {
	var missing []string
	out := variable.ReplaceAllStringFunc(s, func(m string) string {
		name := m[2 : len(m)-1]
		value, ok := e[name]
		if !ok {
			missing = append(missing, name)
		}
		return value
	})
	if len(missing) > 0 {
		return "", fmt.Errorf("the environment variable %s is not set", strings.Join(missing, ", "))
	}
	return out, nil
}

// secretFrom gives a secret that stands in the configuration or in a file of its own, and refuses both at once. A file's
// last line break is not part of the secret.
func secretFrom(name, value, file, dir string) (string, error) {
	if value != "" && file != "" {
		return "", fmt.Errorf("%s and %s_file cannot both be set", name, name)
	}
	if file == "" {
		return value, nil
	}
	raw, err := os.ReadFile(within(dir, file))
	if err != nil {
		return "", fmt.Errorf("%s_file: %w", name, err)
	}
	secret := strings.TrimRight(string(raw), "\r\n")
	if secret == "" {
		return "", fmt.Errorf("%s_file: %s is empty", name, file)
	}
	return secret, nil
}

// within makes a path relative to a directory, unless it is absolute.
func within(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

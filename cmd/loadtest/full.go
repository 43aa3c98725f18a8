package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// origin starts the upstream, once a run, and gives its origin.
func (l *lab) origin(ctx context.Context) (string, error) {
	if l.upstream == nil {
		p, err := l.self(ctx, "upstream", "-token", l.shortToken, "-token", l.longToken)
		if err != nil {
			return "", err
		}
		l.upstream = p
	}
	return "http://" + l.upstream.addr, nil
}

// bare starts the proxy to compare with.
func (l *lab) bare(ctx context.Context) (*process, error) {
	if _, err := l.origin(ctx); err != nil {
		return nil, err
	}
	return l.self(ctx, "bare", "-upstream", l.upstream.addr)
}

// full starts the real broker on a data directory, with its access log in a file. cached is the size of its cache; zero:
// its default.
func (l *lab) full(ctx context.Context, dir string, cached int) (*process, error) {
	origin, err := l.origin(ctx)
	if err != nil {
		return nil, err
	}
	path, err := l.binary(ctx, brokerPkg)
	if err != nil {
		return nil, err
	}
	if err := prepareDir(dir, origin); err != nil {
		return nil, err
	}
	addr, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "coatcheck.yaml")
	if err := os.WriteFile(file, l.config(dir, addr, cached), 0o600); err != nil {
		return nil, err
	}
	logFile, err := os.Create(filepath.Join(dir, "log.jsonl"))
	if err != nil {
		return nil, err
	}
	p, _, err := l.answering(ctx, addr, io.Discard, logFile, path, "serve", "--config", file)
	if err != nil {
		return nil, errors.Join(err, logFile.Close(), tail(logFile.Name()))
	}
	return p, logFile.Close() // the process has its own handle
}

// config is the broker's configuration file. Everything that costs something in normal operation is on.
func (l *lab) config(dir, addr string, cached int) []byte {
	return fmt.Appendf(nil, `listen: %s
public_url: %s
data: %s
encryption: {identity_file: %s}
providers: [%s]
egress: {allow: [127.0.0.1]}
limits: {cached_connections: %d}
environments:
  %s:
    secret_key: %s
    integrations:
      %s: {provider: %s, client_id: %s, client_secret: %s}
`, addr, publicURL, dir, identityFile, overlayFile, cached, environment, l.apiKey, integration, provider, clientID, clientSecret)
}

// tail is an error with the last lines of a log.
func tail(file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	raw = bytes.TrimSpace(raw)
	return fmt.Errorf("its log ends in: %s", raw[max(0, len(raw)-1000):])
}

// freeAddress finds a port that nobody uses. Somebody could take it in the next moment; then the start fails and says so.
func freeAddress(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// importOver makes a connection over the broker's API, as an app's backend would.
func (l *lab) importOver(ctx context.Context, addr, key, token string) error {
	body, err := json.Marshal(map[string]any{
		"provider_config_key": integration, "connection_id": key,
		"credentials": map[string]any{"type": "OAUTH2", "access_token": token, "expires_at": time.Now().AddDate(1, 0, 0).Format(time.RFC3339)},
	})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/connections", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+l.apiKey)
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Timeout: patience}).Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("import a connection: %s, %s", resp.Status, resp.Header.Get("X-Error-Code"))
	}
	return nil
}

// throughFull is a request for the upstream that goes through the broker, throughBare the same for the bare proxy, where
// only the caller can know the token.
func (l *lab) throughFull(method, path string, length int64, key string) []byte {
	return request(method, "/proxy"+path, length, header{"Authorization", "Bearer " + l.apiKey},
		header{integrationHeader, integration}, header{connectionHeader, key})
}

func (l *lab) throughBare(method, path string, length int64, key string) []byte {
	return request(method, path, length, header{"Authorization", "Bearer " + l.shortToken},
		header{integrationHeader, integration}, header{connectionHeader, key})
}

// patterned is a token of that length without anything in it that has a meaning somewhere.
func patterned(length int) string {
	return strings.Repeat("Tk9uZS1vZi15b3VyLWJ1c2luZXNz", length/28+1)[:length]
}

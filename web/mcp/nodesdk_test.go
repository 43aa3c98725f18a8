package mcp_test

import (
	"bufio"
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/providertest/npm"
)

//go:embed package.json package-lock.json
var packageFiles embed.FS

//go:embed *.mjs
var scripts embed.FS

// modules gives the folder of the installed npm packages. To take other versions, change package.json and run
// npm install --package-lock-only --omit-lockfile-registry-resolved in this folder.
var modules = sync.OnceValues(func() (string, error) { return npm.Modules("mcp", packageFiles) })

// script runs one of the scripts beside the npm packages.
func script(ctx context.Context, t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	node, err := npm.Tool("node")
	must(t, err)
	packages, err := modules()
	must(t, err)
	dir := t.TempDir()
	must(t, os.CopyFS(dir, scripts))
	must(t, os.Symlink(packages, filepath.Join(dir, "node_modules")))
	cmd := exec.CommandContext(ctx, node, args...)
	cmd.Dir = dir
	return cmd
}

// nodeServer starts a server of the TypeScript SDK, with one of its authorization servers, and gives its address.
func nodeServer(t *testing.T, auth string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := script(ctx, t, "server.mjs", auth)
	var stderr bytes.Buffer
	cmd.Stderr, cmd.WaitDelay = &stderr, 5*time.Second
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	limit := time.AfterFunc(time.Minute, cancel)
	t.Cleanup(func() {
		_ = stdin.Close()
		late := time.AfterFunc(5*time.Second, cancel)
		defer late.Stop()
		_ = cmd.Wait()
		cancel()
		if t.Failed() {
			t.Logf("the server wrote:\n%s", stderr.Bytes())
		}
	})
	var ready struct{ URL string }
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	limit.Stop()
	if err == nil {
		err = json.Unmarshal(line, &ready)
	}
	if err != nil {
		t.Fatalf("the server did not come up: %v", err)
	}
	return ready.URL
}

// heard is what the client of the TypeScript SDK saw.
type heard struct {
	Session          bool
	Tools            []string
	Progress         []float64
	Events, Replayed int
	Text             string
}

// nodeClient runs it through the proxy.
func (r *rig) nodeClient(c *broker.Connection) heard {
	r.t.Helper()
	arg, err := json.Marshal(map[string]any{
		"url": r.url + "/proxy", "headers": map[string]string{
			"Authorization": "Bearer " + apiKey, "Provider-Config-Key": "mcp", "Connection-Id": c.Key,
		},
	})
	must(r.t, err)
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	cmd := script(ctx, r.t, "client.mjs", string(arg))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatalf("the client: %v\n%s", err, stderr.Bytes())
	}
	var got heard
	must(r.t, json.Unmarshal(out, &got))
	return got
}

func TestNodeClientTalksToANodeServerThroughTheProxy(t *testing.T) {
	for _, auth := range []string{"sdk", "oidc"} {
		t.Run(auth, func(t *testing.T) {
			t.Parallel()
			address := nodeServer(t, auth)
			r := newRig(t, "", broker.IntegrationInput{})
			c := r.connect(r.decided(address))
			want := heard{Session: true, Tools: []string{"say"}, Progress: []float64{1, 2, 3}, Text: "said for a client"}
			got := r.nodeClient(c)
			if got.Session != want.Session || !slices.Equal(got.Tools, want.Tools) || !slices.Equal(got.Progress, want.Progress) || got.Text != want.Text {
				t.Errorf("it saw %+v", got)
			}
			if got.Replayed < 2 {
				t.Errorf("%d events came again of %d", got.Replayed, got.Events)
			}
			_, before := r.read(c, "")
			a, after := r.read(c, "&force_refresh=true")
			if a.status != http.StatusOK || token(before) == token(after) {
				t.Fatalf("the renewal: %d %s", a.status, a.body)
			}
			if got := r.nodeClient(c); got.Text != want.Text {
				t.Errorf("after a renewal it saw %+v", got)
			}
			r.arrived(address)
			if a := r.api(http.MethodDelete, "/connection/"+c.Key+"?provider_config_key=mcp", ""); a.status != http.StatusOK {
				t.Fatalf("the deletion: %d", a.status)
			}
			eventually(t, "the token is revoked", func() bool { return r.refusesToken(address, token(after)) })
		})
	}
}

func token(read map[string]any) string {
	credentials, _ := read["credentials"].(map[string]any)
	text, _ := credentials["access_token"].(string)
	return text
}

// arrived looks at what the server got of each method.
func (r *rig) arrived(address string) {
	r.t.Helper()
	u, err := url.Parse(address)
	must(r.t, err)
	a := r.browser().get(u.ResolveReference(&url.URL{Path: "/seen"}).String(), nil)
	var all [][]json.RawMessage
	must(r.t, json.Unmarshal([]byte(a.body), &all))
	methods := map[string]bool{}
	resumed := false
	for _, x := range all {
		var method string
		header := map[string]any{}
		must(r.t, json.Unmarshal(x[0], &method))
		must(r.t, json.Unmarshal(x[1], &header))
		methods[method] = true
		resumed = resumed || header["last-event-id"] != nil
		if header["connection-id"] != nil || header["authorization"] == "Bearer "+apiKey {
			r.t.Errorf("%s: our own headers arrived", method)
		}
	}
	if !methods["POST"] || !methods["GET"] || !methods["DELETE"] || !resumed {
		r.t.Errorf("the server got %v, Last-Event-ID: %v", methods, resumed)
	}
}

// refusesToken asks the server itself.
func (r *rig) refusesToken(address, token string) bool {
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, address, http.NoBody)
	must(r.t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	return r.browser().do(req).status == http.StatusUnauthorized
}

package interop_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/providers/providertest/npm"
)

// nodeCall is a line of node.mjs.
type nodeCall struct {
	Call   string          `json:"call"`
	Value  json.RawMessage `json:"value"`
	Status int             `json:"status"`
	Body   json.RawMessage `json:"body"`
}

// nodeWants is what each call of node.mjs must come to: a value, or a refusal's status and code.
var nodeWants = []struct {
	call   string
	value  string // JSON that must be contained; empty: a refusal
	status int
	body   string
}{
	{call: "import key", value: `{"status":201,"body":{"connection_id":"c-key","credentials":{"type":"API_KEY"}}}`},
	{call: "import token", value: `{"status":201,"body":{"connection_id":"c-token","credentials":{"refresh_token":"a-refresh-token"}}}`},
	{call: "listProviders", value: `["key-api"]`},
	{call: "getProvider", value: `"API_KEY"`},
	{call: "listIntegrations", value: `["acme","basic-api","key-api","machine","open-api","slack","wrong"]`},
	{call: "getIntegration", value: `"` + clientID + `"`},
	{call: "getIntegration unknown", status: http.StatusNotFound, body: `{"error":{"code":"not_found"}}`},
	{call: "createIntegration", value: `"made"`},
	{call: "createQuickstartIntegration", status: http.StatusBadRequest, body: `{"error":{"code":"invalid_body"}}`},
	{call: "updateIntegration", value: `"Renamed"`},
	{call: "deleteIntegration", value: `{"status":200,"data":{"success":true}}`},
	{call: "listConnections", value: `["c-key","c-token"]`},
	{call: "listConnections by id", value: `1`},
	{call: "listConnections by user", value: `1`},
	{call: "listConnections by tags", value: `["c-key"]`},
	{call: "getConnection", value: `{"type":"OAUTH2","access_token":"a-token","refresh_token":"a-refresh-token"}`},
	{call: "getConnection unknown", status: http.StatusNotFound, body: `{"error":{"code":"not_found"}}`},
	{call: "getToken", value: `"a-token"`},
	{call: "getToken key", value: `"` + goodKey + `"`},
	{call: "getRawTokenResponse", value: `{"type":"OAUTH2","access_token":"a-token"}`},
	{call: "getMetadata", value: `{"plan":"gold"}`},
	{call: "setMetadata", value: `{"status":201,"data":{"metadata":{"a":1}}}`},
	{call: "updateMetadata", value: `{"status":200,"data":{"metadata":{"b":2}}}`},
	{call: "getMetadata again", value: `{"a":1,"b":2}`},
	{call: "patchConnection", value: `{"success":true}`},
	{call: "waitForConnection", value: `"c-key"`},
	{call: "createConnectSession", value: `{"token":"nango_connect_session_","link":"BROKER","expires":"string"}`},
	{call: "createReconnectSession", value: `"string"`},
	{call: "proxy", value: `{"status":200,"data":{"method":"GET","path":"/things","query":"q=a+b","custom":"yes"}}`},
	{call: "get", value: `{"status":200,"data":{"method":"GET","path":"/things"}}`},
	{call: "post", value: `{"status":200,"data":{"method":"POST","body":"{\"a\":[1]}","type":"application/json"}}`},
	{call: "post without data", value: `{"status":200,"data":{"method":"POST","body":"{}","type":"application/json"}}`},
	{call: "put", value: `{"status":200,"data":{"method":"PUT","body":"text","type":"text/plain"}}`},
	{call: "patch", value: `{"status":200,"data":{"method":"PATCH","body":"{}"}}`},
	{call: "delete", value: `{"status":200,"data":{"method":"DELETE","path":"/things/1"}}`},
	{call: "proxy refused", status: http.StatusTeapot, body: `{"path":"/things"}`},
	{call: "proxy unknown", status: http.StatusBadRequest, body: `{"error":{"code":"server_error"}}`},
	{call: "deleteConnection", value: `{"status":200,"data":{"success":true}}`},
	{call: "deleteConnection unknown", status: http.StatusBadRequest, body: `{"error":{"code":"unknown_connection"}}`},
	{call: "verifyIncomingWebhookRequest", value: `true`},
	{call: "verifyWebhookSignature", value: `true`},
}

func TestNodeClient(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	calls := r.node()
	if len(calls) != len(nodeWants) {
		t.Errorf("%d calls were made, want %d", len(calls), len(nodeWants))
	}
	for _, want := range nodeWants {
		got, made := calls[want.call]
		switch {
		case !made:
			t.Errorf("%s was not called", want.call)
		case want.value != "":
			if got.Status != 0 || got.Value == nil || !contains(t, got.Value, []byte(replaceBroker(want.value, r.broker))) {
				t.Errorf("%s: got %s %d %s, want %s", want.call, got.Value, got.Status, got.Body, want.value)
			}
		case got.Status != want.status || !contains(t, got.Body, []byte(want.body)):
			t.Errorf("%s: got %s %d %s, want %d %s", want.call, got.Value, got.Status, got.Body, want.status, want.body)
		}
	}
}

func replaceBroker(s, origin string) string {
	return string(bytes.ReplaceAll([]byte(s), []byte("BROKER"), []byte(origin)))
}

// The app's backend believes what it is told, and nothing that was changed on the way.
func TestNodeClientChecksWebhooks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for n := range 2 {
		body := fmt.Sprintf(`{"provider_config_key":"key-api","connection_id":"c-%d","credentials":{"type":"API_KEY","apiKey":%q},"tags":{"odd":"<\u2028&>"}}`, n, goodKey)
		if status := r.call(http.MethodPost, "/connections", body, nil); status != http.StatusCreated {
			t.Fatal(status)
		}
	}
	hooks := r.heard(2)
	for _, h := range hooks {
		if !contains(t, []byte(h.Body), []byte(`{"from":"nango","type":"auth","operation":"creation","success":true,"providerConfigKey":"key-api"}`)) {
			t.Errorf("the app was told %s", h.Body)
		}
	}
	forged := hooks[0]
	forged.Body = strings.Replace(forged.Body, "key-api", "another", 1)
	input, err := json.Marshal(append(hooks, forged))
	must(t, err)
	var verdicts [][2]bool
	must(t, json.Unmarshal(r.run(input, "verify.mjs", signingKey), &verdicts))
	for i, v := range verdicts {
		if want := i < len(hooks); v != [2]bool{want, want} {
			t.Errorf("webhook %d: the client says %v, want %v", i, v, want)
		}
	}
}

// run runs a script, and gives what it writes.
func (r *rig) run(stdin []byte, args ...string) []byte {
	r.t.Helper()
	node, err := npm.Tool("node")
	must(r.t, err)
	packages, err := modules()
	must(r.t, err)
	dir := r.t.TempDir()
	must(r.t, os.CopyFS(dir, scripts))
	must(r.t, os.Symlink(packages, filepath.Join(dir, "node_modules")))
	cmd := exec.CommandContext(r.t.Context(), node, args...)
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatalf("node: %v\n%s", err, stderr.Bytes())
	}
	return out
}

// node runs node.mjs.
func (r *rig) node() map[string]nodeCall {
	r.t.Helper()
	out := r.run(nil, "node.mjs", r.broker, secretKey)
	calls := make(map[string]nodeCall)
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c nodeCall
		must(r.t, json.Unmarshal(lines.Bytes(), &c))
		calls[c.Call] = c
	}
	must(r.t, lines.Err())
	return calls
}

// contains reports whether everything in want stands in got, which may have more members.
func contains(t *testing.T, got, want []byte) bool {
	t.Helper()
	var g, w any
	if json.Unmarshal(got, &g) != nil {
		return false
	}
	must(t, json.Unmarshal(want, &w))
	return holds(g, w)
}

func holds(got, want any) bool {
	members, ok := want.(map[string]any)
	if !ok {
		return reflect.DeepEqual(got, want)
	}
	have, ok := got.(map[string]any)
	if !ok {
		return false
	}
	for name, value := range members {
		if g, there := have[name]; !there || !holds(g, value) {
			return false
		}
	}
	return true
}

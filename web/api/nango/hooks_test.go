package nango_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/api/apitest"
	"github.com/coatcheck/coatcheck/web/api/nango"
)

// notices has one for everything that an app can be told, by name.
func notices() (names []string, list []*broker.Notice) {
	add := func(name string, kind broker.EventKind, code string, change func(n *broker.Notice)) {
		n := &broker.Notice{
			Kind: kind, Environment: "dev", Integration: "github-prod", Provider: "github", Mode: "OAUTH2", Connection: "c-123", Code: code,
			Tags: map[string]string{"plan": "gold", "end_user_id": "u-1"},
		}
		if change != nil {
			change(n)
		}
		names, list = append(names, name), append(list, n)
	}
	user := func(n *broker.Notice) { n.EndUser = &broker.EndUser{ID: "u-1"} }
	add("created", broker.EventConnected, "", user)
	add("created by an import, without tags", broker.EventConnected, "", func(n *broker.Notice) { n.Tags = nil })
	add("re-authorized", broker.EventReconnected, "", func(n *broker.Notice) {
		n.EndUser = &broker.EndUser{
			ID: "u-1", Email: "ann@corp.test", DisplayName: "Ann", OrganizationID: "o-1", OrganizationName: "Corp", Tags: map[string]string{"z": "1", "B": "2", "a": "3"},
		}
	})
	add("awkward text", broker.EventConnected, "", func(n *broker.Notice) {
		n.Connection = "<a> & \"b\" \\ / é \u2028\u2029 \U0001F9E5 \b\f\n\r\t\x01\x7f"
		n.Tags = map[string]string{"k": "<script>", "ß": "ü"}
	})
	for _, code := range []string{
		broker.ErrExchangeFailed.Code, broker.ErrCallbackInvalid.Code, broker.ErrProviderError.Code, broker.ErrIssuerMismatch.Code,
		broker.ErrTestFailed.Code, broker.ErrProviderDown.Code, broker.ErrInternal.Code, "interrupted", broker.ErrAccountMismatch.Code,
	} {
		add("failed: "+code, broker.EventConnectFailed, code, func(n *broker.Notice) { n.Tags = nil })
	}
	add("needs re-authorization", broker.EventNeedsReauth, broker.ReasonNeedsReauth, nil)
	add("an installed app has lost its user", broker.EventNeedsReauth, broker.ReasonUserLost, func(n *broker.Notice) { n.Mode = "CUSTOM" })
	add("refresh is failing", broker.EventRefreshFailing, "http_500", nil)
	add("refresh gives nonsense", broker.EventRefreshFailing, "bad_answer", func(n *broker.Notice) { n.Tags = nil })
	add("client credentials are failing", broker.EventRefreshFailing, "http_500", func(n *broker.Notice) { n.Mode = "OAUTH2_CC" })
	add("two steps are failing", broker.EventRefreshFailing, "http_500", func(n *broker.Notice) { n.Mode = "TWO_STEP" })
	return names, list
}

// TestHookBodies compares the bodies with testdata/hooks.golden, which receivers rely on. Each is what JSON.stringify makes
// of it once it is parsed, as one of the two signatures demands of clients.
func TestHookBodies(t *testing.T) {
	names, list := notices()
	var golden bytes.Buffer
	var bodies []string
	for i, n := range list {
		body, err := nango.Hook(n)
		must(t, err)
		bodies = append(bodies, string(body))
		fmt.Fprintf(&golden, "%s\n%s\n\n", names[i], body)
	}
	apitest.Same(t, "testdata/hooks.golden", golden.Bytes())

	input, err := json.Marshal(bodies)
	must(t, err)
	script := `const same = JSON.parse(require("fs").readFileSync(0)).map((b) => JSON.stringify(JSON.parse(b)) === b); console.log(JSON.stringify(same))`
	cmd := exec.CommandContext(t.Context(), "node", "-e", script)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(input), os.Stderr
	out, err := cmd.Output()
	must(t, err)
	var same []bool
	must(t, json.Unmarshal(out, &same))
	for i, ok := range same {
		if !ok {
			t.Errorf("%s: JSON.stringify gives something else than %s", names[i], bodies[i])
		}
	}
	if len(same) != len(bodies) {
		t.Errorf("%d bodies were compared", len(same))
	}
}

// The body that the contract's signatures were computed for.
func TestTheHookOfTheTestVector(t *testing.T) {
	_, list := notices()
	got, err := nango.Hook(list[0])
	must(t, err)
	const want = `{"authMode":"OAUTH2","connectionId":"c-123","endUser":{"endUserEmail":null,"endUserId":"u-1","tags":{}},"environment":"dev","from":"nango","operation":"creation","provider":"github","providerConfigKey":"github-prod","success":true,"tags":{"end_user_id":"u-1","plan":"gold"},"type":"auth"}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestWhatNobodyIsToldHasNoBody(t *testing.T) {
	for _, kind := range []broker.EventKind{broker.EventRefreshFailed, broker.EventDeleted, broker.EventRevocationEnded} {
		if body, err := nango.Hook(&broker.Notice{Kind: kind}); err == nil || strings.Contains(string(body), "auth") {
			t.Errorf("%s: %s", kind, body)
		}
	}
}

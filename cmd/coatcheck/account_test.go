package main

import (
	"encoding/json"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/providers/providertest"
)

// A key of the account, made on the command line, makes an environment and a key of it on the running server, and takes
// both away again.
func TestAnAccountsKeyRunsEnvironments(t *testing.T) {
	p := newProcess(t, providertest.New(t, providertest.Knobs{}))
	p.start()
	bin, err := exec.LookPath("coatcheck")
	if err != nil {
		t.Fatal(err)
	}
	command := func(args ...string) (string, error) {
		args = append([]string{"apikey"}, append(args, "--config", filepath.Join(p.dir, "coatcheck.yaml"))...)
		out, err := exec.CommandContext(t.Context(), bin, args...).CombinedOutput()
		return string(out), err
	}
	do := func(method, path, body, key string) *answer {
		a, err := p.do(t.Context(), method, path, body, "Authorization", "Bearer "+key)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	out, err := command("create", "--account", "--name", "terraform")
	if err != nil {
		t.Fatal(out, err)
	}
	account := firstLine(out)
	var made *answer
	waitUntil(t, func() bool {
		made = do(http.MethodPost, "/environments", `{"name":"staging"}`, account)
		return made.status == http.StatusOK
	})
	var env, key struct{ Data struct{ ID, Secret string } }
	if err := json.Unmarshal([]byte(made.body), &env); err != nil {
		t.Fatal(err)
	}
	a := do(http.MethodPost, "/environment/api-keys", `{"environment_id":"`+env.Data.ID+`","display_name":"backend"}`, account)
	if err := json.Unmarshal([]byte(a.body), &key); err != nil || a.status != http.StatusOK {
		t.Fatal(a, err)
	}
	for _, c := range []struct {
		path, key string
		want      int
	}{{"/connections", key.Data.Secret, 200}, {"/connections", account, 403}} {
		if a := do(http.MethodGet, c.path, "", c.key); a.status != c.want {
			t.Errorf("%s: %d %s", c.path, a.status, a.body)
		}
	}
	if a := do(http.MethodDelete, "/environments/"+env.Data.ID, "", account); a.status != http.StatusNoContent {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := do(http.MethodGet, "/connections", "", key.Data.Secret); a.status != http.StatusUnauthorized {
		t.Errorf("a key of a deleted environment: %d", a.status)
	}

	if out, err := command("list", "--account"); err != nil || !strings.Contains(out, "terraform") || !strings.Contains(out, "account:*") || strings.Contains(out, account) {
		t.Errorf("%s, %v", out, err)
	}
	if out, err := command("list"); err != nil || strings.Contains(out, "terraform") {
		t.Errorf("%s, %v", out, err)
	}
	for _, wrong := range []string{"proxy", "account:everything"} {
		if out, err := command("create", "--account", "--name", "x", "--scope", wrong); err == nil {
			t.Errorf("an account's key with %s: %s", wrong, out)
		}
	}
	if out, err := command("create", "--name", "x", "--scope", "account:*"); err == nil {
		t.Errorf("an environment's key with account:*: %s", out)
	}
	if out, err := command("revoke", account); err != nil {
		t.Error(out, err)
	}
	waitUntil(t, func() bool {
		return do(http.MethodPost, "/environments", `{}`, account).status == http.StatusUnauthorized
	})
}

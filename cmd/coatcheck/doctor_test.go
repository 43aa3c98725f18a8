package main

import (
	"encoding/json"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/providers/providertest"
)

// doctor looks at acme beside the running process, and gives the exit code with what was found.
func (p *process) doctor(args ...string) (int, *report) {
	p.t.Helper()
	bin, err := exec.LookPath("coatcheck")
	if err != nil {
		p.t.Fatal(err)
	}
	args = append([]string{"providers", "doctor", "acme", "--json", "--config", filepath.Join(p.dir, "coatcheck.yaml")}, args...)
	cmd := exec.CommandContext(p.t.Context(), bin, args...)
	out, err := cmd.Output()
	r := &report{}
	if err := json.Unmarshal(out, r); err != nil {
		p.t.Fatalf("%v: %s, %v", args, out, err)
	}
	if strings.Contains(string(out), providertest.ClientSecret) {
		p.t.Error("the secret is shown")
	}
	if err != nil && cmd.ProcessState.ExitCode() < 0 {
		p.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), r
}

// levelOf gives what a look came to, with its text.
func (r *report) levelOf(check, text string) level {
	i := slices.IndexFunc(r.Findings, func(f finding) bool { return f.Check == check && strings.Contains(f.Text, text) })
	if i < 0 {
		return "none"
	}
	return r.Findings[i].Level
}

// An operator looks at an integration of a running server: a healthy one, one whose client the provider refuses, one
// whose provider moved, and one whose provider is away.
func TestTheDoctorSeesWhatTheServerKnows(t *testing.T) {
	provider := providertest.New(t, providertest.Knobs{})
	p := newProcess(t, provider)
	p.start()
	code, r := p.doctor()
	if code != 0 || r.Errors != 0 || r.levelOf("state", "") != fine || r.levelOf("secret", "") != fine {
		t.Fatalf("a healthy integration: %d %+v", code, r)
	}
	if r.levelOf("endpoints", provider.URL+" answers without TLS") != warns || r.levelOf("redirect", p.origin()+"/oauth/callback") != warns {
		t.Errorf("plain http is not told: %+v", r)
	}
	if _, r := p.doctor("--offline"); r.levelOf("endpoints", "") != "none" {
		t.Errorf("offline, endpoints are asked: %+v", r)
	}

	if a, err := p.importToken(t.Context(), "c", time.Now().Add(time.Hour)); err != nil || a.status != http.StatusCreated {
		t.Fatal(a, err)
	}
	provider.Set(func(k *providertest.Knobs) { k.Error = "invalid_client" })
	if _, a, err := p.token(t.Context(), "c", true); err != nil || a.status == http.StatusOK {
		t.Fatal(a, err)
	}
	if code, r := p.doctor(); code != 1 || r.levelOf("state", "misconfigured: the provider refuses the client (invalid_client)") != failure {
		t.Errorf("a refused client: %d %+v", code, r)
	}

	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	elsewhere := strings.ReplaceAll(string(provider.Entry("acme")), provider.URL+"/token", "http://127.0.0.1:1/token")
	p.write("providers.yaml", elsewhere)
	code, r = p.doctor()
	if code != 1 || r.levelOf("endpoints", "http://127.0.0.1:1 cannot be reached") != failure {
		t.Errorf("a provider that is away: %d %+v", code, r)
	}
	if r.levelOf("secret", "secret_required: the client was entered for "+provider.URL) != failure {
		t.Errorf("a provider that moved: %+v", r)
	}
}

package broker_test

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
)

// What a provider declares secret among the settings is kept as a client secret is: sealed, and bound to where it is sent.
func TestSecretSettingsAreSealed(t *testing.T) {
	r := newRig(t, func(r *rig) { r.provider.facts.SecretSettings = []string{"key", "other"} })
	ctx := t.Context()
	const marked = "a-marked-secret-of-the-settings"
	settings := func() map[string]string {
		t.Helper()
		s, err := r.broker.ClientSecrets(ctx, r.who, "cloud")
		if err != nil {
			t.Fatal(err)
		}
		return s.Settings
	}
	i, err := r.broker.CreateIntegration(ctx, r.who, broker.IntegrationInput{
		Key: "cloud", Provider: "fake", ClientID: "c", Settings: map[string]string{"key": marked, "service": "s3"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(i.SecretSettings) == 0 || !maps.Equal(i.Settings, map[string]string{"service": "s3"}) {
		t.Errorf("in the clear: %v", i.Settings)
	}
	i, err = r.broker.UpdateIntegration(ctx, r.who, "cloud", broker.IntegrationPatch{Settings: map[string]string{"service": "ec2"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := settings(); !maps.Equal(got, map[string]string{"key": marked, "service": "ec2"}) || i.Settings["key"] != "" {
		t.Errorf("after a change of another: %v", got)
	}
	files, err := filepath.Glob(filepath.Join(r.dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	for _, name := range files {
		if raw, err := os.ReadFile(name); err == nil && bytes.Contains(raw, []byte(marked)) {
			t.Errorf("%s holds the secret", name)
		}
	}
	if _, err := r.broker.UpdateIntegration(ctx, r.who, "cloud", broker.IntegrationPatch{Settings: map[string]string{"key": ""}}); err != nil {
		t.Fatal(err)
	}
	if got := settings(); !maps.Equal(got, map[string]string{"service": "ec2"}) {
		t.Errorf("after it was cleared: %v", got)
	}
}

func TestSecretSettingsOfAnotherAddress(t *testing.T) {
	r := newRig(t, func(r *rig) { r.provider.facts.SecretSettings = []string{"key"} })
	ctx := t.Context()
	_, err := r.broker.CreateIntegration(ctx, r.who, broker.IntegrationInput{Key: "cloud", Provider: "fake", ClientID: "c", Settings: map[string]string{"key": "old", "service": "s3"}})
	if err != nil {
		t.Fatal(err)
	}
	r.provider.mu.Lock()
	r.provider.facts.TokenOrigin = "https://moved.example.com"
	r.provider.mu.Unlock()
	who, _ := r.session(broker.SessionInput{})
	if _, err := r.broker.ConnectForm(ctx, who, "cloud"); !errors.Is(err, broker.ErrSecretRequired) {
		t.Errorf("the old secret may go to the new address: %v", err)
	}
	// Whatever else is changed, what was secret has to be entered again.
	if _, err = r.broker.UpdateIntegration(ctx, r.who, "cloud", broker.IntegrationPatch{Settings: map[string]string{"key": "new"}}); err != nil {
		t.Fatal(err)
	}
	s, err := r.broker.ClientSecrets(ctx, r.who, "cloud")
	if err != nil || !maps.Equal(s.Settings, map[string]string{"key": "new", "service": "s3"}) {
		t.Error(s, err)
	}
	if _, err := r.broker.ConnectForm(ctx, who, "cloud"); err != nil {
		t.Error(err)
	}
}

// A value that we choose is the same for as long as a session lasts, differs between sessions, and is what the app's
// backend says where it says something.
// more is a catalogue with an entry besides those of the fake provider.
type more struct{ *fakeProvider }

func (m more) Provider(name string) (broker.Provider, bool) {
	if name == "passing" {
		return m.fakeProvider, true
	}
	return m.fakeProvider.Provider(name)
}

// What is secret among the settings is known from the catalogue alone, so that nothing is taken while it is not known.
func TestSettingsAreNotChangedWhileTheirProviderIsGone(t *testing.T) {
	r := newRig(t, func(r *rig) { r.provider.facts.SecretSettings = []string{"key"} })
	ctx := t.Context()
	if err := r.broker.ReplaceCatalogue(ctx, more{r.provider}, r.declared()); err != nil {
		t.Fatal(err)
	}
	_, err := r.broker.CreateIntegration(ctx, r.who, broker.IntegrationInput{Key: "cloud", Provider: "passing", ClientID: "c", Settings: map[string]string{"key": "old"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.broker.ReplaceCatalogue(ctx, r.provider, r.declared()); err != nil {
		t.Fatal(err)
	}
	_, err = r.broker.UpdateIntegration(ctx, r.who, "cloud", broker.IntegrationPatch{Settings: map[string]string{"key": "a-secret-in-the-clear"}})
	if broker.AsError(err).Code != broker.ErrNotSupported.Code {
		t.Errorf("got %v", err)
	}
	name := "Cloud"
	i, err := r.broker.UpdateIntegration(ctx, r.who, "cloud", broker.IntegrationPatch{DisplayName: &name})
	if err != nil || len(i.SecretSettings) == 0 || len(i.Settings) > 0 {
		t.Errorf("another change: %v, %v", i, err)
	}
}

func TestValuesThatAreAssigned(t *testing.T) {
	r := newRig(t, func(r *rig) { r.provider.facts.Assigned = &broker.Field{Name: "external_id", Title: "External ID"} })
	ctx := t.Context()
	value := func(who broker.Actor) string {
		t.Helper()
		f, err := r.broker.ConnectForm(ctx, who, "one")
		if err != nil || f.Assigned == nil || f.Assigned.Field.Title != "External ID" {
			t.Fatal(err)
		}
		return f.Assigned.Value
	}
	one, _ := r.session(broker.SessionInput{})
	other, _ := r.session(broker.SessionInput{})
	if a, b := value(one), value(other); a != value(one) || a == b || len(a) != 36 {
		t.Errorf("%q and %q", a, b)
	}
	decided, _ := r.session(broker.SessionInput{Defaults: map[string]broker.Defaults{"one": {Config: map[string]string{"external_id": "tenant-17"}}}})
	if got := value(decided); got != "tenant-17" {
		t.Errorf("decided, and %q", got)
	}
}

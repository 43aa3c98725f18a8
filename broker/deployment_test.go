package broker_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/storage/sqlite"
)

// second is another process on the rig's data, with a public URL of its own.
func (r *rig) second(publicURL string) *broker.Broker {
	r.t.Helper()
	db, err := sqlite.Open(r.t.Context(), sqlite.Options{Dir: r.dir, Now: r.clock.Now})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = db.Close() })
	b, err := broker.New(r.t.Context(), broker.Config{
		Store: db, Sealer: sealer{r.keyring}, Catalogue: r.provider, Now: r.clock.Now, Logger: slog.New(slog.DiscardHandler), PublicURL: publicURL,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

// becomeCopy makes the store what a restored backup is, and starts again on it.
func (r *rig) becomeCopy() {
	r.t.Helper()
	d := r.broker.Deployment()
	next := d
	next.CopiedAt = r.clock.Now()
	if err := r.store.SetDeployment(r.t.Context(), d.Cluster, next, broker.Trail{}); err != nil {
		r.t.Fatal(err)
	}
	r.restart()
}

// A copy of a store gives out what has not run out. It asks the provider for nothing that could cost the original its
// grants, whoever wants it, and blames no connection for that.
func TestACopyServesAndRenewsNothing(t *testing.T) {
	r := newRig(t)
	ref, gone := r.imported("kept", time.Hour), r.imported("deleted", time.Hour)
	r.becomeCopy()
	if got := r.broker.Paused(); got != broker.PausedCopy {
		t.Fatalf("paused: %q", got)
	}
	if err := r.broker.DeleteConnection(t.Context(), r.who, gone); err != nil {
		t.Fatal(err)
	}
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, broker.ErrRenewalPaused) {
			t.Errorf("%s gives %v", what, err)
		}
	}
	valid := r.reveal(ref)
	out, err := r.broker.Outbound(t.Context(), r.who, ref.Integration, ref.Key)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.broker.Rejected(t.Context(), out)
	refused("a token that the API refused", err)
	_, err = r.broker.Reveal(t.Context(), r.who, ref, broker.RevealOptions{ForceRefresh: true})
	refused("a forced renewal", err)
	_, err = r.broker.RefreshConnection(t.Context(), r.who, ref)
	refused("a renewal", err)

	r.clock.advance(59 * time.Minute) // due, and still good
	if got := r.reveal(ref); got.Material.Access.Reveal() != valid.Material.Access.Reveal() {
		t.Error("another token was given")
	}
	r.clock.advance(2 * time.Minute)
	_, err = r.broker.Reveal(t.Context(), r.who, ref, broker.RevealOptions{})
	refused("a token that has run out", err)
	_, err = r.broker.Outbound(t.Context(), r.who, ref.Integration, ref.Key)
	refused("a call with it", err)
	_, err = r.broker.VerifyConnection(t.Context(), r.who, ref)
	refused("a check of it", err)
	if err := r.broker.RevokeDue(t.Context()); err != nil {
		t.Error(err)
	}

	c, err := r.broker.Connection(t.Context(), r.who, ref)
	if err != nil || c.Status != broker.Active || c.Reason != "" {
		t.Errorf("the connection is %s %q, %v", c.Status, c.Reason, err)
	}
	if requests, _ := r.provider.count(); requests != 0 || len(r.provider.revocations()) != 0 {
		t.Errorf("%d token requests, revoked: %q", requests, r.provider.revocations())
	}
}

// The background waits as well, and goes on within a second of another process' adopting the store: what was due is
// renewed once, and what was deleted is ended.
func TestAdoptingLetsTheBackgroundGoOn(t *testing.T) {
	r, c := newHookRig(t)
	ref, gone := r.imported("due", time.Hour), r.imported("deleted", time.Hour)
	r.told(c)
	r.becomeCopy()
	if err := r.broker.DeleteConnection(t.Context(), r.who, gone); err != nil {
		t.Fatal(err)
	}
	r.imported("told later", 48*time.Hour)
	r.clock.advance(2 * time.Hour)
	r.expectTold(c)
	r.run()
	if _, err := r.broker.Reveal(t.Context(), r.who, ref, broker.RevealOptions{}); !errors.Is(err, broker.ErrRenewalPaused) {
		t.Fatalf("got %v", err)
	}
	if requests, _ := r.provider.count(); requests != 0 || len(r.provider.revocations()) != 0 {
		t.Fatalf("%d token requests, revoked: %q", requests, r.provider.revocations())
	}

	command := r.second(publicURL)
	before := command.Deployment()
	after, err := command.Adopt(t.Context(), broker.System(""))
	if err != nil {
		t.Fatal(err)
	}
	if after.Cluster == before.Cluster || after.PublicURL != publicURL || !after.CopiedAt.IsZero() {
		t.Errorf("adopted as %+v", after)
	}
	waitFor(t, func() bool {
		requests, _ := r.provider.count()
		return requests == 1 && len(r.provider.revocations()) > 0 && len(c.take()) > 0
	})
	if got := r.broker.Paused(); got != broker.NotPaused {
		t.Errorf("paused: %q", got)
	}
	r.reveal(ref)
	if requests, reused := r.provider.count(); requests != 1 || reused != 0 {
		t.Errorf("%d token requests and %d reused refresh tokens, want 1 and 0", requests, reused)
	}
	if !strings.Contains(r.log.String(), "the store was adopted") {
		t.Error("the log does not say that renewals go on")
	}
}

// A store goes to the first who claims it. Under another public URL nothing is renewed, until somebody says that the URL
// has changed; then the old one may not.
func TestAStoreBelongsToOnePublicURL(t *testing.T) {
	const other = "https://staging.example.com"
	r := newRig(t)
	ref := r.imported("one", time.Hour)
	if got := r.broker.Paused(); got != broker.NotPaused {
		t.Errorf("a store of nobody's is paused: %q", got)
	}
	for range 2 {
		if err := r.broker.Claim(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	claimed := r.broker.Deployment()
	if claimed.Cluster == "" || claimed.PublicURL != publicURL {
		t.Errorf("claimed as %+v", claimed)
	}

	b := r.second(other)
	if err := b.Claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := b.Paused(); got != broker.PausedOtherURL || b.Deployment() != claimed {
		t.Errorf("paused: %q; the store says %+v", got, b.Deployment())
	}
	if _, err := b.Reveal(t.Context(), r.who, ref, broker.RevealOptions{ForceRefresh: true}); !errors.Is(err, broker.ErrRenewalPaused) {
		t.Errorf("got %v", err)
	}
	if _, err := b.Adopt(t.Context(), r.who); !errors.Is(err, broker.ErrInsufficientScope) {
		t.Errorf("an app's key adopts: %v", err)
	}
	if _, err := b.Adopt(t.Context(), broker.System("")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Reveal(t.Context(), r.who, ref, broker.RevealOptions{ForceRefresh: true}); err != nil {
		t.Error(err)
	}

	r.restart()
	if got := r.broker.Paused(); got != broker.PausedOtherURL {
		t.Errorf("the old URL: paused %q", got)
	}
	lines, err := r.store.Audit(t.Context(), "", 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var actions []string
	for _, l := range lines {
		if strings.HasPrefix(l.Action, "store.") {
			actions = append(actions, l.Action)
		}
	}
	if got := strings.Join(actions, " "); got != "store.claim store.adopt" {
		t.Errorf("the trail says %q", got)
	}
}

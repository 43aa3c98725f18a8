package broker_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// replacement is another catalogue for the rig, which is changed and then put into force.
func (r *rig) replacement(change func(*fakeProvider)) error {
	r.t.Helper()
	p := newFakeProvider()
	p.now = r.clock.Now
	change(p)
	err := r.broker.ReplaceCatalogue(r.t.Context(), p, r.declared())
	if err == nil {
		r.provider = p
	}
	return err
}

// Whoever calls after a catalogue was replaced gets what the new one says, however many call while it is replaced.
func TestNobodyIsServedWhatAnOlderCatalogueSays(t *testing.T) {
	r := newRig(t)
	ref := r.imported("c", time.Hour)
	var inForce atomic.Int64
	stop := make(chan struct{})
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				atLeast := inForce.Load()
				o, err := r.broker.Outbound(t.Context(), r.who, ref.Integration, ref.Key)
				if err != nil {
					t.Error(err)
					return
				}
				n, _ := strconv.ParseInt(strings.TrimPrefix(o.Base().Path, "/v"), 10, 64)
				if n < atLeast {
					t.Errorf("a way out of catalogue %d, after %d was put into force", n, atLeast)
				}
			}
		})
	}
	for n := range int64(100) {
		if err := r.replacement(func(p *fakeProvider) { p.base = fmt.Sprintf("https://api.fake.example.com/v%d", n+1) }); err != nil {
			t.Fatal(err)
		}
		inForce.Store(n + 1)
	}
	close(stop)
	work.Wait()
}

// An address that changes while the server runs means what it means at a restart: end users have to connect again, and the
// secret of the configuration file belongs to the new address.
func TestAReplacedCatalogueMovesConnectionsAsARestartDoes(t *testing.T) {
	for name, change := range map[string]func(*fakeProvider){
		"API":            func(p *fakeProvider) { p.base = "https://elsewhere.example.com" },
		"token endpoint": func(p *fakeProvider) { p.facts.TokenOrigin = "https://elsewhere.example.com" },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			ref := r.imported("c", time.Hour)
			if _, err := r.wayOut(ref); err != nil {
				t.Fatal(err)
			}
			if err := r.replacement(change); err != nil {
				t.Fatal(err)
			}
			if name == "API" {
				r.stranded(ref)
			} else if c, err := r.broker.Connection(t.Context(), r.who, ref); err != nil || c.Reason != broker.ReasonOriginChanged {
				t.Fatalf("reason %q, %v", c.Reason, err)
			}
			if n := r.announced(broker.EventNeedsReauth); n != 1 {
				t.Errorf("the app was told %d times", n)
			}
			r.imported("c", time.Hour)
			if _, err := r.wayOut(ref); err != nil {
				t.Errorf("connected again: %v", err)
			}
		})
	}
}

// A catalogue that a declared integration cannot be used with is refused, and the one of before stays.
func TestACatalogueWithoutADeclaredProviderIsRefused(t *testing.T) {
	r := newRig(t)
	ref := r.imported("c", time.Hour)
	err := r.replacement(func(p *fakeProvider) {
		p.base, p.facts.Usable, p.facts.UnusableReason = "https://elsewhere.example.com", false, "Not any more."
	})
	var refused *broker.CatalogueRefusedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "integration one: not_supported: Not any more.") {
		t.Fatalf("refused with %v", err)
	}
	if o, err := r.wayOut(ref); err != nil || o.Base().Host != "api.fake.example.com" {
		t.Errorf("the catalogue of before: %v", err)
	}
}

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/providers/providertest"
)

// The broker is killed at random moments in the middle of imports, sign-ins and renewals, again and again. After every
// start each connection that was acknowledged is there, can be read, and holds a token that its provider takes; the
// provider, which ends the whole grant when a spent refresh token comes back, has never had to do that.
func TestNothingAcknowledgedIsLostWhenTheBrokerIsKilled(t *testing.T) {
	const rounds = 6
	provider := providertest.New(t, providertest.Knobs{Rotate: true, Grace: time.Minute, Slow: 10 * time.Millisecond})
	p := newProcess(t, provider)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)

	var mu sync.Mutex
	var acknowledged []string
	var signedIn atomic.Int64
	ack := func(id string) {
		mu.Lock()
		defer mu.Unlock()
		acknowledged = append(acknowledged, id)
	}
	some := func(n int) (string, bool) {
		mu.Lock()
		defer mu.Unlock()
		if len(acknowledged) == 0 {
			return "", false
		}
		return acknowledged[n%len(acknowledged)], true
	}
	for round := range rounds {
		p.start()
		ctx, stop := context.WithCancel(t.Context())
		var work sync.WaitGroup
		for w := range 2 {
			work.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					id := fmt.Sprintf("imported-%d-%d-%d", round, w, n)
					if a, err := p.importToken(ctx, id, time.Now().Add(time.Hour)); err == nil && a.status == http.StatusCreated {
						ack(id)
					}
				}
			})
			work.Go(func() {
				for n := w * 7; ctx.Err() == nil; n += 3 {
					if id, ok := some(n); ok {
						_, _, _ = p.token(ctx, id, true) // how it ends is seen after the start
					}
				}
			})
		}
		work.Go(func() {
			for ctx.Err() == nil {
				if id, err := p.connect(ctx); err == nil {
					ack(id)
					signedIn.Add(1)
				}
			}
		})
		timer := time.NewTimer(time.Duration(150+random.IntN(600)) * time.Millisecond)
		<-timer.C
		p.kill()
		stop()
		work.Wait()
	}

	p.start()
	if len(acknowledged) < rounds || signedIn.Load() == 0 {
		t.Fatalf("only %d connections were made, %d of them by signing in", len(acknowledged), signedIn.Load())
	}
	for _, id := range acknowledged {
		token, a, err := p.token(t.Context(), id, false)
		if err != nil || token == "" || !provider.Good(token) {
			t.Fatalf("%s: token is good: %t, %v %v\n%s", id, provider.Good(token), err, a, p.log.String())
		}
		if token, a, err = p.token(t.Context(), id, true); err != nil || token == "" || !provider.Good(token) {
			t.Fatalf("%s cannot be renewed any more: %v %v", id, a, err)
		}
	}
	if err := p.stop(); err != nil {
		t.Fatalf("stop: %v", err)
	}
	counts := provider.Counts()
	if counts.FamiliesRevoked != 0 {
		t.Fatalf("%d grants were ended because a spent refresh token came back", counts.FamiliesRevoked)
	}
	t.Logf("%d connections, %d by signing in, %d renewals, %d repeats within the grace", len(acknowledged), signedIn.Load(), counts.Refreshes, counts.Reuses)
	checkIntegrity(t, filepath.Join(p.dir, "data"))
}

// A process that is told to end finishes what it has begun: no renewal is lost, and it says that all went well.
func TestAnOrderlyEndLosesNoRenewal(t *testing.T) {
	provider := providertest.New(t, providertest.Knobs{Rotate: true, Slow: 300 * time.Millisecond})
	p := newProcess(t, provider)
	p.start()
	const n = 40
	for i := range n {
		if a, err := p.importToken(t.Context(), fmt.Sprint("c", i), time.Now().Add(time.Hour)); err != nil || a.status != http.StatusCreated {
			t.Fatal(a, err)
		}
	}
	var work sync.WaitGroup
	for i := range n {
		work.Go(func() { _, _, _ = p.token(t.Context(), fmt.Sprint("c", i), true) })
	}
	waitUntil(t, func() bool { return provider.Counts().Tokens > 4 })
	if err := p.stop(); err != nil {
		t.Fatalf("stop: %v\n%s", err, p.log.String())
	}
	work.Wait()
	p.start()
	for i := range n {
		token, a, err := p.token(t.Context(), fmt.Sprint("c", i), true)
		if err != nil || !provider.Good(token) {
			t.Fatal(i, a, err)
		}
	}
	if counts := provider.Counts(); counts.Reuses != 0 || counts.FamiliesRevoked != 0 {
		t.Fatalf("%+v", counts)
	}
}

// A second server on the same data is refused, with one clear line.
func TestASecondServerIsRefused(t *testing.T) {
	p := newProcess(t, providertest.New(t, providertest.Knobs{}))
	p.start()
	bin, err := exec.LookPath("coatcheck")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), bin, "serve", "--config", filepath.Join(p.dir, "coatcheck.yaml")).CombinedOutput()
	if err == nil || !containsLine(string(out), "database_in_use") {
		t.Fatalf("%v: %s", err, out)
	}
}

// A key that the command line makes opens the door of the running server, and one that it revokes does not, within
// seconds.
func TestTheServerNoticesKeysOfTheCommandLine(t *testing.T) {
	p := newProcess(t, providertest.New(t, providertest.Knobs{}))
	p.start()
	command := func(args ...string) string {
		bin, err := exec.LookPath("coatcheck")
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", filepath.Join(p.dir, "coatcheck.yaml"))
		out, err := exec.CommandContext(t.Context(), bin, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	key := firstLine(command("apikey", "create", "--name", "second", "--scope", "connections:read"))
	status := func() int {
		a, err := p.do(t.Context(), http.MethodGet, "/connections", "", "Authorization", "Bearer "+key)
		if err != nil {
			t.Fatal(err)
		}
		return a.status
	}
	waitUntil(t, func() bool { return status() == http.StatusOK })
	id := keyID(command("apikey", "list"), "second")
	command("apikey", "revoke", id)
	waitUntil(t, func() bool { return status() == http.StatusUnauthorized })
}

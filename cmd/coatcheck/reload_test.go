package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/providertest"
)

// replace puts a file in the place of another, as editors and deployments do.
func (p *process) replace(name, text string) {
	p.t.Helper()
	p.write(name+".new", text)
	if err := os.Rename(filepath.Join(p.dir, name+".new"), filepath.Join(p.dir, name)); err != nil {
		p.t.Fatal(err)
	}
}

// An overlay is replaced a hundred times while connections are in use: each call gets what was in force when it began, or
// something newer.
func TestOverlaysAreReplacedUnderWay(t *testing.T) {
	provider := providertest.New(t, providertest.Knobs{})
	p := newProcess(t, provider)
	version := func(n int64) string {
		return strings.ReplaceAll(string(provider.Entry("acme")), provider.URL+"/api", fmt.Sprint(provider.URL, "/api/v", n))
	}
	p.write("providers.yaml", version(0))
	cfg, err := loadConfig(environ{}, overrides{Config: filepath.Join(p.dir, "coatcheck.yaml")})
	if err != nil {
		t.Fatal(err)
	}
	var log lockedBuffer
	n, err := openNode(t.Context(), cfg, environ{}, slog.New(slog.NewJSONHandler(&log, nil)), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.store.Close() })
	if err := n.declare(&program{ctx: t.Context(), stdout: &bytes.Buffer{}, stderr: &log}); err != nil {
		t.Fatal(err)
	}
	who, err := n.broker.Authenticate(p.key)
	if err != nil {
		t.Fatal(err)
	}
	access, refresh := provider.Grant()
	_, _, err = n.broker.Import(t.Context(), who, broker.ImportInput{Integration: "acme", Key: "c", Material: &broker.Material{
		Type: "OAUTH2", Access: broker.NewSecret(access), Refresh: broker.NewSecret(refresh), ExpiresAt: n.broker.Now().Add(time.Hour),
	}})
	if err != nil {
		t.Fatal(err)
	}

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
				o, err := n.broker.Outbound(t.Context(), who, "acme", "c")
				if err != nil {
					t.Error(err)
					return
				}
				if got, _ := strconv.ParseInt(strings.TrimPrefix(o.Base().Path, "/api/v"), 10, 64); got < atLeast {
					t.Errorf("a call of version %d, when %d was in force", got, atLeast)
				}
			}
		})
	}
	w := newOverlayWatch(n)
	for i := range int64(100) {
		p.replace("providers.yaml", version(i+1))
		for range 2 { // to find it, and to find it settled
			w.look(t.Context())
		}
		inForce.Store(i + 1)
		if i%20 == 0 {
			p.replace("providers.yaml", "acme: [")
			for range 3 {
				w.look(t.Context())
			}
		}
	}
	close(stop)
	work.Wait()
	if o, err := n.broker.Outbound(t.Context(), who, "acme", "c"); err != nil || o.Base().Path != "/api/v100" {
		t.Errorf("at the end: %v", err)
	}
	if refused := strings.Count(log.String(), `"problem":"providers.yaml:2:1: `); refused != 5 {
		t.Errorf("%d broken files were told of:\n%s", refused, log.String())
	}
}

// A running server takes a changed overlay over within seconds, refuses a broken one with its place, and does not call an
// API that has moved with the credentials of before.
func TestARunningServerTakesOverlaysOver(t *testing.T) {
	provider := providertest.New(t, providertest.Knobs{})
	elsewhere := providertest.New(t, providertest.Knobs{})
	p := newProcess(t, provider)
	p.start()
	if a, err := p.importToken(t.Context(), "c", time.Now().Add(time.Hour)); err != nil || a.status != http.StatusCreated {
		t.Fatal(a, err)
	}
	call := func() *answer {
		t.Helper()
		a, err := p.do(t.Context(), http.MethodGet, "/proxy/echo", "", "Provider-Config-Key", "acme", "Connection-Id", "c")
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := call(); a.status != http.StatusOK {
		t.Fatal(a)
	}
	entry := string(provider.Entry("acme"))
	p.replace("providers.yaml", entry+"  colour: red\n")
	place := fmt.Sprintf("providers.yaml:%d:3: acme: field colour not found", strings.Count(entry, "\n")+1)
	waitUntil(t, func() bool { return containsLine(p.log.String(), place) })
	if a := call(); a.status != http.StatusOK {
		t.Errorf("after a broken file: %v", a)
	}
	p.write("providers.yaml", strings.Replace(entry, "Test provider", "Renamed", 1))
	waitUntil(t, func() bool {
		a, err := p.do(t.Context(), http.MethodGet, "/providers/acme", "")
		return err == nil && strings.Contains(a.body, "Renamed")
	})
	if a := call(); a.status != http.StatusOK {
		t.Errorf("after a change of the name: %v", a)
	}
	p.replace("providers.yaml", strings.ReplaceAll(entry, provider.URL+"/api", elsewhere.URL+"/api"))
	waitUntil(t, func() bool { return call().status != http.StatusOK })
	if a := call(); a.header.Get("X-Error-Code") != broker.ErrNeedsReauth.Code {
		t.Errorf("a provider that moved: %v", a)
	}
	if n := elsewhere.Counts(); n != (providertest.Counts{}) {
		t.Errorf("the other server was asked: %+v", n)
	}
}

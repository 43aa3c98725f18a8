package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/providers/providertest"
)

// guarded is an API that takes the tokens which the identity provider knows, and echoes bodies.
type guarded struct {
	idp     atomic.Pointer[providertest.Server]
	calls   atomic.Int64
	early   atomic.Bool // 401 before the body was read
	refuses atomic.Bool // every token
}

func (g *guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.calls.Add(1)
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	bad := g.refuses.Load() || !g.idp.Load().Good(token)
	rc := http.NewResponseController(w)
	if bad && g.early.Load() {
		_ = rc.EnableFullDuplex()
		w.WriteHeader(http.StatusUnauthorized)
		_ = rc.Flush()
		_, _ = io.Copy(io.Discard, r.Body)
		return
	}
	sum, err := sum(r.Body)
	if bad {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, "who are you?")
		return
	}
	_, _ = fmt.Fprintf(w, "%s %d %x %v", r.RequestURI, r.ContentLength, sum, err)
}

func newGuarded(t *testing.T) (*rig, *guarded) {
	g := &guarded{}
	r := newRig(t, g.ServeHTTP)
	g.idp.Store(r.idp)
	return r, g
}

func TestRenewalAfterRefusal(t *testing.T) {
	for _, size := range []int64{0, 2, 100_000, 1 << 20} {
		for _, early := range []bool{false, true} {
			r, g := newGuarded(t)
			r.idp.ExpireAccess()
			g.early.Store(early)
			var body io.Reader
			if size > 0 {
				body = io.MultiReader(&pattern{n: size})
			}
			req := r.request(http.MethodPost, "oauth", "/x%2Fy?z", body)
			req.ContentLength = size
			sum, err := sum(&pattern{n: size})
			must(t, err)
			want := fmt.Sprintf("/x%%2Fy?z %d %x <nil>", size, sum)
			if a := r.do(req); a.StatusCode != http.StatusOK || a.body != want {
				t.Errorf("%d bytes, early %t: got %d %s, want %s", size, early, a.StatusCode, a.body, want)
			}
			if calls, n := g.calls.Load(), r.idp.Counts().Refreshes; calls != 2 || n != 1 {
				t.Errorf("%d bytes, early %t: %d calls and %d renewals", size, early, calls, n)
			}
		}
	}
}

func TestOneRenewalForAll(t *testing.T) {
	r, g := newGuarded(t)
	r.idp.ExpireAccess()
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			if a := r.get("oauth", "/x"); a.StatusCode != http.StatusOK {
				t.Errorf("got %d %s", a.StatusCode, a.body)
			}
		})
	}
	group.Wait()
	if n := r.idp.Counts().Refreshes; n != 1 {
		t.Errorf("%d renewals for %d calls", n, g.calls.Load())
	}
}

// A body that was not kept is not sent again. The caller's own repetition is served.
func TestRefusalOfABodyThatIsNotKept(t *testing.T) {
	for _, length := range []int64{-1, 1<<20 + 1} {
		r, g := newGuarded(t)
		r.idp.ExpireAccess()
		for _, want := range []int{http.StatusUnauthorized, http.StatusOK} {
			req := r.request(http.MethodPost, "oauth", "/x", io.MultiReader(&pattern{n: 1<<20 + 1}))
			req.ContentLength = length
			if a := r.do(req); a.StatusCode != want {
				t.Errorf("length %d: got %d %s, want %d", length, a.StatusCode, a.body, want)
			}
		}
		if calls, n := g.calls.Load(), r.idp.Counts().Refreshes; calls != 2 || n != 1 {
			t.Errorf("length %d: %d calls and %d renewals", length, calls, n)
		}
	}
}

// What cannot be helped by renewing is passed on as it is.
func TestRefusalsArePassedOn(t *testing.T) {
	r, g := newGuarded(t)
	g.refuses.Store(true)
	passed := func(what string, a answer) {
		t.Helper()
		if a.StatusCode != http.StatusUnauthorized || a.body != "who are you?" || a.Header.Get("X-Error-Source") != "upstream" {
			t.Errorf("%s: got %d %q %v", what, a.StatusCode, a.body, a.Header)
		}
	}
	passed("an API key", r.get("keyed", "/x"))
	if calls := g.calls.Swap(0); calls != 1 {
		t.Errorf("an API key: %d calls", calls)
	}
	for i := range 3 {
		passed("every token is refused", r.get("oauth", "/x"))
		if n := r.idp.Counts().Refreshes; n != 1 {
			t.Errorf("call %d: %d renewals", i, n)
		}
	}
	if calls := g.calls.Swap(0); calls != 4 {
		t.Errorf("every token is refused: %d calls", calls)
	}
	r.idp.Set(func(k *providertest.Knobs) { k.Error = "invalid_grant" })
	r.grant("oauth", "lost", time.Hour)
	passed("the grant is lost", r.get("oauth", "/x", "Connection-Id", "lost"))
	if calls := g.calls.Load(); calls != 1 {
		t.Errorf("the grant is lost: %d calls", calls)
	}
}

// Between the refusal and the renewal the connection may have become another one.
func TestRenewalStaysWithItsConnection(t *testing.T) {
	var g guarded
	var r *rig
	replaced := false
	r = newRig(t, func(w http.ResponseWriter, q *http.Request) {
		if !replaced {
			replaced = true
			must(t, r.broker.DeleteConnection(q.Context(), r.who, ref("oauth", "c")))
			r.grant("oauth", "c", time.Hour)
		}
		g.refuses.Store(true)
		g.ServeHTTP(w, q)
	})
	if a := r.get("oauth", "/x"); a.StatusCode != http.StatusUnauthorized || g.calls.Load() != 1 {
		t.Errorf("got %d after %d calls", a.StatusCode, g.calls.Load())
	}
}

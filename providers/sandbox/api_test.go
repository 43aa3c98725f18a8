package sandbox

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestBearer(t *testing.T) {
	w := start(t)
	access, refresh, _ := w.Grant(appID, "ada", nil)
	a := w.get("/api/me")
	w.wantError(a, http.StatusUnauthorized, "unauthorized")
	if got := a.header.Get("WWW-Authenticate"); got != `Bearer realm="sandbox"` {
		t.Errorf("without a token: WWW-Authenticate %q", got)
	}
	w.wantError(w.get("/api/me?access_token="+access), http.StatusUnauthorized, "unauthorized")
	w.wantError(w.get("/api/me", basic(appID, appSecret)...), http.StatusUnauthorized, "unauthorized")
	if a := w.get("/api/me", "Authorization", "bearer "+access); a.status != http.StatusOK {
		t.Errorf("a scheme in lower case: %d", a.status)
	}

	w.advance(defaultAccessLifetime - time.Millisecond)
	if a := w.api(access); a.status != http.StatusOK {
		t.Errorf("just before its end: %d", a.status)
	}
	w.advance(time.Millisecond)
	end := fmt.Sprintf(".%d.", w.now().UnixMilli())
	if !strings.Contains(access, end) {
		t.Fatal("the token does not name its end")
	}
	for name, token := range map[string]string{
		"expired": access, "refresh": refresh, "unknown": "x", "empty": "",
		"prolonged": strings.Replace(access, end, ".2893553445000.", 1), "no signature": access[:strings.LastIndex(access, ".")+1],
	} {
		t.Run(name, func(t *testing.T) {
			w.in(t)
			a := w.api(token)
			w.wantError(a, http.StatusUnauthorized, "invalid_token")
			want := `Bearer realm="sandbox", error="invalid_token", error_description="the access token is unknown, expired or revoked"`
			if got := a.header.Get("WWW-Authenticate"); got != want {
				t.Errorf("WWW-Authenticate %q", got)
			}
		})
	}
}

func TestTokensOfAnotherSandboxAreUnknown(t *testing.T) {
	access, _, _ := start(t).Grant(appID, "ada", nil)
	w := start(t)
	w.wantError(w.api(access), http.StatusUnauthorized, "invalid_token")
}

func TestCoats(t *testing.T) {
	w := start(t)
	access, _, _ := w.Grant(appID, "ada", nil)
	auth := []string{"Authorization", "Bearer " + access}
	const at = `"checked_in":"2030-01-02T03:04:05Z"`
	want := `{"coats":[{"ticket":"C-001","item":"Navy wool overcoat",` + at + `},` +
		`{"ticket":"C-002","item":"Yellow raincoat",` + at + `},` +
		`{"ticket":"C-003","item":"Umbrella with a duck handle",` + at + `}]}` + "\n"
	if a := w.get("/api/coats", auth...); a.status != http.StatusOK || a.body != want {
		t.Errorf("got  %d %swant %s", a.status, a.body, want)
	}
	a := w.do(http.MethodPost, "/api/coats", `{"item": " Green parka "}`, auth...)
	if want := `{"ticket":"C-004","item":"Green parka",` + at + "}\n"; a.status != http.StatusCreated || a.body != want {
		t.Errorf("got  %d %swant %s", a.status, a.body, want)
	}
	for body, status := range map[string]int{
		`{"item": ""}`: http.StatusBadRequest, `{`: http.StatusBadRequest, `[]`: http.StatusBadRequest, ``: http.StatusBadRequest,
		`{"item": "` + strings.Repeat("é", maxItem+1) + `"}`:     http.StatusBadRequest,
		`{"item": "` + strings.Repeat("x", maxCoatBody+1) + `"}`: http.StatusRequestEntityTooLarge,
	} {
		if a := w.do(http.MethodPost, "/api/coats", body, auth...); a.status != status {
			t.Errorf("%.20q…: %d, want %d", body, a.status, status)
		}
	}
	if a := w.do(http.MethodPost, "/api/coats", `{"item":"x"}`); a.status != http.StatusUnauthorized {
		t.Errorf("without a token: %d", a.status)
	}
}

func TestRackIsBounded(t *testing.T) {
	w := start(t)
	access, _, _ := w.Grant(appID, "ada", nil)
	for range rackSize {
		w.do(http.MethodPost, "/api/coats", `{"item":"Scarf"}`, "Authorization", "Bearer "+access)
	}
	var got struct{ Coats []coat }
	if err := json.Unmarshal([]byte(w.get("/api/coats", "Authorization", "Bearer "+access).body), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Coats) != rackSize || got.Coats[0].Ticket != "C-004" || got.Coats[rackSize-1].Ticket != "C-053" {
		t.Errorf("%d coats, from %v", len(got.Coats), got.Coats[0])
	}
	other, _, _ := w.Grant(appID, "grace", nil)
	if a := w.get("/api/coats", "Authorization", "Bearer "+other); strings.Contains(a.body, "Scarf") {
		t.Error("grace sees ada's coats")
	}
}

// TestEventsArriveOneByOne holds the server back after each event until that event was read, so it
// passes only when each is flushed.
func TestEventsArriveOneByOne(t *testing.T) {
	w := start(t)
	read := make(chan struct{})
	w.pause = func(ctx context.Context, _ time.Duration) error {
		select {
		case <-read:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	access, _, _ := w.Grant(appID, "ada", nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.origin+"/api/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+access)
	res, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if got := res.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("Content-Type %q", got)
	}
	lines := bufio.NewScanner(res.Body)
	for n := 1; n <= 5; n++ {
		if n > 1 {
			read <- struct{}{}
		}
		for _, want := range []string{
			fmt.Sprintf("id: %d", n), "event: coat", fmt.Sprintf(`data: {"account":"ada","hook":%d,"of":5}`, n), "",
		} {
			if !lines.Scan() || lines.Text() != want {
				t.Fatalf("event %d: line %q (%v), want %q", n, lines.Text(), lines.Err(), want)
			}
		}
	}
	if lines.Scan() || lines.Err() != nil {
		t.Errorf("after the last event: %q, %v", lines.Text(), lines.Err())
	}
}

func TestSlow(t *testing.T) {
	w := start(t)
	var waited time.Duration
	w.pause = func(_ context.Context, d time.Duration) error {
		waited = d
		return nil
	}
	access, _, _ := w.Grant(appID, "ada", nil)
	for query, want := range map[string]time.Duration{
		"": time.Second, "?ms=0": 0, "?ms=250": 250 * time.Millisecond, "?ms=2000000000": 10 * time.Second,
	} {
		a := w.get("/api/slow"+query, "Authorization", "Bearer "+access)
		if a.body != fmt.Sprintf("{\"waited_ms\":%d}\n", want.Milliseconds()) || waited != want {
			t.Errorf("%q: %s after %s, want %s", query, a.body, waited, want)
		}
	}
	for _, query := range []string{"?ms=-1", "?ms=soon", "?ms=99999999999"} {
		w.wantError(w.get("/api/slow"+query, "Authorization", "Bearer "+access), http.StatusBadRequest, "invalid_request")
	}
}

func TestNobodyWaitsForAClientThatLeft(t *testing.T) {
	w := start(t)
	w.pause = func(context.Context, time.Duration) error { return context.Canceled }
	access, _, _ := w.Grant(appID, "ada", nil)
	if a := w.get("/api/events", "Authorization", "Bearer "+access); strings.Count(a.body, "event: coat") != 1 {
		t.Errorf("events went on: %q", a.body)
	}
	if a := w.get("/api/slow", "Authorization", "Bearer "+access); a.body != "" {
		t.Errorf("slow answered: %q", a.body)
	}
}

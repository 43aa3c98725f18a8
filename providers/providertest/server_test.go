package providertest_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/providers/providertest"
)

// ask posts to the token endpoint.
func ask(t *testing.T, s *providertest.Server, form url.Values) (int, map[string]any, error) {
	t.Helper()
	form.Set("client_id", providertest.ClientID)
	form.Set("client_secret", providertest.ClientSecret)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp.StatusCode, nil, err
	}
	var out map[string]any
	_ = json.Unmarshal(raw, &out)
	return resp.StatusCode, out, nil
}

func renewal(refresh string) url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}
}

func TestReuseRevokesTheFamily(t *testing.T) {
	s := providertest.New(t, providertest.Knobs{Rotate: true})
	_, first := s.Grant()
	status, answer, err := ask(t, s, renewal(first))
	if err != nil || status != http.StatusOK {
		t.Fatal(status, err)
	}
	access, second := answer["access_token"].(string), answer["refresh_token"].(string)
	if status, _, _ = ask(t, s, renewal(first)); status != http.StatusBadRequest {
		t.Errorf("reuse: %d", status)
	}
	if status, _, _ = ask(t, s, renewal(second)); status != http.StatusBadRequest || s.Good(access) {
		t.Errorf("after reuse: %d, access is good: %v", status, s.Good(access))
	}
	if c := s.Counts(); c.Reuses != 1 || c.FamiliesRevoked != 1 || c.Refreshes != 3 || c.Issued != 1 {
		t.Errorf("counts: %+v", c)
	}
}

func TestReuseWithinTheGrace(t *testing.T) {
	var mu sync.Mutex
	now := time.Unix(1e9, 0)
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	s := providertest.New(t, providertest.Knobs{Rotate: true, Grace: time.Minute, Now: clock})
	_, first := s.Grant()
	_, one, err := ask(t, s, renewal(first))
	if err != nil {
		t.Fatal(err)
	}
	_, two, err := ask(t, s, renewal(first))
	if err != nil || one["refresh_token"] != two["refresh_token"] {
		t.Errorf("within the grace: %v %v", two, err)
	}
	mu.Lock()
	now = now.Add(2 * time.Minute)
	mu.Unlock()
	if status, _, _ := ask(t, s, renewal(first)); status != http.StatusBadRequest || s.Counts().FamiliesRevoked != 1 {
		t.Errorf("after the grace: %d", status)
	}
}

func TestCodesAreUsedOnceAndCheckPKCE(t *testing.T) {
	const verifier, challenge = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
	s := providertest.New(t, providertest.Knobs{})
	authorize := s.URL + "/authorize?" + url.Values{
		"response_type": {"code"}, "client_id": {providertest.ClientID}, "redirect_uri": {"https://us.example/cb?x=1"}, "state": {"st"}, "code_challenge": {challenge},
	}.Encode()
	q := s.Approve(t, authorize)
	if q.Get("state") != "st" || q.Get("iss") != s.URL || q.Get("x") != "1" {
		t.Errorf("callback: %v", q)
	}
	exchange := func(verifier string) int {
		status, _, err := ask(t, s, url.Values{
			"grant_type": {"authorization_code"}, "code": {q.Get("code")}, "redirect_uri": {"https://us.example/cb?x=1"}, "code_verifier": {verifier},
		})
		if err != nil {
			t.Fatal(err)
		}
		return status
	}
	if got := []int{exchange("wrong"), exchange(verifier), exchange(verifier)}; got[0] != 400 || got[1] != 200 || got[2] != 400 {
		t.Errorf("wrong verifier, right one, right one again: %v", got)
	}
	s.Set(func(k *providertest.Knobs) { k.Deny = true })
	if q := s.Approve(t, authorize); q.Get("error") != "access_denied" || q.Get("code") != "" {
		t.Errorf("denied: %v", q)
	}
}

func TestHangingUpActsFirst(t *testing.T) {
	s := providertest.New(t, providertest.Knobs{Rotate: true, HangUp: true})
	_, refresh := s.Grant()
	if _, _, err := ask(t, s, renewal(refresh)); err == nil {
		t.Fatal("answered")
	}
	if c := s.Counts(); c.Issued != 1 {
		t.Errorf("counts: %+v", c)
	}
	s.Set(func(k *providertest.Knobs) { k.HangUp = false })
	if status, _, _ := ask(t, s, renewal(refresh)); status != http.StatusBadRequest {
		t.Errorf("the token was not spent: %d", status)
	}
}

func TestStallingUntilReleased(t *testing.T) {
	s := providertest.New(t, providertest.Knobs{Stall: true})
	_, refresh := s.Grant()
	done := make(chan error, 3)
	for range 3 {
		go func() {
			status, _, err := ask(t, s, renewal(refresh))
			if err == nil && status != http.StatusOK {
				err = errors.New(http.StatusText(status))
			}
			done <- err
		}()
	}
	for range 3 {
		<-s.Stalled()
	}
	if c := s.Counts(); c.Tokens != 3 || c.Issued != 0 {
		t.Errorf("while they wait: %+v", c)
	}
	s.Release()
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestAPIEchoesAndChecksTheBearer(t *testing.T) {
	s := providertest.New(t, providertest.Knobs{Account: "ann"})
	access, _ := s.Grant()
	call := func(token string) (int, providertest.Echo) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.URL+"/api/v1/x%2Fy?a=b", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("X-Caller", "c")
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		var echo providertest.Echo
		_ = json.NewDecoder(resp.Body).Decode(&echo)
		return resp.StatusCode, echo
	}
	status, echo := call(access)
	if status != 200 || echo.Method != "PUT" || echo.Path != "/api/v1/x%2Fy" || echo.Query != "a=b" || echo.Body != "body" || echo.Account != "ann" ||
		echo.Headers["X-Caller"][0] != "c" || echo.Headers["Authorization"] != nil {
		t.Errorf("%d %+v", status, echo)
	}
	s.ExpireAccess()
	if status, _ := call(access); status != http.StatusUnauthorized {
		t.Errorf("expired: %d", status)
	}
	s.Set(func(k *providertest.Knobs) { k.API = 503 })
	if status, _ := call(access); status != 503 || s.Counts().API != 3 {
		t.Errorf("broken: %d", status)
	}
}

package broker_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
)

// A return URL that is let through is, to a browser too, one of the list in scheme, host and path.
func FuzzReturnURL(f *testing.F) {
	list := []string{"https://app.example.com/done", "http://localhost:8080/back"}
	for _, seed := range []string{
		"https://app.example.com/done", "https://app.example.com/done?x=1", "https://app.example.com/done#x", "//app.example.com/done",
		"/\\app.example.com", "https://app.example.com@evil.example/done", "https://app.example.com\t/done", "https://APP.example.com/done",
		"http://app.example.com/done", "https://app.example.com:443/done", "https://app.example.com/done/../other", "http://localhost:8080/back",
		"javascript:alert(1)", "https://app.example.com./done", "https://app.example.com/%64one",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		if !broker.ReturnURLAllowed(target, list) {
			return
		}
		plain, _, _ := strings.Cut(target, "?")
		if !strings.EqualFold(plain, list[0]) && !strings.EqualFold(plain, list[1]) {
			t.Fatalf("%q was let through", target)
		}
		if strings.ContainsAny(target, "\\ \t\r\n#@") && !strings.Contains(target, "?") {
			t.Fatalf("%q was let through", target)
		}
	})
}

// Whatever comes to the callback, it is refused with a code of ours, and no code is sent to the provider.
func FuzzCallback(f *testing.F) {
	r := newRig(f)
	f.Add("state=x&code=y")
	f.Add("state=x&state=y")
	f.Add("error=access_denied&error_description=%0d%0a")
	f.Add("state=" + strings.Repeat("A", 91) + "&code=1")
	f.Add("%zz")
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		_, err = r.broker.FinishFlow(t.Context(), broker.Callback{Query: q, Browser: broker.NewSecret(strings.Repeat("0", 64))})
		var failure *broker.FlowError
		if !errors.As(err, &failure) || failure.Err.Code == broker.ErrInternal.Code {
			t.Fatalf("%q: %v", query, err)
		}
		if len(r.provider.codes) != 0 {
			t.Fatal("a code was sent")
		}
	})
}

package providers

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
)

func TestCredentialsInTheBody(t *testing.T) {
	d := newDoor(t, always(`{}`))
	p := provider[*apiKey](t, load(t, strings.ReplaceAll(`
x:
  display_name: X
  auth_mode: API_KEY
  proxy:
    base_url: SERVER
    body: {key: "${apiKey}", auth: {who: "${connectionConfig.who}", deep: {n: 1}}, none: "${connectionConfig.none}"}
    verification: {method: POST, endpoints: [/ping], data: {a: b}}
`, "SERVER", d.URL)), "x")
	h := &broker.Holding{Config: map[string]string{"who": "me"}, Material: &broker.Material{Access: broker.NewSecret(`k"1`)}}
	shown, err := p.Present(h)
	if err != nil || shown.Sign == nil {
		t.Fatal(err)
	}
	const own = `{"auth":{"deep":{"n":1},"who":"me"},"key":"k\"1"}`
	for _, tt := range []struct{ name, method, kind, body, want string }{
		{"an object", "POST", "application/json; charset=utf-8", `{"b":12345678901234567890,"key":"theirs","auth":{"x":1}}`, `{"auth":{"deep":{"n":1},"who":"me","x":1},"b":12345678901234567890,"key":"k\"1"}`},
		{"nothing", "POST", "", "", `{"key":"k\"1","auth":{"who":"me","deep":{"n":1}}}`},
		{"an empty object", "DELETE", "application/vnd.x+json", "{}", own},
		{"a form", "PUT", formType, "a=1&key=theirs&a=2", "a=1&a=2&key=k%221"},
		{"a GET", "GET", "application/json", `{"a":1}`, `{"a":1}`},
		{"a list", "POST", "application/json", "[]", ""},
		{"no JSON", "POST", "application/json", "{", ""},
		{"parts", "POST", "multipart/form-data; boundary=x", "--x--", ""},
	} {
		r, err := http.NewRequestWithContext(t.Context(), tt.method, "https://x.example", strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", tt.kind)
		for range 2 { // another attempt comes to the same
			err = shown.Sign(r)
		}
		if tt.want == "" {
			if !errors.Is(err, broker.ErrNotSupported) {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		got, _ := io.ReadAll(r.Body)
		if tt.name == "nothing" {
			tt.want = own // the second time it is an object
		}
		if err != nil || string(got) != tt.want || r.ContentLength != int64(len(got)) {
			t.Errorf("%s: %s %v", tt.name, got, err)
		}
	}
	stream, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://x.example", io.MultiReader(strings.NewReader("{}")))
	if err != nil {
		t.Fatal(err)
	}
	stream.ContentLength = -1
	if err := shown.Sign(stream); !errors.Is(err, broker.ErrBodyTooLarge) {
		t.Errorf("a stream: %v", err)
	}
	if checked, err := p.Verify(t.Context(), h); !checked || err != nil {
		t.Error(checked, err)
	}
	if want := `POST|/ping|application/json|{"a":"b","auth":{"who":"me","deep":{"n":1}},"key":"k\"1"}`; d.requests()[0] != want {
		t.Errorf("asked %s", d.requests()[0])
	}
}

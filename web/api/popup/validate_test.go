package popup

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// Whatever is sent, it is a creation that keeps the rules, or is told in the form of the status what does not.
func FuzzCreation(f *testing.F) {
	for _, body := range []string{
		`{"integration_key":"slack","nickname":"Sales"}`, `{"nickname":"\u0000","x":[{}],"integration_key":7}`, `{"a":1,"a":2}`, `[1`, ``,
		`{"nickname":"\ud83e\udde5\ud83e"}`, `nul`, ` 7 `, `{"":{"":null}}`, "{\"\xff\":1}",
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/integrations/connections", strings.NewReader(body))
		in, err := readCreation(r)
		if err == nil {
			n := utf8.RuneCountInString(in.nickname)
			if !slices.Contains(keys, in.key) || n < 1 || n > maxNickname || strings.ContainsFunc(in.nickname, unicode.IsControl) {
				t.Errorf("%q passes as %+v", body, in)
			}
			return
		}
		w := httptest.NewRecorder()
		fail(w, r, err)
		var out struct {
			Detail []struct {
				Loc       []any
				Msg, Type string
			}
		}
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != http.StatusUnprocessableEntity || len(out.Detail) == 0 {
			t.Fatalf("%q is told as %d %s", body, w.Code, w.Body)
		}
		for _, p := range out.Detail {
			if len(p.Loc) == 0 || p.Loc[0] != inBody || p.Msg == "" || p.Type == "" {
				t.Errorf("%q has the problem %+v", body, p)
			}
		}
	})
}

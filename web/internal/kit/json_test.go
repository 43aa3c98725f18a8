package kit_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

func post(body string) *http.Request {
	return httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
}

func TestReadJSON(t *testing.T) {
	deep := func(n int) string { return `{"a":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + `}` }
	for name, c := range map[string]struct {
		body string
		want error
	}{
		"object":              {`{"a":{"b":[1,2.5e3,true,null]}}`, nil},
		"absent":              {``, nil},
		"blank":               {" \n", nil},
		"space around":        {" {} \n", nil},
		"as deep as allowed":  {deep(32), nil},
		"too deep":            {deep(33), broker.ErrInvalidJSON},
		"array":               {`[]`, broker.ErrInvalidJSON},
		"text":                {`"a"`, broker.ErrInvalidJSON},
		"null":                {`null`, broker.ErrInvalidJSON},
		"two objects":         {`{}{}`, broker.ErrInvalidJSON},
		"rubbish after":       {`{} x`, broker.ErrInvalidJSON},
		"cut off":             {`{"a":1`, broker.ErrInvalidJSON},
		"duplicate":           {`{"a":1,"a":2}`, broker.ErrInvalidJSON},
		"duplicate, escaped":  {`{"a":1,"\u0061":2}`, broker.ErrInvalidJSON},
		"duplicate, nested":   {`{"x":[{"a":1,"a":2}]}`, broker.ErrInvalidJSON},
		"same in other case":  {`{"a":1,"A":2}`, nil},
		"broken UTF-8":        {"{\"a\":\"\xff\"}", broker.ErrInvalidJSON},
		"lone surrogate":      {`{"a":"\ud800"}`, broker.ErrInvalidJSON},
		"comment":             {`{/* */}`, broker.ErrInvalidJSON},
		"trailing comma":      {`{"a":1,}`, broker.ErrInvalidJSON},
		"byte order mark":     {"\ufeff{}", broker.ErrInvalidJSON},
		"number out of shape": {`{"a":01}`, broker.ErrInvalidJSON},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := kit.ReadJSON(post(c.body)); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestReadAnyJSON(t *testing.T) {
	const nowhere = -1
	for body, c := range map[string]struct {
		want   string
		offset int64 // of what is wrong; nowhere: nothing is
	}{
		"":                 {"", nowhere},
		" \n":              {"", nowhere},
		"null":             {"null", nowhere},
		" [1, 2] ":         {"[1, 2]", nowhere},
		`"a"`:              {`"a"`, nowhere},
		`{"a":1}`:          {`{"a":1}`, nowhere},
		`{"a":1`:           {"", 6},
		`{"a":1,"a":2}`:    {"", 7},
		"tru":              {"", 3},
		"{} x":             {"", 2},
		"{\"a\":\"\xff\"}": {"", 6},
		strings.Repeat("[", 33) + strings.Repeat("]", 33): {"", 33},
	} {
		got, err := kit.ReadAnyJSON(post(body))
		offset := int64(nowhere)
		var wrong *kit.SyntaxError
		if errors.Is(err, broker.ErrInvalidJSON) && errors.As(err, &wrong) {
			offset = wrong.Offset
		}
		if string(got) != c.want || offset != c.offset || (err == nil) != (c.offset == nowhere) {
			t.Errorf("%s: got %q, %v, at %d", body, got, err, offset)
		}
	}
}

func TestReadJSONStopsAtTheLimit(t *testing.T) {
	r := post(`{"a":"` + strings.Repeat("x", 100) + `"}`)
	r.Body = http.MaxBytesReader(nil, r.Body, 50)
	if _, err := kit.ReadJSON(r); !errors.Is(err, broker.ErrBodyTooLarge) {
		t.Errorf("got %v", err)
	}
}

func TestDecodeJSON(t *testing.T) {
	type inner struct {
		Name string `json:"name"`
	}
	type input struct {
		Name  string  `json:"name"`
		Count int     `json:"count"`
		Inner inner   `json:"inner"`
		List  []inner `json:"list"`
	}
	for body, want := range map[string]*broker.Error{
		`{"name":"a","count":2,"inner":{"name":"b"}}`: nil,
		`{"Name":"a"}`:              broker.ErrUnknownField.On("Name"),
		`{"inner":{"nam":"a"}}`:     broker.ErrUnknownField.On("inner.nam"),
		`{"count":"2"}`:             broker.ErrInvalidRequest.On("count"),
		`{"list":[{},{"name":{}}]}`: broker.ErrInvalidRequest.On("list.1.name"),
		`{"name":1}{`:               broker.ErrInvalidJSON,
	} {
		var in input
		err := kit.DecodeJSON(post(body), &in)
		if want == nil {
			if err != nil || in.Name != "a" || in.Count != 2 || in.Inner.Name != "b" {
				t.Errorf("%s: got %+v, %v", body, in, err)
			}
			continue
		}
		if e := broker.AsError(err); !errors.Is(e, want) || e.Field != want.Field {
			t.Errorf("%s: got %v on %q, want %v on %q", body, e, e.Field, want, want.Field)
		}
	}
}

// FuzzReadJSON looks for bodies that we take and another reader refuses, or reads differently.
func FuzzReadJSON(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":[{"b":"\u00e9"}]}`, `{"a":1,"a":2}`, `{"a":1} `, `[`, "\xff", `{"a":1e400}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		raw, err := kit.ReadJSON(post(body))
		if err != nil {
			if e := broker.AsError(err); e.Kind != broker.Invalid {
				t.Fatalf("a bad body is not our fault: %v", err)
			}
			return
		}
		if !json.Valid(raw) {
			t.Fatalf("encoding/json refuses %q", raw)
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(raw, &members); err != nil {
			t.Fatalf("not an object: %q", raw)
		}
	})
}

func TestWriteJSON(t *testing.T) {
	w := httptest.NewRecorder()
	if err := kit.WriteJSON(w, http.StatusCreated, map[string]any{"b": "<&>", "a": 1}); err != nil {
		t.Fatal(err)
	}
	if got, want := w.Body.String(), `{"a":1,"b":"<&>"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if h := w.Header(); w.Code != http.StatusCreated || h.Get("Content-Length") != "17" || h.Get("Content-Type") != "application/json; charset=utf-8" {
		t.Errorf("got %d %v", w.Code, h)
	}
	if err := kit.WriteJSON(httptest.NewRecorder(), http.StatusOK, func() {}); !errors.Is(err, broker.ErrInternal) {
		t.Errorf("got %v for what cannot be encoded", err)
	}
}

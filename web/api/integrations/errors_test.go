package integrations

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

// told is what a failure looks like from outside.
func told(t *testing.T, err error) (status int, code, message, body string) {
	t.Helper()
	w := httptest.NewRecorder()
	fail(w, httptest.NewRequest(http.MethodGet, "/api/integration-connections", nil), err)
	var out struct {
		Error struct{ Code, Message string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		t.Fatalf("not JSON: %s", w.Body)
	}
	if w.Header().Get("X-Error-Source") != "broker" {
		t.Errorf("the failure says that it comes from %q", w.Header().Get("X-Error-Source"))
	}
	return w.Code, out.Error.Code, out.Error.Message, w.Body.String()
}

// Every error that the broker can give keeps its code and its status, and none tells its cause.
func TestEveryDeclaredErrorIsTold(t *testing.T) {
	all := broker.DeclaredErrors()
	if len(all) < 50 {
		t.Fatalf("there are %d declared errors", len(all))
	}
	for _, e := range all {
		for _, err := range []error{e, e.Because(errors.New("cause-of-it")), e.On("some.field"), errors.Join(e, errors.New("cause-of-it"))} {
			status, code, message, body := told(t, err)
			if status != kit.Status(e.Kind) || code != e.Code || !strings.HasPrefix(message, e.Msg) || strings.Contains(body, "cause-of-it") {
				t.Errorf("%s: %d %s", e.Code, status, body)
			}
		}
	}
	if status, code, _, body := told(t, errors.New("cause-of-it")); status != 500 || code != "internal" || strings.Contains(body, "cause-of-it") {
		t.Errorf("an unknown error: %s", body)
	}
}

func TestMessagesNameTheValueAsTheCallerDoes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{broker.ErrInvalidRequest.On("redirect_uri"), "the request is not valid: redirectUri"},
		{broker.ErrInvalidRequest.On("refresh_token"), "the request is not valid: refreshToken"},
		{broker.ErrInvalidRequest.On("owner"), "the request is not valid: X-Owner-Id"},
		{broker.ErrInvalidRequest.On("owner").Saying("X-Owner-Id is wrong"), "X-Owner-Id is wrong"},
		{broker.ErrVariableInvalid.On("connection_config.sub.domain"), "the value does not have the form that the provider needs: connectionConfig.sub.domain"},
		{broker.ErrNotFound.On("integration"), "there is no such object"},
		{broker.ErrUnknownField.On(strings.Repeat("é", 300)), "the body has a field that does not exist: " + strings.Repeat("é", 50) + "…"},
	} {
		if _, _, message, _ := told(t, c.err); message != c.want {
			t.Errorf("got %q, want %q", message, c.want)
		}
	}
}

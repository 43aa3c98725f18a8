package nango

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

// Every error that the broker can give has words here, and none of them tells the cause.
func TestEveryDeclaredErrorHasWords(t *testing.T) {
	all := broker.DeclaredErrors()
	if len(all) < 50 {
		t.Fatalf("there are %d declared errors", len(all))
	}
	for _, e := range all {
		for _, err := range []error{e, e.Because(errors.New("cause-of-it")), e.On("some.field"), errors.Join(e, errors.New("cause-of-it"))} {
			status, body, detail := told(t, err)
			switch {
			case status < 400 || detail.Code == "":
				t.Errorf("%s: %d %s", e.Code, status, body)
			case strings.Contains(body, "cause-of-it"):
				t.Errorf("%s tells its cause: %s", e.Code, body)
			case (detail.Code == "generic_error_support") != (e.Code == "internal"):
				t.Errorf("%s is called %s", e.Code, detail.Code)
			case status == http.StatusUnauthorized && !strings.Contains(body, `"payload":{}`):
				t.Errorf("%s has no payload: %s", e.Code, body)
			}
		}
	}
}

func told(t *testing.T, err error) (int, string, failureDetail) {
	t.Helper()
	w := httptest.NewRecorder()
	fail(w, httptest.NewRequest(http.MethodGet, "/connections/nango_connect_session_1?x=1", nil), err)
	var out failure
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		t.Fatalf("not JSON: %s", w.Body)
	}
	return w.Code, w.Body.String(), out.Error
}

func TestWords(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		status int
		code   string
		field  string // of the first issue
	}{
		"unknown error":       {errors.New("x"), 500, "generic_error_support", ""},
		"no key":              {broker.ErrUnauthorized.Because(kit.ErrNoCredential), 401, "missing_auth_header", ""},
		"empty key":           {broker.ErrUnauthorized.Because(kit.ErrEmptyCredential), 401, "malformed_auth_header", ""},
		"short key":           {broker.ErrUnauthorized.Because(kit.ErrNotAKey), 401, "invalid_secret_key_format", ""},
		"unknown key":         {broker.ErrUnauthorized, 401, "unknown_account", ""},
		"no session":          {broker.ErrSessionInvalid.Because(kit.ErrNotASession), 401, "invalid_connect_session_token_format", ""},
		"old session":         {broker.ErrSessionExpired, 401, "unknown_connect_session_token", ""},
		"public key":          {broker.ErrDeprecatedAuth, 401, "deprecated_authentication", ""},
		"scope":               {broker.ErrInsufficientScope, 403, "forbidden", ""},
		"rate":                {broker.ErrRateLimited, 429, "too_many_request", ""},
		"busy":                {broker.ErrStorageBusy, 503, "server_error", ""},
		"full":                {broker.ErrStorageUnavailable, 503, "server_error", ""},
		"unreadable":          {broker.ErrUnreadable, 500, "server_error", ""},
		"media":               {broker.ErrUnsupportedMedia, 415, "invalid_content_type", ""},
		"field":               {broker.ErrVariableInvalid.On("connection_config.org"), 400, "invalid_body", "connection_config/org"},
		"field with dots":     {broker.ErrInvalidRequest.On("integrations_config_defaults.a.b"), 400, "invalid_body", "integrations_config_defaults/a.b"},
		"rule without field":  {broker.ErrURLNotAllowed, 422, "url_not_allowed", ""},
		"managed":             {broker.ErrManagedByConfig, 409, "managed_by_config", ""},
		"not a field, though": {broker.ErrNotFound.On("integration"), 404, "not_found", ""},
	} {
		t.Run(name, func(t *testing.T) {
			status, body, detail := told(t, c.err)
			if status != c.status || detail.Code != c.code {
				t.Errorf("got %d %s", status, body)
			}
			var field string
			if len(detail.Errors) > 0 {
				field = strings.Join(detail.Errors[0].Path, "/")
			}
			if field != c.field {
				t.Errorf("got the field %q, want %q", field, c.field)
			}
		})
	}
}

func TestRateLimitNamesTheRequest(t *testing.T) {
	_, body, detail := told(t, broker.ErrRateLimited)
	if detail.Method != http.MethodGet || detail.Path != "/connections/nango_connect_session_[masked]" || detail.Message != "" {
		t.Errorf("got %s", body)
	}
}

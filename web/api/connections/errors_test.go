package connections

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
)

// codes are those of this API, by status.
var codes = map[int]string{
	400: "BAD_REQUEST", 401: "UNAUTHORIZED", 403: "FORBIDDEN", 404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 409: "CONFLICT",
	413: "PAYLOAD_TOO_LARGE", 415: "UNSUPPORTED_MEDIA_TYPE", 429: "RATE_LIMITED", 500: "INTERNAL_ERROR", 502: "BAD_GATEWAY",
	503: "SERVICE_UNAVAILABLE", 504: "GATEWAY_TIMEOUT",
}

func told(t *testing.T, err error) (int, string, failure) {
	t.Helper()
	w := httptest.NewRecorder()
	fail(w, httptest.NewRequest(http.MethodGet, "/api/v1/connections", nil), err)
	var out failure
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		t.Fatalf("not JSON: %s", w.Body)
	}
	return w.Code, w.Body.String(), out
}

// Every error that the broker can give has words here, and none of them tells the cause.
func TestEveryDeclaredErrorHasWords(t *testing.T) {
	all := append(broker.DeclaredErrors(), broker.AsError(errors.New("unknown")))
	if len(all) < 50 {
		t.Fatalf("there are %d declared errors", len(all))
	}
	seen := make(map[string]bool)
	for _, e := range all {
		for _, err := range []error{
			e, e.Because(errors.New("cause-of-it")), e.On("some.field"), errors.Join(e, errors.New("cause-of-it")),
			notRefreshed(e), notRefreshed(&broker.RefreshError{Err: e, Attempted: true, Provider: &broker.ProviderError{Code: "c", Text: "cause-of-it"}}),
			notProposed(e, &broker.Integration{Provider: "stripe"}),
		} {
			status, body, out := told(t, err)
			seen[out.Error.Code] = true
			switch {
			case out.Success || out.Error.Code == "" || out.Error.Code != codes[status]:
				t.Errorf("%s: %d %s", e.Code, status, body)
			case out.Error.Message == "":
				t.Errorf("%s has no words: %s", e.Code, body)
			case strings.Contains(body, "cause-of-it"):
				t.Errorf("%s tells its cause: %s", e.Code, body)
			}
		}
	}
	for _, code := range codes {
		if !seen[code] {
			t.Errorf("nothing is %s", code)
		}
	}
}

func TestWordsOfRefreshFailures(t *testing.T) {
	lost := &broker.ProviderError{Class: broker.GrantLost, Code: "invalid_grant", Text: "anything"}
	for name, c := range map[string]struct {
		err     error
		status  int
		message string
	}{
		"lost":        {&broker.RefreshError{Err: broker.ErrNeedsReauth.Because(lost), Provider: lost}, 500, "Failed to refresh credentials: The end user has to connect again (invalid_grant)"},
		"nobody said": {&broker.RefreshError{Err: broker.ErrProviderDown}, 500, "Failed to refresh credentials: The provider does not answer at the moment"},
		"our disk":    {&broker.RefreshError{Err: broker.ErrStorageUnavailable}, 503, "The change could not be stored; nothing was changed"},
		"our seals":   {&broker.RefreshError{Err: broker.ErrUnreadable}, 500, "The stored credential cannot be opened"},
		"under way":   {broker.ErrRefreshTimeout, 504, "The token is still being renewed"},
		"pending":     {broker.ErrConnectionPending, 400, notYet},
		"not at all":  {broker.ErrNotSupported.Saying("this credential cannot be renewed"), 400, "This credential cannot be renewed"},
	} {
		if status, body, out := told(t, notRefreshed(c.err)); status != c.status || out.Error.Message != c.message {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}

func TestEveryReasonHasWords(t *testing.T) {
	for _, status := range []broker.Status{broker.Active, broker.Pending} {
		if got := errorMessage(&broker.Connection{Status: status, Reason: broker.ReasonCheckFailed}); got != "" {
			t.Errorf("%s says %q", status, got)
		}
	}
	for _, c := range []struct {
		connection broker.Connection
		ends       string
	}{
		{broker.Connection{Status: broker.Expired}, "given again"},
		{broker.Connection{Status: broker.Disconnected}, "given again"},
		{broker.Connection{Status: broker.Failing, Reason: broker.ReasonNeedsReauth, ErrorCode: "invalid_grant"}, "given again (invalid_grant)"},
		{broker.Connection{Status: broker.Failing, Reason: broker.ReasonOutcomeLost, ErrorCode: "timeout"}, "given again (timeout)"},
		{broker.Connection{Status: broker.Failing, Reason: broker.ReasonRevoked}, "at the provider"},
		{broker.Connection{Status: broker.Failing, Reason: broker.ReasonOriginChanged, ErrorCode: broker.ReasonOriginChanged}, "given again"},
		{broker.Connection{Status: broker.Failing, Reason: broker.ReasonRefreshFails, ErrorCode: "http_503"}, "renewed (http_503)"},
		{broker.Connection{Status: broker.Failing, Reason: broker.ReasonCheckFailed, ErrorCode: "http_401"}, "tried (http_401)"},
		{broker.Connection{Status: broker.Failing, Reason: "another"}, "do not work"},
	} {
		if got := errorMessage(&c.connection); !strings.HasSuffix(got, c.ends) {
			t.Errorf("%s %s: %q", c.connection.Status, c.connection.Reason, got)
		}
	}
}

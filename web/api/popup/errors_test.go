package popup

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

// told gives what is written of an error: the status, and the members of the body.
func told(t *testing.T, err error) (status int, members map[string]json.RawMessage, body string) {
	t.Helper()
	w := httptest.NewRecorder()
	fail(w, httptest.NewRequest(http.MethodGet, "/v1/integrations/connections", nil), err)
	if err := json.Unmarshal(w.Body.Bytes(), &members); err != nil {
		t.Fatalf("not JSON: %s", w.Body)
	}
	return w.Code, members, w.Body.String()
}

// Every error that the broker can give has words here: 422 in its own form, everything else as the broker's code and a
// message, with the status of its kind. None of them tells the cause.
func TestEveryDeclaredErrorHasWords(t *testing.T) {
	all := broker.DeclaredErrors()
	if len(all) < 50 {
		t.Fatalf("there are %d declared errors", len(all))
	}
	for _, e := range all {
		for _, err := range []error{e, e.Because(errors.New("cause-of-it")), e.On("some.field"), errors.Join(e, errors.New("cause-of-it"))} {
			status, members, body := told(t, err)
			wrong := status != kit.Status(e.Kind) || strings.Contains(body, "cause-of-it")
			if e.Kind == broker.Unprocessable {
				wrong = wrong || len(members) != 1 || !strings.Contains(string(members["detail"]), `"type":"`+e.Code+`"`)
			} else {
				wrong = wrong || len(members) != 2 || string(members["error"]) != `"`+e.Code+`"` || len(members["message"]) < len(`"x"`)
			}
			if wrong {
				t.Errorf("%v: %d %s", err, status, body)
			}
		}
	}
}

func TestUnknownErrorsTellNothing(t *testing.T) {
	status, _, body := told(t, errors.New("cause-of-it"))
	if status != http.StatusInternalServerError || body != `{"error":"internal","message":"something went wrong on our side"}` {
		t.Errorf("%d %s", status, body)
	}
}

// What the broker finds wrong with a value is told in the form of the status.
func TestARuleOfTheBrokersIsAProblem(t *testing.T) {
	_, _, body := told(t, broker.ErrVariableInvalid.On("connection_config.org"))
	want := `{"detail":[{"loc":["body","connection_config","org"],"msg":"the value does not have the form that the provider needs",` +
		`"type":"variable_invalid","input":null}]}`
	if body != want {
		t.Errorf("got %s", body)
	}
}

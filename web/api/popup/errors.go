package popup

import (
	"errors"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// failure is every refusal but that of wrong values. Error is the broker's own code.
type failure struct {
	Error   string `json:"error"`
	Message string `json:"message"`
}

// invalidity is the refusal of wrong values: 422, with everything that is wrong.
type invalidity struct {
	Detail []problem `json:"detail"`
}

// problem says what is wrong with one value.
type problem struct {
	Loc   []any          `json:"loc"` // names, and the offset in a body that is not JSON
	Msg   string         `json:"msg"`
	Type  string         `json:"type"`
	Input jsontext.Value `json:"input"` // the value or, where one is missing, what it is missing in
	Ctx   map[string]any `json:"ctx,omitempty"`
}

// invalid refuses a request for its problems.
type invalid struct {
	cause    *broker.Error // what it is in the broker's words: the log and X-Error-Code go by it
	problems []problem
}

func (i *invalid) Error() string { return i.cause.Error() }

// Unwrap gives the broker's error.
func (i *invalid) Unwrap() error { return i.cause }

// fail writes a failure.
func fail(w http.ResponseWriter, _ *http.Request, err error) {
	e := broker.AsError(err)
	var own *invalid
	switch {
	case errors.As(err, &own):
		_ = kit.WriteJSON(w, http.StatusUnprocessableEntity, invalidity{own.problems})
	case e.Kind == broker.Unprocessable: // the status has one form, whoever finds the value wrong
		_ = kit.WriteJSON(w, http.StatusUnprocessableEntity, invalidity{[]problem{ruled(e)}})
	default:
		_ = kit.WriteJSON(w, kit.Status(e.Kind), failure{Error: e.Code, Message: e.Msg})
	}
}

// ruled is the problem of a rule that is the broker's, which does not have the value at hand.
func ruled(e *broker.Error) problem {
	loc := []any{inBody}
	if e.Field != "" {
		for name := range strings.SplitSeq(e.Field, ".") {
			loc = append(loc, name)
		}
	}
	return problem{Loc: loc, Msg: e.Msg, Type: e.Code, Input: jsontext.Value("null")}
}

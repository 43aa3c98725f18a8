package integrations

import (
	"net/http"
	"strings"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// headerSource tells a failure of ours from one that the provider has answered with.
const (
	headerSource = "X-Error-Source"
	ours         = "broker"
)

// fail writes a failure in the broker's own envelope. Its message names the value that is wrong as this API calls it.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	w.Header().Set(headerSource, ours)
	e := broker.AsError(err)
	if e.Field != "" && (e.Kind == broker.Invalid || e.Kind == broker.Unprocessable) {
		e = e.Saying(e.Msg + ": " + shorten(fieldName(e.Field)))
	}
	kit.Fail(w, r, e)
}

// fieldNames are the broker's names of values that have another one here.
var fieldNames = map[string]string{
	"owner":                    kit.HeaderOwner,
	"redirect_uri":             "redirectUri",
	"refresh_token":            "refreshToken",
	string(broker.ConfigField): "connectionConfig",
}

// fieldName gives a value the name that it has here. What follows a dot is the provider's own.
func fieldName(field string) string {
	first, rest, nested := strings.Cut(field, ".")
	if own, ok := fieldNames[first]; ok {
		first = own
	}
	if nested {
		return first + "." + rest
	}
	return first
}

// shorten bounds what a stranger named.
func shorten(s string) string {
	const most = 100
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

package proxy

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/coatcheck/coatcheck/broker"
)

// The headers that steer a call, in canonical form.
const (
	headerIntegration = "Provider-Config-Key"
	headerConnection  = "Connection-Id"
	headerRetries     = "Retries"
	headerRetryOn     = "Retry-On"
	headerBaseURL     = "Base-Url-Override"
	headerDecompress  = "Decompress"
	headerForward     = "Forward-Headers-On-Redirect"
	headerActivity    = "Nango-Activity-Log-Id"
	headerIsSync      = "Nango-Is-Sync"
	headerIsDryRun    = "Nango-Is-Dry-Run"
	headerPass        = "Nango-Proxy-" // + a name that goes upstream
)

// maxRetries is how many attempts a caller may ask for beyond the first.
const maxRetries = 10

// maxControl is how long an integration's key, a connection's id and the id of a log may be.
const maxControl = 255

// control is what the control headers say.
type control struct {
	integration string
	connection  string
	retries     int
	retryOn     string // statuses, with commas between them; checked
	baseURL     string // empty: the provider's
}

// issue says what is wrong with one header, in the form of the validation library that callers know.
type issue struct {
	Code    string   `json:"code"`
	Message string   `json:"message"`
	Path    []string `json:"path"`
}

// controls reads the control headers and collects what is wrong with them.
type controls struct {
	header http.Header
	issues []issue
}

// readControl reads the control headers. Errors: a refusal invalid_headers with all issues, not_supported.
func readControl(h http.Header) (control, error) {
	in := controls{header: h}
	out := control{
		integration: in.required(headerIntegration, &integrationKeys),
		connection:  in.required(headerConnection, &connectionIDs),
		retries:     in.retries(),
		retryOn:     in.statuses(),
	}
	// Clients send this header always, and empty where they mean none.
	out.baseURL, _ = in.one(headerBaseURL)
	if text, _ := in.one(headerActivity); len(text) > maxControl {
		in.issue(headerActivity, "too_big", "Too big: expected string to have <=255 characters")
	}
	in.boolean(headerDecompress) // bodies are passed on as they are
	forward := in.boolean(headerForward)
	in.boolean(headerIsSync)
	in.boolean(headerIsDryRun)
	if len(in.issues) > 0 {
		return out, invalidHeaders(in.issues)
	}
	if forward {
		// A redirect is followed only within its origin, where the headers are sent anyway.
		return out, broker.ErrNotSupported.Saying("headers are never forwarded to another origin")
	}
	return out, nil
}

func (in *controls) issue(header, code, message string) {
	in.issues = append(in.issues, issue{Code: code, Message: message, Path: []string{strings.ToLower(header)}})
}

// one gives a header that may stand there once.
func (in *controls) one(header string) (text string, present bool) {
	values := in.header[header]
	switch len(values) {
	case 0:
		return "", false
	case 1:
		return values[0], true
	}
	in.issue(header, "invalid_format", "Invalid string: the header is sent more than once")
	return "", true
}

// characters is a set of ASCII characters.
type characters [256]bool

func charactersOf(s string) (set characters) {
	for c := byte('a'); c <= 'z'; c++ {
		set[c], set[c-'a'+'A'] = true, true
	}
	for c := byte('0'); c <= '9'; c++ {
		set[c] = true
	}
	for _, c := range []byte(s) {
		set[c] = true
	}
	return set
}

var (
	integrationKeys = charactersOf("~:.@ _-")
	connectionIDs   = charactersOf(",.;:=+~[]|@${}\"'\\/_ -")
)

func (in *controls) required(header string, allowed *characters) string {
	text, present := in.one(header)
	if !present {
		in.issue(header, "invalid_type", "Invalid input: expected string, received undefined")
		return ""
	}
	if len(text) > maxControl {
		in.issue(header, "too_big", "Too big: expected string to have <=255 characters")
		return ""
	}
	good := text != ""
	for i := range len(text) {
		good = good && allowed[text[i]]
	}
	if !good {
		in.issue(header, "invalid_format", "Invalid string: must match pattern")
	}
	return text
}

func (in *controls) retries() int {
	text, _ := in.one(headerRetries)
	if text = strings.TrimSpace(text); text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	switch {
	case err != nil:
		in.issue(headerRetries, "invalid_type", "Invalid input: expected number, received NaN")
	case n < 0:
		in.issue(headerRetries, "too_small", "Too small: expected number to be >=0")
	}
	return min(n, maxRetries)
}

func (in *controls) statuses() string {
	text, present := in.one(headerRetryOn)
	if !present {
		return ""
	}
	digits := 0 // since the last comma
	for i := range len(text) {
		switch c := text[i]; {
		case c >= '0' && c <= '9':
			digits++
		case c == ',' && digits > 0:
			digits = 0
		default:
			in.issue(headerRetryOn, "invalid_format", "Invalid string: must match pattern /^\\d+(,\\d+)*$/")
			return ""
		}
	}
	if digits == 0 {
		in.issue(headerRetryOn, "invalid_format", "Invalid string: must match pattern /^\\d+(,\\d+)*$/")
	}
	return text
}

func (in *controls) boolean(header string) bool {
	text, present := in.one(header)
	if present && text != "true" && text != "false" {
		in.issue(header, "invalid_value", `Invalid option: expected one of "true"|"false"`)
	}
	return text == "true"
}

// asksFor reports whether the caller listed the status in Retry-On.
func (c *control) asksFor(status int) bool {
	for text := range strings.SplitSeq(c.retryOn, ",") {
		if n, err := strconv.Atoi(text); err == nil && n == status {
			return true
		}
	}
	return false
}

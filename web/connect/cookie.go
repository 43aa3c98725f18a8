package connect

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/securecookie"
)

const (
	flowCookiePrefix = "flow-"
	hostPrefix       = "__Host-" // the browser itself insists on Secure, Path=/ and no Domain
	flowCookieAge    = 600       // seconds: as long as a flow lives
	maxFlowCookies   = 10
)

// CookieKeys is a pair of keys: one proves that a cookie is ours, the other hides what is in it.
type CookieKeys struct {
	Hash  []byte // 32 or 64 bytes
	Block []byte // 16, 24 or 32 bytes
}

// codecs makes a codec of each pair. The first one writes, all of them read, so that keys can be replaced.
func codecs(keys []CookieKeys, maxAge int) ([]securecookie.Codec, error) {
	if len(keys) == 0 {
		return nil, errors.New("no cookie keys")
	}
	out := make([]securecookie.Codec, len(keys))
	for i, k := range keys {
		if len(k.Hash) < 32 || len(k.Block) == 0 {
			return nil, errors.New("a cookie key is too short")
		}
		// The library's own age limit is thirty days.
		out[i] = securecookie.New(k.Hash, k.Block).MaxAge(maxAge).SetSerializer(securecookie.JSONEncoder{})
	}
	return out, nil
}

// flowCookie is what ties a flow to the browser that started it. It is encrypted.
type flowCookie struct {
	Browser     string `json:"b"` // the secret whose hash the flow has
	Token       string `json:"s"` // the session's, so that a failure can lead back to the form
	Integration string `json:"i"` // its key
	SetAt       int64  `json:"t"` // seconds since 1970
	manner
}

// jar keeps flow cookies in the browser.
type jar struct {
	codecs []securecookie.Codec
	secure bool // the public URL is https; otherwise browsers would drop such cookies
	now    func() time.Time
}

func (j *jar) name(cookie string) string {
	if j.secure {
		return hostPrefix + cookie
	}
	return cookie
}

// put sets the cookie of a flow that starts, and drops the oldest ones beyond the limit.
func (j *jar) put(w http.ResponseWriter, r *http.Request, cookie string, c flowCookie) error {
	c.SetAt = j.now().Unix()
	name := j.name(cookie)
	value, err := securecookie.EncodeMulti(name, c, j.codecs...)
	if err != nil {
		return err
	}
	for _, old := range j.surplus(r, name) {
		j.write(w, old, "", -1)
	}
	j.write(w, name, value, flowCookieAge)
	return nil
}

// take reads a flow's cookie and removes it: a flow comes back once. A cookie that is absent, foreign or too old reads
// as empty.
func (j *jar) take(w http.ResponseWriter, r *http.Request, cookie string) flowCookie {
	name := j.name(cookie)
	sent, err := r.Cookie(name)
	if err != nil {
		return flowCookie{}
	}
	j.write(w, name, "", -1)
	return j.open(sent)
}

func (j *jar) open(sent *http.Cookie) flowCookie {
	var c flowCookie
	if err := securecookie.DecodeMulti(sent.Name, sent.Value, &c, j.codecs...); err != nil {
		return flowCookie{}
	}
	return c
}

func (j *jar) write(w http.ResponseWriter, name, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // without https, a browser would drop a Secure cookie
		Name: name, Value: value, Path: "/", MaxAge: maxAge, Secure: j.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

// surplus names the cookies that must go for one more to fit, unreadable ones first, then the oldest.
func (j *jar) surplus(r *http.Request, coming string) []string {
	type aged struct {
		name string
		at   int64
	}
	var have []aged
	for _, c := range r.Cookies() {
		if strings.HasPrefix(c.Name, j.name(flowCookiePrefix)) && c.Name != coming {
			have = append(have, aged{c.Name, j.open(c).SetAt})
		}
	}
	if len(have) < maxFlowCookies {
		return nil
	}
	slices.SortStableFunc(have, func(a, b aged) int { return cmp.Compare(a.at, b.at) })
	names := make([]string, len(have)-maxFlowCookies+1)
	for i := range names {
		names[i] = have[i].name
	}
	return names
}

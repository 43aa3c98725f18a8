package sandbox

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// shelf keeps up to max values, each until its time. The caller holds the server's lock.
type shelf[T any] struct {
	max   int
	items map[string]shelved[T]
}

type shelved[T any] struct {
	value   T
	expires time.Time
}

func newShelf[T any](limit int) shelf[T] {
	return shelf[T]{max: limit, items: map[string]shelved[T]{}}
}

// put stores v under key, in place of what stood there. It first sweeps what has expired; when that
// leaves no room, the value that would expire first goes.
func (s *shelf[T]) put(key string, v T, now, expires time.Time) {
	delete(s.items, key)
	first := ""
	for k, it := range s.items {
		if !now.Before(it.expires) {
			delete(s.items, k)
		} else if first == "" || it.expires.Before(s.items[first].expires) {
			first = k
		}
	}
	if len(s.items) >= s.max {
		delete(s.items, first)
	}
	s.items[key] = shelved[T]{value: v, expires: expires}
}

func (s *shelf[T]) get(key string, now time.Time) (v T, ok bool) {
	it, ok := s.items[key]
	if !ok || !now.Before(it.expires) {
		return v, false
	}
	return it.value, true
}

func (s *shelf[T]) take(key string, now time.Time) (v T, ok bool) {
	v, ok = s.get(key, now)
	delete(s.items, key)
	return v, ok
}

// code is an authorization code. It is kept after its use, so that a second use is recognised.
type code struct {
	request
	expires time.Time
	spent   bool
	family  string // what it was exchanged for; empty if the exchange was refused
}

// family is one grant, with all the tokens that came of it.
type family struct {
	id         string
	clientID   string
	user       User
	scopes     []string
	generation int
	issued     time.Time // when the current generation began
}

// tokens is what a client gets for a grant.
type tokens struct {
	access, refresh string
	expiresIn       time.Duration
	scopes          []string
}

// newFamily starts a grant. The caller holds the lock, as for the methods below.
func (s *Server) newFamily(clientID string, user User, scopes []string) *family {
	f := &family{id: rand.Text(), clientID: clientID, user: user, scopes: scopes}
	s.nextGeneration(f)
	return f
}

func (s *Server) nextGeneration(f *family) {
	f.generation++
	f.issued = s.now()
	s.families.put(f.id, f, f.issued, f.issued.Add(refreshLifetime))
}

// tokens makes the tokens of the current generation, the same ones each time.
func (s *Server) tokens(f *family) tokens {
	return tokens{
		access:    s.mint(kindAccess, f, s.accessLife),
		refresh:   s.mint(kindRefresh, f, refreshLifetime),
		expiresIn: max(0, f.issued.Add(s.accessLife).Sub(s.now())),
		scopes:    f.scopes,
	}
}

// endReused ends the family whose spent token or code came again.
func (s *Server) endReused(familyID string) {
	s.stats.Reuses++
	if _, alive := s.families.take(familyID, s.now()); alive {
		s.stats.FamiliesRevoked++
	}
}

const (
	kindAccess  = "sbx-access"
	kindRefresh = "sbx-refresh"
)

// ticket is what a token says of itself.
type ticket struct {
	kind       string
	family     string
	generation int
	expires    time.Time
}

func (s *Server) mint(kind string, f *family, life time.Duration) string {
	body := fmt.Sprintf("%s.%s.%d.%d", kind, f.id, f.generation, f.issued.Add(life).UnixMilli())
	return body + "." + s.sign(body)
}

// read tells whether token is one of ours, and what it says. It does not look at its end, nor whether
// its family is alive.
func (s *Server) read(token string) (ticket, bool) {
	cut := strings.LastIndexByte(token, '.')
	if cut < 0 || !hmac.Equal([]byte(token[cut+1:]), []byte(s.sign(token[:cut]))) {
		return ticket{}, false
	}
	part := strings.Split(token[:cut], ".")
	generation, err := strconv.Atoi(part[2])
	if err != nil {
		return ticket{}, false
	}
	expires, err := strconv.ParseInt(part[3], 10, 64)
	if err != nil {
		return ticket{}, false
	}
	return ticket{kind: part[0], family: part[1], generation: generation, expires: time.UnixMilli(expires)}, true
}

func (s *Server) sign(body string) string {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(body))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

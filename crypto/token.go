package crypto

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strings"
)

const (
	secretSize = 32 // random bytes in every token and state

	apiKeyPrefix     = "coat_"
	apiKeyIDSize     = 8
	apiKeyIDLen      = 2 * apiKeyIDSize
	apiKeySecretLen  = 2 * secretSize
	maxAPIKey        = 512
	stateTokenSize   = 4 + secretSize + sha256.Size
	stateTokenLength = (stateTokenSize*8 + 5) / 6 // 91 characters of base64url
	stateLabel       = "state"
)

// base64url is RFC 4648 section 5 without padding. Strict, so that no two texts give the same bytes
// by their unused bits.
var base64url = base64.RawURLEncoding.Strict()

// Random returns n bytes from the operating system's generator, which cannot fail: without it the
// process ends.
func Random(n int) []byte {
	b := make([]byte, n)
	fillRandom(b)
	return b
}

func fillRandom(b []byte) {
	_, _ = rand.Read(b) // documented never to return an error, nor a short count
}

// NewToken returns prefix and 32 random bytes in hexadecimal: a bearer secret, of which only
// [HashToken] is stored.
func NewToken(prefix string) string {
	return prefix + hex.EncodeToString(Random(secretSize))
}

// HashToken is SHA-256, the form in which tokens are stored and looked up. Their 256 random bits need
// no slower hash.
func HashToken(s string) [32]byte {
	return sha256.Sum256([]byte(s))
}

// Equal compares two hashes in constant time.
func Equal(a, b [32]byte) bool {
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// NewAPIKey returns a key for an environment, and the key's public id:
//
//	coat_<environment>_<id>_<secret>_<checksum>
//
// with 16, 64 and 8 lower-case hexadecimal digits. The checksum, CRC-32 of all before its underscore,
// is no protection: it tells a typo, or a scanner's false find, without a look-up. env may hold
// underscores; its letters and length (at most 400) are the caller's to check.
func NewAPIKey(env string) (key, id string) {
	id = hex.EncodeToString(Random(apiKeyIDSize))
	body := apiKeyPrefix + env + "_" + id + "_" + hex.EncodeToString(Random(secretSize))
	return body + "_" + checksum(body), id
}

// ParseAPIKey takes a key of [NewAPIKey] apart. ok says that it is well formed, not that it is valid,
// and keys that an operator chose have any form. It splits from the right, since an environment's
// name may hold underscores.
func ParseAPIKey(key string) (env, id string, ok bool) {
	if len(key) > maxAPIKey {
		return "", "", false
	}
	body, sum := cutLast(key)
	head, secret := cutLast(body)
	head, id = cutLast(head)
	env, prefixed := strings.CutPrefix(head, apiKeyPrefix)
	if !prefixed || env == "" || !isHex(id, apiKeyIDLen) || !isHex(secret, apiKeySecretLen) {
		return "", "", false
	}
	if sum != checksum(body) {
		return "", "", false
	}
	return env, id, true
}

// cutLast cuts around the last underscore. Without one all is before it.
func cutLast(s string) (before, after string) {
	at := strings.LastIndexByte(s, '_')
	if at < 0 {
		return s, ""
	}
	return s[:at], s[at+1:]
}

func checksum(s string) string {
	return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(s)))
}

// isHex accepts lower case only: a key has one spelling.
func isHex(s string, length int) bool {
	return len(s) == length && strings.Trim(s, "0123456789abcdef") == ""
}

// NewState returns a fresh OAuth state (RFC 6749 section 10.12) and the hash that the flow's row
// keeps of it. It is base64url of
//
//	key id (uint32, big endian) ‖ 32 random bytes ‖ HMAC-SHA256 over both
//
// 91 characters that carry no data. The id is that of the key behind [Keyring.MAC].
func (k *Keyring) NewState() (state string, hash [32]byte) {
	raw := binary.BigEndian.AppendUint32(make([]byte, 0, stateTokenSize), k.rootID)
	raw = append(raw, Random(secretSize)...)
	tag := k.MAC(stateLabel, raw)
	state = base64url.EncodeToString(append(raw, tag[:]...))
	return state, HashToken(state)
}

// CheckState tells whether a state came from this keyring, so that a made-up one costs no query, and
// returns the hash to look it up by. Any text of another length is refused before it is decoded;
// that also catches line breaks, which base64 decoding skips.
func (k *Keyring) CheckState(state string) (hash [32]byte, ok bool) {
	if len(state) != stateTokenLength {
		return hash, false
	}
	raw, err := base64url.DecodeString(state)
	if err != nil || len(raw) != stateTokenSize {
		return hash, false
	}
	signed, tag := raw[:4+secretSize], [32]byte(raw[4+secretSize:])
	if !Equal(k.MAC(stateLabel, signed), tag) {
		return hash, false
	}
	return HashToken(state), true
}

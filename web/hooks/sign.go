package hooks

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// Headers of Standard Webhooks (https://www.standardwebhooks.com), and the two of the primary API.
const (
	headerID        = "Webhook-Id"
	headerTimestamp = "Webhook-Timestamp"
	headerSignature = "Webhook-Signature"
	headerHMAC      = "X-Nango-Hmac-Sha256"
	headerLegacy    = "X-Nango-Signature"
)

// sign sets the headers by which a receiver knows whom a body comes from. The primary API's have one place each, so they
// go by the newest key alone; Standard Webhooks has a signature for each key that is valid.
func sign(h http.Header, p *broker.Parcel, body []byte) {
	text := p.Keys[0].Reveal()
	h.Set(headerHMAC, hex.EncodeToString(mac([]byte(text), body)))
	if p.LegacySignature {
		sum := sha256.Sum256(append([]byte(text), body...))
		h.Set(headerLegacy, hex.EncodeToString(sum[:]))
	}
	seconds := strconv.FormatInt(p.At.Unix(), 10)
	signatures := make([]string, len(p.Keys))
	for i, key := range p.Keys {
		signatures[i] = standardSignature(key, p.ID, seconds, body)
	}
	h.Set(headerID, p.ID)
	h.Set(headerTimestamp, seconds)
	h.Set(headerSignature, strings.Join(signatures, " "))
}

// standardSignature signs id, time and body together, so that an old request cannot be sent again as a new one.
func standardSignature(key broker.Secret, id, seconds string, body []byte) string {
	signed := append([]byte(id+"."+seconds+"."), body...)
	return "v1," + base64.StdEncoding.EncodeToString(mac(keyBytes(key), signed))
}

// keyBytes is what a key means to Standard Webhooks: the bytes that are encoded after whsec_. A key of another form, such
// as a UUID, is taken as it is; receivers write whsec_ and its base64.
func keyBytes(key broker.Secret) []byte {
	if encoded, ok := strings.CutPrefix(key.Reveal(), "whsec_"); ok {
		if raw, err := base64.StdEncoding.DecodeString(encoded); err == nil {
			return raw
		}
	}
	return []byte(key.Reveal())
}

func mac(key, text []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(text)
	return m.Sum(nil)
}

// retryAfter reads how long a receiver wants to be left alone: seconds or a date (RFC 9110 section 10.2.3).
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

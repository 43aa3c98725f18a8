package crypto_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/crypto"
)

func TestRandom(t *testing.T) {
	if a, b := crypto.Random(32), crypto.Random(32); len(a) != 32 || bytes.Equal(a, b) {
		t.Error("Random repeats or is short")
	}
	if len(crypto.Random(0)) != 0 {
		t.Error("Random(0) is not empty")
	}
}

func TestNewToken(t *testing.T) {
	a, b := crypto.NewToken("session_"), crypto.NewToken("session_")
	if a == b || !regexp.MustCompile(`^session_[0-9a-f]{64}$`).MatchString(a) {
		t.Errorf("tokens of the forms %q", []string{a, b})
	}
}

func TestHashTokenAndEqual(t *testing.T) {
	h := crypto.HashToken("abc") // FIPS 180-2, appendix B.1
	if hex.EncodeToString(h[:]) != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
		t.Errorf("HashToken = %x", h)
	}
	if !crypto.Equal(h, crypto.HashToken("abc")) {
		t.Error("equal hashes differ")
	}
	for i := range h {
		other := h
		other[i] ^= 1
		if crypto.Equal(h, other) {
			t.Errorf("byte %d is not compared", i)
		}
	}
}

func TestAPIKeyRoundTrip(t *testing.T) {
	for _, env := range []string{"dev", "prod_eu_1", "_", "a_", "coat", strings.Repeat("e", 400)} {
		key, id := crypto.NewAPIKey(env)
		again, _ := crypto.NewAPIKey(env)
		if key == again {
			t.Error("keys repeat")
		}
		form := regexp.MustCompile(`^coat_` + env + `_` + id + `_[0-9a-f]{64}_[0-9a-f]{8}$`)
		if len(id) != 16 || !form.MatchString(key) {
			t.Errorf("key %q with id %q", key, id)
		}
		if gotEnv, gotID, ok := crypto.ParseAPIKey(key); !ok || gotEnv != env || gotID != id {
			t.Errorf("ParseAPIKey = %q, %q, %v; want %q, %q", gotEnv, gotID, ok, env, id)
		}
	}
}

func TestParseAPIKeyRefuses(t *testing.T) {
	key, id := crypto.NewAPIKey("dev")
	for i := range key { // a typo anywhere
		typo := []byte(key)
		if typo[i]++; typo[i] == ':' {
			typo[i] = '0'
		}
		refusedKey(t, string(typo))
	}
	for n := range key {
		refusedKey(t, key[:n])
	}
	sum := key[len(key)-8:]
	noEnv, _ := crypto.NewAPIKey("")
	tooLong, _ := crypto.NewAPIKey(strings.Repeat("e", 500))
	for _, k := range []string{
		noEnv, tooLong, key + "0", key + "\n", " " + key, strings.ToUpper(key),
		strings.TrimSuffix(key, sum) + strings.ToUpper(sum) + "g",
		strings.Replace(key, "_"+id, "", 1),
		"b3a1b6a4-6f0e-4f1e-9f3b-0a4f2b8d1c55", "coat_____", "____",
	} {
		refusedKey(t, k)
	}
	secret := strings.Repeat("0f", 32)
	if _, _, ok := crypto.ParseAPIKey(summed("coat_dev_0123456789abcdef_" + secret)); !ok {
		t.Error("a key with a right checksum is refused")
	}
	for _, body := range []string{ // the checksum is right, the rest is not
		"goat_dev_0123456789abcdef_" + secret, "coat__0123456789abcdef_" + secret, "coat_0123456789abcdef_" + secret,
		"coat_dev_0123456789ABCDEF_" + secret, "coat_dev_0123456789abcde_" + secret, "coat_dev_" + secret,
		"coat_dev_0123456789abcdef_" + strings.ToUpper(secret), "coat_dev_0123456789abcdef_" + secret[1:],
		"coat_" + strings.Repeat("e", 500) + "_0123456789abcdef_" + secret,
	} {
		refusedKey(t, summed(body))
	}
}

func summed(body string) string {
	return fmt.Sprintf("%s_%08x", body, crc32.ChecksumIEEE([]byte(body)))
}

func refusedKey(t *testing.T, key string) {
	t.Helper()
	if env, id, ok := crypto.ParseAPIKey(key); ok || env != "" || id != "" {
		t.Errorf("%q parses as %q, %q", key, env, id)
	}
}

func TestState(t *testing.T) {
	ring := newRing(t)
	state, hash := ring.NewState()
	other, _ := ring.NewState()
	if state == other || len(state) > 128 || !regexp.MustCompile(`^[A-Za-z0-9_-]+$`).MatchString(state) {
		t.Errorf("states %q, %q", state, other)
	}
	if hash != crypto.HashToken(state) {
		t.Error("the hash is not that of the text")
	}
	if got, ok := ring.CheckState(state); !ok || got != hash {
		t.Error("a state of this keyring is refused")
	}
	raw, err := base64.RawURLEncoding.DecodeString(state)
	if err != nil || !bytes.HasPrefix(raw, []byte{0, 0, 0, 1}) || len(raw) != 4+32+32 {
		t.Errorf("raw state %x, %v", raw, err)
	}
}

func TestCheckStateRefuses(t *testing.T) {
	ring := newRing(t)
	state, _ := ring.NewState()
	raw, err := base64.RawURLEncoding.DecodeString(state)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		altered := slices.Clone(raw)
		altered[i] ^= 1
		refusedState(t, ring, base64.RawURLEncoding.EncodeToString(altered))
	}
	for n := range state {
		refusedState(t, ring, state[:n])
	}
	foreign, _ := newRing(t).NewState()
	last := state[len(state)-1]
	unused := state[:len(state)-1] + string(base64Next(last))
	if same, _ := base64.RawURLEncoding.DecodeString(unused); !bytes.Equal(same, raw) {
		t.Fatal("the test should change only bits that carry nothing")
	}
	for _, s := range []string{
		foreign, unused, state + "=", state + "A", state + "\n", state[:40] + "\n" + state[40:], state[:90] + "\n",
		" " + state, strings.Repeat("A", 91), strings.Repeat(state, 100),
		base64.StdEncoding.EncodeToString(raw), "4a3f3a5e-2c8b-11ee-be56-0242ac120002",
	} {
		refusedState(t, ring, s)
	}
}

// base64Next is the letter after c in the alphabet of base64url, for a c whose last two bits are 0.
func base64Next(c byte) byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, c)+1]
}

func refusedState(t *testing.T, ring *crypto.Keyring, state string) {
	t.Helper()
	if hash, ok := ring.CheckState(state); ok || hash != [32]byte{} {
		t.Errorf("accepted %q", state)
	}
}

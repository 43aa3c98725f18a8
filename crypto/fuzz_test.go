package crypto_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/crypto"
)

// FuzzOpen: nothing opens under the fixture's keys but the one box that was sealed under them.
func FuzzOpen(f *testing.F) {
	ring, box := fixtureRing(f), unbase64(f, fixtureBox)
	f.Add(box, fixturePlace)
	f.Add(box[:len(box)-1], fixturePlace)
	f.Add(append(bytes.Clone(box), 0), fixturePlace)
	f.Add(append([]byte{2}, box[1:]...), fixturePlace)
	f.Add(append([]byte{1, 0, 0, 0, 1}, box[5:]...), fixturePlace)
	f.Add(box, []byte{})
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, candidate, place []byte) {
		plain, err := ring.Open(candidate, place)
		if bytes.Equal(candidate, box) && bytes.Equal(place, fixturePlace) {
			if err != nil || string(plain) != fixturePlain {
				t.Fatalf("the sealed box: %q, %v", plain, err)
			}
			return
		}
		if !errors.Is(err, crypto.ErrUnreadable) || plain != nil {
			t.Fatalf("Open = %q, %v", plain, err)
		}
		if _, keyErr := crypto.KeyID(candidate); keyErr != nil && keyErr.Error() != err.Error() {
			t.Fatalf("KeyID: %v, Open: %v", keyErr, err)
		}
	})
}

// FuzzCheckState: only the state that the fixture's keyring made passes.
func FuzzCheckState(f *testing.F) {
	ring := fixtureRing(f)
	f.Add(fixtureState)
	f.Add(fixtureState[:90])
	f.Add(fixtureState[:90] + "B")
	f.Add(fixtureState[:45] + "\n" + fixtureState[46:])
	f.Add(strings.Repeat("A", 91))
	f.Add("")
	f.Fuzz(func(t *testing.T, state string) {
		hash, ok := ring.CheckState(state)
		if ok != (state == fixtureState) {
			t.Fatalf("%q: %v", state, ok)
		}
		if ok && hash != crypto.HashToken(state) {
			t.Fatal("wrong hash")
		}
	})
}

// FuzzParseAPIKey: what parses has one spelling, that of its parts.
func FuzzParseAPIKey(f *testing.F) {
	const key = "coat_prod_eu_0123456789abcdef_00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff_"
	for _, sum := range []string{"b762edea", "00000000", "", "_"} {
		f.Add(key + sum)
	}
	f.Add("")
	f.Add("coat_____")
	fresh, _ := crypto.NewAPIKey("dev")
	f.Add(fresh)
	f.Fuzz(func(t *testing.T, key string) {
		env, id, ok := crypto.ParseAPIKey(key)
		if !ok {
			if env != "" || id != "" {
				t.Fatalf("a refused key has parts %q, %q", env, id)
			}
			return
		}
		if !strings.HasPrefix(key, "coat_"+env+"_"+id+"_") || env == "" || len(id) != 16 {
			t.Fatalf("%q parses as %q, %q", key, env, id)
		}
		if len(key) > 512 || len(key) != len("coat_"+env+"_"+id+"_")+64+1+8 {
			t.Fatalf("%d bytes parse", len(key))
		}
	})
}

// FuzzParseIdentities: what parses has recipients, and an error never quotes the file.
func FuzzParseIdentities(f *testing.F) {
	f.Add(fixtureIdentity)
	f.Add("# note\r\n\r\n" + fixtureIdentity + "\r\n")
	f.Add(fixtureIdentity + fixtureIdentity)
	f.Add(strings.ToLower(fixtureIdentity))
	f.Add("AGE-SECRET-KEY-PQ-1QQQQ")
	f.Add(fixtureRecipient)
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		ids, err := crypto.ParseIdentities(strings.NewReader(text))
		if err == nil {
			for _, r := range ids.Recipients() {
				if !strings.HasPrefix(r, "age1") {
					t.Fatalf("recipient %q", r)
				}
			}
			if len(ids.Recipients()) == 0 {
				t.Fatal("no identity, no error")
			}
			return
		}
		if ids != nil {
			t.Fatal("identities beside an error")
		}
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); len(line) > 20 && strings.Contains(err.Error(), line) {
				t.Fatalf("the error quotes a line: %v", err)
			}
		}
	})
}

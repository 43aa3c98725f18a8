package crypto_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/crypto"
)

func TestSealRoundTrip(t *testing.T) {
	ring := newRing(t)
	for _, plain := range []string{"", "t", strings.Repeat("token", 300), strings.Repeat("x", 1<<20)} {
		for _, place := range [][]byte{nil, crypto.Bind("dev", "credentials", "1", "access", "1")} {
			box := seal(t, ring, plain, place)
			if len(box) != len(plain)+crypto.Overhead {
				t.Errorf("%d bytes became %d", len(plain), len(box))
			}
			if got, err := ring.Open(box, place); err != nil || string(got) != plain {
				t.Errorf("Open of %d bytes: %d, %v", len(plain), len(got), err)
			}
		}
	}
}

func TestSealsDiffer(t *testing.T) {
	ring := newRing(t)
	a, b := seal(t, ring, "token", nil), seal(t, ring, "token", nil)
	if bytes.Equal(a[5:29], b[5:29]) {
		t.Error("the nonce repeats")
	}
	if bytes.Equal(a[29:], b[29:]) {
		t.Error("the ciphertext repeats")
	}
}

func TestSealLeavesItsInputsAlone(t *testing.T) {
	ring := newRing(t)
	plain, place := []byte("token"), append(make([]byte, 0, 100), "place"...)
	box, err := ring.Seal(plain, place)
	if err != nil {
		t.Fatal(err)
	}
	kept := slices.Clone(box)
	if _, err := ring.Open(box, place); err != nil {
		t.Fatal(err)
	}
	if string(plain) != "token" || string(place) != "place" || !bytes.Equal(box, kept) {
		t.Error("an argument was changed")
	}
	if spare := place[:100]; !bytes.Equal(spare[5:], make([]byte, 95)) {
		t.Error("the memory behind an argument was written")
	}
}

func TestMovedBoxesDoNotOpen(t *testing.T) {
	ring := newRing(t)
	place := []string{"dev", "credentials", "row", "access", "7"}
	box := seal(t, ring, "token", crypto.Bind(place...))
	for i, other := range []string{"prod", "clients", "row2", "refresh", "6"} {
		moved := slices.Clone(place)
		moved[i] = other
		unreadable(t, ring, box, crypto.Bind(moved...), crypto.ErrTampered)
	}
	unreadable(t, ring, box, crypto.Bind("devcredentials", "row", "access", "7"), crypto.ErrTampered)
	unreadable(t, ring, box, nil, crypto.ErrTampered)
	unreadable(t, newRing(t), box, crypto.Bind(place...), crypto.ErrTampered)
}

func TestAlteredBoxesDoNotOpen(t *testing.T) {
	ring := newRing(t)
	place := crypto.Bind("dev", "row")
	box := seal(t, ring, "a token", place)
	for i := range box {
		for bit := range 8 {
			altered := slices.Clone(box)
			altered[i] ^= 1 << bit
			want := crypto.ErrTampered
			switch {
			case i == 0:
				want = crypto.ErrUnknownVersion
			case i < 5:
				want = crypto.ErrUnknownKey
			}
			unreadable(t, ring, altered, place, want)
		}
	}
	for n := range box {
		want := crypto.ErrTampered
		if n < crypto.Overhead {
			want = crypto.ErrTruncated
		}
		unreadable(t, ring, box[:n], place, want)
	}
	unreadable(t, ring, append(slices.Clone(box), 0), place, crypto.ErrTampered)
	unreadable(t, ring, nil, place, crypto.ErrTruncated)
}

func unreadable(t *testing.T, ring *crypto.Keyring, box, place []byte, cause error) {
	t.Helper()
	plain, err := ring.Open(box, place)
	if plain != nil {
		t.Fatal("Open returned a plaintext")
	}
	if !errors.Is(err, crypto.ErrUnreadable) || !errors.Is(err, cause) {
		t.Fatalf("err = %v, want %v", err, cause)
	}
}

func TestKeyID(t *testing.T) {
	ids := parse(t, identityText(t))
	box := seal(t, openRing(t, []crypto.WrappedKey{newKey(t, 0xA1B2C3D4, ids)}, ids), "", nil)
	if id, err := crypto.KeyID(box); id != 0xA1B2C3D4 || err != nil {
		t.Errorf("KeyID = %x, %v", id, err)
	}
	if _, err := crypto.KeyID(box[:len(box)-1]); !errors.Is(err, crypto.ErrTruncated) {
		t.Errorf("short: %v", err)
	}
	box[0] = 2
	if _, err := crypto.KeyID(box); !errors.Is(err, crypto.ErrUnknownVersion) {
		t.Errorf("version 2: %v", err)
	}
}

func TestZeroKeyringSealsNothing(t *testing.T) {
	box, err := new(crypto.Keyring).Seal([]byte("token"), nil)
	if box != nil || !errors.Is(err, crypto.ErrNoActiveKey) {
		t.Errorf("Seal = %x, %v", box, err)
	}
}

func TestBindIsUnambiguous(t *testing.T) {
	long := strings.Repeat("x", 300)
	seen := map[string][]string{}
	for _, parts := range [][]string{
		nil,
		{""},
		{"", ""},
		{"a"},
		{"a", ""},
		{"", "a"},
		{"a", "bc"},
		{"ab", "c"},
		{"abc"},
		{"a", "b", "c"},
		{"\x01a"},
		{"a", "\x01b"},
		{"a\x01b"},
		{long},
		{long[:299], "x"},
	} {
		got := string(crypto.Bind(parts...))
		if was, ok := seen[got]; ok {
			t.Errorf("%q and %q are both %q", was, parts, got)
		}
		seen[got] = parts
	}
	if got := crypto.Bind("dev", "x"); string(got) != "\x03dev\x01x" {
		t.Errorf("Bind = %q: what is stored depends on it", got)
	}
}

func TestSealIsCheap(t *testing.T) {
	ring := newRing(t)
	if crypto.Overhead > 96 {
		t.Errorf("overhead is %d bytes", crypto.Overhead)
	}
	box := seal(t, ring, string(benchToken), benchPlace)
	for name, f := range map[string]func(){
		"seal": func() { _, _ = ring.Seal(benchToken, benchPlace) },
		"open": func() { _, _ = ring.Open(box, benchPlace) },
	} {
		if n := testing.AllocsPerRun(20, f); n < 1 || n > 4 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

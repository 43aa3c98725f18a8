package crypto_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/coatcheck/coatcheck/crypto"
)

func TestGenerateIdentity(t *testing.T) {
	var file bytes.Buffer
	recipient, err := crypto.GenerateIdentity(&file, day.In(time.FixedZone("", 3600)))
	if err != nil {
		t.Fatal(err)
	}
	want := "# created: 2026-09-01T12:00:00Z\n# public key: " + recipient + "\nAGE-SECRET-KEY-1"
	if !strings.HasPrefix(file.String(), want) {
		t.Error("the file does not start with its date, public key and secret key")
	}
	if got := parse(t, file.String()).Recipients(); !slices.Equal(got, []string{recipient}) {
		t.Errorf("Recipients = %v, want %s", got, recipient)
	}
}

func TestGenerateIdentityReportsWriteErrors(t *testing.T) {
	r, w := io.Pipe()
	full := errors.New("disk full")
	_ = r.CloseWithError(full)
	if recipient, err := crypto.GenerateIdentity(w, day); !errors.Is(err, full) || recipient != "" {
		t.Errorf("GenerateIdentity = %q, %v", recipient, err)
	}
}

func TestParseIdentities(t *testing.T) {
	one, two, hybrid := identityText(t), identityText(t), hybridText(t)
	for name, c := range map[string]struct {
		text string
		want int
	}{
		"one":            {one, 1},
		"two":            {one + "\n" + two, 2},
		"hybrid":         {hybrid, 1},
		"both kinds":     {one + hybrid, 2},
		"twice the same": {one + one, 1},
		"windows lines":  {"# note\r\n\r\n  " + fixtureIdentity + "\t\r\n", 1},
		"no last break":  {strings.TrimSpace(one), 1},
	} {
		t.Run(name, func(t *testing.T) {
			if got := parse(t, c.text).Recipients(); len(got) != c.want {
				t.Errorf("%d recipients, want %d", len(got), c.want)
			}
		})
	}
}

func TestParseIdentitiesRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want string
		is   error
	}{
		"nothing":        {"", "no identity", crypto.ErrKeyMissing},
		"comments only":  {"# AGE-SECRET-KEY-1\n\n", "no identity", crypto.ErrKeyMissing},
		"a public key":   {"# x\n" + fixtureRecipient + "\n", "line 2", nil},
		"a typo":         {strings.Replace(fixtureIdentity, "UDR2", "UDR3", 1), "line 1", nil},
		"a foreign char": {strings.Replace(fixtureIdentity, "UDR2", "UDRé", 1), "line 1", nil},
		"a plugin":       {"AGE-PLUGIN-YUBIKEY-1QQQQ", "line 1", nil},
		"ssh":            {"-----BEGIN OPENSSH PRIVATE KEY-----", "line 1", nil},
		"too long":       {strings.Repeat("# filler\n", 8000), "more than", nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := crypto.ParseIdentities(strings.NewReader(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("err = %v, want one with %q", err, c.want)
			}
			if got := errors.Is(err, crypto.ErrKeyMissing); got != (c.is != nil) {
				t.Errorf("is ErrKeyMissing: %v", got)
			}
			if strings.Contains(err.Error(), "UDR") || strings.Contains(err.Error(), fixtureRecipient) {
				t.Errorf("the error quotes the file: %v", err)
			}
		})
	}
}

func TestLoadIdentityFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identity.txt")
	if _, err := crypto.LoadIdentityFile(path); !errors.Is(err, crypto.ErrKeyMissing) || !strings.Contains(err.Error(), path) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(path, []byte(fixtureIdentity), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o601, 0o644, 0o777} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := crypto.LoadIdentityFile(path)
		if !errors.Is(err, crypto.ErrKeyPermissions) || strings.Contains(err.Error(), "\n") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	for _, mode := range []os.FileMode{0o600, 0o400} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		ids, err := crypto.LoadIdentityFile(path)
		if err != nil || !slices.Equal(ids.Recipients(), []string{fixtureRecipient}) {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
}

func TestLoadIdentityFileNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identity.txt")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := crypto.LoadIdentityFile(path); !errors.Is(err, crypto.ErrKeyMissing) || !strings.Contains(err.Error(), path) {
		t.Errorf("empty file: %v", err)
	}
	if _, err := crypto.LoadIdentityFile(filepath.Dir(path)); err == nil {
		t.Error("a directory loads")
	}
}

func TestNewKey(t *testing.T) {
	ids := parse(t, identityText(t)+identityText(t))
	k := newKey(t, 7, ids)
	if k.ID != 7 || !k.Active || !slices.Equal(k.Recipients, ids.Recipients()) {
		t.Errorf("key %d, active %v, recipients %v", k.ID, k.Active, k.Recipients)
	}
	if want := day.Truncate(time.Microsecond); !k.CreatedAt.Equal(want) {
		t.Errorf("CreatedAt = %v, want %v", k.CreatedAt, want)
	}
	if _, err := crypto.NewKey(0, ids, day); err == nil {
		t.Error("id 0 is accepted")
	}
	if _, err := crypto.NewKey(1, parse(t, identityText(t)+hybridText(t)), day); err == nil {
		t.Error("a post-quantum key is also wrapped for a classic identity")
	}
}

func TestEveryKindOfIdentityOpens(t *testing.T) {
	one, two, three := identityText(t), identityText(t), hybridText(t)
	for name, c := range map[string]struct{ made, opened string }{
		"x25519":            {one, one},
		"hybrid":            {three, three},
		"first of two":      {one + two, one},
		"second of two":     {one + two, two},
		"among many others": {two, three + one + two},
	} {
		t.Run(name, func(t *testing.T) {
			ring := openRing(t, []crypto.WrappedKey{newKey(t, 1, parse(t, c.made))}, parse(t, c.opened))
			box := seal(t, ring, "token", nil)
			if plain, err := ring.Open(box, nil); err != nil || string(plain) != "token" {
				t.Errorf("Open = %q, %v", plain, err)
			}
		})
	}
}

func TestWrongIdentity(t *testing.T) {
	right, wrong := parse(t, identityText(t)+identityText(t)), parse(t, identityText(t)+identityText(t))
	_, err := crypto.OpenKeyring([]crypto.WrappedKey{newKey(t, 1, right)}, wrong)
	var e *crypto.WrongKeyError
	if !errors.As(err, &e) {
		t.Fatalf("err = %v", err)
	}
	if !slices.Equal(e.Wanted, right.Recipients()) || !slices.Equal(e.Given, wrong.Recipients()) {
		t.Errorf("Wanted %v, Given %v", e.Wanted, e.Given)
	}
	for _, r := range slices.Concat(e.Wanted, e.Given) {
		if !strings.Contains(err.Error(), r) {
			t.Errorf("%s is missing in: %v", r, err)
		}
	}
}

func TestWrongKeyErrorIsOneShortLine(t *testing.T) {
	hybrid := parse(t, hybridText(t)).Recipients()[0]
	e := &crypto.WrongKeyError{Wanted: []string{hybrid, "age1\nforged\x1b[31m \u202eline"}}
	text := e.Error()
	if strings.ContainsAny(text, "\n\x1b") || len(text) > 200 {
		t.Errorf("%d bytes: %q", len(text), text)
	}
	if !strings.Contains(text, hybrid[:20]) || !strings.Contains(text, hybrid[len(hybrid)-12:]) {
		t.Errorf("the recipient cannot be recognised: %s", text)
	}
	if !strings.HasSuffix(text, " or age1forged[31mline, given was none") {
		t.Error(text)
	}
}

func TestOpenKeyringRefuses(t *testing.T) {
	text := identityText(t)
	ids := parse(t, text)
	one, two := newKey(t, 1, ids), newKey(t, 2, ids)
	change := func(f func(k *crypto.WrappedKey)) []crypto.WrappedKey {
		k := one
		k.Check, k.Wrapped, k.Recipients = slices.Clone(k.Check), slices.Clone(k.Wrapped), slices.Clone(k.Recipients)
		f(&k)
		return []crypto.WrappedKey{k}
	}
	for name, c := range map[string]struct {
		keys []crypto.WrappedKey
		want error // nil: any
	}{
		"no keys":         {nil, crypto.ErrNoActiveKey},
		"none active":     {change(func(k *crypto.WrappedKey) { k.Active = false }), crypto.ErrNoActiveKey},
		"two active":      {[]crypto.WrappedKey{one, two}, nil},
		"one id twice":    {append(change(func(k *crypto.WrappedKey) { k.Active = false }), one), nil},
		"id zero":         {change(func(k *crypto.WrappedKey) { k.ID = 0 }), nil},
		"another id":      {change(func(k *crypto.WrappedKey) { k.ID = 3 }), crypto.ErrKeyDamaged},
		"no check":        {change(func(k *crypto.WrappedKey) { k.Check = nil }), crypto.ErrKeyDamaged},
		"long check":      {change(func(k *crypto.WrappedKey) { k.Check = append(k.Check, 0) }), crypto.ErrKeyDamaged},
		"short check":     {change(func(k *crypto.WrappedKey) { k.Check = k.Check[1:] }), crypto.ErrKeyDamaged},
		"altered check":   {change(func(k *crypto.WrappedKey) { k.Check[31] ^= 1 }), crypto.ErrKeyDamaged},
		"another's key":   {change(func(k *crypto.WrappedKey) { k.Wrapped = two.Wrapped }), crypto.ErrKeyDamaged},
		"another's check": {change(func(k *crypto.WrappedKey) { k.Check = two.Check }), crypto.ErrKeyDamaged},
		"altered key":     {change(func(k *crypto.WrappedKey) { k.Wrapped[len(k.Wrapped)-1] ^= 1 }), crypto.ErrKeyDamaged},
		"cut key":         {change(func(k *crypto.WrappedKey) { k.Wrapped = k.Wrapped[:20] }), crypto.ErrKeyDamaged},
		"an added recipient": {change(func(k *crypto.WrappedKey) {
			k.Recipients, k.Check = append(k.Recipients, fixtureRecipient), append(k.Check, k.Check...)
		}), crypto.ErrKeyDamaged},
		"wrapped for another": {change(func(k *crypto.WrappedKey) {
			k.Wrapped = newKey(t, 1, parse(t, identityText(t))).Wrapped
		}), crypto.ErrKeyDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			ring, err := crypto.OpenKeyring(c.keys, ids)
			if err == nil || ring != nil {
				t.Fatal("the keyring opens")
			}
			if c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("err = %v, want %v", err, c.want)
			}
		})
	}
}

// Somebody who may write to the database knows the public recipient, so they can wrap a data key of
// their own for it. The keyring must not seal under that.
func TestForgedKeyIsRefused(t *testing.T) {
	ids := parse(t, identityText(t))
	recipient, err := age.ParseX25519Recipient(ids.Recipients()[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{31, 32, 33, 1 << 20} {
		var file bytes.Buffer
		w, err := age.Encrypt(&file, recipient)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(make([]byte, size))
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		forged := newKey(t, 1, ids)
		forged.Wrapped = file.Bytes()
		if _, err := crypto.OpenKeyring([]crypto.WrappedKey{forged}, ids); !errors.Is(err, crypto.ErrKeyDamaged) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func TestRotation(t *testing.T) {
	ids := parse(t, identityText(t))
	one := newKey(t, 1, ids)
	before := openRing(t, []crypto.WrappedKey{one}, ids)
	old := seal(t, before, "old", nil)
	state, hash := before.NewState()

	two := newKey(t, 2, ids)
	one.Active = false
	after := openRing(t, []crypto.WrappedKey{two, one}, ids)

	if plain, err := after.Open(old, nil); err != nil || string(plain) != "old" {
		t.Errorf("old box: %q, %v", plain, err)
	}
	fresh := seal(t, after, "new", nil)
	if id, err := crypto.KeyID(fresh); id != 2 || err != nil {
		t.Errorf("sealed under %d, %v", id, err)
	}
	if _, err := before.Open(fresh, nil); !errors.Is(err, crypto.ErrUnknownKey) || !errors.Is(err, crypto.ErrUnreadable) {
		t.Errorf("a keyring from before the rotation: %v", err)
	}
	if before.MAC("accounts", []byte("a")) != after.MAC("accounts", []byte("a")) {
		t.Error("MACs change with the active key")
	}
	if !bytes.Equal(before.Derive("cookie", 32), after.Derive("cookie", 32)) {
		t.Error("derived keys change with the active key")
	}
	if got, ok := after.CheckState(state); !ok || got != hash {
		t.Error("a state made before the rotation is refused")
	}
}

// Two keys of one ring must not share a sealing key: the id in the header decides which one opens.
func TestKeysAreDistinct(t *testing.T) {
	ids := parse(t, identityText(t))
	one, two := newKey(t, 1, ids), newKey(t, 2, ids)
	one.Active = false
	ring := openRing(t, []crypto.WrappedKey{one, two}, ids)
	box := seal(t, ring, "token", nil)
	box[4] = 1
	if _, err := ring.Open(box, nil); !errors.Is(err, crypto.ErrTampered) {
		t.Errorf("Open under the other key: %v", err)
	}
}

func TestRewrap(t *testing.T) {
	oldText, newText := identityText(t), identityText(t)
	oldIDs, newIDs := parse(t, oldText), parse(t, newText)
	k := newKey(t, 3, oldIDs)
	before := openRing(t, []crypto.WrappedKey{k}, oldIDs)
	box := seal(t, before, "token", nil)
	opens := func(k crypto.WrappedKey, ids *crypto.Identities) {
		t.Helper()
		ring := openRing(t, []crypto.WrappedKey{k}, ids)
		if plain, err := ring.Open(box, nil); err != nil || string(plain) != "token" {
			t.Errorf("Open = %q, %v", plain, err)
		}
		if ring.MAC("x", nil) != before.MAC("x", nil) {
			t.Error("MACs change")
		}
	}

	both, err := crypto.Rewrap(k, oldIDs, parse(t, oldText+newText))
	if err != nil {
		t.Fatal(err)
	}
	opens(both, oldIDs)
	opens(both, newIDs)

	alone, err := crypto.Rewrap(both, oldIDs, newIDs)
	if err != nil {
		t.Fatal(err)
	}
	opens(alone, newIDs)
	if alone.ID != k.ID || alone.Active != k.Active || alone.CreatedAt != k.CreatedAt {
		t.Errorf("Rewrap changed %+v to %+v", k, alone)
	}
	var e *crypto.WrongKeyError
	if _, err := crypto.OpenKeyring([]crypto.WrappedKey{alone}, oldIDs); !errors.As(err, &e) {
		t.Errorf("the old identity still opens: %v", err)
	}
	if _, err := crypto.Rewrap(alone, oldIDs, newIDs); !errors.As(err, &e) {
		t.Errorf("Rewrap with the wrong identity: %v", err)
	}
	opens(k, oldIDs) // what was given is as it was
}

func TestMACAndDeriveAreSeparate(t *testing.T) {
	ring, other := newRing(t), newRing(t)
	data := []byte("account")
	if first := ring.MAC("a", data); first != ring.MAC("a", data) {
		t.Error("MAC is not stable")
	}
	seen := map[string]string{}
	add := func(what string, b []byte) {
		if was, ok := seen[string(b)]; ok {
			t.Errorf("%s equals %s", what, was)
		}
		seen[string(b)] = what
	}
	mac := func(k *crypto.Keyring, label string, data []byte) []byte {
		sum := k.MAC(label, data)
		return sum[:]
	}
	add("label a", mac(ring, "a", data))
	add("label b", mac(ring, "b", data))
	add("other data", mac(ring, "a", []byte("accounts")))
	add("other keyring", mac(other, "a", data))
	add("derived a", ring.Derive("a", 32))
	add("derived b", ring.Derive("b", 32))
	add("derived elsewhere", other.Derive("a", 32))
	add("first half of the longer", ring.Derive("a", 64)[:32])
}

func TestDeriveGivesAwayNoSharedMemory(t *testing.T) {
	ring := newRing(t)
	first := ring.Derive("a", 32)
	want := slices.Clone(first)
	clear(first)
	if !bytes.Equal(ring.Derive("a", 32), want) {
		t.Error("a caller can change the key")
	}
}

func TestDeriveRefusesSizes(t *testing.T) {
	ring := newRing(t)
	for _, n := range []int{-1, 0, 15, 8161} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%d bytes are derived", n)
				}
			}()
			ring.Derive("a", n)
		}()
	}
	if len(ring.Derive("a", 16)) != 16 || len(ring.Derive("a", 8160)) != 8160 {
		t.Error("wrong size")
	}
}

func TestKeyringIsConcurrent(t *testing.T) {
	ring := newRing(t)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			label := fmt.Sprint("label", n%2)
			for range 50 {
				place := crypto.Bind(label)
				box, err := ring.Seal([]byte(label), place)
				if err != nil {
					t.Error(err)
				}
				if plain, err := ring.Open(box, place); err != nil || string(plain) != label {
					t.Errorf("Open = %q, %v", plain, err)
				}
				if mac := ring.MAC(label, place); mac != ring.MAC(label, place) {
					t.Error("MAC differs")
				}
			}
		})
	}
	wg.Wait()
}

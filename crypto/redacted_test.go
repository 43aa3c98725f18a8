package crypto_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/coatcheck/coatcheck/crypto"
)

func TestNothingPrintsKeys(t *testing.T) {
	text := identityText(t)
	ids := parse(t, text)
	k := newKey(t, 1, ids)
	ring := openRing(t, []crypto.WrappedKey{k}, ids)
	ring.MAC("a", nil)
	secrets := secretForms(t, k, text, ring)

	for _, v := range []any{
		ring, ids, reflect.ValueOf(ring).Elem(), *ids,
		struct{ Ring *crypto.Keyring }{ring},
		struct{ IDs crypto.Identities }{*ids},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			got := fmt.Sprintf(verb, v)
			if !strings.Contains(got, "[redacted]") {
				t.Errorf("%s of %T: %s", verb, v, got)
			}
			noSecret(t, got, secrets)
		}
	}
	// fmt calls no methods on unexported fields: there only the pointers inside help.
	for _, v := range []any{
		struct{ ring *crypto.Keyring }{ring},
		struct{ ids crypto.Identities }{*ids},
		&struct{ ids []*crypto.Identities }{[]*crypto.Identities{ids}},
		reflect.Indirect(reflect.ValueOf(ring)).FieldByName("macs"), k,
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
			noSecret(t, fmt.Sprintf(verb, v), secrets)
		}
	}
}

func TestNothingEncodesKeys(t *testing.T) {
	text := identityText(t)
	ids := parse(t, text)
	k := newKey(t, 1, ids)
	ring := openRing(t, []crypto.WrappedKey{k}, ids)
	secrets := secretForms(t, k, text, ring)
	both := struct {
		Ring *crypto.Keyring
		IDs  *crypto.Identities
	}{ring, ids}

	got, err := json.Marshal(both)
	if err != nil || string(got) != `{"Ring":"[redacted]","IDs":"[redacted]"}` {
		t.Errorf("json: %s, %v", got, err)
	}
	for _, v := range []any{ring, ids} {
		if got := slog.AnyValue(v).Resolve(); got.Kind() != slog.KindString {
			t.Errorf("a log handler is handed a %s", got.Kind())
		}
	}
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("open", "ring", ring, "ids", ids, "both", both)
	}
	if strings.Count(log.String(), "[redacted]") != 8 {
		t.Errorf("log: %s", log.String())
	}
	noSecret(t, log.String(), secrets)
	noSecret(t, ring.String()+ring.GoString()+ids.String()+ids.GoString(), secrets)
}

// secretForms lists how the identity, the data key and a derived key would look in print.
func secretForms(t *testing.T, k crypto.WrappedKey, text string, ring *crypto.Keyring) []string {
	t.Helper()
	secret := text[strings.Index(text, "AGE-SECRET-KEY-"):]
	id, err := age.ParseX25519Identity(strings.TrimSpace(secret))
	if err != nil {
		t.Fatal(err)
	}
	r, err := age.Decrypt(bytes.NewReader(k.Wrapped), id)
	if err != nil {
		t.Fatal(err)
	}
	dataKey, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	forms := []string{secret[:30]}
	for _, b := range [][]byte{dataKey, ring.Derive("a", 32)} {
		forms = append(forms, string(b[:8]), fmt.Sprintf("%x", b[:8]), fmt.Sprintf("%X", b[:8]),
			strings.Trim(fmt.Sprintf("%d", b[:8]), "[]"), strings.TrimSuffix(fmt.Sprintf("%#v", b[:8]), "}")[len("[]byte{"):])
	}
	return forms
}

func noSecret(t *testing.T, got string, secrets []string) {
	t.Helper()
	for _, s := range secrets {
		if strings.Contains(got, s) {
			t.Errorf("%q shows %q", got, s)
		}
	}
}

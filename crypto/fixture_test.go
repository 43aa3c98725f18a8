package crypto_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/coatcheck/coatcheck/crypto"
)

var day = time.Date(2026, 9, 1, 12, 0, 0, 123456789, time.UTC)

// What a keyring of the first release wrote, for ever to be read. The identity protects nothing else.
const (
	fixtureIdentity  = "AGE-SECRET-KEY-1UDR2HESFQFN4SEHRVLQQW2X5ECCS8FKK6DRXGWLKPJWK20VXYFFQSD0T98"
	fixtureRecipient = "age1zan3hs3au62pcff6yq4n2ms2ev9fn30mhm59x5zwljvflsnq25aq54a6kq"
	fixtureKey1      = "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSBVNVpHNzMyVjdvNnZ6T2dDbS9HRmRlUHhvK28xeGhGQlBQRTVjL2ZtdVJVCkpicDdUR1h4alppeHovd0piTGtDOEwvY3RSRit6N0RkOG45OHFDMmhyeG8KLS0tIEV2WDZza3krRXFQYnk4TDJqQTFkZC82Rzc1ZS9pZTJzZmc5K2YyUlpsdW8KcDU+3F4QeTFIEzvYiqleEj09zfeX3gz0cBORn0qoryNumJNziadc+uIoQspmguCZZzFCVRs49hpxYXPWaZNdHw=="
	fixtureCheck1    = "2pjRYydDUCegdGTbd+SpEy+mmbaDn46L0m2nuUIsJgs="
	fixtureKey2      = "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSBiK2srWnVhMFlQb2xNdXhIa0dvZ05teHh0bXRybGN6OHVHeDE1ZVRxTlJRClEyTUM1UGxsSHkra3d5QUtUQ0U3OUNQbVNQaVluMkhoOWdVWlkxYUdnODAKLS0tIElRaFVpUEFHc3EvZFBjejZybkU4V0p4ZEZBbVVjaFkxOG5Yb0kxUjl2ZEkK4ux+iytvaSA5nWYXETV5BJHB9tMyNE6lRP0EgNMdU2NMEse63EjR4Ud5sDOXainq/l2sSMzF5ptdc2ObP7k54g=="
	fixtureCheck2    = "D4zhLXhegLCgOt214fHhSQUh+VpJFDshMsYdGVZqmH8="
	fixtureBox       = "AQAAAAJUyhW9aFNbTMvTI3wqfs+fKPnU7MV0JtGXUkC+1cB7cAjGvcgGmTa92sPhx7IYGwSIWsOS"
	fixturePlain     = "an old token"
	fixtureState     = "AAAAAbcDpBGSoR326mVCYYQC4HDY80m3RWpEsgzE9qaPRVO2MSqqz53PbMIW-3nWOxc1SMBbFEKoverAul-HF4bDuIA"
	fixtureMAC       = "0626fe7daec0a8b2547bfc2fa0cc548bcbc494b726f2cf02d8d6133cfd1aa806"
	fixtureDerived   = "5f9bb804a830ed72b61d238777589bd5642003b0ffe11ef22d4dbe7fc7c05d8d"
)

var fixturePlace = crypto.Bind("dev", "credentials", "row", "access", "7")

func TestFormatsStay(t *testing.T) {
	ring := fixtureRing(t)
	plain, err := ring.Open(unbase64(t, fixtureBox), fixturePlace)
	if err != nil || string(plain) != fixturePlain {
		t.Errorf("Open = %q, %v", plain, err)
	}
	if _, ok := ring.CheckState(fixtureState); !ok {
		t.Error("the state is refused")
	}
	mac := ring.MAC("accounts", []byte("user@example.com"))
	if got := hex.EncodeToString(mac[:]); got != fixtureMAC {
		t.Errorf("MAC = %s", got)
	}
	if got := hex.EncodeToString(ring.Derive("cookie", 32)); got != fixtureDerived {
		t.Errorf("Derive = %s", got)
	}
}

func fixtureRing(t testing.TB) *crypto.Keyring {
	t.Helper()
	key := func(id uint32, wrapped, check string) crypto.WrappedKey {
		return crypto.WrappedKey{
			ID: id, Wrapped: unbase64(t, wrapped), Check: unbase64(t, check),
			Recipients: []string{fixtureRecipient}, Active: id == 2, CreatedAt: day,
		}
	}
	keys := []crypto.WrappedKey{key(2, fixtureKey2, fixtureCheck2), key(1, fixtureKey1, fixtureCheck1)}
	return openRing(t, keys, parse(t, fixtureIdentity))
}

func unbase64(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parse(t testing.TB, text string) *crypto.Identities {
	t.Helper()
	ids, err := crypto.ParseIdentities(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// identityText returns a fresh identity file.
func identityText(t testing.TB) string {
	t.Helper()
	var file bytes.Buffer
	if _, err := crypto.GenerateIdentity(&file, day); err != nil {
		t.Fatal(err)
	}
	return file.String()
}

func hybridText(t testing.TB) string {
	t.Helper()
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id.String() + "\n"
}

func newKey(t testing.TB, id uint32, ids *crypto.Identities) crypto.WrappedKey {
	t.Helper()
	k, err := crypto.NewKey(id, ids, day)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func openRing(t testing.TB, keys []crypto.WrappedKey, ids *crypto.Identities) *crypto.Keyring {
	t.Helper()
	ring, err := crypto.OpenKeyring(keys, ids)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// newRing returns a keyring of one fresh key.
func newRing(t testing.TB) *crypto.Keyring {
	t.Helper()
	ids := parse(t, identityText(t))
	return openRing(t, []crypto.WrappedKey{newKey(t, 1, ids)}, ids)
}

func seal(t testing.TB, ring *crypto.Keyring, plain string, place []byte) []byte {
	t.Helper()
	box, err := ring.Seal([]byte(plain), place)
	if err != nil {
		t.Fatal(err)
	}
	return box
}

package crypto_test

import (
	"bytes"
	"io"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/coatcheck/coatcheck/crypto"
)

// A token and a place of the usual sizes: 1.5 kB, and 73 bytes of associated data.
var (
	benchToken = bytes.Repeat([]byte("token"), 300)
	benchPlace = crypto.Bind("production", "credentials", "0198f0c2-7b1e-7c55-9a34-5d0e6f1a2b3c", "access_t", "7654")
)

func BenchmarkSeal(b *testing.B) {
	ring := newRing(b)
	b.ReportAllocs()
	b.SetBytes(int64(len(benchToken)))
	for b.Loop() {
		if _, err := ring.Seal(benchToken, benchPlace); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	ring := newRing(b)
	box := seal(b, ring, string(benchToken), benchPlace)
	b.ReportAllocs()
	b.SetBytes(int64(len(benchToken)))
	for b.Loop() {
		if _, err := ring.Open(box, benchPlace); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMAC(b *testing.B) {
	ring := newRing(b)
	b.ReportAllocs()
	for b.Loop() {
		ring.MAC("accounts", benchPlace)
	}
}

// BenchmarkAgeRatio seals and opens the same token with age itself, the design that the package
// comment refuses, in turns with ours, so that both see the same machine. It reports how many times
// age takes longer.
func BenchmarkAgeRatio(b *testing.B) {
	ring := newRing(b)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		b.Fatal(err)
	}
	box := seal(b, ring, string(benchToken), benchPlace)
	file := ageSeal(b, id.Recipient())
	b.Run("seal", func(b *testing.B) {
		compare(b, func() { ageSeal(b, id.Recipient()) }, func() { _, _ = ring.Seal(benchToken, benchPlace) })
	})
	b.Run("open", func(b *testing.B) {
		compare(b, func() { ageOpen(b, file, id) }, func() { _, _ = ring.Open(box, benchPlace) })
	})
}

// compare times one call of theirs against the mean of many of ours, whose single call is too short
// for the clock.
func compare(b *testing.B, theirs, ours func()) {
	const turns = 50
	var theirTime, ourTime time.Duration
	for b.Loop() {
		start := time.Now()
		theirs()
		middle := time.Now()
		for range turns {
			ours()
		}
		theirTime += middle.Sub(start)
		ourTime += time.Since(middle)
	}
	b.ReportMetric(turns*float64(theirTime)/float64(ourTime), "age/ours")
	b.ReportMetric(float64(theirTime.Nanoseconds())/float64(b.N), "age-ns")
	b.ReportMetric(float64(ourTime.Nanoseconds())/float64(turns*b.N), "ours-ns")
	b.ReportMetric(0, "ns/op") // the mix of both says nothing
}

func ageSeal(b *testing.B, r age.Recipient) []byte {
	var file bytes.Buffer
	w, err := age.Encrypt(&file, r)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := w.Write(benchToken); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return file.Bytes()
}

func ageOpen(b *testing.B, file []byte, id age.Identity) {
	r, err := age.Decrypt(bytes.NewReader(file), id)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		b.Fatal(err)
	}
}

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/coatcheck/coatcheck/crypto"
)

// sealing measures row 9: one record sealed and opened by the keyring, and by age itself, which the keyring uses only to
// keep its own keys.
func (l *lab) sealing(ctx context.Context) error {
	var identity bytes.Buffer
	if _, err := crypto.GenerateIdentity(&identity, time.Now()); err != nil {
		return err
	}
	ids, err := crypto.ParseIdentities(strings.NewReader(identity.String()))
	if err != nil {
		return err
	}
	wrapped, err := crypto.NewKey(1, ids, time.Now())
	if err != nil {
		return err
	}
	ring, err := crypto.OpenKeyring([]crypto.WrappedKey{wrapped}, ids)
	if err != nil {
		return err
	}
	plain, place := []byte(l.longToken), crypto.Bind(environment, "credential/access", keyOf(0), "1")
	box, err := ring.Seal(plain, place)
	if err != nil {
		return err
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return err
	}
	file, err := sealWithAge(plain, id.Recipient())
	if err != nil {
		return err
	}
	for _, x := range []struct {
		name      string
		age, ours func(int) error
	}{
		{"seal", func(int) error { _, err := sealWithAge(plain, id.Recipient()); return err }, func(int) error { _, err := ring.Seal(plain, place); return err }},
		{"open", func(int) error { return openWithAge(file, id) }, func(int) error { _, err := ring.Open(box, place); return err }},
	} {
		var nanos [2][]float64
		var ours cost
		timed := func(into *[]float64, last *cost, op func(int) error) func(context.Context) error {
			return func(context.Context) error {
				c, err := costOf(l.window(200*time.Millisecond), op)
				*into, *last = append(*into, c.nanos), c
				return err
			}
		}
		if err := takeTurns(ctx, l.rounds(7), timed(&nanos[0], new(cost), x.age), timed(&nanos[1], &ours, x.ours)); err != nil {
			return fmt.Errorf("%s: %w", x.name, err)
		}
		l.table.add(9, x.name+" 1.5 kB: age per record ÷ ours", ratio(nanos[0], nanos[1]), atLeast(50), "%.1f µs ÷ %.2f µs", median(nanos[0])/1e3, median(nanos[1])/1e3)
		l.table.add(9, x.name+", allocations", float64(int(ours.allocs+0.5)), atMost(4), "%.0f bytes", ours.bytes)
	}
	l.table.add(9, "sealing adds, bytes", float64(len(box)-len(plain)), atMost(96), "%d in %d", len(plain), len(box))
	return nil
}

func sealWithAge(plain []byte, to age.Recipient) ([]byte, error) {
	var file bytes.Buffer
	w, err := age.Encrypt(&file, to)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return file.Bytes(), nil
}

func openWithAge(file []byte, id age.Identity) error {
	r, err := age.Decrypt(bytes.NewReader(file), id)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return err
}

package crypto

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	version1   = 1 // XChaCha20-Poly1305
	headerSize = 1 + 4
	nonceSize  = chacha20poly1305.NonceSizeX

	// Overhead is how many bytes a sealed field is longer than its plaintext.
	Overhead = headerSize + nonceSize + chacha20poly1305.Overhead
)

// ErrUnreadable is every failure of [Keyring.Open]. It wraps one of the causes below, which are for
// the log: an outsider learns only that the field is unreadable.
var ErrUnreadable = errors.New("sealed field is unreadable")

// The causes of [ErrUnreadable].
var (
	ErrTruncated      = errors.New("shorter than any sealed field")
	ErrUnknownVersion = errors.New("unknown format version")
	// ErrUnknownKey may also mean that another process has rotated the keys: open the keyring again.
	ErrUnknownKey = errors.New("sealed under a key that is not in the keyring")
	ErrTampered   = errors.New("altered, or moved from another place or time")
)

// Seal encrypts plaintext under the active key, and binds it to associated (see [Bind]). The result
// is new memory. The error is nil on any keyring that [OpenKeyring] returned.
func (k *Keyring) Seal(plaintext, associated []byte) ([]byte, error) {
	aead, ok := k.aeads[k.active]
	if !ok {
		return nil, fmt.Errorf("seal: %w", ErrNoActiveKey)
	}
	box := make([]byte, headerSize+nonceSize, Overhead+len(plaintext))
	box[0] = version1
	binary.BigEndian.PutUint32(box[1:], k.active)
	fillRandom(box[headerSize:])
	return aead.Seal(box, box[headerSize:], plaintext, authenticated(box, associated)), nil
}

// Open returns the plaintext of a box that was sealed with the same associated data, in new memory.
// Every failure is [ErrUnreadable], and no plaintext comes with it.
func (k *Keyring) Open(box, associated []byte) ([]byte, error) {
	id, err := KeyID(box)
	if err != nil {
		return nil, err
	}
	aead, ok := k.aeads[id]
	if !ok {
		return nil, fmt.Errorf("%w: key %d: %w", ErrUnreadable, id, ErrUnknownKey)
	}
	nonce, ciphertext := box[headerSize:headerSize+nonceSize], box[headerSize+nonceSize:]
	plaintext, err := aead.Open(nil, nonce, ciphertext, authenticated(box, associated))
	if err != nil { // the AEAD says no more than this
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, ErrTampered)
	}
	return plaintext, nil
}

// KeyID returns the id of the data key that a box names, without opening it: a rotation counts its
// progress by it. The id is authenticated by [Keyring.Open] only. Errors are [ErrUnreadable].
func KeyID(box []byte) (uint32, error) {
	switch {
	case len(box) < Overhead:
		return 0, fmt.Errorf("%w: %w", ErrUnreadable, ErrTruncated)
	case box[0] != version1:
		return 0, fmt.Errorf("%w: version %d: %w", ErrUnreadable, box[0], ErrUnknownVersion)
	}
	return binary.BigEndian.Uint32(box[1:headerSize]), nil
}

// authenticated is the AEAD's associated data: the header of the box, whose size is fixed, and then
// the caller's.
func authenticated(box, associated []byte) []byte {
	out := make([]byte, 0, headerSize+len(associated))
	return append(append(out, box[:headerSize]...), associated...)
}

// Bind encodes the place of a sealed field, for use as associated data: environment, table, row,
// column and token version, by their logical names. Each part follows its length, so ("a", "bc") and
// ("ab", "c") differ, as do different numbers of parts.
func Bind(parts ...string) []byte {
	size := 0
	for _, p := range parts {
		size += binary.MaxVarintLen32 + len(p)
	}
	out := make([]byte, 0, size)
	for _, p := range parts {
		out = binary.AppendUvarint(out, uint64(len(p)))
		out = append(out, p...)
	}
	return out
}

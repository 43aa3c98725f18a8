package crypto

import (
	"bytes"
	"cmp"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"filippo.io/age"
	"golang.org/x/crypto/chacha20poly1305"
)

const (
	keySize         = 32       // bytes of a data key and of every key derived from one
	tagSize         = 32       // bytes of one identity's tag in WrappedKey.Check
	maxIdentityFile = 64 << 10 // a hybrid identity line has about 80 bytes; this is room for hundreds
	minDerived      = 16       // bytes: anything shorter is no key
	maxDerived      = 255 * sha256.Size
)

// Errors of the keyring. Their texts name no key material.
var (
	// ErrKeyMissing: the identity file does not exist or holds no identity.
	ErrKeyMissing = errors.New("encryption key is missing")
	// ErrKeyPermissions: the identity file is open to its group or to others.
	ErrKeyPermissions = errors.New("encryption key is open to group or others")
	// ErrKeyDamaged: a stored data key does not open though the identity is the right one, or
	// it was not written by a holder of that identity.
	ErrKeyDamaged = errors.New("data key is damaged or forged")
	// ErrNoActiveKey: no data key is marked as the one that seals.
	ErrNoActiveKey = errors.New("no active data key")

	errNotIdentity = errors.New("no age identity (AGE-SECRET-KEY-1... or AGE-SECRET-KEY-PQ-1...)")
)

// WrongKeyError says that the identities given open none of the copies of a stored data key.
type WrongKeyError struct {
	Wanted []string // public recipients that the data key is wrapped for
	Given  []string // public recipients of the identities that were tried
}

// Error is one line with both lists. Post-quantum recipients, of two thousand characters each, are
// shortened to their ends.
func (e *WrongKeyError) Error() string {
	return "encryption key is wrong: the database wants " + fingerprints(e.Wanted) + ", given was " + fingerprints(e.Given)
}

func fingerprints(recipients []string) string {
	if len(recipients) == 0 {
		return "none"
	}
	short := make([]string, len(recipients))
	for i, r := range recipients {
		short[i] = fingerprint(r)
	}
	return strings.Join(short, " or ")
}

// fingerprint keeps the ends of a long recipient: the last characters hold its checksum. What comes
// from a damaged database must not break the line, so only visible ASCII stays.
func fingerprint(recipient string) string {
	visible := strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return -1
		}
		return r
	}, recipient)
	if len(visible) > 80 {
		return visible[:20] + "..." + visible[len(visible)-12:]
	}
	return visible
}

// redacted is embedded by what holds keys: every way of printing or encoding it says so. Fields
// beside it are unexported and behind pointers, because fmt calls no methods on the unexported
// fields of an outer struct.
type redacted struct{}

const redactedText = "[redacted]"

func (redacted) String() string               { return redactedText }
func (redacted) GoString() string             { return redactedText }
func (redacted) Format(s fmt.State, _ rune)   { _, _ = io.WriteString(s, redactedText) }
func (redacted) MarshalText() ([]byte, error) { return []byte(redactedText), nil }
func (redacted) LogValue() slog.Value         { return slog.StringValue(redactedText) }

// Identities are the private age identities of the operator: one, or several while the old one is
// being replaced. Safe for concurrent use; prints as [redacted].
type Identities struct {
	redacted

	all []*identity
}

// privateKey is what both kinds of age identity offer. Its String is the secret itself.
type privateKey interface {
	age.Identity
	fmt.Stringer
}

type identity struct {
	private   privateKey
	recipient age.Recipient
	public    string
}

// ParseIdentities reads age identities, one a line, X25519 or post-quantum hybrid; empty lines and
// lines that start with # are skipped. Passphrases and plugins are not supported. Without any
// identity the error is [ErrKeyMissing]. Errors name the line by its number, never by its content.
func ParseIdentities(r io.Reader) (*Identities, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxIdentityFile+1))
	if err != nil {
		return nil, fmt.Errorf("read identities: %w", err)
	}
	if len(text) > maxIdentityFile {
		return nil, fmt.Errorf("read identities: more than %d bytes", maxIdentityFile)
	}
	ids := &Identities{}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, ok := parseIdentity(line)
		if !ok {
			return nil, fmt.Errorf("read identities: line %d: %w", n, errNotIdentity)
		}
		ids.add(id)
	}
	if len(ids.all) == 0 {
		return nil, fmt.Errorf("read identities: no identity found: %w", ErrKeyMissing)
	}
	return ids, nil
}

// parseIdentity drops age's error: it can quote characters of the secret.
func parseIdentity(line string) (*identity, bool) {
	parsed, err := age.ParseIdentities(strings.NewReader(line))
	if err != nil || len(parsed) != 1 {
		return nil, false
	}
	switch id := parsed[0].(type) {
	case *age.X25519Identity:
		return &identity{private: id, recipient: id.Recipient(), public: id.Recipient().String()}, true
	case *age.HybridIdentity:
		return &identity{private: id, recipient: id.Recipient(), public: id.Recipient().String()}, true
	}
	return nil, false
}

// add skips an identity that is there already: a file may list one twice.
func (i *Identities) add(id *identity) {
	if i.holder([]string{id.public}) == nil {
		i.all = append(i.all, id)
	}
}

// holder returns the first identity among the recipients, or nil.
func (i *Identities) holder(recipients []string) *identity {
	for _, id := range i.all {
		if slices.Contains(recipients, id.public) {
			return id
		}
	}
	return nil
}

// LoadIdentityFile reads the identities in a file. A file that is not there is [ErrKeyMissing], one
// that its group or others may read, write or execute is [ErrKeyPermissions].
func LoadIdentityFile(path string) (*Identities, error) {
	f, err := os.Open(filepath.Clean(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open identity file %s: %w", path, ErrKeyMissing)
	}
	if err != nil {
		return nil, fmt.Errorf("open identity file: %w", err)
	}
	defer func() { _ = f.Close() }() // read only: nothing can be lost

	// The mode of the open file: the path may name another file by now.
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("check identity file: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("identity file %s has mode %04o, 0600 is wanted: %w", path, mode, ErrKeyPermissions)
	}
	ids, err := ParseIdentities(f)
	if err != nil {
		return nil, fmt.Errorf("identity file %s: %w", path, err)
	}
	return ids, nil
}

// GenerateIdentity makes a new X25519 identity, writes its file to w and returns the public
// recipient. What w writes to must be readable by its owner only; that is the caller's part.
func GenerateIdentity(w io.Writer, now time.Time) (recipient string, err error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return "", fmt.Errorf("generate identity: %w", err)
	}
	recipient = id.Recipient().String()
	_, err = fmt.Fprintf(w, "# created: %s\n# public key: %s\n%s\n", now.UTC().Format(time.RFC3339), recipient, id.String())
	if err != nil {
		return "", fmt.Errorf("write identity: %w", err)
	}
	return recipient, nil
}

// Recipients returns the public halves, which are no secret, in the order of the file.
func (i *Identities) Recipients() []string {
	public := make([]string, len(i.all))
	for n, id := range i.all {
		public[n] = id.public
	}
	return public
}

// WrappedKey is what storage keeps of a data key. Nothing in it is secret. Storage returns every
// field as it got it, the order of Recipients included.
type WrappedKey struct {
	ID         uint32   // from 1, never used again; stands in every sealed field
	Wrapped    []byte   // the data key as an age file
	Recipients []string // the public recipients that Wrapped was made for
	// Check holds 32 bytes for each recipient: an HMAC over ID, Recipients and the data key, made
	// with the private half of that recipient. See the package comment.
	Check     []byte
	Active    bool // exactly one key seals; all of them open
	CreatedAt time.Time
}

// NewKey makes a random data key and wraps it for all of ids. It comes back active: who adds it
// beside others clears Active on one side or the other when storing it. Classic and post-quantum
// identities cannot share a key.
func NewKey(id uint32, ids *Identities, now time.Time) (WrappedKey, error) {
	if id == 0 {
		return WrappedKey{}, errors.New("new data key: the id is zero")
	}
	k := WrappedKey{ID: id, Active: true, CreatedAt: now.UTC().Truncate(time.Microsecond)}
	return k.wrap(Random(keySize), ids)
}

// Rewrap opens k with old and wraps the same data key for next, so that no sealed field changes. To
// overlap, let next hold both identities first and only the new one later. Errors are those of
// [OpenKeyring].
func Rewrap(k WrappedKey, old, next *Identities) (WrappedKey, error) {
	dataKey, err := k.unwrap(old)
	if err != nil {
		return WrappedKey{}, err
	}
	return k.wrap(dataKey, next)
}

// wrap returns k with Wrapped, Recipients and Check made for ids.
func (k WrappedKey) wrap(dataKey []byte, ids *Identities) (WrappedKey, error) {
	recipients := make([]age.Recipient, len(ids.all))
	for n, id := range ids.all {
		recipients[n] = id.recipient
	}
	var file bytes.Buffer
	if err := encrypt(&file, dataKey, recipients); err != nil {
		return WrappedKey{}, fmt.Errorf("wrap data key %d: %w", k.ID, err)
	}
	k.Wrapped, k.Recipients, k.Check = file.Bytes(), ids.Recipients(), nil
	for _, id := range ids.all {
		k.Check = append(k.Check, k.tag(dataKey, id)...)
	}
	return k, nil
}

func encrypt(dst io.Writer, plaintext []byte, recipients []age.Recipient) error {
	w, err := age.Encrypt(dst, recipients...)
	if err != nil {
		return err
	}
	if _, err := w.Write(plaintext); err != nil {
		return err
	}
	return w.Close()
}

// unwrap opens the data key and checks that a holder of the identity wrapped it.
func (k WrappedKey) unwrap(ids *Identities) ([]byte, error) {
	id := ids.holder(k.Recipients)
	if id == nil {
		return nil, &WrongKeyError{Wanted: slices.Clone(k.Recipients), Given: ids.Recipients()}
	}
	r, err := age.Decrypt(bytes.NewReader(k.Wrapped), id.private)
	if err != nil {
		return nil, fmt.Errorf("open data key %d: %w: %w", k.ID, ErrKeyDamaged, err)
	}
	dataKey := make([]byte, keySize)
	if _, err := io.ReadFull(r, dataKey); err != nil {
		return nil, fmt.Errorf("open data key %d: %w: %w", k.ID, ErrKeyDamaged, err)
	}
	if !hmac.Equal(k.storedTag(id), k.tag(dataKey, id)) {
		return nil, fmt.Errorf("check data key %d: %w", k.ID, ErrKeyDamaged)
	}
	return dataKey, nil
}

// storedTag returns the part of Check that belongs to id, nil if Check has the wrong size.
func (k WrappedKey) storedTag(id *identity) []byte {
	if len(k.Check) != tagSize*len(k.Recipients) {
		return nil
	}
	at := tagSize * slices.Index(k.Recipients, id.public)
	return k.Check[at : at+tagSize]
}

// tag can be made by a holder of id only. It covers the data key, so that no other key passes, and
// the id, so that keys cannot trade places. It leaves out Active, which rotation changes without the
// identity: a forger's choice is among genuine keys.
func (k WrappedKey) tag(dataKey []byte, id *identity) []byte {
	h := hmac.New(sha256.New, expand([]byte(id.private.String()), keySize, "keyring check"))
	parts := append([]string{strconv.FormatUint(uint64(k.ID), 10), string(dataKey)}, k.Recipients...)
	h.Write(Bind(parts...))
	return h.Sum(nil)
}

// Keyring holds the open data keys. It never changes; after a rotation the caller opens another. Safe
// for concurrent use; prints as [redacted].
type Keyring struct {
	redacted

	aeads  map[uint32]cipher.AEAD // each built once: a seal or an open builds nothing
	active uint32
	rootID uint32
	root   *[keySize]byte // the oldest data key, from which MAC and Derive take theirs
	macs   sync.Map       // label to []byte, the MAC keys derived so far
}

// OpenKeyring opens all keys, in any order. Identities that open none of the copies of a key give a
// [*WrongKeyError], a key that does not pass its check [ErrKeyDamaged], no key marked active
// [ErrNoActiveKey]. Two active keys, or two with one id, are errors too. It takes about a tenth of a
// millisecond a key.
func OpenKeyring(keys []WrappedKey, ids *Identities) (*Keyring, error) {
	ring := &Keyring{aeads: make(map[uint32]cipher.AEAD, len(keys))}
	sorted := slices.SortedFunc(slices.Values(keys), func(a, b WrappedKey) int { return cmp.Compare(a.ID, b.ID) })
	for _, k := range sorted {
		if err := ring.add(k, ids); err != nil {
			return nil, fmt.Errorf("open keyring: %w", err)
		}
	}
	if ring.active == 0 {
		return nil, fmt.Errorf("open keyring: %w", ErrNoActiveKey)
	}
	return ring, nil
}

// add is called in the order of ids, so the first key is the oldest.
func (k *Keyring) add(w WrappedKey, ids *Identities) error {
	if _, twice := k.aeads[w.ID]; twice {
		return fmt.Errorf("data key id %d stands twice", w.ID)
	}
	dataKey, err := w.unwrap(ids)
	if err != nil {
		return err
	}
	if k.aeads[w.ID], err = chacha20poly1305.NewX(expand(dataKey, keySize, "seal", "xchacha20poly1305")); err != nil {
		return fmt.Errorf("prepare data key %d: %w", w.ID, err)
	}
	if k.root == nil {
		k.rootID, k.root = w.ID, (*[keySize]byte)(dataKey)
	}
	if !w.Active {
		return nil
	}
	if k.active != 0 {
		return fmt.Errorf("data keys %d and %d are both active", k.active, w.ID)
	}
	k.active = w.ID
	return nil
}

// MAC is HMAC-SHA256 over data, under a key of its own for each label. Labels are constants of the
// program: the keys are kept for the keyring's life.
//
// The keys come from the oldest data key, the lowest id, not from the active one. Stored hashes and
// lookups by MAC must still match after a rotation, and they cannot be computed anew from what is
// stored. So that key stays in the keyring when no sealed field needs it any more.
func (k *Keyring) MAC(label string, data []byte) [32]byte {
	key, ok := k.macs.Load(label)
	if !ok {
		key, _ = k.macs.LoadOrStore(label, expand(k.root[:], keySize, "mac", label))
	}
	h := hmac.New(sha256.New, key.([]byte))
	h.Write(data)
	return [32]byte(h.Sum(nil))
}

// Derive returns a secret of n bytes for a use of its own, such as a cookie key: the same for the
// same label and n, also after a rotation (see [Keyring.MAC]). It panics if n is below 16 or above
// 8160, HKDF's limit (RFC 5869, section 2.3).
func (k *Keyring) Derive(label string, n int) []byte {
	if n < minDerived || n > maxDerived {
		panic(fmt.Sprintf("crypto: derive %d bytes, allowed are %d to %d", n, minDerived, maxDerived))
	}
	return expand(k.root[:], n, "derive", label, strconv.Itoa(n))
}

// expand is HKDF-SHA256 without salt: its inputs are uniformly random. The names, joined without
// ambiguity, separate the uses of one secret.
func expand(secret []byte, n int, names ...string) []byte {
	out, err := hkdf.Key(sha256.New, secret, nil, "coatcheck"+string(Bind(names...)), n)
	if err != nil { // only for an n that the callers rule out
		panic("crypto: " + err.Error())
	}
	return out
}

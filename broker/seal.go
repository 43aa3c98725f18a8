package broker

import (
	"encoding/binary"
	"encoding/json"
	"strconv"
)

// The columns that hold ciphertext, by their logical names: these names are part of what a seal is bound to, so they
// outlive any change of the tables.
const (
	columnAccess        = "credential/access"
	columnRefresh       = "credential/refresh"
	columnDetails       = "credential/details"
	columnAnswer        = "credential/answer"
	columnAccount       = "connection/account"
	columnClientSecret  = "integration/client_secret"
	columnWebhookSecret = "integration/webhook_secret"
	columnSettings      = "integration/settings"
	columnDefaults      = "session/defaults"
	columnFlow          = "flow/secrets"
	columnRegistration  = "registration/client"
	columnWebhookKey    = "webhook/key"
)

// Labels of keyed hashes.
const (
	labelAccount  = "account"
	labelGrant    = "grant"
	labelAssigned = "assigned"
)

// place is where a sealed field stands. A ciphertext that was moved to another row, column or environment, or brought
// back from an older version, does not open.
type place struct {
	environment EnvironmentID
	column      string
	row         string
	version     int64
	origin      string // of a client secret or a credential: where it may be sent
}

// bytes encodes the place with lengths, so that no two places read the same.
func (p place) bytes() []byte {
	parts := [...]string{string(p.environment), p.column, p.row, strconv.FormatInt(p.version, 10), p.origin}
	size := 0
	for _, s := range parts {
		size += binary.MaxVarintLen16 + len(s)
	}
	out := make([]byte, 0, size)
	for _, s := range parts {
		out = binary.AppendUvarint(out, uint64(len(s)))
		out = append(out, s...)
	}
	return out
}

// seal gives nil for an absent secret.
func (b *Broker) seal(p place, s Secret) (Sealed, error) {
	if s.IsZero() {
		return nil, nil
	}
	box, err := b.sealer.Seal([]byte(s.Reveal()), p.bytes())
	if err != nil {
		return nil, ErrInternal.Because(err)
	}
	return box, nil
}

// open gives the absent secret for nil. A box that does not open is credential_unreadable, of that object alone.
func (b *Broker) open(p place, box Sealed) (Secret, error) {
	if len(box) == 0 {
		return Secret{}, nil
	}
	plain, err := b.sealer.Open(box, p.bytes())
	if err != nil {
		return Secret{}, b.unreadable(p, err)
	}
	return NewSecret(string(plain)), nil
}

// unreadable leaves a trace of ciphertext that does not open where it stands: somebody may have moved it there.
func (b *Broker) unreadable(p place, cause error) error {
	line := b.line(System(p.environment), "integrity_failure", p.column+" "+p.row)
	line.Result = ErrUnreadable.Code
	if err := b.reads.read(line); err != nil {
		return err
	}
	return ErrUnreadable.Because(cause)
}

// sealJSON seals a value of ours that holds secrets.
func (b *Broker) sealJSON(p place, v any) (Sealed, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, ErrInternal.Because(err)
	}
	return b.seal(p, NewSecret(string(raw)))
}

// openJSON opens what sealJSON sealed.
func (b *Broker) openJSON(p place, box Sealed, v any) error {
	s, err := b.open(p, box)
	if err != nil || s.IsZero() {
		return err
	}
	if err := json.Unmarshal([]byte(s.Reveal()), v); err != nil {
		return ErrUnreadable.Because(err)
	}
	return nil
}

// credentialPlace is where a credential's field of that version stands.
func credentialPlace(env EnvironmentID, id ConnectionID, column string, version int64, origins string) place {
	return place{environment: env, column: column, row: string(id), version: version, origin: origins}
}

// sealMaterial seals a credential for its connection and version, and for where it may be sent.
func (b *Broker) sealMaterial(env EnvironmentID, id ConnectionID, version int64, origins string, m *Material) (*Credential, error) {
	c := &Credential{
		Connection: id, Version: version, Type: m.Type, Origins: origins,
		ObtainedAt: b.Now(), ExpiresAt: cut(m.ExpiresAt), RefreshExpiresAt: cut(m.RefreshExpiresAt),
	}
	var err error
	at := func(column string) place { return credentialPlace(env, id, column, version, origins) }
	if c.Access, err = b.seal(at(columnAccess), m.Access); err != nil {
		return nil, err
	}
	if c.Refresh, err = b.seal(at(columnRefresh), m.Refresh); err != nil {
		return nil, err
	}
	if c.Answer, err = b.seal(at(columnAnswer), m.Answer); err != nil {
		return nil, err
	}
	if len(m.Details) > 0 {
		plain := make(map[string]string, len(m.Details))
		for k, v := range m.Details {
			plain[k] = v.Reveal()
		}
		if c.Details, err = b.sealJSON(at(columnDetails), plain); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// openMaterial opens a credential whole.
func (b *Broker) openMaterial(env EnvironmentID, c *Credential) (*Material, error) {
	m := &Material{Type: c.Type, ExpiresAt: c.ExpiresAt, RefreshExpiresAt: c.RefreshExpiresAt}
	at := func(column string) place { return credentialPlace(env, c.Connection, column, c.Version, c.Origins) }
	var err error
	if m.Access, err = b.open(at(columnAccess), c.Access); err != nil {
		return nil, err
	}
	if m.Refresh, err = b.open(at(columnRefresh), c.Refresh); err != nil {
		return nil, err
	}
	if m.Answer, err = b.open(at(columnAnswer), c.Answer); err != nil {
		return nil, err
	}
	m.Details, err = b.openDetails(at(columnDetails), c.Details)
	return m, err
}

func (b *Broker) openDetails(p place, box Sealed) (map[string]Secret, error) {
	var plain map[string]string
	if err := b.openJSON(p, box, &plain); err != nil || len(plain) == 0 {
		return nil, err
	}
	out := make(map[string]Secret, len(plain))
	for k, v := range plain {
		out[k] = NewSecret(v)
	}
	return out, nil
}

package broker

import (
	"context"
	"maps"
	"time"
)

// The credential of an installed app may hold the token of the user who signed in when it was installed, beside that of the
// installation. Until there is an installation it is the user's alone. The user's refresh token is the credential's, so that
// it is sealed, compared and kept as every other; the rest is among the details, under these names.
const (
	userAccess  = "user.access_token"
	userAnswer  = "user.answer"
	userExpires = "user.expires_at"
	userLost    = "user.lost" // why, in the provider's code
	userLostAt  = "user.lost_at"
)

// ReasonUserLost is why an app is told that its user has to sign in again, while its installation works on.
const ReasonUserLost = "user_grant_lost"

// AwaitsInstallation reports whether connection config is that of a user who signed in and whose app has still to be
// installed, or approved by somebody else.
func (f *Facts) AwaitsInstallation(config map[string]any) bool {
	id := config[InstallationParam]
	return f != nil && f.InstalledLater && (id == nil || id == "")
}

// awaitsInstallation is the same of a connection.
func (b *Broker) awaitsInstallation(c *Connection) bool {
	_, f, err := b.IntegrationOf(c)
	return err == nil && f.AwaitsInstallation(b.ConfigOf(c))
}

// Installed reports whether the token is that of an installation, and not its user's.
func (m *Material) Installed() bool { return !m.Details[InstallationParam].IsZero() }

// User gives the token of the user of an installed app; nil: there is none.
func (m *Material) User() *Material {
	if m == nil {
		return nil
	}
	u := &Material{
		Type: m.Type, Access: m.Access, Refresh: m.Refresh, Answer: m.Answer, ExpiresAt: m.ExpiresAt, RefreshExpiresAt: m.RefreshExpiresAt,
	}
	if m.Installed() {
		u.Access, u.Answer, u.ExpiresAt = m.Details[userAccess], m.Details[userAnswer], m.detailTime(userExpires)
	}
	if u.Access.IsZero() && u.Refresh.IsZero() {
		return nil
	}
	return u
}

// SetUser puts a user's token beside that of an installation. nil takes away what there is.
func (m *Material) SetUser(u *Material) {
	m.Details = maps.Clone(m.Details)
	if m.Details == nil {
		m.Details = make(map[string]Secret)
	}
	for _, name := range []string{userAccess, userAnswer, userExpires, userLost, userLostAt} {
		delete(m.Details, name)
	}
	if m.Refresh, m.RefreshExpiresAt = (Secret{}), (time.Time{}); u == nil {
		return
	}
	m.Refresh, m.RefreshExpiresAt = u.Refresh, u.RefreshExpiresAt
	m.Details[userAccess], m.Details[userAnswer] = u.Access, u.Answer
	m.setDetailTime(userExpires, u.ExpiresAt)
}

// LoseUser notes that the provider does not take the user's refresh token any more. It is kept: somebody may insist and
// find that it works.
func (m *Material) LoseUser(code string, at time.Time) {
	m.SetUser(m.User())
	m.Details[userLost] = NewSecret(code)
	m.setDetailTime(userLostAt, at)
}

// UserLost tells since when the provider does not take the user's refresh token, and its code for why; the zero time: it
// does.
func (m *Material) UserLost() (at time.Time, code string) {
	return m.detailTime(userLostAt), m.Details[userLost].Reveal()
}

func (m *Material) detailTime(name string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, m.Details[name].Reveal())
	if err != nil {
		return time.Time{}
	}
	return t
}

func (m *Material) setDetailTime(name string, t time.Time) {
	if !t.IsZero() {
		m.Details[name] = NewSecret(cut(t).Format(time.RFC3339Nano))
	}
}

// repaired gives what the connection was that is connected again; nil: it is a new one, or nobody asks.
func (b *Broker) repaired(ctx context.Context, m *making) (*Repaired, error) {
	if m.reconnect == "" || !m.facts.InstalledLater {
		return nil, nil //nolint:nilnil // there is none
	}
	old, err := b.store.Connection(ctx, m.integration.Environment, m.reconnect)
	if err != nil {
		return nil, onConnection(err)
	}
	if old.Status == Pending {
		return nil, nil //nolint:nilnil // nobody has ever connected it
	}
	return &Repaired{Config: configValues(old.Config, nil), AuthorizedAt: old.AuthorizedAt}, nil
}

// refuse ends what an exchange gave that failed afterwards; nil: it gave nothing.
func (b *Broker) refuse(ctx context.Context, m *making, got *Obtained) error {
	if got == nil {
		return nil
	}
	m.take(got)
	b.complete(ctx, m)
	return b.discard(ctx, m)
}

// partFailed is what is told of a credential that is good, but for a part of it.
func (b *Broker) partFailed(c *Connection, p *ProviderError) Trail {
	trail := Trail{Events: []Event{b.event(EventRefreshFailed, c, p.Code)}}
	if p.Class == GrantLost {
		lost := b.event(EventNeedsReauth, c, ReasonUserLost)
		trail.Audit = []AuditEntry{b.line(System(c.Environment), "connection.user_lost", string(c.ID))}
		trail.Events, trail.Deliveries = append(trail.Events, lost), b.tellConnection(&lost, c)
	}
	return trail
}

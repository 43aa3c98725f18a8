package broker

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
)

// Notice is what an app is told of an event, as things stood when it happened: ids, names and codes, and what the app
// itself attached to the connection. It holds no secret and none of a provider's words.
type Notice struct {
	Kind        EventKind
	Environment string // its name
	Integration string // its key
	Provider    string
	Mode        string // OAUTH2, API_KEY, ...
	Connection  string // its key; of one that did not come to be, the key that it would have had
	Code        string // why, for failures
	Tags        map[string]string
	EndUser     *EndUser // nil: nobody who was named has just signed in
}

// storedNotice is a Notice on its way into the store. The names outlive those of the fields.
type storedNotice struct {
	Kind        EventKind         `json:"kind"`
	Environment string            `json:"environment"`
	Integration string            `json:"integration"`
	Provider    string            `json:"provider"`
	Mode        string            `json:"mode"`
	Connection  string            `json:"connection"`
	Code        string            `json:"code,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	EndUser     *storedEndUser    `json:"end_user,omitempty"`
}

type storedEndUser struct {
	ID               string            `json:"id"`
	Email            string            `json:"email,omitempty"`
	DisplayName      string            `json:"display_name,omitempty"`
	Tags             map[string]string `json:"tags,omitempty"`
	OrganizationID   string            `json:"organization_id,omitempty"`
	OrganizationName string            `json:"organization_name,omitempty"`
}

func (n *Notice) encode() ([]byte, error) {
	raw, err := json.Marshal(storedNotice{
		n.Kind, n.Environment, n.Integration, n.Provider, n.Mode, n.Connection, n.Code, n.Tags, (*storedEndUser)(n.EndUser),
	})
	if err != nil {
		return nil, ErrInternal.Because(err)
	}
	return raw, nil
}

func decodeNotice(raw []byte) (*Notice, error) {
	var s storedNotice
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, ErrInternal.Because(err)
	}
	return &Notice{
		s.Kind, s.Environment, s.Integration, s.Provider, s.Mode, s.Connection, s.Code, s.Tags, (*EndUser)(s.EndUser),
	}, nil
}

// unheard are the ends of a sign-in that an app is not told of: the end user said no, which is for the page to show, or
// the answer was not brought by the browser that began, so that anybody could have an app told. Whatever else goes wrong
// went wrong after the provider had answered. A popup that is closed ends no sign-in at all.
var unheard = []string{ErrProviderDenied.Code, ErrBrowserMismatch.Code, ErrContextMismatch.Code}

// hears reports whether the app wants to be told. Nobody is told of renewals, duplicates, deletions and revocations.
func (w *Webhook) hears(n *Notice) bool {
	switch n.Kind {
	case EventConnected:
		return w == nil || !w.MuteCreation
	case EventConnectFailed:
		return !slices.Contains(unheard, n.Code) && (n.refusedRepair() || w == nil || !w.MuteCreation)
	case EventReconnected:
		return true
	case EventNeedsReauth, EventRefreshFailing:
		return w == nil || !w.MuteRefreshErrors
	case EventRefreshFailed, EventDuplicateGrant, EventDeleted, EventRevocationEnded:
		return false
	}
	return false
}

// refusedRepair reports that an existing connection was to be re-authorized and what came was refused. Like the repairs
// that succeed these are always told.
func (n *Notice) refusedRepair() bool { return n.Code == ErrAccountMismatch.Code }

// Endpoints of an environment; the address that replaces both for a connection stands for itself.
const (
	endpointPrimary   = "primary"
	endpointSecondary = "secondary"
)

// tell makes the deliveries of an event, which are stored together with it: none where the app has no address or does not
// want to hear of it. override is the connection's own address.
func (b *Broker) tell(e *Event, n *Notice, override string) []Delivery {
	w := b.snapshot.Load().webhooks[e.Environment]
	var endpoints []string
	switch {
	case override != "" && (w == nil || override != w.URL):
		endpoints = []string{override}
	case w == nil:
		return nil
	case w.URL != "" && (override != "" || w.SecondaryURL == ""):
		endpoints = []string{endpointPrimary}
	case w.URL != "":
		endpoints = []string{endpointPrimary, endpointSecondary}
	case w.SecondaryURL != "":
		endpoints = []string{endpointSecondary}
	}
	n.Kind, n.Code = e.Kind, e.Code
	if len(endpoints) == 0 || !w.hears(n) {
		return nil
	}
	raw, err := n.encode()
	if err != nil {
		return nil
	}
	about := string(e.Connection)
	if about == "" {
		about = n.Connection
	}
	out := make([]Delivery, len(endpoints))
	for i, to := range endpoints {
		out[i] = Delivery{
			Event: e.ID, Environment: e.Environment, Endpoint: string(e.Environment) + " " + to, About: about, Kind: e.Kind,
			Notice: raw, CreatedAt: e.At, NextAt: e.At,
		}
	}
	return out
}

// notice is what can be said of every event of a connection.
func (b *Broker) notice(c *Connection) *Notice {
	n := &Notice{Connection: c.Key, Tags: c.Tags}
	s := b.snapshot.Load()
	if e, ok := s.environments[c.Environment]; ok {
		n.Environment = e.Name
	}
	if i, ok := s.integrations[c.Integration]; ok {
		n.Integration, n.Provider = i.Key, i.Provider
		if f := b.factsOf(i); f != nil {
			n.Mode = f.Mode
		}
	}
	return n
}

// tellGranted tells of a connection that came to be or works again. The end user is named if one has signed in.
func (b *Broker) tellGranted(e *Event, c *Connection, s *Session) []Delivery {
	n := b.notice(c)
	if s != nil {
		n.EndUser = s.EndUser
	}
	return b.tell(e, n, c.WebhookURL)
}

// tellConnection tells of what befell a connection that is there.
func (b *Broker) tellConnection(e *Event, c *Connection) []Delivery {
	return b.tell(e, b.notice(c), c.WebhookURL)
}

// tellFailed tells of a sign-in that came to nothing. What would have become of it says whom.
func (b *Broker) tellFailed(ctx context.Context, e *Event, f *Flow) ([]Delivery, error) {
	c := &Connection{ID: f.Connection, Environment: f.Environment, Integration: f.Integration, Key: f.Key}
	if f.Connection != "" {
		old, err := b.store.Connection(ctx, f.Environment, f.Connection)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		if err == nil {
			c = old
		}
	}
	if f.Session != "" {
		s, err := b.store.Session(ctx, f.Session)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		if err == nil && s.WebhookURL != "" {
			c.WebhookURL = s.WebhookURL
		}
	}
	n := b.notice(c)
	if n.Connection == "" { // an id that nothing has, which the audit trail knows
		n.Connection = string(f.ID)
	}
	n.Tags = nil
	return b.tell(e, n, c.WebhookURL), nil
}

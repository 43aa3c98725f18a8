package main

import (
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/crypto"
)

type apikeyCommand struct {
	Create apikeyCreateCommand `cmd:"" help:"Make a key; it is shown once."`
	List   apikeyListCommand   `cmd:"" help:"List the keys, without what is secret of them."`
	Revoke apikeyRevokeCommand `cmd:"" help:"End a key. A running server notices within seconds."`
}

// beside are the settings of commands that work beside a running server.
type beside struct {
	overrides
	Env string `help:"Environment." aliases:"environment" default:"dev" placeholder:"NAME"`
}

// whose are the settings of commands about the keys of an environment, or of the account.
type whose struct {
	beside
	Account bool `help:"The account's keys, which make and delete environments and their keys, in place of an environment's."`
}

// openNode opens the data directory beside a server that may be running.
func (c *beside) openNode(p *program) (*node, error) {
	cfg, err := loadConfig(p.env, c.overrides)
	if err != nil {
		return nil, err
	}
	return openNode(p.ctx, cfg, p.env, slog.New(slog.NewJSONHandler(p.stderr, nil)), false)
}

// open opens the data directory and finds the environment; nil: the account.
func (c *whose) open(p *program) (*node, *broker.Environment, error) {
	if c.Account {
		n, err := c.openNode(p)
		return n, nil, err
	}
	return c.beside.open(p)
}

// open opens the data directory and finds the environment.
func (c *beside) open(p *program) (*node, *broker.Environment, error) {
	n, err := c.openNode(p)
	if err != nil {
		return nil, nil, err
	}
	e, err := n.broker.EnvironmentNamed(c.Env)
	if err != nil {
		_ = n.store.Close()
		return nil, nil, broker.ErrNotFound.Saying("there is no environment " + c.Env)
	}
	return n, e, nil
}

type apikeyCreateCommand struct {
	whose
	Name    string        `required:"" help:"What the key is for." placeholder:"NAME"`
	Scope   []string      `help:"What it may do, such as proxy or connections:read; everything if none is named. May be repeated." placeholder:"SCOPE"`
	Expires time.Duration `help:"How long it lives, such as 720h; for ever if not given." placeholder:"DURATION"`
}

// Run makes a key and prints it.
func (c *apikeyCreateCommand) Run(p *program) error {
	switch {
	case len(c.Scope) > 0:
	case c.Account:
		c.Scope = []string{string(broker.ScopeAccount)}
	default:
		c.Scope = []string{"admin"}
	}
	scopes, err := broker.ParseScopes(c.Scope)
	if err != nil {
		return err
	}
	n, e, err := c.open(p)
	if err != nil {
		return err
	}
	defer func() { _ = n.store.Close() }()
	in := broker.KeyInput{Name: c.Name, Scopes: scopes}
	if c.Expires > 0 {
		in.Expires = n.broker.Now().Add(c.Expires)
	}
	var key broker.Secret
	if e == nil {
		key, _, err = n.broker.CreateAccountKey(p.ctx, broker.System(""), in)
	} else {
		key, _, err = n.broker.CreateAPIKey(p.ctx, broker.System(e.ID), e, in)
	}
	if err != nil {
		return err
	}
	p.say("%s", key.Reveal())
	return n.store.Close()
}

type apikeyListCommand struct{ whose }

// Run lists the keys of the environment or the account.
func (c *apikeyListCommand) Run(p *program) error {
	n, e, err := c.open(p)
	if err != nil {
		return err
	}
	defer func() { _ = n.store.Close() }()
	var keys []*broker.APIKey
	if e == nil {
		keys, err = n.broker.AccountKeys(p.ctx)
	} else {
		keys, err = n.broker.APIKeys(p.ctx, e)
	}
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(p.stdout, 0, 8, 2, ' ', 0)
	_, _ = w.Write([]byte("ID\tNAME\tKEY\tSCOPES\tCREATED\tSTATE\n"))
	for _, k := range keys {
		scopes := make([]string, len(k.Scopes))
		for i, s := range k.Scopes {
			scopes[i] = string(s)
		}
		row := []string{string(k.ID), k.Name, k.Hint, strings.Join(scopes, ","), k.CreatedAt.Format(time.RFC3339), state(k, n.broker.Now())}
		_, _ = w.Write([]byte(strings.Join(row, "\t") + "\n"))
	}
	return w.Flush()
}

func state(k *broker.APIKey, now time.Time) string {
	switch {
	case !k.RevokedAt.IsZero():
		return "revoked"
	case !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt):
		return "expired"
	case k.Managed:
		return "from the configuration file"
	}
	return "active"
}

type apikeyRevokeCommand struct {
	beside
	ID string `arg:"" help:"The key's id, as list shows it; a whole key does as well."`
}

// Run ends a key.
func (c *apikeyRevokeCommand) Run(p *program) error {
	n, err := c.openNode(p)
	if err != nil {
		return err
	}
	defer func() { _ = n.store.Close() }()
	if _, id, ok := crypto.ParseAPIKey(c.ID); ok { // all that somebody has who found one
		c.ID = id
	}
	if err := n.broker.RevokeAPIKey(p.ctx, broker.System(""), broker.APIKeyID(c.ID)); err != nil {
		return err
	}
	p.say("Revoked %s.", c.ID)
	return n.store.Close()
}

package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/storage"
)

type adoptCommand struct {
	overrides
	DryRun bool `help:"Say what would be done, and do nothing."`
}

// Run makes the store that of the broker with the present public URL.
func (c *adoptCommand) Run(p *program) error {
	cfg, err := loadConfig(p.env, c.overrides)
	if err != nil {
		return err
	}
	if !databaseExists(cfg) { // opening would make one
		return fmt.Errorf("%w: %s", storage.ErrNoDatabase, cfg.Data)
	}
	n, err := openNode(p.ctx, cfg, p.env, slog.New(slog.NewJSONHandler(p.stderr, nil)), false)
	if err != nil {
		return err
	}
	defer func() { _ = n.store.Close() }()
	now := n.broker.Deployment()
	p.say("The store%s belongs to %s, cluster %s.", where(cfg), cmp.Or(now.PublicURL, "nobody"), cmp.Or(now.Cluster, "none"))
	if why := pauseInWords(n.broker); why != "" {
		p.say("Nothing is renewed: %s.", why)
	}
	p.say("Adopting makes it that of %s, as a cluster of its own. The broker of that URL then renews its tokens, ends grants and", n.broker.PublicURL())
	p.say("tells apps. No other broker may do so with a copy of it: most providers end a grant whose old token comes again.")
	if c.DryRun {
		return n.store.Close()
	}
	adopted, err := n.broker.Adopt(p.ctx, broker.System(""))
	if err != nil {
		return err
	}
	p.say("Adopted: %s, cluster %s. A running server notices within seconds.", adopted.PublicURL, adopted.Cluster)
	return n.store.Close()
}

// where says which store it is: a directory, whose name tells, or an address, which may hold a password.
func where(c *config) string {
	if c.Database == "sqlite" {
		return " in " + c.Data
	}
	return " in PostgreSQL"
}

// pauseInWords says why nothing is renewed; empty: it is.
func pauseInWords(b *broker.Broker) string {
	d := b.Deployment()
	switch b.Paused() {
	case broker.PausedCopy:
		return "this is a copy, made " + d.CopiedAt.Format(time.RFC3339)
	case broker.PausedOtherURL:
		return "this is the store of " + d.PublicURL + ", and the public URL here is " + b.PublicURL()
	case broker.NotPaused:
	}
	return ""
}

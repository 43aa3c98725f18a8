package main

import (
	"cmp"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

type adoptCommand struct {
	beside
	DryRun bool `help:"Say what would be done, and do nothing."`
}

// Run makes the store that of the broker with the present public URL.
func (c *adoptCommand) Run(p *program) error {
	n, err := c.openNode(p)
	if err != nil {
		return err
	}
	defer func() { _ = n.store.Close() }()
	now := n.broker.Deployment()
	p.say("The store in %s belongs to %s, cluster %s.", n.config.Data, cmp.Or(now.PublicURL, "nobody"), cmp.Or(now.Cluster, "none"))
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

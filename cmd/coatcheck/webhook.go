package main

import (
	"cmp"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

type webhookCommand struct {
	Secret webhookSecretCommand `cmd:"" help:"Print the signing key, for the receiver to know."`
	Rotate webhookRotateCommand `cmd:"" help:"Make a new signing key and print it; the old one stays valid beside it for a day."`
	List   webhookListCommand   `cmd:"" help:"List deliveries, newest first."`
	Replay webhookReplayCommand `cmd:"" help:"Have deliveries tried again. A running server notices within seconds."`
}

type webhookSecretCommand struct{ beside }

// Run prints the environment's signing key, and makes one where there is none yet.
func (c *webhookSecretCommand) Run(p *program) error {
	n, e, err := c.open(p)
	if err != nil {
		return err
	}
	defer func() { _ = n.store.Close() }()
	key, err := n.broker.WebhookKey(p.ctx, broker.System(e.ID))
	if err != nil {
		return err
	}
	p.say("%s", key.Reveal())
	return n.store.Close()
}

type webhookRotateCommand struct{ beside }

// Run makes a new signing key and prints it.
func (c *webhookRotateCommand) Run(p *program) error {
	n, e, err := c.open(p)
	if err != nil {
		return err
	}
	defer func() { _ = n.store.Close() }()
	key, err := n.broker.RotateWebhookKey(p.ctx, broker.System(e.ID))
	if err != nil {
		return err
	}
	p.say("%s", key.Reveal())
	return n.store.Close()
}

type webhookListCommand struct {
	beside
	Dead  bool `help:"Only those that were given up."`
	Limit int  `help:"At most so many." default:"100" placeholder:"N"`
}

// Run lists deliveries.
func (c *webhookListCommand) Run(p *program) error {
	n, e, err := c.open(p)
	if err != nil {
		return err
	}
	defer func() { _ = n.store.Close() }()
	f := broker.DeliveryFilter{Limit: c.Limit}
	if c.Dead {
		f.Outcome = broker.OutcomeDead
	}
	list, err := n.broker.Deliveries(p.ctx, broker.System(e.ID), f)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(p.stdout, 0, 8, 2, ' ', 0)
	_, _ = w.Write([]byte("NUMBER\tEVENT\tKIND\tABOUT\tTO\tMADE\tSTATE\tATTEMPTS\tLAST\tANSWER\n"))
	for _, d := range list {
		row := []string{
			strconv.FormatInt(d.Number, 10), d.Event, string(d.Kind), d.About, receiver(d), d.CreatedAt.Format(time.RFC3339), progress(d),
			strconv.Itoa(d.Attempts), lastFailure(d), excerpt(d.Answer),
		}
		_, _ = w.Write([]byte(strings.Join(row, "\t") + "\n"))
	}
	return errors.Join(w.Flush(), n.store.Close())
}

// receiver names an endpoint without the part of an address that may be secret.
func receiver(d *broker.Delivery) string {
	_, to, _ := strings.Cut(d.Endpoint, " ")
	if u, err := url.Parse(to); err == nil && u.Host != "" {
		return u.Scheme + "://" + u.Host
	}
	return to
}

// progress is what becomes of a delivery.
func progress(d *broker.Delivery) string {
	switch {
	case d.Outcome != "":
		return d.Outcome
	case d.NextAt.IsZero():
		return "waits for an earlier one"
	}
	return "next " + d.NextAt.Format(time.RFC3339)
}

// lastFailure says what became of the last attempt.
func lastFailure(d *broker.Delivery) string {
	status := ""
	if d.Status != 0 {
		status = strconv.Itoa(d.Status)
	}
	return cmp.Or(strings.TrimSpace(status+" "+d.Code), "-")
}

// excerpt is as much of an answer as fits a line.
func excerpt(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "..."
	}
	return s
}

type webhookReplayCommand struct {
	beside
	All     bool    `help:"Everything that was given up."`
	Numbers []int64 `arg:"" optional:"" name:"number" help:"Numbers, as list shows them."`
}

// Run has deliveries tried again.
func (c *webhookReplayCommand) Run(p *program) error {
	if c.All == (len(c.Numbers) > 0) {
		return errors.New("name some numbers, or --all")
	}
	n, e, err := c.open(p)
	if err != nil {
		return err
	}
	defer func() { _ = n.store.Close() }()
	count, err := n.broker.Replay(p.ctx, broker.System(e.ID), c.Numbers)
	if err != nil {
		return err
	}
	p.say("%d will be tried again.", count)
	return n.store.Close()
}

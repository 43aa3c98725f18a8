package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/storage/sqlite"
)

// growth measures row 12: reads that no cache of ours holds, in databases of three sizes.
func (l *lab) growth(ctx context.Context) error {
	var stocks []*stock
	for _, connections := range []int{few, l.some(), l.many()} {
		s, err := l.stock(ctx, connections)
		if err != nil {
			return err
		}
		stocks = append(stocks, s)
	}
	rates := make([][]float64, len(stocks))
	var candidates []func(context.Context) error
	for i, s := range stocks {
		candidates = append(candidates, func(ctx context.Context) error {
			return l.on(ctx, s, 0, func(n *node) error {
				rate, err := s.throughput(ctx, readers, l.window(500*time.Millisecond), n.ticket)
				rates[i] = append(rates[i], rate)
				return err
			})
		})
	}
	if err := takeTurns(ctx, l.rounds(9), candidates...); err != nil {
		return err
	}
	for i, g := range []goal{atLeast(0.25), atLeast(0.5)} {
		l.table.add(12, fmt.Sprintf("uncached reads, %s ÷ %s, %d at once", count(l.many()), count(stocks[i].connections), readers), ratio(rates[2], rates[i]), g,
			"%.1fk/s ÷ %.1fk/s", median(rates[2])/1e3, median(rates[i])/1e3)
	}
	return nil
}

// footprint measures row 22: what a connection takes in the database. Audit and events are not counted: they are as long
// as the history, and are swept.
func (l *lab) footprint(ctx context.Context) error {
	s, err := l.stock(ctx, l.some())
	if err != nil {
		return err
	}
	per, err := bytesPerConnection(s.dir, s.connections)
	if err != nil {
		return err
	}
	// What an OAuth 2.0 provider gives is kept three times: the two tokens, and its answer as it came.
	dir, err := l.scratch("grants")
	if err != nil {
		return err
	}
	origin, err := l.origin(ctx)
	if err != nil {
		return err
	}
	access, refresh := patterned(450), patterned(250)
	answer := `{"access_token":"` + access + `","refresh_token":"` + refresh + `","token_type":"Bearer","expires_in":3600}`
	m := &broker.Material{
		Access: broker.NewSecret(access), Refresh: broker.NewSecret(refresh), Answer: broker.NewSecret(answer), ExpiresAt: time.Now().AddDate(1, 0, 0),
	}
	const grants = 10_000
	if err := l.fill(ctx, nodeOptions{dir: dir, origin: origin}, grants, m); err != nil {
		return err
	}
	perGrant, err := bytesPerConnection(dir, grants)
	if err != nil {
		return err
	}
	secrets := float64(len(access) + len(refresh) + len(answer))
	l.table.add(22, "database bytes per connection ÷ secret bytes, 1.5 kB", per/tokenLength, atMost(1.6),
		"%.0f ÷ %d, one token; two tokens and the provider's answer: %.0f ÷ %.0f = %.2f", per, tokenLength, perGrant, secrets, perGrant/secrets)
	return nil
}

func bytesPerConnection(dir string, connections int) (float64, error) {
	info, err := os.Stat(filepath.Join(dir, sqlite.FileName))
	if err != nil {
		return 0, err
	}
	return float64(info.Size()) / float64(connections), nil
}

// besideWriter measures row 14: uncached reads while 200 renewed tokens a second are stored, against the same reads in
// peace. It comes last, because it leaves the database with credentials that do not open.
func (l *lab) besideWriter(ctx context.Context) error {
	s, err := l.stock(ctx, l.many())
	if err != nil {
		return err
	}
	const perSecond = 200
	var rates [2][]float64
	var written float64
	err = l.on(ctx, s, 0, func(n *node) error {
		w := &swapper{node: n, keys: s.keys()}
		reading := func(into *[]float64) func(context.Context) error {
			return func(ctx context.Context) error {
				rate, err := s.throughput(ctx, readers, l.window(2*time.Second), n.ticket)
				*into = append(*into, rate)
				return err
			}
		}
		err := takeTurns(ctx, l.rounds(7),
			func(ctx context.Context) error { return w.beside(ctx, perSecond, reading(&rates[0])) },
			reading(&rates[1]))
		written = w.rate()
		return err
	})
	if err != nil {
		return err
	}
	l.table.add(14, "reads beside 200 writes/s ÷ without, "+count(s.connections), ratio(rates[0], rates[1]), atLeast(0.75),
		"%.1fk/s ÷ %.1fk/s; %.0f writes/s were made", median(rates[0])/1e3, median(rates[1])/1e3, written)
	return nil
}

// swapper stores renewed tokens, each in a commit of its own.
type swapper struct {
	*node
	keys    []string
	written int
	took    time.Duration
}

func (s *swapper) rate() float64 { return float64(s.written) / s.took.Seconds() }

// beside writes at a rate while work is done.
func (s *swapper) beside(ctx context.Context, perSecond int, work func(context.Context) error) error {
	writing, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- s.write(writing, perSecond) }()
	err := work(ctx)
	stop()
	return errors.Join(err, <-ended)
}

// write stores one token after another until ctx ends.
func (s *swapper) write(ctx context.Context, perSecond int) error {
	start := time.Now()
	defer func() { s.took += time.Since(start) }()
	for i := 1; ; i++ {
		// One after the other, from the end: readers choose at random, and no row is written twice.
		t, err := s.db.Ticket(ctx, s.upstream, s.keys[len(s.keys)-1-s.written])
		if err == nil {
			err = s.db.SwapCredential(ctx, &broker.Swap{Connection: t.Connection, From: t.Version, Next: &broker.Credential{
				Type: t.Type, Access: t.Access, ObtainedAt: time.Now(), ExpiresAt: t.ExpiresAt,
			}})
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		s.written++
		if pause(ctx, time.Until(start.Add(time.Duration(i)*time.Second/time.Duration(perSecond)))) != nil {
			return nil
		}
	}
}

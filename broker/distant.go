package broker

import (
	"context"
	"errors"
	"log/slog"
)

// listen tells those who wait on this node of flows that began and ended on others.
func (b *Broker) listen(ctx context.Context) error {
	channels := b.waiting.channels()
	if len(channels) == 0 {
		return nil
	}
	flows, err := b.shared.FlowsByChannel(ctx, channels)
	if err != nil {
		return err
	}
	for _, f := range flows {
		if err := b.hear(ctx, f); err != nil {
			b.log.LogAttrs(ctx, slog.LevelWarn, "whoever waits for a sign-in could not be told of it yet", because(err))
		}
	}
	return nil
}

// hear tells whoever waits for the flow what has become of it. The node where it began could not know who waits here, so
// whether they may hear of it is decided now.
func (b *Broker) hear(ctx context.Context, f *Flow) error {
	refused, err := b.mayHear(ctx, f)
	if err != nil {
		return err
	}
	if refused != nil {
		b.waiting.tell(f.Channel, FlowEnd{Err: AsError(refused)}) // and nothing of the flow
		return nil
	}
	end := FlowEnd{Connection: f.Key}
	if i, ok := b.snapshot.Load().integrations[f.Integration]; ok {
		end.Integration = i.Key
	}
	switch f.Status {
	case FlowSucceeded:
		c, err := b.store.Connection(ctx, f.Environment, f.Connection)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if err == nil {
			end.Connection = c.Key
		}
		b.waiting.tell(f.Channel, end)
	case FlowFailed:
		end.Err = declaredError(f.Code)
		b.waiting.tell(f.Channel, end)
	case FlowOpen, FlowConsumed:
	}
	return nil
}

// mayHear claims the flow for whoever waits for it, as its beginning does on one node. refused says why they may not hear of
// it; while err keeps that from being known, nothing is told.
func (b *Broker) mayHear(ctx context.Context, f *Flow) (refused, err error) {
	if f.Session == "" {
		return nil, nil
	}
	env, ok := b.snapshot.Load().environments[f.Environment]
	if !ok {
		return ErrSessionInvalid, nil
	}
	s, err := b.store.Session(ctx, f.Session)
	if errors.Is(err, ErrNotFound) {
		return ErrSessionInvalid, nil // with it went the list of pages that may hear
	}
	if err != nil {
		return nil, err
	}
	return b.waiting.claim(f.Channel, f.Session, func(origin string) bool { return b.PageAllowed(origin, env, s) }), nil
}

// declaredError is the error of that code, as far as one is known.
func declaredError(code string) *Error {
	for _, e := range declared {
		if e.Code == code {
			return e
		}
	}
	return ErrExchangeFailed
}

// channels lists those on which somebody waits here.
func (w *waiting) channels() [][]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([][]byte, 0, len(w.ends))
	for channel := range w.ends {
		out = append(out, []byte(channel))
	}
	return out
}

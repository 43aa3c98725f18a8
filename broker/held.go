package broker

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
)

// held are renewed credentials that are not stored yet.
type held struct {
	mu     sync.Mutex
	begun  map[ConnectionID]*Swap // the store has not answered yet, which it may take longer for than the process has
	swaps  map[ConnectionID]*Swap // the store did not take them
	refill bool                   // the reserve was freed
	end    chan struct{}          // closed when the process is about to end and holding on is of no use any more
	once   sync.Once
}

func newHeld() *held {
	return &held{begun: make(map[ConnectionID]*Swap), swaps: make(map[ConnectionID]*Swap), end: make(chan struct{})}
}

// begin notes what is about to be stored.
func (h *held) begin(s *Swap) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.begun[s.Connection] = s
}

// add reports whether the swap is new here.
func (h *held) add(s *Swap) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, known := h.swaps[s.Connection]
	delete(h.begun, s.Connection)
	h.swaps[s.Connection], h.refill = s, true
	return !known
}

func (h *held) drop(id ConnectionID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.begun, id)
	delete(h.swaps, id)
}

func (h *held) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.swaps)
}

// all gives whatever is not stored, as far as is known.
func (h *held) all() []*Swap {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.AppendSeq(slices.Collect(maps.Values(h.swaps)), maps.Values(h.begun))
}

// refillDue reports, once, that the reserve was freed and nothing needs it any more.
func (h *held) refillDue() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	yes := h.refill && len(h.swaps) == 0
	h.refill = h.refill && !yes
	return yes
}

// stillDue takes the report back.
func (h *held) stillDue() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refill = true
}

func (h *held) close() { h.once.Do(func() { close(h.end) }) }

// hold notes a pair that is not stored yet, and gives the store the room that was kept for this.
func (b *Broker) hold(ctx context.Context, s *Swap, cause error) {
	b.away.note(cause, b.Now())
	if !b.held.add(s) {
		return
	}
	b.log.LogAttrs(ctx, slog.LevelError, "a renewed token cannot be stored; trying again",
		slog.String("connection", string(s.Connection)), because(cause))
	if b.reserve == nil {
		return
	}
	if err := b.reserve.Free(); err != nil {
		b.log.LogAttrs(ctx, slog.LevelError, "the reserve could not be freed", because(err))
	}
}

// spill saves a pair that the end of the process finds unstored.
func (b *Broker) spill(ctx context.Context, s *Swap) {
	if b.reserve == nil {
		return
	}
	if err := b.reserve.Spill([]*Swap{s}); err != nil {
		b.log.LogAttrs(ctx, slog.LevelError, "a renewed token could not be saved", slog.String("connection", string(s.Connection)), because(err))
		return
	}
	b.held.drop(s.Connection)
}

// refill takes the reserve back once nothing is held any more. If there is no room yet, the next commit tries again.
func (b *Broker) refill(ctx context.Context) {
	if b.reserve == nil || !b.held.refillDue() {
		return
	}
	if err := b.reserve.Refill(); err != nil {
		b.held.stillDue()
		b.log.LogAttrs(ctx, slog.LevelWarn, "the reserve could not be taken back yet", because(err))
	}
}

// takeReserve takes the room at the start, beside everything else: it takes longer than a start should.
func (b *Broker) takeReserve(ctx context.Context) {
	if b.reserve == nil {
		return
	}
	if err := b.reserve.Refill(); err != nil {
		b.log.LogAttrs(ctx, slog.LevelWarn, "there is no room for the reserve, which keeps renewed tokens when the disk is full", because(err))
	}
}

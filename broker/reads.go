package broker

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// readLog collects what happens on the hot path, so that it is written in batches: which connections were used, and who
// read which credential.
type readLog struct {
	mu      sync.Mutex
	fetched map[ConnectionID]time.Time
	since   time.Time // the oldest in fetched
	audit   map[auditKey]*AuditEntry
}

// auditKey makes one line of all reads of a credential by a key within a minute.
type auditKey struct {
	actor, action, target string
	environment           EnvironmentID
	minute                int64
}

// maxPendingAudit bounds the lines that wait. When it is reached, credentials are refused: a read that leaves no trace
// must not happen.
const maxPendingAudit = 50_000

// flushEvery is how long what was read waits before it is written.
const flushEvery = 5 * time.Second

// Uses wait longer, because each is a row to write, anywhere in the database, and many connections are used again soon:
// ten seconds, unless there are too many to remember. So many are written at a time that nobody waits long behind them.
const (
	usesWait    = 10 * time.Second
	maxUses     = 100_000
	usesAtATime = 500
)

func newReadLog() *readLog {
	return &readLog{fetched: make(map[ConnectionID]time.Time), audit: make(map[auditKey]*AuditEntry)}
}

// used notes that a connection was used.
func (l *readLog) used(id ConnectionID, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.fetched) == 0 {
		l.since = at
	}
	if at.After(l.fetched[id]) {
		l.fetched[id] = at
	}
}

// read notes a read of a credential. Errors: storage_unavailable when too many lines wait.
func (l *readLog) read(e AuditEntry) error {
	k := auditKey{e.Actor, e.Action, e.Target, e.Environment, e.At.Unix() / 60}
	l.mu.Lock()
	defer l.mu.Unlock()
	if line, ok := l.audit[k]; ok {
		line.Count++
		return nil
	}
	if len(l.audit) >= maxPendingAudit {
		return ErrStorageUnavailable.Saying("the audit trail cannot be written at the moment, so no credential is given out")
	}
	l.audit[k] = &e
	return nil
}

// takeUses gives what is noted of uses, if some of it is older than that or there is too much of it.
func (l *readLog) takeUses(before time.Time) map[ConnectionID]time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.fetched) == 0 || l.since.After(before) && len(l.fetched) < maxUses {
		return nil
	}
	fetched := l.fetched
	l.fetched = make(map[ConnectionID]time.Time)
	return fetched
}

// takeLines empties the audit lines.
func (l *readLog) takeLines() []AuditEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	audit := l.audit
	l.audit = make(map[auditKey]*AuditEntry)
	lines := make([]AuditEntry, 0, len(audit))
	for _, line := range audit {
		lines = append(lines, *line)
	}
	return lines
}

// putBack returns lines that could not be written.
func (l *readLog) putBack(lines []AuditEntry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range lines {
		k := auditKey{e.Actor, e.Action, e.Target, e.Environment, e.At.Unix() / 60}
		if line, ok := l.audit[k]; ok {
			line.Count += e.Count
			continue
		}
		l.audit[k] = &e
	}
}

// flushReads writes what was read since the last time, and the uses that have waited long enough.
func (b *Broker) flushReads(ctx context.Context) error {
	if err := b.flushLines(ctx); err != nil {
		return err
	}
	return b.flushUses(ctx, b.Now().Add(-usesWait))
}

func (b *Broker) flushLines(ctx context.Context) error {
	lines := b.reads.takeLines()
	if len(lines) == 0 {
		return nil
	}
	err := b.store.AppendTrail(ctx, Trail{Audit: lines})
	if err != nil {
		b.reads.putBack(lines)
	}
	return err
}

// flushUses writes the uses if some are from before that. Those that cannot be written are forgotten: they come again.
func (b *Broker) flushUses(ctx context.Context, before time.Time) error {
	fetched := b.reads.takeUses(before)
	for ids := range slices.Chunk(slices.Collect(maps.Keys(fetched)), usesAtATime) {
		some := make(map[ConnectionID]time.Time, len(ids))
		for _, id := range ids {
			some[id] = fetched[id]
		}
		if err := b.store.TouchFetched(ctx, some); err != nil {
			return err
		}
	}
	return nil
}

package broker

import (
	"context"
	"sync"
	"time"
)

// readLog collects what happens on the hot path, so that it is written in batches: which connections were used, and who
// read which credential.
type readLog struct {
	mu      sync.Mutex
	fetched map[ConnectionID]time.Time
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

func newReadLog() *readLog {
	return &readLog{fetched: make(map[ConnectionID]time.Time), audit: make(map[auditKey]*AuditEntry)}
}

// used notes that a connection was used.
func (l *readLog) used(id ConnectionID, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
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

// take empties the log.
func (l *readLog) take() (map[ConnectionID]time.Time, []AuditEntry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fetched, audit := l.fetched, l.audit
	l.fetched, l.audit = make(map[ConnectionID]time.Time), make(map[auditKey]*AuditEntry)
	lines := make([]AuditEntry, 0, len(audit))
	for _, line := range audit {
		lines = append(lines, *line)
	}
	return fetched, lines
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

// flushReads writes what was read since the last time.
func (b *Broker) flushReads(ctx context.Context) error {
	fetched, lines := b.reads.take()
	if len(lines) > 0 {
		if err := b.store.AppendTrail(ctx, Trail{Audit: lines}); err != nil {
			b.reads.putBack(lines)
			return err
		}
	}
	if len(fetched) > 0 {
		return b.store.TouchFetched(ctx, fetched)
	}
	return nil
}

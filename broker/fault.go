package broker

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// faults are integrations whose client the provider refuses. Their connections are not to blame, and are not asked for
// again until a probe is due.
type faults struct {
	mu sync.Mutex
	by map[IntegrationID]*fault
}

type fault struct {
	code  string
	probe time.Time
}

// of reports a fault that forbids an attempt now. When a probe is due, the first to ask gets through and the others wait
// for the next.
func (f *faults) of(id IntegrationID, now time.Time) (next time.Time, code string, found bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	x, ok := f.by[id]
	if !ok {
		return time.Time{}, "", false
	}
	if !now.Before(x.probe) {
		x.probe = now.Add(probeEvery)
		return time.Time{}, "", false
	}
	return x.probe, x.code, true
}

func (f *faults) set(id IntegrationID, code string, now time.Time) (isNew bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.by == nil {
		f.by = make(map[IntegrationID]*fault)
	}
	x, known := f.by[id]
	f.by[id] = &fault{code: code, probe: now.Add(probeEvery)}
	return !known || x.code != code
}

func (f *faults) clear(id IntegrationID) (was bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, was = f.by[id]
	delete(f.by, id)
	return was
}

// setFault notes that the provider refuses the integration's client.
func (b *Broker) setFault(ctx context.Context, i *Integration, code string, now time.Time) {
	if b.faults.set(i.ID, code, now) {
		b.log.LogAttrs(ctx, slog.LevelError, "the provider refuses the integration's client",
			slog.String("integration", i.Key), slog.String("code", code))
		b.storeFault(ctx, i, code, now)
	}
}

// clearFault notes that the client works again.
func (b *Broker) clearFault(ctx context.Context, i *Integration) {
	if b.faults.clear(i.ID) || i.Fault != "" {
		b.storeFault(ctx, i, "", time.Time{})
	}
}

// storeFault writes the fault for people to see. What counts is in memory: if the write does not succeed, nothing else
// depends on it.
func (b *Broker) storeFault(ctx context.Context, i *Integration, code string, at time.Time) {
	if i.Fault == code || !i.DeletedAt.IsZero() {
		return
	}
	changed := *i
	changed.Fault, changed.FaultAt = code, at
	err := b.store.UpdateIntegration(ctx, &changed, Trail{Audit: []AuditEntry{b.line(System(i.Environment), "integration.fault", string(i.ID))}})
	if err == nil {
		b.changed(ctx)
	} else {
		b.log.LogAttrs(ctx, slog.LevelWarn, "an integration's fault could not be written", slog.String("integration", i.Key), because(err))
	}
}

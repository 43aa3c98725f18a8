package broker_test

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// history is what has happened, as somebody would know it who sees everything.
type history struct {
	grants    int
	families  map[string]*grantFamily // by refresh token, spent ones included
	presented map[string][]*presentation
	revoked   map[string]bool // refresh tokens that the provider was asked to end
	conns     map[broker.ConnectionID]*modelConn
	order     []*modelConn
	durable   map[string]durable // by access token
	stats     modelStats
}

func newHistory() history {
	return history{
		families: make(map[string]*grantFamily), presented: make(map[string][]*presentation), revoked: make(map[string]bool),
		conns: make(map[broker.ConnectionID]*modelConn), durable: make(map[string]durable),
	}
}

// modelStats count what the runs have met, so that a model that meets nothing is noticed.
type modelStats struct {
	steps, kills, restarts      int
	presented, cut, repeated    int // refresh tokens; those without an answer; those that the provider took twice
	committed, served           int // renewed tokens, and tokens that somebody got
	ended, lost, outcomeLost    int // grants that users ended, those that were spent in doubt, and failures that say so
	refusedLease, refusedClient int
	orphaned, spilled           int // renewals whose connection was deleted, or whose node had to stop before it could store them
}

// modelConn is a connection as it should be stored.
type modelConn struct {
	id      broker.ConnectionID
	name    string
	key     string
	version int64
	family  *grantFamily
	refresh string // the stored refresh token
	deleted bool
	gone    commit // the deletion
	commits []commit
	merges  []string          // members that were merged into the metadata since the last grant
	leased  broker.Credential // as it was with the latest lease
	doubts  map[int64]bool    // versions with an attempt of which nobody knows what it came to
}

// commit is a write that has been made.
type commit struct {
	version int64
	node    *modelNode
	at      time.Time
	known   bool // to whoever made it
}

// durable is an access token that is stored.
type durable struct {
	conn    *modelConn
	version int64
	expires time.Time
}

// nameOf names a connection.
func (w *world) nameOf(id broker.ConnectionID) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.history.conns[id]; c != nil {
		return c.name
	}
	return "new"
}

// forbids reports whether the last failure keeps a credential from being renewed now.
func forbids(c *broker.Credential) bool {
	return c.Failures > 0 && (c.RefreshAt.IsZero() || c.RefreshAt.After(time.Now()))
}

// present notes that a node sends a token. It may if it holds the lease for long enough, if nobody who is alive knows that the
// token counted before, or is about to, and if no failure forbids it of which it could read when it had the lease. One that
// waits for another node's answer reads again.
func (w *world) present(n *modelNode, op, token string) *presentation {
	w.mu.Lock()
	insists := slices.ContainsFunc(w.ops, func(o *modelOp) bool { return o.name == op && o.kind == opForce })
	dead, owner := n.dead, n.owner
	var conn *modelConn
	var had broker.Credential // when the lease was taken
	for _, c := range w.history.order {
		if !c.deleted && c.refresh == token {
			conn, had = c, c.leased
		}
	}
	if dead {
		w.mu.Unlock()
		return new(presentation)
	}
	w.history.stats.presented++
	pr := &presentation{number: w.history.stats.presented, node: n, token: token}
	before := w.history.presented[token]
	w.history.presented[token] = append(before, pr)
	stopped := w.history.families[token].ended != ""
	var breach string
	for _, p := range before {
		switch {
		case p.state == underWay && !p.node.dead:
			breach = fmt.Sprintf("%s presents a token that %s is just presenting", n.name, p.node.name)
		case p.state == delivered && !p.node.dead && !stopped:
			breach = fmt.Sprintf("%s presents a token although %s has the answer", n.name, p.node.name)
		}
		if w.isStored(p.gave) {
			breach = n.name + " presents a token whose answer is stored"
		}
	}
	w.mu.Unlock()
	if conn != nil && breach == "" {
		c, err := w.truth.Credential(w.t.Context(), conn.id)
		switch {
		case err != nil:
			breach = fmt.Sprintf("%s presents a token of %s: %v", n.name, conn.name, err)
		case c.LeaseOwner != owner || time.Until(c.LeaseUntil) < 20*time.Second:
			breach = fmt.Sprintf("%s presents a token of %s, and has no lease or not for long enough", n.name, conn.name)
		case !insists && forbids(&had) && forbids(c):
			breach = fmt.Sprintf("%s presents a token of %s although its last failure forbids it", n.name, conn.name)
		}
	}
	if breach != "" {
		w.breach("%s", breach)
	}
	return pr
}

// isStored reports whether an answer of the provider was stored; the caller holds the lock.
func (w *world) isStored(m *broker.Material) bool {
	if m == nil {
		return false
	}
	_, ok := w.history.durable[m.Access.Reveal()]
	return ok
}

// conclude notes what the sender of a token knows of it now.
func (w *world) conclude(p *presentation, s presentationState, gave *broker.Material) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p.state, p.gave = s, gave
	if s != doubtful {
		return
	}
	w.history.stats.cut++
	for _, c := range w.history.order {
		if c.refresh == p.token {
			c.doubts[c.version] = true
		}
	}
}

// doubt notes that an attempt's end could not be written down.
func (w *world) doubt(id broker.ConnectionID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.history.conns[id]; c != nil {
		c.doubts[c.version] = true
	}
}

// noteLeases notes the attempts that a node is about to leave without an outcome.
func (w *world) noteLeases(n *modelNode) {
	for _, conn := range w.history.order {
		c, err := w.truth.Credential(w.t.Context(), conn.id)
		if err == nil && c.LeaseOwner != "" && c.LeaseOwner == n.owner {
			w.doubt(conn.id)
		}
	}
}

// leased notes a node's name in leases, and whether the lease is one that another let run out.
func (w *world) leased(n *modelNode, id broker.ConnectionID, before, now *broker.Credential, owner string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n.owner = owner
	c := w.history.conns[id]
	if c != nil && now != nil {
		c.leased = *now
	}
	switch {
	case c == nil || before == nil || before.LeaseOwner == "" || before.LeaseOwner == owner:
	case now != nil:
		c.doubts[c.version] = true
	default:
		w.history.stats.refusedLease++
	}
}

// swapped checks a renewed credential that was just stored, or not.
func (w *world) swapped(n *modelNode, s *broker.Swap, err error) {
	conn := w.history.conns[s.Connection]
	w.note("%s swaps %s from %d: %v", n.name, conn.name, s.From, err)
	if errors.Is(err, broker.ErrNotFound) {
		w.mu.Lock()
		w.history.stats.orphaned++
		w.mu.Unlock()
	}
	if err != nil {
		return
	}
	refresh := w.opened(s.Next.Refresh)
	w.mu.Lock()
	family, was := w.history.families[refresh], conn.family
	from, deleted := conn.version, conn.deleted
	w.history.stats.committed++
	w.mu.Unlock()
	switch {
	case deleted:
		w.breach("%s renewed %s, which was deleted", n.name, conn.name)
	case from != s.From:
		w.breach("%s renewed version %d of %s, which had version %d", n.name, s.From, conn.name, from)
	case family != was:
		w.breach("%s replaced a newer grant of %s", n.name, conn.name)
	}
	w.stored(n, conn, s.Next, s.From+1)
}

// granted checks a grant that was just stored, or not.
func (w *world) granted(n *modelNode, op string, g *broker.Grant, err error) {
	w.note("%s %s grants %s: %v", n.name, op, g.Connection.Key, err)
	if err != nil {
		return
	}
	w.mu.Lock()
	conn := w.history.conns[g.Connection.ID]
	if conn == nil {
		conn = &modelConn{
			id: g.Connection.ID, key: g.Connection.Key, doubts: make(map[int64]bool),
			name: fmt.Sprintf("%s#%d", g.Connection.Key, len(w.history.order)),
		}
		w.history.conns[conn.id], w.history.order = conn, append(w.history.order, conn)
	}
	conn.merges = nil
	w.committedBy(op)
	w.mu.Unlock()
	w.stored(n, conn, g.Credential, g.From+1)
}

// stored checks that a credential whose commit has returned is there, and notes it.
func (w *world) stored(n *modelNode, conn *modelConn, next *broker.Credential, version int64) {
	c, err := w.truth.Credential(w.t.Context(), conn.id)
	if err != nil || c.Version != version || string(c.Access) != string(next.Access) || string(c.Refresh) != string(next.Refresh) {
		w.breach("the commit of version %d of %s has returned, and it is not there", version, conn.name)
		return
	}
	access, refresh := w.opened(c.Access), w.opened(c.Refresh)
	w.mu.Lock()
	defer w.mu.Unlock()
	conn.version, conn.refresh, conn.family = version, refresh, w.history.families[refresh]
	conn.commits = append(conn.commits, commit{version: version, node: n, at: time.Now()})
	w.history.durable[access] = durable{conn, version, c.ExpiresAt}
}

// acknowledged notes that the node hears of its latest write to a connection.
func (w *world) acknowledged(n *modelNode, id broker.ConnectionID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	conn := w.history.conns[id]
	if conn == nil {
		return
	}
	for i := range conn.commits {
		conn.commits[i].known = conn.commits[i].known || conn.commits[i].node == n
	}
	conn.gone.known = conn.gone.known || conn.gone.node == n
}

// updated notes a change of metadata.
func (w *world) updated(op string, id broker.ConnectionID, err error) {
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	conn := w.history.conns[id]
	conn.merges = append(conn.merges, op)
	w.committedBy(op)
}

// deleted notes a deletion.
func (w *world) deleted(n *modelNode, op string, id broker.ConnectionID, err error) {
	w.note("%s %s deletes: %v", n.name, op, err)
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	conn := w.history.conns[id]
	conn.deleted, conn.gone = true, commit{node: n, at: time.Now()}
	w.committedBy(op)
}

// committedBy notes that an operation's write was made; the caller holds the lock.
func (w *world) committedBy(op string) {
	for _, o := range w.ops {
		if o.name == op {
			o.committed = true
		}
	}
}

// failed checks a failure that was just recorded.
func (w *world) failed(n *modelNode, f *broker.RefreshFailure, err error) {
	conn := w.history.conns[f.Connection]
	w.note("%s fails %s at %d: %s %s %s %v", n.name, conn.name, f.Version, f.Code, f.Status, f.Reason, err)
	c, missing := w.truth.Credential(w.t.Context(), conn.id)
	if err != nil || missing != nil || c.Version != f.Version {
		return
	}
	w.mu.Lock()
	ended, doubted := conn.family.ended, conn.doubts[conn.version]
	if f.Code == errBadClient.Code {
		w.history.stats.refusedClient++
	}
	if f.Reason == broker.ReasonOutcomeLost {
		w.history.stats.outcomeLost++
	}
	w.mu.Unlock()
	lost := f.Reason == broker.ReasonNeedsReauth || f.Reason == broker.ReasonOutcomeLost
	switch {
	case f.Code == errBadClient.Code && f.Status != "":
		w.breach("%s blames %s for the client", n.name, conn.name)
	case lost && ended == "":
		w.breach("%s gives up %s, whose grant lives", n.name, conn.name)
	case lost && ended == endedByReuse && f.Reason != broker.ReasonOutcomeLost:
		w.breach("%s says of %s that the grant is gone, and not that the outcome of an attempt was lost", n.name, conn.name)
	case f.Reason == broker.ReasonOutcomeLost && !doubted:
		w.breach("%s says of %s that the outcome of an attempt was lost, and there was none", n.name, conn.name)
	}
}

// checkStored compares what is stored with what should be: versions rise by commits and by nothing else, and what was
// deleted stays away.
func (w *world) checkStored() {
	for _, conn := range w.history.order {
		c, err := w.truth.Credential(w.t.Context(), conn.id)
		switch {
		case conn.deleted && !errors.Is(err, broker.ErrNotFound):
			w.breach("%s is back: %v", conn.name, err)
		case !conn.deleted && err != nil:
			w.breach("%s is gone: %v", conn.name, err)
		case !conn.deleted && c.Version != conn.version:
			w.breach("%s has version %d instead of %d", conn.name, c.Version, conn.version)
		}
	}
}

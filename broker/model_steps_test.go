package broker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// opKind is what a caller does.
type opKind string

const (
	opOutbound opKind = "outbound"
	opReveal   opKind = "reveal"
	opForce    opKind = "force"
	opRejected opKind = "rejected"
	opMetadata opKind = "metadata"
	opImport   opKind = "import"
	opDelete   opKind = "delete"
)

// modelOp is an operation of a caller.
type modelOp struct {
	name      string
	kind      opKind
	key       string
	node      *modelNode
	began     time.Time
	floor     map[*modelConn]int64 // versions that it must not fall behind; -1: the connection was deleted
	leave     context.CancelFunc
	committed bool // its write was made
	done      bool
}

type operationKey struct{}

// named puts an operation's name into a context, in which it goes along into whatever the operation sets off.
func named(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, operationKey{}, name)
}

func operation(ctx context.Context) string {
	name, _ := ctx.Value(operationKey{}).(string)
	return name
}

// begin starts an operation.
func (w *world) begin(n *modelNode, kind opKind, key string) {
	ctx, leave := context.WithCancel(context.Background())
	w.mu.Lock()
	o := &modelOp{name: fmt.Sprintf("o%d", len(w.ops)+1), kind: kind, key: key, node: n, began: time.Now(), leave: leave}
	o.floor = w.floorOf(n, key)
	w.ops = append(w.ops, o)
	w.mu.Unlock()
	w.say("%s begins %s %s of %s", n.name, o.name, kind, key)
	ctx = named(ctx, o.name)
	w.exits.Go(func() {
		defer leave()
		access, err := w.perform(ctx, o)
		w.finished(o, access, err)
	})
}

// floorOf gives the versions that a node must know of: its own that were acknowledged, and those of others at once. The
// caller holds the lock.
func (w *world) floorOf(n *modelNode, key string) map[*modelConn]int64 {
	out := make(map[*modelConn]int64)
	known := func(c commit) bool {
		if c.node == n {
			return c.known
		}
		return c.node != nil
	}
	for _, conn := range w.history.order {
		if conn.key != key {
			continue
		}
		for _, c := range conn.commits {
			if known(c) {
				out[conn] = c.version
			}
		}
		if known(conn.gone) {
			out[conn] = -1
		}
	}
	return out
}

// perform does what the operation is about, and gives the access token that its caller got.
func (w *world) perform(ctx context.Context, o *modelOp) (access string, err error) {
	b, ref := o.node.broker, broker.ConnectionRef{Integration: "one", Key: o.key}
	member := map[string]int{o.name: 1}
	switch o.kind {
	case opOutbound, opRejected:
		out, err := b.Outbound(ctx, w.who, ref.Integration, ref.Key)
		if err == nil && o.kind == opRejected {
			out, err = b.Rejected(ctx, out)
		}
		if err != nil || out == nil {
			return "", err
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://api.fake.example.com/", http.NoBody)
		if err != nil {
			return "", err
		}
		err = out.Authorize(r)
		return r.Header.Get("Authorization")[len("Bearer "):], err
	case opReveal, opForce:
		got, err := b.Reveal(ctx, w.who, ref, broker.RevealOptions{ForceRefresh: o.kind == opForce})
		if err == nil && got.Material == nil {
			err = errNoCredential
		}
		if err != nil {
			return "", err
		}
		return got.Material.Access.Reveal(), nil
	case opMetadata:
		raw, err := json.Marshal(member)
		if err != nil {
			return "", err
		}
		return "", b.SetMetadata(ctx, w.who, ref.Integration, []string{ref.Key}, raw, true)
	case opImport:
		_, _, err := b.Import(ctx, w.who, broker.ImportInput{Integration: ref.Integration, Key: ref.Key, Material: w.issue(), Unverified: true})
		return "", err
	case opDelete:
		return "", b.DeleteConnection(ctx, w.who, ref)
	}
	return "", fmt.Errorf("unknown operation %s", o.kind)
}

// errNoCredential is what a caller makes of a connection that is given without a credential: each has one here.
var errNoCredential = broker.ErrInternal.Saying("a connection was given without its credential")

// finished checks what an operation came to.
func (w *world) finished(o *modelOp, access string, err error) {
	w.writing.Lock() // what the operation may have read is noted by now
	defer w.writing.Unlock()
	w.mu.Lock()
	o.done = true
	if o.node.dead { // nobody heard of it
		w.mu.Unlock()
		return
	}
	d, stored := w.history.durable[access]
	if access != "" {
		w.history.stats.served++
	}
	w.mu.Unlock()
	code := "ok"
	if err != nil {
		code = broker.AsError(err).Code
	}
	w.note("%s %s %s of %s: %s %s", o.node.name, o.name, o.kind, o.key, code, access)
	writes := o.kind == opMetadata || o.kind == opImport || o.kind == opDelete
	switch {
	case code == broker.ErrInternal.Code || code == broker.ErrUnreadable.Code:
		w.breach("%s: %v, because of %v", o.name, err, errors.Unwrap(broker.AsError(err)))
	case err == nil && writes && !o.committed:
		w.breach("%s was acknowledged and never committed", o.name)
	case access == "":
	case !stored:
		w.breach("%s was given a token before its commit", o.name)
	case !d.expires.After(o.began):
		w.breach("%s was given a token that had run out", o.name)
	case o.floor[d.conn] < 0:
		w.breach("%s was given a token of %s, which had been deleted", o.name, d.conn.name)
	case d.version < o.floor[d.conn]:
		w.breach("%s was given version %d of %s, which had version %d", o.name, d.version, d.conn.name, o.floor[d.conn])
	}
}

// step lets one thing happen.
func (w *world) step() {
	w.history.stats.steps++
	list := w.waiting()
	if len(list) > 0 && !time.Now().Before(list[0].until) {
		w.proceed(list[0])
		return
	}
	running := 0
	for _, o := range w.ops {
		if !o.done && !o.node.dead {
			running++
		}
	}
	for slot, n := range w.nodes {
		switch {
		case n.dead && w.rng.IntN(8) == 0:
			w.say("%c starts again", 'a'+slot)
			w.history.stats.restarts++
			w.start(slot)
			return
		case n.ended && !n.dead:
			w.say("%s has ended", n.name)
			w.history.stats.spilled += len(n.reserve.left)
			w.kill(n)
			return
		}
	}
	switch x := w.rng.IntN(100); {
	case x < 60 && len(list) > 0:
		w.proceed(list[w.rng.IntN(len(list))])
	case x < 82 && running < 12:
		w.call()
	case x < 95:
		d := pickOf(w.rng, 20*time.Millisecond, 300*time.Millisecond, 2*time.Second, 2*time.Second, 15*time.Second, 61*time.Second, w.life)
		w.say("%s pass", d)
		w.sleep(d)
	default:
		w.trouble(x)
	}
}

// proceed releases a parked call, and decides a request's fate.
func (w *world) proceed(p *parked) {
	f := goOn
	if len(p.fates) > 1 && w.rng.IntN(2) == 0 {
		f = pickOf(w.rng, p.fates...)
	}
	w.say("%s goes on%s", p, [...]string{goOn: "", unavailable: ": 503", refuseClient: ": invalid_client", cutBefore: ": cut off", cutAfter: ": the answer is lost"}[f])
	w.release(p, f)
}

// call has somebody want something.
func (w *world) call() {
	kinds := []opKind{
		opOutbound, opOutbound, opOutbound, opOutbound, opReveal, opReveal, opReveal, opForce, opForce, opForce,
		opRejected, opRejected, opRejected, opMetadata, opMetadata, opMetadata, opMetadata, opImport, opDelete,
	}
	var up []*modelNode
	for _, n := range w.nodes {
		if n.broker != nil && !n.dead && !n.stopping {
			up = append(up, n)
		}
	}
	if len(up) == 0 {
		w.say("nobody is up")
		w.sleep(time.Second)
		return
	}
	kind, key := pickOf(w.rng, kinds...), pickOf(w.rng, modelKeys...)
	if kind == opDelete && w.rng.IntN(2) == 0 {
		kind = opImport
	}
	w.begin(pickOf(w.rng, up...), kind, key)
}

// trouble makes something fail.
func (w *world) trouble(x int) {
	n := pickOf(w.rng, w.nodes...)
	switch {
	case x == 95 && !n.dead:
		w.say("%s is killed", n.name)
		w.history.stats.kills++
		w.kill(n)
	case x == 96 && !n.dead && !n.stopping && w.rng.IntN(2) == 0:
		w.say("%s is told to stop", n.name)
		n.stopping = true
		n.stop()
	case x == 97 || w.full:
		w.fill(!w.full)
	case x == 98:
		w.endGrant(pickOf(w.rng, modelKeys...))
	default:
		o := pickOf(w.rng, w.ops...)
		w.say("the caller of %s leaves", o.name)
		o.leave()
	}
}

// fill has the store refuse writes, or take them again.
func (w *world) fill(full bool) {
	w.mu.Lock()
	w.full = full
	w.mu.Unlock()
	w.say("the store is full: %t", full)
}

// endGrant has the user end a grant at the provider.
func (w *world) endGrant(key string) {
	w.say("the user ends the grant of %s", key)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, conn := range w.history.order {
		if conn.key == key && !conn.deleted && conn.family.ended == "" {
			conn.family.ended = endedByUser
			w.history.stats.ended++
		}
	}
}

// settle takes everything out of the way, gives the nodes time, and checks what the run has come to.
func (w *world) settle() {
	w.say("all is well again")
	if w.seed%3 == 0 {
		w.fill(true)
		w.calm(30 * time.Second)
	}
	w.fill(false)
	w.calm(0)
	for slot, n := range w.nodes {
		if n.stopping && !n.ended {
			w.calm(15 * time.Second)
		}
		if n.ended && !n.dead {
			w.kill(n)
		}
		if n.dead {
			w.start(slot)
			w.calm(0)
		}
	}
	w.calm(w.longEnough())
	if w.isPutOff() {
		w.calm(w.longEnough())
	}
	if !w.sound() {
		return
	}
	for _, conn := range w.history.order {
		w.checkEnd(conn)
	}
	w.sound()
}

// longEnough is how long it takes until clients that were refused are tried again, back-offs are over and tokens have run out.
func (w *world) longEnough() time.Duration {
	end := time.Now().Add(max(8*time.Minute, w.life+time.Minute))
	for _, conn := range w.history.order {
		if c, err := w.truth.Credential(w.t.Context(), conn.id); err == nil && c.Failures > 0 && c.RefreshAt.After(end) {
			end = c.RefreshAt.Add(time.Minute)
		}
	}
	return time.Until(end)
}

// isPutOff reports whether the background has put off a grant that had just been lost: the next attempt notices that.
func (w *world) isPutOff() bool {
	for _, conn := range w.history.order {
		c, err := w.truth.Credential(w.t.Context(), conn.id)
		if err == nil && conn.family.ended != "" && !c.RefreshAt.IsZero() {
			return true
		}
	}
	return false
}

// checkEnd checks a connection at the end of a run.
func (w *world) checkEnd(conn *modelConn) {
	if conn.deleted {
		w.checkRevoked(conn)
		return
	}
	ctx := named(w.t.Context(), "end")
	ref := broker.ConnectionRef{Integration: "one", Key: conn.key}
	for _, n := range w.nodes {
		var got *broker.Revealed
		var err error
		was := conn.family.access
		w.exits.Go(func() { got, err = n.broker.Reveal(ctx, w.who, ref, broker.RevealOptions{}) })
		w.calm(2 * time.Second)
		switch {
		case conn.family.ended != "":
			if !errors.Is(err, broker.ErrNeedsReauth) {
				w.breach("at the end %s gives %v for %s, whose grant has ended", n.name, err, conn.name)
			}
		case err != nil:
			w.breach("at the end %s cannot read %s: %v", n.name, conn.name, err)
		case got.Material.Access.Reveal() != was && got.Material.Access.Reveal() != conn.family.access:
			w.breach("at the end %s has a token of %s that is not the latest", n.name, conn.name)
		case got.Connection.Status != broker.Active:
			w.breach("at the end %s is %s: %s", conn.name, got.Connection.Status, got.Connection.Reason)
		}
	}
	c, err := w.truth.Connection(ctx, w.who.Environment, conn.id)
	if cred, err := w.truth.Credential(ctx, conn.id); err == nil && cred.RefreshAt.IsZero() && conn.family.ended == "" {
		w.breach("at the end nobody renews %s any more", conn.name)
	}
	if err != nil {
		w.breach("at the end: %v", err)
		return
	}
	var members map[string]int
	if len(c.Metadata) > 0 && json.Unmarshal(c.Metadata, &members) != nil {
		w.breach("the metadata of %s are %s", conn.name, c.Metadata)
	}
	for _, op := range conn.merges {
		if members[op] != 1 {
			w.breach("what %s merged into %s is missing", op, conn.name)
		}
	}
}

// checkRevoked checks that the provider was asked to end what a deleted connection had.
func (w *world) checkRevoked(conn *modelConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	missing := ""
	if !w.history.revoked[conn.refresh] {
		missing = conn.refresh
	}
	for token, list := range w.history.presented {
		for _, p := range list {
			if token == conn.refresh && p.state == delivered && !p.node.dead && !w.isStored(p.gave) && !w.history.revoked[p.gave.Refresh.Reveal()] {
				missing = p.gave.Refresh.Reveal()
			}
		}
	}
	if missing != "" && w.broken == "" {
		w.broken = fmt.Sprintf("%s of the deleted %s was not revoked", missing, conn.name)
	}
}

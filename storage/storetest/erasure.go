package storetest

import (
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// erasable stores a connection whose tokens are to be erased after so long, and whose access token lasts so long.
func (f *fixture) erasable(after, life time.Duration) *broker.Connection {
	f.Helper()
	c, cred := f.connection(), f.credential("1")
	cred.EraseAt, cred.Details = f.now().Add(after), broker.Sealed("details")
	if cred.ExpiresAt = f.now().Add(life); life == 0 {
		cred.ExpiresAt = time.Time{}
	}
	f.ok(f.a.PutGrant(f.ctx, &broker.Grant{Connection: c, Credential: cred, New: true}))
	return c
}

// erase erases what is due, and checks how many that were.
func (f *fixture) erase(limit, want int) {
	f.Helper()
	n, err := f.b.EraseTokens(f.ctx, f.now(), limit, broker.AuditEntry{Action: "erase", Result: "ok", Count: 1, At: f.now()})
	f.ok(err)
	if n != want {
		f.Fatalf("the tokens of %d credentials were erased, want %d", n, want)
	}
}

var erasureTests = map[string]func(*fixture){
	"what is due is erased": func(f *fixture) {
		due, later, never := f.erasable(time.Hour, time.Minute), f.erasable(time.Hour+time.Microsecond, time.Minute), f.granted()
		before, want := f.reread(due.ID)
		_, wantLater := f.reread(later.ID)
		_, wantNever := f.reread(never.ID)
		f.clock.advance(time.Hour)
		f.erase(10, 1)
		after, cred := f.reread(due.ID)
		f.same(after, before)
		want.Access, want.Refresh, want.Answer, want.EraseAt = nil, nil, nil, time.Time{}
		f.same(cred, want)
		_, cred = f.reread(later.ID)
		f.same(cred, wantLater)
		_, cred = f.reread(never.ID)
		f.same(cred, wantNever)
		f.erase(10, 0)
	},
	"a good access token stays until it has run out": func(f *fixture) {
		c := f.erasable(time.Hour, 2*time.Hour)
		f.clock.advance(time.Hour)
		f.erase(10, 1)
		_, cred := f.reread(c.ID)
		if len(cred.Refresh)+len(cred.Answer) != 0 || string(cred.Access) != "access 1" || !cred.EraseAt.Equal(cred.ExpiresAt) {
			f.Errorf("it reads %+v", cred)
		}
		f.clock.advance(time.Hour)
		f.erase(10, 1)
		if _, cred = f.reread(c.ID); len(cred.Access) != 0 || !cred.EraseAt.IsZero() {
			f.Errorf("it reads %+v", cred)
		}
	},
	"one that never runs out stays": func(f *fixture) {
		c := f.erasable(time.Hour, 0)
		f.clock.advance(time.Hour)
		f.erase(10, 1)
		if _, cred := f.reread(c.ID); len(cred.Refresh) != 0 || string(cred.Access) != "access 1" || !cred.EraseAt.IsZero() {
			f.Errorf("it reads %+v", cred)
		}
		f.erase(10, 0)
	},
	"each leaves a line": func(f *fixture) {
		elsewhere := f.newEnvironment("prod")
		one, two := f.erasable(0, time.Hour), f.connection()
		two.Environment, two.Integration = elsewhere.ID, f.newIntegrationIn(elsewhere.ID, "slack").ID
		cred := f.credential("1")
		cred.EraseAt = f.now()
		f.ok(f.a.PutGrant(f.ctx, &broker.Grant{Connection: two, Credential: cred, New: true}))
		f.erase(10, 2)
		for _, c := range []*broker.Connection{one, two} {
			lines, err := f.a.Audit(f.ctx, c.Environment, 0, 10)
			f.ok(err)
			if len(lines) != 1 || lines[0].Action != "erase" || lines[0].Target != string(c.ID) || !lines[0].At.Equal(f.now()) {
				f.Errorf("the lines read %+v", lines)
			}
		}
	},
	"no more than that many, those that are longest due first": func(f *fixture) {
		last, first, second := f.erasable(2*time.Hour, time.Minute), f.erasable(0, time.Minute), f.erasable(time.Hour, time.Minute)
		f.clock.advance(2 * time.Hour)
		f.erase(2, 2)
		for c, want := range map[*broker.Connection]bool{first: true, second: true, last: false} {
			if _, cred := f.reread(c.ID); cred.EraseAt.IsZero() != want {
				f.Errorf("erased: %t, want %t", !want, want)
			}
		}
	},
	"a new credential is not the old one": func(f *fixture) {
		renewed, replaced := f.erasable(time.Hour, time.Minute), f.erasable(time.Hour, time.Minute)
		f.ok(f.a.SwapCredential(f.ctx, f.swap(renewed)))
		f.ok(f.a.PutGrant(f.ctx, &broker.Grant{Connection: replaced, Credential: f.credential("2"), From: 1}))
		f.clock.advance(time.Hour)
		f.erase(10, 0)
	},
}

package storetest

import (
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// newRegistration keeps one of the fixture's integration.
func (f *fixture) newRegistration(change func(*broker.Registration)) *broker.Registration {
	f.Helper()
	r := new(broker.Registration)
	fill(r)
	r.Environment, r.Integration, r.CreatedAt = f.env.ID, f.integration.ID, f.now()
	if change != nil {
		change(r)
	}
	f.ok(f.a.PutRegistration(f.ctx, r, f.trail("register")))
	return r
}

// registered reads it on the other handle.
func (f *fixture) registered(r *broker.Registration) (*broker.Registration, error) {
	return f.b.Registration(f.ctx, r.Integration, r.Issuer, r.RedirectURI)
}

var registrationTests = map[string]func(*fixture){
	"round trip": func(f *fixture) {
		r := f.newRegistration(nil)
		f.wrote("register")
		got, err := f.registered(r)
		f.ok(err)
		f.same(got, r)
	},
	"another issuer or redirect URI has another": func(f *fixture) {
		r := f.newRegistration(nil)
		for _, change := range []func(*broker.Registration){
			func(o *broker.Registration) { o.Issuer += "/" },
			func(o *broker.Registration) { o.RedirectURI += "/" },
			func(o *broker.Registration) { o.Integration = f.newIntegration("other").ID },
		} {
			other := *r
			change(&other)
			_, err := f.registered(&other)
			f.refused(err, broker.ErrNotFound)
		}
	},
	"a later one takes its place": func(f *fixture) {
		f.newRegistration(nil)
		f.clock.advance(time.Second)
		later := f.newRegistration(func(r *broker.Registration) { r.Client, r.ExpiresAt = broker.Sealed("later"), time.Time{} })
		got, err := f.registered(later)
		f.ok(err)
		f.same(got, later)
	},
	"of an integration that is gone there is none": func(f *fixture) {
		r := f.newRegistration(nil)
		c := f.connection()
		f.ok(f.a.PutGrant(f.ctx, &broker.Grant{Connection: c, Credential: f.credential("1"), New: true}))
		_, err := f.b.DeleteIntegration(f.ctx, f.integration.ID, f.now(), broker.Trail{}) // its row stays for the revocation
		f.ok(err)
		_, err = f.registered(r)
		f.refused(err, broker.ErrNotFound)
		f.refused(f.b.PutRegistration(f.ctx, r, f.trail("late")), broker.ErrNotFound)
		f.wroteNothing("late")
	},
	"of another environment's integration there is none": func(f *fixture) {
		r := new(broker.Registration)
		fill(r)
		r.Environment, r.Integration = f.newEnvironment("prod").ID, f.integration.ID
		f.refused(f.a.PutRegistration(f.ctx, r, f.trail("foreign")), broker.ErrNotFound)
		f.wroteNothing("foreign")
	},
	"only the one that was made then is dropped": func(f *fixture) {
		old := f.newRegistration(nil)
		f.clock.advance(time.Second)
		later := f.newRegistration(nil)
		f.ok(f.b.DropRegistration(f.ctx, old))
		_, err := f.registered(later)
		f.ok(err)
		f.ok(f.b.DropRegistration(f.ctx, later))
		_, err = f.registered(later)
		f.refused(err, broker.ErrNotFound)
		f.ok(f.b.DropRegistration(f.ctx, later))
	},
	"the sweep takes what is older": func(f *fixture) {
		old := f.newRegistration(func(r *broker.Registration) { r.Issuer = "old" })
		f.clock.advance(time.Hour)
		fresh := f.newRegistration(nil)
		n, err := f.b.SweepRegistrations(f.ctx, f.now())
		f.ok(err)
		f.same(n, 1)
		_, err = f.registered(old)
		f.refused(err, broker.ErrNotFound)
		_, err = f.registered(fresh)
		f.ok(err)
	},
}

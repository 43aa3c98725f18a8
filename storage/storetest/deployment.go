package storetest

import (
	"errors"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

var deploymentTests = map[string]func(*fixture){
	"a fresh store belongs to nobody": func(f *fixture) {
		got, err := f.a.Deployment(f.ctx)
		f.ok(err)
		f.same(got, broker.Deployment{})
	},
	"what it says of itself is kept": func(f *fixture) {
		first := broker.Deployment{Cluster: "one", PublicURL: "https://one.example", AdoptedAt: f.now(), CopiedAt: f.now().Add(time.Second)}
		f.ok(f.a.SetDeployment(f.ctx, "", first, f.trail("claim")))
		got, err := f.b.Deployment(f.ctx)
		f.ok(err)
		f.same(got, first)
		f.wrote("claim")

		second := broker.Deployment{Cluster: "two", PublicURL: "https://two.example", AdoptedAt: f.now().Add(time.Hour)}
		f.ok(f.b.SetDeployment(f.ctx, "one", second, f.trail("adopt")))
		got, err = f.a.Deployment(f.ctx)
		f.ok(err)
		f.same(got, second)
	},
	"nobody overlooks another's": func(f *fixture) {
		f.ok(f.a.SetDeployment(f.ctx, "", broker.Deployment{Cluster: "one", PublicURL: "https://one.example"}, broker.Trail{}))
		for _, from := range []string{"", "two"} {
			f.refused(f.b.SetDeployment(f.ctx, from, broker.Deployment{Cluster: "three"}, f.trail("late")), broker.ErrConflict)
		}
		f.wroteNothing("late")
		got, err := f.b.Deployment(f.ctx)
		f.ok(err)
		f.same(got, broker.Deployment{Cluster: "one", PublicURL: "https://one.example"})
	},
	"one of many claims it": func(f *fixture) {
		errs := race(f, 8, func(s broker.Store, i int) error {
			return s.SetDeployment(f.ctx, "", broker.Deployment{Cluster: string(rune('a' + i)), PublicURL: "https://one.example"}, broker.Trail{})
		})
		if won := count(errs, func(err error) bool { return err == nil }); won != 1 {
			f.Errorf("%d of them claimed it", won)
		}
		if lost := count(errs, func(err error) bool { return errors.Is(err, broker.ErrConflict) }); lost != 7 {
			f.Errorf("%d of them were told that it is another's: %v", lost, errs)
		}
	},
}

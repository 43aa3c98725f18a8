package broker_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// undeclared takes everything out of the configuration file and makes a key that may do everything.
func (r *rig) undeclared() (secret string) {
	r.t.Helper()
	ctx := r.t.Context()
	if err := r.broker.Declare(ctx, nil); err != nil {
		r.t.Fatal(err)
	}
	e, err := r.broker.EnvironmentNamed("dev")
	if err != nil {
		r.t.Fatal(err)
	}
	key, _, err := r.broker.CreateAPIKey(ctx, broker.System(e.ID), e, broker.KeyInput{Name: "k", Scopes: broker.Scopes{broker.ScopeAll}})
	if err != nil {
		r.t.Fatal(err)
	}
	if r.who, err = r.broker.Authenticate(key.Reveal()); err != nil {
		r.t.Fatal(err)
	}
	return key.Reveal()
}

// account is a key of the account with some scopes.
func (r *rig) account(scopes ...broker.Scope) broker.Actor {
	r.t.Helper()
	key, _, err := r.broker.CreateAccountKey(r.t.Context(), broker.System(""), broker.KeyInput{Name: fmt.Sprint("account ", scopes), Scopes: scopes})
	if err != nil {
		r.t.Fatal(err)
	}
	who, err := r.broker.Authenticate(key.Reveal())
	if err != nil {
		r.t.Fatal(err)
	}
	return who
}

// The moment that an environment's deletion returns, nothing of it opens anything: not the token that was served from
// memory, not a key, not a session, not a sign-in that is under way. Its grants are then ended at the provider.
func TestADeletedEnvironmentTakesEverythingAlong(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	secret := r.undeclared()
	ref := r.imported("c", time.Hour)
	if _, err := r.broker.Outbound(ctx, r.who, ref.Integration, ref.Key); err != nil {
		t.Fatal(err)
	}
	session, token, err := r.broker.CreateSession(ctx, r.who, broker.SessionInput{})
	if err != nil {
		t.Fatal(err)
	}
	visitor, err := r.broker.AuthenticateSession(ctx, token.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	_, callback := r.started(visitor)
	account := r.account(broker.ScopeAccount)
	env := r.who.Environment
	if err := r.broker.DeleteEnvironment(ctx, account, env); err != nil {
		t.Fatal(err)
	}

	for what, err := range map[string]error{
		"call":  second(r.broker.Outbound(ctx, r.who, ref.Integration, ref.Key)),
		"read":  second(r.broker.Reveal(ctx, r.who, ref, broker.RevealOptions{})),
		"key":   second(r.broker.EnvironmentByID(env)),
		"again": r.broker.DeleteEnvironment(ctx, account, env),
	} {
		if !errors.Is(err, broker.ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := r.broker.Authenticate(secret); !errors.Is(err, broker.ErrUnauthorized) {
		t.Errorf("its key: %v", err)
	}
	if _, err := r.broker.AuthenticateSession(ctx, token.Reveal()); !errors.Is(err, broker.ErrSessionInvalid) {
		t.Errorf("its session %s: %v", session.ID, err)
	}
	if _, err := r.broker.FinishFlow(ctx, callback); err == nil {
		t.Error("a sign-in went on")
	}
	r.provider.set(func(p *fakeProvider) {
		if len(p.codes) != 0 {
			t.Errorf("codes were exchanged: %v", p.codes)
		}
	})
	if err := r.broker.RevokeDue(ctx); err != nil {
		t.Fatal(err)
	}
	if got := r.provider.revocations(); len(got) != 1 || got[0] != "refresh-token-000001" {
		t.Errorf("revoked %q", got)
	}
	jobs, err := r.store.Revocations(ctx, env, 10)
	if err != nil || len(jobs) != 1 || len(jobs[0].Refresh)+len(jobs[0].Access) != 0 {
		t.Errorf("revocations: %+v, %v", jobs, err)
	}
	r.left(env, "environment.delete", broker.EventDeleted)
}

// left checks that the environment's trail, which outlives it, ends in an act and holds an event.
func (r *rig) left(env broker.EnvironmentID, action string, kind broker.EventKind) {
	r.t.Helper()
	lines, err := r.store.Audit(r.t.Context(), env, 0, 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	events, err := r.store.Events(r.t.Context(), env, 0, 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	acts, told := 0, 0
	for _, l := range lines {
		if l.Action == action && strings.HasPrefix(l.Actor, "key:") && l.Target == string(env) {
			acts++
		}
	}
	for _, e := range events {
		if e.Kind == kind && e.Key == "c" && e.ID != "" {
			told++
		}
	}
	if acts != 1 || told != 1 {
		r.t.Errorf("%d lines of %s and %d events %s", acts, action, told, kind)
	}
}

// A renewal that is under way when its environment goes brings nothing back, and what it got is ended too.
func TestAnEnvironmentThatGoesDuringARenewalStaysGone(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	r.undeclared()
	ref := r.imported("c", time.Hour)
	r.clock.advance(2 * time.Hour)
	asked, proceed := make(chan struct{}), make(chan struct{})
	r.provider.set(func(p *fakeProvider) {
		p.after = func(int) error { close(asked); <-proceed; return nil }
	})
	result := make(chan error, 1)
	go func() {
		_, err := r.broker.Reveal(ctx, r.who, ref, broker.RevealOptions{})
		result <- err
	}()
	<-asked
	if err := r.broker.DeleteEnvironment(ctx, broker.System(""), r.who.Environment); err != nil {
		t.Fatal(err)
	}
	close(proceed)
	if err := <-result; !errors.Is(err, broker.ErrNotFound) {
		t.Fatalf("got %v", err)
	}
	if err := r.broker.RevokeDue(ctx); err != nil {
		t.Fatal(err)
	}
	if got := r.provider.revocations(); len(got) != 2 || got[0] == got[1] {
		t.Fatalf("revoked %q, want the old and the new refresh token", got)
	}
}

// What the file declares is changed there, the one named prod is not deleted by a call, and a name is free again.
func TestWhichEnvironmentsCanBeDeleted(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	account := r.account(broker.ScopeEnvironmentsCreate, broker.ScopeEnvironmentsDelete)
	if err := r.broker.DeleteEnvironment(ctx, account, r.who.Environment); !errors.Is(err, broker.ErrManagedByConfig) {
		t.Errorf("declared: %v", err)
	}
	prod, err := r.broker.CreateEnvironment(ctx, account, "prod")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.broker.DeleteEnvironment(ctx, account, prod.ID); !errors.Is(err, broker.ErrConflict) {
		t.Errorf("prod: %v", err)
	}
	var ids []broker.EnvironmentID
	for range 2 {
		e, err := r.broker.CreateEnvironment(ctx, account, "staging")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.broker.CreateEnvironment(ctx, account, "staging"); !errors.Is(err, broker.ErrConflict) {
			t.Errorf("twice: %v", err)
		}
		if err := r.broker.DeleteEnvironment(ctx, account, e.ID); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, e.ID)
	}
	if ids[0] == ids[1] {
		t.Error("an id came back")
	}
	for _, who := range []broker.Actor{r.who, r.account(broker.ScopeKeysCreate)} {
		if _, err := r.broker.CreateEnvironment(ctx, who, "more"); !errors.Is(err, broker.ErrInsufficientScope) {
			t.Errorf("create: %v", err)
		}
		if err := r.broker.DeleteEnvironment(ctx, who, prod.ID); !errors.Is(err, broker.ErrInsufficientScope) {
			t.Errorf("delete: %v", err)
		}
	}
}

// The account's keys and the environments' are told apart by what they hold, whoever makes them.
func TestKeysHoldScopesOfTheirOwnKind(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	e, err := r.broker.EnvironmentNamed("dev")
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []broker.Scopes{{broker.ScopeAccount}, {broker.ScopeAll, broker.ScopeKeysCreate}, {}} {
		if _, _, err := r.broker.CreateAPIKey(ctx, broker.System(e.ID), e, broker.KeyInput{Name: "k", Scopes: wrong}); !errors.Is(err, broker.ErrInvalidRequest) {
			t.Errorf("an environment's key with %v: %v", wrong, err)
		}
	}
	for _, wrong := range []broker.Scopes{{broker.ScopeAll}, {broker.ScopeAccount, broker.ScopeProxy}, {}} {
		if _, _, err := r.broker.CreateAccountKey(ctx, broker.System(""), broker.KeyInput{Name: "k", Scopes: wrong}); !errors.Is(err, broker.ErrInvalidRequest) {
			t.Errorf("an account's key with %v: %v", wrong, err)
		}
	}
	account := r.account(broker.ScopeAccount)
	if account.Environment != "" {
		t.Fatalf("the account's key belongs to %s", account.Environment)
	}
	if list, err := r.broker.AccountKeys(ctx); err != nil || len(list) != 1 || list[0].Hint == "" {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err := r.broker.APIKeys(ctx, e); err != nil || len(list) != 1 {
		t.Errorf("the environment has %d keys, %v", len(list), err)
	}
	if _, err := r.broker.Outbound(ctx, account, "one", "c"); !errors.Is(err, broker.ErrInsufficientScope) {
		t.Errorf("proxy: %v", err)
	}
	if _, err := r.broker.Integrations(ctx, account); !errors.Is(err, broker.ErrInsufficientScope) {
		t.Errorf("integrations: %v", err)
	}
}

// Fifty living keys are the most that an environment has; one that is gone makes room. The preset key is the file's.
func TestAnEnvironmentHasFiftyKeys(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	account := r.account(broker.ScopeAccount)
	e, err := r.broker.EnvironmentNamed("dev")
	if err != nil {
		t.Fatal(err)
	}
	var last *broker.APIKey
	for i := range 49 { // the preset one counts
		if _, last, err = r.broker.CreateAPIKey(ctx, account, e, broker.KeyInput{Name: fmt.Sprint(i), Scopes: broker.Scopes{broker.ScopeAll}}); err != nil {
			t.Fatal(i, err)
		}
	}
	var e50 *broker.Error
	_, _, err = r.broker.CreateAPIKey(ctx, account, e, broker.KeyInput{Name: "more", Scopes: broker.Scopes{broker.ScopeAll}})
	if !errors.As(err, &e50) || e50.Code != broker.ErrConflict.Code || e50.Field != "keys" {
		t.Fatalf("the 51st: %v", err)
	}
	if err := r.broker.DeleteAPIKey(ctx, account, e, r.who.Key); !errors.Is(err, broker.ErrManagedByConfig) {
		t.Errorf("the preset key: %v", err)
	}
	if err := r.broker.DeleteAPIKey(ctx, r.who, e, last.ID); !errors.Is(err, broker.ErrInsufficientScope) {
		t.Errorf("with an environment's key: %v", err)
	}
	if err := r.broker.DeleteAPIKey(ctx, account, e, account.Key); !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("another's key: %v", err)
	}
	if err := r.broker.DeleteAPIKey(ctx, account, e, last.ID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.broker.CreateAPIKey(ctx, account, e, broker.KeyInput{Name: "more", Scopes: broker.Scopes{broker.ScopeAll}}); err != nil {
		t.Errorf("after one has gone: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

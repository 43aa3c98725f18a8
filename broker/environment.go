package broker

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"time"

	"github.com/google/uuid"
)

// EnvironmentID names an environment.
type EnvironmentID string

// StartMode says when a sign-in may leave for the provider without a click on our own page.
type StartMode string

// The start modes.
const (
	StartAuto     StartMode = "auto"     // at once only from our own page, an allowed origin, or no browser at all
	StartPage     StartMode = "page"     // always with a click
	StartRedirect StartMode = "redirect" // always at once
)

// Environment is a tenant: nothing of one is visible in another.
type Environment struct {
	ID             EnvironmentID
	Name           string // a-z, 0-9, _ and -
	DisplayName    string // what end users read; empty: Name
	AllowedOrigins []string
	ReturnURLs     []string
	Start          StartMode
	Managed        bool // declared in the configuration file
	CreatedAt      time.Time
	UpdatedAt      time.Time
}

var environmentName = regexp.MustCompile(`^[a-z0-9_-]+$`)

// Validate reports the first thing that is wrong with the environment.
func (e *Environment) Validate() error {
	if e.ID == "" {
		return ErrInternal.Saying("an environment needs an id")
	}
	if len(e.Name) > 255 || !environmentName.MatchString(e.Name) {
		return ErrInvalidRequest.Saying("an environment's name has 1 to 255 of a-z, 0-9, _ and -").On("name")
	}
	switch e.Start {
	case StartAuto, StartPage, StartRedirect:
	default:
		return ErrInvalidRequest.Saying("start must be auto, page or redirect").On("start")
	}
	for _, o := range e.AllowedOrigins {
		if !validOrigin(o) {
			return ErrInvalidRequest.Saying("an allowed origin is a scheme, a host and perhaps a port: " + quote(o)).On("allowed_origins")
		}
	}
	for _, u := range e.ReturnURLs {
		if _, err := parseReturnURL(u); err != nil {
			return ErrInvalidRequest.Saying("a return URL is https, or http on this machine, without user, query and fragment: " + quote(u)).On("return_urls")
		}
	}
	return nil
}

// Label is what end users read.
func (e *Environment) Label() string {
	if e.DisplayName != "" {
		return e.DisplayName
	}
	return e.Name
}

// DeclaredEnvironment is an environment as a configuration file declares it.
type DeclaredEnvironment struct {
	Environment  Environment // without ID and times
	SecretKey    Secret      // a fixed API key; zero: none
	Integrations []IntegrationInput
	Webhook      DeclaredWebhook
}

// Declare writes what the configuration file says. What is the same already is left alone; what has left the file stays
// and can be changed over the API again.
func (b *Broker) Declare(ctx context.Context, list []DeclaredEnvironment) error {
	for again := range declareTries {
		err := b.declare(ctx, list)
		if !errors.Is(err, ErrConflict) || again == declareTries-1 {
			return err
		}
		// Another node starts at the same time, with the same file as a rule: what it has written is taken as it is.
		select {
		case <-time.After(jitter(declarePause)):
		case <-ctx.Done():
			return err
		}
		if err := b.reload(ctx); err != nil {
			return err
		}
	}
	return nil
}

// How often what is declared is written again when somebody else has written it meanwhile, and the pause before that.
const (
	declareTries = 5
	declarePause = 100 * time.Millisecond
)

func (b *Broker) declare(ctx context.Context, list []DeclaredEnvironment) error {
	declared := make(map[EnvironmentID]bool)
	integrations := make(map[IntegrationID]bool)
	keys := make(map[APIKeyID]bool)
	for _, d := range list {
		e, err := b.declareEnvironment(ctx, d)
		if err != nil {
			return fmt.Errorf("environment %s: %w", d.Environment.Name, err)
		}
		declared[e.ID] = true
		if err := b.declareWebhook(ctx, e.ID, d.Webhook); err != nil {
			return fmt.Errorf("environment %s: %w", e.Name, err)
		}
		if !d.SecretKey.IsZero() {
			k, err := b.declareKey(ctx, e, d.SecretKey)
			if err != nil {
				return fmt.Errorf("environment %s: secret_key: %w", e.Name, err)
			}
			keys[k] = true
		}
		for _, in := range d.Integrations {
			i, err := b.declareIntegration(ctx, e, in)
			if err != nil {
				return fmt.Errorf("environment %s: integration %s: %w", e.Name, in.Key, err)
			}
			integrations[i] = true
		}
	}
	return b.release(ctx, declared, integrations, keys)
}

// declareEnvironment creates or changes an environment.
func (b *Broker) declareEnvironment(ctx context.Context, d DeclaredEnvironment) (*Environment, error) {
	e := d.Environment
	e.Managed = true
	if e.Start == "" {
		e.Start = StartAuto
	}
	now := b.Now()
	e.ID, e.CreatedAt, e.UpdatedAt = EnvironmentID(uuid.NewString()), now, now
	if old, err := b.EnvironmentNamed(e.Name); err == nil {
		e.ID, e.CreatedAt, e.UpdatedAt = old.ID, old.CreatedAt, old.UpdatedAt
		if reflect.DeepEqual(*old, e) {
			return old, nil
		}
		e.UpdatedAt = now
	}
	return &e, b.saveEnvironment(ctx, System(e.ID), &e)
}

// CreateEnvironment makes one that no file declares. It has no API key yet. Errors: conflict when the name is taken.
func (b *Broker) CreateEnvironment(ctx context.Context, who Actor, name string) (*Environment, error) {
	if err := who.Allow(ScopeEnvironmentsCreate); err != nil {
		return nil, err
	}
	if _, err := b.EnvironmentNamed(name); err == nil {
		return nil, ErrConflict.Saying("an environment of that name exists").On("name")
	}
	now := b.Now()
	e := &Environment{ID: EnvironmentID(uuid.NewString()), Name: name, Start: StartAuto, CreatedAt: now, UpdatedAt: now}
	return e, b.saveEnvironment(ctx, who, e)
}

// protectedEnvironment is the name of the one environment that nobody deletes by a call.
const protectedEnvironment = "prod"

// DeleteEnvironment deletes an environment with everything in it: its keys and sessions count no more, and its
// connections end as when their integrations are deleted. Errors: not_found; managed_by_config; conflict for the
// one that is named prod.
func (b *Broker) DeleteEnvironment(ctx context.Context, who Actor, id EnvironmentID) error {
	if err := who.Allow(ScopeEnvironmentsDelete); err != nil {
		return err
	}
	e, err := b.EnvironmentByID(id)
	switch {
	case err != nil:
		return err
	case e.Managed:
		return ErrManagedByConfig
	case e.Name == protectedEnvironment:
		return ErrConflict.Saying("the environment prod cannot be deleted").On("environment")
	}
	who.Environment = id
	if _, err := b.store.DeleteEnvironment(ctx, id, b.Now(), b.audited(who, "environment.delete", string(id))); err != nil {
		return err
	}
	b.cache.clear()
	b.changed(ctx)
	return nil
}

// EnvironmentByID finds an environment for a caller that belongs to none.
func (b *Broker) EnvironmentByID(id EnvironmentID) (*Environment, error) {
	return b.Environment(Actor{Environment: id})
}

func (b *Broker) saveEnvironment(ctx context.Context, who Actor, e *Environment) error {
	if err := e.Validate(); err != nil {
		return err
	}
	who.Environment = e.ID
	if err := b.store.SaveEnvironment(ctx, e, b.audited(who, "environment.save", string(e.ID))); err != nil {
		return err
	}
	b.changed(ctx)
	return nil
}

// release lets go of what was declared once and is not any more.
func (b *Broker) release(ctx context.Context, envs map[EnvironmentID]bool, ints map[IntegrationID]bool, keys map[APIKeyID]bool) error {
	s := b.snapshot.Load()
	for _, e := range s.environments {
		if e.Managed && !envs[e.ID] {
			free := *e
			free.Managed, free.UpdatedAt = false, b.Now()
			if err := errors.Join(b.saveEnvironment(ctx, System(free.ID), &free), b.releaseWebhook(ctx, e.ID)); err != nil {
				return err
			}
		}
	}
	for _, i := range s.byKey {
		if i.Managed && !ints[i.ID] {
			free := *i
			free.Managed, free.UpdatedAt = false, b.Now()
			if err := b.saveIntegration(ctx, System(i.Environment), &free); err != nil {
				return err
			}
		}
	}
	for _, k := range s.keys {
		if k.key.Managed && !keys[k.key.ID] {
			// A key that left the file must not go on opening the door.
			err := b.store.RevokeAPIKey(ctx, k.key.ID, b.Now(), b.audited(System(k.key.Environment), "apikey.revoke", string(k.key.ID)))
			if err != nil && !errors.Is(err, ErrNotFound) { // then another node that starts has been faster
				return err
			}
		}
	}
	b.changed(ctx)
	return nil
}

package broker

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Webhook says where the app of an environment is told what happens to its connections, and what that is signed with. It
// is kept apart from [Environment]: a key that the command line makes must not be lost to a change of something else.
type Webhook struct {
	Environment       EnvironmentID
	URL               string
	SecondaryURL      string // is told the same, independently of the first
	MuteCreation      bool   // connections that come to be, or fail to, are not told; re-authorizations always are
	MuteRefreshErrors bool
	NoLegacySignature bool      // the older of the primary API's two signatures is left out
	Key               Sealed    // signs; its Version is part of what it is bound to
	Version           int64     // bumped by every new key
	OldKey            Sealed    // the key before, valid beside it until OldUntil
	OldUntil          time.Time // zero: there is none
	Managed           bool      // the key stands in the configuration file
	Stopped           []string  // addresses that said that nothing is to be sent to them any more
	Revision          int64     // bumped by every change; the guard of concurrent ones
	UpdatedAt         time.Time
}

// DeclaredWebhook is what a configuration file says about it.
type DeclaredWebhook struct {
	URL               string
	SecondaryURL      string
	Key               Secret // zero: one is made
	MuteCreation      bool
	MuteRefreshErrors bool
	NoLegacySignature bool
}

const (
	// webhookKeyPrefix begins a key whose rest is base64, as Standard Webhooks writes it.
	webhookKeyPrefix = "whsec_"
	// oldKeyFor is how long a receiver may take to learn a new key.
	oldKeyFor = 24 * time.Hour
	// maxStopped bounds the addresses that are remembered as gone, of which the oldest is forgotten.
	maxStopped = 1000
	// maxReceiver bounds an address, in bytes. With what it is told of, it has to fit into a row of an index (see maxTags).
	maxReceiver = 2048
)

func webhookKeyPlace(env EnvironmentID, version int64) place {
	return place{environment: env, column: columnWebhookKey, row: string(env), version: version}
}

// newWebhookKey makes a key of 32 random bytes.
func newWebhookKey() Secret {
	buf := make([]byte, 32)
	_, _ = rand.Read(buf)
	return NewSecret(webhookKeyPrefix + base64.StdEncoding.EncodeToString(buf))
}

// checkWebhookKey refuses a key that could be guessed, or that receivers could not read.
func checkWebhookKey(key Secret) error {
	text := key.Reveal()
	encoded, standard := strings.CutPrefix(text, webhookKeyPrefix)
	if !standard {
		if len(text) < minKeyLength {
			return ErrInvalidRequest.Saying("a signing key needs at least 16 characters").On("webhook.secret")
		}
		return nil
	}
	if raw, err := base64.StdEncoding.DecodeString(encoded); err != nil || len(raw) < 24 || len(raw) > 64 {
		return ErrInvalidRequest.Saying("what follows whsec_ must be 24 to 64 bytes in base64").On("webhook.secret")
	}
	return nil
}

// setKey gives the webhook a new key, and lets the one before count for a while.
func (b *Broker) setKey(w *Webhook, key Secret) (err error) {
	if len(w.Key) > 0 {
		w.OldKey, w.OldUntil = w.Key, b.Now().Add(oldKeyFor)
	}
	w.Version++
	w.Key, err = b.seal(webhookKeyPlace(w.Environment, w.Version), key)
	return err
}

// webhookKey opens the key that signs.
func (b *Broker) webhookKey(w *Webhook) (Secret, error) {
	return b.open(webhookKeyPlace(w.Environment, w.Version), w.Key)
}

// webhookKeys opens every key that is valid now, the newest first.
func (b *Broker) webhookKeys(w *Webhook) ([]Secret, error) {
	key, err := b.webhookKey(w)
	if err != nil || len(w.OldKey) == 0 || !b.Now().Before(w.OldUntil) {
		return []Secret{key}, err
	}
	old, err := b.open(webhookKeyPlace(w.Environment, w.Version-1), w.OldKey)
	return []Secret{key, old}, err
}

// changeWebhook reads an environment's webhook, changes it and writes it, again from the start when somebody else was
// faster. An environment that has none yet gets one, with a key. Where apply reports no change nothing is written.
func (b *Broker) changeWebhook(ctx context.Context, who Actor, action string, apply func(w *Webhook) (changed bool, err error)) (*Webhook, error) {
	for attempt := 0; ; attempt++ {
		w, err := b.storedWebhook(ctx, who.Environment)
		if err != nil {
			return nil, err
		}
		changed, err := apply(w)
		if err != nil {
			return nil, err
		}
		if len(w.Key) == 0 {
			if err := b.setKey(w, newWebhookKey()); err != nil {
				return nil, err
			}
		} else if !changed {
			return w, nil
		}
		w.UpdatedAt = b.Now()
		err = b.store.SaveWebhook(ctx, w, b.audited(who, action, string(who.Environment)))
		if err == nil {
			w.Revision++
			b.changed(ctx)
			return w, nil
		}
		if !errors.Is(err, ErrConflict) || attempt == 5 {
			return nil, err
		}
	}
}

// storedWebhook reads an environment's webhook as it is now, whoever has changed it; an empty one where there is none.
func (b *Broker) storedWebhook(ctx context.Context, env EnvironmentID) (*Webhook, error) {
	all, err := b.store.Webhooks(ctx)
	if err != nil {
		return nil, err
	}
	for _, w := range all {
		if w.Environment == env {
			return w, nil
		}
	}
	return &Webhook{Environment: env}, nil
}

// declareWebhook makes an environment's webhook what the configuration file says. A key that is not in the file stays
// what it is. Addresses that were given up are tried again once one of them has changed.
func (b *Broker) declareWebhook(ctx context.Context, env EnvironmentID, d DeclaredWebhook) error {
	for _, x := range [...]struct{ name, address string }{{"webhook.url", d.URL}, {"webhook.secondary_url", d.SecondaryURL}} {
		if err := b.checkReceiver(x.address, x.name); err != nil {
			return fmt.Errorf("%s: %w", x.name, err)
		}
	}
	if !d.Key.IsZero() {
		if err := checkWebhookKey(d.Key); err != nil {
			return fmt.Errorf("webhook.secret: %w", err)
		}
	}
	_, err := b.changeWebhook(ctx, System(env), "webhook.declare", func(w *Webhook) (bool, error) {
		before := *w
		if w.URL != d.URL || w.SecondaryURL != d.SecondaryURL {
			w.Stopped = nil
		}
		w.URL, w.SecondaryURL, w.MuteCreation = d.URL, d.SecondaryURL, d.MuteCreation
		w.MuteRefreshErrors, w.NoLegacySignature, w.Managed = d.MuteRefreshErrors, d.NoLegacySignature, !d.Key.IsZero()
		if w.Managed {
			if key, err := b.webhookKey(w); err == nil && key.Reveal() == d.Key.Reveal() && !key.IsZero() {
				return !sameWebhook(&before, w), nil
			}
			return true, b.setKey(w, d.Key)
		}
		return !sameWebhook(&before, w), nil
	})
	return err
}

// releaseWebhook lets go of a key that a configuration file declared once and does not any more.
func (b *Broker) releaseWebhook(ctx context.Context, env EnvironmentID) error {
	_, err := b.changeWebhook(ctx, System(env), "webhook.release", func(w *Webhook) (changed bool, err error) {
		changed, w.Managed = w.Managed, false
		return changed, nil
	})
	return err
}

// sameWebhook compares what a configuration file can change, but for the key.
func sameWebhook(x, y *Webhook) bool {
	return x.URL == y.URL && x.SecondaryURL == y.SecondaryURL && x.MuteCreation == y.MuteCreation && x.Managed == y.Managed &&
		x.MuteRefreshErrors == y.MuteRefreshErrors && x.NoLegacySignature == y.NoLegacySignature && slices.Equal(x.Stopped, y.Stopped)
}

// checkReceiver refuses an address that must not be contacted, naming the input. An empty one stands for none.
func (b *Broker) checkReceiver(raw, field string) error {
	if raw == "" || b.courier == nil {
		return nil
	}
	if len(raw) > maxReceiver {
		return ErrInvalidRequest.Saying("the address of a webhook has at most 2048 characters").On(field)
	}
	if err := b.courier.CheckURL(raw); err != nil {
		return ErrURLNotAllowed.Saying("webhooks go to https addresses of public hosts alone").On(field).Because(err)
	}
	return nil
}

// fieldOverride is how callers name the address that replaces an environment's.
const fieldOverride = "webhook_url_override"

// WebhookKey gives the key that an environment's webhooks are signed with, and leaves a trace. It makes one where there
// is none yet.
func (b *Broker) WebhookKey(ctx context.Context, who Actor) (Secret, error) {
	if err := who.Allow(ScopeSigningKeyRotate); err != nil {
		return Secret{}, err
	}
	w, err := b.changeWebhook(ctx, who, "webhook.create", func(*Webhook) (bool, error) { return false, nil })
	if err != nil {
		return Secret{}, err
	}
	if err := b.store.AppendTrail(ctx, b.audited(who, "webhook.key.read", string(who.Environment))); err != nil {
		return Secret{}, err
	}
	return b.webhookKey(w)
}

// RotateWebhookKey makes a new key and gives it. The one before stays valid beside it for a day. Errors: managed_by_config.
func (b *Broker) RotateWebhookKey(ctx context.Context, who Actor) (Secret, error) {
	if err := who.Allow(ScopeSigningKeyRotate); err != nil {
		return Secret{}, err
	}
	key := newWebhookKey()
	_, err := b.changeWebhook(ctx, who, "webhook.key.rotate", func(w *Webhook) (bool, error) {
		if w.Managed {
			return false, ErrManagedByConfig.Saying("the signing key stands in the configuration file")
		}
		return true, b.setKey(w, key)
	})
	return key, err
}

// stopReceiver remembers that an address wants nothing any more.
func (b *Broker) stopReceiver(ctx context.Context, env EnvironmentID, address string) error {
	_, err := b.changeWebhook(ctx, System(env), "webhook.stop", func(w *Webhook) (bool, error) {
		if slices.Contains(w.Stopped, address) {
			return false, nil
		}
		w.Stopped = append(w.Stopped, address)
		w.Stopped = w.Stopped[max(0, len(w.Stopped)-maxStopped):]
		return true, nil
	})
	return err
}

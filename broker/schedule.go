package broker

import (
	"math/rand/v2"
	"time"
)

// Back-off after transient failures.
const (
	firstBackoff = time.Second
	lastBackoff  = 15 * time.Minute
)

// defaultMargin is how long before its end a token is renewed, if its entry says nothing and it lives long enough.
const defaultMargin = 15 * time.Minute

// margin is how long before its end a credential should be renewed.
func margin(f *Facts, c *Credential) time.Duration {
	life := c.ExpiresAt.Sub(c.ObtainedAt)
	switch {
	case f.RefreshBuffer > 0 && (life <= 0 || f.RefreshBuffer < life):
		return max(f.RefreshBuffer, servesFor(f, c))
	case life > 0:
		return max(min(defaultMargin, life/4), servesFor(f, c))
	}
	return defaultMargin
}

// servesFor is how long a served credential lasts at least, if it can be renewed at all. One that never lasts so long
// would be renewed for every call; a quarter of its life has to do.
func servesFor(f *Facts, c *Credential) time.Duration {
	least := max(minServed, f.ServesBuffer)
	if life := c.ExpiresAt.Sub(c.ObtainedAt); life > 0 && life < 2*least {
		return life / 4
	}
	return least
}

// due reports whether a credential should be renewed by now.
func due(f *Facts, c *Credential, now time.Time) bool {
	if !c.RefreshAt.IsZero() && !now.Before(c.RefreshAt) {
		return true
	}
	return !c.ExpiresAt.IsZero() && c.ExpiresAt.Sub(now) < margin(f, c)
}

// schedule sets when the background renews a fresh credential: somewhat earlier than a caller would have to, and not at
// the same moment as every other that was made with it.
func schedule(f *Facts, c *Credential, renewable bool) {
	c.RefreshAt = time.Time{}
	if !renewable {
		c.RefreshAt = c.ExpiresAt // when its end is noted
		return
	}
	if f.OnDemand {
		return
	}
	if !c.ExpiresAt.IsZero() {
		m := margin(f, c)
		c.RefreshAt = cut(c.ExpiresAt.Add(-m - spread(m/2)))
		if earliest := c.ObtainedAt.Add(time.Second); c.RefreshAt.Before(earliest) {
			c.RefreshAt = earliest
		}
	}
	if f.RefreshIdle > 0 {
		// Unused for so long, the refresh token would die: it is exercised in good time.
		exercise := cut(c.ObtainedAt.Add(f.RefreshIdle*3/4 - spread(f.RefreshIdle/8)))
		if c.RefreshAt.IsZero() || exercise.Before(c.RefreshAt) {
			c.RefreshAt = exercise
		}
	}
}

// spread is a random part of d.
func spread(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return chance(d)
}

// chance is a duration from zero up to d. It is a variable so that a test can have a run happen again as it did.
var chance = rand.N[time.Duration] // it spreads load; nobody gains by guessing it

// jitter is between half of d and d.
func jitter(d time.Duration) time.Duration { return d/2 + spread(d/2) }

// backoff is the pause after n failures in a row: full jitter under a bound that doubles.
func backoff(n int) time.Duration {
	bound := lastBackoff
	if n < 20 {
		bound = min(lastBackoff, firstBackoff<<n)
	}
	return max(firstBackoff, spread(bound))
}

// cut gives a time as the store keeps it.
func cut(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC().Truncate(time.Microsecond)
}

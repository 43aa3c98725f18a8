package broker

import (
	"hash/maphash"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// fixedChance takes the place of the random durations while it is set.
var fixedChance atomic.Pointer[func(time.Duration) time.Duration]

func init() {
	chance = func(d time.Duration) time.Duration {
		if f := fixedChance.Load(); f != nil {
			return (*f)(d)
		}
		return rand.N(d)
	}
}

// FixChance has random durations come from f until the returned function is called.
func FixChance(f func(time.Duration) time.Duration) (restore func()) {
	fixedChance.Store(&f)
	return func() { fixedChance.Store(nil) }
}

// KeepShardsApart gives each of the integration's connections of those keys a shard of the cache of its own: which of them
// share one, and see each other's writes, is otherwise different in each run.
func (b *Broker) KeepShardsApart(integration IntegrationID, keys []string) {
	for distinct := false; !distinct; {
		b.cache.seed, distinct = maphash.MakeSeed(), true
		taken := make(map[*atomic.Uint64]bool)
		for _, key := range keys {
			s := b.cache.shard(cacheKey{integration, key})
			distinct = distinct && !taken[s]
			taken[s] = true
		}
	}
}

// EndCaches ends the goroutines that clean the caches up, which otherwise end when the caches are collected.
func (b *Broker) EndCaches() {
	b.cache.entries.StopAllGoroutines()
	b.rejections.StopAllGoroutines()
}

package broker

import (
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// cacheKey is how callers name a connection.
type cacheKey struct {
	integration IntegrationID
	key         string
}

// shards is how many counters guard the cache; a write makes the entries of one shard unusable, so it is well above the
// number of writes that happen while an entry is of use.
const shards = 4096

// maxCached bounds how long an entry is kept, however long its token lasts.
const maxCached = time.Hour

// cache keeps the credentials that are in use open in memory: access tokens, ready to be put into a request, and never a
// refresh token. An entry counts only as long as nothing was written to its connection since before it was read.
type cache struct {
	entries *otter.Cache[cacheKey, *Outbound]
	seed    maphash.Seed
	writes  [shards]atomic.Uint64
}

func newCache(size int) (*cache, error) {
	entries, err := otter.New(&otter.Options[cacheKey, *Outbound]{
		MaximumSize:      size,
		ExpiryCalculator: otter.ExpiryWriting[cacheKey, *Outbound](maxCached),
	})
	if err != nil {
		return nil, err
	}
	return &cache{entries: entries, seed: maphash.MakeSeed()}, nil
}

// shard gives the counter of writes to the connection.
func (c *cache) shard(k cacheKey) *atomic.Uint64 {
	return &c.writes[maphash.Comparable(c.seed, k)%shards]
}

// get gives an entry that nothing was written to since it was read.
func (c *cache) get(k cacheKey) (*Outbound, bool) {
	o, ok := c.entries.GetIfPresent(k)
	if !ok || o.generation != o.writes.Load() {
		return nil, false
	}
	return o, true
}

// put keeps an entry that was read when the counter stood at o.generation.
func (c *cache) put(k cacheKey, o *Outbound) { c.entries.Set(k, o) }

// spoil makes what is cached of the connection unusable. A write calls it before its commit, so that nobody is served
// what is about to be gone, and after it, so that nobody keeps what was read in between.
func (c *cache) spoil(integration IntegrationID, key string) {
	k := cacheKey{integration, key}
	c.shard(k).Add(1)
	c.entries.Invalidate(k)
}

// writing spoils around a write.
func (c *cache) writing(integration IntegrationID, key string, write func() error) error {
	c.spoil(integration, key)
	defer c.spoil(integration, key)
	return write()
}

// clear makes everything unusable.
func (c *cache) clear() {
	for i := range c.writes {
		c.writes[i].Add(1)
	}
	c.entries.InvalidateAll()
}

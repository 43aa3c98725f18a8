package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/coatcheck/coatcheck/storage"
)

type transferCommand struct {
	overrides
	Target string `arg:"" help:"The database to move into: \"sqlite\", in the data directory, or postgres://user@host/name. A password is better in PGPASSWORD or PGPASSFILE."`
}

// Run moves everything into another database. The configuration names the source until it is done.
func (c *transferCommand) Run(p *program) error {
	cfg, o, err := storeFor(p, c.overrides)
	if err != nil {
		return err
	}
	if !databaseExists(cfg) { // opening would make one
		return fmt.Errorf("%w: %s", storage.ErrNoDatabase, cfg.Data)
	}
	began := time.Now()
	moved, err := storage.Transfer(p.ctx, cfg.Database, c.Target, o)
	if err != nil && p.ctx.Err() != nil {
		return errors.New("interrupted; run the same command again, and it goes on where it was")
	}
	if err != nil {
		return err
	}
	for _, table := range slices.Sorted(maps.Keys(moved.Rows)) {
		p.say("%10d  %s", moved.Rows[table], table)
	}
	how := "Moved"
	if moved.Resumed {
		how = "Moved the rest of"
	}
	p.say("%s %d rows in %.1f s. Every table was read back and is the same on both sides.", how, moved.Total(), time.Since(began).Seconds())
	p.say("Now set \"database\" in the configuration, and start the server. The old database says of itself that it is a copy:")
	p.say("a server that is started on it renews nothing.")
	return nil
}

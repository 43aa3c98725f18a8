package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/coatcheck/coatcheck/storage"
)

type restoreCommand struct {
	overrides
	File    string `arg:"" help:"A file that backup wrote."`
	Replace bool   `help:"Put a database that is there aside, under a name with the time in it."`
}

// Run puts the database of a backup into the data directory.
func (c *restoreCommand) Run(p *program) error {
	cfg, o, err := storeFor(p, c.overrides)
	if err != nil {
		return err
	}
	got, err := storage.Restore(p.ctx, cfg.Database, o, c.File, c.Replace)
	if errors.Is(err, storage.ErrThere) {
		return fmt.Errorf("%w; --replace puts it aside", err)
	}
	if err != nil {
		return err
	}
	if got.Kept != "" {
		p.say("The database that was there is now %s.", got.Kept)
	}
	p.say("Restored %s into %s, checked: %s.", c.File, cfg.Data, inRows(got.Rows))
	p.say("The copy was made %s%s.", got.Deployment.CopiedAt.Format(time.RFC3339), of(got.Deployment.PublicURL))
	p.say("Tokens that have not run out are served. Nothing is renewed, and no app is told anything, until you run \"coatcheck adopt\":")
	p.say("do that when no other broker uses these connections any more.")
	return nil
}

// of names the broker of a store, if it had one.
func of(publicURL string) string {
	if publicURL == "" {
		return ""
	}
	return " of the store of " + publicURL
}

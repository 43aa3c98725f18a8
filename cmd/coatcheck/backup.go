package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/crypto"
	"github.com/coatcheck/coatcheck/storage"
)

type backupCommand struct {
	overrides
	File string `arg:"" help:"File to write; it must not exist."`
}

// Run copies the database into a file, and checks the copy.
func (c *backupCommand) Run(p *program) error {
	cfg, o, err := storeFor(p, c.overrides)
	if err != nil {
		return err
	}
	made, err := storage.WriteBackup(p.ctx, cfg.Database, o, c.File)
	if err != nil {
		return err
	}
	p.say("Wrote %s: %s, schema %d, checked.", c.File, size(made.Bytes), made.Schema)
	p.say("It holds %s.", inRows(made.Rows))
	if made.Spilled > 0 {
		p.say("%d renewed tokens that lay beside the database, because it could not take them, are in it.", made.Spilled)
	}
	p.say("Secrets are in it as they are stored, encrypted. What opens them is not in it: %s. Keep a copy of that elsewhere.", identityIn(cfg))
	return nil
}

// storeFor loads the configuration of a command that works on the store's files, and opens the keys that must fit them.
func storeFor(p *program, flags overrides) (*config, storage.Options, error) {
	cfg, err := loadConfig(p.env, flags)
	if err != nil {
		return nil, storage.Options{}, err
	}
	if err := checkDataDir(cfg.Data); err != nil {
		return nil, storage.Options{}, err
	}
	ids, err := (&node{config: cfg}).identities(p.env, false)
	if err != nil {
		return nil, storage.Options{}, err
	}
	return cfg, storage.Options{Dir: cfg.Data, Now: time.Now, Verify: fits(ids)}, nil
}

// fits approves a keyring that the identities open.
func fits(ids *crypto.Identities) func([]broker.WrappedKey) error {
	return func(stored []broker.WrappedKey) error {
		_, err := unlock(stored, ids)
		return err
	}
}

// identityIn says where the configuration has the encryption identity.
func identityIn(c *config) string {
	if c.Encryption.Identity != "" {
		return "the identity that encryption.identity holds"
	}
	return "the identity in " + c.Encryption.IdentityFile
}

// inRows lists what is worth knowing of a database, in the order in which it depends on each other.
func inRows(rows map[string]int64) string {
	var out []string
	for _, table := range []struct{ name, one, many string }{
		{"environments", "environment", "environments"},
		{"api_keys", "API key", "API keys"},
		{"integrations", "integration", "integrations"},
		{"connections", "connection", "connections"},
		{"credentials", "credential", "credentials"},
		{"revocations", "revocation", "revocations"},
		{"deliveries", "delivery", "deliveries"},
		{"audit", "audit line", "audit lines"},
	} {
		name := table.many
		if rows[table.name] == 1 {
			name = table.one
		}
		out = append(out, fmt.Sprintf("%d %s", rows[table.name], name))
	}
	last := len(out) - 1
	return strings.Join(slices.Concat(out[:last-1], []string{out[last-1] + " and " + out[last]}), ", ")
}

// size gives bytes as people read them.
func size(n int64) string {
	const kilo = 1000
	if n < kilo {
		return fmt.Sprintf("%d bytes", n)
	}
	f, unit := float64(n), ""
	for _, unit = range []string{"kB", "MB", "GB", "TB"} {
		if f /= kilo; f < kilo {
			break
		}
	}
	return fmt.Sprintf("%.1f %s", f, unit)
}

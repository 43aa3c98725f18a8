package postgres

import (
	"context"
	"io/fs"

	"github.com/coatcheck/coatcheck/broker"
)

// verify has the keyring approved, if there is one. With the wrong key a start must leave the database alone, so this
// comes before the schema is migrated. Errors: ErrTooNew, and what approve returns.
func (d *DB) verify(ctx context.Context, approve func([]broker.WrappedKey) error, files fs.FS) error {
	migrations, err := readMigrations(files)
	if err != nil {
		return err
	}
	current, err := d.version(ctx, migrations)
	if err != nil || current == 0 {
		return err
	}
	keys, err := d.Keys(ctx)
	if err != nil || len(keys) == 0 {
		return err
	}
	return approve(keys)
}

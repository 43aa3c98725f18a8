package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"

	"github.com/coatcheck/coatcheck/broker"
)

// verify has the keyring approved, if there is one, on a connection that changes nothing. With the wrong key a start must
// leave the database alone, so this comes before the schema is migrated, and before the first connection that writes:
// when the last of those closes, it moves the log into the file. Errors: ErrTooNew, and what approve returns.
func (d *DB) verify(ctx context.Context, approve func([]broker.WrappedKey) error, migrations fs.FS) error {
	latest, err := latestVersion(migrations)
	if err != nil {
		return err
	}
	dsn, err := untouching(d.Path())
	if err != nil {
		return err
	}
	db, err := openPool(dsn, 1)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // read only: nothing can be lost
	current, err := schemaVersion(ctx, db)
	if err != nil {
		return interpret("read schema version", err)
	}
	if current > latest {
		return tooNew(current, latest)
	}
	c, err := connect(ctx, db)
	if err != nil {
		return interpret("open database", err)
	}
	defer c.close()
	there, err := c.exists("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'keyring'")
	if err != nil || !there {
		return interpret("look for the keyring", err)
	}
	keys, err := allKeys(c)
	if err != nil {
		return interpret("list keys", err)
	}
	if len(keys) == 0 {
		return nil
	}
	return approve(keys)
}

// untouching names the file for a connection that leaves it as it is. Where there is a log, of a server that runs or of a
// process that was killed, it must be read only, or closing it would move the log into the file. Where there is none, it
// must not be: it has to make one for the time that it is open, and only who may write removes it again.
func untouching(path string) (string, error) {
	q := url.Values{"_pragma": {"busy_timeout(5000)", "query_only(1)"}}
	switch _, err := os.Stat(path + "-wal"); {
	case err == nil:
		q.Set("mode", "ro")
	case !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("look for the database's log: %w", err)
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode(), nil
}

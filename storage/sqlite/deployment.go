package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"github.com/coatcheck/coatcheck/broker"
)

// Deployment implements [broker.DeploymentStore].
func (d *DB) Deployment(ctx context.Context) (out broker.Deployment, err error) {
	err = d.read(ctx, "read the deployment", func(c *conn) (err error) {
		out, err = deployment(c)
		return err
	})
	return out, err
}

func deployment(c *conn) (d broker.Deployment, err error) {
	err = c.row("SELECT cluster, public_url, adopted_at, copied_at FROM deployment", nil,
		&d.Cluster, &d.PublicURL, when(&d.AdoptedAt), when(&d.CopiedAt))
	if errors.Is(err, sql.ErrNoRows) {
		return broker.Deployment{}, nil
	}
	return d, err
}

// SetDeployment implements [broker.DeploymentStore].
func (d *DB) SetDeployment(ctx context.Context, from string, next broker.Deployment, t broker.Trail) error {
	return d.write(ctx, "set the deployment", func(tx *conn) error {
		now, err := deployment(tx)
		if err != nil {
			return err
		}
		if now.Cluster != from {
			return broker.ErrConflict
		}
		if err := putDeployment(tx, next); err != nil {
			return err
		}
		return leave(tx, t)
	})
}

func putDeployment(tx *conn, d broker.Deployment) error {
	_, err := tx.exec("REPLACE INTO deployment (one, cluster, public_url, adopted_at, copied_at) VALUES (1, ?, ?, ?, ?)",
		d.Cluster, d.PublicURL, micros(d.AdoptedAt), micros(d.CopiedAt))
	return err
}

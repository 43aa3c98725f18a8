package postgres

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// What holds where the address does not say otherwise.
const (
	defaultMaxConns         = 16
	defaultConnectTimeout   = 5 * time.Second
	defaultStatementTimeout = 10 * time.Second
)

// settings are what an address says.
type settings struct {
	pool      *pgxpool.Config
	statement time.Duration // how long a statement may take
}

// Parameters of an address that are ours to read: the others are PostgreSQL's and those of the driver's pool.
const (
	paramMaxConns         = "pool_max_conns"
	paramConnectTimeout   = "connect_timeout"
	paramStatementTimeout = "statement_timeout"
)

// secrets are parameters that no message repeats.
var secrets = []string{"password", "sslpassword"}

// parse reads an address. Its errors name no password.
func parse(address string) (*settings, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Host == "" && u.Path == "" {
		return nil, errors.New("database: not an address such as postgres://user@host:5432/name; a password in it has to be percent-encoded")
	}
	if err := complaint(*u); err != nil {
		return nil, err
	}
	q := u.Query()
	s := &settings{statement: defaultStatementTimeout}
	if q.Has(paramStatementTimeout) {
		if s.statement, err = duration(q.Get(paramStatementTimeout)); err != nil {
			return nil, err
		}
		q.Del(paramStatementTimeout) // a parameter of the session, which poolers refuse
	}
	if !q.Has(paramMaxConns) {
		q.Set(paramMaxConns, strconv.Itoa(defaultMaxConns))
	}
	if !q.Has(paramConnectTimeout) {
		q.Set(paramConnectTimeout, strconv.Itoa(int(defaultConnectTimeout/time.Second)))
	}
	u.RawQuery = q.Encode()
	if s.pool, err = pgxpool.ParseConfig(u.String()); err != nil {
		return nil, errors.New("database: the address, or what the environment adds to it, cannot be used")
	}
	// Described once, sent in one message, and nothing left in the session: a transaction's pooler may stand in between.
	s.pool.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	s.pool.ConnConfig.StatementCacheCapacity = 0
	if _, named := s.pool.ConnConfig.RuntimeParams["application_name"]; !named {
		s.pool.ConnConfig.RuntimeParams["application_name"] = "coatcheck"
	}
	return s, nil
}

// complaint is what is wrong with an address, found without its passwords so that no message can hold one.
func complaint(u url.URL) error {
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	q := u.Query()
	for _, name := range secrets {
		q.Del(name)
	}
	u.RawQuery = q.Encode()
	if _, err := pgxpool.ParseConfig(u.String()); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	return nil
}

// duration reads a time limit as PostgreSQL writes it: milliseconds, or a number with a unit.
func duration(s string) (time.Duration, error) {
	if ms, err := strconv.ParseInt(s, 10, 32); err == nil {
		s = fmt.Sprintf("%dms", ms)
	}
	d, err := time.ParseDuration(strings.Replace(s, "min", "m", 1))
	if err != nil || d < time.Millisecond || d > time.Hour {
		return 0, fmt.Errorf("database: %s must be between 1ms and 1h", paramStatementTimeout)
	}
	return d, nil
}

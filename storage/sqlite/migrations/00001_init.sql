-- Times are microseconds since 1970 in UTC, and durations nanoseconds; NULL is the absent time. Lists and maps are JSON;
-- NULL is the empty one. Sealed fields are BLOBs that only their owner opens. Tables that grow with the number of
-- connections refer to each other by number, which keeps rows and indexes small; the others by id.

-- +goose Up
CREATE TABLE environments (
	number          INTEGER PRIMARY KEY,
	id              TEXT    NOT NULL UNIQUE,
	name            TEXT    NOT NULL,
	display_name    TEXT    NOT NULL,
	allowed_origins TEXT,
	return_urls     TEXT,
	start           TEXT    NOT NULL,
	managed         INTEGER NOT NULL,
	created_at      INTEGER,
	updated_at      INTEGER,
	deleted_at      INTEGER
) STRICT;

-- A deleted environment keeps its row, which its trail refers to, and gives up its name at once.
CREATE UNIQUE INDEX environments_living ON environments (name) WHERE deleted_at IS NULL;

CREATE TABLE api_keys (
	id          TEXT    NOT NULL PRIMARY KEY,
	environment TEXT    REFERENCES environments (id), -- NULL: a key of the account
	name        TEXT    NOT NULL,
	hash        BLOB    NOT NULL,
	hint        TEXT    NOT NULL,
	scopes      TEXT,
	managed     INTEGER NOT NULL,
	created_at  INTEGER,
	expires_at  INTEGER,
	revoked_at  INTEGER
) STRICT;

-- A preset key may come back after it was revoked.
CREATE UNIQUE INDEX api_keys_living ON api_keys (hash) WHERE revoked_at IS NULL;

-- AUTOINCREMENT: a number is remembered, so none may ever mean another integration.
CREATE TABLE integrations (
	number           INTEGER PRIMARY KEY AUTOINCREMENT,
	id               TEXT    NOT NULL UNIQUE,
	public_id        TEXT    NOT NULL UNIQUE,
	environment      TEXT    NOT NULL REFERENCES environments (id),
	key              TEXT    NOT NULL,
	provider         TEXT    NOT NULL,
	display_name     TEXT    NOT NULL,
	client_id        TEXT    NOT NULL,
	scopes           TEXT,
	settings         TEXT,
	hosts            TEXT,
	shared           INTEGER NOT NULL,
	secret           BLOB,
	token_origin     TEXT    NOT NULL,
	secret_settings  BLOB,
	webhook_secret   BLOB,
	forward_webhooks INTEGER NOT NULL,
	fault            TEXT    NOT NULL,
	fault_at         INTEGER,
	managed          INTEGER NOT NULL,
	created_at       INTEGER,
	updated_at       INTEGER,
	deleted_at       INTEGER,
	revision         INTEGER NOT NULL
) STRICT;

-- A deleted integration keeps its row until its revocations are done, and gives up its key at once.
CREATE UNIQUE INDEX integrations_living ON integrations (environment, key) WHERE deleted_at IS NULL;

CREATE TABLE sessions (
	id                   TEXT    NOT NULL PRIMARY KEY,
	environment          TEXT    NOT NULL REFERENCES environments (id),
	token_hash           BLOB    NOT NULL UNIQUE,
	end_user             TEXT,
	tags                 TEXT,
	integrations         TEXT,
	connection           TEXT    NOT NULL,
	first                INTEGER NOT NULL,
	landing              TEXT    NOT NULL,
	callback             TEXT    NOT NULL,
	own                  INTEGER NOT NULL,
	connection_name      TEXT    NOT NULL,
	allow_account_change INTEGER NOT NULL,
	allowed_origins      TEXT,
	return_url           TEXT    NOT NULL,
	webhook_url          TEXT    NOT NULL,
	defaults             BLOB,
	starts               INTEGER NOT NULL,
	created_at           INTEGER,
	expires_at           INTEGER
) STRICT;

-- The sweep.
CREATE INDEX sessions_by_end ON sessions (expires_at);

-- One success for each integration: the key is the rule.
CREATE TABLE session_ends (
	session     TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
	integration TEXT NOT NULL,
	connection  TEXT NOT NULL,
	at          INTEGER,
	PRIMARY KEY (session, integration)
) STRICT, WITHOUT ROWID;

CREATE TABLE flows (
	id           TEXT    NOT NULL PRIMARY KEY,
	environment  TEXT    NOT NULL REFERENCES environments (id),
	session      TEXT    NOT NULL,
	integration  TEXT    NOT NULL,
	connection   TEXT    NOT NULL,
	key          TEXT    NOT NULL,
	state_hash   BLOB    NOT NULL UNIQUE,
	browser_hash BLOB,
	channel      BLOB,
	redirect_uri TEXT    NOT NULL,
	issuer       TEXT    NOT NULL,
	asked_scopes TEXT,
	landing      TEXT    NOT NULL,
	secrets      BLOB,
	status       TEXT    NOT NULL,
	code         TEXT    NOT NULL,
	created_at   INTEGER,
	expires_at   INTEGER,
	consumed_at  INTEGER,
	ended_at     INTEGER
) STRICT;

CREATE UNIQUE INDEX flows_by_channel ON flows (channel) WHERE channel IS NOT NULL;
-- Deleting a session ends its open flows.
CREATE INDEX flows_by_session ON flows (session) WHERE status = 'open';
-- Flows that were interrupted between the answer and its result.
CREATE INDEX flows_consumed ON flows (consumed_at) WHERE status = 'consumed';
-- The sweep, of those that ran out and of those that ended.
CREATE INDEX flows_by_expiry ON flows (expires_at) WHERE status = 'open';
CREATE INDEX flows_by_end ON flows (ended_at) WHERE ended_at IS NOT NULL;

-- Clients that servers made for an integration.
CREATE TABLE registrations (
	integration  TEXT    NOT NULL REFERENCES integrations (id) ON DELETE CASCADE,
	issuer       TEXT    NOT NULL,
	redirect_uri TEXT    NOT NULL,
	environment  TEXT    NOT NULL REFERENCES environments (id),
	client       BLOB,
	expires_at   INTEGER,
	created_at   INTEGER,
	PRIMARY KEY (integration, issuer, redirect_uri)
) STRICT, WITHOUT ROWID;

-- The sweep.
CREATE INDEX registrations_by_age ON registrations (created_at);

-- AUTOINCREMENT: some callers know a connection by its number, so none is ever given twice.
CREATE TABLE connections (
	number             INTEGER PRIMARY KEY AUTOINCREMENT,
	id                 TEXT    NOT NULL UNIQUE,
	environment_number INTEGER NOT NULL REFERENCES environments (number),
	integration_number INTEGER NOT NULL REFERENCES integrations (number),
	key                TEXT    NOT NULL,
	status             TEXT    NOT NULL,
	reason             TEXT    NOT NULL,
	origins            TEXT    NOT NULL DEFAULT '', -- the credential's; here, because no renewal writes it
	config             TEXT,
	name               TEXT    NOT NULL,
	error_id           TEXT    NOT NULL,
	error_code         TEXT    NOT NULL,
	error_at           INTEGER,
	end_user_id        TEXT, -- NULL: there is no end user
	end_user_email     TEXT,
	end_user_name      TEXT,
	end_user_tags      TEXT,
	organization_id    TEXT,
	organization_name  TEXT,
	folded             TEXT    NOT NULL, -- lower case of what a search looks at, where that is not plain ASCII
	tags               TEXT,
	metadata           TEXT,
	account            BLOB,
	account_hash       BLOB,
	grant_hash         BLOB,
	asked_scopes       TEXT,
	scopes             TEXT,
	webhook_url        TEXT    NOT NULL,
	revision           INTEGER NOT NULL,
	created_at         INTEGER,
	updated_at         INTEGER,
	authorized_at      INTEGER,
	verified_at        INTEGER,
	ends_at            INTEGER,
	fetched_at         INTEGER
) STRICT;

-- The hot path, and an integration's connections.
CREATE UNIQUE INDEX connections_by_key ON connections (integration_number, key);
-- The list, newest first; it ends in the number, as every index does.
CREATE INDEX connections_by_age ON connections (environment_number, created_at);
-- The sweep, of those that nobody came to make.
CREATE INDEX connections_pending ON connections (updated_at) WHERE status = 'pending';
-- The list of one end user's connections.
CREATE INDEX connections_by_end_user ON connections (end_user_id) WHERE end_user_id IS NOT NULL;
-- An integration's connections without an end user: the app's own, of which there is one as a rule.
CREATE INDEX connections_unowned ON connections (integration_number) WHERE end_user_id IS NULL;
-- Other grants of an account. Eight bytes of the hash find it, the row decides.
CREATE INDEX connections_by_account ON connections (substr(account_hash, 1, 8)) WHERE account_hash IS NOT NULL;
-- Other connections on a grant.
CREATE INDEX connections_by_grant ON connections (grant_hash) WHERE grant_hash IS NOT NULL;

-- What is narrow stands before what is wide, so that reading a status does not walk through a token.
CREATE TABLE credentials (
	connection_number  INTEGER PRIMARY KEY REFERENCES connections (number),
	version            INTEGER NOT NULL,
	type               TEXT    NOT NULL,
	obtained_at        INTEGER,
	expires_at         INTEGER,
	refresh_at         INTEGER,
	refresh_expires_at INTEGER,
	refreshed_at       INTEGER,
	failures           INTEGER NOT NULL,
	failed_at          INTEGER,
	failing_since      INTEGER,
	fail_code          TEXT    NOT NULL,
	lease_owner        TEXT    NOT NULL,
	lease_until        INTEGER,
	fence              INTEGER NOT NULL,
	attempt_at         INTEGER,
	erase_at           INTEGER,
	access             BLOB,
	details            BLOB,
	refresh            BLOB,
	answer             BLOB
) STRICT;

-- The scheduler.
CREATE INDEX credentials_due ON credentials (refresh_at) WHERE refresh_at IS NOT NULL;
-- Leases are few at any time; the start looks for stale ones.
CREATE INDEX credentials_leased ON credentials (lease_until) WHERE lease_until IS NOT NULL;
-- The sweep, of lost grants alone.
CREATE INDEX credentials_erasable ON credentials (erase_at) WHERE erase_at IS NOT NULL;

CREATE TABLE revocations (
	id           TEXT    NOT NULL PRIMARY KEY,
	environment  TEXT    NOT NULL REFERENCES environments (id),
	integration  TEXT    NOT NULL,
	connection   TEXT    NOT NULL,
	version      INTEGER NOT NULL,
	type         TEXT    NOT NULL,
	origins      TEXT    NOT NULL,
	access       BLOB,
	refresh      BLOB,
	details      BLOB,
	config       TEXT,
	account_hash BLOB,
	attempts     INTEGER NOT NULL,
	waited       INTEGER NOT NULL,
	created_at   INTEGER,
	next_at      INTEGER,
	done_at      INTEGER,
	outcome      TEXT    NOT NULL
) STRICT;

-- The worker.
CREATE INDEX revocations_due ON revocations (next_at) WHERE done_at IS NULL;
-- Whether a deleted integration has any left.
CREATE INDEX revocations_open ON revocations (integration) WHERE done_at IS NULL;
-- The list, newest first.
CREATE INDEX revocations_by_age ON revocations (environment, created_at);

-- AUTOINCREMENT: a reader goes on after the last number that it saw, whatever has been removed since.
CREATE TABLE events (
	sequence           INTEGER PRIMARY KEY AUTOINCREMENT,
	id                 TEXT NOT NULL,
	environment_number INTEGER REFERENCES environments (number),
	kind               TEXT NOT NULL,
	integration        TEXT NOT NULL,
	connection         TEXT NOT NULL,
	key                TEXT NOT NULL,
	code               TEXT NOT NULL,
	at                 INTEGER
) STRICT;

CREATE INDEX events_by_environment ON events (environment_number);

CREATE TABLE webhooks (
	environment         TEXT    NOT NULL PRIMARY KEY REFERENCES environments (id),
	url                 TEXT    NOT NULL,
	secondary_url       TEXT    NOT NULL,
	mute_creation       INTEGER NOT NULL,
	mute_refresh_errors INTEGER NOT NULL,
	no_legacy_signature INTEGER NOT NULL,
	key                 BLOB,
	version             INTEGER NOT NULL,
	old_key             BLOB,
	old_until           INTEGER,
	managed             INTEGER NOT NULL,
	stopped             TEXT,
	revision            INTEGER NOT NULL,
	updated_at          INTEGER
) STRICT;

-- Of what waits for an endpoint and is about one connection, one row at a time has a next_at: the first of the line.
-- AUTOINCREMENT: operators know a delivery by its number.
CREATE TABLE deliveries (
	number             INTEGER PRIMARY KEY AUTOINCREMENT,
	event              TEXT    NOT NULL,
	environment_number INTEGER NOT NULL REFERENCES environments (number),
	endpoint           TEXT    NOT NULL,
	about              TEXT    NOT NULL,
	kind               TEXT    NOT NULL,
	attempts           INTEGER NOT NULL,
	created_at         INTEGER,
	next_at            INTEGER,
	claimed_at         INTEGER,
	tried_at           INTEGER,
	done_at            INTEGER,
	outcome            TEXT    NOT NULL,
	status             INTEGER NOT NULL,
	code               TEXT    NOT NULL,
	answer             TEXT    NOT NULL,
	notice             TEXT
) STRICT;

-- The worker, endpoint by endpoint.
CREATE INDEX deliveries_due ON deliveries (endpoint, next_at) WHERE next_at IS NOT NULL;
-- The lines.
CREATE INDEX deliveries_lines ON deliveries (endpoint, about) WHERE done_at IS NULL;
-- What is being tried; the start looks for what a dead process left.
CREATE INDEX deliveries_claimed ON deliveries (claimed_at) WHERE claimed_at IS NOT NULL;
-- The sweep.
CREATE INDEX deliveries_ended ON deliveries (outcome, done_at) WHERE done_at IS NOT NULL;
-- The lists.
CREATE INDEX deliveries_by_environment ON deliveries (environment_number);
CREATE INDEX deliveries_dead ON deliveries (environment_number) WHERE outcome = 'dead';

CREATE TABLE audit (
	sequence           INTEGER PRIMARY KEY AUTOINCREMENT,
	environment_number INTEGER REFERENCES environments (number),
	actor              TEXT    NOT NULL,
	action             TEXT    NOT NULL,
	target             TEXT    NOT NULL,
	result             TEXT    NOT NULL,
	count              INTEGER NOT NULL,
	ip                 TEXT    NOT NULL,
	request_id         TEXT    NOT NULL,
	at                 INTEGER
) STRICT;

CREATE INDEX audit_by_environment ON audit (environment_number);

CREATE TABLE keyring (
	id          INTEGER PRIMARY KEY,
	wrapped     BLOB    NOT NULL,
	recipients  TEXT,
	check_value BLOB,
	active      INTEGER NOT NULL,
	created_at  INTEGER
) STRICT;

CREATE UNIQUE INDEX keyring_active ON keyring (active) WHERE active = 1;

-- Whose this database is: one row, or none before the first start.
CREATE TABLE deployment (
	one        INTEGER PRIMARY KEY CHECK (one = 1),
	cluster    TEXT    NOT NULL,
	public_url TEXT    NOT NULL,
	adopted_at INTEGER,
	copied_at  INTEGER -- NULL: this is no copy
) STRICT;

-- The trail cannot be rewritten, not even by a statement of ours.
-- +goose StatementBegin
CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit BEGIN
	SELECT RAISE(ABORT, 'the audit trail is append-only');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_is_final BEFORE UPDATE ON audit BEGIN
	SELECT RAISE(ABORT, 'the audit trail is append-only');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER events_are_kept BEFORE DELETE ON events BEGIN
	SELECT RAISE(ABORT, 'events are append-only');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER events_are_final BEFORE UPDATE ON events BEGIN
	SELECT RAISE(ABORT, 'events are append-only');
END;
-- +goose StatementEnd

// Package postgres keeps everything in one PostgreSQL database, which several nodes share.
//
// # What is relied upon
//
// Every transaction is READ COMMITTED: each statement sees what was committed before it began, and one that waits for a
// row's lock looks again at the row as it then is. Nothing here is right because a row was read before; each change is one
// of these:
//
//   - environments, integrations, connections, webhooks: an UPDATE that names the revision which it replaces. What must not
//     vanish meanwhile is locked FOR SHARE: the environment of a new key, integration or webhook, and the integration of a
//     new connection or registration, against its deletion, which updates the row before it looks for what is in it.
//   - connections and credentials: whoever writes both locks the connection's row first, so that no two wait for each
//     other. A credential's version guards every new token, on its own: locks are for order, the version for truth.
//   - credentials' leases: one UPDATE on the database's clock, as of when the row's lock was had, that names who may take
//     it and raises the fence. The credential is read by the statement after it.
//   - sessions and flows: one UPDATE that names the state which it leaves; deleting a session removes its row before it
//     looks for open flows, because a new flow writes to that row. A session's success is a row whose key is the rule.
//   - revocations and deliveries: claimed by FOR UPDATE SKIP LOCKED in one statement, so that claimants neither wait for
//     each other nor meet. The last revocation of a deleted integration is told by who holds that integration's row.
//   - deliveries of one line: who appends to a line, or ends its first, holds a lock on the line until the end of its
//     transaction, so that numbers in a line are in the order of their commits and one of it at a time may be tried. Locks
//     on what has no row of its own are advisory and a transaction's, never a session's: the line, a grant's hash while
//     its duplicates are looked for, names of API keys, the active data key, the schema's migration.
//   - audit and events: append-only, by triggers. Numbers are taken in one order and committed in another, so readers stop
//     before the lowest that may still come: see announce_number in the migrations.
//   - sweeps: a DELETE or UPDATE whose condition is looked at again when a row's lock is had; several at once share the
//     work.
//
// A transaction that PostgreSQL ends because of a deadlock or a conflict is run again, a few times, and so is one whose
// connection broke before COMMIT was sent. After that its outcome is unknown, and the caller is told of a failure; every
// guarded change can be repeated without harm.
//
// # What is not relied upon
//
// There is no state in a session: no SET, no prepared statement with a name, no LISTEN, no session's lock. So a pooler
// that gives each transaction another session may stand in between. Statements are described once for each connection,
// and sent with their parameters in one message after that.
//
// The alternative, SERIALIZABLE for everything, was refused: it would make each transaction one that may have to be
// repeated, and its promise ends where somebody else's sessions have another default.
package postgres

package lab_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/providertest/lab"
)

// Every entry that can be used works, from the first request to the last: a broker connects two accounts, reads and uses
// their credentials, renews them, notices when one is lost, and ends both.
func TestEveryEntryWorks(t *testing.T) {
	entries, err := lab.Read(coatcheck.Catalogue)
	if err != nil {
		t.Fatal(err)
	}
	pool := newPool(t, coatcheck.Catalogue)
	for name, entry := range entries {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := <-pool.benches
			defer func() { pool.back(b, !t.Failed()) }()
			f, err := b.site.Broker.Provider(name)
			if err != nil {
				t.Fatal(err)
			}
			if why, listed := unusable[name]; listed || !f.Usable {
				if err := checkUnusable(f, why); err != nil {
					t.Error(err)
				}
			}
			if !f.Usable {
				return
			}
			if err := b.drive(t, name, entry); err != nil {
				t.Error(err)
			}
		})
	}
}

// ours are entries of the modes that none of the catalogue has.
const ours = `
lab-wsse:
  display_name: WSSE
  docs: https://docs.wsse.example
  categories: [other]
  auth_mode: SIGNATURE
  signature: {protocol: WSSE}
  token: {expires_in_ms: 300000}
  proxy:
    base_url: https://api.wsse.example/v2
    headers: {x-wsse: "${accessToken}"}
    verification: {method: GET, endpoints: [/settings]}
  credentials:
    username: {title: User, description: Of the API.}
    password: {title: Secret, description: Of that user., secret: true}
lab-plugin:
  display_name: Plugin
  docs: https://docs.plugin.example
  categories: [other]
  auth_mode: INSTALL_PLUGIN
  auth_type: BASIC
  redirect_uri_metadata: [website_id]
  identity_path: ${connectionConfig.website_id}
  access_token_lifetime: never
  proxy:
    base_url: https://api.plugin.example/v1/website/${connectionConfig.website_id}
    headers: {x-tier: plugin}
    verification: {method: GET, endpoints: [/]}
`

// The modes that no entry has work too.
func TestModesWithoutAnEntryWork(t *testing.T) {
	entries, err := lab.Read([]byte(ours))
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, []byte(ours))
	for name, entry := range entries {
		if err := b.drive(t, name, entry); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// drive takes an entry of the broker's catalogue through all that its mode has. Behind it is the provider of entry.
func (b *bench) drive(t *testing.T, name string, entry *lab.Entry) error {
	t.Helper()
	if !slices.Contains(lab.Modes(), entry.Mode()) {
		return fmt.Errorf("no provider of the mode %s is played yet: the lab has to learn it", entry.Mode())
	}
	r, err := b.begin(t, name, entry)
	if err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	alice, bob := entry.User(0), entry.User(1)
	if err := r.connects(alice, bob); err != nil {
		return err
	}
	if err := r.renews(alice, bob); err != nil {
		return err
	}
	if err := r.losesSignIn(alice); err != nil {
		return err
	}
	if err := r.loses(alice, bob); err != nil {
		return err
	}
	return r.ends(alice, bob)
}

// connects makes both connections and uses them. Whoever types in what the provider does not know is turned away.
func (r *run) connects(users ...*lab.User) error {
	if !r.facts().Interactive {
		if err := r.turnsAway(); err != nil {
			return err
		}
	}
	for _, u := range users {
		if !r.facts().Interactive {
			r.provider.Admit(u, true)
		}
		err := r.step("connect", func() error {
			if err := r.connect(u); err != nil {
				return err
			}
			return r.sent(r.connecting(u)...)
		})
		if err != nil {
			return err
		}
		if err := r.step("read", func() error { return r.reads(u) }); err != nil {
			return err
		}
		if err := r.step("verify", func() error { return r.confirms(u) }); err != nil {
			return err
		}
		if err := r.step("call", func() error { return errors.Join(r.calls(u), r.sent(r.call())) }); err != nil {
			return err
		}
	}
	return nil
}

// confirms has the broker ask the provider whether a credential works.
func (r *run) confirms(u *lab.User) error {
	if !r.entry.Verifies() && !r.entry.Identifies() && !r.entry.Pings() {
		return nil
	}
	h, err := r.site.Broker.VerifyConnection(r.t.Context(), r.who, r.refs[u])
	if err == nil && h.Failure != nil {
		err = fmt.Errorf("a credential that the provider accepts: %w", h.Failure)
	}
	asked := lab.Ask
	if r.entry.Mode() == "CUSTOM" && !r.entry.Verifies() {
		asked = lab.Mint // only users can be asked whose account it is, so an installation is asked for its next token
	}
	return errors.Join(err, r.sent(asked))
}

// turnsAway has two users come whose credentials the provider refuses, in either of the ways that it has.
func (r *run) turnsAway() error {
	for _, n := range []int{2, 3} {
		stranger := r.entry.User(n)
		if !r.asks() || len(stranger.Credentials) == 0 {
			continue
		}
		r.provider.Admit(stranger, false)
		err := r.step("refuse", func() error {
			err := r.connect(stranger)
			if !errors.Is(err, broker.ErrTestFailed) {
				return fmt.Errorf("a credential that the provider refuses: %w", err)
			}
			return nil
		})
		if err != nil {
			return err
		}
		r.provider.Requests()
	}
	return nil
}

// asks reports whether the provider is asked about a credential that somebody types in.
func (r *run) asks() bool {
	return r.entry.AsksAgain() || r.entry.Verifies() || r.entry.Identifies()
}

// connecting lists the requests that a new connection takes.
func (r *run) connecting(u *lab.User) []string {
	e := r.entry
	out := e.Finding(u)
	if e.Registers(u) && (u.N == 0 || len(out) > 0) { // one client does for all who sign in at one server
		out = append(out, lab.Register)
	}
	switch e.Mode() {
	case "OAUTH1":
		out = append(out, lab.Prepare, lab.Exchange)
	case "APP":
		out = append(out, lab.Look, lab.Exchange)
	case "CUSTOM":
		out = append(out, lab.Exchange)
		for range u.N%2 + 1 { // pages
			out = append(out, lab.Look)
		}
		out = append(out, lab.Mint)
	case "OAUTH2", "OAUTH2_CC", "TWO_STEP", "BILL", "MCP_OAUTH2", "MCP_OAUTH2_GENERIC", "AWS_SIGV4":
		out = append(out, lab.Exchange)
	}
	if e.Trades() {
		out = append(out, lab.Trade)
	}
	if (!r.facts().Interactive || e.Mode() == "INSTALL_PLUGIN") && (e.Verifies() || e.Identifies() || e.Pings()) {
		out = append(out, lab.Ask)
	}
	if e.AsksAfter() {
		out = append(out, lab.After)
	}
	if e.Identifies() && !e.KnowsAccount() {
		out = append(out, lab.Ask)
	}
	return out
}

// call is the request of a proxied call, "" where there are none.
func (r *run) call() string {
	if r.facts().HasProxy {
		return lab.Call
	}
	return ""
}

// renewal lists the requests that the use of a connection takes whose token has run out.
func (r *run) renewal(u *lab.User, first bool) []string {
	switch e := r.entry; {
	case e.Mode() == "CUSTOM":
		return []string{lab.Mint, lab.Refresh, r.call()}
	case e.Trades():
		return []string{lab.Trade, r.call()}
	case e.AsksAgain():
		return []string{lab.Exchange, r.call()}
	case !e.Renews():
		return []string{r.call()}
	case !e.TellsLife() && first: // it is found out by trying
		return []string{r.call(), lab.Stale, lab.Refresh, r.call()}
	}
	return append(r.entry.Finding(u), lab.Refresh, r.call())
}

// renews lets the tokens run out and uses the connections again.
func (r *run) renews(users ...*lab.User) error {
	if err := r.renewsInstallations(users...); err != nil {
		return err
	}
	r.passes()
	for _, u := range users {
		err := r.step("renew", func() error { return errors.Join(r.uses(u, true), r.sent(r.renewal(u, true)...)) })
		if err != nil {
			return err
		}
		if err := r.step("read what was renewed", func() error { return r.reads(u) }); err != nil {
			return err
		}
	}
	return nil
}

// renewsInstallations lets the tokens of installations run out, and not yet those of their users.
func (r *run) renewsInstallations(users ...*lab.User) error {
	if r.entry.Mode() != "CUSTOM" {
		return nil
	}
	r.site.Advance(lab.InstallationLife + time.Second)
	for _, u := range users {
		err := r.step("renew the installation's", func() error {
			return errors.Join(r.uses(u, true), r.sent(lab.Mint, r.call()), r.reads(u))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// losesSignIn has the provider refuse the user of an installation, which works on.
func (r *run) losesSignIn(u *lab.User) error {
	if r.entry.Mode() != "CUSTOM" {
		return nil
	}
	r.passes()
	r.provider.RefuseSignIn(u)
	return r.step("refuse to renew the user's", func() error {
		err := errors.Join(r.uses(u, false), r.sent(r.renewal(u, false)...))
		c, also := r.connection(u)
		if err = errors.Join(err, also); err == nil && c.Status != broker.Active {
			return fmt.Errorf("the connection is %s, for %q", c.Status, c.ErrorCode)
		}
		return err
	})
}

// uses makes a call with a connection whose token has run out. Where nothing but a refused call tells that, the broker
// believes one such call for each connection, for the time being; from then on it is told to renew.
func (r *run) uses(u *lab.User, first bool) error {
	if r.entry.Renews() && !r.entry.TellsLife() && !first {
		if _, err := r.site.Broker.RefreshConnection(r.t.Context(), r.who, r.refs[u]); err != nil {
			return err
		}
	}
	return r.calls(u)
}

// loses has the provider refuse one of the two, which is noticed, and does no harm to the other, which is renewed once more:
// with what the last renewal brought.
func (r *run) loses(lost, other *lab.User) error {
	r.passes()
	r.provider.Refuse(lost)
	err := r.step("refuse to renew", func() error {
		if !r.entry.Renews() && !r.entry.Trades() && !r.entry.AsksAgain() {
			return r.checks(lost)
		}
		_ = r.uses(lost, false) // how the call ends depends on how long the old token lives
		c, err := r.connection(lost)
		if err == nil && (c.Status != broker.Failing || c.Reason != broker.ReasonNeedsReauth) {
			return fmt.Errorf("the connection is %s %q, for %q, and does not need its user", c.Status, c.Reason, c.ErrorCode)
		}
		return err
	})
	r.provider.Requests()
	if err != nil {
		return err
	}
	return r.step("use the other connection", func() error {
		if err := errors.Join(r.uses(other, false), r.sent(r.renewal(other, false)...)); err != nil {
			return err
		}
		c, err := r.connection(other)
		if err == nil && c.Status != broker.Active {
			return fmt.Errorf("the connection is %s, for %q", c.Status, c.ErrorCode)
		}
		return err
	})
}

// checks has the broker ask about a credential that is never renewed and that the provider refuses by now.
func (r *run) checks(u *lab.User) error {
	if !r.entry.Verifies() && !r.entry.Identifies() {
		return nil
	}
	h, err := r.site.Broker.VerifyConnection(r.t.Context(), r.who, r.refs[u])
	if err == nil && (h.Failure == nil || h.Connection.Status != broker.Failing) {
		return fmt.Errorf("the connection is %s after the provider refused it", h.Connection.Status)
	}
	return err
}

// ends deletes both connections, first the one that is lost: what the provider says to that is its affair.
func (r *run) ends(lost, other *lab.User) error {
	if r.entry.Mode() == "NONE" {
		return nil // nothing was given that could be ended
	}
	err := r.step("delete what was lost", func() error {
		outcome, err := r.deletes(lost)
		if ok := []string{broker.OutcomeRevoked, broker.OutcomeUnsupported, broker.OutcomeSharedGrant}; err == nil && !slices.Contains(ok, outcome) {
			return fmt.Errorf("the receipt says %q", outcome)
		}
		return err
	})
	r.provider.Requests()
	if err != nil {
		return err
	}
	r.provider.Ending(other)
	return r.step("revoke", func() error {
		kinds, ok := r.provider.Revocable(other)
		want := broker.OutcomeUnsupported
		if ok {
			want = broker.OutcomeRevoked
		}
		outcome, err := r.deletes(other)
		switch ended := r.provider.Ended(other); {
		case err != nil:
			return err
		case outcome != want:
			return fmt.Errorf("the receipt says %q, not %q", outcome, want)
		case !slices.Equal(ended, kinds):
			return fmt.Errorf("the tokens that were revoked are %q, not %q", ended, kinds)
		}
		return nil
	})
}

// unusable lists the entries that cannot be used yet, with a word of the reason. One that can be used by now has to leave
// the list, and is driven from then on.
var unusable = map[string]string{}

// checkUnusable compares an entry with the list.
func checkUnusable(f *broker.Facts, why string) error {
	switch {
	case f.Usable:
		return errors.New("it can be used: take it off the list of those that cannot")
	case why == "":
		return fmt.Errorf("it cannot be used, and is not on the list: %s", f.UnusableReason)
	case !strings.Contains(f.UnusableReason, why):
		return fmt.Errorf("it cannot be used for another reason than %q: %s", why, f.UnusableReason)
	}
	return nil
}

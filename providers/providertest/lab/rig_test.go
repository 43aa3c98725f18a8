package lab_test

import (
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/providertest/lab"
	"github.com/coatcheck/coatcheck/web/api/apitest"
)

// bench is a broker whose outside is one provider at a time. Its clock belongs to whoever has the bench.
type bench struct {
	site    *apitest.Site
	playing atomic.Pointer[lab.Provider]
}

func newBench(t *testing.T, catalogue []byte) *bench {
	t.Helper()
	b := &bench{}
	b.site = apitest.New(t, apitest.Options{
		Catalogue: catalogue,
		Provider: func(w http.ResponseWriter, r *http.Request) bool {
			b.playing.Load().Serve(w, r)
			return true
		},
		Upstream: func(w http.ResponseWriter, r *http.Request) bool {
			b.playing.Load().ServeAPI(w, r)
			return true
		},
	})
	return b
}

// pool has a bench for each test that runs at the same time.
type pool struct {
	t         *testing.T
	catalogue []byte
	benches   chan *bench
}

func newPool(t *testing.T, catalogue []byte) *pool {
	t.Helper()
	p := &pool{t: t, catalogue: catalogue, benches: make(chan *bench, runtime.GOMAXPROCS(0))}
	for range cap(p.benches) {
		p.benches <- newBench(t, catalogue)
	}
	return p
}

// back takes a bench back. What a test left undone there would disturb the next, which gets another one then.
func (p *pool) back(b *bench, clean bool) {
	if !clean {
		b = newBench(p.t, p.catalogue)
	}
	p.benches <- b
}

// run is one entry on its way through the broker.
type run struct {
	*bench
	t        *testing.T
	entry    *lab.Entry // as the provider has it
	key      string     // of the integration
	client   *lab.Client
	provider *lab.Provider
	who      broker.Actor
	refs     map[*lab.User]broker.ConnectionRef
	ids      map[*lab.User]broker.ConnectionID
}

// begin configures an integration of an entry of the broker's catalogue, behind which there is the provider of another:
// the same one, but in tests of the lab itself.
func (b *bench) begin(t *testing.T, key string, entry *lab.Entry) (*run, error) {
	t.Helper()
	client := entry.Client()
	r := &run{
		bench: b, t: t, entry: entry, key: key, client: client, who: broker.System(b.site.Env.ID),
		provider: lab.New(entry, client, apitest.PublicURL+broker.CallbackPath, b.site.Now),
		refs:     map[*lab.User]broker.ConnectionRef{}, ids: map[*lab.User]broker.ConnectionID{},
	}
	r.provider.Fetches(func(path string) []byte { return b.site.Send(t, http.MethodGet, path, "").Body.Bytes() })
	b.playing.Store(r.provider)
	_, err := b.site.Broker.CreateIntegration(t.Context(), r.who, broker.IntegrationInput{
		Key: key, Provider: key, ClientID: client.ID, ClientSecret: broker.NewSecret(client.Secret), Settings: client.Settings, Hosts: client.Hosts,
	})
	return r, err
}

// step does one thing. Whatever the provider found wrong in the meantime is the better explanation, and comes first.
func (r *run) step(name string, do func() error) error {
	err := do()
	if err = errors.Join(r.provider.Faults(), err); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// sent checks which requests the provider got since it was last asked.
func (r *run) sent(want ...string) error {
	want = slices.DeleteFunc(want, func(kind string) bool { return kind == "" })
	if got := r.provider.Requests(); !slices.Equal(got, want) {
		return fmt.Errorf("the provider got the requests %q, not %q", got, want)
	}
	return nil
}

// connect makes a connection of a user, whose session asks for that user's scopes.
func (r *run) connect(u *lab.User) error {
	in := broker.SessionInput{}
	if u.N%2 == 1 && len(u.Scopes) > 0 {
		in.Defaults = map[string]broker.Defaults{r.key: {Scopes: strings.Join(u.Scopes, ",")}}
	}
	_, token, err := r.site.Broker.CreateSession(r.t.Context(), r.who, in)
	if err != nil {
		return err
	}
	who, err := r.site.Broker.AuthenticateSession(r.t.Context(), token.Reveal())
	if err != nil {
		return err
	}
	form, err := r.site.Broker.ConnectForm(r.t.Context(), who, r.key)
	if err != nil {
		return err
	}
	if form.Assigned != nil {
		r.provider.Trusts(u, form.Assigned.Value)
	}
	fields := map[string]string{}
	for name, v := range u.Typed {
		fields["connection_config."+name] = v
	}
	for name, v := range u.Credentials {
		fields["credentials."+name] = v
	}
	out, err := r.signIn(who, u, broker.ConnectInput{Fields: fields})
	if err != nil {
		return err
	}
	r.refs[u], r.ids[u] = broker.ConnectionRef{Integration: r.key, Key: out.Key}, out.Connection
	return nil
}

// signIn goes through the browser where the mode does.
func (r *run) signIn(who broker.Actor, u *lab.User, in broker.ConnectInput) (*broker.Outcome, error) {
	ctx := r.t.Context()
	if !r.facts().Interactive {
		return r.site.Broker.Connect(ctx, who, r.key, in)
	}
	started, err := r.site.Broker.StartFlow(ctx, who, r.key, in)
	if err != nil {
		return nil, err
	}
	back, err := r.provider.Authorize(started.URL, u)
	if err != nil {
		return nil, err
	}
	own := strings.TrimPrefix(strings.TrimPrefix(back.Path, broker.CallbackPath), "/")
	if back.Path == broker.AppCallbackPath {
		own = ""
	}
	return r.site.Broker.FinishFlow(ctx, broker.Callback{Query: back.Query(), Integration: own, Browser: started.Browser})
}

func (r *run) facts() *broker.Facts {
	f, err := r.site.Broker.Provider(r.key)
	if err != nil {
		r.t.Fatal(err)
	}
	return f
}

// reads checks that what the broker keeps of a user is what the provider gave.
func (r *run) reads(u *lab.User) error {
	got, err := r.site.Broker.Reveal(r.t.Context(), r.who, r.refs[u], broker.RevealOptions{})
	if err != nil {
		return err
	}
	access, refresh := r.provider.Issued(u)
	switch m := got.Material; {
	case r.entry.MakesTokens():
		if problem := r.provider.Made(u, m.Access.Reveal()); problem != "" {
			return errors.New("the token that was made: " + problem)
		}
	case m.Access.Reveal() != access || m.Refresh.Reveal() != refresh:
		return errors.New("the credential is not the one that was issued")
	case r.provider.Beside(u) != "" && m.User().Access.Reveal() != r.provider.Beside(u):
		return errors.New("the user's token is not the one that was issued")
	}
	for name, v := range u.Credentials {
		if kept := keptAs(r.entry.Mode(), name); kept != "" && got.Material.Details[kept].Reveal() != v {
			return fmt.Errorf("the credential %s is not the one that was typed", name)
		}
	}
	for name, v := range u.Answered {
		if got.Config[name] != v {
			return fmt.Errorf("connection config %s, which the provider told, is %q", name, got.Config[name])
		}
	}
	if granted := r.provider.Granted(u); granted != nil && r.entry.Mode() != "OAUTH1" && !slices.Equal(got.Connection.Scopes, granted) {
		return fmt.Errorf("the scopes are %q", got.Connection.Scopes)
	}
	account, err := r.site.Broker.Account(got.Connection)
	if want := r.provider.Account(u); err == nil && account != want {
		return fmt.Errorf("the account is %q, not %q", account, want)
	}
	return err
}

// keptAs is under which name what was typed is kept beside the token; "": it is the token.
func keptAs(mode, name string) string {
	switch {
	case name == "apiKey", mode == "TBA" && name == "token_id":
		return ""
	case mode == "TBA" && strings.HasSuffix(name, "_override"):
		return strings.TrimPrefix(strings.TrimSuffix(name, "_override"), "oauth_")
	}
	return name
}

// calls makes a call through the proxy.
func (r *run) calls(u *lab.User) error {
	if !r.facts().HasProxy {
		return nil
	}
	w := r.site.Send(r.t, http.MethodGet, "/proxy"+lab.Path+"?"+lab.Query, "", "Provider-Config-Key", r.key, "Connection-Id", r.refs[u].Key)
	if w.Code != http.StatusOK {
		return fmt.Errorf("the call is answered %d: %s", w.Code, w.Header().Get("X-Error-Code"))
	}
	return nil
}

// connection gives a user's connection.
func (r *run) connection(u *lab.User) (*broker.Connection, error) {
	return r.site.Broker.Connection(r.t.Context(), r.who, r.refs[u])
}

// deletes deletes a user's connection and gives the outcome of its revocation.
func (r *run) deletes(u *lab.User) (string, error) {
	ctx := r.t.Context()
	if err := r.site.Broker.DeleteConnection(ctx, r.who, r.refs[u]); err != nil {
		return "", err
	}
	if err := r.site.Broker.RevokeDue(ctx); err != nil {
		return "", err
	}
	list, err := r.site.Config.Store.Revocations(ctx, r.site.Env.ID, 5)
	for _, x := range list {
		if x.Connection == r.ids[u] {
			return x.Outcome, err
		}
	}
	return "", errors.Join(errors.New("there is no receipt"), err)
}

// passes moves the clock until a token that was issued now has to be renewed.
func (r *run) passes() {
	switch life := r.entry.Life(); {
	case life == 0:
		r.site.Advance(400 * 24 * time.Hour)
	case r.entry.Trades():
		r.site.Advance(life - 20*time.Second)
	default:
		r.site.Advance(life + time.Second)
	}
}

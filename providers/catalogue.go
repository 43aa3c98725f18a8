package providers

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/discovery"
)

// File is a catalogue file that lies over the built-in catalogue.
type File struct {
	Name string // as it stands in messages
	Data []byte
}

// Options is what a catalogue is made from.
type Options struct {
	// Builtin is the catalogue that comes with the program.
	Builtin []byte
	// Overlays add entries and replace ours, the later over the earlier.
	Overlays []File
	// Client makes the requests. Its transport, which must be set, decides which addresses may be reached; without one no
	// request is made. It never follows a redirect here, whatever its own policy says.
	Client *http.Client
	// Certified gives a transport that shows a client certificate, under the same policy. nil: providers that want one are
	// not reached.
	Certified func(*tls.Certificate) http.RoundTripper
	// Metadata makes the requests for documents that say where a server's endpoints are. Unlike the others' its policy for
	// redirects holds; nil: Client makes them too.
	Metadata *http.Client
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Warn is told, once for each provider of an overlay, what in its entry has no effect; nil: nobody is.
	Warn func(provider, message string)
	// CheckURL parses a URL that is about to be used and says whether it may be. literal is set where an operator or an
	// app's backend wrote it, so that its host may be an IP address. nil accepts https URLs with host names.
	CheckURL func(raw string, literal bool) (*url.URL, error)
	// Reach says what a caller may learn of a request that brought no answer: egress_blocked, provider_unreachable or
	// provider_timeout. nil knows the last two.
	Reach func(error) *broker.Error
}

// Catalogue is every provider there is. It does not change and may be used by many goroutines.
type Catalogue struct {
	deps   *deps
	layers []*layer
	names  []string
	items  map[string]func() (broker.Provider, error)
}

// deps is what the modes need of the world.
type deps struct {
	client   *http.Client
	certify  func(*tls.Certificate) http.RoundTripper
	now      func() time.Time
	checkURL func(raw string, literal bool) (*url.URL, error)
	reach    func(error) *broker.Error
	finder   *discovery.Finder
	found    findings
}

// layer is one file's entries.
type layer struct {
	file    string
	builtin bool
	entries map[string]func() (*yaml.Node, error)
}

// Load reads the catalogue files. The built-in one is only cut into entries, see [Catalogue.Check]; of the overlays
// everything is checked. The error is [CatalogueError]: all that is wrong with them.
func Load(o Options) (*Catalogue, error) {
	c, all := Examine(o)
	if len(all) > 0 {
		return nil, all
	}
	return c, nil
}

// Examine is Load for whoever wants to know more about files with problems: it gives what is good of them besides.
func Examine(o Options) (*Catalogue, CatalogueError) {
	c := &Catalogue{deps: newDeps(o), items: map[string]func() (broker.Provider, error){}}
	var all CatalogueError
	for i, f := range append([]File{{Name: "providers.yaml", Data: o.Builtin}}, o.Overlays...) {
		l, ps := readLayer(f)
		l.builtin = i == 0
		c.layers = append(c.layers, l)
		all = append(all, ps...)
	}
	for i, l := range c.layers {
		for name := range l.entries {
			c.items[name] = sync.OnceValues(func() (broker.Provider, error) { return c.provider(i, name) })
		}
	}
	c.names = slices.Sorted(maps.Keys(c.items))
	for i, l := range c.layers {
		if !l.builtin {
			all = append(all, c.checkLayer(i, o.Warn)...)
		}
	}
	return c, all.sorted()
}

func newDeps(o Options) *deps {
	d := &deps{now: o.Now, checkURL: httpsOnly, reach: o.Reach, certify: o.Certified}
	if d.now == nil {
		d.now = time.Now
	}
	if o.CheckURL != nil {
		d.checkURL = func(raw string, literal bool) (*url.URL, error) {
			u, err := o.CheckURL(raw, literal)
			if err != nil {
				return nil, broker.ErrURLNotAllowed.Because(err)
			}
			return u, nil
		}
	}
	if d.reach == nil {
		d.reach = unreachable
	}
	// A copy, so that the caller's own client keeps its policy.
	client := http.Client{Timeout: callTimeout, Transport: noTransport{}}
	if o.Client != nil && o.Client.Transport != nil {
		client.Transport = o.Client.Transport
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	d.client = &client
	d.finder = &discovery.Finder{Calls: d.client, Metadata: d.client, CheckURL: d.checkURL, Reach: d.reach, Now: d.now}
	if o.Metadata != nil && o.Metadata.Transport != nil {
		d.finder.Metadata = o.Metadata
	}
	return d
}

// clientFor gives the client for a certificate; nil: for none.
func (d *deps) clientFor(cert *tls.Certificate) *http.Client {
	if cert == nil {
		return d.client
	}
	client := *d.client
	client.Transport = noTransport{}
	if d.certify != nil {
		client.Transport = d.certify(cert)
	}
	return &client
}

// noTransport sends nothing: without a transport of the caller's there is no policy for what may be reached.
type noTransport struct{}

// RoundTrip refuses.
func (noTransport) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, broker.ErrEgressBlocked
}

// Provider finds an entry. An entry of the built-in catalogue that cannot be decoded is not found; [Catalogue.Check] says
// why.
func (c *Catalogue) Provider(name string) (broker.Provider, bool) {
	get, ok := c.items[name]
	if !ok {
		return nil, false
	}
	p, err := get()
	return p, err == nil
}

// File names the file that an entry is from, "" if it is built in or unknown.
func (c *Catalogue) File(name string) string {
	if l := c.layers[c.top(name)]; !l.builtin {
		return l.file
	}
	return ""
}

// top is the uppermost layer that has an entry, zero where none does.
func (c *Catalogue) top(name string) int {
	for i := len(c.layers) - 1; i > 0; i-- {
		if c.layers[i].entries[name] != nil {
			return i
		}
	}
	return 0
}

// Source gives an entry as YAML, its alias resolved and with what stays of the layers below: what a file that replaces it
// could begin with. Errors: not_found; CatalogueError.
func (c *Catalogue) Source(name string) ([]byte, error) {
	if c.items[name] == nil {
		return nil, broker.ErrNotFound.On("provider").Saying("there is no provider " + name)
	}
	i := c.top(name)
	n, err := c.resolve(i, name, nil)
	if err != nil {
		return nil, problems(c.layers[i].file, name, err)
	}
	n = c.withAdditions(i, name, n)
	own := copied(n) // writing changes nodes
	if at := keyIndex(own, "alias"); at >= 0 {
		own.Content = slices.Delete(own.Content, at, at+2)
	}
	key := &yaml.Node{Kind: yaml.ScalarNode, Value: name}
	return yaml.Dump(&yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{key, own}}, yaml.WithIndent(2), yaml.WithLineWidth(-1))
}

// copied gives a node of which nothing is shared.
func copied(n *yaml.Node) *yaml.Node {
	out := *n
	out.Content = make([]*yaml.Node, len(n.Content))
	for i, x := range n.Content {
		out.Content[i] = copied(x)
	}
	return &out
}

// Names lists all entries, sorted.
func (c *Catalogue) Names() []string { return slices.Clone(c.names) }

// Check decodes every entry and gives all that is wrong as [CatalogueError]. It is the test of the built-in catalogue.
func (c *Catalogue) Check() error {
	var all CatalogueError
	for i := range c.layers {
		all = append(all, c.checkLayer(i, nil)...)
	}
	if len(all) > 0 {
		return all.sorted()
	}
	return nil
}

// readLayer cuts a file into entries. A file that cannot be cut, or whose pieces do not parse by themselves, is parsed
// whole: then the positions in its errors are right too.
func readLayer(f File) (*layer, CatalogueError) {
	l := &layer{file: f.Name, entries: map[string]func() (*yaml.Node, error){}}
	chunks, ok := split(f.Data)
	if !ok {
		return readWhole(l, f)
	}
	var all CatalogueError
	for _, ch := range chunks {
		if l.entries[ch.name] != nil {
			all = append(all, Problem{File: f.Name, Line: ch.line, Column: 1, Entry: ch.name, Text: "stands here twice"})
			continue
		}
		l.entries[ch.name] = sync.OnceValues(func() (*yaml.Node, error) {
			n, err := parse(ch.text, ch.line)
			if err != nil {
				return nil, err
			}
			return child(n, ch.name), nil
		})
	}
	return l, all
}

func readWhole(l *layer, f File) (*layer, CatalogueError) {
	root, err := parse(f.Data, 1)
	if err != nil {
		return l, problems(f.Name, "", err)
	}
	if root == nil {
		return l, nil
	}
	err = eachPair(root, func(name string, n *yaml.Node) error {
		if !validName(name) {
			return faults(n, "%s is not a provider's name: a-z, 0-9 and - only", name)
		}
		l.entries[name] = func() (*yaml.Node, error) { return n, nil }
		return nil
	})
	if err != nil {
		return l, problems(f.Name, "", err)
	}
	return l, nil
}

// checkLayer decodes all entries of a layer, on all processors: a whole foreign catalogue takes some tenths of a second.
func (c *Catalogue) checkLayer(i int, warn func(provider, message string)) CatalogueError {
	names := slices.Sorted(maps.Keys(c.layers[i].entries))
	results := make([]CatalogueError, len(names))
	warnings := make([]string, len(names))
	work := make(chan int)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for n := range work {
				results[n], warnings[n] = c.checkEntry(i, names[n])
			}
		})
	}
	for n := range names {
		work <- n
	}
	close(work)
	wg.Wait()
	for n, w := range warnings {
		if w != "" && warn != nil {
			warn(names[n], w)
		}
	}
	return slices.Concat(results...)
}

// checkEntry reports what is wrong with an entry, and what in it has no effect.
func (c *Catalogue) checkEntry(i int, name string) (CatalogueError, string) {
	l := c.layers[i]
	own, err := l.entries[name]()
	if err != nil {
		return problems(l.file, name, err), ""
	}
	if own == nil {
		return CatalogueError{{File: l.file, Entry: name, Text: "the entry is empty"}}, ""
	}
	s, err := c.spec(i, name)
	if err != nil {
		return problems(l.file, name, err), ""
	}
	return nil, s.ignored()
}

// provider makes the provider of an entry.
func (c *Catalogue) provider(i int, name string) (broker.Provider, error) {
	s, err := c.spec(i, name)
	if err != nil {
		return nil, fmt.Errorf("provider %s: %w", name, err)
	}
	return newProvider(s, c.deps), nil
}

// spec decodes and compiles an entry.
func (c *Catalogue) spec(i int, name string) (*spec, error) {
	n, err := c.resolve(i, name, nil)
	if err != nil {
		return nil, err
	}
	n = c.withAdditions(i, name, n)
	e, err := decode(n)
	if err != nil {
		return nil, err
	}
	return compile(name, e, n, c.deps, c.layers[i].builtin)
}

// resolve gives an entry's mapping with its alias resolved: the target's fields, and over them the entry's own. A target is
// looked for in the same file, then in those below; an entry that names itself means the one below. An alias may name
// another alias, and may stand before its target.
func (c *Catalogue) resolve(i int, name string, seen []string) (*yaml.Node, error) {
	own, err := c.layers[i].entries[name]()
	switch {
	case err != nil:
		return nil, err
	case own == nil || own.Kind != yaml.MappingNode:
		return nil, errors.New("the entry is empty")
	}
	alias := child(own, "alias")
	if alias == nil {
		return own, nil
	}
	target := alias.Value
	here := fmt.Sprint(i, "/", name)
	if slices.Contains(seen, here) {
		return nil, faults(alias, "%s is an alias of itself", name)
	}
	for j := i; j >= 0; j-- {
		if c.layers[j].entries[target] == nil || j == i && target == name {
			continue
		}
		under, err := c.resolve(j, target, append(seen, here))
		if err != nil {
			return nil, err
		}
		return lay(own, under), nil
	}
	return nil, faults(alias, "there is no %s that this could be an alias of", target)
}

// additions are the fields that only our catalogue has. Whether an entry can be used is not among them: an overlay's can be,
// unless it says otherwise itself.
var additions = []string{
	"revocation_url", "revocation", "identity_endpoint", "identity_path", "pkce", "pkce_reason", "refresh_rotation",
	"refresh_grace", "access_token_lifetime", "refresh_token_lifetime", "refresh_token_idle", "token_auth_method",
	"error_predicates", "permanent_errors", "client_errors", "host_pattern", "rate_limit", "quirks", "evidence",
	"post_connection", "issuer", "realm", "token_param_names", "long_lived_token", "lacking", "resource",
	"warnings", "client_id_pattern", "client_assertion",
}

// withAdditions lets our additions stay where an overlay replaces an entry of the layers below and lacks them. They stay
// only while mode and token host are the same: some of them are addresses that tokens are sent to.
func (c *Catalogue) withAdditions(i int, name string, n *yaml.Node) *yaml.Node {
	for j := i - 1; j >= 0; j-- {
		if c.layers[j].entries[name] == nil {
			continue
		}
		under, err := c.resolve(j, name, nil)
		if err != nil {
			return n
		}
		under = c.withAdditions(j, name, under)
		if !sameOrigin(n, under) {
			return n
		}
		kept := *under
		kept.Content = nil
		for k := 0; k+1 < len(under.Content); k += 2 {
			if slices.Contains(additions, under.Content[k].Value) {
				kept.Content = append(kept.Content, under.Content[k], under.Content[k+1])
			}
		}
		return lay(n, &kept)
	}
	return n
}

// sameOrigin reports whether an overlay's entry gets its tokens as ours does, and from no other host.
func sameOrigin(overlay, ours *yaml.Node) bool {
	if a, b := child(overlay, "auth_mode"), child(ours, "auth_mode"); a == nil || b == nil || a.Value != b.Value {
		return false
	}
	known := tokenHosts(ours)
	for _, host := range tokenHosts(overlay) {
		if !slices.Contains(known, host) {
			return false
		}
	}
	return true
}

// tokenHosts gives the hosts that tokens come from, as templates; where there is no token endpoint, those of the API.
func tokenHosts(n *yaml.Node) []string {
	raw := child(n, "token_url")
	if raw == nil {
		raw = child(child(n, "proxy"), "base_url")
	}
	if raw == nil || raw.Kind != yaml.ScalarNode {
		return nil
	}
	var hosts []string
	for alternative := range strings.SplitSeq(raw.Value, "||") {
		_, rest, ok := strings.Cut(alternative, "://")
		if !ok {
			rest = alternative
		}
		host, _, _ := strings.Cut(rest, "/")
		hosts = append(hosts, strings.TrimSpace(host))
	}
	return hosts
}

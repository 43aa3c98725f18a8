package providers

import (
	"errors"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
)

func FuzzOverlay(f *testing.F) {
	for _, seed := range []string{
		acme, freeHosts, "a:\n  alias: a\n", "a: &x {}\nb: *x\n", "{a: {auth_mode: NONE, display_name: A}}", "a:\n  auth_mode: [\n", "- x\n", "\t", "a:\n\tb: c\n",
		"a:\n  display_name: A\n  auth_mode: OAUTH1\n  request_url: 'https://a.example/r'\n  authorization_url: 'https://a.example/a'\n  token_url: 'https://a.example/t'\n",
		"a:\n  display_name: A\n  auth_mode: BASIC\n  proxy: {base_url: 'https://${connectionConfig.x}.a.example'}\n",
	} {
		f.Add([]byte(seed))
	}
	o := options(f)
	o.Builtin = []byte(acme)
	f.Fuzz(func(t *testing.T, data []byte) {
		o.Overlays = []File{{Name: "fuzz.yaml", Data: data}}
		c, err := Load(o)
		var ps CatalogueError
		if err != nil {
			if !errors.As(err, &ps) || len(ps) == 0 {
				t.Fatalf("not a list of problems: %v", err)
			}
			return
		}
		for _, name := range c.Names() {
			p, ok := c.Provider(name)
			if !ok {
				t.Fatalf("%q is listed and not found", name)
			}
			h := &broker.Holding{Client: client, Config: map[string]string{"x": "y"}, Material: material(p.Facts().Mode)}
			_, _ = p.Present(h)
			_, _ = p.CheckConfig(h.Config, client, false)
			if a, ok := p.(broker.Authorizer); ok {
				_, _ = a.AuthorizeURL(&broker.AuthorizeRequest{Client: client, Verifier: verifier})
			}
		}
	})
}

package openapitest

import (
	"maps"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// rows holds the operations against the rows of the surfaces.
func (c *checker) rows(surfaces []kit.Surface) {
	left := maps.Clone(c.ops)
	reasons := maps.Clone(c.spec.Undocumented)
	for _, s := range surfaces {
		for _, row := range s.Routes {
			key := row.Method + " " + strings.ReplaceAll(row.Path, ":.*}", "}")
			o, documented := c.ops[key]
			reason, excused := reasons[key]
			delete(left, key)
			delete(reasons, key)
			switch {
			case documented && excused:
				c.add("%s is in x-undocumented, and documented", key)
			case documented:
				c.row(o, row)
			case reason == "":
				c.add("%s has no operation, and no reason in x-undocumented", key)
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(left)) {
		c.add("%s has no row", key)
	}
	for _, key := range slices.Sorted(maps.Keys(reasons)) {
		c.add("%s is in x-undocumented and has no row", key)
	}
}

func (c *checker) row(o *operation, row kit.Route) {
	if got := c.auth(o); got != row.Auth.Name {
		c.add("%s lets in %q, and the document says %q", o, row.Auth.Name, got)
	}
	if row.MaxBody == 0 && o.Body != nil {
		c.add("%s takes no body", o)
	}
}

// auth names who may call an operation, as its row does: each kind with the scopes of which one is enough.
func (c *checker) auth(o *operation) string {
	switch {
	case o.Auth != "":
		return o.Auth
	case len(*o.Security) == 0:
		return kit.Public.Name
	}
	var kinds []string
	scopes := make(map[string][]string)
	for _, alternative := range *o.Security {
		for name, needed := range alternative {
			scheme, _ := c.spec.Components.SecuritySchemes.Get(name)
			if !slices.Contains(kinds, scheme.Auth) {
				kinds = append(kinds, scheme.Auth)
			}
			if len(needed) > 0 {
				scopes[scheme.Auth] = append(scopes[scheme.Auth], strings.Join(needed, "+"))
			}
		}
	}
	for i, kind := range kinds {
		if len(scopes[kind]) > 0 {
			kinds[i] = kind + " " + strings.Join(scopes[kind], "|")
		}
	}
	return strings.Join(kinds, " or ")
}

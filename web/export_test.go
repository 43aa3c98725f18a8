package web

import (
	"fmt"
	"strings"
)

// Table prints every row of every surface, for a reviewer: method, path, who comes in, and how long a body may be.
func Table(d Deps) string {
	var out strings.Builder
	for _, s := range surfaces(d) {
		fmt.Fprintf(&out, "%s\n", s.Name)
		for _, row := range s.Routes {
			flags := ""
			if row.Auth.Limited {
				flags += ", limited by address"
			}
			if row.Auth.Pages {
				flags += ", other origins"
			}
			fmt.Fprintf(&out, "  %-7s %-40s %8d  %s%s\n", row.Method, row.Path, row.MaxBody, row.Auth.Name, flags)
		}
	}
	return out.String()
}

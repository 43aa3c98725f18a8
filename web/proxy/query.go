package proxy

import (
	"net/url"
	"strings"

	"github.com/coatcheck/coatcheck/broker"
)

// maxParams is how many parameters a query may have.
const maxParams = 500

// checkQuery accepts a query that every server reads alike, so that nothing can hide in it: no semicolon, which separates
// parameters for some, and only whole escapes. Errors: invalid_query.
func checkQuery(query string) error {
	params := 1
	for i := range len(query) {
		switch c := query[i]; {
		case c == '&':
			params++
		case c == '%':
			if i+2 >= len(query) || hexValue(query[i+1]) < 0 || hexValue(query[i+2]) < 0 {
				return broker.ErrInvalidQuery
			}
		case c == ';', c == '#', c <= ' ', c == 0x7f:
			return broker.ErrInvalidQuery
		}
	}
	if params > maxParams {
		return broker.ErrInvalidQuery.Saying("the query has more than 500 parameters")
	}
	return nil
}

// names reports whether the query has the parameter. Case does not count: to some servers it does not either.
func names(query, param string) bool {
	for pair := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if strings.ContainsAny(name, "%+") {
			plain, err := url.QueryUnescape(name)
			if err != nil {
				return true // cannot be: the query was checked
			}
			name = plain
		}
		if strings.EqualFold(name, param) {
			return true
		}
	}
	return false
}

// withParams adds the parameters of the provider's authentication to a query that may have some of them already, as the
// target of a redirect does. Their values are encoded.
func withParams(query string, params []broker.Param) string {
	for i := range params {
		p := &params[i]
		if names(query, p.Key) {
			continue
		}
		if query != "" {
			query += "&"
		}
		query += url.QueryEscape(p.Key) + "=" + p.Value
	}
	return query
}

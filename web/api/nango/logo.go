package nango

import (
	"encoding/xml"
	"fmt"
	"hash/fnv"
	"net/http"
	"strings"
	"unicode"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// logoURL is where callers find a provider's logo.
func (a *api) logoURL(provider string) string {
	return a.b.PublicURL() + "/images/template-logos/" + provider + ".svg"
}

// logo answers GET /images/template-logos/{provider}.svg with a tile of our own: the initials on a colour. Vendors' logos
// are their trade marks, which we do not hand on.
func (a *api) logo(w http.ResponseWriter, r *http.Request, _ broker.Actor) error {
	name, err := pathValue(r, "provider", isProviderName)
	if err != nil {
		return err
	}
	f, err := a.b.Provider(name)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Cache-Control", "public, max-age=86400")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin") // a picture for everybody's pages
	kit.WriteBody(w, http.StatusOK, "image/svg+xml", tile(f.Name, f.DisplayName))
	return nil
}

// tile draws initials on a colour that depends on the name alone.
func tile(name, display string) []byte {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(name))
	if display == "" {
		display = name
	}
	var initials, label strings.Builder
	_ = xml.EscapeText(&initials, []byte(initialsOf(display)))
	_ = xml.EscapeText(&label, []byte(display))
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64" viewBox="0 0 64 64" role="img" aria-label="%s">`+
		`<rect width="64" height="64" rx="14" fill="hsl(%d,45%%,42%%)"/>`+
		`<text x="32" y="41" fill="#fff" font-family="system-ui,sans-serif" font-size="26" font-weight="600" text-anchor="middle">%s</text></svg>`,
		label.String(), sum.Sum32()%360, initials.String())
}

// initialsOf gives the first letters of the first two words, or the first two of a single one.
func initialsOf(display string) string {
	words := strings.FieldsFunc(display, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) })
	switch len(words) {
	case 0:
		return "?"
	case 1:
		return strings.ToUpper(string([]rune(words[0])[:min(2, len([]rune(words[0])))]))
	}
	return strings.ToUpper(string([]rune(words[0])[:1]) + string([]rune(words[1])[:1]))
}

package nango

import (
	"bytes"
	"net/http"
	"regexp"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// providers answers GET /providers.
func (a *api) providers(w http.ResponseWriter, r *http.Request, _ broker.Actor) error {
	q, err := params(r)
	if err != nil {
		return err
	}
	search := q.text("search", isIntegrationKey...)
	if err := q.done(); err != nil {
		return err
	}
	// The search is a regular expression on the name. The characters that it may have make any text a valid one.
	form, err := regexp.Compile("(?i)" + search)
	if err != nil {
		return broker.ErrInternal.Because(err)
	}
	out := []jsontext.Value{}
	for _, f := range a.b.Providers("") {
		if form.MatchString(f.Name) {
			entry, err := a.entry(f)
			if err != nil {
				return err
			}
			out = append(out, entry)
		}
	}
	return kit.WriteJSON(w, http.StatusOK, data[[]jsontext.Value]{out})
}

// provider answers GET /providers/{provider}.
func (a *api) provider(w http.ResponseWriter, r *http.Request, _ broker.Actor) error {
	if err := noQuery(r); err != nil {
		return err
	}
	name, err := pathValue(r, "provider", isProviderName)
	if err != nil {
		return err
	}
	f, err := a.b.Provider(name)
	if err != nil {
		return err
	}
	entry, err := a.entry(f)
	if err != nil {
		return err
	}
	return kit.WriteJSON(w, http.StatusOK, data[jsontext.Value]{entry})
}

// entry gives a catalogue entry as it stands there, with its name and logo in front.
func (a *api) entry(f *broker.Facts) (jsontext.Value, error) {
	var out bytes.Buffer
	e := jsontext.NewEncoder(&out)
	tokens := []jsontext.Token{
		jsontext.BeginObject, jsontext.String("name"), jsontext.String(f.Name), jsontext.String("logo_url"), jsontext.String(a.logoURL(f.Name)),
	}
	for _, t := range tokens {
		if err := e.WriteToken(t); err != nil {
			return nil, broker.ErrInternal.Because(err)
		}
	}
	var failed error
	eachMember(f.Template, func(name string, v jsontext.Value) {
		if name == "name" || name == "logo_url" || failed != nil {
			return
		}
		if failed = e.WriteToken(jsontext.String(name)); failed == nil {
			failed = e.WriteValue(v)
		}
	})
	if failed == nil {
		failed = e.WriteToken(jsontext.EndObject)
	}
	if failed != nil {
		return nil, broker.ErrInternal.Because(failed)
	}
	return bytes.TrimSpace(out.Bytes()), nil
}

// templates answers GET /providers/{provider}/templates: there are no functions here.
func (a *api) templates(w http.ResponseWriter, _ *http.Request, _ broker.Actor) error {
	return kit.WriteJSON(w, http.StatusOK, data[[]struct{}]{[]struct{}{}})
}

// catalogue answers GET /providers.json: every entry as it stands in the catalogue, under its name.
func (a *api) catalogue(w http.ResponseWriter, _ *http.Request, _ broker.Actor) error {
	all := make(map[string]jsontext.Value)
	for _, f := range a.b.Providers("") {
		all[f.Name] = f.Template
	}
	w.Header().Set("Cache-Control", "public, max-age=300")
	return kit.WriteJSON(w, http.StatusOK, all)
}

package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers"
)

type providersCommand struct {
	List   providersListCommand  `cmd:"" help:"List the providers of the catalogue."`
	Show   providersShowCommand  `cmd:"" help:"Show all that is known of a provider, and the address to register with it."`
	Check  providersCheckCommand `cmd:"" help:"Check a file of providers, or those that the configuration names."`
	Doctor doctorCommand         `cmd:"" help:"Say what is wrong with an integration before a user finds out."`
}

// openCatalogue loads the catalogue that the configuration makes. Nothing else is opened.
func openCatalogue(p *program, o overrides) (*config, *providers.Catalogue, error) {
	n, err := bareNode(p, o)
	if err != nil {
		return nil, nil, err
	}
	c, err := n.catalogue()
	return n.config, c, err
}

// bareNode is a node without its database.
func bareNode(p *program, o overrides) (*node, error) {
	cfg, err := loadConfig(p.env, o)
	if err != nil {
		return nil, err
	}
	n := &node{config: cfg, log: slog.New(slog.DiscardHandler)}
	n.egress, err = newEgress(cfg, cfg.Egress.Allow)
	return n, err
}

// writeJSON prints a value for programs.
func (p *program) writeJSON(v any) error {
	raw, err := json.Marshal(v, jsontext.WithIndent("  "), json.Deterministic(true), jsontext.EscapeForHTML(false))
	if err != nil {
		return err
	}
	p.say("%s", raw)
	return nil
}

type providersListCommand struct {
	overrides
	Search string `help:"Only those whose key, name or category holds the text." placeholder:"TEXT"`
	JSON   bool   `name:"json" help:"For programs."`
}

// listed is a provider in the list for programs.
type listed struct {
	Key        string   `json:"key"`
	Name       string   `json:"name"`
	Mode       string   `json:"mode"`
	Categories []string `json:"categories"`
	Usable     bool     `json:"usable"`
	Reason     string   `json:"unusable_reason,omitzero"`
	Supports   []string `json:"supports"`
	File       string   `json:"file,omitzero"`
}

// Run lists the catalogue.
func (c *providersListCommand) Run(p *program) error {
	_, catalogue, err := openCatalogue(p, c.overrides)
	if err != nil {
		return err
	}
	list := []listed{}
	for _, name := range catalogue.Names() {
		e, err := entryOf(catalogue, name)
		if err != nil {
			return err
		}
		if f := e.facts; c.finds(f) {
			list = append(list, listed{
				Key: name, Name: f.DisplayName, Mode: f.Mode, Categories: f.Categories, Usable: f.Usable, Reason: f.UnusableReason,
				Supports: e.supports(), File: e.file,
			})
		}
	}
	if c.JSON {
		return p.writeJSON(list)
	}
	w := tabwriter.NewWriter(p.stdout, 0, 8, 2, ' ', 0)
	_, _ = w.Write([]byte("KEY\tNAME\tMODE\tUSABLE\tSUPPORTS\n"))
	for _, x := range list {
		row := []string{x.Key, x.Name, x.Mode, yesNo(x.Usable), cmp.Or(strings.Join(x.Supports, " "), "-")}
		_, _ = w.Write([]byte(strings.Join(row, "\t") + "\n"))
	}
	return w.Flush()
}

// finds reports whether the entry is searched for.
func (c *providersListCommand) finds(f *broker.Facts) bool {
	search := strings.ToLower(c.Search)
	return slices.ContainsFunc(append([]string{f.Name, f.DisplayName}, f.Categories...), func(s string) bool {
		return strings.Contains(strings.ToLower(s), search)
	})
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

type providersShowCommand struct {
	overrides
	Key  string `arg:"" help:"The provider, as list shows it."`
	YAML bool   `name:"yaml" help:"The entry as a file could have it, its alias resolved."`
}

// Run shows a provider.
func (c *providersShowCommand) Run(p *program) error {
	cfg, catalogue, err := openCatalogue(p, c.overrides)
	if err != nil {
		return err
	}
	if c.YAML {
		text, err := catalogue.Source(c.Key)
		if err != nil {
			return err
		}
		p.say("%s", strings.TrimSuffix(string(text), "\n"))
		return nil
	}
	e, err := entryOf(catalogue, c.Key)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(p.stdout, 0, 8, 2, ' ', 0)
	for _, l := range e.lines(cfg.PublicURL) {
		if l.text != "" {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", l.label, l.text)
		}
	}
	return w.Flush()
}

type providersCheckCommand struct {
	overrides
	File string `arg:"" optional:"" help:"A file of providers; those that the configuration names if not given."`
}

// errProblems says that there is something wrong, which has been printed.
var errProblems = errors.New("there are problems")

// Run checks files, and says what of them can be used.
func (c *providersCheckCommand) Run(p *program) error {
	n, err := bareNode(p, c.overrides)
	if err != nil {
		return err
	}
	overlays, err := n.overlays()
	if c.File != "" {
		var raw []byte
		raw, err = os.ReadFile(c.File)
		overlays = []providers.File{{Name: c.File, Data: raw}}
	}
	if err != nil {
		return err
	}
	without := map[string]int{}
	options := n.catalogueOptions(overlays)
	options.Warn = func(_, message string) {
		for part := range strings.SplitSeq(strings.TrimPrefix(message, providers.WithoutEffect), ", ") {
			without[part]++
		}
	}
	catalogue, problems := providers.Examine(options)
	if len(overlays) == 0 {
		if err := catalogue.Check(); !errors.As(err, &problems) && err != nil {
			return err
		}
	}
	for _, x := range problems {
		p.say("%s", x)
	}
	p.report(catalogue, overlays, without)
	if len(problems) > 0 {
		return errProblems
	}
	return nil
}

// report says how many entries can be used, and why the others cannot.
func (p *program) report(c *providers.Catalogue, overlays []providers.File, without map[string]int) {
	total, usable := 0, 0
	reasons := map[string][]string{}
	for _, name := range c.Names() {
		if len(overlays) > 0 && c.File(name) == "" {
			continue
		}
		total++
		switch x, ok := c.Provider(name); {
		case !ok:
			reasons["It has problems."] = append(reasons["It has problems."], name)
		case x.Facts().Usable:
			usable++
		default:
			why := x.Facts().UnusableReason
			reasons[why] = append(reasons[why], name)
		}
	}
	percent := 100
	if total > 0 {
		percent = 100 * usable / total
	}
	p.say("%d of %d entries usable (%d %%)", usable, total, percent)
	for _, why := range slices.SortedFunc(maps.Keys(reasons), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(reasons[b]), len(reasons[a])), cmp.Compare(a, b))
	}) {
		p.say("%6d  %s (%s)", len(reasons[why]), why, some(reasons[why]))
	}
	for _, part := range slices.Sorted(maps.Keys(without)) {
		p.say("%6d  with a part that has no effect here: %s", without[part], part)
	}
}

// some names the first of a list.
func some(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:most], ", ") + ", ..."
}

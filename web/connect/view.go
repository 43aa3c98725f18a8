package connect

import (
	"cmp"
	"hash/fnv"
	"net/url"
	"strconv"
	"strings"
	"unicode"

	"github.com/coatcheck/coatcheck/broker"
)

// frame is what every page has around it.
type frame struct {
	T       *texts
	Title   string
	Theme   string  // light or dark; empty: as the system has it
	Carried []param // what forms hand on
	CSS     string
	JS      string
	Icon    string
	GoTo    string // leave for this address at once
	Return  string // leave for this address after a moment, where no script does
	Result  bool   // a short page: it stands in the middle
	Outcome *outcome
	Embed   *embedView // nil: the page stands for itself
}

// embedView is what a page needs that an app's page has inside it.
type embedView struct {
	JS     string
	Parent string // the origin of the app's page; empty: not known yet
	Tell   string // JSON: what the app's page is told at once; empty: nothing
	Watch  bool
}

// bootPage waits for the app's page to tell the session's token.
type bootPage struct {
	frame
	Origins  string // JSON: who may tell it
	AnyLocal bool   // any page of this machine may
	Next     string // where to go with it
	Late     failureText
	Alone    failureText // there is no page around
}

// awayView is what an embedded form says while the sign-in goes on in a window of its own.
type awayView struct {
	Title           string
	Address         string // where the sign-in's state is asked for
	Result          string // where the page goes in the end
	Closed, Blocked string // JSON: what the app's page is told then
}

// outcome is what a page tells its opener. The script sends it.
type outcome struct {
	Message  string // JSON
	Also     string // JSON: the same as the Nango client knows it; empty: nothing
	Origins  string // JSON: an array of origins
	AnyLocal bool   // an opener on this machine may have it too
	Return   string // where to go when there is no opener
}

type tile struct{ Letters, Hue string }

type listPage struct {
	frame
	Lead    string
	Empty   string // said instead of a list
	Address string
	Token   string
	Query   string
	Search  bool
	Whole   bool // nothing is filtered out, so the script may filter
	Items   []listItem
}

type listItem struct {
	Name, Detail, Address string
	Search                string // what the script compares with
	Tile                  tile
	Connected             bool
}

type formPage struct {
	frame
	App, Provider tile
	Lead          string
	BackAddress   string
	Action        string
	Token, CSRF   string
	Note          string // a sealed start, in place of the token
	AppName       string
	Account       string
	AccountAlso   string
	Warning       string
	Scopes        []string
	MoreScopes    []string
	MoreLabel     string
	Fields        []fieldView
	Alert         *alertView
	HelpAddress   string
	HelpLabel     string
	Button        string
	Reassurance   string
	Attempt       string // of the window that this form is in
	Away          *awayView
}

// The kinds of fields.
const (
	kindText     = "text"
	kindPassword = "password"
	kindLines    = "lines"
	kindSelect   = "select"
)

type fieldView struct {
	ID, Name, Kind     string
	Label, Description string
	Value, Placeholder string
	Prefix, Suffix     string
	Options            []string
	InputMode          string
	HelpAddress        string
	Problem            string
	Required           bool
	Focus              bool
	Fixed              bool // it is shown to be copied, and not sent
}

// describedBy names the elements that explain the field to a screen reader.
func (f fieldView) describedBy() string {
	var ids []string
	if f.Problem != "" {
		ids = append(ids, f.ID+"-problem")
	}
	if f.Description != "" {
		ids = append(ids, f.ID+"-hint")
	}
	return strings.Join(ids, " ")
}

type alertView struct{ Title, Text string }

type goPage struct {
	frame
	Lead, Link, Target string
	Scopes             []string // asked for there; the page waits until they have been read
}

type repostPage struct {
	frame
	Action string
	Fields []param
}

type param struct{ Name, Value string }

type donePage struct {
	frame
	Text    string
	Missing string // what was not granted
	Address string // back to the app
	Link    string
}

type failurePage struct {
	frame
	Text, Next      string
	Calm            bool
	Said, Detail    string // the provider's own text
	Retry           string
	Address, Link   string // back to the app
	Code, RequestID string
}

// frame starts a page's view.
func (u *UI) frame(l look, title string) frame {
	f := frame{
		T: l.texts, Title: title, Theme: l.Theme, Carried: l.params(),
		CSS: u.assets.Path("connect.css"), JS: u.assets.Path("connect.js"), Icon: u.assets.Path("icon.svg"),
	}
	if l.embedded {
		f.Embed = &embedView{JS: u.assets.Path("embed.js"), Parent: l.Parent, Watch: l.Watch}
	}
	return f
}

// result starts the view of a page that tells how something went.
func (u *UI) result(l look, title string) frame {
	f := u.frame(l, title)
	f.Result = true
	return f
}

// hues is how many background colours the stylesheet has for tiles.
const hues = 12

// tileOf stands for a name where others would show a logo.
func tileOf(name string) tile {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return tile{Letters: initials(name), Hue: "hue-" + strconv.FormatUint(uint64(h.Sum32()%hues), 10)}
}

// initials gives one or two letters: of the first two words, else of the two parts of a name like GitHub, else the
// first one.
func initials(name string) string {
	words := strings.FieldsFunc(name, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	if len(words) == 0 {
		return "?"
	}
	first := []rune(words[0])
	out := []rune{unicode.ToUpper(first[0])}
	if len(words) > 1 {
		return string(append(out, unicode.ToUpper([]rune(words[1])[0])))
	}
	for i := 1; i < len(first); i++ {
		if unicode.IsUpper(first[i]) && !unicode.IsUpper(first[i-1]) {
			return string(append(out, first[i]))
		}
	}
	return string(out)
}

// account says for whom a connection is made, as the app's backend describes them: a name, and what else is known.
func account(t *texts, e *broker.EndUser) (name, also string) {
	if e == nil {
		e = &broker.EndUser{}
	}
	var known []string
	for _, s := range []string{e.DisplayName, e.Email, e.OrganizationName} {
		if s = strings.TrimSpace(s); s != "" {
			known = append(known, s)
		}
	}
	if len(known) == 0 {
		return cmp.Or(e.ID, t.WhoUnknown), ""
	}
	return known[0], strings.Join(known[1:], " · ")
}

// webAddress gives an address that somebody configured if a link may lead there: https, or http on this machine where
// that is allowed. Everything else, javascript: above all, gives nothing.
func webAddress(s string, local bool) string {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.User != nil:
		return ""
	case u.Scheme == "https", u.Scheme == "http" && local && broker.Loopback(u.Hostname()):
		return u.String()
	}
	return ""
}

// displayName is how an integration is called: by its own name, its provider's, or its provider's id where the provider
// has left the catalogue.
func displayName(i *broker.Integration, f *broker.Facts) string {
	switch {
	case i.DisplayName != "":
		return i.DisplayName
	case f != nil && f.DisplayName != "":
		return f.DisplayName
	}
	return i.Provider
}

package connect

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// searchFrom is how many choices a list needs before it gets a search box.
const searchFrom = 9

// list shows what the session may connect, or the form itself where there is one choice.
func (u *UI) list(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	integrations, err := u.broker.Integrations(r.Context(), who)
	if err != nil {
		return err
	}
	l, err := u.look(r, who)
	if err != nil {
		return err
	}
	token := r.URL.Query().Get(paramToken)
	if len(integrations) == 1 {
		return u.showForm(w, r, who, visit{look: l, token: token, key: integrations[0].Key})
	}
	env, err := u.broker.Environment(who)
	if err != nil {
		return err
	}
	session, err := u.broker.Session(r.Context(), who)
	if err != nil {
		return err
	}
	items := u.items(l, integrations, session, token)
	page := listPage{
		frame: u.frame(l, fill(l.ListTitle, "{app}", env.Label())), Lead: l.ListLead,
		Address: listPath, Token: token, Query: strings.TrimSpace(r.URL.Query().Get(paramQuery)),
		Search: len(items) >= searchFrom, Items: items,
		Empty: fill(l.ListEmpty, "{app}", env.Label()),
	}
	page.Whole = page.Query == ""
	if !page.Whole {
		page.Items = matching(items, page.Query)
		page.Empty = l.ListNone
	}
	return u.render(w, r, http.StatusOK, listView(page), l.rules(""))
}

// items makes the list. What cannot be connected is left out.
func (u *UI) items(l look, integrations []*broker.Integration, s *broker.Session, token string) []listItem {
	items := make([]listItem, 0, len(integrations))
	for _, i := range integrations {
		facts, err := u.broker.Provider(i.Provider)
		if err != nil || !facts.Usable {
			continue
		}
		_, connected := s.Ended(i.ID)
		name := displayName(i, facts)
		item := listItem{
			Name: name, Address: l.address(formPath(i.Key), token), Tile: tileOf(name), Connected: connected,
		}
		if name != facts.DisplayName {
			item.Detail = facts.DisplayName
		}
		item.Search = strings.ToLower(item.Name + " " + item.Detail)
		items = append(items, item)
	}
	return items
}

func matching(items []listItem, query string) []listItem {
	var out []listItem
	for _, item := range items {
		if strings.Contains(item.Search, strings.ToLower(query)) {
			out = append(out, item)
		}
	}
	return out
}

// form shows the form of one integration.
func (u *UI) form(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	l, err := u.look(r, who)
	if err != nil {
		return err
	}
	return u.showForm(w, r, who, visit{look: l, token: r.URL.Query().Get(paramToken), key: r.PathValue("key")})
}

// visit is one look at a form: a first one, or one after a refusal.
type visit struct {
	look
	token, key string
	typed      map[string]string
	refusal    *broker.Error // nil: a first look
}

// showForm renders a form: empty, or with what was typed and what is wrong with it.
func (u *UI) showForm(w http.ResponseWriter, r *http.Request, who broker.Actor, at visit) error {
	form, err := u.broker.ConnectForm(r.Context(), who, at.key)
	if err != nil {
		return u.stop(r, who, at.key, err)
	}
	integrations, err := u.broker.Integrations(r.Context(), who)
	if err != nil {
		return err
	}
	page := u.formPage(form, at)
	page.CSRF = u.guard.token(form.Session.ID)
	if len(integrations) > 1 && at.Attempt == "" {
		page.BackAddress = at.address(listPath, at.token)
	}
	status := http.StatusOK
	if at.refusal != nil {
		u.explain(&page, form, at)
		status = kit.Status(at.refusal.Kind)
	}
	return u.render(w, r, status, formView(page), at.rules(plainOrigin(form.AuthorizationOrigin)))
}

// scopesShown is how many scopes a form shows before it folds the rest away.
const scopesShown = 5

func (u *UI) formPage(f *broker.ConnectForm, at visit) formPage {
	app, provider := f.Environment.Label(), formName(f)
	say := func(text string) string { return fill(text, "{app}", app, "{provider}", provider) }
	page := formPage{
		frame: u.frame(at.look, say(at.FormTitle)), App: tileOf(app), Provider: tileOf(provider),
		Action: formPath(f.Integration.Key), Token: at.token, AppName: app, Button: at.Connect,
		Scopes: f.Scopes, HelpLabel: say(at.Help), HelpAddress: webAddress(f.DocsConnect, false),
	}
	if f.Reconnecting {
		page.Title, page.Button = say(at.RepairTitle), at.Reconnect
	}
	page.Attempt = at.Attempt
	if f.Facts.Interactive && page.Embed != nil {
		page.Away = &awayView{
			Title: say(at.AwayTitle), Address: at.address(page.Action+"/attempt", at.token), Result: at.address(page.Action+"/done", at.token),
			Closed:  toJSON(toldError{"window_closed", inOne(at.ClosedTitle, at.ClosedText)}),
			Blocked: toJSON(toldError{"blocked_by_browser", inOne(at.BlockedTitle, at.BlockedText)}),
		}
	}
	page.Account, page.AccountAlso = account(at.texts, f.Session.EndUser)
	page.Warning = at.WhoWarning
	if page.Account == at.WhoUnknown {
		page.Warning = at.WhoUnknownWarning
	}
	if len(f.Scopes) > scopesShown+1 {
		page.Scopes, page.MoreScopes = f.Scopes[:scopesShown], f.Scopes[scopesShown:]
		page.MoreLabel = fill(at.ScopesMore, "{count}", strconv.Itoa(len(f.Scopes)))
	}
	page.Lead = say(lead(at.texts, f))
	switch {
	case f.Facts.Interactive:
		page.Reassurance = say(at.StaysWithProvider)
	case len(f.Ask) > 0:
		page.Reassurance = at.StoredEncrypted
	}
	for i, ask := range f.Ask {
		v := u.field(f, i, ask, at.typed)
		if v.HelpAddress != "" {
			page.HelpAddress = "" // the field's own is closer
		}
		page.Fields = append(page.Fields, v)
	}
	if a := f.Assigned; a != nil && !f.Reconnecting {
		page.Fields = append(page.Fields, fieldView{
			ID: "field-assigned", Kind: kindText, Label: a.Field.Title, Description: say(at.FieldAssigned), Value: a.Value, Fixed: true,
		})
	}
	return page
}

func lead(t *texts, f *broker.ConnectForm) string {
	switch {
	case f.Facts.Interactive && len(f.Ask) > 0:
		return t.LeadSignInFields
	case f.Facts.Interactive:
		return t.LeadSignIn
	case len(f.Ask) > 0:
		return t.LeadFields
	}
	return t.LeadNothing
}

// formName is how the form calls what is connected.
func formName(f *broker.ConnectForm) string {
	if f.Title != "" {
		return f.Title
	}
	return displayName(f.Integration, f.Facts)
}

// field makes the view of a field. What was typed stays, unless it is secret: then it would be in the page's source.
func (u *UI) field(f *broker.ConnectForm, i int, ask broker.Field, typed map[string]string) fieldView {
	v := fieldView{
		ID: "field-" + strconv.Itoa(i+1), Name: fieldName(ask), Kind: fieldKind(ask), Label: ask.Title,
		Description: ask.Description, Placeholder: ask.Example, Prefix: ask.Prefix, Suffix: ask.Suffix,
		Options: ask.Options, Value: ask.Default, Required: !ask.Optional && !ask.HasDefault,
	}
	if v.Label == "" {
		v.Label = ask.Name
	}
	if before, ok := typed[v.Name]; ok {
		v.Value = before
	}
	if ask.Secret {
		v.Value = ""
	}
	switch ask.Format {
	case "uri", "hostname":
		v.InputMode = "url"
	case "email":
		v.InputMode = "email"
	}
	if strings.HasPrefix(ask.DocSection, "#") && f.DocsConnect != "" && f.DocsConnect == f.Facts.DocsConnect {
		v.HelpAddress = webAddress(f.DocsConnect+ask.DocSection, false)
	}
	return v
}

func fieldName(f broker.Field) string { return string(f.Section) + "." + f.Name }

// fieldKind chooses the element. A private key has lines, which a password field would drop.
func fieldKind(f broker.Field) string {
	switch {
	case len(f.Options) > 0:
		return kindSelect
	case f.Secret && (strings.Contains(f.Example, "-----BEGIN") || isKeyName(f.Name)):
		return kindLines
	case f.Secret:
		return kindPassword
	}
	return kindText
}

func isKeyName(name string) bool {
	name = strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(name))
	return strings.Contains(name, "privatekey") || strings.Contains(name, "certificate")
}

// explain puts a refusal where it belongs: beside its field, or above them all.
func (u *UI) explain(page *formPage, f *broker.ConnectForm, at visit) {
	say := func(text, example string) string {
		return fill(text, "{app}", f.Environment.Label(), "{provider}", formName(f), "{example}", example)
	}
	for i := range page.Fields {
		v := &page.Fields[i]
		if at.refusal.Field == "" || v.Name != at.refusal.Field {
			continue
		}
		v.Focus = true
		switch {
		case at.typed[v.Name] == "":
			v.Problem = at.FieldMissing
		case v.Placeholder != "" && !f.Ask[i].Secret:
			v.Problem = say(at.FieldExample, v.Placeholder)
		default:
			v.Problem = say(at.FieldWrong, "")
		}
		return
	}
	text := at.failure(at.refusal.Code)
	page.Alert = &alertView{Title: say(text.Title, ""), Text: say(text.Text, "")}
	page.tell(tellError, toldError{errorType(at.refusal.Code), inOne(page.Alert.Title, page.Alert.Text)})
}

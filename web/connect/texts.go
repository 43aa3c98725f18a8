package connect

import "strings"

// texts is everything that the pages say in one language. Names in braces are filled in: {app} is who asks, {provider}
// what is connected. Where a name is unknown, TheApp or Provider stands for it, so the grammar around must fit both.
type texts struct {
	Language string // of the html element

	Footer   string
	TheApp   string // stands for {app} where it is unknown
	Provider string // stands for {provider} where it is unknown

	ListTitle, ListLead, ListEmpty, ListNone string
	Search, SearchButton, Connected          string

	FormTitle, RepairTitle                      string
	LeadSignIn, LeadFields, LeadSignInFields    string
	LeadNothing                                 string
	WhoTitle, WhoApp, WhoAccount, WhoUnknown    string
	WhoWarning, WhoUnknownWarning               string
	ScopesTitle, ScopesMore                     string
	Optional, Choose, Show, Hide, FieldHelp     string
	FieldAssigned                               string
	FieldMissing, FieldWrong, FieldExample      string
	Help, Back, Connect, Reconnect, Busy        string
	StaysWithProvider, StoredEncrypted, NewPage string

	GoTitle, GoLead, GoLink           string
	RepostTitle, RepostLead, Continue string
	DoneTitle, DoneAgainTitle         string
	DoneText, DoneReturn, DoneLater   string
	Close, Retry                      string
	ProviderSaid, Reference, Request  string

	// Inside an app's page.
	EmbedTitle, EmbedWait, NoScript                        string
	Dismiss, Finish, DoneEmbedded, NotGranted, NotApproved string
	LeaveTitle, LeaveText, LeaveStay, LeaveGo              string
	AwayTitle, AwayText, AwayAgain, AwayBack               string
	ClosedTitle, ClosedText                                string
	BlockedTitle, BlockedText                              string
	Late                                                   failureText // the app's page says nothing

	// Failures are by the broker's code; the one without a code is for all others.
	Failures map[string]failureText
}

// failureText says in plain words what happened and what to do about it.
type failureText struct {
	Title, Text, Next string
	Calm              bool // nothing is wrong
}

// fill puts values into a text: pairs of a name in braces and its value.
func fill(text string, pairs ...string) string { return strings.NewReplacer(pairs...).Replace(text) }

// failure gives the text for a code.
func (t *texts) failure(code string) failureText {
	if f, ok := t.Failures[code]; ok {
		return f
	}
	return t.Failures[""]
}

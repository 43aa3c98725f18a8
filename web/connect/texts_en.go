package connect

import "github.com/coatcheck/coatcheck/broker"

func english() *texts {
	const (
		startAgain = "Go back to {app} and start again."
		tellApp    = "If it happens again, tell the people at {app} and give them the code below."
	)

	var (
		notSure = failureText{
			Title: "We can’t be sure of this server",
			Text:  "What this server says about itself doesn’t fit together, or it doesn’t protect sign-ins as it has to. Nothing was connected.",
			Next:  "Check the address. If it is right, tell the people who run the server, and give them the code below.",
		}
		notTrusted = failureText{
			Title: "We stopped this sign-in",
			Text:  "The answer that came back does not belong to the sign-in you started. Nothing was connected.",
			Next:  startAgain + " " + tellApp,
		}
		notReached = failureText{
			Title: "{provider} can’t be reached",
			Text:  "{provider} did not answer, or not in time. Nothing was connected.",
			Next:  "Wait a moment and try again. " + tellApp,
		}
		notStored = failureText{
			Title: "We couldn’t save this",
			Text:  "Something on our side is busy or out of order. Nothing was connected.",
			Next:  "Wait a moment and try again. " + tellApp,
		}
		notHere = failureText{
			Title: "This can’t be connected here",
			Text:  "The link leads to something that {app} does not offer, or no longer.",
			Next:  startAgain,
		}
	)

	return &texts{
		Language: "en",

		Footer:   "Kept safe by Coatcheck",
		TheApp:   "the app you came from",
		Provider: "the provider",

		ListTitle:    "Connect to {app}",
		ListLead:     "Choose the account you want to connect.",
		ListEmpty:    "There is nothing to connect right now. Go back to {app}.",
		ListNone:     "Nothing matches. Try another name.",
		Search:       "Search by name",
		SearchButton: "Search",
		Connected:    "Connected",

		FormTitle:         "Connect {provider} to {app}",
		RepairTitle:       "Reconnect {provider} to {app}",
		LeadSignIn:        "You sign in at {provider}, and decide there.",
		LeadSignInFields:  "Tell us where your account is. Then you sign in at {provider}, and decide there.",
		LeadFields:        "Enter the details of your {provider} account.",
		LeadNothing:       "{provider} needs no details from you.",
		WhoTitle:          "Who gets access",
		WhoApp:            "App",
		WhoAccount:        "User",
		WhoUnknown:        "not named",
		WhoWarning:        "Not you? Then someone else sent you here: close this page.",
		WhoUnknownWarning: "Go on only if you started this yourself.",
		ScopesTitle:       "What it asks for",
		ScopesMore:        "Show all {count}",
		Optional:          "(optional)",
		Choose:            "Choose…",
		Show:              "Show",
		Hide:              "Hide",
		FieldHelp:         "Where do I find this?",
		FieldAssigned:     "Enter this value at {provider} before you connect.",
		FieldMissing:      "Please fill this in.",
		FieldWrong:        "This doesn’t have the form that {provider} needs.",
		FieldExample:      "This doesn’t have the form that {provider} needs. An example: {example}",
		Help:              "How to connect {provider}",
		Back:              "All choices",
		Connect:           "Connect",
		Reconnect:         "Reconnect",
		Busy:              "Connecting…",
		StaysWithProvider: "Your password stays with {provider}.",
		StoredEncrypted:   "What you enter is encrypted before it is stored.",
		NewPage:           "(opens a new page)",

		GoTitle:        "On to {provider}",
		GoLead:         "You are being taken to {host}.",
		GoLink:         "Continue to {provider}",
		RepostTitle:    "One moment…",
		RepostLead:     "We are finishing the sign-in.",
		Continue:       "Continue",
		DoneTitle:      "{provider} is connected",
		DoneAgainTitle: "{provider} is connected again",
		DoneText:       "You can close this window and go back to {app}.",
		DoneReturn:     "Continue to {app}",
		DoneLater:      "You are being taken back to {app}.",
		Close:          "Close this window",
		Retry:          "Try again",
		ProviderSaid:   "{provider} said:",
		Reference:      "Code:",
		Request:        "Request:",

		EmbedTitle:   "Connect an account",
		EmbedWait:    "One moment…",
		NoScript:     "This part of the page needs JavaScript. Allow it for this page, and load it again.",
		Dismiss:      "Close",
		Finish:       "Done",
		DoneEmbedded: "You can go on in {app}.",
		NotGranted:   "Not granted: {scopes}",
		NotApproved:  "Someone who owns the account has to approve the installation.",
		LeaveTitle:   "Close without connecting?",
		LeaveText:    "What you have entered will be lost.",
		LeaveStay:    "Stay here",
		LeaveGo:      "Close",
		AwayTitle:    "Go on at {provider}",
		AwayText:     "Sign in in the window that has opened. This page notices when you are done.",
		AwayAgain:    "Open the window again",
		AwayBack:     "Back",
		ClosedTitle:  "The window was closed",
		ClosedText:   "Open it again to sign in. If it is still there after all, just go on in it.",
		BlockedTitle: "The window did not open",
		BlockedText:  "Your browser held it back. Allow windows for this page, or press the button once more to use a new tab.",
		Late: failureText{
			Title: "This is taking too long",
			Text:  "The page that opened this window does not say what to connect.",
			Next:  "Close it and try again.",
		},

		Failures: map[string]failureText{
			"": {
				Title: "Something went wrong",
				Text:  "We couldn’t finish this.",
				Next:  startAgain + " " + tellApp,
			},
			broker.ErrProviderDenied.Code: {
				Title: "Access was not given",
				Text:  "{provider} told us that access was declined, so nothing was connected.",
				Next:  "If you didn’t mean to decline, try again.",
			},
			broker.ErrProviderError.Code: {
				Title: "{provider} reported a problem",
				Text:  "The sign-in ended there. Nothing was connected.",
				Next:  "Try again. " + tellApp,
			},
			broker.ErrExchangeFailed.Code: {
				Title: "{provider} didn’t finish the sign-in",
				Text:  "You were let in, but {provider} did not hand over access. Nothing was connected.",
				Next:  "Try again. " + tellApp,
			},
			broker.ErrTestFailed.Code: {
				Title: "{provider} refused these details",
				Text:  "Check that they are complete and still valid. Nothing was connected.",
				Next:  "Correct them and try again.",
			},
			broker.ErrVariableInvalid.Code: {
				Title: "Something you entered doesn’t fit",
				Text:  "{provider} would not understand it. Nothing was connected.",
				Next:  "Correct it and try again.",
			},
			broker.ErrMisconfigured.Code: {
				Title: "{provider} doesn’t recognise {app}",
				Text:  "How {app} is set up at {provider} has a mistake. You can’t repair that yourself. Nothing was connected.",
				Next:  "Tell the people at {app}, and give them the code below.",
			},
			broker.ErrStateExpired.Code: {
				Title: "That took too long",
				Text:  "For your safety, a sign-in ends after ten minutes. Nothing was connected.",
				Next:  startAgain,
			},
			broker.ErrStateUsed.Code: {
				Title: "This sign-in is already over",
				Text:  "The page you see was loaded a second time. What the first one said still holds.",
				Next:  "Go back to {app}. If the account is missing there, start again.",
				Calm:  true,
			},
			broker.ErrStateInvalid.Code: {
				Title: "This address doesn’t work",
				Text:  "A part of it is missing or was changed on the way here.",
				Next:  startAgain,
			},
			broker.ErrBrowserMismatch.Code: {
				Title: "This sign-in was started somewhere else",
				Text: "It belongs to another browser or device, or this browser did not keep our cookie. We stopped it, to be " +
					"safe. Nothing was connected.",
				Next: "If you started it, go back to {app} in this browser and start again. If somebody sent you here, close this page.",
			},
			broker.ErrContextMismatch.Code: notTrusted,
			broker.ErrIssuerMismatch.Code:  notTrusted,
			broker.ErrCallbackInvalid.Code: notTrusted,
			broker.ErrSessionExpired.Code: {
				Title: "This link has expired",
				Text:  "Links like this one work only for a short while.",
				Next:  startAgain,
			},
			broker.ErrSessionInvalid.Code: {
				Title: "This link doesn’t work",
				Text:  "It is incomplete, or it was withdrawn.",
				Next:  startAgain,
			},
			broker.ErrSessionCompleted.Code: {
				Title: "Already connected",
				Text:  "This link has done its work: {provider} is connected to {app}.",
				Next:  "You can close this window.",
				Calm:  true,
			},
			broker.ErrIntegrationRefused.Code: notHere,
			broker.ErrNotFound.Code:           notHere,
			broker.ErrNotSupported.Code:       notHere,
			broker.ErrAccountMismatch.Code: {
				Title: "That was a different account",
				Text:  "{app} wants the account that was connected before. Nothing was changed.",
				Next:  "Try again, and when {provider} asks you, sign in with the account from before.",
			},
			broker.ErrCSRF.Code: {
				Title: "Please start again",
				Text:  "This request did not come from our own page, so we stopped it. Nothing was connected.",
				Next:  startAgain,
			},
			broker.ErrRateLimited.Code: {
				Title: "Too many attempts",
				Text:  "There have been many tries in a short time.",
				Next:  "Wait a little, then go back to {app} and start again.",
			},
			broker.ErrProviderURLInvalid.Code: notHere,
			broker.ErrPKCEUnsupported.Code:    notSure,
			broker.ErrResourceMismatch.Code:   notSure,
			broker.ErrURLNotAllowed.Code: {
				Title: "This address isn’t allowed",
				Text:  "What you entered leads to a place that we do not contact. Nothing was connected.",
				Next:  "Correct it and try again.",
			},
			broker.ErrEgressBlocked.Code:      notReached,
			broker.ErrUnreachable.Code:        notReached,
			broker.ErrProviderDown.Code:       notReached,
			broker.ErrProviderTimeout.Code:    notReached,
			broker.ErrStorageBusy.Code:        notStored,
			broker.ErrStorageUnavailable.Code: notStored,
		},
	}
}

package connect

import "github.com/coatcheck/coatcheck/broker"

// german says Sie. {app} always stands in the dative, as its stand-in does, and {provider} in the nominative wherever it
// may be unknown.
func german() *texts {
	const (
		startAgain = "Gehen Sie zurück zu {app} und beginnen Sie von vorn."
		tellApp    = "Wenn es wieder vorkommt, sagen Sie es den Leuten bei {app} und nennen Sie ihnen den Code unten."
	)

	var (
		notSure = failureText{
			Title: "Bei diesem Server sind wir nicht sicher",
			Text:  "Was dieser Server über sich sagt, passt nicht zusammen, oder er schützt Anmeldungen nicht so, wie er es muss. Es wurde nichts verbunden.",
			Next:  "Prüfen Sie die Adresse. Wenn sie stimmt, sagen Sie es denen, die den Server betreiben, und nennen Sie ihnen den Code unten.",
		}
		notTrusted = failureText{
			Title: "Wir haben diese Anmeldung angehalten",
			Text:  "Die Antwort, die zurückkam, gehört nicht zu der Anmeldung, die Sie begonnen haben. Es wurde nichts verbunden.",
			Next:  startAgain + " " + tellApp,
		}
		notReached = failureText{
			Title: "{provider} ist nicht erreichbar",
			Text:  "{provider} hat nicht oder nicht rechtzeitig geantwortet. Es wurde nichts verbunden.",
			Next:  "Warten Sie einen Moment und versuchen Sie es noch einmal. " + tellApp,
		}
		notStored = failureText{
			Title: "Das ließ sich nicht speichern",
			Text:  "Auf unserer Seite ist etwas überlastet oder gestört. Es wurde nichts verbunden.",
			Next:  "Warten Sie einen Moment und versuchen Sie es noch einmal. " + tellApp,
		}
		notHere = failureText{
			Title: "Das lässt sich hier nicht verbinden",
			Text:  "Der Link führt zu etwas, das es bei {app} nicht oder nicht mehr gibt.",
			Next:  startAgain,
		}
	)

	return &texts{
		Language: "de",

		Footer:   "Sicher verwahrt von Coatcheck",
		TheApp:   "Ihrer App",
		Provider: "der Anbieter",

		ListTitle:    "Mit {app} verbinden",
		ListLead:     "Wählen Sie das Konto, das Sie verbinden möchten.",
		ListEmpty:    "Im Moment gibt es nichts zu verbinden. Gehen Sie zurück zu {app}.",
		ListNone:     "Nichts gefunden. Versuchen Sie einen anderen Namen.",
		Search:       "Nach Namen suchen",
		SearchButton: "Suchen",
		Connected:    "Verbunden",

		FormTitle:         "{provider} mit {app} verbinden",
		RepairTitle:       "{provider} neu mit {app} verbinden",
		LeadSignIn:        "Sie melden sich bei {provider} an und entscheiden dort.",
		LeadFields:        "Geben Sie die Daten Ihres Kontos bei {provider} ein.",
		LeadSignInFields:  "Sagen Sie uns, wo Ihr Konto ist. Dann melden Sie sich bei {provider} an und entscheiden dort.",
		LeadNothing:       "{provider} braucht keine Angaben von Ihnen.",
		WhoTitle:          "Wer Zugriff bekommt",
		WhoApp:            "Anwendung",
		WhoAccount:        "Person",
		WhoUnknown:        "nicht genannt",
		WhoWarning:        "Das sind nicht Sie? Dann hat Sie jemand anderes hergeschickt: Schließen Sie diese Seite.",
		WhoUnknownWarning: "Machen Sie nur weiter, wenn Sie das selbst begonnen haben.",
		ScopesTitle:       "Worum gebeten wird",
		ScopesMore:        "Alle {count} zeigen",
		Optional:          "(freiwillig)",
		Choose:            "Bitte wählen…",
		Show:              "Zeigen",
		Hide:              "Verbergen",
		FieldHelp:         "Wo finde ich das?",
		FieldAssigned:     "Tragen Sie diesen Wert bei {provider} ein, bevor Sie verbinden.",
		FieldMissing:      "Bitte füllen Sie das aus.",
		FieldWrong:        "Das hat nicht die Form, die {provider} braucht.",
		FieldExample:      "Das hat nicht die Form, die {provider} braucht. Ein Beispiel: {example}",
		Help:              "So verbinden Sie {provider}",
		Back:              "Zur Auswahl",
		Connect:           "Verbinden",
		Reconnect:         "Neu verbinden",
		Busy:              "Wird verbunden…",
		StaysWithProvider: "Ihr Passwort bleibt bei {provider}.",
		StoredEncrypted:   "Was Sie eingeben, wird verschlüsselt gespeichert.",
		NewPage:           "(öffnet eine neue Seite)",

		GoTitle:        "Weiter zu {provider}",
		GoLead:         "Sie werden zu {host} gebracht.",
		GoLink:         "Weiter zu {provider}",
		RepostTitle:    "Einen Moment…",
		RepostLead:     "Wir schließen die Anmeldung ab.",
		Continue:       "Weiter",
		DoneTitle:      "{provider} ist verbunden",
		DoneAgainTitle: "{provider} ist wieder verbunden",
		DoneText:       "Sie können dieses Fenster schließen und zu {app} zurückkehren.",
		DoneReturn:     "Weiter zu {app}",
		DoneLater:      "Sie werden zu {app} zurückgebracht.",
		Close:          "Fenster schließen",
		Retry:          "Noch einmal versuchen",
		ProviderSaid:   "{provider} meldet:",
		Reference:      "Fehlercode:",
		Request:        "Anfrage:",

		EmbedTitle:   "Ein Konto verbinden",
		EmbedWait:    "Einen Moment…",
		NoScript:     "Dieser Teil der Seite braucht JavaScript. Erlauben Sie es für diese Seite und laden Sie sie neu.",
		Dismiss:      "Schließen",
		Finish:       "Fertig",
		DoneEmbedded: "Sie können bei {app} weitermachen.",
		NotGranted:   "Nicht erteilt: {scopes}",
		NotApproved:  "Wem das Konto gehört, muss die Installation noch freigeben.",
		LeaveTitle:   "Ohne Verbindung schließen?",
		LeaveText:    "Was Sie eingegeben haben, geht verloren.",
		LeaveStay:    "Hier bleiben",
		LeaveGo:      "Schließen",
		AwayTitle:    "Weiter bei {provider}",
		AwayText:     "Melden Sie sich in dem Fenster an, das sich geöffnet hat. Diese Seite merkt, wenn Sie fertig sind.",
		AwayAgain:    "Fenster noch einmal öffnen",
		AwayBack:     "Zurück",
		ClosedTitle:  "Das Fenster wurde geschlossen",
		ClosedText:   "Öffnen Sie es noch einmal, um sich anzumelden. Ist es doch noch da, machen Sie einfach darin weiter.",
		BlockedTitle: "Das Fenster ging nicht auf",
		BlockedText: "Ihr Browser hat es zurückgehalten. Erlauben Sie Fenster für diese Seite, oder drücken Sie noch einmal: " +
			"Dann öffnet sich ein neuer Tab.",
		Late: failureText{
			Title: "Das dauert zu lange",
			Text:  "Die Seite, die dieses Fenster geöffnet hat, sagt nicht, was verbunden werden soll.",
			Next:  "Schließen Sie es und versuchen Sie es noch einmal.",
		},

		Failures: map[string]failureText{
			"": {
				Title: "Etwas ist schiefgegangen",
				Text:  "Wir konnten das nicht zu Ende bringen.",
				Next:  startAgain + " " + tellApp,
			},
			broker.ErrProviderDenied.Code: {
				Title: "Der Zugriff wurde nicht erlaubt",
				Text:  "{provider} meldet, dass der Zugriff abgelehnt wurde. Deshalb wurde nichts verbunden.",
				Next:  "Wenn Sie nicht ablehnen wollten, versuchen Sie es noch einmal.",
			},
			broker.ErrProviderError.Code: {
				Title: "{provider} meldet ein Problem",
				Text:  "Die Anmeldung endete dort. Es wurde nichts verbunden.",
				Next:  "Versuchen Sie es noch einmal. " + tellApp,
			},
			broker.ErrExchangeFailed.Code: {
				Title: "{provider} hat die Anmeldung nicht abgeschlossen",
				Text:  "Sie wurden eingelassen, aber {provider} hat den Zugriff nicht übergeben. Es wurde nichts verbunden.",
				Next:  "Versuchen Sie es noch einmal. " + tellApp,
			},
			broker.ErrTestFailed.Code: {
				Title: "{provider} hat diese Daten abgelehnt",
				Text:  "Prüfen Sie, ob sie vollständig und noch gültig sind. Es wurde nichts verbunden.",
				Next:  "Berichtigen Sie sie und versuchen Sie es noch einmal.",
			},
			broker.ErrVariableInvalid.Code: {
				Title: "Eine Ihrer Angaben passt nicht",
				Text:  "{provider} würde sie nicht verstehen. Es wurde nichts verbunden.",
				Next:  "Berichtigen Sie sie und versuchen Sie es noch einmal.",
			},
			broker.ErrMisconfigured.Code: {
				Title: "{provider} weiß nichts von {app}",
				Text:  "{provider} erkennt die Angaben von {app} nicht an. Sie selbst können das nicht beheben. Es wurde nichts verbunden.",
				Next:  "Sagen Sie es den Leuten bei {app} und nennen Sie ihnen den Code unten.",
			},
			broker.ErrStateExpired.Code: {
				Title: "Das hat zu lange gedauert",
				Text:  "Zu Ihrer Sicherheit endet eine Anmeldung nach zehn Minuten. Es wurde nichts verbunden.",
				Next:  startAgain,
			},
			broker.ErrStateUsed.Code: {
				Title: "Diese Anmeldung ist schon vorbei",
				Text:  "Die Seite, die Sie sehen, wurde ein zweites Mal geladen. Was die erste sagte, gilt weiter.",
				Next:  "Gehen Sie zurück zu {app}. Wenn das Konto dort fehlt, beginnen Sie von vorn.",
				Calm:  true,
			},
			broker.ErrStateInvalid.Code: {
				Title: "Diese Adresse funktioniert nicht",
				Text:  "Ein Teil davon fehlt oder wurde unterwegs verändert.",
				Next:  startAgain,
			},
			broker.ErrBrowserMismatch.Code: {
				Title: "Diese Anmeldung wurde anderswo begonnen",
				Text: "Sie gehört zu einem anderen Browser oder Gerät, oder dieser Browser hat unser Cookie nicht behalten. Zur " +
					"Sicherheit haben wir sie angehalten. Es wurde nichts verbunden.",
				Next: "Wenn Sie sie selbst begonnen haben, gehen Sie in diesem Browser zurück zu {app} und beginnen Sie von vorn. " +
					"Wenn jemand Sie hergeschickt hat, schließen Sie diese Seite.",
			},
			broker.ErrContextMismatch.Code: notTrusted,
			broker.ErrIssuerMismatch.Code:  notTrusted,
			broker.ErrCallbackInvalid.Code: notTrusted,
			broker.ErrSessionExpired.Code: {
				Title: "Dieser Link ist abgelaufen",
				Text:  "Solche Links gelten nur für kurze Zeit.",
				Next:  startAgain,
			},
			broker.ErrSessionInvalid.Code: {
				Title: "Dieser Link funktioniert nicht",
				Text:  "Er ist unvollständig oder wurde zurückgezogen.",
				Next:  startAgain,
			},
			broker.ErrSessionCompleted.Code: {
				Title: "Schon verbunden",
				Text:  "Dieser Link hat seinen Zweck erfüllt: {provider} ist mit {app} verbunden.",
				Next:  "Sie können dieses Fenster schließen.",
				Calm:  true,
			},
			broker.ErrIntegrationRefused.Code: notHere,
			broker.ErrNotFound.Code:           notHere,
			broker.ErrNotSupported.Code:       notHere,
			broker.ErrAccountMismatch.Code: {
				Title: "Das war ein anderes Konto",
				Text:  "Bei {app} wird das Konto gebraucht, das schon vorher verbunden war. Es wurde nichts geändert.",
				Next:  "Versuchen Sie es noch einmal, und wenn {provider} Sie fragt, melden Sie sich mit dem bisherigen Konto an.",
			},
			broker.ErrCSRF.Code: {
				Title: "Bitte beginnen Sie von vorn",
				Text:  "Diese Anfrage kam nicht von unserer eigenen Seite, deshalb haben wir sie angehalten. Es wurde nichts verbunden.",
				Next:  startAgain,
			},
			broker.ErrRateLimited.Code: {
				Title: "Zu viele Versuche",
				Text:  "In kurzer Zeit gab es viele Versuche.",
				Next:  "Warten Sie ein wenig, gehen Sie dann zurück zu {app} und beginnen Sie von vorn.",
			},
			broker.ErrProviderURLInvalid.Code: notHere,
			broker.ErrPKCEUnsupported.Code:    notSure,
			broker.ErrResourceMismatch.Code:   notSure,
			broker.ErrURLNotAllowed.Code: {
				Title: "Diese Adresse ist nicht erlaubt",
				Text:  "Ihre Eingabe führt an einen Ort, den wir nicht ansprechen. Es wurde nichts verbunden.",
				Next:  "Berichtigen Sie sie und versuchen Sie es noch einmal.",
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

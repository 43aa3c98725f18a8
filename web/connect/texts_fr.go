package connect

import "github.com/coatcheck/coatcheck/broker"

// french says vous. No name follows "de" or "que", which some names would shorten. The spaces before two-part signs do not break.
func french() *texts {
	const (
		startAgain = "Retournez dans {app} et recommencez."
		tellApp    = "Si cela se reproduit, prévenez l’équipe qui gère {app} et donnez-lui le code ci-dessous."
	)

	var (
		notSure = failureText{
			Title: "Ce serveur ne nous paraît pas sûr",
			Text:  "Ce que ce serveur dit de lui-même ne concorde pas, ou il ne protège pas les connexions comme il le doit. Rien n’a été associé.",
			Next:  "Vérifiez l’adresse. Si elle est juste, prévenez les personnes qui gèrent le serveur et donnez-leur le code ci-dessous.",
		}
		notTrusted = failureText{
			Title: "Nous avons arrêté cette connexion",
			Text:  "La réponse reçue n’appartient pas à la connexion que vous avez commencée. Rien n’a été associé.",
			Next:  startAgain + " " + tellApp,
		}
		notReached = failureText{
			Title: "{provider} est injoignable",
			Text:  "{provider} n’a pas répondu, ou pas à temps. Rien n’a été associé.",
			Next:  "Attendez un instant, puis réessayez. " + tellApp,
		}
		notStored = failureText{
			Title: "L’enregistrement n’a pas abouti",
			Text:  "De notre côté, quelque chose est surchargé ou en panne. Rien n’a été associé.",
			Next:  "Attendez un instant, puis réessayez. " + tellApp,
		}
		notHere = failureText{
			Title: "Ce compte ne peut pas être associé ici",
			Text:  "Le lien mène à quelque chose qui n’est pas proposé dans {app}, ou ne l’est plus.",
			Next:  startAgain,
		}
	)

	return &texts{
		Language: "fr",

		Footer:   "Bien gardé par Coatcheck",
		TheApp:   "l’application",
		Provider: "l’autre service",

		ListTitle:    "Associer un compte à {app}",
		ListLead:     "Choisissez le compte que vous voulez associer.",
		ListEmpty:    "Il n’y a rien à associer pour le moment. Retournez dans {app}.",
		ListNone:     "Aucun résultat. Essayez un autre nom.",
		Search:       "Chercher par nom",
		SearchButton: "Chercher",
		Connected:    "Associé",

		FormTitle:         "Associer {provider} à {app}",
		RepairTitle:       "Associer de nouveau {provider} à {app}",
		LeadSignIn:        "Vous vous connectez chez {provider}, et c’est là que vous décidez.",
		LeadFields:        "Saisissez les informations qui donnent accès à votre compte chez {provider}.",
		LeadSignInFields:  "Dites-nous où se trouve votre compte. Ensuite, vous vous connectez chez {provider}, et c’est là que vous décidez.",
		LeadNothing:       "{provider} ne vous demande aucune information.",
		WhoTitle:          "Qui reçoit l’accès",
		WhoApp:            "Application",
		WhoAccount:        "Personne",
		WhoUnknown:        "sans nom",
		WhoWarning:        "Ce n’est pas vous\u202f? Alors quelqu’un d’autre vous a envoyé ici\u00a0: fermez cette page.",
		WhoUnknownWarning: "Ne continuez que si vous avez commencé ceci vous-même.",
		ScopesTitle:       "Ce qui est demandé",
		ScopesMore:        "Tout afficher ({count})",
		Optional:          "(facultatif)",
		Choose:            "Choisissez…",
		Show:              "Afficher",
		Hide:              "Masquer",
		FieldHelp:         "Où le trouver\u202f?",
		FieldAssigned:     "Saisissez cette valeur chez {provider} avant de connecter.",
		FieldMissing:      "Veuillez remplir ce champ.",
		FieldWrong:        "Ceci n’a pas la forme attendue par {provider}.",
		FieldExample:      "Ceci n’a pas la forme attendue par {provider}. Un exemple\u00a0: {example}",
		Help:              "Comment associer {provider}",
		Back:              "Tous les choix",
		Connect:           "Associer",
		Reconnect:         "Associer de nouveau",
		Busy:              "Association en cours…",
		StaysWithProvider: "Votre mot de passe reste chez {provider}.",
		StoredEncrypted:   "Ce que vous saisissez est chiffré avant d’être enregistré.",
		NewPage:           "(ouvre une nouvelle page)",

		GoTitle:        "Direction {provider}",
		GoLead:         "Vous êtes dirigé vers {host}.",
		GoLink:         "Continuer chez {provider}",
		RepostTitle:    "Un instant…",
		RepostLead:     "Nous terminons la connexion.",
		Continue:       "Continuer",
		DoneTitle:      "{provider} est associé",
		DoneAgainTitle: "{provider} est de nouveau associé",
		DoneText:       "Vous pouvez fermer cette fenêtre et retourner dans {app}.",
		DoneReturn:     "Continuer dans {app}",
		DoneLater:      "Nous vous ramenons dans {app}.",
		Close:          "Fermer cette fenêtre",
		Retry:          "Réessayer",
		ProviderSaid:   "{provider} indique\u00a0:",
		Reference:      "Code\u00a0:",
		Request:        "Requête\u00a0:",

		EmbedTitle:   "Associer un compte",
		EmbedWait:    "Un instant…",
		NoScript:     "Cette partie de la page a besoin de JavaScript. Autorisez-le pour cette page, puis rechargez-la.",
		Dismiss:      "Fermer",
		Finish:       "Terminer",
		DoneEmbedded: "Vous pouvez continuer dans {app}.",
		NotGranted:   "Non accordé : {scopes}",
		NotApproved:  "Un propriétaire du compte doit encore approuver l’installation.",
		LeaveTitle:   "Fermer sans associer\u202f?",
		LeaveText:    "Ce que vous avez saisi sera perdu.",
		LeaveStay:    "Rester ici",
		LeaveGo:      "Fermer",
		AwayTitle:    "La suite se passe chez {provider}",
		AwayText:     "Connectez-vous dans la fenêtre qui s’est ouverte. Cette page saura quand vous aurez terminé.",
		AwayAgain:    "Rouvrir la fenêtre",
		AwayBack:     "Retour",
		ClosedTitle:  "La fenêtre a été fermée",
		ClosedText:   "Rouvrez-la pour vous connecter. Si elle est toujours là, continuez simplement dedans.",
		BlockedTitle: "La fenêtre ne s’est pas ouverte",
		BlockedText: "Votre navigateur l’a retenue. Autorisez les fenêtres pour cette page, ou appuyez encore une fois pour " +
			"utiliser un nouvel onglet.",
		Late: failureText{
			Title: "Cela prend trop de temps",
			Text:  "La page qui a ouvert cette fenêtre ne dit pas ce qu’il faut associer.",
			Next:  "Fermez-la et réessayez.",
		},

		Failures: map[string]failureText{
			"": {
				Title: "Quelque chose s’est mal passé",
				Text:  "Nous n’avons pas pu aller jusqu’au bout.",
				Next:  startAgain + " " + tellApp,
			},
			broker.ErrProviderDenied.Code: {
				Title: "L’accès n’a pas été donné",
				Text:  "{provider} nous dit que l’accès a été refusé. Rien n’a donc été associé.",
				Next:  "Si vous ne vouliez pas refuser, réessayez.",
			},
			broker.ErrProviderError.Code: {
				Title: "{provider} signale un problème",
				Text:  "La connexion s’est arrêtée là. Rien n’a été associé.",
				Next:  "Réessayez. " + tellApp,
			},
			broker.ErrExchangeFailed.Code: {
				Title: "{provider} n’a pas terminé la connexion",
				Text:  "Vous avez bien été reconnu, mais {provider} n’a pas transmis l’accès. Rien n’a été associé.",
				Next:  "Réessayez. " + tellApp,
			},
			broker.ErrTestFailed.Code: {
				Title: "{provider} a refusé ces informations",
				Text:  "Vérifiez qu’elles sont complètes et encore valables. Rien n’a été associé.",
				Next:  "Corrigez-les, puis réessayez.",
			},
			broker.ErrVariableInvalid.Code: {
				Title: "Une de vos saisies ne convient pas",
				Text:  "{provider} ne la comprendrait pas. Rien n’a été associé.",
				Next:  "Corrigez-la, puis réessayez.",
			},
			broker.ErrMisconfigured.Code: {
				Title: "{provider} ne reconnaît pas {app}",
				Text: "Les réglages qui relient {app} et {provider} contiennent une erreur. Vous ne pouvez pas la corriger " +
					"vous-même. Rien n’a été associé.",
				Next: "Prévenez l’équipe qui gère {app} et donnez-lui le code ci-dessous.",
			},
			broker.ErrStateExpired.Code: {
				Title: "Cela a pris trop de temps",
				Text:  "Pour votre sécurité, une connexion expire au bout de dix minutes. Rien n’a été associé.",
				Next:  startAgain,
			},
			broker.ErrStateUsed.Code: {
				Title: "Cette connexion est déjà terminée",
				Text:  "La page que vous voyez a été chargée une seconde fois. Ce que disait la première reste valable.",
				Next:  "Retournez dans {app}. Si le compte n’y figure pas, recommencez.",
				Calm:  true,
			},
			broker.ErrStateInvalid.Code: {
				Title: "Cette adresse ne fonctionne pas",
				Text:  "Une partie manque, ou a été modifiée en chemin.",
				Next:  startAgain,
			},
			broker.ErrBrowserMismatch.Code: {
				Title: "Cette connexion a été commencée ailleurs",
				Text: "Elle appartient à un autre navigateur ou appareil, ou ce navigateur n’a pas gardé notre cookie. Par " +
					"sécurité, nous l’avons arrêtée. Rien n’a été associé.",
				Next: "Si c’est vous qui l’avez commencée, retournez dans {app} avec ce navigateur et recommencez. Si quelqu’un " +
					"vous a envoyé ici, fermez cette page.",
			},
			broker.ErrContextMismatch.Code: notTrusted,
			broker.ErrIssuerMismatch.Code:  notTrusted,
			broker.ErrCallbackInvalid.Code: notTrusted,
			broker.ErrSessionExpired.Code: {
				Title: "Ce lien a expiré",
				Text:  "Un tel lien ne sert que peu de temps.",
				Next:  startAgain,
			},
			broker.ErrSessionInvalid.Code: {
				Title: "Ce lien ne fonctionne pas",
				Text:  "Il est incomplet, ou il a été retiré.",
				Next:  startAgain,
			},
			broker.ErrSessionCompleted.Code: {
				Title: "Déjà associé",
				Text:  "Ce lien a rempli son rôle\u00a0: {provider} est associé à {app}.",
				Next:  "Vous pouvez fermer cette fenêtre.",
				Calm:  true,
			},
			broker.ErrIntegrationRefused.Code: notHere,
			broker.ErrNotFound.Code:           notHere,
			broker.ErrNotSupported.Code:       notHere,
			broker.ErrAccountMismatch.Code: {
				Title: "C’était un autre compte",
				Text:  "Il faut à {app} le compte qui était associé auparavant. Rien n’a été modifié.",
				Next:  "Réessayez, et quand {provider} vous le demande, connectez-vous avec le compte précédent.",
			},
			broker.ErrCSRF.Code: {
				Title: "Veuillez recommencer",
				Text:  "Cette demande ne venait pas de notre propre page, nous l’avons donc arrêtée. Rien n’a été associé.",
				Next:  startAgain,
			},
			broker.ErrRateLimited.Code: {
				Title: "Trop d’essais",
				Text:  "Il y a eu beaucoup d’essais en peu de temps.",
				Next:  "Attendez un peu, puis retournez dans {app} et recommencez.",
			},
			broker.ErrProviderURLInvalid.Code: notHere,
			broker.ErrPKCEUnsupported.Code:    notSure,
			broker.ErrResourceMismatch.Code:   notSure,
			broker.ErrURLNotAllowed.Code: {
				Title: "Cette adresse n’est pas permise",
				Text:  "Votre saisie mène à un endroit que nous ne contactons pas. Rien n’a été associé.",
				Next:  "Corrigez-la, puis réessayez.",
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

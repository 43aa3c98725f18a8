package connect

import "github.com/coatcheck/coatcheck/broker"

// spanish says usted. Where {provider} may be unknown, it follows neither "a" nor "de", which its stand-in would
// melt into.
func spanish() *texts {
	const (
		startAgain = "Vuelva a {app} y empiece de nuevo."
		tellApp    = "Si vuelve a ocurrir, avise al equipo de {app} e indíquele el código de abajo."
	)

	var (
		notSure = failureText{
			Title: "No podemos fiarnos de este servidor",
			Text:  "Lo que este servidor dice de sí mismo no concuerda, o no protege los inicios de sesión como debe. No se ha conectado nada.",
			Next:  "Compruebe la dirección. Si es correcta, avise a quienes administran el servidor e indíqueles el código de abajo.",
		}
		notTrusted = failureText{
			Title: "Hemos detenido este inicio de sesión",
			Text:  "La respuesta recibida no corresponde al inicio de sesión que usted comenzó. No se ha conectado nada.",
			Next:  startAgain + " " + tellApp,
		}
		notReached = failureText{
			Title: "{provider} no está disponible",
			Text:  "{provider} no respondió, o no lo hizo a tiempo. No se ha conectado nada.",
			Next:  "Espere un momento e inténtelo de nuevo. " + tellApp,
		}
		notStored = failureText{
			Title: "No hemos podido guardarlo",
			Text:  "Algo por nuestra parte está saturado o averiado. No se ha conectado nada.",
			Next:  "Espere un momento e inténtelo de nuevo. " + tellApp,
		}
		notHere = failureText{
			Title: "Esto no se puede conectar aquí",
			Text:  "El enlace lleva a algo que {app} no ofrece, o ya no.",
			Next:  startAgain,
		}
	)

	return &texts{
		Language: "es",

		Footer:   "Bien guardado por Coatcheck",
		TheApp:   "la aplicación",
		Provider: "el proveedor",

		ListTitle:    "Conectar con {app}",
		ListLead:     "Elija la cuenta que quiere conectar.",
		ListEmpty:    "Ahora mismo no hay nada que conectar. Vuelva a {app}.",
		ListNone:     "No hay resultados. Pruebe con otro nombre.",
		Search:       "Buscar por nombre",
		SearchButton: "Buscar",
		Connected:    "Conectado",

		FormTitle:         "Conectar {provider} con {app}",
		RepairTitle:       "Volver a conectar {provider} con {app}",
		LeadSignIn:        "Inicie sesión en {provider} y decida allí.",
		LeadFields:        "Introduzca los datos de su cuenta en {provider}.",
		LeadSignInFields:  "Díganos dónde está su cuenta. Después, inicie sesión en {provider} y decida allí.",
		LeadNothing:       "{provider} no necesita ningún dato suyo.",
		WhoTitle:          "Quién recibe el acceso",
		WhoApp:            "Aplicación",
		WhoAccount:        "Persona",
		WhoUnknown:        "sin nombre",
		WhoWarning:        "¿No es usted? Entonces le ha enviado aquí otra persona: cierre esta página.",
		WhoUnknownWarning: "Continúe solo si ha empezado esto usted mismo.",
		ScopesTitle:       "Qué se solicita",
		ScopesMore:        "Mostrar todo ({count})",
		Optional:          "(opcional)",
		Choose:            "Elija…",
		Show:              "Mostrar",
		Hide:              "Ocultar",
		FieldHelp:         "¿Dónde lo encuentro?",
		FieldAssigned:     "Introduzca este valor en {provider} antes de conectar.",
		FieldMissing:      "Rellene este campo.",
		FieldWrong:        "Esto no tiene la forma que {provider} necesita.",
		FieldExample:      "Esto no tiene la forma que {provider} necesita. Un ejemplo: {example}",
		Help:              "Cómo conectar {provider}",
		Back:              "Todas las opciones",
		Connect:           "Conectar",
		Reconnect:         "Volver a conectar",
		Busy:              "Conectando…",
		StaysWithProvider: "Su contraseña se queda en {provider}.",
		StoredEncrypted:   "Lo que introduce se cifra antes de guardarse.",
		NewPage:           "(abre una página nueva)",

		GoTitle:        "Camino de {provider}",
		GoLead:         "Le llevamos a {host}.",
		GoLink:         "Continuar en {provider}",
		RepostTitle:    "Un momento…",
		RepostLead:     "Estamos terminando el inicio de sesión.",
		Continue:       "Continuar",
		DoneTitle:      "{provider} está conectado",
		DoneAgainTitle: "{provider} vuelve a estar conectado",
		DoneText:       "Puede cerrar esta ventana y volver a {app}.",
		DoneReturn:     "Continuar en {app}",
		DoneLater:      "Le llevamos de vuelta a {app}.",
		Close:          "Cerrar esta ventana",
		Retry:          "Intentarlo de nuevo",
		ProviderSaid:   "{provider} indica:",
		Reference:      "Código:",
		Request:        "Solicitud:",

		EmbedTitle:   "Conectar una cuenta",
		EmbedWait:    "Un momento…",
		NoScript:     "Esta parte de la página necesita JavaScript. Permítalo en esta página y vuelva a cargarla.",
		Dismiss:      "Cerrar",
		Finish:       "Listo",
		DoneEmbedded: "Puede seguir en {app}.",
		NotGranted:   "No concedido: {scopes}",
		NotApproved:  "Falta que un propietario de la cuenta apruebe la instalación.",
		LeaveTitle:   "¿Cerrar sin conectar?",
		LeaveText:    "Se perderá lo que ha introducido.",
		LeaveStay:    "Quedarse aquí",
		LeaveGo:      "Cerrar",
		AwayTitle:    "Siga en {provider}",
		AwayText:     "Inicie sesión en la ventana que se ha abierto. Esta página sabrá cuándo ha terminado.",
		AwayAgain:    "Abrir la ventana otra vez",
		AwayBack:     "Volver",
		ClosedTitle:  "La ventana se ha cerrado",
		ClosedText:   "Ábrala otra vez para iniciar sesión. Si todavía está ahí, siga en ella sin más.",
		BlockedTitle: "La ventana no se ha abierto",
		BlockedText: "Su navegador la ha retenido. Permita las ventanas en esta página, o pulse otra vez para usar una " +
			"pestaña nueva.",
		Late: failureText{
			Title: "Esto tarda demasiado",
			Text:  "La página que abrió esta ventana no dice qué se debe conectar.",
			Next:  "Ciérrela e inténtelo de nuevo.",
		},

		Failures: map[string]failureText{
			"": {
				Title: "Algo ha salido mal",
				Text:  "No hemos podido terminar.",
				Next:  startAgain + " " + tellApp,
			},
			broker.ErrProviderDenied.Code: {
				Title: "No se dio acceso",
				Text:  "{provider} nos indica que se rechazó el acceso, así que no se ha conectado nada.",
				Next:  "Si no quería rechazarlo, inténtelo de nuevo.",
			},
			broker.ErrProviderError.Code: {
				Title: "{provider} informa de un problema",
				Text:  "El inicio de sesión terminó ahí. No se ha conectado nada.",
				Next:  "Inténtelo de nuevo. " + tellApp,
			},
			broker.ErrExchangeFailed.Code: {
				Title: "{provider} no completó el inicio de sesión",
				Text:  "Su identificación fue aceptada, pero {provider} no entregó el acceso. No se ha conectado nada.",
				Next:  "Inténtelo de nuevo. " + tellApp,
			},
			broker.ErrTestFailed.Code: {
				Title: "{provider} ha rechazado estos datos",
				Text:  "Compruebe que estén completos y sigan siendo válidos. No se ha conectado nada.",
				Next:  "Corríjalos e inténtelo de nuevo.",
			},
			broker.ErrVariableInvalid.Code: {
				Title: "Algo de lo que introdujo no encaja",
				Text:  "{provider} no lo entendería. No se ha conectado nada.",
				Next:  "Corríjalo e inténtelo de nuevo.",
			},
			broker.ErrMisconfigured.Code: {
				Title: "{provider} no reconoce {app}",
				Text: "Hay un error en la configuración que une {app} con {provider}. Usted no puede corregirlo. No se ha " +
					"conectado nada.",
				Next: "Avise al equipo de {app} e indíquele el código de abajo.",
			},
			broker.ErrStateExpired.Code: {
				Title: "Ha tardado demasiado",
				Text:  "Por su seguridad, un inicio de sesión caduca a los diez minutos. No se ha conectado nada.",
				Next:  startAgain,
			},
			broker.ErrStateUsed.Code: {
				Title: "Este inicio de sesión ya ha terminado",
				Text:  "La página que ve se ha cargado por segunda vez. Lo que decía la primera sigue siendo válido.",
				Next:  "Vuelva a {app}. Si la cuenta no aparece allí, empiece de nuevo.",
				Calm:  true,
			},
			broker.ErrStateInvalid.Code: {
				Title: "Esta dirección no funciona",
				Text:  "Falta una parte, o se modificó por el camino.",
				Next:  startAgain,
			},
			broker.ErrBrowserMismatch.Code: {
				Title: "Este inicio de sesión se comenzó en otro lugar",
				Text: "Pertenece a otro navegador o dispositivo, o este navegador no conservó nuestra cookie. Por seguridad, lo " +
					"hemos detenido. No se ha conectado nada.",
				Next: "Si lo comenzó usted, vuelva a {app} en este navegador y empiece de nuevo. Si alguien le ha enviado aquí, " +
					"cierre esta página.",
			},
			broker.ErrContextMismatch.Code: notTrusted,
			broker.ErrIssuerMismatch.Code:  notTrusted,
			broker.ErrCallbackInvalid.Code: notTrusted,
			broker.ErrSessionExpired.Code: {
				Title: "Este enlace ha caducado",
				Text:  "Los enlaces como este solo sirven durante poco tiempo.",
				Next:  startAgain,
			},
			broker.ErrSessionInvalid.Code: {
				Title: "Este enlace no funciona",
				Text:  "Está incompleto, o fue retirado.",
				Next:  startAgain,
			},
			broker.ErrSessionCompleted.Code: {
				Title: "Ya está conectado",
				Text:  "Este enlace ha cumplido su función: {provider} está conectado con {app}.",
				Next:  "Puede cerrar esta ventana.",
				Calm:  true,
			},
			broker.ErrIntegrationRefused.Code: notHere,
			broker.ErrNotFound.Code:           notHere,
			broker.ErrNotSupported.Code:       notHere,
			broker.ErrAccountMismatch.Code: {
				Title: "Era otra cuenta",
				Text:  "En {app} se necesita la cuenta que estaba conectada antes. No se ha cambiado nada.",
				Next:  "Inténtelo de nuevo y, cuando {provider} se lo pida, inicie sesión con la cuenta anterior.",
			},
			broker.ErrCSRF.Code: {
				Title: "Empiece de nuevo, por favor",
				Text:  "Esta solicitud no vino de nuestra propia página, así que la hemos detenido. No se ha conectado nada.",
				Next:  startAgain,
			},
			broker.ErrRateLimited.Code: {
				Title: "Demasiados intentos",
				Text:  "Ha habido muchos intentos en poco tiempo.",
				Next:  "Espere un poco, vuelva a {app} y empiece de nuevo.",
			},
			broker.ErrProviderURLInvalid.Code: notHere,
			broker.ErrPKCEUnsupported.Code:    notSure,
			broker.ErrResourceMismatch.Code:   notSure,
			broker.ErrURLNotAllowed.Code: {
				Title: "Esta dirección no está permitida",
				Text:  "Lo que introdujo lleva a un lugar con el que no contactamos. No se ha conectado nada.",
				Next:  "Corríjalo e inténtelo de nuevo.",
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

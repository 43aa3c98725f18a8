package providers

import (
	"github.com/coatcheck/coatcheck/broker"
)

// allModes are the modes that the catalogue's format has.
var allModes = []string{
	modeOAuth2, modeClientCredentials, modeAPIKey, modeBasic, modeNone, modeTwoStep, modeJWT, modeOAuth1, modeTBA, modeApp, modeCustom,
	"APP_STORE", modeAWS, modeSignature, modeBill, "TABLEAU", modePlugin, modeMCP, modeMCPGeneric,
}

// interactiveModes need the end user's browser.
var interactiveModes = []string{
	modeOAuth2, modeOAuth1, modeApp, modeCustom, modePlugin, modeMCP, modeMCPGeneric,
}

// clientModes need a client id that the integration has.
var clientModes = []string{modeOAuth2, modeOAuth1, modeApp, modeCustom}

// unbuilt says of the modes that are not built what they would take.
var unbuilt = map[string]string{
	"APP_STORE": "This version does not sign with App Store keys (APP_STORE).",
	"TABLEAU":   "This version does not keep sign-in sessions (TABLEAU).",
}

// ownExchange are entries of the common format that work only with code which another program keeps under their names.
// Ours of the same name say in data what they need, so this counts for overlays alone.
var ownExchange = map[string]bool{
	"absorb-lms": true, "agiloft": true, "braintree": true, "braintree-sandbox": true, "bullhorn": true, "coros": true,
	"coros-sandbox": true, "followupboss": true, "instagram": true, "microsoft-admin": true, "microsoft-teams-bot": true,
	"revolut-business": true, "sentry-oauth": true, "shopline-oauth": true, "threads": true, "tiktok-accounts": true,
	"tiktok-ads": true, "tiktok-personal": true, "walmart": true,
}

// unbuiltReason says why an entry cannot work with what is built, "" if it can.
func unbuiltReason(name string, e *entry, builtin bool) string {
	responseType := e.AuthorizationParam.get("response_type")
	switch {
	case unbuilt[e.AuthMode] != "":
		return unbuilt[e.AuthMode]
	case e.Installation != "":
		return "This version does not take installations that begin at the provider."
	case e.RequireCertificate && e.AuthMode != modeClientCredentials:
		return "This version presents client certificates with client credentials alone (OAUTH2_CC)."
	case e.BodyFormat == "xml":
		return "This version does not send token requests in XML."
	case e.AuthMode == modeOAuth2 && responseType != "" && responseType != "code":
		return "This version accepts no authorization answer other than a code."
	case ownExchange[name] && !builtin && e.Usable == nil:
		return "This provider's token exchange needs code of its own, which this version does not have."
	}
	return ""
}

// credentialType is the type of the credentials that a mode gives.
func credentialType(e *entry) string {
	switch e.AuthMode {
	case modePlugin:
		return e.AuthType
	case modeMCPGeneric:
		return modeMCP
	}
	return e.AuthMode
}

// unsupported is a provider that is listed and cannot be used.
type unsupported struct{ base }

// CheckMaterial refuses everything: what could not be presented must not be stored.
func (p *unsupported) CheckMaterial(*broker.Material) error {
	return broker.ErrNotSupported.Saying(p.spec.facts.UnusableReason)
}

// Present refuses.
func (p *unsupported) Present(*broker.Holding) (*broker.Presentation, error) {
	return nil, broker.ErrNotSupported.Saying(p.spec.facts.UnusableReason)
}

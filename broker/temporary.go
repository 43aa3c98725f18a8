package broker

import (
	"context"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net/url"
)

// destination gives the address that the browser goes to, after the provider was asked where its protocol begins with that.
// The sign-in has been counted by then, so that a session's bound on them bounds these requests too.
func (b *Broker) destination(ctx context.Context, c *connecting, a Authorizer, r *AuthorizeRequest, f *Flow, s flowSecrets) (string, error) {
	p, prepares := a.(Preparer)
	d, discovers := a.(Discoverer)
	if !prepares && !discovers {
		return a.AuthorizeURL(r)
	}
	b.work.begin()
	defer b.work.done()
	ctx = context.WithoutCancel(ctx)
	var goal string
	var err error
	if discovers {
		goal, err = b.discover(ctx, c, d, a, r, f, s)
	} else {
		goal, err = b.prepare(ctx, p, r, f, s)
	}
	if err == nil {
		return goal, nil
	}
	var said *ProviderError
	if errors.As(err, &said) {
		b.log.LogAttrs(ctx, slog.LevelWarn, "the provider did not let a sign-in begin",
			slog.String("integration", c.making.integration.Key), slog.String("code", said.Code), slog.Int("status", said.Status))
	}
	return "", errors.Join(err, b.failFlow(ctx, f, c.making.who, AsError(err).Code))
}

// prepare asks the provider for a temporary credential and seals it into the flow.
func (b *Broker) prepare(ctx context.Context, p Preparer, r *AuthorizeRequest, f *Flow, s flowSecrets) (string, error) {
	asking, cancel := context.WithTimeout(ctx, providerTimeout)
	got, err := p.Prepare(asking, r)
	cancel()
	if err != nil {
		return "", unprepared(err)
	}
	s.Token, s.TokenSecret = got.Token, got.Secret.Reveal()
	return got.URL, b.sealIntoFlow(ctx, f, s)
}

// sealIntoFlow keeps what was learned after the flow was opened.
func (b *Broker) sealIntoFlow(ctx context.Context, f *Flow, s flowSecrets) error {
	sealed, err := b.sealJSON(flowPlace(f), s)
	if err != nil {
		return err
	}
	ok, err := b.store.SealFlow(ctx, f.ID, sealed)
	if err == nil && !ok {
		err = ErrSessionInvalid // it was deleted meanwhile, and the flow with it
	}
	return err
}

// unprepared says what went wrong before the browser could leave. That the client is refused is nothing that the end user
// can mend.
func unprepared(err error) error {
	var p *ProviderError
	switch {
	case !errors.As(err, &p):
		return inSection(err, ConfigField)
	case p.Class == ClientRefused:
		return ErrExchangeFailed.Saying("the provider refuses this integration's client or its callback address; whoever runs this service has to check them").Because(err)
	}
	return ErrExchangeFailed.Because(err)
}

// temporary gives back the temporary credential; nil: there is none.
func (s *flowSecrets) temporary() *Temporary {
	if s.Token == "" {
		return nil
	}
	return &Temporary{Token: s.Token, Secret: NewSecret(s.TokenSecret)}
}

// verifierIn gives the verifier of an answer (RFC 5849 section 2.2), which must name the temporary credential that the
// sign-in was prepared with. How a refusal looks the RFC does not say: some providers send denied, others oauth_problem.
func verifierIn(q url.Values, token string) (string, error) {
	for _, name := range []string{"oauth_token", "oauth_verifier", "denied", "oauth_problem"} {
		if len(q[name]) > 1 {
			return "", ErrCallbackInvalid
		}
	}
	verifier, problem := q.Get("oauth_verifier"), q.Get("oauth_problem")
	refused := q.Has("denied") || q.Has("oauth_problem")
	switch {
	case refused && q.Has("oauth_verifier"):
		return "", ErrCallbackInvalid
	case q.Has("denied"), problem == "permission_denied", problem == "user_refused":
		return "", ErrProviderDenied
	case refused:
		return "", ErrProviderError.Because(&ProviderError{Class: GrantLost, Code: problem, Text: q.Get("oauth_problem_advice")})
	case verifier == "" || len(verifier) > maxCode || q.Get("oauth_token") == "":
		return "", ErrCallbackInvalid
	case subtle.ConstantTimeCompare([]byte(q.Get("oauth_token")), []byte(token)) != 1:
		return "", ErrContextMismatch.Saying("the answer belongs to another sign-in")
	}
	return verifier, nil
}

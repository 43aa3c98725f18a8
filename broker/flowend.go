package broker

import (
	"context"
	"errors"
	"strings"
)

// failFlow ends a flow and tells the app's backend.
func (b *Broker) failFlow(ctx context.Context, f *Flow, who Actor, code string) error {
	line := b.line(who, "flow.fail", string(f.ID))
	line.Result = code
	e := b.event(EventConnectFailed, &Connection{ID: f.Connection, Environment: f.Environment, Integration: f.Integration, Key: f.Key}, code)
	deliveries, err := b.tellFailed(ctx, &e, f)
	if err != nil {
		return err
	}
	trail := Trail{Audit: []AuditEntry{line}, Events: []Event{e}, Deliveries: deliveries}
	if err := b.store.FailFlow(ctx, f.ID, code, b.Now(), trail); err != nil {
		return err
	}
	b.rouseCourier(trail)
	return nil
}

// flowError ends the flow, if it has not been, and says what happened.
func (b *Broker) flowError(ctx context.Context, f *Flow, c *connecting, err error) *FlowError {
	out := &FlowError{Err: AsError(err), Session: c.session, Environment: c.environment}
	if c.session != nil {
		out.ReturnURL = c.session.ReturnURL
	}
	if c.making == nil {
		return out
	}
	out.Provider, out.Integration = c.making.facts.DisplayName, c.making.integration.Key
	if c.making.flow != nil { // consumed by us
		out.Flow, out.Landing = f.ID, f.Landing
		if err := b.failFlow(ctx, f, c.making.who, out.Err.Code); err != nil {
			out.Err = out.Err.Because(errors.Join(out.Err.Err, err))
		}
		var p *ProviderError
		if errors.As(err, &p) {
			out.Detail = cleanText(strings.TrimSpace(p.Code + " " + p.Text))
		}
	}
	return out
}

// maxDetail bounds what is shown of a provider's own words, in characters.
const maxDetail = 300

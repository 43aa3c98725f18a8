package broker

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
)

// wantedConfig is the connection config that notes which scopes calls were refused for lack of. Apps read it there, and a
// repair of the connection asks for them; a new grant takes it away.
const wantedConfig = "wanted_scopes"

// wantedScopes gives those that are noted.
func wantedScopes(c *Connection) []string {
	text, _ := decodeObject(c.Config)[wantedConfig].(string)
	return strings.Fields(text)
}

// Refused is told that the API refused a call with 403. Where it says which scopes the call lacked, they are noted with the
// connection, beside the request, for an answer is waited for.
func (b *Broker) Refused(ctx context.Context, o *Outbound, header http.Header) {
	p, _ := b.catalogue.Provider(o.integration.Provider)
	reader, ok := p.(ScopeReader)
	if !ok {
		return
	}
	wanted := reader.MissingScopes(header)
	text := strings.Join(wanted, " ")
	if last, _ := o.wanted.Swap(text).(string); len(wanted) == 0 || last == text {
		return
	}
	ctx = context.WithoutCancel(ctx)
	b.work.run(func() {
		defer b.swallow(ctx, "a note of scopes")
		if err := b.noteScopes(ctx, o, wanted); err != nil {
			b.log.LogAttrs(ctx, slog.LevelWarn, "the scopes that a call lacked could not be noted",
				slog.String("connection", string(o.connection)), slog.String("code", AsError(err).Code))
		}
	})
}

// maxWanted bounds what is noted, in scopes: a server that makes up new ones with each call comes to an end.
const maxWanted = 100

// noteScopes adds scopes to those that are noted.
func (b *Broker) noteScopes(ctx context.Context, o *Outbound, wanted []string) error {
	for attempt := 0; ; attempt++ {
		c, err := b.store.Connection(ctx, o.environment, o.connection)
		if err != nil {
			return onConnection(err)
		}
		known := wantedScopes(c)
		all := union(known, wanted)
		all = all[:min(len(all), maxWanted)]
		if slices.Equal(all, known) {
			return nil
		}
		if c.Config, err = mergeConfig(c.Config, map[string]string{wantedConfig: strings.Join(all, " ")}); err != nil {
			return err
		}
		c.UpdatedAt = b.Now()
		err = b.store.UpdateConnections(ctx, []*Connection{c}, b.audited(System(c.Environment), "connection.wanted_scopes", string(c.ID)))
		if err == nil || !errors.Is(err, ErrConflict) || attempt == 10 {
			return onConnection(err)
		}
	}
}

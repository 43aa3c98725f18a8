package nango

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// How many sockets may wait, and what one may cost.
const (
	maxSockets          = 10_000
	maxSocketsOfAddress = 100
	socketWriteTimeout  = 5 * time.Second
	maxSocketMessage    = 1 << 10 // bytes; clients send nothing
)

// sockets are the connections of browser clients that wait for the end of a sign-in. Each is told an id that nobody can
// guess; whoever begins a sign-in with it is the client, and its end is told to that socket alone, once.
type sockets struct {
	broker   *broker.Broker
	allowed  func(origin string) bool
	closing  <-chan struct{} // nil: never
	patience time.Duration

	mu   sync.Mutex
	all  int
	from map[netip.Prefix]int
}

// ack is the first message: the client's id.
type ack struct {
	Type string `json:"message_type"`
	ID   string `json:"ws_client_id"`
}

// ended is the last one.
type ended struct {
	Type        string  `json:"message_type"`
	Key         string  `json:"provider_config_key,omitempty"`
	Connection  string  `json:"connection_id,omitempty"`
	Pending     *bool   `json:"is_pending,omitempty"`
	ErrorType   string  `json:"error_type,omitempty"`
	Description *string `json:"error_desc,omitempty"`
}

// open answers GET /: the socket.
func (s *sockets) open(w http.ResponseWriter, r *http.Request, _ broker.Actor) error {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return broker.ErrNotFound
	}
	// Browsers always send an origin; what sends none is no page.
	if origin := r.Header.Get("Origin"); origin != "" && !s.allowed(origin) {
		return broker.ErrOriginRefused
	}
	leave, err := s.enter(kit.EventOf(r).IP)
	if err != nil {
		return err
	}
	defer leave()
	// The origin was checked by a better rule than the library's, which knows hosts alone.
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{OriginPatterns: []string{"*"}, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return nil // the library has answered
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(maxSocketMessage)
	s.serve(r.Context(), c, r.Header.Get("Origin"))
	return nil
}

// enter counts a socket. Errors: rate_limited.
func (s *sockets) enter(addr netip.Addr) (leave func(), err error) {
	a := kit.Subscriber(addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= maxSockets || s.from[a] >= maxSocketsOfAddress {
		return nil, broker.ErrRateLimited.Saying("too many sockets are open").After(time.Second)
	}
	if s.from == nil {
		s.from = make(map[netip.Prefix]int)
	}
	s.all++
	s.from[a]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		if s.from[a]--; s.from[a] == 0 {
			delete(s.from, a)
		}
	}, nil
}

// serve tells a client its id and, when it comes, the end of its sign-in.
func (s *sockets) serve(ctx context.Context, c *websocket.Conn, origin string) {
	channel := broker.NewChannel()
	ends, stop := s.broker.Await(channel, origin)
	defer stop()
	ctx = c.CloseRead(ctx) // it ends when the client goes, or says anything
	if send(ctx, c, ack{"connection_ack", channel}) != nil {
		return
	}
	late := time.NewTimer(s.patience)
	defer late.Stop()
	var end broker.FlowEnd
	select {
	case <-ctx.Done():
		return
	case <-s.closing:
		_ = c.Close(websocket.StatusGoingAway, "")
		return
	case <-late.C:
		end.Err = broker.ErrStateExpired
	case end = <-ends:
	}
	if send(ctx, c, message(end)) == nil {
		_ = c.Close(websocket.StatusNormalClosure, "")
	}
}

// send writes a message. A client that does not read is given up.
func send(ctx context.Context, c *websocket.Conn, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, socketWriteTimeout)
	defer cancel()
	return c.Write(ctx, websocket.MessageText, raw)
}

func message(end broker.FlowEnd) ended {
	if end.Err == nil {
		return ended{Type: "success", Key: end.Integration, Connection: end.Connection, Pending: &end.Pending}
	}
	return ended{Type: "error", Key: end.Integration, Connection: end.Connection, ErrorType: errorType(end.Err), Description: &end.Err.Msg}
}

// errorTypes are the contract's names for why a sign-in failed.
var errorTypes = map[string]string{
	broker.ErrNotFound.Code:           "provider_config_err",
	broker.ErrVariableInvalid.Code:    "url_param_err",
	broker.ErrProviderURLInvalid.Code: "url_param_err",
	broker.ErrURLNotAllowed.Code:      "url_param_err",
	broker.ErrNotSupported.Code:       "auth_mode_err",
	broker.ErrProviderDenied.Code:     "callback_err",
	broker.ErrProviderError.Code:      "callback_err",
	broker.ErrCallbackInvalid.Code:    "callback_err",
	broker.ErrBrowserMismatch.Code:    "state_cookie_err",
	broker.ErrSessionExpired.Code:     "unknown_connect_session_token",
	broker.ErrSessionInvalid.Code:     "unknown_connect_session_token",
	broker.ErrExchangeFailed.Code:     "unknown_err",
	broker.ErrInternal.Code:           "unknown_err",
	broker.ErrUnreachable.Code:        "unknown_err",
	broker.ErrProviderDown.Code:       "unknown_err",
	broker.ErrProviderTimeout.Code:    "unknown_err",
	broker.ErrAccountMismatch.Code:    "connection_validation_failed",
	broker.ErrDeprecatedAuth.Code:     "deprecated_authentication",
	broker.ErrIntegrationRefused.Code: "integration_not_allowed",
	broker.ErrStorageBusy.Code:        "unknown_err",
	broker.ErrStorageUnavailable.Code: "unknown_err",
	broker.ErrMisconfigured.Code:      "provider_config_err",
	broker.ErrConnectionPending.Code:  "unknown_err",
	broker.ErrInvalidRequest.Code:     "invalid_query_params",
	broker.ErrEgressBlocked.Code:      "url_param_err",
}

// errorType names a failure; what the contract has no name for keeps the broker's.
func errorType(err error) string {
	e := broker.AsError(err)
	if errors.Is(e, kit.ErrNotASession) {
		return "invalid_connect_session_token_format"
	}
	if name, ok := errorTypes[e.Code]; ok {
		return name
	}
	return e.Code
}

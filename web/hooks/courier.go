package hooks

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"unicode"

	"github.com/coatcheck/coatcheck/broker"
)

// Options are what a courier needs of others.
type Options struct {
	// Client keeps to the egress policy and follows no redirect.
	Client *http.Client
	// CheckURL refuses an address that the policy does not let us contact.
	CheckURL func(raw string) error
	// Reach says what may be known of a request that brought no answer.
	Reach func(error) *broker.Error
	// Encode gives a notice as the body that is signed and sent.
	Encode    func(*broker.Notice) ([]byte, error)
	UserAgent string
}

// Courier is a broker.Courier. It may be used by any number of goroutines.
type Courier struct{ o Options }

var _ broker.Courier = (*Courier)(nil)

// New makes a courier.
func New(o Options) *Courier { return &Courier{o} }

// CheckURL implements [broker.Courier].
func (c *Courier) CheckURL(raw string) error {
	if err := c.o.CheckURL(raw); err != nil {
		return broker.ErrURLNotAllowed.Because(err)
	}
	return nil
}

// maxAnswer is how much of a refusal is kept, in bytes.
const maxAnswer = 1 << 10

// Deliver implements [broker.Courier]. The address is checked again: the policy may have changed since it was entered.
func (c *Courier) Deliver(ctx context.Context, p *broker.Parcel) broker.Receipt {
	if err := c.CheckURL(p.URL); err != nil {
		return broker.Receipt{Code: broker.ErrURLNotAllowed.Code}
	}
	body, err := c.o.Encode(p.Notice)
	if err != nil {
		return broker.Receipt{Code: broker.AsError(err).Code}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL, bytes.NewReader(body))
	if err != nil {
		return broker.Receipt{Code: broker.ErrURLNotAllowed.Code}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", c.o.UserAgent)
	sign(req.Header, p, body)
	res, err := c.o.Client.Do(req)
	if err != nil {
		return broker.Receipt{Code: receiverCode(c.o.Reach(err))}
	}
	defer func() { _ = res.Body.Close() }()
	out := broker.Receipt{Status: res.StatusCode, RetryAfter: retryAfter(res.Header, p.At)}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		out.Answer = beginning(res.Body)
	}
	return out
}

// receiverCode is the code of a request without an answer, in words that fit a receiver.
func receiverCode(e *broker.Error) string {
	switch e.Code {
	case broker.ErrEgressBlocked.Code:
		return e.Code
	case broker.ErrProviderTimeout.Code:
		return "receiver_timeout"
	}
	return "receiver_unreachable"
}

// beginning reads some of an answer and makes it fit to be shown in a terminal.
func beginning(r io.Reader) string {
	raw, _ := io.ReadAll(io.LimitReader(r, maxAnswer)) // what arrived says more than that it was cut off
	return strings.Map(func(c rune) rune {
		switch {
		case unicode.IsSpace(c):
			return ' '
		case unicode.IsControl(c), unicode.Is(unicode.Bidi_Control, c), c == unicode.ReplacementChar:
			return -1
		}
		return c
	}, string(raw))
}

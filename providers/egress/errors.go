package egress

import (
	"context"
	"errors"
	"net"
)

// The errors of this package. None of their texts, nor the texts of the errors that wrap them here,
// names an address, a host, a URL or anything that a provider sent.
var (
	// ErrBlocked says that an address may not be connected to.
	ErrBlocked = errors.New("the address may not be reached")
	// ErrURL says that a URL or a host name may not be used.
	ErrURL = errors.New("the url is not allowed")
	// ErrTooLarge says that an answer's body is larger than its reader accepts.
	ErrTooLarge = errors.New("the answer is too large")
	// ErrUnreachable is what Redact makes of every failure to get an answer that is not one of the
	// others.
	ErrUnreachable = errors.New("the provider cannot be reached")
	// ErrTimeout is what Redact makes of an answer that did not come in time.
	ErrTimeout = errors.New("the provider did not answer in time")
)

// Kind is all that a caller may learn of a failed request. Its value is the published error code.
type Kind string

// The kinds of failure.
const (
	Blocked     Kind = "egress_blocked"
	Unreachable Kind = "provider_unreachable"
	Timeout     Kind = "provider_timeout"
)

// Classify sorts an error that a client of this package returned; nil has the empty Kind.
//
// No connection is one thing to the caller, whether the port is closed, filtered or refused and
// whether the name exists: a difference would make us a port scanner. So a dial that ran out of time
// is Unreachable, and Timeout is kept for a server that took the connection and then kept silent.
// That holds while the request's own deadline leaves the dial its ten seconds.
func Classify(err error) Kind {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, ErrBlocked), errors.Is(err, ErrURL):
		return Blocked
	case errors.Is(err, ErrTimeout), timedOut(err) && !dialling(err):
		return Timeout
	}
	return Unreachable
}

// Redact replaces an error by one of this package's, chosen by Classify, that wraps nothing. The
// errors of net/http hold the URL with its query and the address. ErrTooLarge, context.Canceled and
// nil stay what they are.
func Redact(err error) error {
	for _, plain := range []error{ErrTooLarge, ErrURL, context.Canceled} {
		if errors.Is(err, plain) {
			return plain
		}
	}
	switch Classify(err) {
	case Blocked:
		return ErrBlocked
	case Timeout:
		return ErrTimeout
	case Unreachable:
		return ErrUnreachable
	}
	return nil
}

func timedOut(err error) bool {
	var n net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}

func dialling(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

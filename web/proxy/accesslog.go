package proxy

import (
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// When lines are written out, and how many wait.
const (
	flushEvery = 200 * time.Millisecond
	flushAt    = 256 << 10 // bytes
	maxPending = 4 << 20   // bytes; lines beyond are dropped and counted
)

// accessLog collects lines and has one goroutine write them: a write for each would cost as much as everything else that
// a call does here.
type accessLog struct {
	out io.Writer
	now func() time.Time
	log *slog.Logger

	mu      sync.Mutex
	buf     []byte
	dropped int
	closed  bool

	second atomic.Pointer[second] // as it was written last

	begun chan struct{} // the buffer is not empty any more
	full  chan struct{} // and should be written at once
	stop  chan struct{}
	done  chan struct{}
	err   error // of the last write
	spare []byte
}

func newAccessLog(out io.Writer, now func() time.Time, log *slog.Logger) *accessLog {
	l := &accessLog{
		out: out, now: now, log: log,
		begun: make(chan struct{}, 1), full: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	go l.run()
	return l
}

// append adds a line. It never waits for a write.
func (l *accessLog) append(line []byte) {
	l.mu.Lock()
	if l.closed || len(l.buf)+len(line) > maxPending {
		l.dropped++
		l.mu.Unlock()
		return
	}
	before := len(l.buf)
	l.buf = append(l.buf, line...)
	after := len(l.buf)
	l.mu.Unlock()
	if before == 0 {
		signal(l.begun)
	}
	if before < flushAt && after >= flushAt {
		signal(l.full)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run writes lines out for as long as the log is open. While there are none it sleeps.
func (l *accessLog) run() {
	defer close(l.done)
	for {
		select {
		case <-l.begun:
		case <-l.stop:
			l.flush()
			return
		}
		t := time.NewTimer(flushEvery)
		select {
		case <-t.C:
		case <-l.full:
		case <-l.stop:
		}
		t.Stop()
		l.flush()
	}
}

// flush writes out what has collected, and how many lines had no room.
func (l *accessLog) flush() {
	l.mu.Lock()
	buf, dropped := l.buf, l.dropped
	l.buf, l.dropped = l.spare[:0], 0
	l.mu.Unlock()
	if dropped > 0 {
		buf = l.appendTime(append(buf, `{"time":"`...), l.now())
		buf = append(buf, `","level":"WARN","msg":"access log lines dropped","count":`...)
		buf = append(strconv.AppendInt(buf, int64(dropped), 10), "}\n"...)
	}
	if len(buf) > 0 {
		_, err := l.out.Write(buf)
		if err != nil && l.err == nil {
			l.log.Error("the proxy's access log cannot be written", slog.String("error", err.Error()))
		}
		l.err = err
	}
	if l.spare = buf; cap(buf) > 2*flushAt {
		l.spare = nil
	}
}

// close writes what is left. Lines that come later are dropped.
func (l *accessLog) close() error {
	l.mu.Lock()
	first := !l.closed
	l.closed = true
	l.mu.Unlock()
	if first {
		close(l.stop)
	}
	<-l.done
	return l.err
}

// maxLoggedPath is how much of a path is logged.
const maxLoggedPath = 512

// masked stands in the log for a path that may hold a credential.
const masked = "[masked]"

// second is a second with its text.
type second struct {
	unix int64
	text string
}

// appendTime appends a time in UTC. All but its fraction is the same for every line of a second.
func (l *accessLog) appendTime(b []byte, t time.Time) []byte {
	s := l.second.Load()
	if s == nil || s.unix != t.Unix() {
		s = &second{t.Unix(), t.UTC().Format("2006-01-02T15:04:05")}
		l.second.Store(s)
	}
	b = append(append(b, s.text...), '.')
	return append(appendDigits(b, t.Nanosecond()/int(time.Microsecond), 6), 'Z')
}

// appendDigits appends a number with zeros before it, up to six digits in all.
func appendDigits(b []byte, n, digits int) []byte {
	b = append(b, "000000"[:digits]...)
	for i := len(b) - 1; i >= len(b)-digits; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
	return b
}

// appendLine appends the call's line: who called what and what became of it, and never a header, a query or a body.
func (c *call) appendLine(b []byte, aborted bool) []byte {
	now := c.h.now()
	b = c.h.access.appendTime(append(b, `{"time":"`...), now)
	b = append(b, `","level":"INFO","msg":"proxied","request_id":"`...)
	b = append(append(b, c.id[:]...), '"')
	b = appendText(b, `,"method":`, c.in.Method)
	b = appendText(b, `,"host":`, c.target.host)
	b = appendText(b, `,"path":`, c.loggedPath())
	b = appendNumber(b, `,"status":`, int64(c.loggedStatus()))
	b = appendName(b, `,"code":"`, c.code)
	if aborted {
		b = append(b, `,"aborted":true`...)
	}
	read := int64(0)
	if c.body != nil {
		read = c.body.read.Load()
	}
	b = appendNumber(b, `,"bytes_in":`, read)
	b = appendNumber(b, `,"bytes_out":`, c.sent.Load())
	took := max(now.Sub(c.start), 0)
	b = append(appendNumber(b, `,"ms":`, took.Milliseconds()), '.')
	b = appendDigits(b, int(took.Microseconds()%1000), 3)
	b = appendName(b, `,"environment":"`, string(c.who.Environment))
	b = appendName(b, `,"key":"`, string(c.who.Key))
	b = appendName(b, `,"session":"`, string(c.who.Session))
	if c.out != nil { // otherwise it is what somebody says, and names nothing
		b = appendText(b, `,"integration":`, c.control.integration)
		b = appendName(b, `,"connection":"`, string(c.out.Connection()))
	}
	return append(b, "}\n"...)
}

// statusGone stands in the log for a caller that left before there was an answer.
const statusGone = 499

func (c *call) loggedStatus() int {
	if status := c.status.Load(); status != 0 {
		return int(status)
	}
	if status, ok := c.handedBack(); ok {
		return status
	}
	return statusGone
}

// loggedPath gives the path as it may be logged, without what the base URL adds to it. A credential in a path is a
// mistake of the caller's, or the way of some providers; neither belongs into a log.
func (c *call) loggedPath() string {
	path := c.path
	if path == "" {
		path = c.target.path[min(len(c.target.base), len(c.target.path)):]
	}
	if c.key != "" && strings.Contains(path, c.key) || c.out != nil && c.out.Carries(path) {
		return masked
	}
	if strings.Contains(path, "coat_") || strings.Contains(path, kit.SessionPrefix) {
		path = kit.LogPath(path)
	}
	return path[:min(len(path), maxLoggedPath)]
}

// appendText appends a member with a text from outside, unless it is empty.
func appendText(b []byte, member, text string) []byte {
	if text == "" {
		return b
	}
	b, _ = jsontext.AppendQuote(append(b, member...), text) // its error says that there were bytes to replace
	return b
}

// appendName appends a member with an id or a code of ours, which needs no escaping, unless it is empty.
func appendName(b []byte, member, name string) []byte {
	if name == "" {
		return b
	}
	return append(append(append(b, member...), name...), '"')
}

func appendNumber(b []byte, member string, n int64) []byte {
	return strconv.AppendInt(append(b, member...), n, 10)
}

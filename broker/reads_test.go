package broker

import (
	"strconv"
	"testing"
	"time"
)

// Uses wait, so that a connection that is used all the time is written once in that time, or until there are too
// many of them.
func TestUsesWaitToBeWritten(t *testing.T) {
	l, start := newReadLog(), time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	l.used("a", start)
	l.used("a", start.Add(30*time.Second))
	l.used("b", start.Add(59*time.Second))
	if early := l.takeUses(start.Add(-time.Second)); early != nil {
		t.Errorf("too early: %v", early)
	}
	due := l.takeUses(start)
	if len(due) != 2 || !due["a"].Equal(start.Add(30*time.Second)) {
		t.Errorf("afterwards: %v", due)
	}
	if again := l.takeUses(start.Add(time.Hour)); again != nil {
		t.Errorf("twice: %v", again)
	}
	for i := range maxUses {
		l.used(ConnectionID(strconv.Itoa(i)), start)
	}
	if many := l.takeUses(start.Add(-time.Second)); len(many) == 0 {
		t.Error("a full log is kept")
	}
}

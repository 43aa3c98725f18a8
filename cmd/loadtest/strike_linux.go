package main

import (
	"context"
	"errors"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// strike puts a due time into the channel at each of so many equal steps. It sleeps in the kernel on a thread of its own:
// the runtime's timers wake up to a millisecond late, which is more than what is measured.
func strike(ctx context.Context, due chan<- time.Time, total int, step time.Duration) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // at worst it stays at 50 µs, for all sides alike
	start := time.Now()
	for i := range total {
		at := start.Add(time.Duration(i) * step)
		for wait := time.Until(at); wait > 0; wait = time.Until(at) {
			left := unix.NsecToTimespec(wait.Nanoseconds())
			if err := unix.Nanosleep(&left, nil); err != nil && !errors.Is(err, unix.EINTR) {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		due <- at
	}
	return nil
}

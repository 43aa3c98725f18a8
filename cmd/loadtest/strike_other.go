//go:build !linux

package main

import (
	"context"
	"time"
)

// strike puts a due time into the channel at each of so many equal steps.
func strike(ctx context.Context, due chan<- time.Time, total int, step time.Duration) error {
	start := time.Now()
	for i := range total {
		at := start.Add(time.Duration(i) * step)
		if err := pause(ctx, time.Until(at)); err != nil {
			return err
		}
		due <- at
	}
	return nil
}

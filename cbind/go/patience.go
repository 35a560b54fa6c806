package forebay

// #include "shim.h"
import "C"

import (
	"context"
	"errors"
	"time"
)

// Calls that wait in the library take a thread each: these many at once, for slices of time between which they look
// at their context.
var seats = make(chan struct{}, 8)

const slice = 50 * time.Millisecond

// patiently repeats a call that may wait for so many milliseconds, until it answers something else than this error,
// the most that it may take is over, or ctx ends.
func patiently(ctx context.Context, most time.Duration, again error, call func(ms C.int64_t) error) error {
	begun := time.Now()
	for {
		select {
		case seats <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		left := most - time.Since(begun)
		wait := max(min(left, slice), 0)
		if until, ok := ctx.Deadline(); ok {
			wait = max(min(wait, time.Until(until)), 0)
		}
		err := call(C.int64_t(milliseconds(wait)))
		<-seats
		if !errors.Is(err, again) || left <= slice {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

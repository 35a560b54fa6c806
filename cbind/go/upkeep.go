package forebay

// #include "shim.h"
// #cgo nocallback fby_flush
// #cgo nocallback fby_drain
// #cgo nocallback fby_dump
// #cgo nocallback fby_restore
// #cgo nocallback fby_signal
// #cgo noescape fby_now
// #cgo nocallback fby_now
// #cgo nocallback fby_advance
import "C"

import (
	"context"
	"time"
)

// Flush returns when everything that was accepted, finished or changed before is on the disk, or as safe as the engine
// can make it, and tells how safe that is.
func (d *Dispatcher) Flush(ctx context.Context) (Durability, error) {
	var reached C.fby_durability
	err := d.call(ctx, func(made **C.fby_error) C.fby_status { return C.fby_flush(d.at, &reached, made) })
	return Durability(reached), err
}

// Drain waits until no job is queued and none runs. Jobs that are scheduled for later are not waited for.
func (d *Dispatcher) Drain(ctx context.Context) error {
	if _, inside := FromContext(ctx); inside {
		return errorf(CodeWouldDeadlock, "a handler cannot wait for itself to end; call Drain elsewhere")
	}
	return patiently(ctx, forever, ErrTimeout, func(ms C.int64_t) error {
		return d.call(ctx, func(made **C.fby_error) C.fby_status { return C.fby_drain(d.at, ms, made) })
	})
}

// DumpReport says what [Dispatcher.Dump] or [Dispatcher.Restore] did.
type DumpReport struct {
	// Jobs were written, or read and accepted.
	Jobs int
	// Known are the jobs of the file that were here already, and were left as they are.
	Known int
}

// Dump writes every job that is not over to a file, as of one instant. The former file stays until the new one is
// whole and synced.
func (d *Dispatcher) Dump(ctx context.Context, path string) (DumpReport, error) {
	report := C.fby_dump_report{struct_size: C.sizeof_fby_dump_report}
	err := d.call(ctx, func(made **C.fby_error) C.fby_status { return C.fby_dump(d.at, loan(path), &report, made) })
	return DumpReport{Jobs: int(report.jobs), Known: int(report.known)}, err
}

// Restore reads what [Dispatcher.Dump] has written and accepts its jobs. Those that are here already are left as they
// are, so restoring twice makes no job twice. The whole file is checked before the first job is accepted.
func (d *Dispatcher) Restore(ctx context.Context, path string) (DumpReport, error) {
	report := C.fby_dump_report{struct_size: C.sizeof_fby_dump_report}
	err := d.call(ctx, func(made **C.fby_error) C.fby_status { return C.fby_restore(d.at, loan(path), &report, made) })
	return DumpReport{Jobs: int(report.jobs), Known: int(report.known)}, err
}

// Signal gives a job one of the tokens that it waits for. With the last one it is queued.
func (d *Dispatcher) Signal(ctx context.Context, id ID, token string) error {
	return d.call(ctx, func(made **C.fby_error) C.fby_status {
		job := cID(id)
		return C.fby_signal(d.at, &job, loan(token), made)
	})
}

// Now is what time it is for the dispatcher.
func (d *Dispatcher) Now(ctx context.Context) (time.Time, error) {
	var ms C.int64_t
	err := d.call(ctx, func(made **C.fby_error) C.fby_status { return C.fby_now(d.at, &ms, made) })
	return time.UnixMilli(int64(ms)), err
}

// Advance is for tests: it moves the clock of a dispatcher forward that was opened with the option clock=manual, and
// does all that has become due before it returns. With the clock of the system it fails with [ErrUnsupported]. Package
// forebaytest makes more of it.
func (d *Dispatcher) Advance(ctx context.Context, by time.Duration) error {
	if by < 0 {
		return errorf(CodeInvalid, "the clock cannot go back by %v", -by)
	}
	return d.call(ctx, func(made **C.fby_error) C.fby_status {
		return C.fby_advance(d.at, C.int64_t(milliseconds(by)), made)
	})
}

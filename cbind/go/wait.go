package forebay

// #include "shim.h"
// #cgo nocallback fby_wait
import "C"

import (
	"context"
	"errors"
)

// Result is what became of a job that is over.
type Result struct {
	// State is how it ended.
	State State
	// Payload is what its handler answered, if it has succeeded.
	Payload []byte
	// ContentType is what that is, as a MIME type.
	ContentType string
}

// Decode reads the result as JSON.
func (r Result) Decode(value any) error {
	return decode(r.Payload, value)
}

// Wait waits for the end of a job. If it ended otherwise than well the error is [ErrJobFailed], with the text of its
// last failure, or [ErrShed], and the state is in the result all the same. A job that is unknown, or was forgotten
// since, is [ErrNotFound].
//
// Any number of goroutines may wait; that takes no thread. A handler that waits for another job goes on counting
// against the option concurrency: if all of them wait for jobs that cannot start, only ctx ends that.
func (d *Dispatcher) Wait(ctx context.Context, id ID) (Result, error) {
	if job, inside := FromContext(ctx); inside && job.ID == id {
		return Result{}, errorf(CodeWouldDeadlock, "a handler cannot wait for the job that it runs")
	}
	result, err := d.look(ctx, id)
	if !errors.Is(err, ErrTimeout) {
		return result, err
	}
	if err := d.ends.wait(ctx, d, id); err != nil {
		return Result{}, err
	}
	return d.look(ctx, id)
}

// look is what became of a job, or [ErrTimeout] if it is not over.
func (d *Dispatcher) look(ctx context.Context, id ID) (result Result, err error) {
	err = d.call(ctx, func(made **C.fby_error) C.fby_status {
		var state C.fby_state
		var buffer *C.fby_buffer
		job := cID(id)
		status := C.fby_wait(d.at, &job, 0, &state, &buffer, made)
		result = Result{State: State(state)}
		if buffer != nil {
			result.Payload = goBytes(C.fby_buffer_bytes(buffer))
			result.ContentType = goString(C.fby_buffer_content_type(buffer))
			C.fby_buffer_free(buffer)
		}
		return status
	})
	return result, err
}

// WaitResult waits for the end of a job and reads its result as JSON: the counterpart of [HandleResult].
func WaitResult[R any](ctx context.Context, d *Dispatcher, id ID) (R, error) {
	var value R
	result, err := d.Wait(ctx, id)
	if err != nil {
		return value, err
	}
	return value, result.Decode(&value)
}

package forebay

// #include "shim.h"
// #cgo nocallback fbygo_declare
import "C"

import (
	"context"
	"maps"
)

// Handler runs one attempt of a job. When it returns nil the job has succeeded; any other error is a failed
// attempt, after which the retry policy says whether and when it runs again, unless the error is, or wraps, one of
// [Fatal], [RetryAfter], [Snooze], [RateLimited] and [Cancel]. A panic, or an end by [runtime.Goexit], is a failed
// attempt too.
//
// The context is cancelled when nothing is to be had from the attempt any more: the job was cancelled, the attempt
// took too long, its lease was lost, or the grace of a stop is over. [context.Cause] tells which.
type Handler func(ctx context.Context, job *Job) error

// kind is what is known of a kind here.
type kind struct {
	name    string
	handler Handler
}

// Handle registers the handler of a kind; [Dispatcher.Run] calls it. A second call replaces the handler for attempts
// that start later.
func (d *Dispatcher) Handle(name string, handler Handler, options ...KindOption) error {
	if handler == nil {
		return errorf(CodeInvalid, "the handler of kind %q is nil", name)
	}
	var settings kindSettings
	for _, option := range options {
		option.applyKind(&settings)
	}
	if err := d.declare(name, settings.String(), handler); err != nil {
		return err
	}
	for _, run := range d.running() {
		run.look()
	}
	return nil
}

func (d *Dispatcher) declare(name, options string, handler Handler) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.call(context.Background(), func(made **C.fby_error) C.fby_status {
		return C.fbygo_declare(d.at, loan(name), loan(options), made)
	})
	if err != nil {
		return err
	}
	kinds := maps.Clone(*d.kinds.Load())
	kinds[name] = &kind{name: name, handler: handler}
	d.kinds.Store(&kinds)
	return nil
}

// HandleTyped registers a handler of jobs that carry a T as JSON: see [JSON] and [Dispatcher.Handle]. A payload that
// is no T fails the job at once.
func HandleTyped[T any](d *Dispatcher, kind string, handler func(ctx context.Context, job *Job, value T) error, options ...KindOption) error {
	return d.Handle(kind, func(ctx context.Context, job *Job) error {
		var value T
		if err := job.Decode(&value); err != nil {
			return err
		}
		return handler(ctx, job, value)
	}, options...)
}

// HandleResult is [HandleTyped] for a handler with a result, which goes with the job as JSON: see [WaitResult].
func HandleResult[T, R any](d *Dispatcher, kind string, handler func(ctx context.Context, job *Job, value T) (R, error), options ...KindOption) error {
	return HandleTyped(d, kind, func(ctx context.Context, job *Job, value T) error {
		result, err := handler(ctx, job, value)
		if err != nil {
			return err
		}
		if err := job.SetJSON(result); err != nil {
			return Fatal(err)
		}
		return nil
	}, options...)
}

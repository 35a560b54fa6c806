package forebay

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// Why the context of a handler was cancelled, as [context.Cause] tells. The context is cancelled too once its
// handler has returned; then the cause is [context.Canceled].
var (
	// ErrTimedOut: the attempt took too long; its answer counts no more.
	ErrTimedOut error = stopError("the attempt took too long")
	// ErrLeaseLost: the lease was lost or handed back; its answer counts no more.
	ErrLeaseLost error = stopError("the lease of the job was lost")
	// ErrStopped: the dispatcher, or Run, has stopped, and the grace is over.
	ErrStopped error = stopError("the grace of the stop is over")
)

type stopError string

func (e stopError) Error() string {
	return "forebay: " + string(e)
}

// Is makes an attempt that took too long a [context.DeadlineExceeded], and every stop a [context.Canceled].
func (e stopError) Is(target error) bool {
	if target == context.DeadlineExceeded {
		return e == ErrTimedOut
	}
	return target == context.Canceled
}

// lease is one attempt of a job and the context of its handler. Most handlers never look at their context, so what
// can be cancelled is made when somebody asks for it: a job that is never cancelled pays for no channel.
type lease struct {
	job    Job
	run    *run
	kind   *kind
	ticket ticket
	// due is when the attempt is overdue, in milliseconds since 1970; 0 for never.
	due     int64
	outcome outcome
	// next is the one that ended before it.
	next *lease
	// before and behind are its neighbours among those that run: whoever takes turns keeps that ring.
	before, behind *lease
	// ended is set when the handler has returned, and readers counts who reads what goes then.
	ended   atomic.Bool
	readers atomic.Int32
	// made is the context that can be cancelled, once somebody has asked.
	made atomic.Pointer[cancellable]
	// why is set before the context is cancelled.
	why atomic.Pointer[error]
}

type cancellable struct {
	context.Context
	cancel context.CancelCauseFunc
}

var errEnded = context.Canceled

// stop cancels the context. The first reason stays.
func (l *lease) stop(why *error) {
	if !l.why.CompareAndSwap(nil, why) {
		return
	}
	// Either this sees the context, or whoever makes it sees the reason.
	if made := l.made.Load(); made != nil {
		made.cancel(*why)
	}
}

// context is the one that can be cancelled.
func (l *lease) context() context.Context {
	if made := l.made.Load(); made != nil {
		return made
	}
	ctx, cancel := context.WithCancelCause(l.run.values)
	made := &cancellable{ctx, cancel}
	if !l.made.CompareAndSwap(nil, made) {
		return l.made.Load()
	}
	if why := l.why.Load(); why != nil {
		cancel(*why)
	}
	return made
}

// Deadline is when the attempt is overdue, if it can be.
func (l *lease) Deadline() (time.Time, bool) {
	if l.due == 0 {
		return time.Time{}, false
	}
	return time.UnixMilli(l.due), true
}

// Done is closed when the handler should stop.
func (l *lease) Done() <-chan struct{} {
	return l.context().Done()
}

// Err is why, in the words of package context.
func (l *lease) Err() error {
	why := l.why.Load()
	if why == nil {
		return nil
	}
	if errors.Is(*why, context.DeadlineExceeded) {
		return context.DeadlineExceeded
	}
	return context.Canceled
}

// Value looks for the job, and for everything else in the context of Run.
func (l *lease) Value(key any) any {
	if key == (jobKey{}) {
		return &l.job
	}
	return l.context().Value(key)
}

type jobKey struct{}

// FromContext is the job whose handler was given this context, or one that was made from it.
func FromContext(ctx context.Context) (*Job, bool) {
	job, ok := ctx.Value(jobKey{}).(*Job)
	return job, ok
}

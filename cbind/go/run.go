package forebay

// #include "shim.h"
// #cgo nocallback fby_consumer_new
// #cgo nocallback fby_consumer_fd
// #cgo nocallback fby_consumer_free
import "C"

import (
	"context"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// RunOption says what one call of [Dispatcher.Run] does.
type RunOption interface{ applyRun(*runSettings) }

type runSettings struct {
	queues    []string
	untilIdle bool
}

type runQueues []string

func (q runQueues) applyRun(to *runSettings) { to.queues = append(to.queues, q...) }

// Queues has Run take jobs from these queues only.
func Queues(names ...string) RunOption {
	return runQueues(names)
}

type runUntilIdle struct{}

func (runUntilIdle) applyRun(to *runSettings) { to.untilIdle = true }

// UntilIdle has Run return when it runs nothing and finds nothing that may start now: for programs that work off
// what there is, and for tests. What is scheduled for later is not waited for.
func UntilIdle() RunOption {
	return runUntilIdle{}
}

// Run runs the handlers that are registered, now or later, for the jobs that there are, until ctx ends. Then it
// takes no more jobs, waits for those that run, for the time that the option grace says, and returns nil. What runs
// longer has its context cancelled, with the cause [ErrStopped]; if it does not return soon after that either, Run
// leaves it alone and fails with [ErrTimeout], and [Dispatcher.Close] hands the job back to the queue.
//
// When the dispatcher is closed Run returns [ErrClosed].
//
// Up to option concurrency handlers run at once, each in a goroutine; goroutines are used again. Waiting for jobs
// takes no thread. The contexts of the handlers have the values of ctx, but are not cancelled with it.
func (d *Dispatcher) Run(ctx context.Context, options ...RunOption) error {
	var settings runSettings
	for _, option := range options {
		option.applyRun(&settings)
	}
	r, err := d.start(ctx, settings)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-r.stopping:
	}
	r.drain()
	select {
	case <-r.quiet:
		return r.end()
	case <-time.After(d.grace):
	}
	r.stopAll()
	select {
	case <-r.quiet:
		return r.end()
	case <-time.After(parting):
		return errorf(CodeTimeout, "handlers have not returned within the grace of %v, although their contexts were cancelled",
			d.grace)
	}
}

// parting is how long handlers may take to return when their contexts have been cancelled.
const parting = time.Second

// run is one call of Run: a consumer and those who work for it.
//
// Whoever has nothing better to do takes a turn: one call of the library that answers for all jobs that have ended
// and takes new ones (turn.go). The jobs that came are a line, from which each worker takes the next (line.go). Three
// kinds of goroutines take turns:
//
//   - a worker that finds the line empty: so a lone job is answered for at once, and by no other goroutine;
//   - the pump, when the descriptor of the consumer says that there is something to do;
//   - the backstop, when answers or jobs would have to wait for a handler that takes its time.
type run struct {
	d      *Dispatcher
	values context.Context
	line
	ended stack
	turns
	workers

	// untilIdle is whether it ends when there is nothing to run.
	untilIdle bool
	// stopping is closed when no more jobs are taken.
	stopping chan struct{}
	draining sync.Once
	// quiet is closed when no more jobs are taken and none runs; then everything has been given back.
	quiet chan struct{}
	// forsaken is set when the dispatcher stops without a grace.
	forsaken atomic.Bool
	// overdue is set when the grace is over.
	overdue atomic.Bool
	// failed is why no more jobs are taken, if not because of the context.
	failed atomic.Pointer[error]

	bell *os.File
	wake chan struct{}
}

func (d *Dispatcher) start(ctx context.Context, settings runSettings) (*run, error) {
	r := &run{
		d:         d,
		values:    context.WithoutCancel(ctx),
		untilIdle: settings.untilIdle,
		stopping:  make(chan struct{}),
		quiet:     make(chan struct{}),
		wake:      make(chan struct{}, 1),
	}
	r.line.init()
	if err := r.open(settings); err != nil {
		return nil, err
	}
	go r.pump()
	go r.backstop()
	return r, nil
}

// open makes the consumer, for the kinds that there are, and lets Handle know of it.
func (r *run) open(settings runSettings) error {
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	if err := r.d.enter(); err != nil {
		return err
	}
	defer r.d.leave()
	if len(*r.d.kinds.Load()) == 0 {
		return errorf(CodeInvalid, "no handler is registered: call Handle before Run")
	}
	if err := r.turns.open(r.d, settings.queues); err != nil {
		return err
	}
	bell, err := r.turns.descriptor()
	if err != nil {
		r.turns.free()
		return err
	}
	r.bell = bell
	r.d.runs[r] = struct{}{}
	return nil
}

// end says how Run went that has ended in time.
func (r *run) end() error {
	if failed := r.failed.Load(); failed != nil {
		return *failed
	}
	return nil
}

// drain takes no more jobs from now on.
func (r *run) drain() {
	r.draining.Do(func() { close(r.stopping) })
	r.kick()
}

// fail does so for this reason.
func (r *run) fail(err error) {
	r.failed.CompareAndSwap(nil, &err)
	r.draining.Do(func() { close(r.stopping) })
}

// drains is whether no more jobs are taken.
func (r *run) drains() bool {
	select {
	case <-r.stopping:
		return true
	default:
		return false
	}
}

// stopAll cancels the contexts of all that run.
func (r *run) stopAll() {
	r.overdue.Store(true)
	r.kick()
}

// abandon ends the run at once: nothing is waited for.
func (r *run) abandon() {
	r.forsaken.Store(true)
	r.kick()
}

// pump waits for the descriptor of the consumer, through the poller of the runtime, which takes no thread.
func (r *run) pump() {
	listen(r.bell, func() bool {
		r.armed.Store(false)
		r.look()
		return true
	})
	r.bell.Close()
}

// look takes a turn and calls somebody for what came.
func (r *run) look() {
	r.kick()
	if r.line.more() {
		r.hire(r)
	}
	if !r.armed.Load() {
		r.alert()
	}
}

// backstop sees to it that nothing waits for a handler that takes its time: an answer of another one, the next job
// in the line, or the look for more.
//
// It is woken once per batch, and must not disturb workers that are quick: while the line moves they will be
// through with it soon, and take a turn themselves.
func (r *run) backstop() {
	for {
		select {
		case <-r.wake:
		case <-r.quiet:
			return
		}
		before, since := r.line.taken(), time.Now()
		for r.unsettled() {
			runtime.Gosched()
			if now := r.line.taken(); now != before {
				before, since = now, time.Now()
			} else if time.Since(since) > slow {
				r.kick()
				if r.line.more() {
					r.hire(r)
				}
				break
			}
		}
	}
}

// slow is how long a handler must take for others not to wait for it.
const slow = 5 * time.Microsecond

// unsettled is whether there is something that nobody may be about to do.
func (r *run) unsettled() bool {
	return r.line.more() || !r.ended.empty() || !r.armed.Load() && !r.drains()
}

// alert wakes the backstop.
func (r *run) alert() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

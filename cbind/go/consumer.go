package forebay

// #include "shim.h"
// #cgo noescape fby_poll
// #cgo nocallback fby_poll
// #cgo noescape fby_finish
// #cgo nocallback fby_finish
// #cgo nocallback fby_finish_and_push
// #cgo noescape fby_cancelled
// #cgo nocallback fby_cancelled
// #cgo noescape fby_job_header
// #cgo nocallback fby_job_header
import "C"

import (
	"context"
	"errors"
	"os"
	"runtime"
	"sync"
	"time"
)

// ConsumerOptions say what a consumer asks for; the zero value of a field leaves it to the defaults.
type ConsumerOptions struct {
	// Kinds are the kinds of jobs to take; none is every kind.
	Kinds []string
	// Queues are the queues to take them from; none is every queue.
	Queues []string
	// Lease is how long a job is held unless it is extended; 0 leaves it to the option lease.
	Lease time.Duration
}

// Consumer asks for jobs, for programs that run them in their own way; [Dispatcher.Run] is for all others. Its
// methods may be called by any goroutine, of which one polls at a time and the others wait for it. Close it when it
// is no longer needed.
type Consumer struct {
	d  *Dispatcher
	mu sync.Mutex
	// at is nil once it is closed.
	at   *C.fby_consumer
	bell *os.File
	net  runtime.Cleanup
}

// Consumer makes a consumer of jobs of these kinds in these queues.
func (d *Dispatcher) Consumer(options ConsumerOptions) (*Consumer, error) {
	var kinds, queues list
	defer kinds.free()
	defer queues.free()
	kinds.write(options.Kinds)
	queues.write(options.Queues)
	native := C.fby_consumer_options{
		struct_size: C.sizeof_fby_consumer_options,
		queues:      queues.at,
		queue_count: C.size_t(len(options.Queues)),
		lease_ms:    C.int64_t(milliseconds(options.Lease)),
	}
	c := &Consumer{d: d}
	err := d.call(context.Background(), func(made **C.fby_error) C.fby_status {
		return C.fby_consumer_new(d.at, kinds.at, C.size_t(len(options.Kinds)), &native, &c.at, made)
	})
	if err != nil {
		return nil, err
	}
	// A net for those who forget to close it, no more.
	c.net = runtime.AddCleanup(c, func(at *C.fby_consumer) { C.fby_consumer_free(at) }, c.at)
	return c, nil
}

// Close ends the consumer; a poll that is under way is waited for, so end its context first. What was given out can still
// be answered for.
func (c *Consumer) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at == nil {
		return
	}
	c.net.Stop()
	C.fby_consumer_free(c.at)
	c.at = nil
	if c.bell != nil {
		c.bell.Close()
	}
}

// TryPoll takes up to max jobs, and none if there is none now. It fails with [ErrClosed] once the dispatcher stops.
func (c *Consumer) TryPoll(max int) ([]*Delivery, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.poll(max)
}

// Poll takes up to max jobs; it waits for the first one, until ctx ends, and the wait takes no thread. It fails with
// [ErrClosed] once the dispatcher stops.
func (c *Consumer) Poll(ctx context.Context, max int) ([]*Delivery, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.listen(); err != nil {
		return nil, err
	}
	conn, err := c.bell.SyscallConn()
	if err != nil {
		return nil, err
	}
	c.bell.SetReadDeadline(time.Time{})
	defer context.AfterFunc(ctx, func() { c.bell.SetReadDeadline(time.Unix(1, 0)) })()
	for {
		var found []*Delivery
		looked := false
		waited := conn.Read(func(uintptr) bool {
			// The poller tells of what happens from here on: what was there before is found by the look.
			if looked {
				return true
			}
			looked = true
			found, err = c.poll(max)
			return len(found) > 0 || err != nil
		})
		if len(found) > 0 || err != nil {
			return found, err
		}
		if errors.Is(waited, os.ErrDeadlineExceeded) {
			// By this context, or late by that of a former poll. Before the look at this one, so that its end is not lost.
			c.bell.SetReadDeadline(time.Time{})
			waited = nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if waited != nil {
			return nil, waited
		}
	}
}

// listen makes the descriptor that tells when to poll.
func (c *Consumer) listen() error {
	if c.at == nil {
		return errorf(CodeInvalid, "the consumer is closed")
	}
	if c.bell != nil {
		return nil
	}
	bell, err := (&turns{consumer: c.at}).descriptor()
	c.bell = bell
	return err
}

func (c *Consumer) poll(max int) ([]*Delivery, error) {
	if c.at == nil {
		return nil, errorf(CodeInvalid, "the consumer is closed")
	}
	if max <= 0 {
		return nil, nil
	}
	jobs := make([]C.fby_job, max)
	var deliveries []*Delivery
	err := c.d.call(context.Background(), func(made **C.fby_error) C.fby_status {
		var count C.size_t
		status := C.fby_poll(c.at, &jobs[0], C.sizeof_fby_job, C.size_t(max), 0, &count, made)
		for i := range jobs[:count] {
			deliveries = append(deliveries, c.d.delivery(&jobs[i]))
		}
		return status
	})
	return deliveries, err
}

// Delivery is a job that a consumer was given, with the ways to answer for it; what it carries is a copy, and may be
// kept. Of several answers the first counts,
// from whichever goroutine, and the others fail with [ErrStale]. One that nobody answers for runs until its lease
// ends, if it has an end, or the dispatcher is closed.
type Delivery struct {
	Job
	// Due is when the attempt is overdue; the zero time for never.
	Due time.Time

	d           *Dispatcher
	ticket      ticket
	headers     []Header
	result      []byte
	contentType string
}

// delivery copies a job out of the library's memory.
func (d *Dispatcher) delivery(job *C.fby_job) *Delivery {
	to := &Delivery{
		Job: Job{
			ID:             idOf(job.id),
			Kind:           goString(job.kind),
			Queue:          goString(job.queue),
			Payload:        goBytes(job.payload),
			ContentType:    goString(job.content_type),
			Key:            goString(job.key),
			ConcurrencyKey: goString(job.concurrency_key),
			Attempt:        int(job.attempt),
			MaxAttempts:    attemptsOf(job.max_attempts),
			Priority:       int(job.priority),
			Fence:          uint64(job.fence),
			Created:        timeMilli(job.created_ms),
		},
		Due:    timeMilli(job.due_ms),
		d:      d,
		ticket: job.ticket,
	}
	for {
		var header C.fby_header
		if C.fby_job_header(d.at, job.ticket, C.size_t(len(to.headers)), &header, nil) != C.FBY_OK {
			return to
		}
		to.headers = append(to.headers, Header{Name: goString(header.name), Value: goString(header.value)})
	}
}

// Headers are those that the job was pushed with, in their order.
func (t *Delivery) Headers() []Header {
	return t.headers
}

// Header is the value of the first header of that name, and whether there is one.
func (t *Delivery) Header(name string) (string, bool) {
	for _, header := range t.headers {
		if header.Name == name {
			return header.Value, true
		}
	}
	return "", false
}

// SetResult sets the result that goes with the job if it is finished with nil: see [Job.SetResult].
func (t *Delivery) SetResult(result []byte, contentType string) {
	t.result, t.contentType = result, contentType
}

// SetJSON sets the result as JSON: see [Delivery.SetResult].
func (t *Delivery) SetJSON(value any) error {
	text, err := encode(value)
	if err == nil {
		t.SetResult(text, ContentTypeJSON)
	}
	return err
}

// Finish answers for the job as a [Handler] does by what it returns: nil for success, and any other error for a failed
// attempt, unless it is, or wraps, one of [Fatal], [RetryAfter], [Snooze], [RateLimited] and [Cancel]. The jobs that
// follow from it are pushed with the answer, both or neither.
//
// It fails with [ErrStale] if the attempt no longer counts: it was answered for, took too long, lost its lease or was
// handed back. With [ErrInvalid] the answer, or one of the jobs, cannot be used, and it can be answered again.
func (t *Delivery) Finish(ctx context.Context, answer error, successors ...JobSpec) error {
	said := outcome{verdict: C.FBY_DONE, result: t.result, contentType: t.contentType}
	if answer != nil {
		said = outcomeOf(answer)
	}
	desk := t.d.desks.take()
	defer t.d.desks.give(desk)
	specs, err := desk.write(successors)
	if err != nil {
		return err
	}
	var texts buffer
	defer texts.free()
	texts.reserve(len(said.text) + len(said.result) + len(said.contentType))
	native := C.fby_outcome{
		struct_size:  C.sizeof_fby_outcome,
		ticket:       t.ticket,
		result:       texts.bytes(said.result),
		content_type: texts.text(said.contentType),
		error:        texts.text(said.text),
		delay_ms:     C.int64_t(said.delay),
		verdict:      said.verdict,
	}
	return t.d.call(ctx, func(made **C.fby_error) C.fby_status {
		if len(specs) == 0 {
			return C.fby_finish(t.d.at, &native, C.sizeof_fby_outcome, 1, nil, made)
		}
		return C.fby_finish_and_push(t.d.at, &native, &specs[0], C.sizeof_fby_job_spec, C.size_t(len(specs)), made)
	})
}

// Extend makes the lease of the job end this long from now. It fails with [ErrStale] if the attempt no longer counts.
func (t *Delivery) Extend(ctx context.Context, lease time.Duration) error {
	return t.d.call(ctx, func(made **C.fby_error) C.fby_status {
		return C.fby_extend(t.d.at, t.ticket, C.int64_t(milliseconds(lease)), made)
	})
}

// Err says why whoever works on the job should stop, and nil while it may go on: [ErrCancelled]; [ErrTimedOut] and
// [ErrLeaseLost], after which an answer counts no more; [ErrStopped], when the dispatcher stops and an answer within
// the grace still counts. Cheap: ask often.
func (t *Delivery) Err() error {
	if t.d.enter() != nil {
		return ErrLeaseLost
	}
	defer t.d.leave()
	reason := C.fby_cancelled(t.d.at, t.ticket)
	if reason == C.FBY_STOP_STOPPING {
		return ErrStopped
	}
	if why := stopReason(reason); why != nil {
		return *why
	}
	return nil
}

// Declare says how jobs of a kind are run that consumers take; [Dispatcher.Handle] does so for those with a handler.
func (d *Dispatcher) Declare(kind string, options ...KindOption) error {
	var settings kindSettings
	for _, option := range options {
		option.applyKind(&settings)
	}
	return d.call(context.Background(), func(made **C.fby_error) C.fby_status {
		return C.fbygo_declare(d.at, loan(kind), loan(settings.String()), made)
	})
}

// RequestStop begins to stop and returns at once: nothing more is handed out, and those who work on jobs and ask hear
// of it. [Dispatcher.Shutdown] or [Dispatcher.Close] must still be called.
func (d *Dispatcher) RequestStop() {
	if d.enter() == nil {
		C.fby_request_stop(d.at, nil)
		d.leave()
	}
}

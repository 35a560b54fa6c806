package forebay

// #include "shim.h"
// #cgo nocallback fby_job_header
// #cgo noescape fby_extend
// #cgo nocallback fby_extend
import "C"

import (
	"context"
	"runtime"
	"time"
)

// Job is a job as its handler sees it: one attempt of it. Whatever it points to is the handler's, and may be kept.
//
// The fields are for reading. To test a handler without a dispatcher, fill in what it reads.
type Job struct {
	// ID is the job's id.
	ID ID
	// Kind is its kind, and Queue its queue.
	Kind, Queue string
	// Payload is what it carries.
	Payload []byte
	// ContentType is what the payload is, as a MIME type.
	ContentType string
	// Key is its idempotency key; empty for none.
	Key string
	// ConcurrencyKey is its concurrency key; empty for none.
	ConcurrencyKey string
	// Attempt is the number of this attempt, from 1.
	Attempt int
	// MaxAttempts is how often it may run in all; [Unlimited] for no limit.
	MaxAttempts int
	// Priority is its priority.
	Priority int
	// Fence grows with every claim of the job: it lets whatever the handler writes to refuse a late writer.
	Fence uint64
	// Created is when it was pushed.
	Created time.Time

	lease *lease
}

// Decode reads the payload as JSON. An error of it is [Fatal]: no other attempt would read it otherwise.
func (j *Job) Decode(value any) error {
	if err := decode(j.Payload, value); err != nil {
		return Fatal(err)
	}
	return nil
}

// SetResult sets the result that goes with the job if the handler returns nil; contentType is a MIME type, empty
// for "application/octet-stream". It is copied when the handler has returned.
func (j *Job) SetResult(result []byte, contentType string) {
	if j.lease != nil {
		j.lease.outcome.result, j.lease.outcome.contentType = result, contentType
	}
}

// SetJSON sets the result as JSON: see [Job.SetResult].
func (j *Job) SetJSON(value any) error {
	text, err := encode(value)
	if err != nil {
		return err
	}
	j.SetResult(text, ContentTypeJSON)
	return nil
}

// Extend makes the lease of the job end this long from now, for handlers that take long where leases end. It fails
// with [ErrStale] if the lease is lost.
func (j *Job) Extend(ctx context.Context, lease time.Duration) error {
	if j.lease == nil {
		return errorf(CodeStale, "the job was not given out by a dispatcher")
	}
	ticket := j.lease.ticket
	return j.lease.run.d.call(ctx, func(made **C.fby_error) C.fby_status {
		return C.fby_extend(j.lease.run.d.at, ticket, C.int64_t(milliseconds(lease)), made)
	})
}

// Headers are what the job was pushed with. They are asked for when they are looked at: once the handler has returned
// there are none.
func (j *Job) Headers() []Header {
	if j.lease == nil {
		return nil
	}
	return j.lease.headers()
}

// Header is the value of the first header of that name, and whether there is one.
func (j *Job) Header(name string) (string, bool) {
	for _, header := range j.Headers() {
		if header.Name == name {
			return header.Value, true
		}
	}
	return "", false
}

// headers copies the headers out of the library's memory, which they keep in place until the job is answered for.
func (l *lease) headers() (headers []Header) {
	l.readers.Add(1)
	defer l.readers.Add(-1)
	if l.ended.Load() || l.run.d.enter() != nil {
		return nil
	}
	defer l.run.d.leave()
	for {
		var header C.fby_header
		if C.fby_job_header(l.run.d.at, l.ticket, C.size_t(len(headers)), &header, nil) != C.FBY_OK {
			return headers
		}
		headers = append(headers, Header{Name: goString(header.name), Value: goString(header.value)})
	}
}

// end waits for those who still read what belongs to the attempt: goroutines that outlive their handler.
func (l *lease) end() {
	l.stop(&errEnded)
	l.ended.Store(true)
	for l.readers.Load() > 0 {
		runtime.Gosched()
	}
}

// Stopping is closed when the dispatcher, or the call of [Dispatcher.Run] that the handler belongs to, begins to
// stop: an answer within the grace still counts. The context of the handler is cancelled at the end of the grace.
func (j *Job) Stopping() <-chan struct{} {
	if j.lease == nil {
		return nil
	}
	return j.lease.run.stopping
}

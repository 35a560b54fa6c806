package forebay

// #include "shim.h"
import "C"

import (
	"context"
	"time"
)

// names are those of the last job that was read: the next one mostly has the same, and then they are not copied.
type names struct {
	kind, queue, contentType string
	known                    *kind
	// among is where known was looked up: another handler may be registered at any time.
	among *map[string]*kind
}

// unheard is for jobs of a kind that nobody handles here, which are not asked for.
var unheard = &kind{handler: func(context.Context, *Job) error { return Snooze(time.Second) }}

// read copies jobs out of the library's memory.
func (t *turns) read(r *run, jobs []C.fby_job) *batch {
	read := &batch{leases: make([]lease, len(jobs))}
	size := 0
	for i := range jobs {
		if length := int(jobs[i].payload.len); length < sharedBelow {
			size += length
		}
	}
	shared := make([]byte, 0, size)
	for i := range jobs {
		job, l := &jobs[i], &read.leases[i]
		t.name(r.d, job)
		l.run, l.kind, l.ticket, l.due = r, t.names.known, job.ticket, int64(job.due_ms)
		// One by one: a struct that is assigned as a whole is made elsewhere and then copied, with its pointers.
		l.job.ID = idOf(job.id)
		l.job.Kind, l.job.Queue, l.job.ContentType = t.names.kind, t.names.queue, t.names.contentType
		l.job.Attempt, l.job.MaxAttempts = int(job.attempt), attemptsOf(job.max_attempts)
		l.job.Priority, l.job.Fence = int(job.priority), uint64(job.fence)
		l.job.Created = timeMilli(job.created_ms)
		l.job.lease = l
		if job.key.len > 0 {
			l.job.Key = goString(job.key)
		}
		if job.concurrency_key.len > 0 {
			l.job.ConcurrencyKey = goString(job.concurrency_key)
		}
		switch payload := view(job.payload); {
		case len(payload) >= sharedBelow:
			l.job.Payload = append([]byte(nil), payload...)
		case len(payload) > 0:
			from := len(shared)
			shared = append(shared, payload...)
			// Whoever appends to it does not write over the next one.
			l.job.Payload = shared[from:len(shared):len(shared)]
		}
		l.before, l.behind = t.live.before, &t.live
		l.before.behind, l.behind.before = l, l
	}
	return read
}

// name sets the names to those of this job.
func (t *turns) name(d *Dispatcher, job *C.fby_job) {
	kinds := d.kinds.Load()
	if kind := view(job.kind); string(kind) != t.names.kind || kinds != t.names.among {
		t.names.kind, t.names.among = string(kind), kinds
		if t.names.known = (*kinds)[t.names.kind]; t.names.known == nil {
			t.names.known = unheard
		}
	}
	if queue := view(job.queue); string(queue) != t.names.queue {
		t.names.queue = string(queue)
	}
	if contentType := view(job.content_type); string(contentType) != t.names.contentType {
		t.names.contentType = string(contentType)
	}
}

func attemptsOf(count C.uint32_t) int {
	if count == C.FBY_UNLIMITED {
		return Unlimited
	}
	return int(count)
}

package forebay

// #include "shim.h"
// #cgo noescape fbygo_turn
// #cgo nocallback fbygo_turn
import "C"

import (
	"errors"
	"maps"
	"os"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"
)

type ticket = C.fby_ticket

const (
	// turnSize is the most jobs that are taken at once.
	turnSize = 256
	// batchSize is the most that are allocated together. A handler that keeps its job keeps those of the batch.
	batchSize = 64
	// sharedBelow is below how many bytes a payload is allocated together with others.
	sharedBelow = 4 << 10
	// pause is how long a store that fails is left alone.
	pause = 100 * time.Millisecond
)

// turns are taken by one goroutine at a time. What stands here is that one's, except the atomics.
type turns struct {
	// asked counts who wants a turn to be taken since the last one; whoever is the first takes it for all.
	asked atomic.Int64
	// armed is whether the last look found nothing, so that the descriptor of the consumer will tell of more.
	armed atomic.Bool

	consumer *C.fby_consumer
	outcomes array[C.fby_outcome]
	codes    array[C.fby_status]
	jobs     array[C.fby_job]
	stopped  array[C.fby_stopped]
	texts    buffer
	// live is a ring of the jobs that run or were not answered for yet; it begins and ends here.
	live  lease
	names names
	// asks are the kinds that the consumer takes.
	asks *map[string]*kind
	gone bool
}

// open makes the consumer.
func (t *turns) open(d *Dispatcher, queues []string) error {
	t.live.before, t.live.behind = &t.live, &t.live
	t.asks = d.kinds.Load()
	var kinds, from list
	defer kinds.free()
	defer from.free()
	kinds.write(slices.Collect(maps.Keys(*t.asks)))
	from.write(queues)
	options := C.fby_consumer_options{
		struct_size: C.sizeof_fby_consumer_options,
		queues:      from.at,
		queue_count: C.size_t(len(queues)),
	}
	var made *C.fby_error
	status := C.fby_consumer_new(d.at, kinds.at, C.size_t(len(*t.asks)), &options, &t.consumer, &made)
	return failure(status, made)
}

// askAgain has the consumer take the kinds that have a handler now.
func (t *turns) askAgain(d *Dispatcher) {
	t.asks = d.kinds.Load()
	var kinds list
	defer kinds.free()
	kinds.write(slices.Collect(maps.Keys(*t.asks)))
	// It fails for names that cannot be, and they have been declared.
	C.fby_consumer_kinds(t.consumer, kinds.at, C.size_t(len(*t.asks)), nil)
}

// descriptor is what becomes readable when a turn should be taken.
func (t *turns) descriptor() (*os.File, error) {
	var fd C.int
	var made *C.fby_error
	if status := C.fby_consumer_fd(t.consumer, &fd, &made); status != C.FBY_OK {
		return nil, failure(status, made)
	}
	return duplicate(fd, "forebay consumer")
}

func (t *turns) free() {
	C.fby_consumer_free(t.consumer)
	t.outcomes.free()
	t.codes.free()
	t.jobs.free()
	t.stopped.free()
	t.texts.free()
	t.gone = true
}

// kick has a turn taken after this, by this goroutine or by the one that takes one now.
func (r *run) kick() {
	if r.asked.Add(1) > 1 {
		return
	}
	for {
		asked := r.asked.Load()
		r.turn()
		if r.asked.CompareAndSwap(asked, 0) {
			return
		}
	}
}

// turn answers for the jobs that have ended and takes new ones, in one call of the library.
func (r *run) turn() {
	if r.gone {
		return
	}
	if r.overdue.Load() {
		r.turns.stopLive()
	}
	if r.forsaken.Load() || r.d.enter() != nil {
		r.fail(closed())
		r.finish()
		return
	}
	defer r.d.leave()
	if r.asks != r.d.kinds.Load() {
		r.turns.askAgain(r.d)
	}
	ended := r.ended.takeAll()
	count := r.turns.write(ended)
	wanted := turnSize
	if r.drains() || r.line.long() {
		wanted = 0
	}
	jobs, stopped := r.turns.jobs.reserve(turnSize), r.turns.stopped.reserve(turnSize)
	turned := C.fbygo_turn(r.d.at, r.consumer, r.outcomes.at, r.codes.at, C.size_t(count), &jobs[0], C.size_t(wanted),
		&stopped[0], turnSize)
	r.settle(ended, count, &turned)
	r.found(jobs[:turned.jobs], wanted, &turned)
	if turned.stopped > 0 {
		r.stop(stopped[:turned.stopped])
	}
	quiet := r.live.behind == &r.live
	if quiet && r.untilIdle && r.armed.Load() {
		r.draining.Do(func() { close(r.stopping) })
	}
	if quiet && r.drains() {
		r.finish()
	}
}

// write writes down what became of jobs, and returns how many they are.
func (t *turns) write(ended *lease) int {
	count, size := 0, 0
	for l := ended; l != nil; l = l.next {
		count++
		size += len(l.outcome.text) + len(l.outcome.result) + len(l.outcome.contentType)
	}
	if count == 0 {
		return 0
	}
	t.texts.reserve(size)
	outcomes := t.outcomes.reserve(count)
	t.codes.reserve(count)
	for i, l := 0, ended; l != nil; i, l = i+1, l.next {
		outcomes[i] = C.fby_outcome{
			struct_size:  C.sizeof_fby_outcome,
			ticket:       l.ticket,
			result:       t.texts.bytes(l.outcome.result),
			content_type: t.texts.text(l.outcome.contentType),
			error:        t.texts.text(l.outcome.text),
			delay_ms:     C.int64_t(l.outcome.delay),
			verdict:      l.outcome.verdict,
		}
	}
	return count
}

// settle forgets the jobs that were answered for. An answer that could not be used is given again, as a failure.
func (r *run) settle(ended *lease, count int, turned *C.fbygo_turned) {
	codes := unsafe.Slice(r.codes.at, count)
	failed := failure(turned.finished, turned.finish_error)
	for i, l := 0, ended; l != nil; i++ {
		next := l.next
		if failed != nil && unusable(codes[i]) && l.outcome.verdict != C.FBY_FATAL {
			l.outcome = outcome{verdict: C.FBY_FATAL, text: "the answer of the handler cannot be used: " + failed.Error()}
			r.ended.push(l)
			r.asked.Add(1)
		} else {
			l.before.behind, l.behind.before = l.behind, l.before
		}
		l = next
	}
	if r.texts.size > keptBytes {
		r.texts.free()
	}
}

// unusable is whether an answer was refused for what it says, so that its ticket still counts.
func unusable(code C.fby_status) bool {
	return code == C.FBY_E_INVALID || code == C.FBY_E_NO_MEMORY
}

// found puts the jobs that came into the line, or notes why none came.
func (r *run) found(jobs []C.fby_job, wanted int, turned *C.fbygo_turned) {
	if wanted == 0 {
		return
	}
	switch err := failure(turned.polled, turned.poll_error); {
	case err == nil, errors.Is(err, sentinel(CodeInterrupted)):
		r.armed.Store(len(jobs) == 0)
	case errors.Is(err, ErrStorage), errors.Is(err, ErrUnknown), errors.Is(err, ErrNoMemory):
		// A store that fails is asked again, but not in a hot loop.
		r.armed.Store(true)
		time.AfterFunc(pause, r.look)
	default:
		r.armed.Store(true)
		r.fail(err)
	}
	for rest := jobs; len(rest) > 0; {
		some := rest[:min(len(rest), batchSize)]
		rest = rest[len(some):]
		r.line.add(r.turns.read(r, some))
	}
	if len(jobs) > 1 {
		r.alert()
	}
}

// stop cancels the contexts of the jobs that were told to stop.
func (r *run) stop(told []C.fby_stopped) {
	reasons := make(map[ticket]*error, len(told))
	for i := range told {
		if why := stopReason(told[i].reason); why != nil {
			reasons[told[i].ticket] = why
		}
	}
	if len(told) == turnSize {
		// There may be more.
		r.asked.Add(1)
	}
	if len(reasons) == 0 {
		return
	}
	for l := r.live.behind; l != &r.live; l = l.behind {
		if why := reasons[l.ticket]; why != nil {
			l.stop(why)
		}
	}
}

// stopReason is why a context is to be cancelled: not for a mere stop of the dispatcher, whose grace has begun.
func stopReason(reason C.fby_stop_reason) *error {
	switch reason {
	case C.FBY_STOP_CANCELLED:
		return &ErrCancelled
	case C.FBY_STOP_TIMED_OUT:
		return &ErrTimedOut
	case C.FBY_STOP_LEASE_LOST:
		return &ErrLeaseLost
	}
	return nil
}

// stopLive cancels the contexts of all jobs that run.
func (t *turns) stopLive() {
	for l := t.live.behind; l != &t.live; l = l.behind {
		l.stop(&ErrStopped)
	}
}

// finish gives everything back. Handlers that still run are nobody's any more.
func (r *run) finish() {
	r.turns.stopLive()
	r.d.mu.Lock()
	delete(r.d.runs, r)
	r.turns.free()
	r.d.mu.Unlock()
	r.workers.dismiss()
	// The pump closes it: it may be who finishes.
	hush(r.bell)
	close(r.quiet)
}

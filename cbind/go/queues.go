package forebay

// #include "shim.h"
// #cgo nocallback fby_queue_option
// #cgo nocallback fby_queue_options
// #cgo noescape fby_pressure
// #cgo nocallback fby_pressure
// #cgo nocallback fby_explain_queue
// #cgo nocallback fby_pause
// #cgo nocallback fby_resume
// #cgo nocallback fby_purge
// #cgo noescape fby_len
// #cgo nocallback fby_len
// #cgo nocallback fby_stats
// #cgo nocallback fby_stats_prometheus
// #cgo nocallback fby_forward
// #cgo nocallback fby_forwarder_stop
// #cgo nocallback fby_forwarder_free
import "C"

import (
	"context"
	"runtime"
	"sync"
)

// ConfigureQueue sets one option of a queue by its name, for example "on_full" to "drop_oldest" or "rate" to "100/s";
// what was said of the others stays. The value "default" leaves it to the options of the dispatcher again.
// docs/configuration.md lists the names with the form of their values.
func (d *Dispatcher) ConfigureQueue(ctx context.Context, queue, option, value string) error {
	return d.call(ctx, func(made **C.fby_error) C.fby_status {
		return C.fby_queue_option(d.at, loan(queue), loan(option), loan(value), made)
	})
}

// QueueOptions tells the options of a queue by their names; "default" is what is left to the dispatcher.
func (d *Dispatcher) QueueOptions(ctx context.Context, queue string) (map[string]string, error) {
	options := map[string]string{}
	err := d.read(ctx, &options, func(json **C.fby_buffer, made **C.fby_error) C.fby_status {
		return C.fby_queue_options(d.at, loan(queue), json, made)
	})
	return options, err
}

// Pressure tells how full a queue is, from 0 to 1: the greatest of its jobs and bytes to what it takes, and, with the
// option delay_target, of how long its jobs wait to how long they may. It is cheap: ask before every push, if you like.
func (d *Dispatcher) Pressure(ctx context.Context, queue string) (float64, error) {
	var pressure C.double
	err := d.call(ctx, func(made **C.fby_error) C.fby_status {
		return C.fby_pressure(d.at, loan(queue), &pressure, made)
	})
	return float64(pressure), err
}

// ExplainQueue says in a sentence what a queue holds and what keeps its jobs from starting.
func (d *Dispatcher) ExplainQueue(ctx context.Context, queue string) (string, error) {
	return d.text(ctx, func(text **C.fby_buffer, made **C.fby_error) C.fby_status {
		return C.fby_explain_queue(d.at, loan(queue), text, made)
	})
}

// Pause starts no more jobs of a queue. Pushes go on, and so do jobs that run.
func (d *Dispatcher) Pause(ctx context.Context, queue string) error {
	return d.call(ctx, func(made **C.fby_error) C.fby_status { return C.fby_pause(d.at, loan(queue), made) })
}

// Resume starts jobs of a queue again.
func (d *Dispatcher) Resume(ctx context.Context, queue string) error {
	return d.call(ctx, func(made **C.fby_error) C.fby_status { return C.fby_resume(d.at, loan(queue), made) })
}

// Purge cancels every job that waits in a queue, and tells how many. Those that run go on.
func (d *Dispatcher) Purge(ctx context.Context, queue string) (int, error) {
	var count C.uint64_t
	err := d.call(ctx, func(made **C.fby_error) C.fby_status { return C.fby_purge(d.at, loan(queue), &count, made) })
	return int(count), err
}

// Len tells how many jobs wait in a queue: blocked, scheduled and queued ones.
func (d *Dispatcher) Len(ctx context.Context, queue string) (int, error) {
	var count C.uint64_t
	err := d.call(ctx, func(made **C.fby_error) C.fby_status { return C.fby_len(d.at, loan(queue), &count, made) })
	return int(count), err
}

// Stats are the counts of a dispatcher: one consistent snapshot.
type Stats struct {
	// Queues are its queues.
	Queues []QueueStats `json:"queues"`
	// Running is how many jobs run, and Concurrency how many may.
	Running     int `json:"bodies"`
	Concurrency int `json:"concurrency"`
}

// Queue is the counts of a queue; nil for one that nobody has named.
func (s *Stats) Queue(name string) *QueueStats {
	for i := range s.Queues {
		if s.Queues[i].Name == name {
			return &s.Queues[i]
		}
	}
	return nil
}

// QueueStats are the counts of a queue.
type QueueStats struct {
	// Name is the queue's.
	Name string `json:"name"`
	// Capacity is how many jobs may wait; 0 is without bound.
	Capacity int `json:"capacity"`
	// Paused is whether no jobs are started.
	Paused bool `json:"paused"`
	// Blocked, Scheduled, Queued and Running are how many jobs are in these states.
	Blocked   int `json:"blocked"`
	Scheduled int `json:"scheduled"`
	Queued    int `json:"queued"`
	Running   int `json:"running"`
	// Kept is how many jobs that are over can still be asked about.
	Kept int `json:"kept"`
	// Shed is how many jobs the rules against overload have given up so far.
	Shed int `json:"shed"`
	// Pressure is as [Dispatcher.Pressure].
	Pressure float64 `json:"pressure"`
	// Totals counts by name what has happened since the dispatcher was opened, for example "pushed" and "succeeded".
	Totals map[string]uint64 `json:"totals"`
}

// Stats tells the counts of every queue.
func (d *Dispatcher) Stats(ctx context.Context) (*Stats, error) {
	stats := new(Stats)
	err := d.read(ctx, stats, func(json **C.fby_buffer, made **C.fby_error) C.fby_status {
		return C.fby_stats(d.at, json, made)
	})
	if err != nil {
		return nil, err
	}
	return stats, nil
}

// Metrics tells the counts of every queue in the text format of Prometheus.
func (d *Dispatcher) Metrics(ctx context.Context) (string, error) {
	return d.text(ctx, func(text **C.fby_buffer, made **C.fby_error) C.fby_status {
		return C.fby_stats_prometheus(d.at, text, made)
	})
}

// Forward passes the jobs of a queue on to another dispatcher from now on, in order and whatever their kinds; nobody
// here is given jobs of it. While the other one is down or full they wait here. url is that of the other dispatcher,
// which is opened when the first job is there; toQueue is the queue there, empty for one of the same name; options
// are by name, as in a URL, for example "batch=100&retry=constant(1s)". docs/forwarding.md tells the rest.
func (d *Dispatcher) Forward(ctx context.Context, queue, url, toQueue, options string) (*Forwarder, error) {
	forwarder := &Forwarder{handle: d.handle, made: new(forwarding)}
	err := d.call(ctx, func(made **C.fby_error) C.fby_status {
		return C.fby_forward(d.at, loan(queue), loan(url), loan(toQueue), loan(options), &forwarder.made.at, made)
	})
	if err != nil {
		return nil, err
	}
	runtime.AddCleanup(forwarder, (*forwarding).free, forwarder.made)
	return forwarder, nil
}

// Forwarder passes the jobs of a queue on, until it is stopped or its dispatcher is closed.
type Forwarder struct {
	handle *handle
	made   *forwarding
}

type forwarding struct {
	mu sync.RWMutex
	at *C.fby_forwarder
}

func (f *forwarding) free() {
	f.mu.Lock()
	defer f.mu.Unlock()
	C.fby_forwarder_free(f.at)
	f.at = nil
}

// Stop passes on no more, and waits for the delivery that is under way, but no longer than until ctx ends; then it
// fails with that, and the forwarder ends with that delivery all the same. The queue is everybody's again.
func (f *Forwarder) Stop(ctx context.Context) error {
	return patiently(ctx, forever, ErrTimeout, func(ms C.int64_t) error {
		if err := f.handle.enter(); err != nil {
			return err
		}
		defer f.handle.leave()
		f.made.mu.RLock()
		defer f.made.mu.RUnlock()
		var made *C.fby_error
		return failure(C.fby_forwarder_stop(f.made.at, ms, &made), made)
	})
}

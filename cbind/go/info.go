package forebay

// #include "shim.h"
// #cgo nocallback fby_get
// #cgo nocallback fby_job_state
// #cgo nocallback fby_explain
// #cgo nocallback fby_cancel
// #cgo nocallback fby_retry
// #cgo nocallback fbygo_list
import "C"

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"time"
)

// JobInfo is what is known of a job. What a payload or a result holds is not among it: see [Dispatcher.Wait].
type JobInfo struct {
	// ID is its id.
	ID ID
	// Kind is its kind, and Queue its queue.
	Kind, Queue string
	// State is where it stands.
	State State
	// Priority is its priority.
	Priority int
	// Attempt is the number of the attempt that runs or ran last, from 1; 0 before the first.
	Attempt int
	// MaxAttempts is how often it may run in all; [Unlimited] for no limit.
	MaxAttempts int
	// Crashes is how often the process died while it ran.
	Crashes int
	// Created is when it was pushed, and RunAt when it may start.
	Created, RunAt time.Time
	// Started is when the last attempt started, Finished when the job ended, Deadline when it expires unless it has
	// started, and LeaseUntil when the lease of the attempt that runs ends; zero for never.
	Started, Finished, Deadline, LeaseUntil time.Time
	// Timeout is how long an attempt may take; 0 is without limit.
	Timeout time.Duration
	// Key is its idempotency key, and ConcurrencyKey its concurrency key; empty for none.
	Key, ConcurrencyKey string
	// Headers are those it was pushed with, in order.
	Headers []Header
	// WaitsFor are the tokens that it still waits for.
	WaitsFor []string
	// CancelRequested is whether it was asked to stop.
	CancelRequested bool
	// Failure is the last one; nil if it has not failed.
	Failure *Failure
	// History is its attempts so far, the oldest first, without the one that runs.
	History []Attempt
}

// Failure is why an attempt, or a job, failed.
type Failure struct {
	// Kind is what sort of failure, for example "error", "timeout" or "crashed".
	Kind string `json:"kind"`
	// Message is its text.
	Message string `json:"message"`
}

// Attempt is one that has ended.
type Attempt struct {
	// Number is its number, from 1.
	Number int
	// Node is where it ran.
	Node string
	// Started and Ended are its times.
	Started, Ended time.Time
	// Failure is why it failed; nil if it has not.
	Failure *Failure
}

// UnmarshalJSON reads what the library and the command forebay write.
func (j *JobInfo) UnmarshalJSON(text []byte) error {
	var read jobText
	if err := json.Unmarshal(text, &read); err != nil {
		return err
	}
	state, err := stateOf(read.State)
	if err != nil {
		return err
	}
	*j = JobInfo{
		ID: read.ID, Kind: read.Kind, Queue: read.Queue, State: state, Priority: read.Priority,
		Attempt: read.Attempt, MaxAttempts: Unlimited, Crashes: read.Crashes,
		Created: instant(&read.Created), RunAt: instant(&read.RunAt), Started: instant(read.Started),
		Finished: instant(read.Finished), Deadline: instant(read.Deadline), LeaseUntil: instant(read.LeaseUntil),
		Key: read.Key, ConcurrencyKey: read.ConcurrencyKey, WaitsFor: read.Waits,
		CancelRequested: read.CancelRequested, Failure: read.Error,
	}
	if read.MaxAttempts != nil {
		j.MaxAttempts = *read.MaxAttempts
	}
	if read.Timeout != nil {
		j.Timeout = microseconds(*read.Timeout)
	}
	for _, header := range read.Headers {
		j.Headers = append(j.Headers, Header{Name: header[0], Value: header[1]})
	}
	for _, attempt := range read.History {
		j.History = append(j.History, Attempt{
			Number: attempt.Number, Node: attempt.Node, Started: instant(&attempt.Started),
			Ended: instant(&attempt.Ended), Failure: attempt.Failure,
		})
	}
	return nil
}

// jobText is a job as the library writes it; times are in microseconds since 1970.
type jobText struct {
	ID              ID          `json:"id"`
	Queue           string      `json:"queue"`
	Kind            string      `json:"kind"`
	State           string      `json:"state"`
	Priority        int         `json:"priority"`
	Attempt         int         `json:"attempt"`
	MaxAttempts     *int        `json:"max_attempts"`
	Crashes         int         `json:"crashes"`
	Created         int64       `json:"created_us"`
	RunAt           int64       `json:"run_at_us"`
	Started         *int64      `json:"started_us"`
	Finished        *int64      `json:"finished_us"`
	Deadline        *int64      `json:"deadline_us"`
	LeaseUntil      *int64      `json:"lease_until_us"`
	Timeout         *uint64     `json:"timeout_us"`
	Key             string      `json:"key"`
	ConcurrencyKey  string      `json:"concurrency_key"`
	Headers         [][2]string `json:"headers"`
	Waits           []string    `json:"waits"`
	CancelRequested bool        `json:"cancel_requested"`
	Error           *Failure    `json:"error"`
	History         []struct {
		Number  int      `json:"number"`
		Node    string   `json:"node"`
		Started int64    `json:"started_us"`
		Ended   int64    `json:"ended_us"`
		Failure *Failure `json:"failure"`
	} `json:"history"`
}

func instant(us *int64) time.Time {
	if us == nil {
		return time.Time{}
	}
	return time.UnixMicro(*us)
}

func microseconds(us uint64) time.Duration {
	if us > uint64(forever/time.Microsecond) {
		return forever
	}
	return time.Duration(us) * time.Microsecond
}

// stateOf is the state of this name.
func stateOf(name string) (State, error) {
	for _, state := range [...]State{Blocked, Scheduled, Queued, Running, Succeeded, Failed, Cancelled, Expired, Shed} {
		if state.String() == name {
			return state, nil
		}
	}
	return 0, errorf(CodeInvalid, "%q is no state of a job", name)
}

// Get tells everything known about a job. One that is unknown, or was forgotten since, is [ErrNotFound].
func (d *Dispatcher) Get(ctx context.Context, id ID) (JobInfo, error) {
	var info JobInfo
	err := d.read(ctx, &info, func(json **C.fby_buffer, made **C.fby_error) C.fby_status {
		job := cID(id)
		return C.fby_get(d.at, &job, json, made)
	})
	return info, err
}

// State tells where a job stands: less than [Dispatcher.Get], and quicker.
func (d *Dispatcher) State(ctx context.Context, id ID) (State, error) {
	var state C.fby_state
	err := d.call(ctx, func(made **C.fby_error) C.fby_status {
		job := cID(id)
		return C.fby_job_state(d.at, &job, &state, made)
	})
	return State(state), err
}

// Explain says in a sentence why a job is not running, or how it ended.
func (d *Dispatcher) Explain(ctx context.Context, id ID) (string, error) {
	return d.text(ctx, func(text **C.fby_buffer, made **C.fby_error) C.fby_status {
		job := cID(id)
		return C.fby_explain(d.at, &job, text, made)
	})
}

// Cancel cancels a job. One that waits is cancelled at once. The context of one that runs is cancelled, and the job is
// when its handler returns, whatever that answers. Cancel tells the state after the call: [Cancelled], [Running] if the
// request was passed on, or the final state that the job had already.
func (d *Dispatcher) Cancel(ctx context.Context, id ID) (State, error) {
	var state C.fby_state
	err := d.call(ctx, func(made **C.fby_error) C.fby_status {
		job := cID(id)
		return C.fby_cancel(d.at, &job, &state, made)
	})
	return State(state), err
}

// Retry runs a job that is over again, as a new one with the same settings and payload; a job that has succeeded has
// none any more, and needs [Dispatcher.RetryWith]. The same retry twice makes one job, whose id it tells.
func (d *Dispatcher) Retry(ctx context.Context, id ID) (ID, error) {
	return d.retry(ctx, id, func(job *C.fby_id, again *C.fby_id, made **C.fby_error) C.fby_status {
		return C.fby_retry(d.at, job, nil, C.fby_bytes{}, again, made)
	})
}

// RetryWith is [Dispatcher.Retry] with another payload, of a MIME type that may be empty.
func (d *Dispatcher) RetryWith(ctx context.Context, id ID, payload []byte, contentType string) (ID, error) {
	var input buffer
	input.reserve(len(payload))
	defer input.free()
	bytes := input.bytes(payload)
	return d.retry(ctx, id, func(job *C.fby_id, again *C.fby_id, made **C.fby_error) C.fby_status {
		return C.fby_retry(d.at, job, &bytes, loan(contentType), again, made)
	})
}

func (d *Dispatcher) retry(ctx context.Context, id ID, call func(job, again *C.fby_id, made **C.fby_error) C.fby_status) (ID, error) {
	job := cID(id)
	var again C.fby_id
	err := d.call(ctx, func(made **C.fby_error) C.fby_status { return call(&job, &again, made) })
	return idOf(again), err
}

// Filter says which jobs [Dispatcher.Jobs] shows. The zero value shows all.
type Filter struct {
	// Queue shows only jobs of this queue, Kind only those of this kind, Key only the one with this idempotency key.
	Queue, Kind, Key string
	// States shows only jobs in one of these states.
	States []State
	// CreatedFrom shows only jobs pushed at or after this instant, CreatedBefore only those pushed before.
	CreatedFrom, CreatedBefore time.Time
	// After goes on after this job: later ones are not shown.
	After ID
	// PageSize is how many jobs are read at once, up to 10000; 0 is 100.
	PageSize int
}

// Jobs shows jobs, the newest first. They are read a page at a time, so jobs may come and go while it is walked
// through; none is shown twice. After an error there is no more.
//
//	for job, err := range d.Jobs(ctx, forebay.Filter{States: []forebay.State{forebay.Failed}}) {
func (d *Dispatcher) Jobs(ctx context.Context, filter Filter) iter.Seq2[JobInfo, error] {
	return func(yield func(JobInfo, error) bool) {
		for {
			page, err := d.page(ctx, filter)
			if err != nil {
				yield(JobInfo{}, err)
				return
			}
			for _, job := range page.Jobs {
				if !yield(job, nil) {
					return
				}
			}
			if page.Next == nil {
				return
			}
			filter.After = *page.Next
		}
	}
}

// Count tells how many jobs a filter shows.
func (d *Dispatcher) Count(ctx context.Context, filter Filter) (int, error) {
	filter.PageSize = 1
	page, err := d.page(ctx, filter)
	return page.Total, err
}

type page struct {
	Jobs  []JobInfo `json:"jobs"`
	Total int       `json:"total"`
	Next  *ID       `json:"next"`
}

func (d *Dispatcher) page(ctx context.Context, filter Filter) (page, error) {
	var read page
	if filter.PageSize < 0 || filter.PageSize > 10_000 {
		return read, errorf(CodeInvalid, "PageSize is %d; it must be from 1 to 10000, or 0 for 100", filter.PageSize)
	}
	if filter.PageSize == 0 {
		filter.PageSize = 100
	}
	states := make([]C.fby_state, len(filter.States)+1)
	for i, state := range filter.States {
		states[i] = C.fby_state(state)
	}
	after := cID(filter.After)
	err := d.read(ctx, &read, func(json **C.fby_buffer, made **C.fby_error) C.fby_status {
		return C.fbygo_list(d.at, loan(filter.Queue), loan(filter.Kind), loan(filter.Key), &states[0],
			C.size_t(len(filter.States)), milli(filter.CreatedFrom), milli(filter.CreatedBefore), &after,
			C.uint32_t(filter.PageSize), json, made)
	})
	return read, err
}

// milli is a time as the library has it, 0 for none.
func milli(at time.Time) C.int64_t {
	if at.IsZero() {
		return 0
	}
	return C.int64_t(at.UnixMilli())
}

// text is what a call writes to a buffer.
func (d *Dispatcher) text(ctx context.Context, call func(text **C.fby_buffer, made **C.fby_error) C.fby_status) (text string, err error) {
	err = d.call(ctx, func(made **C.fby_error) C.fby_status {
		var buffer *C.fby_buffer
		status := call(&buffer, made)
		if status == C.FBY_OK {
			text = goString(C.fby_buffer_bytes(buffer))
			C.fby_buffer_free(buffer)
		}
		return status
	})
	return text, err
}

// read reads JSON that a call writes to a buffer.
func (d *Dispatcher) read(ctx context.Context, to any, call func(json **C.fby_buffer, made **C.fby_error) C.fby_status) error {
	text, err := d.text(ctx, call)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(text), to); err != nil {
		return fmt.Errorf("forebay: the library wrote what this module cannot read: %w", err)
	}
	return nil
}

// Header is a name and a value that go with a job.
type Header struct{ Name, Value string }

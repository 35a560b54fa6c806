package forebay

// #include "shim.h"
// #cgo noescape fby_push_report
// #cgo nocallback fby_push_report
import "C"

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
	"unsafe"
)

// Push pushes a job, and returns when it is as safe as it is to be.
//
// A queue that is full does what its option on_full says; where that is to wait for room, Push does so until ctx
// ends.
func (d *Dispatcher) Push(ctx context.Context, job JobSpec) (Pushed, error) {
	pushed, err := d.pushAll(ctx, []JobSpec{job})
	if err != nil {
		return Pushed{}, err
	}
	return pushed[0], nil
}

// PushMany pushes jobs in order, all in one call of the library, and stops at the first that is refused: those
// before it are in the slice that it returns, beside the error. All are checked first: if one is not valid, none
// is accepted.
func (d *Dispatcher) PushMany(ctx context.Context, jobs []JobSpec) ([]Pushed, error) {
	if len(jobs) == 0 {
		return nil, ctx.Err()
	}
	return d.pushAll(ctx, jobs)
}

func (d *Dispatcher) pushAll(ctx context.Context, jobs []JobSpec) ([]Pushed, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.leave()
	desk := d.desks.take()
	defer d.desks.give(desk)
	specs, err := desk.write(jobs)
	if err != nil {
		return nil, err
	}
	pushed, err := d.give(desk, specs, 0)
	if err == nil || !errors.Is(err, ErrFull) {
		return pushed, err
	}
	return d.pushPatiently(ctx, jobs, desk, specs, pushed, err)
}

// give pushes what was written, and waits up to so many milliseconds for room.
func (d *Dispatcher) give(desk *desk, specs []C.fby_job_spec, ms C.int64_t) ([]Pushed, error) {
	reports := desk.reports.reserve(len(specs))
	var accepted C.size_t
	var made *C.fby_error
	status := C.fby_push_report(d.at, &specs[0], C.sizeof_fby_job_spec, C.size_t(len(specs)), ms, &reports[0],
		C.sizeof_fby_pushed, &accepted, &made)
	pushed := make([]Pushed, accepted)
	for i := range pushed {
		report := &reports[i]
		pushed[i] = Pushed{
			ID:         idOf(report.id),
			Durability: Durability(report.durability),
			Known:      report.created == 0,
			Shed:       ShedRule(report.shed),
		}
	}
	return pushed, failure(status, made)
}

// pushPatiently pushes what found no room, for as long as the option on_full of its queue and the context say.
func (d *Dispatcher) pushPatiently(ctx context.Context, jobs []JobSpec, desk *desk, specs []C.fby_job_spec, pushed []Pushed, full error) ([]Pushed, error) {
	var ms C.int64_t
	var made *C.fby_error
	if status := C.fby_queue_patience(d.at, loan(jobs[0].Queue), &ms, &made); status != C.FBY_OK {
		return pushed, failure(status, made)
	}
	if ms == 0 {
		return pushed, full
	}
	most := forever
	if int64(ms) < forever.Milliseconds() {
		most = time.Duration(ms) * time.Millisecond
	}
	err := patiently(ctx, most, ErrFull, func(ms C.int64_t) error {
		some, err := d.give(desk, specs[len(pushed):], ms)
		pushed = append(pushed, some...)
		return err
	})
	return pushed, err
}

// write writes jobs as the library reads them.
func (d *desk) write(jobs []JobSpec) ([]C.fby_job_spec, error) {
	size, headers, tokens := 0, 0, 0
	for i := range jobs {
		job := &jobs[i]
		headers += len(job.Headers)
		tokens += len(job.WaitsFor)
		for _, header := range job.Headers {
			size += len(header.Name) + len(header.Value)
		}
		for _, token := range job.WaitsFor {
			size += len(token)
		}
		size += len(job.Payload) + len(job.Kind) + len(job.ContentType) + len(job.Queue) + len(job.Key) +
			len(job.ConcurrencyKey) + len(job.Retry)
	}
	d.reserve(size)
	specs := d.specs.reserve(len(jobs))
	d.headers.reserve(headers)
	d.tokens.reserve(tokens)
	headers, tokens = 0, 0
	var last *JobSpec
	for i := range jobs {
		job := &jobs[i]
		if err := job.check(); err != nil {
			return nil, job.refused(i, len(jobs), err)
		}
		specs[i] = C.fby_job_spec{
			struct_size:      C.sizeof_fby_job_spec,
			payload:          d.bytes(job.Payload),
			key:              d.text(job.Key),
			retry:            d.text(job.Retry),
			id:               cID(job.ID),
			priority:         C.int32_t(job.Priority),
			max_attempts:     attempts(job.MaxAttempts),
			delay_ms:         C.int64_t(milliseconds(job.Delay)),
			timeout_ms:       C.int64_t(milliseconds(job.Timeout)),
			expires_after_ms: C.int64_t(milliseconds(job.ExpiresAfter)),
			durability:       C.fby_durability(job.Durability),
			concurrency_key:  d.text(job.ConcurrencyKey),
		}
		if !job.RunAt.IsZero() {
			specs[i].run_at_ms = C.int64_t(job.RunAt.UnixMilli())
		}
		if count := len(job.Headers); count > 0 {
			specs[i].headers, specs[i].header_count = d.writeHeaders(job.Headers, headers), C.size_t(count)
			headers += count
		}
		if count := len(job.WaitsFor); count > 0 {
			specs[i].waits_for, specs[i].waits_for_count = d.writeTokens(job.WaitsFor, tokens), C.size_t(count)
			tokens += count
		}
		// Many jobs of one kind, which is what there mostly is, share these texts.
		if last != nil && last.Kind == job.Kind && last.ContentType == job.ContentType && last.Queue == job.Queue {
			specs[i].kind, specs[i].content_type, specs[i].queue = specs[i-1].kind, specs[i-1].content_type, specs[i-1].queue
		} else {
			specs[i].kind, specs[i].content_type, specs[i].queue = d.text(job.Kind), d.text(job.ContentType), d.text(job.Queue)
		}
		last = job
	}
	return specs, nil
}

// writeHeaders writes headers where there is room for them, and says where they begin.
func (d *desk) writeHeaders(headers []Header, from int) *C.fby_header {
	to := unsafe.Slice(d.headers.at, d.headers.size)[from:]
	for i, header := range headers {
		to[i] = C.fby_header{name: d.text(header.Name), value: d.text(header.Value)}
	}
	return &to[0]
}

func (d *desk) writeTokens(tokens []string, from int) *C.fby_bytes {
	to := unsafe.Slice(d.tokens.at, d.tokens.size)[from:]
	for i, token := range tokens {
		to[i] = d.text(token)
	}
	return &to[0]
}

// check finds what the structs of the library cannot say; the library finds the rest.
func (job *JobSpec) check() error {
	if job.err != nil {
		return job.err
	}
	if int64(job.Priority) != int64(int32(job.Priority)) {
		return errorf(CodeInvalid, "priority %d is not from -128 to 127", job.Priority)
	}
	if job.MaxAttempts < Unlimited || int64(job.MaxAttempts) >= math.MaxUint32 {
		return errorf(CodeInvalid, "max_attempts %d is no number of attempts", job.MaxAttempts)
	}
	return nil
}

// refused says which of many it was.
func (job *JobSpec) refused(i, count int, err error) error {
	if count == 1 {
		return err
	}
	return fmt.Errorf("job %d of %d, of kind %q: %w", i+1, count, job.Kind, err)
}

func attempts(count int) C.uint32_t {
	if count == Unlimited {
		return C.FBY_UNLIMITED
	}
	return C.uint32_t(count)
}

func idOf(id C.fby_id) ID {
	return *(*ID)(unsafe.Pointer(&id.b))
}

func cID(id ID) C.fby_id {
	return C.fby_id{b: *(*[16]C.uint8_t)(unsafe.Pointer(&id))}
}

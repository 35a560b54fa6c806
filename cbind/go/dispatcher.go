package forebay

// #include "shim.h"
// #cgo noescape fby_abi_version
// #cgo nocallback fby_abi_version
// #cgo nocallback fby_open
// #cgo nocallback fby_stop
// #cgo nocallback fby_request_stop
// #cgo nocallback fby_release
import "C"

import (
	"context"
	"math"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Dispatcher is a queue of jobs with everything around it. All its methods may be called by any goroutine, at once.
// Close it when it is no longer needed.
type Dispatcher struct {
	*handle
	mu sync.Mutex
	// kinds are those that have a handler here; whoever adds one makes a new map.
	kinds atomic.Pointer[map[string]*kind]
	// runs are the calls of Run that go on.
	runs map[*run]struct{}
	// grace is how long a Run that ends waits for its handlers.
	grace time.Duration
	// desks are pieces of C memory that pushes are written to, for the next push.
	desks *depot
	ends  *ends
	// logged is closed when the last line of the log has been written; nil without a log.
	logged <-chan struct{}
	stop   sync.Once
	// stopped is closed when the stop is complete, with what it came to in report and stopErr.
	stopped chan struct{}
	report  StopReport
	stopErr error
}

// handle is a reference to what the library has, which lives until it is closed and nobody uses it any more.
type handle struct {
	at *C.fby_dispatcher
	// users counts the calls that use it now; closing is added once.
	users    atomic.Int64
	released sync.Once
}

// closing is more than there can be users.
const closing = 1 << 62

// enter lets a call use the handle until it leaves, unless it is closed.
func (h *handle) enter() error {
	if h.users.Add(1) < closing {
		return nil
	}
	h.leave()
	return closed()
}

func (h *handle) leave() {
	if h.users.Add(-1) == closing {
		h.release()
	}
}

// close lets nobody enter any more. Whoever leaves last gives the handle back.
func (h *handle) close() {
	for users := h.users.Load(); users < closing; users = h.users.Load() {
		if h.users.CompareAndSwap(users, users+closing) {
			if users == 0 {
				h.release()
			}
			return
		}
	}
}

func (h *handle) release() {
	h.released.Do(func() { C.fby_release(h.at) })
}

// Open opens a dispatcher on the engine that a URL names: "memory:" is in this process, and
// "sqlite:/var/lib/app/jobs.db" keeps every job in that file, which this process then has for itself; with
// "?shared=true" it shares the file with other processes that say so. Options after the question mark, as in
// "memory:?concurrency=4", go before the others.
//
// A file that cannot be used is left alone: see [ErrCorrupt], [ErrFutureFormat] and [ErrAlreadyOpen].
func Open(url string, options ...Option) (*Dispatcher, error) {
	if err := checkABI(); err != nil {
		return nil, err
	}
	var settings settings
	for _, option := range options {
		option.apply(&settings)
	}
	at, err := open(url, settings)
	if err != nil {
		return nil, err
	}
	d := &Dispatcher{
		handle:  &handle{at: at},
		runs:    map[*run]struct{}{},
		desks:   &depot{},
		ends:    &ends{},
		stopped: make(chan struct{}),
	}
	d.kinds.Store(&map[string]*kind{})
	if d.grace, err = d.duration("grace"); err != nil {
		d.close()
		return nil, err
	}
	if settings.logger != nil {
		if err := d.log(settings.logger); err != nil {
			d.close()
			return nil, err
		}
	}
	// A net for those who forget to close it, no more.
	runtime.AddCleanup(d, net.close, net{d.handle, d.desks})
	return d, nil
}

// net is what a dispatcher that nobody has closed leaves behind.
type net struct {
	handle *handle
	desks  *depot
}

func (n net) close() {
	n.handle.close()
	n.desks.clear()
}

// checkABI compares the header this was compiled with and the library it runs with.
func checkABI() error {
	if runs := uint32(C.fby_abi_version()); runs != C.FBY_ABI_VERSION {
		return errorf(CodeUnsupported, "compiled for ABI %d of libforebay and run with ABI %d; build again",
			C.FBY_ABI_VERSION, runs)
	}
	return nil
}

func open(url string, settings settings) (*C.fby_dispatcher, error) {
	options := C.fby_options_new()
	defer C.fby_options_free(options)
	for _, option := range settings.named {
		var made *C.fby_error
		status := C.fby_options_set(options, loan(option.name), loan(option.value), &made)
		if status != C.FBY_OK {
			return nil, failure(status, made)
		}
	}
	var at *C.fby_dispatcher
	var made *C.fby_error
	status := C.fby_open(loan(url), options, &at, &made)
	return at, failure(status, made)
}

// duration is the value of an option of the dispatcher that is a time.
func (d *Dispatcher) duration(name string) (value time.Duration, err error) {
	err = d.call(context.Background(), func(made **C.fby_error) C.fby_status {
		var text *C.fby_buffer
		status := C.fby_option(d.at, loan(name), &text, made)
		if status == C.FBY_OK {
			value = parseDuration(goString(C.fby_buffer_bytes(text)))
			C.fby_buffer_free(text)
		}
		return status
	})
	return value, err
}

// parseDuration reads a time as the options have it, in one unit; one that no [time.Duration] can hold is the longest.
func parseDuration(text string) time.Duration {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if count, err := strconv.ParseInt(days, 10, 64); err == nil && count <= int64(forever/(24*time.Hour)) {
			return time.Duration(count) * 24 * time.Hour
		}
	} else if value, err := time.ParseDuration(text); err == nil {
		return value
	}
	return forever
}

const forever = time.Duration(math.MaxInt64)

// StopReport says what a stop did.
type StopReport struct {
	// HandedBack are running jobs that did not end in time and went back to the queue.
	HandedBack int
	// Waiting are the jobs that still wait, those handed back among them.
	Waiting int
}

// Close stops at once: jobs that run are handed back to the queue and their contexts cancelled, calls of
// [Dispatcher.Run] and whoever else waits return [ErrClosed], and nothing is accepted any more. It does not wait
// for handlers. To let them end, cancel the context of Run and wait for it, or use [Dispatcher.Shutdown].
//
// Closing again does nothing, and answers the same.
func (d *Dispatcher) Close() error {
	d.stop.Do(d.stopNow)
	<-d.stopped
	return d.stopErr
}

// Shutdown stops: no more jobs are taken, those that run go on until they end or ctx does, and the others are
// handed back to the queue and their contexts cancelled. Pushes are accepted until then. Calls of [Dispatcher.Run]
// return [ErrClosed].
func (d *Dispatcher) Shutdown(ctx context.Context) (StopReport, error) {
	if _, inside := FromContext(ctx); inside {
		return StopReport{}, errorf(CodeWouldDeadlock, "a handler cannot wait for itself to end; call Shutdown elsewhere")
	}
	if d.enter() == nil {
		C.fby_request_stop(d.at, nil)
		d.leave()
	}
	for _, run := range d.running() {
		select {
		case <-run.quiet:
		case <-ctx.Done():
		case <-d.stopped:
		}
	}
	d.stop.Do(d.stopNow)
	<-d.stopped
	return d.report, d.stopErr
}

func (d *Dispatcher) running() []*run {
	d.mu.Lock()
	defer d.mu.Unlock()
	runs := make([]*run, 0, len(d.runs))
	for run := range d.runs {
		runs = append(runs, run)
	}
	return runs
}

// stopNow stops without a grace. Who could be waited for has been.
func (d *Dispatcher) stopNow() {
	defer close(d.stopped)
	if d.stopErr = d.enter(); d.stopErr != nil {
		return
	}
	C.fby_request_stop(d.at, nil)
	for _, run := range d.running() {
		run.abandon()
	}
	report := C.fby_stop_report{struct_size: C.sizeof_fby_stop_report}
	var made *C.fby_error
	status := C.fby_stop(d.at, 0, &report, &made)
	d.stopErr = failure(status, made)
	d.report = StopReport{HandedBack: int(report.handed_back), Waiting: int(report.waiting)}
	d.leave()
	d.close()
	d.desks.clear()
	if d.logged != nil {
		select {
		case <-d.logged:
		case <-time.After(parting):
		}
	}
}

// call runs a short call of the library, unless the dispatcher is closed.
func (d *Dispatcher) call(ctx context.Context, body func(made **C.fby_error) C.fby_status) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	var made *C.fby_error
	return failure(body(&made), made)
}

// Version is that of the library, for example "0.1.0".
func Version() string {
	return C.GoString(C.fby_version_string())
}

// timeMilli is a time of the library's, which has 0 for none.
func timeMilli(ms C.int64_t) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms))
}

package forebay

// #include "shim.h"
// #cgo nocallback fby_watcher_new
// #cgo nocallback fby_watcher_add
// #cgo nocallback fby_watcher_remove
// #cgo nocallback fby_watcher_poll
// #cgo nocallback fby_watcher_free
import "C"

import (
	"context"
	"os"
	"sync"
)

// ends tells those who wait for jobs of their ends: all of them by one watcher of the library, whose descriptor one
// goroutine waits for. It is made for the first who waits.
type ends struct {
	mu      sync.Mutex
	watcher *C.fby_watcher
	bell    *os.File
	closed  bool
	last    C.uint64_t
	waiting map[C.uint64_t]chan struct{}
}

// wait waits until a job is over, the dispatcher is closed, or ctx ends.
func (e *ends) wait(ctx context.Context, d *Dispatcher, id ID) error {
	tag, over, err := e.add(d, id)
	if err != nil {
		return err
	}
	select {
	case <-over:
		return nil
	case <-d.stopped:
		return closed()
	case <-ctx.Done():
		e.remove(tag)
		return ctx.Err()
	}
}

func (e *ends) add(d *Dispatcher, id ID) (C.uint64_t, chan struct{}, error) {
	if err := d.enter(); err != nil {
		return 0, nil, err
	}
	defer d.leave()
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.open(d); err != nil {
		return 0, nil, err
	}
	e.last++
	over := make(chan struct{})
	e.waiting[e.last] = over
	at := cID(id)
	var made *C.fby_error
	if status := C.fby_watcher_add(e.watcher, &at, e.last, &made); status != C.FBY_OK {
		delete(e.waiting, e.last)
		return 0, nil, failure(status, made)
	}
	return e.last, over, nil
}

func (e *ends) remove(tag C.uint64_t) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		C.fby_watcher_remove(e.watcher, tag, nil, nil)
		delete(e.waiting, tag)
	}
}

// open makes the watcher, if there is none.
func (e *ends) open(d *Dispatcher) error {
	if e.closed {
		return closed()
	}
	if e.watcher != nil {
		return nil
	}
	var made *C.fby_error
	var watcher *C.fby_watcher
	if status := C.fby_watcher_new(d.at, &watcher, &made); status != C.FBY_OK {
		return failure(status, made)
	}
	var fd C.int
	status := C.fby_watcher_fd(watcher, &fd, &made)
	err := failure(status, made)
	if err == nil {
		e.bell, err = duplicate(fd, "forebay watcher")
	}
	if err != nil {
		C.fby_watcher_free(watcher)
		return err
	}
	e.watcher, e.waiting = watcher, map[C.uint64_t]chan struct{}{}
	go e.listen()
	return nil
}

// listen tells of ends until the dispatcher stops.
func (e *ends) listen() {
	listen(e.bell, e.tell)
	e.bell.Close()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	C.fby_watcher_free(e.watcher)
}

// tell tells of the ends that there are now; false if there will be no more.
func (e *ends) tell() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	var told [64]C.fby_end
	for {
		var count C.size_t
		status := C.fby_watcher_poll(e.watcher, &told[0], C.sizeof_fby_end, C.size_t(len(told)), 0, &count, nil)
		if status == C.FBY_E_CLOSED {
			// Those of whom nothing will be told look again, and hear that it is closed.
			for tag := range e.waiting {
				e.over(tag)
			}
			return false
		}
		if status != C.FBY_OK || count == 0 {
			return status == C.FBY_OK
		}
		for _, end := range told[:count] {
			e.over(end.tag)
		}
	}
}

func (e *ends) over(tag C.uint64_t) {
	if over := e.waiting[tag]; over != nil {
		close(over)
		delete(e.waiting, tag)
	}
}

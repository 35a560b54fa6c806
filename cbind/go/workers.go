package forebay

// #include "shim.h"
import "C"

import (
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// workers are the goroutines that run handlers. There are as many as jobs run at once; those that have nothing to do
// wait for the next job, the last to come being the first to go.
type workers struct {
	mu   sync.Mutex
	idle []chan struct{}
	done bool
	// hired is set while somebody is on the way to the line, so that one is called at a time: who finds more there
	// than one job calls the next.
	hired atomic.Bool
}

// idleWorkers is how many wait for jobs at most; the others end.
const idleWorkers = 256

// hire gets one more worker to the line, unless one is on the way.
func (w *workers) hire(r *run) {
	if !w.hired.CompareAndSwap(false, true) {
		return
	}
	w.mu.Lock()
	last := len(w.idle) - 1
	if last < 0 {
		w.mu.Unlock()
		go r.work()
		return
	}
	call := w.idle[last]
	w.idle = w.idle[:last]
	w.mu.Unlock()
	call <- struct{}{}
}

// rest waits until there is work again; false if there will be none.
func (w *workers) rest(call chan struct{}) bool {
	w.mu.Lock()
	if w.done || len(w.idle) == idleWorkers {
		w.mu.Unlock()
		return false
	}
	w.idle = append(w.idle, call)
	w.mu.Unlock()
	_, more := <-call
	return more
}

// dismiss ends those that wait.
func (w *workers) dismiss() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, call := range w.idle {
		close(call)
	}
	w.idle, w.done = nil, true
}

// work runs jobs while there are some, and waits for more.
func (r *run) work() {
	var running *lease
	defer func() {
		// A handler has ended the goroutine: another one takes its place.
		if running != nil {
			r.ended.push(running)
			go func() {
				r.kick()
				r.work()
			}()
		}
	}()
	call := make(chan struct{}, 1)
	for {
		// Whoever adds to the line from here on calls another one; what was added before is seen.
		r.hired.Store(false)
		lease, last := r.line.take()
		if lease != nil && !last {
			r.hire(r)
		}
		for lease != nil {
			if last && !r.armed.Load() {
				r.alert()
			}
			running = lease
			r.perform(lease)
			running = nil
			first := r.ended.push(lease)
			if lease, last = r.line.take(); lease == nil {
				r.kick()
				lease, last = r.line.take()
			} else if first {
				r.alert()
			}
		}
		if !r.rest(call) {
			return
		}
	}
}

// perform runs the handler of a job, and notes what became of it.
func (r *run) perform(l *lease) {
	returned := false
	defer func() {
		if !returned {
			l.outcome = crashed(recover())
		}
		l.end()
	}()
	err := l.kind.handler(l, &l.job)
	returned = true
	if err != nil {
		l.outcome = outcomeOf(err)
	}
}

// crashed is the outcome of a handler that has not returned.
func crashed(panicked any) outcome {
	if panicked == nil {
		return outcome{verdict: C.FBY_FAILED, text: "the handler ended its goroutine: runtime.Goexit"}
	}
	return outcome{verdict: C.FBY_FAILED, text: fmt.Sprintf("panic: %v\n\n%s", panicked, debug.Stack())}
}

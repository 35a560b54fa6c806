package forebay_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"forebay.dev/forebay"
)

// waitFor waits until something has become true that nobody announces.
func waitFor(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(soon); !is(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("never so: " + what)
		}
	}
}

func TestWhyAContextIsCancelled(t *testing.T) {
	for _, c := range []struct {
		name string
		stop func(d *forebay.Dispatcher, id forebay.ID) error
		why  error
		says error
	}{
		{"cancelled", func(d *forebay.Dispatcher, id forebay.ID) error {
			_, err := d.Cancel(context.Background(), id)
			return err
		}, forebay.ErrCancelled, context.Canceled},
		{"timed out", func(d *forebay.Dispatcher, _ forebay.ID) error {
			return d.Advance(context.Background(), 2*time.Minute)
		}, forebay.ErrTimedOut, context.DeadlineExceeded},
		{"closed", func(d *forebay.Dispatcher, _ forebay.ID) error { return d.Close() }, forebay.ErrStopped, context.Canceled},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := open(t, "memory:?clock=manual&max_attempts=1")
			contexts, let := make(chan context.Context, 1), make(chan struct{})
			handle(t, d, "k", func(ctx context.Context, j *forebay.Job) error {
				child, cancel := context.WithTimeout(ctx, time.Hour)
				defer cancel()
				if found, ok := forebay.FromContext(child); !ok || found != j {
					t.Error("the job is not in its context")
				}
				if ctx.Err() != nil || ctx.Value("run") != "values" {
					t.Error(ctx.Err(), ctx.Value("run"))
				}
				contexts <- child
				<-child.Done()
				<-let
				return child.Err()
			}, forebay.Timeout(time.Minute))
			values := context.WithValue(context.Background(), "run", "values")
			go d.Run(values)
			id := push(t, d, "k", "")
			child := receive(t, contexts)
			ok(t, c.stop(d, id))
			receive(t, child.Done())
			if cause := context.Cause(child); !errors.Is(cause, c.why) || !errors.Is(cause, c.says) && c.why != forebay.ErrCancelled {
				t.Error(cause)
			}
			if c.name == "timed out" {
				if at, ok := child.Deadline(); !ok || at.IsZero() {
					t.Error("it has a deadline")
				}
			}
			close(let)
			if c.name == "cancelled" {
				if result, err := d.Wait(in(t), id); !errors.Is(err, forebay.ErrJobFailed) || result.State != forebay.Cancelled {
					t.Error(result, err)
				}
			}
		})
	}
}

func TestAContextEndsWithItsHandler(t *testing.T) {
	d := open(t, "memory:")
	contexts := make(chan context.Context, 2)
	handle(t, d, "k", func(ctx context.Context, j *forebay.Job) error {
		if string(j.Payload) == "looks" {
			ctx.Done()
		}
		contexts <- ctx
		return nil
	})
	run(t, d)
	for _, payload := range []string{"looks", "does not look"} {
		id := push(t, d, "k", payload)
		ctx := receive(t, contexts)
		_, err := d.Wait(in(t), id)
		ok(t, err)
		receive(t, ctx.Done())
		equal(t, ctx.Err(), context.Canceled)
		equal(t, context.Cause(ctx), context.Canceled)
	}
}

// The lease of a job ends, another attempt begins, and the first one hears of it; its answer counts no more.
func TestALostLeaseCancels(t *testing.T) {
	d := open(t, "memory:?clock=manual&lease=10s&retry=constant(1s)")
	causes, started := make(chan error, 2), make(chan int, 2)
	handle(t, d, "k", func(ctx context.Context, j *forebay.Job) error {
		started <- j.Attempt
		if j.Attempt > 1 {
			return nil
		}
		if err := j.Extend(ctx, 20*time.Second); err != nil {
			t.Error(err)
		}
		<-ctx.Done()
		if err := j.Extend(context.Background(), time.Second); !errors.Is(err, forebay.ErrStale) {
			t.Error(err)
		}
		causes <- context.Cause(ctx)
		return errors.New("too late")
	})
	run(t, d)
	id := push(t, d, "k", "")
	equal(t, receive(t, started), 1)
	waitFor(t, "the lease is extended", func() bool {
		info, err := d.Get(in(t), id)
		return err == nil && info.LeaseUntil.Sub(info.Started) >= 19*time.Second
	})
	ok(t, d.Advance(in(t), 15*time.Second))
	select {
	case cause := <-causes:
		t.Fatal(cause)
	default:
	}
	ok(t, d.Advance(in(t), 10*time.Second))
	if cause := receive(t, causes); !errors.Is(cause, forebay.ErrLeaseLost) {
		t.Error(cause)
	}
	ok(t, d.Advance(in(t), 10*time.Second))
	equal(t, receive(t, started), 2)
	_, err := d.Wait(in(t), id)
	ok(t, err)
}

// Ten thousand handlers wait for their contexts, and contexts made from them, while all of their jobs are cancelled.
func TestTenThousandAreCancelledInFlight(t *testing.T) {
	jobs := 10_000
	if testing.Short() {
		jobs = 500
	}
	d := open(t, "memory:", forebay.WithConcurrency(jobs))
	var started, cancelled atomic.Int64
	handle(t, d, "hang", func(ctx context.Context, j *forebay.Job) error {
		child, cancel := context.WithCancel(ctx)
		defer cancel()
		started.Add(1)
		<-child.Done()
		if errors.Is(context.Cause(child), forebay.ErrCancelled) {
			cancelled.Add(1)
		}
		return child.Err()
	})
	run(t, d)
	specs := make([]forebay.JobSpec, jobs)
	for i := range specs {
		specs[i].Kind = "hang"
	}
	pushed, err := d.PushMany(in(t), specs)
	ok(t, err)
	// Half of them are cancelled while others start.
	for _, p := range pushed[:jobs/2] {
		_, err := d.Cancel(in(t), p.ID)
		ok(t, err)
	}
	waitFor(t, "all that can have started", func() bool {
		stats, err := d.Stats(in(t))
		ok(t, err)
		return stats.Queue("default").Queued == 0 && int(started.Load()) >= jobs/2
	})
	// With their children they need no goroutine but their own.
	if most := jobs + 200; runtime.NumGoroutine() > most {
		t.Errorf("%d goroutines", runtime.NumGoroutine())
	}
	var crowd crew
	for part := range 4 {
		crowd.run(func() {
			for i := jobs/2 + part; i < jobs; i += 4 {
				if _, err := d.Cancel(context.Background(), pushed[i].ID); err != nil {
					t.Error(err)
				}
			}
		})
	}
	crowd.Wait()
	ok(t, d.Drain(in(t)))
	equal(t, cancelled.Load(), started.Load())
	for _, p := range []forebay.ID{pushed[0].ID, pushed[jobs-1].ID} {
		info, err := d.Get(in(t), p)
		ok(t, err)
		equal(t, info.State, forebay.Cancelled)
	}
}

// threads is how many threads the process has.
func threads(t testing.TB) int {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Skip("this system does not tell how many threads there are")
	}
	return len(tasks)
}

// A thousand calls of Run that have nothing to do, and as many that wait for a job, take no thread; when all is closed
// no goroutine is left.
func TestWhoWaitsTakesNoThread(t *testing.T) {
	const crowd = 1000
	goroutines := runtime.NumGoroutine()
	d := open(t, "memory:")
	ran := make(chan struct{})
	handle(t, d, "k", func(context.Context, *forebay.Job) error { ran <- struct{}{}; return nil })
	later, err := d.Push(in(t), forebay.JobSpec{Kind: "later"})
	ok(t, err)
	before := threads(t)
	answers := make(chan error)
	for range crowd {
		go func() { answers <- d.Run(context.Background()) }()
		go func() {
			_, err := d.Wait(context.Background(), later.ID)
			answers <- err
		}()
	}
	waitFor(t, "all of them wait", func() bool { return runtime.NumGoroutine() >= goroutines+3*crowd })
	for range 100 {
		push(t, d, "k", "")
		receive(t, ran)
	}
	if after := threads(t); after > before+crowd/10 {
		t.Errorf("%d threads before, %d with a crowd that waits", before, after)
	}
	ok(t, d.Close())
	for range 2 * crowd {
		if err := receive(t, answers); !errors.Is(err, forebay.ErrClosed) {
			t.Fatal(err)
		}
	}
	waitFor(t, fmt.Sprintf("no more than %d goroutines are left", goroutines), func() bool {
		return runtime.NumGoroutine() <= goroutines
	})
}

// What is pushed in batches of 64 costs two calls of the library for each batch at the most, all in all.
func TestTwoCallsPerBatch(t *testing.T) {
	const batches, size = 200, 64
	d := open(t, "memory:", forebay.WithConcurrency(512))
	var left atomic.Int64
	left.Store(batches * size)
	done := make(chan struct{})
	handle(t, d, "k", func(context.Context, *forebay.Job) error {
		if left.Add(-1) == 0 {
			close(done)
		}
		return nil
	})
	specs := make([]forebay.JobSpec, size)
	for i := range specs {
		specs[i] = forebay.JobSpec{Kind: "k", Payload: []byte("payload")}
	}
	before := runtime.NumCgoCall()
	for range batches {
		_, err := d.PushMany(context.Background(), specs)
		ok(t, err)
	}
	run(t, d)
	receive(t, done)
	calls := runtime.NumCgoCall() - before
	t.Logf("%d calls for %d jobs", calls, batches*size)
	if calls > 2*batches {
		t.Errorf("%d calls for %d batches", calls, batches)
	}
}

// The collector runs all the time while jobs come and go: whatever the library has a pointer to must stay.
func TestAStormOfCollections(t *testing.T) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	}()
	d := open(t, "memory:", forebay.WithConcurrency(100))
	ok(t, forebay.HandleResult(d, "echo", func(_ context.Context, j *forebay.Job, v []string) ([]string, error) {
		if len(v) != 2 || j.Headers()[0].Value != v[0] || j.Key != v[1] {
			return nil, forebay.Fatal(fmt.Errorf("%v %v %q", v, j.Headers(), j.Key))
		}
		return v, nil
	}))
	run(t, d)
	var busy crew
	for worker := range 4 {
		busy.run(func() {
			for i := range 50 {
				specs := make([]forebay.JobSpec, 10)
				for k := range specs {
					value := []string{fmt.Sprint("header", worker, i), fmt.Sprint("key", worker, i, k)}
					specs[k] = forebay.JSON("echo", value)
					specs[k].Headers, specs[k].Key = []forebay.Header{{Name: "h", Value: value[0]}}, value[1]
				}
				pushed, err := d.PushMany(context.Background(), specs)
				if err != nil {
					t.Error(err)
					return
				}
				for k, p := range pushed {
					result, err := forebay.WaitResult[[]string](in(t), d, p.ID)
					if err != nil || result[1] != specs[k].Key {
						t.Error(result, err)
					}
				}
			}
		})
	}
	busy.Wait()
	close(stop)
	receive(t, stopped)
}

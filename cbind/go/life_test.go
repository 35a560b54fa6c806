package forebay_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"forebay.dev/forebay"
)

func TestEveryJobRunsOnce(t *testing.T) {
	const jobs = 20_000
	for _, concurrency := range []int{1, 8, 300} {
		t.Run(fmt.Sprint(concurrency), func(t *testing.T) {
			d := open(t, "memory:", forebay.WithConcurrency(concurrency))
			var seen [jobs]atomic.Int32
			var left atomic.Int64
			left.Store(jobs)
			done := make(chan struct{})
			handle(t, d, "count", func(_ context.Context, j *forebay.Job) error {
				var n int
				if _, err := fmt.Sscan(string(j.Payload), &n); err != nil {
					return forebay.Fatal(err)
				}
				if n%100 == 0 {
					// Some give others the turn.
					runtime.Gosched()
				}
				seen[n].Add(1)
				if left.Add(-1) == 0 {
					close(done)
				}
				return nil
			})
			run(t, d)
			for n := 0; n < jobs; n += 500 {
				specs := make([]forebay.JobSpec, 500)
				for i := range specs {
					specs[i] = forebay.JobSpec{Kind: "count", Payload: fmt.Append(nil, n+i)}
				}
				pushed, err := d.PushMany(in(t), specs)
				ok(t, err)
				equal(t, len(pushed), len(specs))
			}
			receive(t, done)
			for n := range seen {
				equal(t, seen[n].Load(), 1)
			}
		})
	}
}

func TestAJobSeesWhatWasPushed(t *testing.T) {
	d := open(t, "memory:")
	jobs := make(chan *forebay.Job, 2)
	handle(t, d, "mail", func(_ context.Context, j *forebay.Job) error {
		jobs <- j
		return nil
	})
	before := time.Now().Add(-time.Second)
	spec := forebay.JSON("mail", []int{1, 2})
	spec.Queue, spec.Key, spec.ConcurrencyKey, spec.Priority, spec.MaxAttempts = "outbox", "once", "tenant 7", -3, 2
	spec.Timeout = time.Hour
	pushed, err := d.Push(in(t), spec)
	ok(t, err)
	again, err := d.Push(in(t), spec)
	ok(t, err)
	equal(t, again.ID, pushed.ID)
	run(t, d)
	j := receive(t, jobs)
	equal(t, j.ID, pushed.ID)
	equal(t, j.Kind+" "+j.Queue+" "+j.Key+" "+j.ConcurrencyKey, "mail outbox once tenant 7")
	equal(t, string(j.Payload)+" "+j.ContentType, "[1,2] application/json")
	equal(t, [3]int{j.Attempt, j.MaxAttempts, j.Priority}, [3]int{1, 2, -3})
	if j.Created.Before(before) || j.Created.After(time.Now().Add(time.Second)) || j.Fence == 0 {
		t.Fatalf("created %v, fence %d", j.Created, j.Fence)
	}
	push(t, d, "mail", strings.Repeat("x", 100_000))
	equal(t, len(receive(t, jobs).Payload), 100_000)
}

func TestOptionsAreChecked(t *testing.T) {
	for _, c := range []struct {
		url    string
		option forebay.Option
		want   error
	}{
		{"memory:", forebay.WithOption("no such option", "1"), forebay.ErrNotFound},
		{"memory:", forebay.WithConcurrency(-1), forebay.ErrInvalid},
		{"carrier-pigeon:", forebay.WithConcurrency(1), forebay.ErrUnsupported},
		{"memory:?concurrency=none", forebay.WithCapacity(1), forebay.ErrInvalid},
		{"sqlite:/no/such/directory/jobs.db", forebay.WithCapacity(1), forebay.ErrStorage},
	} {
		d, err := forebay.Open(c.url, c.option)
		if !errors.Is(err, c.want) || d != nil {
			t.Errorf("%s: %v", c.url, err)
		}
	}
	var told *forebay.Error
	_, err := forebay.Open("memory:", forebay.WithOption("concurency", "1"))
	if !errors.As(err, &told) || told.Code != forebay.CodeNotFound || !strings.Contains(told.Message, `"concurrency"`) {
		t.Fatal(err)
	}
	equal(t, told.Code.String(), "FBY_E_NOT_FOUND")
}

func TestAPushIsRefusedAsTheErrorSays(t *testing.T) {
	d := open(t, "memory:", forebay.WithCapacity(2), forebay.WithOption("unknown_kinds", "reject"))
	handle(t, d, "k", func(context.Context, *forebay.Job) error { return nil })
	for _, c := range []struct {
		spec forebay.JobSpec
		want error
	}{
		{forebay.JobSpec{}, forebay.ErrInvalid},
		{forebay.JobSpec{Kind: "k", Priority: 128}, forebay.ErrInvalid},
		{forebay.JobSpec{Kind: "k", Priority: 1 << 40}, forebay.ErrInvalid},
		{forebay.JobSpec{Kind: "k", MaxAttempts: -2}, forebay.ErrInvalid},
		{forebay.JobSpec{Kind: "k", Delay: -time.Second}, forebay.ErrInvalid},
		{forebay.JobSpec{Kind: "other"}, forebay.ErrUnknownKind},
		{forebay.JSON("k", func() {}), forebay.ErrEncode},
	} {
		if _, err := d.Push(in(t), c.spec); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c.spec, err)
		}
	}
	_, err := d.PushMany(in(t), []forebay.JobSpec{{Kind: "k"}, forebay.JSON("k", make(chan int))})
	if !errors.Is(err, forebay.ErrEncode) || !strings.Contains(err.Error(), "job 2 of 2") {
		t.Error(err)
	}
	pushed, err := d.PushMany(in(t), []forebay.JobSpec{{Kind: "k"}, {Kind: "k"}, {Kind: "k"}})
	if !errors.Is(err, forebay.ErrFull) || len(pushed) != 2 {
		t.Error(len(pushed), err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := d.Push(ended, forebay.JobSpec{Kind: "k"}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if pushed, err := d.PushMany(in(t), nil); err != nil || len(pushed) != 0 {
		t.Error(err)
	}
}

func TestUseAfterClose(t *testing.T) {
	d := open(t, "memory:")
	handle(t, d, "k", func(context.Context, *forebay.Job) error { return nil })
	id := push(t, d, "k", "")
	ok(t, d.Close())
	ok(t, d.Close())
	_, err := d.Push(in(t), forebay.JobSpec{Kind: "k"})
	calls := []error{err, d.Run(in(t)), d.Handle("k", func(context.Context, *forebay.Job) error { return nil })}
	_, err = d.Wait(in(t), id)
	for i, err := range append(calls, err) {
		if !errors.Is(err, forebay.ErrClosed) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func TestCloseWakesWhoWaits(t *testing.T) {
	d := open(t, "memory:")
	started := make(chan context.Context)
	handle(t, d, "hang", func(ctx context.Context, j *forebay.Job) error {
		started <- ctx
		<-ctx.Done()
		return ctx.Err()
	})
	answers := make(chan error, 2)
	go func() { answers <- d.Run(context.Background()) }()
	id := push(t, d, "hang", "")
	ctx := receive(t, started)
	go func() {
		_, err := d.Wait(context.Background(), id)
		answers <- err
	}()
	ok(t, d.Close())
	for range 2 {
		if err := receive(t, answers); !errors.Is(err, forebay.ErrClosed) {
			t.Error(err)
		}
	}
	receive(t, ctx.Done())
	if cause := context.Cause(ctx); !errors.Is(cause, forebay.ErrStopped) {
		t.Error(cause)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	d := open(t, "memory:")
	started, let := make(chan *forebay.Job), make(chan struct{})
	var cancelled atomic.Bool
	handle(t, d, "slow", func(ctx context.Context, j *forebay.Job) error {
		started <- j
		<-let
		cancelled.Store(ctx.Err() != nil)
		return nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	answer := make(chan error)
	go func() { answer <- d.Run(ctx) }()
	id := push(t, d, "slow", "")
	j := receive(t, started)
	cancel()
	receive(t, j.Stopping())
	waits := push(t, d, "slow", "")
	close(let)
	ok(t, receive(t, answer))
	if cancelled.Load() {
		t.Error("a job within the grace was cancelled")
	}
	result, err := d.Wait(in(t), id)
	ok(t, err)
	equal(t, result.State, forebay.Succeeded)
	short, end := context.WithTimeout(context.Background(), time.Millisecond)
	defer end()
	if _, err := d.Wait(short, waits); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestTheGraceEnds(t *testing.T) {
	d := open(t, "memory:", forebay.WithGrace(time.Millisecond))
	started, causes := make(chan struct{}), make(chan error, 1)
	handle(t, d, "slow", func(ctx context.Context, j *forebay.Job) error {
		started <- struct{}{}
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return nil
	})
	stop := run(t, d)
	id := push(t, d, "slow", "")
	receive(t, started)
	stop()
	if cause := receive(t, causes); !errors.Is(cause, forebay.ErrStopped) || !errors.Is(cause, context.Canceled) {
		t.Error(cause)
	}
	_, err := d.Wait(in(t), id)
	ok(t, err)
}

func TestShutdownWaitsForHandlers(t *testing.T) {
	d := open(t, "memory:")
	started, let := make(chan struct{}), make(chan struct{})
	handle(t, d, "slow", func(ctx context.Context, j *forebay.Job) error {
		started <- struct{}{}
		<-let
		_, err := d.Push(ctx, forebay.JobSpec{Kind: "next"})
		if _, deadlock := d.Shutdown(ctx); !errors.Is(deadlock, forebay.ErrWouldDeadlock) {
			t.Error(deadlock)
		}
		return err
	})
	answer := make(chan error)
	go func() { answer <- d.Run(context.Background()) }()
	push(t, d, "slow", "")
	receive(t, started)
	reports := make(chan forebay.StopReport)
	go func() {
		report, err := d.Shutdown(context.Background())
		if err != nil {
			t.Error(err)
		}
		reports <- report
	}()
	close(let)
	equal(t, receive(t, reports), forebay.StopReport{Waiting: 1})
	if err := receive(t, answer); !errors.Is(err, forebay.ErrClosed) {
		t.Error(err)
	}
}

func TestShutdownEndsWithItsContext(t *testing.T) {
	d := open(t, "memory:")
	started, let := make(chan struct{}), make(chan struct{})
	handle(t, d, "deaf", func(context.Context, *forebay.Job) error {
		started <- struct{}{}
		<-let
		return nil
	})
	answer := make(chan error)
	go func() { answer <- d.Run(context.Background()) }()
	push(t, d, "deaf", "")
	receive(t, started)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	report, err := d.Shutdown(ctx)
	ok(t, err)
	equal(t, report, forebay.StopReport{HandedBack: 1, Waiting: 1})
	if err := receive(t, answer); !errors.Is(err, forebay.ErrClosed) {
		t.Error(err)
	}
	// Its answer finds nobody, which is no crash.
	close(let)
}

func TestManyCloseAtOnce(t *testing.T) {
	for range 20 {
		d := open(t, "memory:", forebay.WithConcurrency(4))
		handle(t, d, "k", func(context.Context, *forebay.Job) error { return nil })
		var busy crew
		for i := range 8 {
			busy.run(func() {
				if i%4 == 0 {
					if err := d.Run(context.Background()); !errors.Is(err, forebay.ErrClosed) {
						t.Error(err)
					}
				}
				for {
					if _, err := d.Push(context.Background(), forebay.JobSpec{Kind: "k"}); err != nil {
						if !errors.Is(err, forebay.ErrClosed) {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		push(t, d, "k", "")
		for range 3 {
			busy.run(func() {
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		busy.Wait()
	}
}

func TestRunNeedsAHandler(t *testing.T) {
	d := open(t, "memory:")
	if err := d.Run(in(t)); !errors.Is(err, forebay.ErrInvalid) {
		t.Error(err)
	}
	if err := d.Handle("k", nil); !errors.Is(err, forebay.ErrInvalid) {
		t.Error(err)
	}
	if err := d.Handle("k", func(context.Context, *forebay.Job) error { return nil }, forebay.Retry("at once")); !errors.Is(err, forebay.ErrInvalid) {
		t.Error(err)
	}
}

func TestAHandlerMayComeLater(t *testing.T) {
	d := open(t, "memory:")
	ran := make(chan string, 1)
	note := func(_ context.Context, j *forebay.Job) error {
		ran <- j.Kind
		return nil
	}
	handle(t, d, "first", note)
	run(t, d)
	push(t, d, "second", "")
	push(t, d, "first", "")
	equal(t, receive(t, ran), "first")
	handle(t, d, "second", note)
	equal(t, receive(t, ran), "second")
	handle(t, d, "first", func(context.Context, *forebay.Job) error {
		ran <- "another"
		return nil
	})
	push(t, d, "first", "")
	equal(t, receive(t, ran), "another")
}

func TestRunTakesItsQueuesOnly(t *testing.T) {
	d := open(t, "memory:")
	ran := make(chan string, 2)
	handle(t, d, "k", func(_ context.Context, j *forebay.Job) error {
		ran <- j.Queue
		return nil
	})
	stop := run(t, d, forebay.Queues("b", "c"))
	for _, queue := range []string{"a", "c"} {
		_, err := d.Push(in(t), forebay.JobSpec{Kind: "k", Queue: queue})
		ok(t, err)
	}
	equal(t, receive(t, ran), "c")
	stop()
	run(t, d)
	equal(t, receive(t, ran), "a")
}

// Whoever forgets to close a dispatcher does not keep what the library has of it.
func TestAForgottenDispatcherIsGivenBack(t *testing.T) {
	path := t.TempDir() + "/jobs.db"
	func() {
		d, err := forebay.Open("sqlite:" + path)
		ok(t, err)
		id := push(t, d, "k", "")
		ctx, cancel := context.WithCancel(context.Background())
		waits := make(chan error)
		go func() {
			_, err := d.Wait(ctx, id)
			waits <- err
		}()
		cancel()
		if err := receive(t, waits); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}()
	waitFor(t, "the file can be opened again", func() bool {
		runtime.GC()
		d, err := forebay.Open("sqlite:" + path)
		if err == nil {
			ok(t, d.Close())
		} else if !errors.Is(err, forebay.ErrAlreadyOpen) {
			t.Fatal(err)
		}
		return err == nil
	})
}

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

// ends pushes a job with two attempts whose handler is called, and tells how it ended.
func ends(t *testing.T, d *forebay.Dispatcher, handler forebay.Handler) (forebay.JobInfo, error) {
	t.Helper()
	handle(t, d, "k", handler, forebay.MaxAttempts(2), forebay.Retry("constant(1ms)"))
	id := push(t, d, "k", "")
	_, err := d.Wait(in(t), id)
	info, failed := d.Get(in(t), id)
	ok(t, failed)
	return info, err
}

func TestWhatAHandlerAnswers(t *testing.T) {
	d := open(t, "memory:")
	handle(t, d, "other", func(context.Context, *forebay.Job) error { return nil })
	run(t, d)
	boom := errors.New("boom")
	for _, c := range []struct {
		name     string
		first    error
		state    forebay.State
		attempts int
		text     string
	}{
		{"nil", nil, forebay.Succeeded, 1, ""},
		{"an error", boom, forebay.Succeeded, 2, ""},
		{"fatal", forebay.Fatal(boom), forebay.Failed, 1, "boom"},
		{"wrapped", fmt.Errorf("while sending: %w", forebay.Fatal(boom)), forebay.Failed, 1, "while sending: boom"},
		{"retry after", forebay.RetryAfter(time.Millisecond, boom), forebay.Succeeded, 2, ""},
		{"snooze", forebay.Snooze(time.Millisecond), forebay.Succeeded, 1, ""},
		{"rate limited", forebay.RateLimited(time.Millisecond), forebay.Succeeded, 1, ""},
		{"cancel", forebay.Cancel(boom), forebay.Cancelled, 1, "boom"},
		{"cancel without a reason", forebay.Cancel(nil), forebay.Cancelled, 1, "the handler cancelled the job"},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls := 0
			info, err := ends(t, d, func(context.Context, *forebay.Job) error {
				if calls++; calls > 1 {
					return nil
				}
				return c.first
			})
			equal(t, info.State, c.state)
			equal(t, info.Attempt, c.attempts)
			if c.text == "" {
				ok(t, err)
				return
			}
			if !errors.Is(err, forebay.ErrJobFailed) || info.Failure.Message != c.text || !strings.Contains(err.Error(), c.text) {
				t.Fatal(err, info.Failure)
			}
			if errors.Is(c.first, boom) != (c.text != "the handler cancelled the job") {
				t.Fatal("the error that was wrapped can be found")
			}
		})
	}
}

func TestAPanicIsAFailedAttempt(t *testing.T) {
	d := open(t, "memory:", forebay.WithConcurrency(2))
	handle(t, d, "other", func(context.Context, *forebay.Job) error { return nil })
	run(t, d)
	for name, c := range map[string]struct {
		crash func()
		texts []string
	}{
		"panic":   {func() { panic("out of order") }, []string{"panic: out of order", "handlers_test.go"}},
		"nil map": {func() { (map[string]int)(nil)["x"] = 1 }, []string{"assignment to entry in nil map", "handlers_test.go"}},
		"nil":     {func() { panic(nil) }, []string{"panic called with nil argument"}},
		"goexit":  {runtime.Goexit, []string{"runtime.Goexit"}},
	} {
		t.Run(name, func(t *testing.T) {
			for range 5 {
				info, err := ends(t, d, func(context.Context, *forebay.Job) error {
					c.crash()
					return nil
				})
				if !errors.Is(err, forebay.ErrJobFailed) || info.Attempt != 2 || len(info.History) != 2 {
					t.Fatal(err, info)
				}
				for _, text := range c.texts {
					if !strings.Contains(info.Failure.Message, text) {
						t.Fatalf("%q is not in %q", text, info.Failure.Message)
					}
				}
			}
		})
	}
	_, err := ends(t, d, func(context.Context, *forebay.Job) error { return nil })
	ok(t, err)
}

func TestTypedHandlersAndResults(t *testing.T) {
	type sum struct{ A, B int }
	d := open(t, "memory:")
	ok(t, forebay.HandleResult(d, "add", func(_ context.Context, _ *forebay.Job, v sum) (int, error) {
		if v.A < 0 {
			return 0, forebay.Fatal(errors.New("negative"))
		}
		return v.A + v.B, nil
	}))
	ok(t, forebay.HandleResult(d, "odd", func(context.Context, *forebay.Job, any) (func(), error) { return func() {}, nil }))
	run(t, d)
	pushed, err := d.Push(in(t), forebay.JSON("add", sum{1, 2}))
	ok(t, err)
	total, err := forebay.WaitResult[int](in(t), d, pushed.ID)
	ok(t, err)
	equal(t, total, 3)
	result, err := d.Wait(in(t), pushed.ID)
	ok(t, err)
	equal(t, string(result.Payload)+" "+result.ContentType+" "+result.State.String(), "3 application/json succeeded")
	for kind, c := range map[string]struct {
		spec forebay.JobSpec
		text string
	}{
		"it fails":       {forebay.JSON("add", sum{-1, 0}), "negative"},
		"no such JSON":   {forebay.JobSpec{Kind: "add", Payload: []byte("{")}, "no JSON of a *forebay_test.sum"},
		"no such result": {forebay.JSON("odd", nil), "func() cannot be encoded"},
	} {
		pushed, err := d.Push(in(t), c.spec)
		ok(t, err)
		result, err := d.Wait(in(t), pushed.ID)
		if !errors.Is(err, forebay.ErrJobFailed) || result.State != forebay.Failed || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, %v", kind, result, err)
		}
		info, err := d.Get(in(t), pushed.ID)
		ok(t, err)
		equal(t, info.Attempt, 1)
	}
}

func TestAResultThatIsTooLongFailsTheJob(t *testing.T) {
	d := open(t, "memory:?max_payload=1000")
	info, err := func() (forebay.JobInfo, error) {
		handle(t, d, "k", func(_ context.Context, j *forebay.Job) error {
			j.SetResult(make([]byte, 2000), "")
			return nil
		})
		run(t, d)
		id := push(t, d, "k", "")
		_, err := d.Wait(in(t), id)
		info, failed := d.Get(in(t), id)
		ok(t, failed)
		return info, err
	}()
	if !errors.Is(err, forebay.ErrJobFailed) || info.State != forebay.Failed || !strings.Contains(err.Error(), "cannot be used") {
		t.Fatal(err, info)
	}
	equal(t, func() int { stats, err := d.Stats(in(t)); ok(t, err); return stats.Running }(), 0)
}

func TestHeadersAndTokens(t *testing.T) {
	d := open(t, "memory:")
	headers := make(chan []forebay.Header, 2)
	var kept *forebay.Job
	handle(t, d, "k", func(_ context.Context, j *forebay.Job) error {
		kept = j
		if trace, ok := j.Header("trace"); ok && trace != "7" {
			return errors.New(trace)
		}
		headers <- j.Headers()
		return nil
	})
	run(t, d)
	pushed, err := d.PushMany(in(t), []forebay.JobSpec{
		{Kind: "k", Headers: []forebay.Header{{"trace", "7"}, {"lang", "de"}}, WaitsFor: []string{"a", "b"}},
		{Kind: "k"},
	})
	ok(t, err)
	equal(t, len(receive(t, headers)), 0)
	info, err := d.Get(in(t), pushed[0].ID)
	ok(t, err)
	equal(t, fmt.Sprint(info.State, info.WaitsFor, info.Headers), "blocked [a b] [{trace 7} {lang de}]")
	ok(t, d.Signal(in(t), pushed[0].ID, "b"))
	ok(t, d.Signal(in(t), pushed[0].ID, "a"))
	equal(t, fmt.Sprint(receive(t, headers)), "[{trace 7} {lang de}]")
	_, err = d.Wait(in(t), pushed[0].ID)
	ok(t, err)
	if kept.Headers() != nil {
		t.Error("the headers are gone when the handler has returned")
	}
}

func TestPushReports(t *testing.T) {
	d := open(t, "memory:?capacity=1&on_full=drop_newest")
	pushed, err := d.PushMany(in(t), []forebay.JobSpec{{Kind: "k", Key: "one"}, {Kind: "k", Key: "one"}, {Kind: "k"}})
	ok(t, err)
	equal(t, fmt.Sprint(pushed[0].Known, pushed[1].Known, pushed[2].Known), "false true false")
	equal(t, pushed[1].ID, pushed[0].ID)
	equal(t, [2]forebay.ShedRule{pushed[0].Shed, pushed[2].Shed}, [2]forebay.ShedRule{0, forebay.ShedNewest})
	rule, err := d.ShedBy(in(t), pushed[2].ID)
	ok(t, err)
	equal(t, rule, forebay.ShedNewest)
	if _, err := d.Wait(in(t), pushed[2].ID); !errors.Is(err, forebay.ErrShed) {
		t.Error(err)
	}
	if _, err := d.Push(in(t), forebay.JobSpec{Kind: "other", Key: "one"}); !errors.Is(err, forebay.ErrConflict) {
		t.Error(err)
	}
}

func TestAPushWaitsForRoom(t *testing.T) {
	d := open(t, "memory:?capacity=1&on_full=block(1h)")
	push(t, d, "k", "")
	// More than there are seats for those who wait.
	ctx, cancel := context.WithCancel(context.Background())
	answers := make(chan error)
	for range 20 {
		go func() {
			_, err := d.Push(ctx, forebay.JobSpec{Kind: "k"})
			answers <- err
		}()
	}
	var left atomic.Int32
	handle(t, d, "k", func(context.Context, *forebay.Job) error { left.Add(1); return nil })
	stop := run(t, d)
	for range 20 {
		ok(t, receive(t, answers))
	}
	ok(t, d.Drain(in(t)))
	equal(t, left.Load(), 21)
	stop()
	push(t, d, "k", "")
	go func() {
		_, err := d.PushMany(ctx, []forebay.JobSpec{{Kind: "k"}, {Kind: "k"}})
		answers <- err
	}()
	cancel()
	if err := receive(t, answers); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	go func() {
		_, err := d.Push(context.Background(), forebay.JobSpec{Kind: "k"})
		answers <- err
	}()
	ok(t, d.Close())
	if err := receive(t, answers); !errors.Is(err, forebay.ErrClosed) && !errors.Is(err, forebay.ErrFull) {
		t.Error(err)
	}
}

func TestAHandlerDoesNotWaitForItself(t *testing.T) {
	d := open(t, "memory:")
	_, err := func() (forebay.JobInfo, error) {
		handle(t, d, "k", func(ctx context.Context, j *forebay.Job) error {
			ctx = context.WithValue(ctx, "any", "thing")
			_, own := d.Wait(ctx, j.ID)
			for _, err := range []error{own, d.Drain(ctx)} {
				if !errors.Is(err, forebay.ErrWouldDeadlock) {
					return forebay.Fatal(fmt.Errorf("%v", err))
				}
			}
			return nil
		})
		run(t, d)
		_, err := d.Wait(in(t), push(t, d, "k", ""))
		return forebay.JobInfo{}, err
	}()
	ok(t, err)
}

// One slow job holds back neither those that came with it, nor what became of those before it.
func TestASlowJobHoldsBackNothing(t *testing.T) {
	d := open(t, "memory:", forebay.WithConcurrency(64))
	let := make(chan struct{})
	handle(t, d, "quick", func(context.Context, *forebay.Job) error { return nil })
	handle(t, d, "slow", func(context.Context, *forebay.Job) error { <-let; return nil })
	run(t, d)
	for range 50 {
		var specs []forebay.JobSpec
		for i := range 40 {
			kind := "quick"
			if i%10 == 3 {
				kind = "slow"
			}
			specs = append(specs, forebay.JobSpec{Kind: kind})
		}
		pushed, err := d.PushMany(in(t), specs)
		ok(t, err)
		for i, p := range pushed {
			if specs[i].Kind == "quick" {
				_, err := d.Wait(in(t), p.ID)
				ok(t, err)
			}
		}
		for range 4 {
			let <- struct{}{}
		}
	}
}

// A worker that goes from one job to the next, which takes its time, has looked for no more: somebody else must.
func TestASlowJobHidesNoNewOne(t *testing.T) {
	d := open(t, "memory:", forebay.WithConcurrency(2))
	started, let := make(chan struct{}), make(chan struct{})
	handle(t, d, "one at a time", func(context.Context, *forebay.Job) error {
		started <- struct{}{}
		<-let
		return nil
	}, forebay.Concurrency(1))
	handle(t, d, "other", func(context.Context, *forebay.Job) error { return nil })
	run(t, d)
	for range 20 {
		push(t, d, "one at a time", "")
		push(t, d, "one at a time", "")
		receive(t, started)
		let <- struct{}{}
		receive(t, started)
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		_, err := d.Wait(ctx, push(t, d, "other", ""))
		cancel()
		ok(t, err)
		let <- struct{}{}
	}
}

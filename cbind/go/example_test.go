package forebay_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"forebay.dev/forebay"
)

type Mail struct{ To, Text string }

// must ends an example that cannot go on.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	d, err := forebay.Open("memory:")
	if err != nil {
		panic(err)
	}
	defer d.Close()
	err = forebay.HandleTyped(d, "mail", func(ctx context.Context, job *forebay.Job, mail Mail) error {
		fmt.Printf("attempt %d: %q to %s\n", job.Attempt, mail.Text, mail.To)
		cancel()
		return nil
	})
	if err != nil {
		panic(err)
	}
	if _, err := d.Push(ctx, forebay.JSON("mail", Mail{To: "ada@example.com", Text: "hello"})); err != nil {
		panic(err)
	}
	if err := d.Run(ctx); err != nil {
		panic(err)
	}
	// Output: attempt 1: "hello" to ada@example.com
}

// A service runs handlers until it is told to end; then those that run have the grace to end too.
func ExampleDispatcher_Run() {
	d := must(forebay.Open("memory:", forebay.WithGrace(20*time.Second)))
	defer d.Close()
	d.Handle("tick", func(context.Context, *forebay.Job) error {
		fmt.Println("tick")
		return syscall.Kill(os.Getpid(), syscall.SIGTERM) // as a deploy does
	})
	must(d.Push(context.Background(), forebay.JobSpec{Kind: "tick"}))

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := d.Run(ctx); err != nil {
		panic(err)
	}
	fmt.Println("ended")
	// Output:
	// tick
	// ended
}

func ExampleDispatcher_PushMany() {
	d := must(forebay.Open("memory:?capacity=2"))
	defer d.Close()
	pushed, err := d.PushMany(context.Background(), []forebay.JobSpec{
		{Kind: "resize", Payload: []byte("a.png"), Priority: 10},
		{Kind: "resize", Payload: []byte("b.png"), Delay: time.Minute},
		{Kind: "resize", Payload: []byte("c.png")},
	})
	fmt.Println(len(pushed), "of 3:", errors.Is(err, forebay.ErrFull))
	// Output: 2 of 3: true
}

func ExampleRetryAfter() {
	d := must(forebay.Open("memory:"))
	defer d.Close()
	d.Handle("ask", func(_ context.Context, job *forebay.Job) error {
		fmt.Println("attempt", job.Attempt)
		if job.Attempt == 1 {
			return forebay.RetryAfter(time.Millisecond, errors.New("busy"))
		}
		return forebay.Fatal(errors.New("no such question"))
	})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go d.Run(ctx)
	pushed := must(d.Push(ctx, forebay.JobSpec{Kind: "ask"}))
	result, err := d.Wait(ctx, pushed.ID)
	fmt.Println(result.State, errors.Is(err, forebay.ErrJobFailed))
	// Output:
	// attempt 1
	// attempt 2
	// failed true
}

func ExampleHandleResult() {
	type sum struct{ A, B int }
	d := must(forebay.Open("memory:"))
	defer d.Close()
	forebay.HandleResult(d, "add", func(_ context.Context, _ *forebay.Job, v sum) (int, error) {
		return v.A + v.B, nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go d.Run(ctx)
	pushed := must(d.Push(ctx, forebay.JSON("add", sum{1, 2})))
	fmt.Println(forebay.WaitResult[int](ctx, d, pushed.ID))
	// Output: 3 <nil>
}

func ExampleDispatcher_Jobs() {
	ctx := context.Background()
	d := must(forebay.Open("memory:"))
	defer d.Close()
	must(d.Push(ctx, forebay.JobSpec{Kind: "now", Queue: "mail"}))
	must(d.Push(ctx, forebay.JobSpec{Kind: "later", Queue: "mail", Delay: time.Hour}))
	for job, err := range d.Jobs(ctx, forebay.Filter{Queue: "mail"}) {
		if err != nil {
			panic(err)
		}
		fmt.Println(job.Kind, job.State)
	}
	// Output:
	// later scheduled
	// now queued
}

func ExampleDispatcher_Cancel() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	d := must(forebay.Open("memory:"))
	defer d.Close()
	started := make(chan struct{})
	d.Handle("long", func(ctx context.Context, _ *forebay.Job) error {
		close(started)
		<-ctx.Done()
		fmt.Println(context.Cause(ctx) == forebay.ErrCancelled)
		return ctx.Err()
	})
	go d.Run(ctx)
	pushed := must(d.Push(ctx, forebay.JobSpec{Kind: "long"}))
	<-started
	fmt.Println(d.Cancel(ctx, pushed.ID))
	result, _ := d.Wait(ctx, pushed.ID)
	fmt.Println(result.State)
	// Unordered output:
	// running <nil>
	// true
	// cancelled
}

func ExampleDispatcher_Shutdown() {
	d := must(forebay.Open("memory:"))
	d.Handle("k", func(context.Context, *forebay.Job) error { return nil })
	ended := make(chan error)
	go func() { ended <- d.Run(context.Background()) }()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	report, err := d.Shutdown(ctx)
	fmt.Println(report.HandedBack, err, errors.Is(<-ended, forebay.ErrClosed))
	// Output: 0 <nil> true
}

package forebay_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"forebay.dev/forebay"
)

// soon is how long a test waits for what must happen.
const soon = time.Minute

// open opens a dispatcher that the end of the test closes.
func open(t testing.TB, url string, options ...forebay.Option) *forebay.Dispatcher {
	t.Helper()
	d, err := forebay.Open(url, options...)
	ok(t, err)
	t.Cleanup(func() { ok(t, d.Close()) })
	return d
}

// run runs the handlers until the test, or whoever calls what is returned, ends that; what Run answers must be fine.
func run(t testing.TB, d *forebay.Dispatcher, options ...forebay.RunOption) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	answer := make(chan error, 1)
	go func() { answer <- d.Run(ctx, options...) }()
	ended := false
	stop = func() {
		if !ended {
			ended = true
			cancel()
			ok(t, receive(t, answer))
		}
	}
	t.Cleanup(stop)
	return stop
}

// in is a context that ends soon.
func in(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	t.Cleanup(cancel)
	return ctx
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// receive waits for something that must come.
func receive[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(soon):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// crew is goroutines that are waited for.
type crew struct{ sync.WaitGroup }

func (c *crew) run(body func()) {
	c.Add(1)
	go func() {
		defer c.Done()
		body()
	}()
}

// handle registers a handler.
func handle(t testing.TB, d *forebay.Dispatcher, kind string, handler forebay.Handler, options ...forebay.KindOption) {
	t.Helper()
	ok(t, d.Handle(kind, handler, options...))
}

// push pushes a job of a kind.
func push(t testing.TB, d *forebay.Dispatcher, kind string, payload string) forebay.ID {
	t.Helper()
	pushed, err := d.Push(in(t), forebay.JobSpec{Kind: kind, Payload: []byte(payload)})
	ok(t, err)
	return pushed.ID
}

func equal[T comparable](t testing.TB, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("got %v, want %v", got, want)
	}
}

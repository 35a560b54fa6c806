package forebay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"

	"forebay.dev/forebay"
)

func TestEventsTellWhatHappens(t *testing.T) {
	d := open(t, "memory:")
	handle(t, d, "k", func(_ context.Context, j *forebay.Job) error {
		if j.Attempt == 1 {
			return forebay.RetryAfter(0, errors.New("not yet"))
		}
		return nil
	}, forebay.Retry("none"))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	events, ended := make(chan forebay.Event, 100), make(chan struct{})
	go func() {
		defer close(ended)
		for event := range d.Events(ctx, slog.LevelDebug) {
			events <- event
		}
	}()
	// The stream begins with its iteration.
	waitFor(t, "the stream has begun", func() bool {
		push(t, d, "nobody's", "")
		return len(events) > 0
	})
	id := push(t, d, "k", "")
	run(t, d)
	var seen []string
	for event := range events {
		if event.ID != id {
			continue
		}
		seen = append(seen, fmt.Sprint(event.What, " ", event.Level, " ", event.Attempt))
		if event.What == forebay.EventRetried && (!strings.Contains(event.Message, "not yet") || event.Queue != "default" || event.Kind != "k") {
			t.Error(event)
		}
		if event.What == forebay.EventSucceeded {
			break
		}
	}
	equal(t, strings.Join(seen, ", "),
		"pushed DEBUG 0, started DEBUG 1, retried WARN 1, started DEBUG 2, succeeded DEBUG 2")
	cancel()
	receive(t, ended)
	for range d.Events(ctx, slog.LevelDebug) {
		t.Error("its context has ended")
	}
}

func TestEventsEndWithTheDispatcher(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	d := open(t, "memory:")
	last := make(chan forebay.EventKind)
	begun := make(chan struct{})
	go func() {
		var event forebay.Event
		first := true
		for event = range d.Events(context.Background(), slog.LevelDebug) {
			if first {
				close(begun)
				first = false
			}
		}
		last <- event.What
	}()
	waitFor(t, "the stream has begun", func() bool {
		push(t, d, "k", "")
		select {
		case <-begun:
			return true
		default:
			return false
		}
	})
	ok(t, d.Close())
	equal(t, receive(t, last), forebay.EventStopped)
	waitFor(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= goroutines })
	for range d.Events(context.Background(), slog.LevelDebug) {
		t.Error("it is closed")
	}
}

func TestTheLog(t *testing.T) {
	var text bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelInfo}))
	d := open(t, "memory:", forebay.WithLogger(logger))
	handle(t, d, "k", func(context.Context, *forebay.Job) error { return forebay.Fatal(errors.New("out of paper")) })
	stop := run(t, d)
	if _, err := d.Wait(in(t), push(t, d, "k", "")); !errors.Is(err, forebay.ErrJobFailed) {
		t.Error(err)
	}
	stop()
	ok(t, d.Close())
	for _, want := range []string{"level=ERROR", "out of paper", "event=failed", "queue=default", "kind=k", "attempt=1", "event=stopped"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in %s", want, &text)
		}
	}
	if strings.Contains(text.String(), "DEBUG") || strings.Contains(text.String(), "event=pushed") {
		t.Error(&text)
	}
}

package forebay

// #include "shim.h"
// #cgo nocallback fby_events_new
// #cgo nocallback fby_events_poll
// #cgo nocallback fby_events_free
import "C"

import (
	"context"
	"iter"
	"log/slog"
	"os"
	"syscall"
	"time"
)

// EventKind says what happened.
type EventKind int32

// What may happen. A later version of the library may know more.
const (
	EventPushed           EventKind = C.FBY_EVENT_PUSHED
	EventStarted          EventKind = C.FBY_EVENT_STARTED
	EventSucceeded        EventKind = C.FBY_EVENT_SUCCEEDED
	EventFailed           EventKind = C.FBY_EVENT_FAILED
	EventRetried          EventKind = C.FBY_EVENT_RETRIED
	EventReturned         EventKind = C.FBY_EVENT_RETURNED
	EventCancelled        EventKind = C.FBY_EVENT_CANCELLED
	EventExpired          EventKind = C.FBY_EVENT_EXPIRED
	EventShed             EventKind = C.FBY_EVENT_SHED
	EventCancelRequested  EventKind = C.FBY_EVENT_CANCEL_REQUESTED
	EventStale            EventKind = C.FBY_EVENT_STALE
	EventHookFailed       EventKind = C.FBY_EVENT_HOOK_FAILED
	EventDumpFailed       EventKind = C.FBY_EVENT_DUMP_FAILED
	EventHighWatermark    EventKind = C.FBY_EVENT_HIGH_WATERMARK
	EventLowWatermark     EventKind = C.FBY_EVENT_LOW_WATERMARK
	EventBreakerOpened    EventKind = C.FBY_EVENT_BREAKER_OPENED
	EventBreakerClosed    EventKind = C.FBY_EVENT_BREAKER_CLOSED
	EventOpened           EventKind = C.FBY_EVENT_OPENED
	EventStopped          EventKind = C.FBY_EVENT_STOPPED
	EventStoreFailed      EventKind = C.FBY_EVENT_STORE_FAILED
	EventStoreRecovered   EventKind = C.FBY_EVENT_STORE_RECOVERED
	EventForwardFailed    EventKind = C.FBY_EVENT_FORWARD_FAILED
	EventForwardRecovered EventKind = C.FBY_EVENT_FORWARD_RECOVERED
)

// String is the name of the kind, for example "succeeded".
func (k EventKind) String() string {
	return C.GoString(C.fby_event_name(C.fby_event_kind(k)))
}

// Event is something that happened.
type Event struct {
	// What happened, and how much it matters.
	What  EventKind
	Level slog.Level
	// ID is the job's; zero for what concerns no single one.
	ID ID
	// Queue is where; empty for what concerns the whole dispatcher. Kind is the job's.
	Queue, Kind string
	// Message is all of it in a sentence, with the error of the attempt if it failed.
	Message string
	// At is when.
	At time.Time
	// Took is how long the attempt took that has ended; 0 where none has.
	Took time.Duration
	// Attempt is its number, from 1; 0 before the first.
	Attempt int
}

// eventBuffer is how many events wait for who hears them, before more are dropped.
const eventBuffer = 1 << 14

// Events is what happens from the begin of the iteration on, at this level and above, until ctx ends or the
// dispatcher is closed. Who is slow holds nobody up: what finds no room in a buffer of thousands is dropped.
func (d *Dispatcher) Events(ctx context.Context, level slog.Level) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		s, err := d.subscribe(level)
		if err != nil {
			return
		}
		defer s.free()
		defer context.AfterFunc(ctx, func() { hush(s.bell) })()
		for s.wait() {
			for _, event := range s.batch {
				if ctx.Err() != nil || !yield(event) {
					return
				}
			}
		}
	}
}

// stream is a subscription to events.
type stream struct {
	at    *C.fby_events
	bell  *os.File
	conn  syscall.RawConn
	batch []Event
	ended bool
}

func (d *Dispatcher) subscribe(level slog.Level) (*stream, error) {
	s := &stream{}
	err := d.call(context.Background(), func(made **C.fby_error) C.fby_status {
		return C.fby_events_new(d.at, levelOf(level), eventBuffer, &s.at, made)
	})
	if err != nil {
		return nil, err
	}
	var fd C.int
	var made *C.fby_error
	status := C.fby_events_fd(s.at, &fd, &made)
	if err = failure(status, made); err == nil {
		if s.bell, err = duplicate(fd, "forebay events"); err == nil {
			s.conn, err = s.bell.SyscallConn()
		}
	}
	if err != nil {
		s.free()
		return nil, err
	}
	return s, nil
}

func (s *stream) free() {
	C.fby_events_free(s.at)
	if s.bell != nil {
		s.bell.Close()
	}
}

// wait waits for the next events; false if there will be no more, or the bell was hushed.
func (s *stream) wait() bool {
	if s.ended {
		return false
	}
	looked := false
	err := s.conn.Read(func(uintptr) bool {
		// The poller tells of what happens from here on: what was there before is found by the look.
		if !looked {
			looked = true
			s.poll()
			return s.ended || len(s.batch) > 0
		}
		return true
	})
	return err == nil
}

// poll takes the events that there are.
func (s *stream) poll() {
	var events [64]C.fby_event
	var count C.size_t
	status := C.fby_events_poll(s.at, &events[0], C.sizeof_fby_event, C.size_t(len(events)), 0, &count, nil)
	s.ended = status != C.FBY_OK
	s.batch = s.batch[:0]
	for i := range events[:count] {
		event := &events[i]
		s.batch = append(s.batch, Event{
			What:    EventKind(event.kind),
			Level:   slogLevel(event.level),
			ID:      idOf(event.id),
			Queue:   goString(event.queue),
			Kind:    goString(event.job_kind),
			Message: goString(event.message),
			At:      time.UnixMilli(int64(event.at_ms)),
			Took:    time.Duration(max(event.took_us, 0)) * time.Microsecond,
			Attempt: int(event.attempt),
		})
	}
}

// levelOf is the least level of the library's that is not below this one.
func levelOf(level slog.Level) C.fby_level {
	switch {
	case level <= slog.LevelDebug:
		return C.FBY_LEVEL_DEBUG
	case level <= slog.LevelInfo:
		return C.FBY_LEVEL_INFO
	case level <= slog.LevelWarn:
		return C.FBY_LEVEL_WARN
	}
	return C.FBY_LEVEL_ERROR
}

func slogLevel(level C.fby_level) slog.Level {
	switch level {
	case C.FBY_LEVEL_DEBUG:
		return slog.LevelDebug
	case C.FBY_LEVEL_INFO:
		return slog.LevelInfo
	case C.FBY_LEVEL_WARN:
		return slog.LevelWarn
	}
	return slog.LevelError
}

type withLogger struct{ logger *slog.Logger }

func (w withLogger) apply(to *settings) { to.logger = w.logger }

// WithLogger has what happens logged, from the least level on that the logger wants when the dispatcher is opened. A
// goroutine does that, which no job waits for; [Dispatcher.Close] waits a moment for the last lines.
func WithLogger(logger *slog.Logger) Option {
	return withLogger{logger}
}

// log logs what happens until the dispatcher is closed.
func (d *Dispatcher) log(logger *slog.Logger) error {
	ctx := context.Background()
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if !logger.Enabled(ctx, level) {
			continue
		}
		s, err := d.subscribe(level)
		if err != nil {
			return err
		}
		logged := make(chan struct{})
		d.logged = logged
		go func() {
			defer close(logged)
			defer s.free()
			s.log(ctx, logger)
		}()
		return nil
	}
	return nil
}

func (s *stream) log(ctx context.Context, logger *slog.Logger) {
	var dropped C.uint64_t
	for s.wait() {
		for _, event := range s.batch {
			logger.LogAttrs(ctx, event.Level, event.Message, event.attrs()...)
		}
		if now := C.fby_events_dropped(s.at); now > dropped {
			logger.Warn("events were dropped: the log is too slow", "count", uint64(now-dropped))
			dropped = now
		}
	}
}

func (e *Event) attrs() []slog.Attr {
	attrs := []slog.Attr{slog.String("event", e.What.String())}
	if e.Queue != "" {
		attrs = append(attrs, slog.String("queue", e.Queue))
	}
	if !e.ID.IsZero() {
		attrs = append(attrs, slog.String("job", e.ID.String()), slog.String("kind", e.Kind))
	}
	if e.Attempt > 0 {
		attrs = append(attrs, slog.Int("attempt", e.Attempt))
	}
	if e.Took > 0 {
		attrs = append(attrs, slog.Duration("took", e.Took))
	}
	return attrs
}

package forebay

// #include "shim.h"
import "C"

import (
	"context"
	"encoding/json"
	"time"
)

// ContentTypeJSON is the content type of what [JSON] makes.
const ContentTypeJSON = "application/json"

// JobSpec is a job to be pushed. Only Kind is needed; the zero value of a field leaves it to the options of the
// kind, the queue or the dispatcher.
type JobSpec struct {
	// Kind says which handler runs it.
	Kind string
	// Payload is what it carries: any bytes, which are copied.
	Payload []byte
	// ContentType is what the payload is, as a MIME type; empty is "application/octet-stream".
	ContentType string
	// Queue is the queue it goes to; empty is the option queue.
	Queue string
	// Key is its idempotency key: of several pushes with one key, the first makes the job and the others get its
	// id; another kind or payload under the same key is [ErrConflict].
	Key string
	// ID is its id; the zero ID has one made. Pushing the same id again changes nothing.
	ID ID
	// ConcurrencyKey: jobs of a queue that share it are started in turn with those of other keys, and within the
	// queue's options key_concurrency and key_rate.
	ConcurrencyKey string
	// Priority is from -128 to 127; higher goes first.
	Priority int
	// MaxAttempts is how often it may run in all; [Unlimited] needs a retry policy that pauses.
	MaxAttempts int
	// Retry is the pause between attempts, for example "exponential(1s, cap=5m)".
	Retry string
	// Delay starts it no earlier than this long after the push.
	Delay time.Duration
	// RunAt starts it no earlier than at this instant. Not together with Delay.
	RunAt time.Time
	// Timeout is how long one attempt may take.
	Timeout time.Duration
	// ExpiresAfter: an attempt that has not started this long after the push never starts, and the job expires.
	ExpiresAfter time.Duration
	// Headers go with it, and are never looked at: see [Job.Headers].
	Headers []Header
	// WaitsFor are tokens without which it does not start: see [Dispatcher.Signal].
	WaitsFor []string
	// Durability is what it must survive before the push is answered. An engine that cannot do so much does what
	// it can.
	Durability Durability
	// err is why there is no payload.
	err error
}

// JSON is a job that carries a value as JSON. If that cannot be encoded, the push of the job fails with
// [ErrEncode]; so it fits into one line:
//
//	d.Push(ctx, forebay.JSON("mail", Mail{To: "ada@example.com"}))
func JSON(kind string, value any) JobSpec {
	spec := JobSpec{Kind: kind, ContentType: ContentTypeJSON}
	spec.Payload, spec.err = encode(value)
	return spec
}

func encode(value any) ([]byte, error) {
	text, err := json.Marshal(value)
	if err != nil {
		failed := errorf(CodeEncode, "%T cannot be encoded as JSON: %v", value, err)
		failed.cause = err
		return nil, failed
	}
	return text, nil
}

func decode(text []byte, value any) error {
	if err := json.Unmarshal(text, value); err != nil {
		failed := errorf(CodeEncode, "the payload is no JSON of a %T: %v", value, err)
		failed.cause = err
		return failed
	}
	return nil
}

// Pushed says what became of a job that was pushed.
type Pushed struct {
	// ID is its id, or that of the job that had its key.
	ID ID
	// Durability is what it survives now.
	Durability Durability
	// Known is whether its id or key was known already, so that nothing was pushed.
	Known bool
	// Shed is the rule against overload that gave it up as it came; 0 if none did.
	Shed ShedRule
}

// ShedRule says which rule against overload gave a job up; 0 for none.
type ShedRule int32

// The rules against overload.
const (
	// ShedNewest: its queue was full when it came.
	ShedNewest ShedRule = C.FBY_SHED_NEWEST
	// ShedOldest: its queue was full, and it had waited longest.
	ShedOldest ShedRule = C.FBY_SHED_OLDEST
	// ShedLowest: its queue was full, and its priority was the lowest.
	ShedLowest ShedRule = C.FBY_SHED_LOWEST
	// ShedCoalesced: its queue was full, and a newer job of its concurrency key took its place.
	ShedCoalesced ShedRule = C.FBY_SHED_COALESCED
	// ShedSampled: its queue was full, and it was not in the sample.
	ShedSampled ShedRule = C.FBY_SHED_SAMPLED
	// ShedDelayed: it had waited too long in a queue that is overloaded.
	ShedDelayed ShedRule = C.FBY_SHED_DELAYED
)

// String is the name of the rule as in statistics, for example "shed_newest"; empty for none.
func (r ShedRule) String() string {
	names := [...]string{
		ShedNewest: "shed_newest", ShedOldest: "shed_oldest", ShedLowest: "shed_lowest",
		ShedCoalesced: "shed_coalesced", ShedSampled: "shed_sampled", ShedDelayed: "shed_delayed",
	}
	if r < 0 || int(r) >= len(names) {
		return "shed"
	}
	return names[r]
}

// ShedBy is which rule against overload gave a job up; 0 for a job that was not shed.
func (d *Dispatcher) ShedBy(ctx context.Context, id ID) (ShedRule, error) {
	var rule C.fby_shed
	at := cID(id)
	err := d.call(ctx, func(made **C.fby_error) C.fby_status { return C.fby_job_shed(d.at, &at, &rule, made) })
	return ShedRule(rule), err
}

package forebay

// #include "shim.h"
import "C"

import (
	"errors"
	"time"
)

// answer is an error of a handler that says more than that it failed.
type answer struct {
	verdict C.fby_verdict
	delay   time.Duration
	text    string
	err     error
}

func (a *answer) Error() string {
	if a.err != nil {
		return a.err.Error()
	}
	return a.text
}

func (a *answer) Unwrap() error {
	return a.err
}

// Fatal is an error that no other attempt can help: the job fails now, however many attempts it has left.
func Fatal(err error) error {
	return &answer{verdict: C.FBY_FATAL, text: "the handler gave up", err: err}
}

// RetryAfter is an error after which the job runs again, after this pause instead of that of its retry policy. The
// attempt counts.
func RetryAfter(pause time.Duration, err error) error {
	return &answer{verdict: C.FBY_RETRY, delay: pause, text: "the handler asked to run again", err: err}
}

// Snooze says that it is not time yet: the job runs again after this pause. It is no failure, and the attempt does
// not count.
func Snooze(pause time.Duration) error {
	return &answer{verdict: C.FBY_SNOOZE, delay: pause, text: "the handler snoozes"}
}

// RateLimited says that what the handler calls answered "not now": the job runs again after this pause, or, if it
// is 0, after that of its retry policy. It is no failure, and the attempt does not count; a breaker or an adaptive
// limit of the kind hears of it.
func RateLimited(pause time.Duration) error {
	return &answer{verdict: C.FBY_RATE_LIMITED, delay: pause, text: "what the handler calls is rate limited"}
}

// Cancel gives the job up: it ends as cancelled, for this reason.
func Cancel(err error) error {
	return &answer{verdict: C.FBY_CANCELLED, text: "the handler cancelled the job", err: err}
}

// outcome is what became of an attempt, as it is told to the library.
type outcome struct {
	verdict     C.fby_verdict
	delay       int64
	text        string
	result      []byte
	contentType string
}

// outcomeOf is what an error of a handler comes to; the outermost answer in its chain counts, and the whole text.
func outcomeOf(err error) outcome {
	said := &answer{verdict: C.FBY_FAILED}
	errors.As(err, &said)
	return outcome{verdict: said.verdict, delay: milliseconds(said.delay), text: err.Error()}
}

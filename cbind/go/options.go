package forebay

// #include "shim.h"
import "C"

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// Unlimited, as a number of attempts, lets a job run until it works. It needs a retry policy that pauses.
const Unlimited = -1

// Option sets one option of a dispatcher: see [Open].
type Option interface{ apply(*settings) }

// settings are what a dispatcher is opened with.
type settings struct {
	named  []setting
	logger *slog.Logger
}

type setting struct{ name, value string }

func (s setting) apply(to *settings) { to.named = append(to.named, s) }

// WithOption sets any option by its name, in the form that docs/configuration.md has for its value:
//
//	forebay.WithOption("on_full", "drop_oldest")
//
// What stands after the question mark of the URL goes before it.
func WithOption(name, value string) Option {
	return setting{name, value}
}

// WithConcurrency sets how many jobs may run at once in this dispatcher, over all queues and kinds: 8 if it is not
// said. Handlers that mostly wait for others may have thousands. It is also the most that [Dispatcher.Run] takes
// at a time, so hundreds of it let very short jobs pay less for being handed over.
func WithConcurrency(jobs int) Option {
	return setting{"concurrency", strconv.Itoa(jobs)}
}

// WithCapacity sets how many jobs may wait in one queue; 0 is without bound.
func WithCapacity(jobs int) Option {
	return setting{"capacity", strconv.Itoa(jobs)}
}

// WithOnFull sets what a push does when its queue is full: "reject", "block(5s)", "drop_oldest" and others.
func WithOnFull(policy string) Option {
	return setting{"on_full", policy}
}

// WithMaxAttempts sets how often a job may run in all, unless the job or its kind says otherwise.
func WithMaxAttempts(attempts int) Option {
	return setting{"max_attempts", attemptsText(attempts)}
}

// WithRetry sets the pause between attempts, for example "exponential(1s, cap=5m, jitter=0.1)".
func WithRetry(policy string) Option {
	return setting{"retry", policy}
}

// WithTimeout sets how long one attempt may take, unless the job or its kind says otherwise.
func WithTimeout(d time.Duration) Option {
	return setting{"timeout", durationText(d)}
}

// WithGrace sets how long running jobs are waited for when [Dispatcher.Run] ends: 30 seconds if it is not said.
func WithGrace(d time.Duration) Option {
	return setting{"grace", durationText(d)}
}

// WithDurability sets what an accepted job survives unless its push says otherwise.
func WithDurability(level Durability) Option {
	return setting{"durability", level.String()}
}

// KindOption says how jobs of a kind are run: see [Dispatcher.Handle].
type KindOption interface{ applyKind(*kindSettings) }

// kindSettings are the options of a kind, as in a URL.
type kindSettings struct {
	text []string
}

type kindSetting setting

func (s kindSetting) applyKind(to *kindSettings) {
	to.text = append(to.text, s.name+"="+s.value)
}

func (s kindSettings) String() string {
	return strings.Join(s.text, "&")
}

// KindSetting sets any option of a kind by its name, in the form that docs/configuration.md has for its value:
//
//	forebay.KindSetting("breaker", "failures(5, open=30s)")
func KindSetting(name, value string) KindOption {
	return kindSetting{name, value}
}

// Concurrency sets the most jobs of the kind that run at once.
func Concurrency(jobs int) KindOption {
	return kindSetting{"concurrency", strconv.Itoa(jobs)}
}

// MaxAttempts sets how often a job of the kind may run in all, unless its push said; [Unlimited] is without limit.
func MaxAttempts(attempts int) KindOption {
	return kindSetting{"max_attempts", attemptsText(attempts)}
}

// Retry sets the pause between attempts of the kind, unless the push said, for example "constant(5s)".
func Retry(policy string) KindOption {
	return kindSetting{"retry", policy}
}

// Timeout sets how long one attempt of the kind may take, unless the push said. Then the context of the handler is
// cancelled and its answer counts no more.
func Timeout(d time.Duration) KindOption {
	return kindSetting{"timeout", durationText(d)}
}

// Rate sets how fast jobs of the kind start, for example "100/s" or "6000/m burst=20".
func Rate(rate string) KindOption {
	return kindSetting{"rate", rate}
}

func attemptsText(attempts int) string {
	if attempts == Unlimited {
		return "unlimited"
	}
	return strconv.Itoa(attempts)
}

// durationText is a duration in the form of the options, which know no fractions and no units below 1 ms.
func durationText(d time.Duration) string {
	return fmt.Sprintf("%dms", milliseconds(d))
}

// milliseconds rounds up, so that what is more than nothing stays so.
func milliseconds(d time.Duration) int64 {
	if d > 0 {
		d += time.Millisecond - 1
	}
	return d.Milliseconds()
}

// Durability is what an accepted job survives; a higher one survives all that a lower one does. 0 leaves it to the
// option durability.
type Durability int32

// What an accepted job survives.
const (
	// InMemory is lost with the process, unless it is written before.
	InMemory Durability = C.FBY_DURABILITY_MEMORY
	// InOS survives the end of the process, kill -9 too; a power cut may take it.
	InOS Durability = C.FBY_DURABILITY_OS
	// OnDisk survives a power cut.
	OnDisk Durability = C.FBY_DURABILITY_DISK
)

// String is the name of the level as in the options: "memory", "os" or "disk".
func (d Durability) String() string {
	switch d {
	case InMemory:
		return "memory"
	case InOS:
		return "os"
	case OnDisk:
		return "disk"
	}
	return "default"
}

// State says where a job stands.
type State int32

// Where a job may stand. From [Succeeded] on it is over.
const (
	Blocked   State = C.FBY_STATE_BLOCKED
	Scheduled State = C.FBY_STATE_SCHEDULED
	Queued    State = C.FBY_STATE_QUEUED
	Running   State = C.FBY_STATE_RUNNING
	Succeeded State = C.FBY_STATE_SUCCEEDED
	Failed    State = C.FBY_STATE_FAILED
	Cancelled State = C.FBY_STATE_CANCELLED
	Expired   State = C.FBY_STATE_EXPIRED
	Shed      State = C.FBY_STATE_SHED
)

// String is the name of the state, for example "succeeded".
func (s State) String() string {
	return C.GoString(C.fby_state_name(C.fby_state(s)))
}

// Final is whether a job in this state is over.
func (s State) Final() bool {
	return s >= Succeeded
}

// Package forebaytest is for tests of programs that push jobs and handle them: a dispatcher in memory whose clock the
// test moves, that runs what is due when it is told to, and shows what was pushed. No test has to sleep.
//
//	func TestReminder(t *testing.T) {
//		d := forebaytest.New(t)
//		app := NewApp(d.Dispatcher) // registers its handlers, and pushes
//		app.SignUp("ada@example.com")
//		forebaytest.RequirePushed(t, d.Dispatcher, "remind")
//		d.Advance(24 * time.Hour)
//		d.RunDue()
//		// ... the reminder was sent
//	}
package forebaytest

import (
	"context"
	"slices"
	"testing"
	"time"

	"forebay.dev/forebay"
)

// limit is how long anything may take that a test waits for.
const limit = time.Minute

// Dispatcher is a dispatcher in memory with a manual clock. The program under test is given the one inside.
type Dispatcher struct {
	*forebay.Dispatcher
	t testing.TB
}

// New opens a dispatcher that the end of the test closes. Its clock stands still until [Dispatcher.Advance].
func New(t testing.TB, options ...forebay.Option) *Dispatcher {
	t.Helper()
	d, err := forebay.Open("memory:?clock=manual", options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return &Dispatcher{d, t}
}

// Advance moves the clock, and returns when everything that has become due has been done: jobs that were scheduled are
// queued, expired ones have expired, attempts that took too long were told so. It runs no handler: [Dispatcher.RunDue]
// does.
func (d *Dispatcher) Advance(by time.Duration) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := d.Dispatcher.Advance(ctx, by); err != nil {
		d.t.Fatal(err)
	}
}

// Now is the present instant of the clock.
func (d *Dispatcher) Now() time.Time {
	d.t.Helper()
	now, err := d.Dispatcher.Now(context.Background())
	if err != nil {
		d.t.Fatal(err)
	}
	return now
}

// RunDue runs the handlers of the jobs that may start now, and of those that these push, and returns when none is
// left. What is scheduled for later, retries among them, needs [Dispatcher.Advance] first. Jobs of kinds without a
// handler are left alone; so are those of queues that are paused.
func (d *Dispatcher) RunDue() {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := d.Run(ctx, forebay.UntilIdle()); err != nil {
		d.t.Fatal(err)
	}
}

// Pushed lists the jobs of a kind that were pushed, the first one first, wherever they stand.
func Pushed(t testing.TB, d *forebay.Dispatcher, kind string) []forebay.JobInfo {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var jobs []forebay.JobInfo
	for job, err := range d.Jobs(ctx, forebay.Filter{Kind: kind}) {
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, job)
	}
	slices.Reverse(jobs)
	return jobs
}

// RequirePushed fails the test unless exactly one job of the kind was pushed that is as all of the checks want it,
// and returns it. Jobs that are over count too, as long as they are kept.
func RequirePushed(t testing.TB, d *forebay.Dispatcher, kind string, checks ...func(forebay.JobInfo) bool) forebay.JobInfo {
	t.Helper()
	all := Pushed(t, d, kind)
	found := matching(all, checks)
	if len(found) != 1 {
		t.Fatalf("%d jobs of kind %q were pushed, %d of them as wanted; there must be 1", len(all), kind, len(found))
	}
	return found[0]
}

// RequireNotPushed fails the test if a job of the kind was pushed that is as all of the checks want it.
func RequireNotPushed(t testing.TB, d *forebay.Dispatcher, kind string, checks ...func(forebay.JobInfo) bool) {
	t.Helper()
	if found := matching(Pushed(t, d, kind), checks); len(found) > 0 {
		t.Fatalf("%d jobs of kind %q were pushed that must not be: %v", len(found), kind, found[0].ID)
	}
}

func matching(jobs []forebay.JobInfo, checks []func(forebay.JobInfo) bool) (found []forebay.JobInfo) {
	for _, job := range jobs {
		fits := true
		for _, check := range checks {
			fits = fits && check(job)
		}
		if fits {
			found = append(found, job)
		}
	}
	return found
}

// InQueue checks the queue of a job.
func InQueue(queue string) func(forebay.JobInfo) bool {
	return func(job forebay.JobInfo) bool { return job.Queue == queue }
}

// InState checks where a job stands.
func InState(state forebay.State) func(forebay.JobInfo) bool {
	return func(job forebay.JobInfo) bool { return job.State == state }
}

// WithKey checks the idempotency key of a job.
func WithKey(key string) func(forebay.JobInfo) bool {
	return func(job forebay.JobInfo) bool { return job.Key == key }
}

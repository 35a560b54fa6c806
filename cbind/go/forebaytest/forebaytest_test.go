package forebaytest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"forebay.dev/forebay"
	"forebay.dev/forebay/forebaytest"
)

// record is a testing.TB that only notes a failure.
type record struct {
	testing.TB
	failed string
}

func (r *record) Helper() {}

func (r *record) Fatalf(format string, args ...any) {
	r.failed = fmt.Sprintf(format, args...)
	panic(r)
}

// fails says with what a check fails.
func fails(t *testing.T, check func(t testing.TB)) string {
	r := &record{TB: t}
	func() {
		defer func() { recover() }()
		check(r)
	}()
	return r.failed
}

func TestTimeMovesWhenItIsTold(t *testing.T) {
	d := forebaytest.New(t)
	var seen []string
	handle := func(kind string, handler forebay.Handler) {
		if err := d.Handle(kind, handler, forebay.Retry("constant(1m)")); err != nil {
			t.Fatal(err)
		}
	}
	handle("sign up", func(ctx context.Context, j *forebay.Job) error {
		seen = append(seen, "sign up")
		_, err := d.Push(ctx, forebay.JobSpec{Kind: "remind", Delay: 24 * time.Hour, Key: "ada", Queue: "mail"})
		return err
	})
	handle("remind", func(_ context.Context, j *forebay.Job) error {
		seen = append(seen, fmt.Sprint("remind ", j.Attempt))
		if j.Attempt == 1 {
			return errors.New("no answer")
		}
		return nil
	})
	ctx := context.Background()
	for _, kind := range []string{"sign up", "nobody's"} {
		if _, err := d.Push(ctx, forebay.JobSpec{Kind: kind}); err != nil {
			t.Fatal(err)
		}
	}
	forebaytest.RequireNotPushed(t, d.Dispatcher, "remind")
	begun := d.Now()
	d.RunDue()
	job := forebaytest.RequirePushed(t, d.Dispatcher, "remind", forebaytest.InQueue("mail"), forebaytest.WithKey("ada"),
		forebaytest.InState(forebay.Scheduled))
	if at := job.RunAt.Sub(begun); at != 24*time.Hour {
		t.Error(at)
	}
	for _, by := range []time.Duration{23 * time.Hour, time.Hour, 30 * time.Second, 30 * time.Second} {
		d.Advance(by)
		d.RunDue()
	}
	if want := []string{"sign up", "remind 1", "remind 2"}; !slices.Equal(seen, want) {
		t.Error(seen)
	}
	forebaytest.RequirePushed(t, d.Dispatcher, "nobody's", forebaytest.InState(forebay.Queued))
	if moved := d.Now().Sub(begun); moved != 24*time.Hour+time.Minute {
		t.Error(moved)
	}
}

func TestChecksFail(t *testing.T) {
	d := forebaytest.New(t)
	for range 2 {
		if _, err := d.Push(context.Background(), forebay.JobSpec{Kind: "mail"}); err != nil {
			t.Fatal(err)
		}
	}
	for want, check := range map[string]func(t testing.TB){
		`2 jobs of kind "mail" were pushed, 2 of them as wanted; there must be 1`: func(t testing.TB) {
			forebaytest.RequirePushed(t, d.Dispatcher, "mail")
		},
		`2 jobs of kind "mail" were pushed, 0 of them as wanted; there must be 1`: func(t testing.TB) {
			forebaytest.RequirePushed(t, d.Dispatcher, "mail", forebaytest.InState(forebay.Running))
		},
		`0 jobs of kind "post" were pushed, 0 of them as wanted; there must be 1`: func(t testing.TB) {
			forebaytest.RequirePushed(t, d.Dispatcher, "post")
		},
	} {
		if got := fails(t, check); got != want {
			t.Errorf("%q", got)
		}
	}
	if fails(t, func(t testing.TB) { forebaytest.RequireNotPushed(t, d.Dispatcher, "mail") }) == "" {
		t.Error("it was pushed")
	}
}

package forebay_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"forebay.dev/forebay"
)

func TestWhatIsKnownOfAJob(t *testing.T) {
	d := open(t, "memory:?clock=manual(1000)")
	pushed, err := d.Push(in(t), forebay.JobSpec{
		Kind: "mail", Queue: "slow", Key: "k", ConcurrencyKey: "c", Priority: 3, MaxAttempts: 7,
		Delay: time.Minute, Timeout: time.Second, ExpiresAfter: time.Hour,
	})
	ok(t, err)
	job, err := d.Get(in(t), pushed.ID)
	ok(t, err)
	equal(t, fmt.Sprint(job.ID, job.Kind, job.Queue, job.Key, job.ConcurrencyKey, job.State),
		fmt.Sprint(pushed.ID, "mail", "slow", "k", "c", forebay.Scheduled))
	equal(t, fmt.Sprint(job.Priority, job.MaxAttempts, job.Attempt, job.Timeout), "3 7 0 1s")
	equal(t, job.Created, time.UnixMilli(1000))
	equal(t, job.RunAt, time.UnixMilli(61_000))
	equal(t, job.Deadline, time.UnixMilli(1000).Add(time.Hour))
	equal(t, job.Started.IsZero() && job.Finished.IsZero() && job.Failure == nil, true)
	why, err := d.Explain(in(t), pushed.ID)
	ok(t, err)
	equal(t, strings.Contains(why, "scheduled"), true)
	_, err = d.Get(in(t), forebay.ID{1})
	equal(t, errors.Is(err, forebay.ErrNotFound), true)
	ok(t, d.Advance(in(t), time.Minute))
	state, err := d.State(in(t), pushed.ID)
	ok(t, err)
	equal(t, state, forebay.Queued)
	now, err := d.Now(in(t))
	ok(t, err)
	equal(t, now, time.UnixMilli(61_000))
}

func TestAFailureIsKnownWithItsAttempts(t *testing.T) {
	d := open(t, "memory:?retry=none")
	handle(t, d, "fails", func(context.Context, *forebay.Job) error { return errors.New("no luck") }, forebay.MaxAttempts(2))
	run(t, d)
	id := push(t, d, "fails", "")
	_, err := d.Wait(in(t), id)
	equal(t, errors.Is(err, forebay.ErrJobFailed), true)
	job, err := d.Get(in(t), id)
	ok(t, err)
	equal(t, fmt.Sprint(job.State, job.Attempt, len(job.History)), fmt.Sprint(forebay.Failed, 2, 2))
	equal(t, *job.Failure, forebay.Failure{Kind: "error", Message: "no luck"})
	equal(t, *job.History[0].Failure, *job.Failure)
	again, err := d.Retry(in(t), id)
	ok(t, err)
	equal(t, again != id, true)
	other, err := d.RetryWith(in(t), id, []byte("another"), "text/plain")
	equal(t, errors.Is(err, forebay.ErrConflict), true)
	equal(t, other.IsZero(), true)
}

func TestJobsAreListedInPages(t *testing.T) {
	d := open(t, "memory:")
	var ids []forebay.ID
	for i := range 25 {
		pushed, err := d.Push(in(t), forebay.JobSpec{Kind: fmt.Sprint("kind", i%2), Queue: "a"})
		ok(t, err)
		ids = append(ids, pushed.ID)
	}
	push(t, d, "other", "")
	var seen []forebay.ID
	for job, err := range d.Jobs(in(t), forebay.Filter{Queue: "a", PageSize: 4}) {
		ok(t, err)
		seen = append(seen, job.ID)
	}
	equal(t, len(seen), len(ids))
	for i, id := range seen {
		equal(t, id, ids[len(ids)-1-i])
	}
	_, err := d.Cancel(in(t), ids[0])
	ok(t, err)
	count, err := d.Count(in(t), forebay.Filter{Kind: "kind0", States: []forebay.State{forebay.Queued, forebay.Running}})
	ok(t, err)
	equal(t, count, 12)
	for job, err := range d.Jobs(in(t), forebay.Filter{States: []forebay.State{forebay.Cancelled}}) {
		ok(t, err)
		equal(t, job.ID, ids[0])
	}
	for _, err := range d.Jobs(in(t), forebay.Filter{PageSize: 10_001}) {
		equal(t, errors.Is(err, forebay.ErrInvalid), true)
	}
	for _, err := range d.Jobs(in(t), forebay.Filter{States: []forebay.State{99}}) {
		equal(t, errors.Is(err, forebay.ErrInvalid), true)
	}
}

func TestQueuesAreLookedAtAndChanged(t *testing.T) {
	d := open(t, "memory:")
	ok(t, d.ConfigureQueue(in(t), "q", "capacity", "2"))
	equal(t, errors.Is(d.ConfigureQueue(in(t), "q", "capacty", "2"), forebay.ErrNotFound), true)
	options, err := d.QueueOptions(in(t), "q")
	ok(t, err)
	equal(t, options["capacity"], "2")
	equal(t, options["rate"], "default")
	ok(t, d.Pause(in(t), "q"))
	for range 2 {
		_, err := d.Push(in(t), forebay.JobSpec{Kind: "k", Queue: "q"})
		ok(t, err)
	}
	_, err = d.Push(in(t), forebay.JobSpec{Kind: "k", Queue: "q"})
	equal(t, errors.Is(err, forebay.ErrFull), true)
	pressure, err := d.Pressure(in(t), "q")
	ok(t, err)
	equal(t, pressure, 1)
	waiting, err := d.Len(in(t), "q")
	ok(t, err)
	equal(t, waiting, 2)
	why, err := d.ExplainQueue(in(t), "q")
	ok(t, err)
	equal(t, strings.Contains(why, "paused"), true)
	stats, err := d.Stats(in(t))
	ok(t, err)
	queue := stats.Queue("q")
	equal(t, fmt.Sprint(queue.Paused, queue.Queued, queue.Capacity, queue.Totals["pushed"], stats.Queue("nobody")), "true 2 2 2 <nil>")
	metrics, err := d.Metrics(in(t))
	ok(t, err)
	equal(t, strings.Contains(metrics, `queue="q"`), true)
	ok(t, d.Resume(in(t), "q"))
	purged, err := d.Purge(in(t), "q")
	ok(t, err)
	equal(t, purged, 2)
}

func TestADumpIsRestored(t *testing.T) {
	path := t.TempDir() + "/dump"
	d := open(t, "memory:")
	for range 3 {
		push(t, d, "k", "payload")
	}
	report, err := d.Dump(in(t), path)
	ok(t, err)
	equal(t, report, forebay.DumpReport{Jobs: 3})
	other := open(t, "memory:")
	report, err = other.Restore(in(t), path)
	ok(t, err)
	equal(t, report, forebay.DumpReport{Jobs: 3})
	report, err = other.Restore(in(t), path)
	ok(t, err)
	equal(t, report, forebay.DumpReport{Known: 3})
	_, err = other.Restore(in(t), path+".none")
	equal(t, errors.Is(err, forebay.ErrNotFound), true)
	reached, err := other.Flush(in(t))
	ok(t, err)
	equal(t, reached, forebay.InMemory)
}

func TestJobsArePassedOn(t *testing.T) {
	url := "sqlite:" + t.TempDir() + "/there.db"
	d := open(t, "memory:")
	forwarder, err := d.Forward(in(t), "outbox", url, "inbox", "batch=2")
	ok(t, err)
	for range 5 {
		_, err := d.Push(in(t), forebay.JobSpec{Kind: "k", Queue: "outbox"})
		ok(t, err)
	}
	ok(t, d.Drain(in(t)))
	ok(t, forwarder.Stop(in(t)))
	ok(t, d.Close())
	equal(t, errors.Is(forwarder.Stop(in(t)), forebay.ErrClosed), true)
	there := open(t, url)
	waiting, err := there.Len(in(t), "inbox")
	ok(t, err)
	equal(t, waiting, 5)
}

func TestDrainEndsWithItsContext(t *testing.T) {
	d := open(t, "memory:")
	push(t, d, "nobody runs it", "")
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	equal(t, errors.Is(d.Drain(ctx), context.DeadlineExceeded), true)
	equal(t, errors.Is(d.Advance(in(t), time.Second), forebay.ErrUnsupported), true)
}

package forebay_test

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"forebay.dev/forebay"
)

// consume makes a consumer that the end of the test closes.
func consume(t testing.TB, d *forebay.Dispatcher, options forebay.ConsumerOptions) *forebay.Consumer {
	t.Helper()
	consumer, err := d.Consumer(options)
	ok(t, err)
	t.Cleanup(consumer.Close)
	return consumer
}

// take takes the next job, which must be there.
func take(t testing.TB, from *forebay.Consumer) *forebay.Delivery {
	t.Helper()
	found, err := from.TryPoll(1)
	ok(t, err)
	equal(t, len(found), 1)
	return found[0]
}

func TestAJobIsAskedForAndAnswered(t *testing.T) {
	d := open(t, "memory:")
	pushed, err := d.Push(in(t), forebay.JobSpec{
		Kind: "mail", Payload: []byte("hello"), Key: "k1", Headers: []forebay.Header{{Name: "trace", Value: "7"}},
	})
	ok(t, err)
	job := take(t, consume(t, d, forebay.ConsumerOptions{Kinds: []string{"mail"}, Lease: time.Minute}))
	equal(t, job.ID, pushed.ID)
	equal(t, string(job.Payload), "hello")
	equal(t, job.Key, "k1")
	trace, _ := job.Header("trace")
	equal(t, trace, "7")
	equal(t, job.Due.IsZero(), false)
	equal(t, job.Err(), nil)
	ok(t, job.SetJSON(map[string]int{"sent": 1}))
	ok(t, job.Finish(in(t), nil))
	result, err := forebay.WaitResult[map[string]int](in(t), d, pushed.ID)
	ok(t, err)
	equal(t, result["sent"], 1)
	equal(t, errors.Is(job.Finish(in(t), nil), forebay.ErrStale), true)
}

func TestAPollWaitsForTheFirst(t *testing.T) {
	d := open(t, "memory:")
	consumer := consume(t, d, forebay.ConsumerOptions{})
	found := make(chan *forebay.Delivery, 1)
	go func() {
		jobs, err := consumer.Poll(in(t), 8)
		if err != nil || len(jobs) != 1 {
			t.Errorf("%d jobs, %v", len(jobs), err)
			close(found)
			return
		}
		found <- jobs[0]
	}()
	push(t, d, "k", "late")
	job := receive(t, found)
	equal(t, string(job.Payload), "late")
	ok(t, job.Finish(in(t), nil))
}

func TestAPollEndsWithItsContextAndWithTheDispatcher(t *testing.T) {
	d := open(t, "memory:")
	consumer := consume(t, d, forebay.ConsumerOptions{})
	short, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_, err := consumer.Poll(short, 1)
	equal(t, errors.Is(err, context.DeadlineExceeded), true)
	ended := make(chan error, 1)
	go func() {
		_, err := consumer.Poll(in(t), 1)
		ended <- err
	}()
	ok(t, d.Close())
	equal(t, errors.Is(receive(t, ended), forebay.ErrClosed), true)
	consumer.Close()
	consumer.Close()
	_, err = consumer.TryPoll(1)
	equal(t, errors.Is(err, forebay.ErrInvalid), true)
}

// What the end of a context has begun comes to its poll's end or after it: the next poll must not end by that.
func TestAPollDoesNotEndWithTheContextOfAFormerOne(t *testing.T) {
	d := open(t, "memory:")
	consumer := consume(t, d, forebay.ConsumerOptions{})
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for range 100 {
		push(t, d, "k", "")
		first, err := consumer.Poll(ended, 1)
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		pushed := make(chan struct{})
		if len(first) > 0 {
			go func() {
				defer close(pushed)
				runtime.Gosched()
				push(t, d, "k", "")
			}()
		} else {
			close(pushed)
		}
		second, err := consumer.Poll(in(t), 1)
		ok(t, err)
		receive(t, pushed)
		for _, job := range append(first, second...) {
			ok(t, job.Finish(in(t), nil))
		}
	}
}

func TestSuccessorsComeWithTheAnswerOrNotAtAll(t *testing.T) {
	d := open(t, "memory:")
	consumer := consume(t, d, forebay.ConsumerOptions{})
	id := push(t, d, "k", "")
	job := take(t, consumer)
	err := job.Finish(in(t), nil, forebay.JobSpec{Kind: "next"}, forebay.JobSpec{Kind: ""})
	equal(t, errors.Is(err, forebay.ErrInvalid), true)
	state, err := d.State(in(t), id)
	ok(t, err)
	equal(t, state, forebay.Running)
	ok(t, job.Finish(in(t), nil, forebay.JobSpec{Kind: "next", Payload: []byte("1")}))
	next := take(t, consumer)
	equal(t, next.Kind, "next")
	ok(t, next.Finish(in(t), forebay.Fatal(errors.New("enough"))))
}

func TestOfManyAnswersOneCounts(t *testing.T) {
	d := open(t, "memory:")
	consumer := consume(t, d, forebay.ConsumerOptions{})
	for range 200 {
		push(t, d, "k", "")
		job := take(t, consumer)
		var won atomic.Int32
		var crew crew
		for range 8 {
			crew.run(func() {
				if job.Finish(context.Background(), nil) == nil {
					won.Add(1)
				}
			})
		}
		crew.Wait()
		equal(t, won.Load(), 1)
	}
}

func TestADeliveryHearsThatItShouldStop(t *testing.T) {
	d := open(t, "memory:", forebay.WithOption("clock", "manual"))
	consumer := consume(t, d, forebay.ConsumerOptions{Lease: 10 * time.Second})
	id := push(t, d, "k", "")
	job := take(t, consumer)
	ok(t, d.Advance(in(t), 9*time.Second))
	ok(t, job.Extend(in(t), 10*time.Second))
	ok(t, d.Advance(in(t), 9*time.Second))
	equal(t, job.Err(), nil)
	_, err := d.Cancel(in(t), id)
	ok(t, err)
	equal(t, job.Err(), forebay.ErrCancelled)
	ok(t, d.Advance(in(t), time.Second))
	equal(t, errors.Is(job.Extend(in(t), time.Second), forebay.ErrStale), true)
	ok(t, d.Close())
	equal(t, job.Err(), forebay.ErrLeaseLost)
}

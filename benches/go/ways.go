package main

import (
	"context"
	"log"
	"sync/atomic"

	"forebay.dev/forebay"
)

// batch is how many jobs travel together where jobs travel together.
const batch = 64

// contender is something that runs jobs.
type contender interface {
	// produce pushes so many jobs. Several goroutines do so at once.
	produce(jobs int)
	// settle returns when so many more jobs have run.
	settle(jobs int)
}

// ways are the contenders by name.
var ways = map[string]func(shape) contender{
	"channel":         func(s shape) contender { return openPool(s) },
	"channel-batches": func(s shape) contender { return openBatches(s) },
	"push":            func(s shape) contender { return openForebay(s, "memory:", 1) },
	"push-many-64":    func(s shape) contender { return openForebay(s, "memory:", 64) },
	"push-many-256":   func(s shape) contender { return openForebay(s, "memory:", 256) },
	"disk":            func(s shape) contender { return openForebay(s, "sqlite:"+s.file, 1) },
	"disk-many-1000":  func(s shape) contender { return openForebay(s, "sqlite:"+s.file, 1000) },
}

// seen keeps the compiler from leaving out the look at a payload.
var seen atomic.Uint32

// touch is what every handler does: it looks at both ends of the payload.
func touch(payload []byte) {
	if payload[0] != payload[len(payload)-1] {
		seen.Add(1)
	}
}

func payload(s shape) []byte {
	bytes := make([]byte, s.payload)
	for i := range bytes {
		bytes[i] = 7
	}
	return bytes
}

// pool is goroutines that take jobs from a channel. It keeps nothing of them, and each counts for itself.
type pool struct {
	roll
	jobs    chan []byte
	payload []byte
}

func openPool(s shape) *pool {
	p := &pool{roll: openRoll(s), jobs: make(chan []byte, s.capacity), payload: payload(s)}
	for range s.workers {
		go func() {
			ran := 0
			for job := range p.jobs {
				if job == nil {
					p.report(&ran)
					continue
				}
				touch(job)
				ran++
			}
		}()
	}
	return p
}

func (p *pool) produce(jobs int) {
	for range jobs {
		p.jobs <- append([]byte(nil), p.payload...)
	}
}

func (p *pool) settle(jobs int) {
	p.call(jobs, func() { p.jobs <- nil })
}

// roll is how the workers of a pool are asked how many jobs they have run: each gets one empty message, behind all
// jobs, and gets no other before all have answered.
type roll struct {
	workers int
	reports chan int
	resume  chan struct{}
}

func openRoll(s shape) roll {
	return roll{workers: s.workers, reports: make(chan int), resume: make(chan struct{})}
}

func (r *roll) report(ran *int) {
	r.reports <- *ran
	*ran = 0
	<-r.resume
}

func (r *roll) call(jobs int, ask func()) {
	for range r.workers {
		ask()
	}
	ran := 0
	for range r.workers {
		ran += <-r.reports
	}
	for range r.workers {
		r.resume <- struct{}{}
	}
	expect(ran, jobs)
}

// batches is the same with 64 jobs per message, for who may wait for as many to come together.
type batches struct {
	roll
	jobs    chan [][]byte
	payload []byte
}

func openBatches(s shape) *batches {
	b := &batches{roll: openRoll(s), jobs: make(chan [][]byte, max(s.capacity/batch, 1)), payload: payload(s)}
	for range s.workers {
		go func() {
			ran := 0
			for jobs := range b.jobs {
				if jobs == nil {
					b.report(&ran)
					continue
				}
				for _, job := range jobs {
					touch(job)
				}
				ran += len(jobs)
			}
		}()
	}
	return b
}

func (b *batches) produce(jobs int) {
	for left := jobs; left > 0; left -= batch {
		some := make([][]byte, min(left, batch))
		for i := range some {
			some[i] = append([]byte(nil), b.payload...)
		}
		b.jobs <- some
	}
}

func (b *batches) settle(jobs int) {
	b.call(jobs, func() { b.jobs <- nil })
}

// queue is Forebay: with an id, a state, attempts and times for every job, and an outcome that is stored.
type queue struct {
	d       *forebay.Dispatcher
	payload []byte
	many    int
	// ran is counted in several lines, as goroutines have no place of their own.
	ran [64]struct {
		count atomic.Int64
		_     [120]byte
	}
}

func openForebay(s shape, url string, many int) *queue {
	d, err := forebay.Open(url, forebay.WithConcurrency(s.workers), forebay.WithCapacity(0),
		forebay.WithDurability(forebay.OnDisk))
	check(err)
	q := &queue{d: d, payload: payload(s), many: many}
	check(d.Handle("noop", func(_ context.Context, job *forebay.Job) error {
		touch(job.Payload)
		q.ran[job.ID[15]%64].count.Add(1)
		return nil
	}))
	go func() { check(d.Run(context.Background())) }()
	return q
}

func (q *queue) produce(jobs int) {
	ctx, spec := context.Background(), forebay.JobSpec{Kind: "noop", Payload: q.payload}
	if q.many == 1 {
		for range jobs {
			_, err := q.d.Push(ctx, spec)
			check(err)
		}
		return
	}
	some := make([]forebay.JobSpec, q.many)
	for left := jobs; left > 0; left -= len(some) {
		some = some[:min(left, q.many)]
		for i := range some {
			some[i] = spec
		}
		_, err := q.d.PushMany(ctx, some)
		check(err)
	}
}

// settle waits until all outcomes are stored.
func (q *queue) settle(jobs int) {
	check(q.d.Drain(context.Background()))
	ran := 0
	for i := range q.ran {
		ran += int(q.ran[i].count.Swap(0))
	}
	expect(ran, jobs)
}

func expect(ran, jobs int) {
	if ran != jobs {
		log.Fatalf("%d of %d jobs have run", ran, jobs)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

package main

import (
	"context"
	"log"
	"slices"
	"sync/atomic"
	"time"

	"forebay.dev/forebay"
)

// pace is between two pushes: a thousand a second.
const pace = time.Millisecond

// stopwatch takes the time from a push to the start of its handler, of one job at a time.
type stopwatch struct {
	base   time.Time
	pushed atomic.Int64
	took   chan time.Duration
}

func newStopwatch() *stopwatch {
	return &stopwatch{base: time.Now(), took: make(chan time.Duration, 1)}
}

func (s *stopwatch) start() { s.pushed.Store(int64(time.Since(s.base))) }
func (s *stopwatch) stop()  { s.took <- time.Since(s.base) - time.Duration(s.pushed.Load()) }

// latencies measure that at a thousand pushes a second.
var latencies = map[string]func(shape) map[string]float64{
	"latency-channel": func(s shape) map[string]float64 {
		watch, jobs := newStopwatch(), make(chan struct{}, s.capacity)
		for range s.workers {
			go func() {
				for range jobs {
					watch.stop()
				}
			}()
		}
		return watch.measure(s.jobs, func() { jobs <- struct{}{} })
	},
	"latency-push": func(s shape) map[string]float64 {
		d, err := forebay.Open("memory:", forebay.WithConcurrency(s.workers))
		check(err)
		watch := newStopwatch()
		check(d.Handle("timed", func(context.Context, *forebay.Job) error {
			watch.stop()
			return nil
		}))
		go func() { check(d.Run(context.Background())) }()
		return watch.measure(s.jobs, func() {
			_, err := d.Push(context.Background(), forebay.JobSpec{Kind: "timed"})
			check(err)
		})
	},
}

// measure pushes one job after the other.
func (s *stopwatch) measure(jobs int, push func()) map[string]float64 {
	if jobs == 0 {
		log.Fatal("no jobs, no latency")
	}
	took := make([]time.Duration, 0, jobs)
	cpu := processors()
	for next := time.Now(); len(took) < jobs; next = next.Add(pace) {
		time.Sleep(time.Until(next))
		s.start()
		push()
		took = append(took, <-s.took)
	}
	cpu = processors() - cpu
	slices.Sort(took)
	at := func(share float64) float64 { return took[int(share*float64(len(took)-1))].Seconds() * 1e6 }
	return map[string]float64{"p50 µs": at(0.5), "p99 µs": at(0.99), "CPU µs/job": 1e6 * cpu / float64(jobs)}
}

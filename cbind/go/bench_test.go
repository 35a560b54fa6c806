package forebay_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"forebay.dev/forebay"
)

// Jobs that do nothing, pushed in batches by one goroutine while Run works them off: what Forebay itself costs.
func BenchmarkNoop(b *testing.B) {
	for _, concurrency := range []int{8, 256, 1024} {
		b.Run(fmt.Sprint(concurrency), func(b *testing.B) {
			d := open(b, "memory:", forebay.WithConcurrency(concurrency), forebay.WithCapacity(0))
			var ran atomic.Int64
			done := make(chan struct{})
			handle(b, d, "noop", func(context.Context, *forebay.Job) error {
				if ran.Add(1) == int64(b.N) {
					close(done)
				}
				return nil
			})
			run(b, d)
			jobs := make([]forebay.JobSpec, 256)
			for i := range jobs {
				jobs[i] = forebay.JobSpec{Kind: "noop", Payload: make([]byte, 64)}
			}
			b.ResetTimer()
			for left := b.N; left > 0; left -= len(jobs) {
				if _, err := d.PushMany(context.Background(), jobs[:min(left, len(jobs))]); err != nil {
					b.Fatal(err)
				}
			}
			<-done
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}

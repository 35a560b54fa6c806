// The program measures no-op jobs in Go: through Forebay, and through the pool of goroutines behind a channel that a
// Go program would write without it.
//
//	go run . [-producers 2] [-workers 2] [-capacity 1024] [-jobs 500000] [-file FILE] WAY
//
// Every job carries a copy of its own of a payload of 100 bytes, the handler looks at both ends of it, and every run
// is counted. It prints a line of JSON, as the Rust programs do. The names of the ways are in ways.go and latency.go.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"syscall"
	"time"
)

// shape is what the ways have in common.
type shape struct {
	producers, workers, capacity, payload, jobs int
	file                                        string
}

func main() {
	log.SetFlags(0)
	var s shape
	flag.IntVar(&s.producers, "producers", 2, "goroutines that push")
	flag.IntVar(&s.workers, "workers", 2, "goroutines of the pool; how many jobs Forebay runs at once")
	flag.IntVar(&s.capacity, "capacity", 1024, "room in the channel of the pool")
	flag.IntVar(&s.payload, "payload", 100, "bytes per job")
	flag.IntVar(&s.jobs, "jobs", 500_000, "how many jobs are measured, after a quarter as many that are not")
	flag.StringVar(&s.file, "file", "", "the file of a way to the disk, which is not there yet")
	flag.Parse()
	name := flag.Arg(0)
	if latency := latencies[name]; latency != nil {
		write(latency(s))
		return
	}
	way := ways[name]
	if way == nil {
		log.Fatalf("no way is called %q", name)
	}
	write(measure(s, way))
}

// measure runs a way once, after some jobs for warming up.
func measure(s shape, way func(shape) contender) map[string]float64 {
	c := way(s)
	run := func(jobs int) {
		each := jobs / s.producers
		produced := make(chan struct{})
		for range s.producers {
			go func() {
				c.produce(each)
				produced <- struct{}{}
			}()
		}
		for range s.producers {
			<-produced
		}
		c.settle(each * s.producers)
	}
	run(s.jobs / 4)
	jobs := s.jobs / s.producers * s.producers
	start, cpu := time.Now(), processors()
	run(jobs)
	return map[string]float64{
		"jobs":    float64(jobs),
		"seconds": time.Since(start).Seconds(),
		"cpu":     processors() - cpu,
	}
}

// processors is how many seconds of processor this process has had.
func processors() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		log.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

func write(figures map[string]float64) {
	line, err := json.Marshal(figures)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprintln(os.Stdout, string(line))
}

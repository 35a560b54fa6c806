package forebay_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"forebay.dev/forebay"
)

// The stage of a scenario: the dispatcher, and what the labels of its file stand for.

// clockStart is where the clock stands at the beginning.
var clockStart = time.UnixMilli(1_700_000_000_000)

const nobody = "00000000-0000-7000-8000-000000000001"

// place is an engine to run on.
type place struct {
	Engine string   `json:"engine"`
	URL    string   `json:"url"`
	Has    []string `json:"has"`
}

// stage is one scenario on one engine: the dispatcher, and what the labels of the file stand for.
type stage struct {
	t          *testing.T
	place      place
	scratch    string
	options    map[string]string
	advanced   time.Duration
	d          *forebay.Dispatcher
	jobs       map[string]forebay.ID
	deliveries map[string]*forebay.Delivery
}

func (s *stage) filled(text string) string { return strings.ReplaceAll(text, "{scratch}", s.scratch) }

func (s *stage) now() time.Time { return clockStart.Add(s.advanced) }

func (s *stage) open(url string) error {
	options := []forebay.Option{forebay.WithOption("clock", fmt.Sprintf("manual(%d)", s.now().UnixMilli()))}
	for name, value := range s.options {
		options = append(options, forebay.WithOption(name, s.filled(value)))
	}
	d, err := forebay.Open(s.filled(url), options...)
	if err != nil {
		return err
	}
	s.release()
	s.d = d
	return nil
}

func (s *stage) release() {
	if s.d != nil {
		s.d.Close()
	}
	s.d = nil
}

func (s *stage) id(label string) forebay.ID {
	id, known := s.jobs[label]
	if !known && label != "nobody" {
		mistakenf("no job is called %q", label)
	}
	if !known {
		id, _ = forebay.ParseID(nobody)
	}
	return id
}

func (s *stage) job(f fields) forebay.ID {
	var label string
	f.need("job", &label)
	return s.id(label)
}

func (s *stage) delivery(f fields) *forebay.Delivery {
	var label string
	f.need("job", &label)
	delivery := s.deliveries[label]
	if delivery == nil {
		mistakenf("no delivery is called %q", label)
	}
	return delivery
}

func (s *stage) label(id forebay.ID) string {
	for label, known := range s.jobs {
		if known == id {
			return label
		}
	}
	return "?"
}

func (s *stage) name(label string, id forebay.ID) {
	if label != "" && s.label(id) == "?" {
		s.jobs[label] = id
	}
}

// spec is a job to be pushed, and the label it is to have.
func (s *stage) spec(f fields) (spec forebay.JobSpec, label string) {
	spec = forebay.JobSpec{
		Kind: "k", Queue: f.text("queue"), Key: f.text("key"), ConcurrencyKey: f.text("concurrency_key"),
		Retry: f.text("retry"), Priority: f.number("priority", 0), Delay: f.ms("delay_ms"),
		Timeout: f.ms("timeout_ms"), ExpiresAfter: f.ms("expires_ms"),
	}
	label = f.text("as")
	f.take("kind", &spec.Kind)
	spec.Payload, spec.ContentType, _ = payload(f)
	if _, there := f["at_ms"]; there {
		spec.RunAt = s.now().Add(f.ms("at_ms"))
	}
	var most any
	if f.take("max_attempts", &most) {
		if number, is := most.(float64); is {
			spec.MaxAttempts = int(number)
		} else {
			spec.MaxAttempts = forebay.Unlimited
		}
	}
	var headers [][2]string
	f.take("headers", &headers)
	for _, header := range headers {
		spec.Headers = append(spec.Headers, forebay.Header{Name: header[0], Value: header[1]})
	}
	f.take("waits_for", &spec.WaitsFor)
	level := f.text("durability")
	for _, each := range []forebay.Durability{forebay.InMemory, forebay.InOS, forebay.OnDisk} {
		if each.String() == level {
			spec.Durability = each
		}
	}
	var id string
	if f.take("id", &id) {
		known, there := s.jobs[id]
		if !there {
			parsed, err := forebay.ParseID(id)
			if err != nil {
				mistakenf("%v", err)
			}
			known = parsed
		}
		spec.ID = known
		s.name(label, known)
	}
	return spec, label
}

func (s *stage) batch(f fields, name string) (specs []forebay.JobSpec, labels []string) {
	var jobs []fields
	f.take(name, &jobs)
	for _, job := range jobs {
		spec, label := s.spec(job)
		job.end()
		specs, labels = append(specs, spec), append(labels, label)
	}
	return specs, labels
}

func (s *stage) pushed(p forebay.Pushed, label string) answer {
	s.name(label, p.ID)
	var shed any
	if p.Shed != 0 {
		shed = p.Shed.String()
	}
	return answer{"id": s.label(p.ID), "created": !p.Known, "shed": shed, "durability": p.Durability.String()}
}

func (s *stage) delivered(job *forebay.Delivery, label string) answer {
	s.name(label, job.ID)
	known := s.label(job.ID)
	s.deliveries[known] = job
	if label != "" {
		s.deliveries[label] = job
	}
	of := told(job.Payload, job.ContentType)
	of["id"], of["kind"], of["queue"], of["attempt"] = known, job.Kind, job.Queue, job.Attempt
	of["max_attempts"], of["priority"], of["fence"] = attempts(job.MaxAttempts), job.Priority, job.Fence
	of["key"], of["concurrency_key"] = orNull(job.Key), orNull(job.ConcurrencyKey)
	of["headers"], of["due_ms"] = pairs(job.Headers()), nil
	if !job.Due.IsZero() {
		of["due_ms"] = job.Due.Sub(s.now()).Milliseconds()
	}
	return of
}

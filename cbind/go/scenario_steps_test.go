package forebay_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"forebay.dev/forebay"
)

// What the steps of the scenario files do.

func (s *stage) step(name string, f fields) (answer, error) {
	ctx := in(s.t)
	if s.d == nil && name != "open" {
		mistakenf("no dispatcher is open")
	}
	switch name {
	case "push", "push_many", "next", "complete", "extend", "stop_reason":
		return s.work(ctx, name, f)
	case "cancel", "retry", "signal", "state", "get", "result", "explain", "list":
		return s.look(ctx, name, f)
	case "pause", "resume", "purge", "len", "pressure", "stats", "metrics", "explain_queue", "configure_queue",
		"queue_options", "declare", "forward":
		return s.queue(ctx, name, f)
	}
	return s.life(ctx, name, f)
}

// work pushes and works.
func (s *stage) work(ctx context.Context, name string, f fields) (answer, error) {
	switch name {
	case "push":
		spec, label := s.spec(f)
		pushed, err := s.d.Push(ctx, spec)
		if err != nil {
			return nil, err
		}
		return s.pushed(pushed, label), nil
	case "push_many":
		specs, labels := s.batch(f, "jobs")
		pushed, err := s.d.PushMany(ctx, specs)
		of := answer{}
		if err != nil {
			of = failed(err)
		}
		jobs := []answer{}
		for i, one := range pushed {
			jobs = append(jobs, s.pushed(one, labels[i]))
		}
		of["accepted"], of["jobs"] = len(pushed), jobs
		return of, nil
	case "next":
		return s.next(ctx, f)
	case "complete":
		job := s.delivery(f)
		then, _ := s.batch(f, "then")
		result, contentType, err := verdict(f)
		job.SetResult(result, contentType)
		return answer{}, job.Finish(ctx, err, then...)
	case "extend":
		return answer{}, s.delivery(f).Extend(ctx, f.ms("lease_ms"))
	}
	reasons := map[error]any{
		nil: nil, forebay.ErrCancelled: "cancelled", forebay.ErrTimedOut: "timed_out",
		forebay.ErrLeaseLost: "lease_lost", forebay.ErrStopped: "stopping",
	}
	return answer{"reason": reasons[s.delivery(f).Err()]}, nil
}

func (s *stage) next(ctx context.Context, f fields) (answer, error) {
	var options forebay.ConsumerOptions
	f.take("kinds", &options.Kinds)
	f.take("queues", &options.Queues)
	options.Lease = f.ms("lease_ms")
	max, label, wait := f.number("max", 1), f.text("as"), f.ms("wait_ms")
	consumer, err := s.d.Consumer(options)
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	found, err := consumer.TryPoll(max)
	if wait > 0 && err == nil && len(found) == 0 {
		found, err = consumer.Poll(ctx, max)
	}
	ids, jobs := []any{}, []answer{}
	for _, job := range found {
		jobs = append(jobs, s.delivered(job, label))
		ids = append(ids, s.label(job.ID))
	}
	return answer{"ids": ids, "jobs": jobs}, err
}

// look is what is asked and done about single jobs.
func (s *stage) look(ctx context.Context, name string, f fields) (answer, error) {
	switch name {
	case "state":
		var labels []string
		f.need("jobs", &labels)
		states := answer{}
		for _, label := range labels {
			state, err := s.d.State(ctx, s.id(label))
			if err != nil {
				return nil, err
			}
			states[label] = state.String()
		}
		return states, nil
	case "list":
		return s.list(ctx, f)
	}
	id := s.job(f)
	switch name {
	case "cancel":
		state, err := s.d.Cancel(ctx, id)
		return answer{"state": state.String()}, err
	case "retry":
		label := f.text("as")
		input, contentType, given := payload(f)
		again, err := s.d.Retry(ctx, id)
		if given {
			again, err = s.d.RetryWith(ctx, id, input, contentType)
		}
		if err == nil {
			s.name(label, again)
		}
		return answer{"id": s.label(again)}, err
	case "signal":
		var token string
		f.need("token", &token)
		return answer{}, s.d.Signal(ctx, id, token)
	case "get":
		job, err := s.d.Get(ctx, id)
		if err != nil {
			return nil, err
		}
		return s.info(job), nil
	case "result":
		return s.result(ctx, id)
	}
	text, err := s.d.Explain(ctx, id)
	return answer{"text": text}, err
}

func failure(of answer, why *forebay.Failure) answer {
	of["failure_kind"], of["failure"] = nil, nil
	if why != nil {
		of["failure_kind"], of["failure"] = why.Kind, why.Message
	}
	return of
}

func (s *stage) info(job forebay.JobInfo) answer {
	var timeout any
	if job.Timeout != 0 {
		timeout = job.Timeout.Milliseconds()
	}
	history := []answer{}
	for _, attempt := range job.History {
		history = append(history, failure(answer{"number": attempt.Number}, attempt.Failure))
	}
	waits := append([]string{}, job.WaitsFor...)
	return failure(answer{
		"id": s.label(job.ID), "kind": job.Kind, "queue": job.Queue, "state": job.State.String(),
		"priority": job.Priority, "attempt": job.Attempt, "max_attempts": attempts(job.MaxAttempts),
		"crashes": job.Crashes, "key": orNull(job.Key), "concurrency_key": orNull(job.ConcurrencyKey),
		"headers": pairs(job.Headers), "waits_for": waits, "timeout_ms": timeout,
		"cancel_requested": job.CancelRequested, "due_ms": max(0, job.RunAt.Sub(s.now()).Milliseconds()),
		"history": history,
	}, job.Failure)
}

// result is that of a job that is over; one that is not is waited for in vain.
func (s *stage) result(ctx context.Context, id forebay.ID) (answer, error) {
	state, err := s.d.State(ctx, id)
	if err != nil {
		return nil, err
	}
	if !state.Final() {
		short, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		ctx = short
	}
	result, err := s.d.Wait(ctx, id)
	if err != nil {
		return nil, err
	}
	of := told(result.Payload, result.ContentType)
	of["result"] = of["payload"]
	return of, nil
}

func (s *stage) list(ctx context.Context, f fields) (answer, error) {
	filter := forebay.Filter{Queue: f.text("queue"), Kind: f.text("kind"), Key: f.text("key")}
	if _, there := f["created_from_ms"]; there {
		filter.CreatedFrom = clockStart.Add(f.ms("created_from_ms"))
	}
	if _, there := f["created_before_ms"]; there {
		filter.CreatedBefore = clockStart.Add(f.ms("created_before_ms"))
	}
	var states []string
	f.take("states", &states)
	for state := forebay.Blocked; state <= forebay.Shed; state++ {
		if slices.Contains(states, state.String()) {
			filter.States = append(filter.States, state)
		}
	}
	total, err := s.d.Count(ctx, filter)
	if err != nil {
		return nil, err
	}
	var after string
	if f.take("after", &after) {
		filter.After = s.id(after)
	}
	// Pages follow each other by themselves here: this one is cut out of what they show together.
	filter.PageSize = f.number("limit", 20)
	ids := []any{}
	for job, err := range s.d.Jobs(ctx, filter) {
		if err != nil {
			return nil, err
		}
		ids = append(ids, s.label(job.ID))
		if len(ids) == filter.PageSize {
			break
		}
	}
	return answer{"ids": ids, "total": total}, nil
}

func kindOptions(f fields) (all []forebay.KindOption) {
	named := map[string]string{}
	f.take("options", &named)
	for name, value := range named {
		all = append(all, forebay.KindSetting(name, value))
	}
	return all
}

// queue is what is asked and done about queues and kinds.
func (s *stage) queue(ctx context.Context, name string, f fields) (answer, error) {
	switch name {
	case "metrics":
		text, err := s.d.Metrics(ctx)
		return answer{"text": text}, err
	case "declare":
		var kind string
		f.need("kind", &kind)
		return answer{}, s.d.Declare(kind, kindOptions(f)...)
	}
	queue := f.queue()
	switch name {
	case "pause":
		return answer{}, s.d.Pause(ctx, queue)
	case "resume":
		return answer{}, s.d.Resume(ctx, queue)
	case "purge":
		count, err := s.d.Purge(ctx, queue)
		return answer{"count": count}, err
	case "len":
		count, err := s.d.Len(ctx, queue)
		return answer{"len": count}, err
	case "pressure":
		pressure, err := s.d.Pressure(ctx, queue)
		return answer{"pressure": pressure}, err
	case "explain_queue":
		text, err := s.d.ExplainQueue(ctx, queue)
		return answer{"text": text}, err
	case "forward":
		var url string
		f.need("url", &url)
		named, options := map[string]string{}, []string{}
		f.take("options", &named)
		for name, value := range named {
			options = append(options, name+"="+value)
		}
		_, err := s.d.Forward(ctx, queue, s.filled(url), f.text("to_queue"), strings.Join(options, "&"))
		return answer{}, err
	case "configure_queue":
		options := map[string]string{}
		f.need("options", &options)
		for name, value := range options {
			if err := s.d.ConfigureQueue(ctx, queue, name, value); err != nil {
				return nil, err
			}
		}
		return answer{}, nil
	case "queue_options":
		options, err := s.d.QueueOptions(ctx, queue)
		of := answer{}
		for name, value := range options {
			of[name] = value
		}
		return of, err
	}
	stats, err := s.d.Stats(ctx)
	if err != nil {
		return nil, err
	}
	counts := stats.Queue(queue)
	if counts == nil {
		mistakenf("no queue is called %q", queue)
	}
	of := answer{
		"capacity": counts.Capacity, "paused": counts.Paused, "blocked": counts.Blocked, "shed": counts.Shed,
		"scheduled": counts.Scheduled, "queued": counts.Queued, "running": counts.Running, "kept": counts.Kept,
		"pressure": counts.Pressure,
	}
	for name, count := range counts.Totals {
		of[name] = count
	}
	return of, nil
}

// life is what is asked and done about the dispatcher.
func (s *stage) life(ctx context.Context, name string, f fields) (answer, error) {
	file := func() string {
		var name string
		f.need("file", &name)
		return filepath.Join(s.scratch, name)
	}
	switch name {
	case "open":
		var options map[string]string
		if f.take("options", &options) {
			s.options = options
		}
		url := s.place.URL
		f.take("url", &url)
		return answer{}, s.open(url)
	case "handle":
		return answer{}, s.handle(f)
	case "start":
		run(s.t, s.d)
	case "drain":
		return answer{}, s.d.Drain(ctx)
	case "dump":
		report, err := s.d.Dump(ctx, file())
		return answer{"jobs": report.Jobs}, err
	case "restore":
		report, err := s.d.Restore(ctx, file())
		return answer{"jobs": report.Jobs}, err
	case "cut":
		path := file()
		info, err := os.Stat(path)
		ok(s.t, err)
		ok(s.t, os.Truncate(path, info.Size()/2))
	case "flush":
		reached, err := s.d.Flush(ctx)
		return answer{"durability": reached.String()}, err
	case "request_stop":
		s.d.RequestStop()
	case "stop":
		now, cancel := context.WithCancel(ctx)
		cancel()
		report, err := s.d.Shutdown(now)
		return answer{"handed_back": report.HandedBack, "waiting": report.Waiting}, err
	case "release":
		s.release()
	case "advance":
		by := f.ms("ms")
		s.advanced += by
		return answer{}, s.d.Advance(ctx, by)
	default:
		mistakenf("unknown step %q", name)
	}
	return answer{}, nil
}

// handle registers a handler that says for each attempt what the file has for it.
func (s *stage) handle(f fields) error {
	var kind string
	var answers []json.RawMessage
	f.need("kind", &kind)
	f.need("answers", &answers)
	return s.d.Handle(kind, func(_ context.Context, job *forebay.Job) error {
		var said fields
		if err := json.Unmarshal(answers[min(len(answers), job.Attempt)-1], &said); err != nil {
			return forebay.Fatal(err)
		}
		result, contentType, err := verdict(said)
		said.end()
		job.SetResult(result, contentType)
		return err
	}, kindOptions(f)...)
}

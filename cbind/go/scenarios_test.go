package forebay_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"forebay.dev/forebay"
)

// The scenario files of tests/scenarios, run in Go on every engine; their README tells what they say. The runners of
// the other languages have the same parts.

const scenarios = "../../tests/scenarios"

// clockStart is where the clock stands at the beginning.
var clockStart = time.UnixMilli(1_700_000_000_000)

const nobody = "00000000-0000-7000-8000-000000000001"

// mistake is what a file says that cannot be done.
type mistake string

func (m mistake) Error() string { return string(m) }

func mistakenf(format string, args ...any) { panic(mistake(fmt.Sprintf(format, args...))) }

// answer is what comes of a step.
type answer map[string]any

// ---- fields -----------------------------------------------------------------------------------------------

// fields are those of a step, taken out one by one: what is left over is not known to this runner.
type fields map[string]json.RawMessage

// take reads a field into to, if it is there, and says whether it is.
func (f fields) take(name string, to any) bool {
	raw, there := f[name]
	delete(f, name)
	if there {
		if err := json.Unmarshal(raw, to); err != nil {
			mistakenf("field %q: %v", name, err)
		}
	}
	return there
}

func (f fields) need(name string, to any) {
	if !f.take(name, to) {
		mistakenf("field %q is missing", name)
	}
}

func (f fields) text(name string) (text string) {
	f.take(name, &text)
	return text
}

func (f fields) number(name string, otherwise int) int {
	f.take(name, &otherwise)
	return otherwise
}

func (f fields) ms(name string) time.Duration {
	return time.Duration(f.number(name, 0)) * time.Millisecond
}

func (f fields) queue() string {
	queue := "default"
	f.take("queue", &queue)
	return queue
}

func (f fields) end() {
	for name := range f {
		mistakenf("unknown field %q", name)
	}
}

// ---- what is pushed and told ------------------------------------------------------------------------------

// payload is what a push, a retry or a result carries, with its type, and whether there is one.
func payload(f fields) (carried []byte, contentType string, given bool) {
	var text, digits string
	var size int
	switch raw := f["json"]; {
	case raw != nil:
		delete(f, "json")
		var compact bytes.Buffer
		if err := json.Compact(&compact, raw); err != nil {
			mistakenf("field \"json\": %v", err)
		}
		return compact.Bytes(), forebay.ContentTypeJSON, true
	case f.take("size", &size):
		return bytes.Repeat([]byte("x"), size), "", true
	case f.take("hex", &digits):
		carried, err := hex.DecodeString(digits)
		if err != nil {
			mistakenf("field \"hex\": %v", err)
		}
		return carried, "", true
	default:
		given = f.take("payload", &text)
		return []byte(text), "", given
	}
}

// told is what a payload is, in the ways that scenarios look at it.
func told(carried []byte, contentType string) answer {
	of := answer{
		"payload": nil, "hex": hex.EncodeToString(carried[:min(len(carried), 64)]), "size": len(carried),
		"content_type": contentType, "json": nil,
	}
	if utf8.Valid(carried) {
		of["payload"] = string(carried)
	}
	if contentType == forebay.ContentTypeJSON {
		of["json"] = json.RawMessage(carried)
	}
	return of
}

func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

func attempts(most int) any {
	if most == forebay.Unlimited {
		return "unlimited"
	}
	return most
}

func pairs(headers []forebay.Header) [][2]string {
	all := [][2]string{}
	for _, header := range headers {
		all = append(all, [2]string{header.Name, header.Value})
	}
	return all
}

// failed is the answer of a call that failed.
func failed(err error) answer {
	var known *forebay.Error
	switch {
	case errors.As(err, &known):
		name := strings.ToLower(strings.TrimPrefix(known.Code.String(), "FBY_E_"))
		return answer{"error": name, "message": known.Message}
	case errors.Is(err, context.DeadlineExceeded):
		return answer{"error": "timeout", "message": err.Error()}
	}
	return answer{"error": "?", "message": err.Error()}
}

// verdict is what a handler or a consumer answers: the error, and the result if there is none.
func verdict(f fields) (result []byte, contentType string, err error) {
	var verdict, text string
	f.need("verdict", &verdict)
	why := errors.New(f.text("error"))
	after := f.ms("after_ms")
	if f.take("result", &text) {
		result = []byte(text)
	} else {
		result, contentType, _ = payload(f)
	}
	switch verdict {
	case "done":
		return result, contentType, nil
	case "failed":
		return nil, "", why
	case "fatal":
		return nil, "", forebay.Fatal(why)
	case "retry":
		return nil, "", forebay.RetryAfter(after, why)
	case "snooze":
		return nil, "", forebay.Snooze(after)
	case "rate_limited":
		return nil, "", forebay.RateLimited(after)
	case "cancelled":
		return nil, "", forebay.Cancel(why)
	case "throw":
		panic(why.Error())
	}
	mistakenf("unknown verdict %q", verdict)
	return nil, "", nil
}

// ---- the stage --------------------------------------------------------------------------------------------

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

// ---- the steps --------------------------------------------------------------------------------------------

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

// ---- what is expected -------------------------------------------------------------------------------------

// differs says what does not fit, at which place of the answer; nothing if all does.
func differs(at string, wanted, found any, there bool) string {
	if !there {
		return fmt.Sprintf("%s is missing, not %s", at, written(wanted))
	}
	here := fmt.Sprintf("%s is %s, not %s", at, written(found), written(wanted))
	switch wanted := wanted.(type) {
	case map[string]any:
		for rule, value := range wanted {
			if strings.HasPrefix(rule, "$") && !keeps(rule, value, found) {
				return here
			} else if strings.HasPrefix(rule, "$") {
				continue
			}
			of, is := found.(map[string]any)
			if !is {
				return here
			}
			inside, there := of[rule]
			if difference := differs(at+"."+rule, value, inside, there); difference != "" {
				return difference
			}
		}
		return ""
	case []any:
		of, is := found.([]any)
		if !is || len(of) != len(wanted) {
			return here
		}
		for i := range wanted {
			if difference := differs(fmt.Sprintf("%s[%d]", at, i), wanted[i], of[i], true); difference != "" {
				return difference
			}
		}
		return ""
	case json.Number:
		if number, is := found.(json.Number); is && same(wanted, number) {
			return ""
		}
		return here
	}
	if wanted != found {
		return here
	}
	return ""
}

// same compares whole numbers exactly, and others as they are.
func same(one, other json.Number) bool {
	whole, err := one.Int64()
	if number, failed := other.Int64(); err == nil && failed == nil {
		return whole == number
	}
	return value(one) == value(other)
}

func value(of any) float64 {
	number, is := of.(json.Number)
	if !is {
		mistakenf("%v is no number", of)
	}
	float, _ := number.Float64()
	return float
}

func keeps(rule string, wanted, found any) bool {
	_, isNumber := found.(json.Number)
	switch rule {
	case "$contains":
		text, is := found.(string)
		return is && !slices.ContainsFunc(wanted.([]any), func(part any) bool { return !strings.Contains(text, part.(string)) })
	case "$from":
		return isNumber && value(wanted) <= value(found)
	case "$to":
		return isNumber && value(found) <= value(wanted)
	case "$not":
		return differs("", wanted, found, true) != ""
	}
	return false
}

func written(value any) string {
	text, _ := json.Marshal(value)
	return string(text)
}

// read makes of JSON, or of what becomes JSON, what it is compared as.
func read(value any) (as any) {
	decoder := json.NewDecoder(strings.NewReader(written(value)))
	decoder.UseNumber()
	if err := decoder.Decode(&as); err != nil {
		mistakenf("%v", err)
	}
	return as
}

// ---- running ----------------------------------------------------------------------------------------------

// runStep does one step, and says what is wrong.
func runStep(s *stage, name string, f fields) (fault string) {
	defer func() {
		if wrong, is := recover().(mistake); is {
			fault = string(wrong)
		}
	}()
	var wanted json.RawMessage = []byte("{}")
	f.take("expect", &wanted)
	of, err := s.step(name, f)
	if err != nil {
		of = failed(err)
	}
	f.end()
	expected, found := read(wanted).(map[string]any), read(of).(map[string]any)
	if _, expects := expected["error"]; found["error"] != nil && !expects {
		return fmt.Sprintf("failed with %v: %v", found["error"], found["message"])
	}
	if difference := differs("answer", expected, found, true); difference != "" {
		return difference + "; the answer was " + written(of)
	}
	return ""
}

// scenario is a file.
type scenario struct {
	Scenario, Text      string
	Shows, Needs, Fails []string
	Open                map[string]string
	Steps               []fields
}

// runScenario runs one scenario on one engine, and says what is wrong.
func runScenario(t *testing.T, of scenario, at place) string {
	// Ids grow within a thread, and goroutines move between threads.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s := &stage{
		t: t, place: at, scratch: t.TempDir(), options: of.Open,
		jobs: map[string]forebay.ID{}, deliveries: map[string]*forebay.Delivery{},
	}
	ok(t, s.open(at.URL))
	t.Cleanup(s.release)
	for i, f := range of.Steps {
		var name string
		f.need("do", &name)
		if fault := runStep(s, name, f); fault != "" {
			return fmt.Sprintf("step %d (%s): %s", i+1, name, fault)
		}
	}
	return ""
}

// runFolder runs every file of a folder on every engine that has what it needs.
func runFolder(t *testing.T, folder string) {
	listed, err := os.ReadFile(scenarios + "/../engines.json")
	ok(t, err)
	var places []place
	ok(t, json.Unmarshal(listed, &places))
	paths, err := filepath.Glob(filepath.Join(folder, "*.json"))
	ok(t, err)
	runs := 0
	for _, path := range paths {
		stem := strings.TrimSuffix(filepath.Base(path), ".json")
		text, err := os.ReadFile(path)
		ok(t, err)
		fits := 0
		for _, at := range places {
			var of scenario
			decoder := json.NewDecoder(bytes.NewReader(text))
			decoder.DisallowUnknownFields()
			ok(t, decoder.Decode(&of))
			if of.Scenario != stem || of.Text == "" || (len(of.Shows) == 0) == (len(of.Fails) == 0) {
				t.Fatalf("%s: it must have its file's name, say something, and show rows or fail", path)
			}
			missing := func(need string) bool { return !slices.Contains(at.Has, need) }
			if slices.ContainsFunc(of.Needs, missing) {
				continue
			}
			fits++
			if slices.ContainsFunc(of.Needs, lacking) || slices.ContainsFunc(of.Steps, subscribes) {
				continue
			}
			runs++
			t.Run(stem+"/"+at.Engine, func(t *testing.T) {
				fault := runScenario(t, of, at)
				if len(of.Fails) == 0 && fault != "" {
					t.Error(fault)
				}
				for _, part := range of.Fails {
					if !strings.Contains(fault, part) {
						t.Errorf("it should have failed with %q: %q", part, fault)
					}
				}
			})
		}
		if fits == 0 {
			t.Errorf("%s: no engine has what it needs", stem)
		}
	}
	t.Logf("Go: %d scenarios, %d runs", len(paths), runs)
	if runs == 0 {
		t.Fatal("no scenario was found")
	}
}

// lacking is whether Go has no such thing: a push waits as long as its context, and is not told how long.
func lacking(need string) bool { return need == "waits" }

// subscribes is whether a step wants what has happened so far: in Go events are an iteration, which waits for more.
func subscribes(f fields) bool { return string(f["do"]) == `"subscribe"` }

func TestEveryScenarioOnEveryEngine(t *testing.T) {
	folder := os.Getenv("FOREBAY_SCENARIOS")
	if folder == "" {
		folder = scenarios
	}
	runFolder(t, folder)
}

// What is wrong in them is found out, at the step where it is.
func TestEveryWrongScenarioFails(t *testing.T) {
	runFolder(t, scenarios+"/wrong")
}

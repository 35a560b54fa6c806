/* What each step of a scenario file does; scenarios.c runs the files. */
#include "scenarios.h"

#include <string.h>
#include <unistd.h>

static const char *const verdicts[] = {"done", "failed", "fatal", "retry", "snooze", "cancelled", "?", "rate_limited"};
static const char *const reasons[] = {NULL, "cancelled", "timed_out", "lease_lost", "stopping"};

/* ---- pushing and working ---------------------------------------------------------------------------- */

static json_t *do_push(stage *s, json_t *fields) {
    int64_t wait = number(s, fields, "wait_ms", FBY_DEFAULT);
    const char *name;
    fby_job_spec job = spec_of(s, fields, &name);
    fby_pushed report = FBY_INIT(fby_pushed);
    TRY(fby_push_report(s->d, &job, sizeof job, 1, wait, &report, sizeof report, NULL, &err));
    return pushed(s, &report, name);
}

static json_t *do_push_many(stage *s, json_t *fields) {
    int64_t wait = number(s, fields, "wait_ms", FBY_DEFAULT);
    json_t *list = take(s, fields, "jobs"), *answer, *told = json_array();
    const char *names[MANY] = {NULL};
    fby_job_spec *jobs = batch_of(s, list, names);
    fby_pushed reports[MANY] = {{0}};
    fby_error *err = NULL;
    size_t i, accepted = 0;
    fby_status status = fby_push_report(s->d, jobs, sizeof *jobs, json_array_size(list), wait, reports,
                                        sizeof reports[0], &accepted, &err);
    for (i = 0; i < accepted; i++) json_array_append_new(told, pushed(s, &reports[i], names[i]));
    answer = status == FBY_OK ? json_object() : failure(err);
    json_object_set_new(answer, "accepted", json_integer((json_int_t)accepted));
    json_object_set_new(answer, "jobs", told);
    return answer;
}

static fby_bytes *texts(stage *s, json_t *list) {
    size_t i, count = json_array_size(list);
    fby_bytes *all = count == 0 ? NULL : keep(s, calloc(count, sizeof *all));
    for (i = 0; i < count; i++) all[i] = text_of(json_array_get(list, i));
    return all;
}

static json_t *do_next(stage *s, json_t *fields) {
    json_t *kinds = take(s, fields, "kinds"), *queues = take(s, fields, "queues"), *ids, *told;
    const char *name = json_string_value(take(s, fields, "as"));
    size_t i, count = 0, max = (size_t)number(s, fields, "max", 1);
    int64_t wait = number(s, fields, "wait_ms", 0);
    fby_consumer_options options = FBY_INIT(fby_consumer_options);
    fby_consumer *consumer;
    fby_job jobs[MANY] = {{0}};
    fby_error *err = NULL;
    fby_status status;
    options.queues = texts(s, queues);
    options.queue_count = json_array_size(queues);
    options.lease_ms = number(s, fields, "lease_ms", 0);
    TRY(fby_consumer_new(s->d, texts(s, kinds), json_array_size(kinds), &options, &consumer, &err));
    status = fby_poll(consumer, jobs, sizeof jobs[0], max, wait, &count, &err);
    fby_consumer_free(consumer);
    if (status != FBY_OK) return failure(err);
    ids = json_array();
    told = json_array();
    for (i = 0; i < count; i++) {
        json_array_append_new(told, delivered(s, &jobs[i], name));
        json_array_append_new(ids, json_string(label_of(s, &jobs[i].id)));
    }
    return json_pack("{s:o, s:o}", "ids", ids, "jobs", told);
}

static fby_verdict verdict_of(stage *s, const char *name) {
    fby_verdict verdict;
    for (verdict = 0; name != NULL && verdict <= FBY_RATE_LIMITED; verdict++) {
        if (strcmp(verdicts[verdict], name) == 0) return verdict;
    }
    if (name != NULL) mistaken(s, "unknown verdict \"%s\"", name);
    return FBY_FAILED;
}

static json_t *do_complete(stage *s, json_t *fields) {
    json_t *then = take(s, fields, "then"), *result = take(s, fields, "result");
    const char *names[MANY];
    fby_job_spec *jobs = batch_of(s, then, names);
    fby_outcome outcome = FBY_INIT(fby_outcome);
    outcome.ticket = ticket_of(s, fields);
    outcome.verdict = verdict_of(s, json_string_value(need(s, fields, "verdict")));
    outcome.error = text(s, fields, "error");
    outcome.delay_ms = number(s, fields, "after_ms", 0);
    if (result != NULL) {
        outcome.result = text_of(result);
    } else {
        carried c = payload_of(s, fields);
        outcome.result = c.bytes;
        outcome.content_type = c.type;
    }
    if (s->mistake[0] != '\0') return NULL;
    if (jobs == NULL) {
        TRY(fby_finish(s->d, &outcome, sizeof outcome, 1, NULL, &err));
    } else {
        TRY(fby_finish_and_push(s->d, &outcome, jobs, sizeof *jobs, json_array_size(then), &err));
    }
    return json_object();
}

static json_t *do_extend(stage *s, json_t *fields) {
    fby_ticket ticket = ticket_of(s, fields);
    TRY(fby_extend(s->d, ticket, json_integer_value(need(s, fields, "lease_ms")), &err));
    return json_object();
}

static json_t *do_stop_reason(stage *s, json_t *fields) {
    fby_stop_reason reason = fby_cancelled(s->d, ticket_of(s, fields));
    CHECK(reason >= 0 && (size_t)reason < sizeof reasons / sizeof reasons[0]);
    return json_pack("{s:s?}", "reason", reasons[reason]);
}

/* ---- single jobs ------------------------------------------------------------------------------------ */

static json_t *do_cancel(stage *s, json_t *fields) {
    fby_id id = job_of(s, fields);
    fby_state state;
    TRY(fby_cancel(s->d, &id, &state, &err));
    return json_pack("{s:s}", "state", fby_state_name(state));
}

static json_t *do_retry(stage *s, json_t *fields) {
    fby_id id = job_of(s, fields), again;
    const char *name = json_string_value(take(s, fields, "as"));
    carried c = payload_of(s, fields);
    TRY(fby_retry(s->d, &id, c.given ? &c.bytes : NULL, c.type, &again, &err));
    name_job(s, name, &again);
    return json_pack("{s:s}", "id", label_of(s, &again));
}

static json_t *do_signal(stage *s, json_t *fields) {
    fby_id id = job_of(s, fields);
    TRY(fby_signal(s->d, &id, text_of(need(s, fields, "token")), &err));
    return json_object();
}

static json_t *do_state(stage *s, json_t *fields) {
    json_t *jobs = need(s, fields, "jobs"), *answer = json_object(), *name;
    size_t i;
    json_array_foreach(jobs, i, name) {
        fby_id id = job_called(s, json_string_value(name));
        fby_error *err = NULL;
        fby_state state;
        if (fby_job_state(s->d, &id, &state, &err) != FBY_OK) {
            json_decref(answer);
            return failure(err);
        }
        json_object_set_new(answer, json_string_value(name), json_string(fby_state_name(state)));
    }
    return answer;
}

/* The failure of a job or an attempt, in two fields. */
static void tell_failure(json_t *told, const json_t *why) {
    json_t *kind = json_object_get(why, "kind"), *message = json_object_get(why, "message");
    json_object_set(told, "failure_kind", kind == NULL ? json_null() : kind);
    json_object_set(told, "failure", message == NULL ? json_null() : message);
}

static json_t *do_get(stage *s, json_t *fields) {
    fby_id id = job_of(s, fields);
    fby_buffer *buffer;
    json_t *job, *timeout, *most, *attempt;
    json_int_t due;
    size_t i;
    TRY(fby_get(s->d, &id, &buffer, &err));
    job = parsed(buffer);
    json_object_set_new(job, "id", json_string(label_of_text(s, json_object_get(job, "id"))));
    json_object_set(job, "waits_for", json_object_get(job, "waits"));
    timeout = json_object_get(job, "timeout_us");
    json_object_set_new(job, "timeout_ms",
                        json_is_null(timeout) ? json_null() : json_integer(json_integer_value(timeout) / 1000));
    due = json_integer_value(json_object_get(job, "run_at_us")) / 1000 - START_MS - s->advanced_ms;
    json_object_set_new(job, "due_ms", json_integer(due > 0 ? due : 0));
    most = json_object_get(job, "max_attempts");
    if (json_is_integer(most)) json_object_set_new(job, "max_attempts", attempts((uint32_t)json_integer_value(most)));
    tell_failure(job, json_object_get(job, "error"));
    json_object_del(job, "error");
    json_array_foreach(json_object_get(job, "history"), i, attempt) {
        tell_failure(attempt, json_object_get(attempt, "failure"));
    }
    return job;
}

static json_t *do_result(stage *s, json_t *fields) {
    fby_id id = job_of(s, fields);
    json_t *answer = json_object();
    fby_buffer *result;
    fby_error *err = NULL;
    if (fby_wait(s->d, &id, 0, NULL, &result, &err) != FBY_OK) {
        json_decref(answer);
        return failure(err);
    }
    tell_payload(answer, fby_buffer_bytes(result), fby_buffer_content_type(result));
    json_object_set(answer, "result", json_object_get(answer, "payload"));
    fby_buffer_free(result);
    return answer;
}

static json_t *do_explain(stage *s, json_t *fields) {
    fby_id id = job_of(s, fields);
    fby_buffer *told;
    TRY(fby_explain(s->d, &id, &told, &err));
    return told_text(told);
}

static fby_state state_called(stage *s, const char *name) {
    fby_state state;
    for (state = FBY_STATE_BLOCKED; state <= FBY_STATE_SHED; state++) {
        if (strcmp(fby_state_name(state), name) == 0) return state;
    }
    mistaken(s, "no state \"%s\"", name);
    return 0;
}

static json_t *do_list(stage *s, json_t *fields) {
    json_t *named = take(s, fields, "states"), *after = take(s, fields, "after"), *page, *ids, *job, *limit;
    json_t *from = take(s, fields, "created_from_ms"), *before = take(s, fields, "created_before_ms");
    fby_filter filter = FBY_INIT(fby_filter);
    fby_state states[16];
    fby_buffer *buffer;
    size_t i;
    filter.queue = text(s, fields, "queue");
    filter.kind = text(s, fields, "kind");
    filter.key = text(s, fields, "key");
    filter.state_count = json_array_size(named);
    for (i = 0; i < filter.state_count; i++) states[i] = state_called(s, json_string_value(json_array_get(named, i)));
    filter.states = states;
    if (from != NULL) filter.created_from_ms = START_MS + json_integer_value(from);
    if (before != NULL) filter.created_before_ms = START_MS + json_integer_value(before);
    if (after != NULL) filter.after = job_called(s, json_string_value(after));
    limit = take(s, fields, "limit");
    filter.limit = (uint32_t)json_integer_value(limit);
    TRY(fby_list(s->d, &filter, &buffer, &err));
    page = parsed(buffer);
    ids = json_array();
    json_array_foreach(json_object_get(page, "jobs"), i, job) {
        json_array_append_new(ids, json_string(label_of_text(s, json_object_get(job, "id"))));
    }
    json_object_set_new(page, "ids", ids);
    return page;
}

/* ---- queues and kinds ------------------------------------------------------------------------------- */

/* Options by name as in a URL. */
static fby_kind_options kind_options(stage *s, json_t *options) {
    fby_kind_options all = FBY_INIT(fby_kind_options);
    char *query = keep(s, calloc(1, 1024));
    const char *name;
    json_t *value;
    json_object_foreach(options, name, value) {
        size_t used = strlen(query);
        snprintf(query + used, 1024 - used, "%s%s=%s", used == 0 ? "" : "&", name, json_string_value(value));
    }
    all.options = fby_str(query);
    return all;
}

/* A copy of a text with the folder of this run in it, until the step is over. */
static char *filled(stage *s, const char *text) {
    const char *mark = strstr(text, "{scratch}");
    char *whole = keep(s, calloc(1, 512));
    int before = mark == NULL ? (int)strlen(text) : (int)(mark - text);
    snprintf(whole, 512, "%.*s%s%s", before, text, mark == NULL ? "" : s->scratch,
             mark == NULL ? "" : mark + strlen("{scratch}"));
    return whole;
}

static json_t *do_pause(stage *s, json_t *fields) {
    TRY(fby_pause(s->d, queue_of(s, fields), &err));
    return json_object();
}

static json_t *do_resume(stage *s, json_t *fields) {
    TRY(fby_resume(s->d, queue_of(s, fields), &err));
    return json_object();
}

static json_t *do_purge(stage *s, json_t *fields) {
    uint64_t count;
    TRY(fby_purge(s->d, queue_of(s, fields), &count, &err));
    return json_pack("{s:I}", "count", (json_int_t)count);
}

static json_t *do_len(stage *s, json_t *fields) {
    uint64_t len;
    TRY(fby_len(s->d, queue_of(s, fields), &len, &err));
    return json_pack("{s:I}", "len", (json_int_t)len);
}

static json_t *do_pressure(stage *s, json_t *fields) {
    double pressure;
    TRY(fby_pressure(s->d, queue_of(s, fields), &pressure, &err));
    return json_pack("{s:f}", "pressure", pressure);
}

static json_t *do_stats(stage *s, json_t *fields) {
    fby_bytes wanted = queue_of(s, fields);
    json_t *all, *queue, *answer = NULL;
    fby_buffer *buffer;
    size_t i;
    TRY(fby_stats(s->d, &buffer, &err));
    all = parsed(buffer);
    json_array_foreach(json_object_get(all, "queues"), i, queue) {
        if (same(wanted, json_string_value(json_object_get(queue, "name")))) answer = json_incref(queue);
    }
    json_decref(all);
    if (answer == NULL) {
        mistaken(s, "no queue is called \"%s\"", wanted.ptr);
        return NULL;
    }
    json_object_update(answer, json_object_get(answer, "totals"));
    return answer;
}

static json_t *do_metrics(stage *s, json_t *fields) {
    fby_buffer *told;
    (void)fields;
    TRY(fby_stats_prometheus(s->d, &told, &err));
    return told_text(told);
}

static json_t *do_explain_queue(stage *s, json_t *fields) {
    fby_buffer *told;
    TRY(fby_explain_queue(s->d, queue_of(s, fields), &told, &err));
    return told_text(told);
}

static json_t *do_forward(stage *s, json_t *fields) {
    fby_bytes queue = queue_of(s, fields), to = text(s, fields, "to_queue");
    json_t *url = need(s, fields, "url");
    fby_kind_options options = kind_options(s, take(s, fields, "options"));
    TRY(fby_forward(s->d, queue, fby_str(filled(s, json_string_value(url))), to, options.options, NULL, &err));
    return json_object();
}

static json_t *do_configure_queue(stage *s, json_t *fields) {
    fby_bytes queue = queue_of(s, fields);
    json_t *options = need(s, fields, "options"), *value;
    const char *name;
    json_object_foreach(options, name, value) {
        TRY(fby_queue_option(s->d, queue, fby_str(name), text_of(value), &err));
    }
    return json_object();
}

static json_t *do_queue_options(stage *s, json_t *fields) {
    fby_buffer *told;
    TRY(fby_queue_options(s->d, queue_of(s, fields), &told, &err));
    return parsed(told);
}

static json_t *do_declare(stage *s, json_t *fields) {
    fby_bytes kind = text_of(need(s, fields, "kind"));
    fby_kind_options options = kind_options(s, need(s, fields, "options"));
    TRY(fby_declare(s->d, kind, &options, &err));
    return json_object();
}

/* ---- the dispatcher --------------------------------------------------------------------------------- */

/* Says for each attempt what the file has for it. Nothing can be thrown in C: it fails. */
static fby_verdict answering(void *data, const fby_job *job, fby_reply *reply) {
    const json_t *answers = data, *answer;
    size_t count = json_array_size(answers), turn = job->attempt < count ? job->attempt : count;
    const char *name;
    fby_verdict verdict = FBY_FAILED, known;
    answer = json_array_get(answers, turn - 1);
    name = json_string_value(json_object_get(answer, "verdict"));
    for (known = 0; known <= FBY_RATE_LIMITED; known++) {
        if (strcmp(verdicts[known], name) == 0) verdict = known;
    }
    OK(fby_reply_set_result(reply, text_of(json_object_get(answer, "result")), fby_str(NULL), &err));
    OK(fby_reply_set_error(reply, text_of(json_object_get(answer, "error")), &err));
    OK(fby_reply_set_delay(reply, json_integer_value(json_object_get(answer, "after_ms")), &err));
    return verdict;
}

static void forget(void *answers) {
    json_decref(answers);
}

static json_t *do_handle(stage *s, json_t *fields) {
    fby_bytes kind = text_of(need(s, fields, "kind"));
    fby_kind_options options = kind_options(s, take(s, fields, "options"));
    json_t *answers = need(s, fields, "answers"), *answer, *value;
    const char *name;
    size_t i;
    json_array_foreach(answers, i, answer) {
        json_object_foreach(answer, name, value) {
            int known = strcmp(name, "result") == 0 || strcmp(name, "error") == 0 || strcmp(name, "after_ms") == 0;
            if (strcmp(name, "verdict") == 0) {
                if (strcmp(json_string_value(value), "throw") != 0) verdict_of(s, json_string_value(value));
            } else if (!known) {
                mistaken(s, "unknown field \"%s\"", name);
            }
        }
    }
    TRY(fby_register(s->d, kind, &options, answering, json_deep_copy(answers), forget, &err));
    return json_object();
}

static json_t *do_start(stage *s, json_t *fields) {
    (void)fields;
    TRY(fby_start(s->d, &err));
    return json_object();
}

static json_t *do_drain(stage *s, json_t *fields) {
    TRY(fby_drain(s->d, number(s, fields, "wait_ms", SOON_MS), &err));
    return json_object();
}

static json_t *do_subscribe(stage *s, json_t *fields) {
    size_t capacity = (size_t)json_integer_value(need(s, fields, "capacity"));
    fby_events_free(s->events);
    s->events = NULL;
    TRY(fby_events_new(s->d, FBY_LEVEL_DEBUG, capacity, &s->events, &err));
    return json_object();
}

static json_t *do_events(stage *s, json_t *fields) {
    fby_event event = FBY_INIT(fby_event);
    json_t *told = json_array();
    size_t count;
    (void)fields;
    if (s->events == NULL) mistaken(s, "nobody has %s", "subscribed");
    while (s->events != NULL && fby_events_poll(s->events, &event, sizeof event, 1, 0, &count, NULL) == FBY_OK && count > 0) {
        json_array_append_new(told, json_pack("{s:s, s:s, s:o, s:o, s:i}", "event", fby_event_name(event.kind), "id",
                                              label_of(s, &event.id), "queue", name_or_null(event.queue), "kind",
                                              name_or_null(event.job_kind), "attempt", (int)event.attempt));
    }
    return json_pack("{s:o, s:I}", "events", told, "dropped", (json_int_t)fby_events_dropped(s->events));
}

static fby_bytes path_of(stage *s, json_t *fields) {
    const char *file = json_string_value(need(s, fields, "file"));
    char *path = keep(s, calloc(1, 256));
    snprintf(path, 256, "%s/%s", s->scratch, file == NULL ? "" : file);
    return fby_str(path);
}

static json_t *do_dump(stage *s, json_t *fields) {
    fby_dump_report report = FBY_INIT(fby_dump_report);
    TRY(fby_dump(s->d, path_of(s, fields), &report, &err));
    return json_pack("{s:I}", "jobs", (json_int_t)report.jobs);
}

static json_t *do_restore(stage *s, json_t *fields) {
    fby_dump_report report = FBY_INIT(fby_dump_report);
    TRY(fby_restore(s->d, path_of(s, fields), &report, &err));
    return json_pack("{s:I}", "jobs", (json_int_t)report.jobs);
}

static json_t *do_cut(stage *s, json_t *fields) {
    const char *path = path_of(s, fields).ptr;
    FILE *file = fopen(path, "rb");
    long size;
    CHECK(file != NULL && fseek(file, 0, SEEK_END) == 0);
    size = ftell(file);
    fclose(file);
    CHECK(truncate(path, size / 2) == 0);
    return json_object();
}

static json_t *do_flush(stage *s, json_t *fields) {
    fby_durability reached;
    (void)fields;
    TRY(fby_flush(s->d, &reached, &err));
    return json_pack("{s:s}", "durability", level_name(reached));
}

static json_t *do_request_stop(stage *s, json_t *fields) {
    (void)fields;
    TRY(fby_request_stop(s->d, &err));
    return json_object();
}

static json_t *do_stop(stage *s, json_t *fields) {
    fby_stop_report report = FBY_INIT(fby_stop_report);
    TRY(fby_stop(s->d, number(s, fields, "grace_ms", 0), &report, &err));
    return json_pack("{s:I, s:I}", "handed_back", (json_int_t)report.handed_back, "waiting", (json_int_t)report.waiting);
}

void stage_release(stage *s) {
    fby_events_free(s->events);
    s->events = NULL;
    fby_release(s->d);
    s->d = NULL;
}

static json_t *do_release(stage *s, json_t *fields) {
    (void)fields;
    stage_release(s);
    return json_object();
}

json_t *stage_open(stage *s, const char *url) {
    fby_options *options = fby_options_new();
    fby_dispatcher *opened = NULL;
    fby_error *err = NULL;
    fby_status status = FBY_OK;
    const char *name;
    json_t *value;
    char clock[64];
    snprintf(clock, sizeof clock, "manual(%lld)", (long long)(START_MS + s->advanced_ms));
    OK(fby_options_set(options, fby_str("clock"), fby_str(clock), &err));
    json_object_foreach(s->options, name, value) {
        fby_bytes text = fby_str(filled(s, json_string_value(value)));
        if (status == FBY_OK) status = fby_options_set(options, fby_str(name), text, &err);
    }
    if (status == FBY_OK) status = fby_open(fby_str(filled(s, url)), options, &opened, &err);
    fby_options_free(options);
    if (status != FBY_OK) return failure(err);
    stage_release(s);
    s->d = opened;
    return json_object();
}

static json_t *do_open(stage *s, json_t *fields) {
    json_t *options = take(s, fields, "options"), *url = take(s, fields, "url");
    if (options != NULL) {
        json_decref(s->options);
        s->options = json_incref(options);
    }
    return stage_open(s, url == NULL ? s->url : json_string_value(url));
}

static json_t *do_advance(stage *s, json_t *fields) {
    int64_t by = json_integer_value(need(s, fields, "ms"));
    TRY(fby_advance(s->d, by, &err));
    s->advanced_ms += by;
    return json_object();
}

/* ---- by name ---------------------------------------------------------------------------------------- */

#define STEP(name) {#name, do_##name}

static const struct {
    const char *name;
    json_t *(*run)(stage *s, json_t *fields);
} steps[] = {
    STEP(push), STEP(push_many), STEP(next), STEP(complete), STEP(extend), STEP(stop_reason), STEP(cancel),
    STEP(retry), STEP(signal), STEP(state), STEP(get), STEP(result), STEP(explain), STEP(list), STEP(pause),
    STEP(resume), STEP(purge), STEP(len), STEP(pressure), STEP(stats), STEP(metrics), STEP(explain_queue),
    STEP(configure_queue), STEP(queue_options), STEP(declare), STEP(forward), STEP(subscribe), STEP(events), STEP(handle), STEP(start), STEP(drain), STEP(dump),
    STEP(restore), STEP(cut), STEP(flush), STEP(request_stop), STEP(stop), STEP(release), STEP(open), STEP(advance),
};

json_t *stage_step(stage *s, const char *name, json_t *fields) {
    size_t i;
    for (i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        if (strcmp(steps[i].name, name) == 0) return steps[i].run(s, fields);
    }
    mistaken(s, "unknown step \"%s\"", name);
    return NULL;
}

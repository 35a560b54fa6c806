/* A dispatcher's life: open, start, push, wait, stop, release. */
#include "harness.h"

#include <string.h>

static fby_verdict shout(void *user_data, const fby_job *job, fby_reply *reply) {
    char text[64];
    size_t i;
    (void)user_data;
    CHECK(job->struct_size == sizeof *job && job->attempt == 1 && job->max_attempts == 3 && job->priority == 5);
    CHECK(same(job->kind, "shout") && same(job->queue, "loud") && same(job->key, "key"));
    CHECK(same(job->content_type, "text/plain") && job->payload.len < sizeof text);
    CHECK(job->ticket != 0 && job->fence == 1 && job->created_ms > 0 && job->due_ms > job->created_ms);
    for (i = 0; i < job->payload.len; i++) text[i] = (char)(((const char *)job->payload.ptr)[i] - 32);
    OK(fby_reply_set_result(reply, bytes(text, job->payload.len), fby_str("text/loud"), &err));
    return FBY_DONE;
}

static void a_job_and_its_result(void) {
    fby_dispatcher *d = open_plain();
    fby_job_spec job = spec("shout");
    fby_id id, again;
    fby_state state = 0;
    fby_buffer *result = NULL;
    fby_stop_report report = FBY_INIT(fby_stop_report);
    job.payload = fby_str("hello");
    job.content_type = fby_str("text/plain");
    job.queue = fby_str("loud");
    job.key = fby_str("key");
    job.priority = 5;
    job.max_attempts = 3;
    job.timeout_ms = SOON_MS;
    add_handler(d, "shout", shout, NULL);
    OK(fby_start(d, &err));
    OK(fby_start(d, &err));
    OK(fby_push(d, &job, FBY_DEFAULT, &id, NULL, &err));
    OK(fby_wait(d, &id, SOON_MS, &state, &result, &err));
    CHECK(state == FBY_STATE_SUCCEEDED && same(fby_buffer_bytes(result), "HELLO"));
    CHECK(same(fby_buffer_content_type(result), "text/loud"));
    fby_buffer_free(result);
    OK(fby_push(d, &job, FBY_DEFAULT, &again, NULL, &err));
    CHECK(memcmp(&id, &again, sizeof id) == 0);
    job.payload = fby_str("other");
    EXPECT(FBY_E_CONFLICT, fby_push(d, &job, FBY_DEFAULT, &again, NULL, &err));
    OK(fby_drain(d, SOON_MS, &err));
    OK(fby_stop(d, SOON_MS, &report, &err));
    CHECK(report.handed_back == 0 && report.waiting == 0);
    OK(fby_stop(d, FBY_DEFAULT, NULL, &err));
    EXPECT(FBY_E_CLOSED, fby_push(d, &job, 0, NULL, NULL, &err));
    EXPECT(FBY_E_CLOSED, fby_start(d, &err));
    fby_release(d);
}

static void a_clock_that_stands_still_is_moved(void) {
    fby_dispatcher *d = NULL;
    fby_job_spec job = spec("later");
    fby_state state = 0;
    int64_t before = 0, now = 0;
    fby_id id;
    OK(fby_open(fby_str("memory:?clock=manual(1000)"), NULL, &d, &err));
    OK(fby_now(d, &before, &err));
    job.delay_ms = 60000;
    OK(fby_push(d, &job, FBY_DEFAULT, &id, NULL, &err));
    OK(fby_advance(d, 59999, &err));
    OK(fby_job_state(d, &id, &state, &err));
    CHECK(state == FBY_STATE_SCHEDULED);
    OK(fby_advance(d, 1, &err));
    OK(fby_job_state(d, &id, &state, &err));
    CHECK(state == FBY_STATE_QUEUED);
    OK(fby_now(d, &now, &err));
    CHECK(before == 1000 && now == 61000);
    fby_release(d);
}

static void options_are_set_by_name(void) {
    fby_options *options = fby_options_new();
    fby_dispatcher *d = NULL;
    fby_buffer *stats = NULL;
    OK(fby_options_set(options, fby_str("concurrency"), fby_str("3"), &err));
    OK(fby_options_set(options, fby_str("retry"), fby_str("linear(1s)"), &err));
    EXPECT(FBY_E_NOT_FOUND, fby_options_set(options, fby_str("concurency"), fby_str("3"), &err));
    INVALID(fby_options_set(options, fby_str("concurrency"), fby_str("many"), &err));
    OK(fby_open(fby_str("memory:?capacity=7"), options, &d, &err));
    OK(fby_options_set(options, fby_str("concurrency"), fby_str("4"), &err));
    fby_options_free(options);
    push(d, "k");
    OK(fby_stats(d, &stats, &err));
    CHECK(contains(fby_buffer_bytes(stats), "\"concurrency\":3"));
    CHECK(contains(fby_buffer_bytes(stats), "\"capacity\":7"));
    CHECK(same(fby_buffer_content_type(stats), "application/json"));
    fby_buffer_free(stats);
    fby_release(d);
    d = NULL;
    EXPECT(FBY_E_UNSUPPORTED, fby_open(fby_str("nowhere:"), NULL, &d, &err));
    INVALID(fby_open(fby_str("memory:?concurrency=0"), NULL, &d, &err));
    EXPECT(FBY_E_NOT_FOUND, fby_open(fby_str("memory:?x=0"), NULL, &d, &err));
    CHECK(d == NULL);
}

static void a_batch_stops_at_the_first_refusal(void) {
    fby_dispatcher *d = open_with("memory:?capacity=3");
    fby_job_spec jobs[5];
    fby_id ids[5], none;
    size_t accepted = 99, i;
    memset(ids, 0xff, sizeof ids);
    memset(&none, 0xff, sizeof none);
    for (i = 0; i < 5; i++) jobs[i] = spec("k");
    jobs[4].priority = 1000;
    INVALID(fby_push_many(d, jobs, sizeof jobs[0], 5, 0, ids, &accepted, NULL, &err));
    CHECK(accepted == 0);
    jobs[4].priority = 0;
    EXPECT(FBY_E_FULL, fby_push_many(d, jobs, sizeof jobs[0], 5, 0, ids, &accepted, NULL, &err));
    CHECK(accepted == 3 && memcmp(&ids[3], &none, sizeof none) == 0);
    for (i = 0; i < 3; i++) CHECK(state_of(d, &ids[i]) == FBY_STATE_QUEUED);
    EXPECT(FBY_E_FULL, fby_push_many(d, jobs, sizeof jobs[0], 1, 5, NULL, &accepted, NULL, &err));
    CHECK(accepted == 0);
    EXPECT(FBY_E_FULL, fby_push_many(d, jobs, sizeof jobs[0], 1, FBY_DEFAULT, NULL, &accepted, NULL, &err));
    fby_release(d);
}

static void memory_reaches_what_memory_can(void) {
    fby_dispatcher *d = open_with("memory:?durability=os&capacity=4");
    fby_job_spec jobs[3];
    fby_durability reached = 99;
    size_t i;
    for (i = 0; i < 3; i++) jobs[i] = spec("k");
    jobs[1].durability = FBY_DURABILITY_DISK;
    OK(fby_push(d, &jobs[1], 0, NULL, &reached, &err));
    CHECK(reached == FBY_DURABILITY_MEMORY);
    reached = 99;
    OK(fby_push_many(d, jobs, sizeof jobs[0], 3, 0, NULL, NULL, &reached, &err));
    CHECK(reached == FBY_DURABILITY_MEMORY);
    reached = 99;
    EXPECT(FBY_E_FULL, fby_push_many(d, jobs, sizeof jobs[0], 3, 0, NULL, NULL, &reached, &err));
    CHECK(reached == 99);
    OK(fby_flush(d, &reached, &err));
    CHECK(reached == FBY_DURABILITY_MEMORY);
    fby_release(d);
}

static void push_waits_for_room(void *data) {
    fby_job_spec job = spec("k");
    OK(fby_push(data, &job, SOON_MS, NULL, NULL, &err));
}

static void a_push_may_wait_for_room(void) {
    fby_dispatcher *d = open_with("memory:?capacity=1");
    fby_consumer *c = consumer_of(d);
    fby_job job;
    worker w;
    push(d, "k");
    begin(&w, push_waits_for_room, d);
    job = poll_one(c);
    end(&w);
    CHECK(finish_one(d, job.ticket, FBY_DONE) == FBY_OK);
    fby_consumer_free(c);
    fby_release(d);
}

static void references_share_one_dispatcher(void) {
    fby_dispatcher *d = open_plain();
    fby_dispatcher *other = fby_retain(d);
    fby_id id = push(d, "k");
    CHECK(other == d);
    fby_release(d);
    CHECK(state_of(other, &id) == FBY_STATE_QUEUED);
    fby_release(other);
}

static fby_verdict done(void *user_data, const fby_job *job, fby_reply *reply) {
    (void)user_data, (void)job, (void)reply;
    return FBY_DONE;
}

enum { PUSHERS = 16 };

static void push_and_wait(void *data) {
    int i;
    for (i = 0; i < (slow() ? 20 : 500); i++) {
        fby_id id = push(data, "k");
        await_state(data, &id, FBY_STATE_SUCCEEDED);
    }
}

static void many_threads_share_a_dispatcher(void) {
    fby_dispatcher *d = open_plain();
    worker workers[PUSHERS];
    int i;
    add_handler(d, "k", done, NULL);
    OK(fby_start(d, &err));
    for (i = 0; i < PUSHERS; i++) begin(&workers[i], push_and_wait, d);
    for (i = 0; i < PUSHERS; i++) end(&workers[i]);
    stop_and_release(d);
}

/* Every other life is left to end by itself, in its own time. */
static void a_thousand_lives_leave_nothing(void) {
    int i, lives = slow() ? 30 : 1000, threads = 0, files = 0;
    for (i = 0; i < lives; i++) {
        fby_dispatcher *d = open_plain();
        fby_id id;
        add_handler(d, "k", done, NULL);
        OK(fby_start(d, &err));
        id = push(d, "k");
        if (i % 3 == 0) await_state(d, &id, FBY_STATE_SUCCEEDED);
        if (i % 2 == 0) OK(fby_stop(d, SOON_MS, NULL, &err));
        fby_release(d);
        if (i == 3) threads = entries(THREADS), files = entries(FILES);
    }
    await_no_more(THREADS, threads);
    await_no_more(FILES, files);
}

static const test_case cases[] = {
    CASE(a_job_and_its_result),
    CASE(a_clock_that_stands_still_is_moved),
    CASE(options_are_set_by_name),
    CASE(a_batch_stops_at_the_first_refusal),
    CASE(memory_reaches_what_memory_can),
    CASE(a_push_may_wait_for_room),
    CASE(references_share_one_dispatcher),
    CASE(many_threads_share_a_dispatcher),
    CASE(a_thousand_lives_leave_nothing),
};
SUITE(life);

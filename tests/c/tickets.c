/* Tickets: each counts once, whoever uses it, whenever. */
#include "harness.h"

#include <stdint.h>
#include <string.h>

/* A handler that hands its delivery to another thread. */
typedef struct {
    fby_dispatcher *d;
    gate given, go;
    const fby_job *job;
    fby_ticket ticket;
    fby_verdict verdict;
} hand_over;

static const hand_over fresh = {NULL, GATE, GATE, NULL, 0, FBY_PENDING};

static fby_verdict give_and_go_on(void *user_data, const fby_job *job, fby_reply *reply) {
    hand_over *h = user_data;
    (void)reply;
    if (job->attempt > 1) return FBY_DONE;
    h->job = job;
    h->ticket = job->ticket;
    pass(&h->given);
    await(&h->go, 1);
    CHECK(same(job->payload, "payload"));
    return h->verdict;
}

static fby_id begin_hand_over(hand_over *h, const char *url) {
    fby_job_spec job = spec("k");
    fby_id id;
    h->d = open_with(url);
    add_handler(h->d, "k", give_and_go_on, h);
    OK(fby_start(h->d, &err));
    job.payload = fby_str("payload");
    OK(fby_push(h->d, &job, 0, &id, NULL, &err));
    await(&h->given, 1);
    return id;
}

#define PLAIN "memory:?concurrency=2&retry=constant(1ms)"

static void a_pending_job_is_finished_by_another_thread(void) {
    hand_over h = fresh;
    fby_id id = begin_hand_over(&h, PLAIN);
    fby_bytes payload = h.job->payload;
    fby_outcome outcome = FBY_INIT(fby_outcome);
    fby_buffer *result = NULL;
    pass(&h.go);
    OK(fby_extend(h.d, h.ticket, SOON_MS, &err));
    CHECK(fby_cancelled(h.d, h.ticket) == 0);
    CHECK(state_of(h.d, &id) == FBY_STATE_RUNNING);
    /* Its memory lives until the ticket is finished. */
    CHECK(same(payload, "payload"));
    outcome.ticket = h.ticket;
    outcome.result = payload;
    outcome.content_type = fby_str("text/plain");
    OK(fby_finish(h.d, &outcome, sizeof outcome, 1, NULL, &err));
    OK(fby_wait(h.d, &id, 0, NULL, &result, &err));
    CHECK(same(fby_buffer_bytes(result), "payload"));
    fby_buffer_free(result);
    CHECK(fby_cancelled(h.d, h.ticket) == FBY_STOP_LEASE_LOST);
    EXPECT(FBY_E_STALE, fby_extend(h.d, h.ticket, 1, &err));
    stop_and_release(h.d);
}

/* The answer may come before the handler returns; what that answers does not count then. */
static void an_answer_before_the_return_counts(void) {
    static const fby_verdict returned[] = {FBY_PENDING, FBY_DONE, FBY_FAILED, 1234};
    size_t i;
    for (i = 0; i < 4; i++) {
        hand_over h = fresh;
        fby_id id = begin_hand_over(&h, PLAIN);
        fby_stop_report report = FBY_INIT(fby_stop_report);
        h.verdict = returned[i];
        CHECK(finish_one(h.d, h.ticket, FBY_FATAL) == FBY_OK);
        CHECK(state_of(h.d, &id) == FBY_STATE_FAILED);
        CHECK(finish_one(h.d, h.ticket, FBY_DONE) == FBY_E_STALE);
        pass(&h.go);
        OK(fby_stop(h.d, SOON_MS, &report, &err));
        CHECK(state_of(h.d, &id) == FBY_STATE_FAILED && report.handed_back == 0);
        fby_release(h.d);
    }
}

static void finish_racing(void *data) {
    hand_over *h = data;
    await(&h->given, 1);
    CHECK(finish_one(h->d, h->ticket, FBY_DONE) == FBY_OK);
    pass(&h->go);
}

static fby_verdict give_and_return(void *user_data, const fby_job *job, fby_reply *reply) {
    hand_over *h = user_data;
    (void)reply;
    h->ticket = job->ticket;
    pass(&h->given);
    return FBY_PENDING;
}

static void the_return_and_the_answer_may_race(void) {
    int i;
    for (i = 0; i < rounds(20, 300, 3000); i++) {
        hand_over h = fresh;
        worker w;
        fby_id id;
        h.d = open_plain();
        add_handler(h.d, "k", give_and_return, &h);
        begin(&w, finish_racing, &h);
        OK(fby_start(h.d, &err));
        id = push(h.d, "k");
        await_state(h.d, &id, FBY_STATE_SUCCEEDED);
        end(&w);
        stop_and_release(h.d);
    }
}

/* By its timeout, or by its lease: another attempt is made, which succeeds, and the first ticket is late. */
static void a_pending_job_that_is_never_finished_comes_back(void) {
    static const struct {
        const char *url;
        fby_stop_reason reason;
    } rows[] = {
        {"memory:?concurrency=2&retry=constant(1ms)&clock=manual&timeout=1h", FBY_STOP_TIMED_OUT},
        {"memory:?concurrency=2&retry=constant(1ms)&clock=manual&lease=1h", FBY_STOP_LEASE_LOST},
    };
    size_t i;
    for (i = 0; i < 2; i++) {
        hand_over h = fresh;
        fby_id id = begin_hand_over(&h, rows[i].url);
        pass(&h.go);
        OK(fby_advance(h.d, 3599999, &err));
        CHECK(fby_cancelled(h.d, h.ticket) == 0 && state_of(h.d, &id) == FBY_STATE_RUNNING);
        OK(fby_advance(h.d, 1, &err));
        CHECK(fby_cancelled(h.d, h.ticket) == rows[i].reason);
        CHECK(finish_one(h.d, h.ticket, FBY_FATAL) == FBY_E_STALE);
        OK(fby_advance(h.d, 1, &err));
        await_state(h.d, &id, FBY_STATE_SUCCEEDED);
        CHECK(finish_one(h.d, h.ticket, FBY_FATAL) == FBY_E_STALE);
        CHECK(state_of(h.d, &id) == FBY_STATE_SUCCEEDED);
        stop_and_release(h.d);
    }
}

static void a_ticket_is_stale_after_a_stop(void) {
    /* The handler may still be on its way out when this has returned. */
    static hand_over h;
    fby_id id;
    fby_bytes payload;
    fby_stop_report report = FBY_INIT(fby_stop_report);
    h = fresh;
    id = begin_hand_over(&h, PLAIN);
    payload = h.job->payload;
    pass(&h.go);
    OK(fby_stop(h.d, 1, &report, &err));
    CHECK(report.handed_back == 1 && report.waiting == 1);
    CHECK(same(payload, "payload"));
    CHECK(finish_one(h.d, h.ticket, FBY_DONE) == FBY_E_STALE);
    CHECK(state_of(h.d, &id) == FBY_STATE_QUEUED);
    fby_release(h.d);
}

static void a_release_ends_what_is_pending(void) {
    static hand_over h;
    h = fresh;
    begin_hand_over(&h, PLAIN);
    pass(&h.go);
    fby_release(h.d);
}

/* ---- eight threads, one ticket ---- */

enum { THIEVES = 8 };

typedef struct {
    fby_dispatcher *d;
    fby_ticket ticket;
    gate *start;
    atomic_int *won;
    unsigned seed;
} thief;

static void steal(void *data) {
    thief *t = data;
    uint64_t x = t->seed * 0x9e3779b97f4a7c15u + 1;
    int i;
    pass(t->start);
    await(t->start, THIEVES);
    for (i = 0; i < 50; i++) {
        fby_status status;
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        if (x != t->ticket) CHECK(finish_one(t->d, x, FBY_DONE) == FBY_E_STALE);
        CHECK(finish_one(t->d, (uint64_t)i, FBY_DONE) == FBY_E_STALE);
        status = finish_one(t->d, t->ticket, FBY_DONE);
        CHECK(status == FBY_OK || status == FBY_E_STALE);
        if (status == FBY_OK) atomic_fetch_add(t->won, 1);
        CHECK(fby_cancelled(t->d, x) == FBY_STOP_LEASE_LOST);
    }
}

static void of_many_answers_one_counts(void) {
    int round, i;
    fby_dispatcher *d = open_plain();
    fby_consumer *c = consumer_of(d);
    for (round = 0; round < rounds(5, 200, 2000); round++) {
        worker workers[THIEVES];
        thief thieves[THIEVES];
        gate start = GATE;
        atomic_int won = 0;
        fby_id id = push(d, "k");
        fby_job job = poll_one(c);
        for (i = 0; i < THIEVES; i++) {
            thief t = {d, job.ticket, &start, &won, (unsigned)(round * THIEVES + i)};
            thieves[i] = t;
            begin(&workers[i], steal, &thieves[i]);
        }
        for (i = 0; i < THIEVES; i++) end(&workers[i]);
        CHECK(atomic_load(&won) == 1);
        CHECK(state_of(d, &id) == FBY_STATE_SUCCEEDED);
    }
    fby_consumer_free(c);
    fby_release(d);
}

static void a_batch_tells_each_code(void) {
    fby_dispatcher *d = open_with("memory:?max_payload=4");
    fby_consumer *c = consumer_of(d);
    fby_outcome outcomes[5];
    fby_status codes[5] = {-1, -1, -1, -1, -1};
    fby_job jobs[3];
    size_t i, n;
    for (i = 0; i < 3; i++) push(d, "k");
    OK(fby_poll(c, jobs, sizeof jobs[0], 3, SOON_MS, &n, &err));
    CHECK(n == 3);
    for (i = 0; i < 5; i++) {
        fby_outcome o = FBY_INIT(fby_outcome);
        o.ticket = jobs[i % 3].ticket;
        outcomes[i] = o;
    }
    outcomes[1].result = fby_str("too long");
    outcomes[2].verdict = FBY_PENDING;
    /* 0: counts; 1: too long; 2: no answer; 3: the same as 0; 4: the ticket of 1 is still good. */
    INVALID(fby_finish(d, outcomes, sizeof outcomes[0], 5, codes, &err));
    CHECK(codes[0] == FBY_OK && codes[1] == FBY_E_INVALID && codes[2] == FBY_E_INVALID);
    CHECK(codes[3] == FBY_E_STALE && codes[4] == FBY_OK);
    CHECK(state_of(d, &jobs[2].id) == FBY_STATE_RUNNING);
    outcomes[2].verdict = 99;
    outcomes[2].struct_size = sizeof outcomes[2];
    OK(fby_finish(d, &outcomes[2], sizeof outcomes[0], 1, NULL, &err));
    CHECK(state_of(d, &jobs[2].id) == FBY_STATE_SCHEDULED);
    fby_consumer_free(c);
    fby_release(d);
}

static void an_unknown_verdict_is_a_failed_attempt(void) {
    static const fby_verdict unknown[] = {INT32_MIN, -1, FBY_RATE_LIMITED + 1, 1000, INT32_MAX};
    fby_dispatcher *d = open_with("memory:?retry=constant(1h)");
    fby_consumer *c = consumer_of(d);
    size_t i;
    for (i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        fby_buffer *json = NULL;
        fby_id id = push(d, "k");
        CHECK(finish_one(d, poll_one(c).ticket, unknown[i]) == FBY_OK);
        OK(fby_get(d, &id, &json, &err));
        CHECK(state_of(d, &id) == FBY_STATE_SCHEDULED && contains(fby_buffer_bytes(json), "which is no verdict"));
        fby_buffer_free(json);
    }
    fby_consumer_free(c);
    fby_release(d);
}

static void an_answer_brings_its_successors_or_neither_is_stored(void) {
    fby_dispatcher *d = open_with("memory:?capacity=2&retry=constant(1h)");
    fby_consumer *c = consumer_of(d);
    fby_job_spec next[2], taken = spec("taken");
    fby_outcome outcome = FBY_INIT(fby_outcome);
    fby_job job;
    fby_buffer *json = NULL;
    uint64_t waiting = 0;
    fby_id id = push(d, "k");
    next[0] = next[1] = spec("next");
    job = poll_one(c);
    outcome.ticket = job.ticket, outcome.result = fby_str("done");
    push(d, "k"), push(d, "k");
    /* What cannot be used is found first, and the ticket is still good. */
    next[1].kind = fby_str("");
    INVALID(fby_finish_and_push(d, &outcome, next, sizeof *next, 2, &err));
    next[1].kind = fby_str("next");
    INVALID(fby_finish_and_push(d, &outcome, next, 7, 2, &err));
    INVALID(fby_finish_and_push(d, &outcome, NULL, sizeof *next, 2, &err));
    INVALID(fby_finish_and_push(d, NULL, next, sizeof *next, 2, &err));
    INVALID(fby_finish_and_push(NULL, &outcome, next, sizeof *next, 2, &err));
    outcome.verdict = FBY_PENDING;
    INVALID(fby_finish_and_push(d, &outcome, next, sizeof *next, 2, &err));
    outcome.verdict = FBY_DONE;
    CHECK(state_of(d, &id) == FBY_STATE_RUNNING);
    /* A full queue does not refuse what follows from accepted work. */
    OK(fby_finish_and_push(d, &outcome, next, sizeof *next, 2, &err));
    OK(fby_len(d, fby_str("default"), &waiting, &err));
    CHECK(state_of(d, &id) == FBY_STATE_SUCCEEDED && waiting == 4);
    EXPECT(FBY_E_STALE, fby_finish_and_push(d, &outcome, next, sizeof *next, 2, &err));
    OK(fby_len(d, fby_str("default"), &waiting, &err));
    CHECK(waiting == 4);
    /* Without successors it is fby_finish. */
    job = poll_one(c);
    outcome.ticket = job.ticket;
    OK(fby_finish_and_push(d, &outcome, NULL, 0, 0, &err));
    CHECK(state_of(d, &job.id) == FBY_STATE_SUCCEEDED);
    /* A successor's key belongs to another job: the attempt has failed, and nothing is pushed. */
    job = poll_one(c);
    taken.key = next[1].key = fby_str("key");
    outcome.ticket = job.ticket;
    OK(fby_purge(d, fby_str("default"), NULL, &err));
    OK(fby_push(d, &taken, 0, NULL, NULL, &err));
    EXPECT(FBY_E_CONFLICT, fby_finish_and_push(d, &outcome, next, sizeof *next, 2, &err));
    OK(fby_get(d, &job.id, &json, &err));
    CHECK(state_of(d, &job.id) == FBY_STATE_SCHEDULED && contains(fby_buffer_bytes(json), "follow-up"));
    fby_buffer_free(json);
    OK(fby_len(d, fby_str("default"), &waiting, &err));
    CHECK(waiting == 2);
    fby_consumer_free(c);
    fby_release(d);
}

static void successors_may_come_before_the_return(void) {
    hand_over h = fresh;
    fby_id id = begin_hand_over(&h, PLAIN);
    fby_job_spec next = spec("next");
    fby_outcome outcome = FBY_INIT(fby_outcome);
    fby_stop_report report = FBY_INIT(fby_stop_report);
    outcome.ticket = h.ticket;
    OK(fby_finish_and_push(h.d, &outcome, &next, sizeof next, 1, &err));
    CHECK(state_of(h.d, &id) == FBY_STATE_SUCCEEDED);
    EXPECT(FBY_E_STALE, fby_finish_and_push(h.d, &outcome, &next, sizeof next, 1, &err));
    pass(&h.go);
    OK(fby_stop(h.d, SOON_MS, &report, &err));
    CHECK(report.handed_back == 0 && report.waiting == 1);
    fby_release(h.d);
}

static void a_cancelled_job_has_no_successors(void) {
    fby_dispatcher *d = open_plain();
    fby_consumer *c = consumer_of(d);
    fby_job_spec next = spec("next");
    fby_outcome outcome = FBY_INIT(fby_outcome);
    uint64_t waiting = 7;
    fby_id id = push(d, "k");
    outcome.ticket = poll_one(c).ticket;
    OK(fby_cancel(d, &id, NULL, &err));
    OK(fby_finish_and_push(d, &outcome, &next, sizeof next, 1, &err));
    OK(fby_len(d, fby_str("default"), &waiting, &err));
    CHECK(state_of(d, &id) == FBY_STATE_CANCELLED && waiting == 0);
    fby_consumer_free(c);
    fby_release(d);
}

static void tickets_of_another_dispatcher_are_stale(void) {
    fby_dispatcher *d = open_plain(), *other = open_plain();
    fby_consumer *c = consumer_of(d), *of_other = consumer_of(other);
    fby_job job, others;
    push(d, "k");
    push(other, "k");
    job = poll_one(c);
    others = poll_one(of_other);
    CHECK(finish_one(d, others.ticket, FBY_DONE) == FBY_E_STALE);
    CHECK(finish_one(other, job.ticket, FBY_DONE) == FBY_E_STALE);
    CHECK(finish_one(d, job.ticket, FBY_DONE) == FBY_OK);
    CHECK(finish_one(other, others.ticket, FBY_DONE) == FBY_OK);
    fby_consumer_free(c);
    fby_consumer_free(of_other);
    fby_release(d);
    fby_release(other);
}

static fby_verdict until_cancelled(void *user_data, const fby_job *job, fby_reply *reply) {
    hand_over *h = user_data;
    (void)reply;
    pass(&h->given);
    await(&h->go, 1);
    CHECK(fby_cancelled(h->d, job->ticket) == FBY_STOP_CANCELLED);
    return FBY_DONE;
}

static fby_verdict wait_to_be_told(void *user_data, const fby_job *job, fby_reply *reply) {
    hand_over *h = user_data;
    fby_stop_reason reason = -1;
    (void)reply;
    OK(fby_wait_stop(h->d, job->ticket, 0, 0, &reason, &err));
    CHECK(reason == 0);
    pass(&h->given);
    OK(fby_wait_stop(h->d, job->ticket, 0, SOON_MS, &reason, &err));
    CHECK(reason == FBY_STOP_STOPPING);
    pass(&h->given);
    OK(fby_wait_stop(h->d, job->ticket, reason, SOON_MS, &reason, &err));
    CHECK(reason == FBY_STOP_CANCELLED);
    return FBY_DONE;
}

static void a_handler_may_wait_until_it_should_stop(void) {
    hand_over h = fresh;
    fby_stop_reason reason = 0;
    fby_ticket ticket;
    fby_id id;
    h.d = open_plain();
    add_handler(h.d, "k", wait_to_be_told, &h);
    OK(fby_start(h.d, &err));
    id = push(h.d, "k");
    await(&h.given, 1);
    OK(fby_request_stop(h.d, &err));
    await(&h.given, 2);
    OK(fby_cancel(h.d, &id, NULL, &err));
    await_state(h.d, &id, FBY_STATE_CANCELLED);
    ticket = 1;
    OK(fby_wait_stop(h.d, ticket, 0, FBY_FOREVER, &reason, &err));
    CHECK(reason == FBY_STOP_LEASE_LOST);
    stop_and_release(h.d);
}

static void a_running_job_hears_of_its_cancel(void) {
    hand_over h = fresh;
    fby_state state = 0;
    fby_id id;
    h.d = open_plain();
    add_handler(h.d, "k", until_cancelled, &h);
    OK(fby_start(h.d, &err));
    id = push(h.d, "k");
    await(&h.given, 1);
    OK(fby_cancel(h.d, &id, &state, &err));
    CHECK(state == FBY_STATE_RUNNING);
    pass(&h.go);
    await_state(h.d, &id, FBY_STATE_CANCELLED);
    stop_and_release(h.d);
}

static const test_case cases[] = {
    CASE(a_pending_job_is_finished_by_another_thread),
    CASE(an_answer_before_the_return_counts),
    CASE(the_return_and_the_answer_may_race),
    CASE(a_pending_job_that_is_never_finished_comes_back),
    CASE(a_ticket_is_stale_after_a_stop),
    CASE(a_release_ends_what_is_pending),
    CASE(of_many_answers_one_counts),
    CASE(a_batch_tells_each_code),
    CASE(an_unknown_verdict_is_a_failed_attempt),
    CASE(an_answer_brings_its_successors_or_neither_is_stored),
    CASE(successors_may_come_before_the_return),
    CASE(a_cancelled_job_has_no_successors),
    CASE(tickets_of_another_dispatcher_are_stale),
    CASE(a_running_job_hears_of_its_cancel),
    CASE(a_handler_may_wait_until_it_should_stop),
};
SUITE(tickets);

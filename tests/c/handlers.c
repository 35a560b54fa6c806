/* Handlers: what they answer, what they may call, and when their data is dropped. */
#include "harness.h"

#include <string.h>

/* What a handler is to answer, and what came of it. */
typedef struct {
    fby_verdict verdict;
    const char *error;
    int64_t delay_ms;
    fby_state state;
    const char *tells; /* in the job's JSON, or NULL */
} row;

static fby_verdict answer(void *user_data, const fby_job *job, fby_reply *reply) {
    const row *r = user_data;
    if (job->attempt > 1) return FBY_DONE;
    if (r->error) OK(fby_reply_set_error(reply, fby_str(r->error), &err));
    OK(fby_reply_set_delay(reply, r->delay_ms, &err));
    return r->verdict;
}

static void every_verdict_has_its_meaning(void) {
    static row rows[] = {
        {FBY_DONE, NULL, 0, FBY_STATE_SUCCEEDED, NULL},
        {FBY_FAILED, "no luck", 0, FBY_STATE_SUCCEEDED, "no luck"},
        {FBY_FATAL, "no hope", 0, FBY_STATE_FAILED, "no hope"},
        {FBY_FATAL, NULL, 0, FBY_STATE_FAILED, "FBY_FATAL"},
        {FBY_RETRY, "again", 1, FBY_STATE_SUCCEEDED, "again"},
        {FBY_RETRY, NULL, 0, FBY_STATE_SUCCEEDED, "FBY_RETRY"},
        {FBY_CANCELLED, "no need", 0, FBY_STATE_CANCELLED, "no need"},
        {8, NULL, 0, FBY_STATE_SUCCEEDED, "the handler answered 8, which is no verdict"},
        {-1, NULL, 0, FBY_STATE_SUCCEEDED, "the handler answered -1, which is no verdict"},
        {FBY_FAILED, "\xff is no UTF-8", 0, FBY_STATE_SUCCEEDED, "is no UTF-8"},
    };
    size_t i;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fby_dispatcher *d = open_plain();
        fby_buffer *json = NULL;
        fby_id id;
        add_handler(d, "k", answer, &rows[i]);
        OK(fby_start(d, &err));
        id = push(d, "k");
        await_state(d, &id, rows[i].state);
        OK(fby_get(d, &id, &json, &err));
        CHECK(rows[i].tells == NULL || contains(fby_buffer_bytes(json), rows[i].tells));
        fby_buffer_free(json);
        stop_and_release(d);
    }
}

static fby_verdict snooze_twice(void *user_data, const fby_job *job, fby_reply *reply) {
    gate *called = user_data;
    CHECK(job->attempt == 1);
    pass(called);
    OK(fby_reply_set_delay(reply, 1, &err));
    return counted(called) <= 2 ? FBY_SNOOZE : FBY_DONE;
}

static void a_snooze_does_not_count(void) {
    fby_dispatcher *d = open_plain();
    gate called = GATE;
    fby_job_spec job = spec("k");
    fby_id id;
    job.max_attempts = 1;
    add_handler(d, "k", snooze_twice, &called);
    OK(fby_start(d, &err));
    OK(fby_push(d, &job, 0, &id, NULL, &err));
    await_state(d, &id, FBY_STATE_SUCCEEDED);
    CHECK(counted(&called) == 3);
    stop_and_release(d);
}

static fby_verdict fail_always(void *user_data, const fby_job *job, fby_reply *reply) {
    (void)job, (void)reply;
    pass(user_data);
    return FBY_FAILED;
}

static void kind_options_hold_for_a_kind(void) {
    fby_dispatcher *d = open_plain();
    gate called = GATE;
    fby_kind_options options = FBY_INIT(fby_kind_options);
    fby_error *err = NULL;
    fby_id id;
    options.max_attempts = 4;
    options.concurrency = 1;
    options.timeout_ms = SOON_MS;
    options.retry = fby_str("none");
    OK(fby_register(d, fby_str("k"), &options, fail_always, &called, NULL, &err));
    OK(fby_start(d, &err));
    id = push(d, "k");
    CHECK(fby_wait(d, &id, SOON_MS, NULL, NULL, &err) == FBY_E_JOB_FAILED);
    CHECK(contains(fby_error_message(err), "FBY_FAILED"));
    fby_error_free(err);
    CHECK(counted(&called) == 4);
    stop_and_release(d);
}

static fby_verdict misuse_the_reply(void *user_data, const fby_job *job, fby_reply *reply) {
    (void)user_data, (void)job;
    INVALID(fby_reply_set_result(reply, bytes(NULL, 1), fby_str(""), &err));
    INVALID(fby_reply_set_result(reply, fby_str("x"), bytes("\xff", 1), &err));
    INVALID(fby_reply_set_result(reply, bytes("much too long", 13), fby_str(""), &err));
    INVALID(fby_reply_set_error(reply, bytes(NULL, 1), &err));
    INVALID(fby_reply_set_delay(reply, -1, &err));
    OK(fby_reply_set_result(reply, fby_str("one"), fby_str(""), &err));
    OK(fby_reply_set_result(reply, fby_str("two"), fby_str(""), &err));
    return FBY_DONE;
}

static void a_wrong_reply_is_a_code(void) {
    fby_dispatcher *d = open_with("memory:?max_payload=8");
    fby_buffer *result = NULL;
    fby_id id;
    add_handler(d, "k", misuse_the_reply, NULL);
    OK(fby_start(d, &err));
    id = push(d, "k");
    OK(fby_wait(d, &id, SOON_MS, NULL, &result, &err));
    CHECK(same(fby_buffer_bytes(result), "two"));
    fby_buffer_free(result);
    stop_and_release(d);
}

/* ---- calls from inside a handler ---- */

static fby_verdict wait_for_myself(void *user_data, const fby_job *job, fby_reply *reply) {
    fby_dispatcher *d = user_data;
    fby_consumer *c = consumer_of(d);
    fby_job polled;
    (void)reply;
    EXPECT(FBY_E_WOULD_DEADLOCK, fby_stop(d, 0, NULL, &err));
    EXPECT(FBY_E_WOULD_DEADLOCK, fby_stop(d, FBY_DEFAULT, NULL, &err));
    EXPECT(FBY_E_WOULD_DEADLOCK, fby_drain(d, FBY_FOREVER, &err));
    EXPECT(FBY_E_WOULD_DEADLOCK, fby_wait(d, &job->id, FBY_FOREVER, NULL, NULL, &err));
    EXPECT(FBY_E_WOULD_DEADLOCK, fby_poll(c, &polled, sizeof polled, 1, FBY_FOREVER, NULL, &err));
    OK(fby_poll(c, &polled, sizeof polled, 1, 0, NULL, &err));
    fby_consumer_free(c);
    return FBY_DONE;
}

static void a_handler_cannot_wait_for_itself(void) {
    fby_dispatcher *d = open_plain();
    fby_id id;
    add_handler(d, "k", wait_for_myself, d);
    OK(fby_start(d, &err));
    id = push(d, "k");
    await_state(d, &id, FBY_STATE_SUCCEEDED);
    stop_and_release(d);
}

static fby_verdict wait_for_what_nobody_can_run(void *user_data, const fby_job *job, fby_reply *reply) {
    fby_dispatcher *d = user_data;
    fby_id child = push(d, "child");
    (void)job, (void)reply;
    EXPECT(FBY_E_WOULD_DEADLOCK, fby_wait(d, &child, FBY_FOREVER, NULL, NULL, &err));
    return FBY_DONE;
}

static fby_verdict no_child(void *user_data, const fby_job *job, fby_reply *reply) {
    (void)user_data, (void)job, (void)reply;
    return FBY_DONE;
}

/* The only slot is the waiting handler's. */
static void handlers_cannot_wait_for_what_none_is_left_to_run(void) {
    fby_dispatcher *d = open_with("memory:?concurrency=1");
    fby_id id;
    add_handler(d, "k", wait_for_what_nobody_can_run, d);
    add_handler(d, "child", no_child, NULL);
    OK(fby_start(d, &err));
    id = push(d, "k");
    await_state(d, &id, FBY_STATE_SUCCEEDED);
    OK(fby_drain(d, SOON_MS, &err));
    stop_and_release(d);
}

static fby_verdict push_into_my_full_queue(void *user_data, const fby_job *job, fby_reply *reply) {
    fby_dispatcher *d = user_data;
    fby_job_spec more = spec("other");
    (void)job, (void)reply;
    EXPECT(FBY_E_FULL, fby_push(d, &more, 0, NULL, NULL, &err));
    EXPECT(FBY_E_FULL, fby_push(d, &more, 20, NULL, NULL, &err));
    return FBY_DONE;
}

static void a_handler_may_find_its_queue_full(void) {
    fby_dispatcher *d = open_with("memory:?capacity=1&concurrency=1");
    fby_job_spec job = spec("k");
    fby_id id;
    add_handler(d, "k", push_into_my_full_queue, d);
    push(d, "other");
    EXPECT(FBY_E_FULL, fby_push(d, &job, 0, NULL, NULL, &err));
    job.queue = fby_str("mine");
    OK(fby_push(d, &job, 0, &id, NULL, &err));
    OK(fby_start(d, &err));
    await_state(d, &id, FBY_STATE_SUCCEEDED);
    stop_and_release(d);
}

static fby_verdict call_everything(void *user_data, const fby_job *job, fby_reply *reply) {
    fby_dispatcher *d = user_data;
    fby_buffer *text = NULL;
    fby_id id = push(d, "other");
    (void)reply;
    OK(fby_declare(d, fby_str("third"), NULL, &err));
    CHECK(state_of(d, &job->id) == FBY_STATE_RUNNING);
    OK(fby_cancel(d, &id, NULL, &err));
    OK(fby_explain(d, &job->id, &text, &err));
    CHECK(contains(fby_buffer_bytes(text), "running"));
    fby_buffer_free(text);
    OK(fby_pause(d, fby_str("q"), &err));
    OK(fby_resume(d, fby_str("q"), &err));
    OK(fby_purge(d, fby_str("q"), NULL, &err));
    OK(fby_extend(d, job->ticket, SOON_MS, &err));
    CHECK(fby_cancelled(d, job->ticket) == 0);
    OK(fby_unregister(d, job->kind, NULL, &err));
    OK(fby_request_stop(d, &err));
    CHECK(fby_cancelled(d, job->ticket) == FBY_STOP_STOPPING);
    return FBY_DONE;
}

static void a_handler_may_call_the_rest(void) {
    fby_dispatcher *d = open_plain();
    fby_id id;
    add_handler(d, "k", call_everything, d);
    OK(fby_start(d, &err));
    id = push(d, "k");
    OK(fby_wait(d, &id, SOON_MS, NULL, NULL, &err));
    stop_and_release(d);
}

/* ---- user_data is dropped exactly once ---- */

typedef struct {
    gate calls, drops, go;
    fby_dispatcher *d;
} owned;

static owned *own(fby_dispatcher *d) {
    static const owned fresh = {GATE, GATE, GATE, NULL};
    owned *o = malloc(sizeof *o);
    *o = fresh;
    o->d = d;
    return o;
}

static fby_verdict call_owned(void *user_data, const fby_job *job, fby_reply *reply) {
    owned *o = user_data;
    (void)job, (void)reply;
    CHECK(counted(&o->drops) == 0);
    pass(&o->calls);
    await(&o->go, 1);
    CHECK(counted(&o->drops) == 0);
    return FBY_DONE;
}

static void drop_owned(void *user_data) {
    owned *o = user_data;
    CHECK(counted(&o->drops) == 0);
    pass(&o->drops);
}

static void failed_registrations_drop(void) {
    fby_dispatcher *d = open_plain();
    fby_kind_options bad = FBY_INIT(fby_kind_options);
    owned *o[6];
    size_t i;
    bad.timeout_ms = -1;
    for (i = 0; i < 6; i++) o[i] = own(d);
    INVALID(fby_register(NULL, fby_str("k"), NULL, call_owned, o[0], drop_owned, &err));
    INVALID(fby_register(d, fby_str(""), NULL, call_owned, o[1], drop_owned, &err));
    INVALID(fby_register(d, bytes(NULL, 1), NULL, call_owned, o[2], drop_owned, &err));
    INVALID(fby_register(d, fby_str("k"), NULL, NULL, o[3], drop_owned, &err));
    INVALID(fby_register(d, fby_str("k"), &bad, call_owned, o[4], drop_owned, &err));
    OK(fby_stop(d, 0, NULL, &err));
    EXPECT(FBY_E_CLOSED, fby_register(d, fby_str("k"), NULL, call_owned, o[5], drop_owned, &err));
    for (i = 0; i < 6; i++) {
        CHECK(counted(&o[i]->drops) == 1);
        free(o[i]);
    }
    fby_release(d);
}

static void a_stop_and_a_release_drop(void) {
    int stop_first;
    for (stop_first = 0; stop_first < 2; stop_first++) {
        fby_dispatcher *d = open_plain();
        owned *o = own(d);
        fby_id id;
        OK(fby_register(d, fby_str("k"), NULL, call_owned, o, drop_owned, &err));
        OK(fby_start(d, &err));
        id = push(d, "k");
        pass(&o->go);
        await_state(d, &id, FBY_STATE_SUCCEEDED);
        CHECK(counted(&o->drops) == 0);
        if (stop_first) OK(fby_stop(d, SOON_MS, NULL, &err));
        fby_release(d);
        await(&o->drops, 1);
        free(o);
    }
}

static void without_a_start_it_is_dropped_too(void) {
    fby_dispatcher *d = open_plain();
    owned *o = own(d);
    OK(fby_register(d, fby_str("k"), NULL, call_owned, o, drop_owned, &err));
    fby_release(d);
    CHECK(counted(&o->drops) == 1);
    free(o);
}

/* The old handler is in a call when it is replaced or taken away: it is dropped when that has returned. */
static void the_last_call_returns_before_the_drop(void) {
    int replace;
    for (replace = 0; replace < 2; replace++) {
        fby_dispatcher *d = open_plain();
        owned *o = own(d), *next = own(d);
        fby_id id;
        bool removed = false;
        OK(fby_register(d, fby_str("k"), NULL, call_owned, o, drop_owned, &err));
        OK(fby_start(d, &err));
        id = push(d, "k");
        await(&o->calls, 1);
        if (replace) {
            OK(fby_register(d, fby_str("k"), NULL, call_owned, next, drop_owned, &err));
        } else {
            OK(fby_unregister(d, fby_str("k"), &removed, &err));
            CHECK(removed);
            OK(fby_unregister(d, fby_str("k"), &removed, &err));
            CHECK(!removed);
        }
        CHECK(counted(&o->drops) == 0);
        pass(&o->go);
        await_state(d, &id, FBY_STATE_SUCCEEDED);
        await(&o->drops, 1);
        if (replace) {
            pass(&next->go);
            id = push(d, "k");
            await_state(d, &id, FBY_STATE_SUCCEEDED);
            CHECK(counted(&next->calls) == 1 && counted(&next->drops) == 0);
        }
        stop_and_release(d);
        CHECK(counted(&o->calls) == 1 && counted(&next->drops) == replace);
        free(o);
        free(next);
    }
}

static void drop_calls_back(void *user_data) {
    owned *o = user_data;
    fby_status status = fby_register(o->d, fby_str("other"), NULL, call_owned, NULL, NULL, NULL);
    CHECK(status == FBY_OK || status == FBY_E_CLOSED);
    CHECK(fby_stats(o->d, NULL, NULL) == FBY_OK);
    CHECK(fby_stop(o->d, 0, NULL, NULL) == FBY_OK);
    drop_owned(o);
}

/* No lock of the library is held while a drop runs. */
static void a_drop_may_call_the_library(void) {
    int replace;
    for (replace = 0; replace < 2; replace++) {
        fby_dispatcher *d = open_plain();
        owned *o = own(d);
        OK(fby_register(d, fby_str("k"), NULL, call_owned, o, drop_calls_back, &err));
        if (replace) fby_register(d, fby_str("k"), NULL, call_owned, NULL, NULL, NULL);
        OK(fby_stop(d, 0, NULL, &err));
        CHECK(counted(&o->drops) == 1);
        fby_release(d);
        free(o);
    }
}

static fby_verdict release_the_last(void *user_data, const fby_job *job, fby_reply *reply) {
    owned *o = user_data;
    (void)job, (void)reply;
    await(&o->go, 1);
    fby_release(o->d);
    return FBY_DONE;
}

static void a_handler_may_release_the_last_reference(void) {
    fby_dispatcher *d = open_plain();
    owned *o = own(d);
    OK(fby_register(d, fby_str("k"), NULL, release_the_last, o, drop_owned, &err));
    OK(fby_start(d, &err));
    push(d, "k");
    pass(&o->go);
    await(&o->drops, 1);
    free(o);
}

static const test_case cases[] = {
    CASE(every_verdict_has_its_meaning),
    CASE(a_snooze_does_not_count),
    CASE(kind_options_hold_for_a_kind),
    CASE(a_wrong_reply_is_a_code),
    CASE(a_handler_cannot_wait_for_itself),
    CASE(handlers_cannot_wait_for_what_none_is_left_to_run),
    CASE(a_handler_may_find_its_queue_full),
    CASE(a_handler_may_call_the_rest),
    CASE(failed_registrations_drop),
    CASE(a_stop_and_a_release_drop),
    CASE(without_a_start_it_is_dropped_too),
    CASE(the_last_call_returns_before_the_drop),
    CASE(a_drop_may_call_the_library),
    CASE(a_handler_may_release_the_last_reference),
};
SUITE(handlers);

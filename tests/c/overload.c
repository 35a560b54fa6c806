/* More than can be done: full queues that shed, options of queues and kinds by name, and who is told. */
#include "harness.h"

#include <string.h>

static void set(fby_dispatcher *d, const char *queue, const char *name, const char *value) {
    OK(fby_queue_option(d, fby_str(queue), fby_str(name), fby_str(value), &err));
}

static fby_shed rule_of(fby_dispatcher *d, const fby_id *id) {
    fby_shed rule = -1;
    OK(fby_job_shed(d, id, &rule, &err));
    return rule;
}

static fby_id push_with(fby_dispatcher *d, int priority, const char *concurrency_key) {
    fby_job_spec job = spec("k");
    fby_id id;
    job.priority = priority;
    job.concurrency_key = fby_str(concurrency_key);
    OK(fby_push(d, &job, FBY_DEFAULT, &id, NULL, &err));
    return id;
}

/* Three jobs come to a queue for two, and one of them has to go. */
static void the_policy_says_who_goes(void) {
    static const struct {
        const char *policy;
        int gone;
        fby_shed rule;
    } rows[] = {
        {"drop_newest", 2, FBY_SHED_NEWEST}, {"drop_oldest", 0, FBY_SHED_OLDEST},
        {"drop_lowest", 1, FBY_SHED_LOWEST}, {"sample(0)", 2, FBY_SHED_SAMPLED},
    };
    size_t i;
    int j;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fby_dispatcher *d = open_with("memory:?capacity=2");
        fby_error *err = NULL;
        fby_buffer *text = NULL;
        fby_state state = 0;
        fby_id ids[3];
        set(d, "default", "on_full", rows[i].policy);
        ids[0] = push_with(d, 1, "");
        ids[1] = push_with(d, 0, "");
        ids[2] = push_with(d, 1, "");
        for (j = 0; j < 3; j++) {
            int gone = j == rows[i].gone;
            CHECK(state_of(d, &ids[j]) == (gone ? FBY_STATE_SHED : FBY_STATE_QUEUED));
            CHECK(rule_of(d, &ids[j]) == (gone ? rows[i].rule : 0));
        }
        CHECK(fby_wait(d, &ids[rows[i].gone], 0, &state, NULL, &err) == FBY_E_SHED);
        CHECK(state == FBY_STATE_SHED && contains(fby_error_message(err), "the queue was full"));
        fby_error_free(err);
        OK(fby_explain(d, &ids[rows[i].gone], &text, &err));
        CHECK(contains(fby_buffer_bytes(text), "shed"));
        fby_buffer_free(text);
        OK(fby_stats(d, &text, &err));
        CHECK(contains(fby_buffer_bytes(text), "\"shed\":1,"));
        fby_buffer_free(text);
        fby_release(d);
    }
}

typedef struct {
    fby_dispatcher *d;
    fby_id id;
} waiter;

static void wait_for_shed(void *data) {
    waiter *w = data;
    EXPECT(FBY_E_SHED, fby_wait(w->d, &w->id, SOON_MS, NULL, NULL, &err));
}

static void who_waits_hears_that_its_job_was_shed(void) {
    fby_dispatcher *d = open_with("memory:?capacity=1&on_full=drop_oldest");
    int i;
    for (i = 0; i < 20; i++) {
        waiter w = {d, push(d, "k")};
        worker thread;
        begin(&thread, wait_for_shed, &w);
        push(d, "k");
        end(&thread);
    }
    fby_release(d);
}

enum { PUSHERS = 4 };

static void push_too_much(void *data) {
    int i;
    for (i = 0; i < 500; i++) push(data, "k");
}

static fby_verdict count(void *user_data, const fby_job *job, fby_reply *reply) {
    (void)job, (void)reply;
    atomic_fetch_add((atomic_int *)user_data, 1);
    return FBY_DONE;
}

static void threads_that_push_too_much_lose_no_count(void) {
    fby_dispatcher *d = open_with("memory:?capacity=20&on_full=drop_oldest&concurrency=2");
    atomic_int ran = 0;
    worker workers[PUSHERS];
    fby_buffer *json = NULL;
    char shed[64];
    int i;
    add_handler(d, "k", count, &ran);
    OK(fby_start(d, &err));
    for (i = 0; i < PUSHERS; i++) begin(&workers[i], push_too_much, d);
    for (i = 0; i < PUSHERS; i++) end(&workers[i]);
    OK(fby_drain(d, SOON_MS, &err));
    OK(fby_stats(d, &json, &err));
    CHECK(contains(fby_buffer_bytes(json), "\"pushed\":2000,"));
    /* Also a newcomer, when all that waited was just being taken. */
    snprintf(shed, sizeof shed, "\"shed\":%d,", 500 * PUSHERS - atomic_load(&ran));
    CHECK(contains(fby_buffer_bytes(json), shed));
    fby_buffer_free(json);
    stop_and_release(d);
}

static void options_of_a_queue_go_by_name(void) {
    static const struct {
        const char *name, *value;
        fby_status code;
    } rows[] = {
        {"capacity", "many", FBY_E_INVALID},    {"capacty", "1", FBY_E_NOT_FOUND}, {"", "1", FBY_E_NOT_FOUND},
        {"on_full", "spill", FBY_E_UNSUPPORTED}, {"concurrency", "0", FBY_E_INVALID}, {"rate", "100/s", FBY_OK},
        {"rate", "default", FBY_OK},
    };
    fby_dispatcher *d = open_plain();
    fby_job_spec job = spec("k");
    size_t i;
    job.queue = fby_str("mail");
    set(d, "mail", "capacity", "1");
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        EXPECT(rows[i].code, fby_queue_option(d, fby_str("mail"), fby_str(rows[i].name), fby_str(rows[i].value), &err));
    }
    /* What was said before stays, whatever was said of others; and "default" takes it back. */
    OK(fby_push(d, &job, 0, NULL, NULL, &err));
    EXPECT(FBY_E_FULL, fby_push(d, &job, 0, NULL, NULL, &err));
    set(d, "mail", "capacity", "default");
    OK(fby_push(d, &job, 0, NULL, NULL, &err));
    OK(fby_stop(d, 0, NULL, &err));
    EXPECT(FBY_E_CLOSED, fby_queue_option(d, fby_str("mail"), fby_str("capacity"), fby_str("1"), &err));
    fby_release(d);
}

static fby_verdict fail_always(void *user_data, const fby_job *job, fby_reply *reply) {
    (void)job, (void)reply;
    pass(user_data);
    return FBY_FAILED;
}

static void options_of_a_kind_go_by_name(void) {
    fby_dispatcher *d = open_plain();
    gate called = GATE;
    fby_kind_options options = FBY_INIT(fby_kind_options);
    fby_id id;
    options.max_attempts = 2;
    options.options = fby_str("max_attempts=4&retry=none&breaker=failures(9, open=30s)&adaptive=aimd(max=100)");
    OK(fby_register(d, fby_str("k"), &options, fail_always, &called, NULL, &err));
    OK(fby_start(d, &err));
    id = push(d, "k");
    await_state(d, &id, FBY_STATE_FAILED);
    CHECK(counted(&called) == 4);
    options.options = fby_str("max_attempt=4");
    EXPECT(FBY_E_NOT_FOUND, fby_declare(d, fby_str("k"), &options, &err));
    options.options = fby_str("rate=fast");
    INVALID(fby_declare(d, fby_str("k"), &options, &err));
    options.options = fby_str("rate");
    INVALID(fby_declare(d, fby_str("k"), &options, &err));
    stop_and_release(d);
}

static fby_verdict not_now(void *user_data, const fby_job *job, fby_reply *reply) {
    gate *called = user_data;
    CHECK(job->attempt == 1);
    pass(called);
    OK(fby_reply_set_delay(reply, counted(called) % 2, &err));
    return counted(called) <= 3 ? FBY_RATE_LIMITED : FBY_DONE;
}

static void rate_limited_is_no_failure(void) {
    fby_dispatcher *d = open_plain();
    gate called = GATE;
    fby_job_spec job = spec("k");
    fby_buffer *json = NULL;
    fby_id id;
    job.max_attempts = 1;
    add_handler(d, "k", not_now, &called);
    OK(fby_start(d, &err));
    OK(fby_push(d, &job, 0, &id, NULL, &err));
    await_state(d, &id, FBY_STATE_SUCCEEDED);
    CHECK(counted(&called) == 4);
    OK(fby_stats(d, &json, &err));
    CHECK(contains(fby_buffer_bytes(json), "\"failed\":0,"));
    fby_buffer_free(json);
    stop_and_release(d);
}

static void a_ticket_can_be_rate_limited(void) {
    fby_dispatcher *d = open_plain();
    fby_consumer *c = consumer_of(d);
    fby_outcome outcome = FBY_INIT(fby_outcome);
    fby_id id = push(d, "k");
    fby_job job = poll_one(c);
    outcome.ticket = job.ticket;
    outcome.verdict = FBY_RATE_LIMITED;
    outcome.delay_ms = SOON_MS;
    OK(fby_finish(d, &outcome, sizeof outcome, 1, NULL, &err));
    CHECK(state_of(d, &id) == FBY_STATE_SCHEDULED);
    fby_consumer_free(c);
    fby_release(d);
}

static void a_job_has_its_concurrency_key(void) {
    fby_dispatcher *d = open_plain();
    fby_consumer *c = consumer_of(d);
    fby_buffer *json = NULL;
    fby_id id = push_with(d, 0, "tenant 7");
    fby_job job = poll_one(c);
    CHECK(same(job.concurrency_key, "tenant 7") && job.key.len == 0);
    OK(fby_get(d, &id, &json, &err));
    CHECK(contains(fby_buffer_bytes(json), "\"concurrency_key\":\"tenant 7\""));
    fby_buffer_free(json);
    CHECK(finish_one(d, job.ticket, FBY_DONE) == FBY_OK);
    fby_consumer_free(c);
    fby_release(d);
}

static void keys_take_turns(void) {
    static const char *const pushed[] = {"a", "a", "a", "b"};
    fby_dispatcher *d = open_plain();
    fby_consumer *c = consumer_of(d);
    fby_job jobs[4];
    size_t i, n;
    for (i = 0; i < 4; i++) push_with(d, 0, pushed[i]);
    OK(fby_poll(c, jobs, sizeof jobs[0], 4, 0, &n, &err));
    CHECK(n == 4);
    CHECK(!same(jobs[0].concurrency_key, "a") || !same(jobs[1].concurrency_key, "a"));
    for (i = 0; i < 4; i++) CHECK(finish_one(d, jobs[i].ticket, FBY_DONE) == FBY_OK);
    fby_consumer_free(c);
    fby_release(d);
}

static void pressure_is_a_share(void) {
    fby_dispatcher *d = open_with("memory:?capacity=4");
    fby_job_spec job = spec("k");
    double pressure = -1;
    int64_t patience = -1;
    OK(fby_queue_patience(d, fby_str("unheard of"), &patience, &err));
    CHECK(patience == 0);
    OK(fby_queue_option(d, fby_str("patient"), fby_str("on_full"), fby_str("block(5s)"), &err));
    OK(fby_queue_patience(d, fby_str("patient"), &patience, &err));
    CHECK(patience == 5000);
    OK(fby_pressure(d, fby_str("unheard of"), &pressure, &err));
    CHECK(pressure == 0);
    push(d, "k");
    OK(fby_pressure(d, fby_str("default"), &pressure, &err));
    CHECK(pressure == 0.25);
    set(d, "bytes", "capacity_bytes", "8");
    job.queue = fby_str("bytes");
    job.payload = fby_str("123456");
    OK(fby_push(d, &job, 0, NULL, NULL, &err));
    OK(fby_pressure(d, fby_str("bytes"), &pressure, &err));
    CHECK(pressure == 0.75);
    EXPECT(FBY_E_FULL, fby_push(d, &job, 0, NULL, NULL, &err));
    fby_release(d);
}

static void a_queue_says_why_nothing_starts(void) {
    fby_dispatcher *d = open_plain();
    fby_buffer *why = NULL;
    EXPECT(FBY_E_NOT_FOUND, fby_explain_queue(d, fby_str("unheard of"), &why, &err));
    push(d, "k");
    OK(fby_explain_queue(d, fby_str("default"), &why, &err));
    CHECK(contains(fby_buffer_bytes(why), "no handler for kind \"k\""));
    fby_buffer_free(why);
    OK(fby_pause(d, fby_str("default"), &err));
    OK(fby_explain_queue(d, fby_str("default"), &why, &err));
    CHECK(contains(fby_buffer_bytes(why), "is paused"));
    fby_buffer_free(why);
    fby_release(d);
}

static const test_case cases[] = {
    CASE(the_policy_says_who_goes),
    CASE(who_waits_hears_that_its_job_was_shed),
    CASE(threads_that_push_too_much_lose_no_count),
    CASE(options_of_a_queue_go_by_name),
    CASE(options_of_a_kind_go_by_name),
    CASE(rate_limited_is_no_failure),
    CASE(a_ticket_can_be_rate_limited),
    CASE(a_job_has_its_concurrency_key),
    CASE(keys_take_turns),
    CASE(pressure_is_a_share),
    CASE(a_queue_says_why_nothing_starts),
};
SUITE(overload);

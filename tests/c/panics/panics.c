/* A panic in any exported function is a code, and the process and the handles go on. Built with a library that has the
 * feature failpoints, and run with nothing else. */
#include "../nulls.h"

#include <string.h>

/* Has the next call of this thread panic, or no longer; whether one was to until now. */
bool fby_failpoint(bool panic);

static void panic_in(const null_row *row, fby_reply *reply, char *path) {
    stage s;
    fby_error *err = NULL;
    fby_status status;
    set_stage(&s);
    s.reply = reply, s.path = path;
    fby_failpoint(true);
    status = row->call(&s, &err);
    if (fby_failpoint(false)) {
        fprintf(stderr, "\n%s is no boundary\n", row->function);
        CHECK(!"the call came to the failpoint");
    }
    if (row->want != NO_CODE) {
        CHECK(status == FBY_E_PANIC && fby_error_code(err) == FBY_E_PANIC);
        CHECK(contains(fby_error_message(err), "failpoint") && !fby_error_retryable(err));
        fby_error_free(err);
        /* The same call, with the same handles. */
        err = NULL;
        status = row->call(&s, &err);
        CHECK(status != FBY_E_PANIC && status != FBY_E_INVALID);
        fby_error_free(err);
    }
    /* And the dispatcher is what it was. */
    status = fby_stats(s.dispatcher, NULL, NULL);
    CHECK(status == FBY_OK);
    strike_stage(&s);
}

static fby_verdict panic_in_all(void *user_data, const fby_job *job, fby_reply *reply) {
    size_t i, tried = 0;
    (void)job;
    for (i = 0; i < null_row_count; i++) {
        if (strcmp(null_rows[i].place, "nothing") != 0) continue;
        panic_in(&null_rows[i], reply, user_data);
        tried++;
    }
    CHECK(tried > 50);
    return FBY_DONE;
}

static void a_panic_in_any_function_is_a_code(void) {
    fby_dispatcher *d = open_with("memory:?concurrency=1");
    char *path = scratch("panics.dump");
    fby_id id;
    OK(fby_dump(d, fby_str(path), NULL, &err));
    add_handler(d, "rows", panic_in_all, path);
    OK(fby_start(d, &err));
    id = push(d, "rows");
    OK(fby_wait(d, &id, FBY_FOREVER, NULL, NULL, &err));
    stop_and_release(d);
    remove(path);
    free(path);
}

/* What a panic keeps from being freed is not freed, and nothing else happens. */
static void a_panic_where_there_is_no_code_ends_nothing(void) {
    stage s;
    set_stage(&s);
#define PANICS(call) fby_failpoint(true), call, CHECK(!fby_failpoint(false))
    PANICS(fby_release(s.dispatcher));
    PANICS(fby_consumer_free(s.consumer));
    PANICS(fby_forwarder_free(s.forwarder));
    PANICS(fby_watcher_free(s.watcher));
    PANICS(fby_events_free(s.events));
    PANICS(CHECK(fby_events_dropped(s.events) == 0));
    PANICS(CHECK(strcmp(fby_event_name(FBY_EVENT_PUSHED), "?") == 0));
    PANICS(fby_options_free(s.options));
    PANICS(fby_buffer_free(s.buffer));
    PANICS(fby_error_free(s.error));
    PANICS(CHECK(fby_options_new() == NULL));
    PANICS(CHECK(fby_retain(s.dispatcher) == s.dispatcher));
    PANICS(CHECK(fby_error_code(s.error) == FBY_E_PANIC));
    PANICS(CHECK(fby_error_message(s.error).len == 0));
    PANICS(CHECK(fby_buffer_bytes(s.buffer).len == 0));
    PANICS(CHECK(fby_cancelled(s.dispatcher, s.ticket) == FBY_STOP_LEASE_LOST));
    CHECK(fby_cancelled(s.dispatcher, s.ticket) == 0);
    CHECK(fby_error_code(s.error) == FBY_E_INVALID);
    /* All of it is still good. */
    strike_stage(&s);
}

static fby_verdict echo(void *user_data, const fby_job *job, fby_reply *reply) {
    (void)user_data;
    OK(fby_reply_set_result(reply, job->payload, job->content_type, &err));
    return FBY_DONE;
}

static void drop_once(void *user_data) {
    pass(user_data);
}

static void a_panic_in_a_registration_drops_once(void) {
    fby_dispatcher *d = open_plain();
    gate drops = GATE;
    fby_failpoint(true);
    EXPECT(FBY_E_PANIC, fby_register(d, fby_str("k"), NULL, echo, &drops, drop_once, &err));
    CHECK(counted(&drops) == 1);
    stop_and_release(d);
    CHECK(counted(&drops) == 1);
}

/* A push that panics at the boundary has pushed nothing, and a finish has used no ticket up. */
static void a_panic_changes_nothing(void) {
    fby_dispatcher *d = open_plain();
    fby_consumer *c = consumer_of(d);
    fby_job_spec job = spec("k");
    fby_job polled;
    uint64_t waiting = 7;
    fby_failpoint(true);
    EXPECT(FBY_E_PANIC, fby_push(d, &job, 0, NULL, NULL, &err));
    OK(fby_len(d, fby_str("default"), &waiting, &err));
    CHECK(waiting == 0);
    push(d, "k");
    fby_failpoint(true);
    EXPECT(FBY_E_PANIC, fby_poll(c, &polled, sizeof polled, 1, 0, NULL, &err));
    polled = poll_one(c);
    fby_failpoint(true);
    CHECK(finish_one(d, polled.ticket, FBY_DONE) == FBY_E_PANIC);
    CHECK(finish_one(d, polled.ticket, FBY_DONE) == FBY_OK);
    CHECK(state_of(d, &polled.id) == FBY_STATE_SUCCEEDED);
    fby_consumer_free(c);
    stop_and_release(d);
}

static const test_case cases[] = {
    CASE(a_panic_in_any_function_is_a_code),
    CASE(a_panic_where_there_is_no_code_ends_nothing),
    CASE(a_panic_in_a_registration_drops_once),
    CASE(a_panic_changes_nothing),
};

int main(void) {
    size_t i;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cases[i].run();
        printf("c panics %s ... ok\n", cases[i].name);
    }
    printf("C panics: %zu tests passed\n", i);
    return 0;
}

/* NULL in every place of every function: a code, never a crash. The rows are made from the header when the tests are
 * built, so that a function that is new has its own. */
#include "nulls.h"

#include <string.h>

static fby_verdict never(void *user_data, const fby_job *job, fby_reply *reply) {
    (void)user_data, (void)job, (void)reply;
    abort();
}

static void ignore(void *user_data, const fby_event *event) {
    (void)user_data, (void)event;
}

static void no_drop(void *user_data) {
    (void)user_data;
}

/* Everything of its own for each row: some rows use it up. */
void set_stage(stage *s) {
    fby_outcome outcome = FBY_INIT(fby_outcome);
    memset(s, 0, sizeof *s);
    s->handler = never, s->drop = no_drop, s->logger = ignore;
    s->name = fby_str("k");
    s->dispatcher = open_with("memory:?concurrency=4&clock=manual");
    s->consumer = consumer_of(s->dispatcher);
    s->options = fby_options_new();
    OK(fby_forward(s->dispatcher, fby_str("outbox"), fby_str("memory:"), bytes(NULL, 0), bytes(NULL, 0), &s->forwarder,
                   &err));
    OK(fby_watcher_new(s->dispatcher, &s->watcher, &err));
    OK(fby_events_new(s->dispatcher, FBY_LEVEL_DEBUG, 16, &s->events, &err));
    s->id = push(s->dispatcher, "k");
    outcome.ticket = poll_one(s->consumer).ticket, outcome.verdict = FBY_FATAL;
    OK(fby_finish(s->dispatcher, &outcome, sizeof outcome, 1, NULL, &err));
    push(s->dispatcher, "k");
    s->ticket = poll_one(s->consumer).ticket;
    OK(fby_stats(s->dispatcher, &s->buffer, &err));
    CHECK(fby_push(NULL, NULL, 0, NULL, NULL, &s->error) == FBY_E_INVALID);
}

void strike_stage(stage *s) {
    fby_error_free(s->error);
    fby_buffer_free(s->buffer);
    fby_options_free(s->options);
    fby_forwarder_free(s->forwarder);
    fby_watcher_free(s->watcher);
    fby_events_free(s->events);
    fby_consumer_free(s->consumer);
    fby_release(s->dispatcher);
}

static void try_row(const null_row *row, fby_reply *reply, char *path) {
    stage s;
    fby_error *err = NULL;
    fby_status status;
    set_stage(&s);
    s.reply = reply, s.path = path;
    status = row->call(&s, &err);
    /* With err NULL there is none, and a function without a code takes none. */
    if (row->want != NO_CODE && strcmp(row->place, "err") != 0 && strcmp(row->place, "all") != 0) {
        int told = (err == NULL) == (status == FBY_OK) && fby_error_code(err) == status;
        int right = row->want == ANY_CODE || (row->want == INVALID_CODE) == (status == FBY_E_INVALID);
        if (!told || !right) {
            fprintf(stderr, "\n%s, NULL at %s: %s\n", row->function, row->place, fby_status_name(status));
            CHECK(!"the code is as the header says, and so is the error");
        }
        fby_error_free(err);
    }
    strike_stage(&s);
}

/* The rows run in a handler, where there is a reply. */
static fby_verdict try_rows(void *user_data, const fby_job *job, fby_reply *reply) {
    size_t i;
    (void)job;
    for (i = 0; i < null_row_count; i++) try_row(&null_rows[i], reply, user_data);
    return FBY_DONE;
}

static void null_in_every_place_is_a_code(void) {
    fby_dispatcher *d = open_with("memory:?concurrency=1");
    char *path = scratch("nulls.dump");
    fby_id id;
    CHECK(null_row_count > 400);
    OK(fby_dump(d, fby_str(path), NULL, &err));
    add_handler(d, "rows", try_rows, path);
    OK(fby_start(d, &err));
    id = push(d, "rows");
    OK(fby_wait(d, &id, FBY_FOREVER, NULL, NULL, &err));
    stop_and_release(d);
    remove(path);
    free(path);
}

static const test_case cases[] = {
    CASE(null_in_every_place_is_a_code),
};
SUITE(nulls);

/* A queue that is passed on to another dispatcher. */
#include "harness.h"

#include <string.h>
#include <time.h>

static fby_id push_to(fby_dispatcher *d, const char *queue, const char *payload) {
    fby_job_spec job = spec("k");
    fby_id id;
    job.queue = fby_str(queue);
    job.payload = fby_str(payload);
    OK(fby_push(d, &job, 0, &id, NULL, &err));
    return id;
}

static void jobs_arrive_in_order_under_their_ids(void) {
    static const char *const sent[] = {"one", "two", "three"};
    char *path = scratch("central.db"), url[600];
    fby_dispatcher *d = open_plain();
    fby_forwarder *f = NULL;
    fby_consumer *c;
    fby_id ids[3];
    size_t i;
    snprintf(url, sizeof url, "sqlite:%s?control=off", path);
    for (i = 0; i < 3; i++) ids[i] = push_to(d, "outbox", sent[i]);
    OK(fby_forward(d, fby_str("outbox"), fby_str(url), fby_str("incoming"), fby_str("batch=2"), &f, &err));
    for (i = 0; i < 3; i++) await_state(d, &ids[i], FBY_STATE_SUCCEEDED);
    INVALID(fby_forward(d, fby_str("outbox"), fby_str(url), fby_str(""), fby_str(""), NULL, &err));
    OK(fby_forwarder_stop(f, SOON_MS, &err));
    OK(fby_forwarder_stop(f, SOON_MS, &err));
    fby_forwarder_free(f);
    stop_and_release(d);

    d = open_with(url);
    c = consumer_of(d);
    for (i = 0; i < 3; i++) {
        fby_job job = poll_one(c);
        CHECK(memcmp(&job.id, &ids[i], sizeof job.id) == 0);
        CHECK(same(job.payload, sent[i]) && same(job.queue, "incoming"));
        CHECK(finish_one(d, job.ticket, FBY_DONE) == FBY_OK);
    }
    fby_consumer_free(c);
    stop_and_release(d);
    remove_files(path);
    free(path);
}

/* Pushes go on, the queue says what is wrong, and what was not passed on is everybody's again. */
static void a_target_that_is_down_costs_no_job(void) {
    fby_dispatcher *d = open_plain();
    fby_consumer *c = consumer_of(d);
    fby_forwarder *f = NULL;
    fby_job job;
    size_t n;
    int told = 0;
    time_t until = time(NULL) + SOON_MS / 1000;
    fby_id id = push_to(d, "outbox", "stays");
    OK(fby_forward(d, fby_str("outbox"), fby_str("sqlite:/nowhere/at/all.db"), fby_str(""),
                   fby_str("retry=constant(1ms)"), &f, &err));
    while (!told) {
        fby_buffer *why = NULL;
        CHECK(time(NULL) < until);
        OK(fby_explain_queue(d, fby_str("outbox"), &why, &err));
        told = contains(fby_buffer_bytes(why), "/nowhere/at/all.db");
        fby_buffer_free(why);
    }
    OK(fby_poll(c, &job, sizeof job, 1, 0, &n, &err));
    CHECK(n == 0);
    OK(fby_forwarder_stop(f, FBY_FOREVER, &err));
    job = poll_one(c);
    CHECK(memcmp(&job.id, &id, sizeof id) == 0 && job.attempt == 1);
    CHECK(finish_one(d, job.ticket, FBY_DONE) == FBY_OK);
    fby_forwarder_free(f);
    fby_consumer_free(c);
    stop_and_release(d);
}

static void bad_options_are_codes(void) {
    fby_dispatcher *d = open_plain();
    fby_bytes queue = fby_str("outbox"), url = fby_str("memory:"), none = fby_str("");
    EXPECT(FBY_E_NOT_FOUND, fby_forward(d, queue, url, none, fby_str("bach=1"), NULL, &err));
    INVALID(fby_forward(d, queue, url, none, fby_str("batch=0"), NULL, &err));
    INVALID(fby_forward(d, queue, url, none, fby_str("retry=none"), NULL, &err));
    INVALID(fby_forward(d, none, url, none, none, NULL, &err));
    /* Nothing of that has taken the queue. */
    OK(fby_forward(d, queue, url, none, none, NULL, &err));
    stop_and_release(d);
}

static const test_case cases[] = {
    CASE(jobs_arrive_in_order_under_their_ids),
    CASE(a_target_that_is_down_costs_no_job),
    CASE(bad_options_are_codes),
};
SUITE(forward);

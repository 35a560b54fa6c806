/* The pull side: poll, finish, wake. */
#include "harness.h"

#include <sched.h>
#include <string.h>

static void jobs_are_polled_in_batches(void) {
    fby_dispatcher *d = open_with("memory:?concurrency=8");
    fby_consumer *c = consumer_of(d);
    fby_job jobs[16];
    fby_outcome outcomes[16];
    size_t n = 99, i, done = 0;
    OK(fby_poll(c, jobs, sizeof jobs[0], 16, 0, &n, &err));
    CHECK(n == 0);
    OK(fby_poll(c, jobs, sizeof jobs[0], 16, 5, &n, &err));
    CHECK(n == 0);
    for (i = 0; i < 20; i++) push(d, "k");
    while (done < 20) {
        OK(fby_poll(c, jobs, sizeof jobs[0], 16, SOON_MS, &n, &err));
        CHECK(n > 0 && n <= 8);
        for (i = 0; i < n; i++) {
            fby_outcome o = FBY_INIT(fby_outcome);
            CHECK(same(jobs[i].kind, "k") && jobs[i].attempt == 1);
            o.ticket = jobs[i].ticket;
            outcomes[i] = o;
        }
        OK(fby_finish(d, outcomes, sizeof outcomes[0], n, NULL, &err));
        done += n;
    }
    OK(fby_drain(d, SOON_MS, &err));
    fby_consumer_free(c);
    fby_release(d);
}

static void a_consumer_takes_its_kinds_and_queues(void) {
    fby_dispatcher *d = open_plain();
    fby_bytes kinds[2], queue = fby_str("q");
    fby_consumer_options options = FBY_INIT(fby_consumer_options);
    fby_consumer *of_kinds = NULL, *of_queue = NULL;
    fby_job_spec in_queue = spec("c");
    fby_job job;
    size_t n;
    kinds[0] = fby_str("a"), kinds[1] = fby_str("b");
    OK(fby_consumer_new(d, kinds, 2, NULL, &of_kinds, &err));
    options.queues = &queue, options.queue_count = 1, options.lease_ms = SOON_MS;
    OK(fby_consumer_new(d, NULL, 0, &options, &of_queue, &err));
    push(d, "c");
    in_queue.queue = queue;
    OK(fby_push(d, &in_queue, 0, NULL, NULL, &err));
    OK(fby_poll(of_kinds, &job, sizeof job, 1, 0, &n, &err));
    CHECK(n == 0);
    job = poll_one(of_queue);
    CHECK(same(job.queue, "q") && job.due_ms > job.created_ms);
    CHECK(finish_one(d, job.ticket, FBY_DONE) == FBY_OK);
    OK(fby_poll(of_queue, &job, sizeof job, 1, 0, &n, &err));
    CHECK(n == 0);
    push(d, "b");
    job = poll_one(of_kinds);
    CHECK(same(job.kind, "b"));
    CHECK(finish_one(d, job.ticket, FBY_DONE) == FBY_OK);
    fby_consumer_free(of_kinds);
    fby_consumer_free(of_queue);
    fby_release(d);
}

typedef struct {
    fby_consumer *c;
    fby_status status;
    size_t n;
    gate begun;
} waiting;

static void poll_for_ever(void *data) {
    waiting *w = data;
    fby_job job;
    pass(&w->begun);
    w->status = fby_poll(w->c, &job, sizeof job, 1, FBY_FOREVER, &w->n, NULL);
}

static void a_wait_can_be_woken(void) {
    fby_dispatcher *d = open_plain();
    fby_consumer *c = consumer_of(d);
    waiting w = {NULL, -1, 99, GATE};
    fby_job job;
    size_t n;
    worker thread;
    w.c = c;
    begin(&thread, poll_for_ever, &w);
    await(&w.begun, 1);
    /* Whether it waits already or not yet: a wake is kept. */
    OK(fby_consumer_wake(c, &err));
    end(&thread);
    CHECK(w.status == FBY_E_INTERRUPTED && w.n == 0);
    OK(fby_poll(c, &job, sizeof job, 1, 1, &n, &err));
    fby_consumer_free(c);
    fby_release(d);
}

static void a_stop_closes_the_poll(void) {
    fby_dispatcher *d = open_plain();
    fby_consumer *c = consumer_of(d);
    waiting w = {NULL, -1, 99, GATE};
    fby_job job;
    worker thread;
    w.c = c;
    begin(&thread, poll_for_ever, &w);
    await(&w.begun, 1);
    stop_and_release(d);
    end(&thread);
    CHECK(w.status == FBY_E_CLOSED);
    /* It outlives the dispatcher. */
    EXPECT(FBY_E_CLOSED, fby_poll(c, &job, sizeof job, 1, FBY_FOREVER, NULL, &err));
    OK(fby_consumer_wake(c, &err));
    fby_consumer_free(c);
}

static void what_was_polled_outlives_the_consumer(void) {
    fby_dispatcher *d = open_plain();
    fby_consumer *c = consumer_of(d);
    fby_job_spec spec_ = spec("k");
    fby_job job;
    spec_.payload = fby_str("still here");
    OK(fby_push(d, &spec_, 0, NULL, NULL, &err));
    job = poll_one(c);
    fby_consumer_free(c);
    CHECK(same(job.payload, "still here"));
    CHECK(finish_one(d, job.ticket, FBY_DONE) == FBY_OK);
    CHECK(state_of(d, &job.id) == FBY_STATE_SUCCEEDED);
    /* And what is never finished goes with the dispatcher. */
    push(d, "k");
    c = consumer_of(d);
    poll_one(c);
    fby_consumer_free(c);
    fby_release(d);
}

/* Whichever of the two polls first, the other is told so. */
static void poll_until_woken(void *data) {
    waiting *w = data;
    fby_job job;
    do {
        w->status = fby_poll(w->c, &job, sizeof job, 1, FBY_FOREVER, &w->n, NULL);
    } while (w->status == FBY_E_INVALID);
}

/* While one thread polls, a second one on the same consumer is told so, at once. */
static void one_thread_polls_a_consumer(void) {
    fby_dispatcher *d = open_plain();
    fby_consumer *c = consumer_of(d);
    waiting w = {NULL, -1, 99, GATE};
    fby_job job;
    fby_status status;
    size_t n;
    worker thread;
    w.c = c;
    begin(&thread, poll_until_woken, &w);
    do {
        sched_yield();
        status = fby_poll(c, &job, sizeof job, 1, 0, &n, NULL);
        CHECK(status == FBY_OK || status == FBY_E_INVALID);
    } while (status == FBY_OK);
    OK(fby_consumer_wake(c, &err));
    end(&thread);
    CHECK(w.status == FBY_E_INTERRUPTED);
    fby_consumer_free(c);
    fby_release(d);
}

enum { POLLERS = 4, ALL = 2000 };

typedef struct {
    fby_dispatcher *d;
    atomic_int *left;
} poller;

static void poll_until_done(void *data) {
    poller *p = data;
    fby_consumer *c = consumer_of(p->d);
    while (atomic_load(p->left) > 0) {
        fby_job jobs[8];
        fby_outcome outcomes[8];
        size_t n, i;
        OK(fby_poll(c, jobs, sizeof jobs[0], 8, 1, &n, &err));
        for (i = 0; i < n; i++) {
            fby_outcome o = FBY_INIT(fby_outcome);
            o.ticket = jobs[i].ticket;
            o.result = jobs[i].payload;
            outcomes[i] = o;
        }
        OK(fby_finish(p->d, outcomes, sizeof outcomes[0], n, NULL, &err));
        atomic_fetch_sub(p->left, (int)n);
    }
    fby_consumer_free(c);
}

static void many_consumers_share_the_work(void) {
    fby_dispatcher *d = open_with("memory:?concurrency=16");
    int all = slow() ? 100 : ALL, i;
    atomic_int left = all;
    poller p = {d, &left};
    worker workers[POLLERS];
    fby_job_spec job = spec("k");
    job.payload = fby_str("some bytes");
    for (i = 0; i < POLLERS; i++) begin(&workers[i], poll_until_done, &p);
    for (i = 0; i < all; i++) OK(fby_push(d, &job, 0, NULL, NULL, &err));
    for (i = 0; i < POLLERS; i++) end(&workers[i]);
    CHECK(atomic_load(&left) == 0);
    fby_release(d);
}

static const test_case cases[] = {
    CASE(jobs_are_polled_in_batches),
    CASE(a_consumer_takes_its_kinds_and_queues),
    CASE(a_wait_can_be_woken),
    CASE(a_stop_closes_the_poll),
    CASE(what_was_polled_outlives_the_consumer),
    CASE(one_thread_polls_a_consumer),
    CASE(many_consumers_share_the_work),
};
SUITE(consumers);

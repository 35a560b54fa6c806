/* Many threads at what may be done once: answers for deliveries, and handlers that replace one another. */
#include "harness.h"

#include <sched.h>
#include <string.h>

/* xorshift64, so that a run can be repeated by its seed. */
static uint64_t next_random(uint64_t *x) {
    *x ^= *x << 13, *x ^= *x >> 7, *x ^= *x << 17;
    return *x;
}

/* ---- answers that come twice, late and for nothing, while leases expire ---- */

enum { RACED_JOBS = 300, FINISHERS = 8, MOST_DELIVERIES = 20000 };

typedef struct {
    fby_dispatcher *d;
    fby_ticket tickets[MOST_DELIVERIES];
    uint32_t jobs[MOST_DELIVERIES]; /* which job a delivery is of */
    atomic_int won[MOST_DELIVERIES];
    atomic_int won_of_job[RACED_JOBS];
    atomic_size_t deliveries;
    atomic_int finished;
} race;

typedef struct {
    race *r;
    uint64_t seed;
} racer;

static void answer(race *r, size_t i) {
    fby_status status = finish_one(r->d, r->tickets[i], FBY_DONE);
    CHECK(status == FBY_OK || status == FBY_E_STALE);
    if (status == FBY_OK) {
        atomic_fetch_add(&r->won[i], 1);
        atomic_fetch_add(&r->won_of_job[r->jobs[i]], 1);
        atomic_fetch_add(&r->finished, 1);
    }
}

static void answer_at_random(void *data) {
    racer *me = data;
    race *r = me->r;
    while (atomic_load(&r->finished) < RACED_JOBS) {
        size_t i, n = atomic_load(&r->deliveries);
        uint64_t x = next_random(&me->seed);
        CHECK(finish_one(r->d, x, FBY_DONE) == FBY_E_STALE);
        if (n == 0) continue;
        /* Any delivery there has been, often one of the last, and that one twice. */
        i = x % 4 == 0 ? x / 4 % n : n - 1 - x / 4 % (n < 16 ? n : 16);
        answer(r, i);
        answer(r, i);
        if (slow()) sched_yield();
    }
}

/* Takes what there is, and lets so much time pass. */
static void deliver(race *r, fby_consumer *c, int64_t ms) {
    fby_job jobs[8];
    size_t i, taken = 0, n = atomic_load(&r->deliveries);
    CHECK(n + 8 <= MOST_DELIVERIES);
    OK(fby_poll(c, jobs, sizeof *jobs, 8, 0, &taken, &err));
    for (i = 0; i < taken; i++) {
        memcpy(&r->jobs[n + i], jobs[i].payload.ptr, sizeof r->jobs[0]);
        r->tickets[n + i] = jobs[i].ticket;
    }
    atomic_store(&r->deliveries, n + taken);
    OK(fby_advance(r->d, ms, &err));
}

static void of_all_answers_to_a_delivery_one_counts(void) {
    race *r = calloc(1, sizeof *r);
    racer racers[FINISHERS];
    worker workers[FINISHERS];
    fby_consumer_options options = FBY_INIT(fby_consumer_options);
    fby_consumer *c = NULL;
    uint64_t seed = 0x9e3779b97f4a7c15u;
    size_t i, n;
    r->d = open_with("memory:?clock=manual&concurrency=1000&retry=constant(1ms)&max_attempts=unlimited");
    options.lease_ms = 100;
    OK(fby_consumer_new(r->d, NULL, 0, &options, &c, &err));
    for (i = 0; i < RACED_JOBS; i++) {
        fby_job_spec job = spec("k");
        uint32_t number = (uint32_t)i;
        job.payload = bytes(&number, sizeof number);
        OK(fby_push(r->d, &job, 0, NULL, NULL, &err));
    }
    /* Some leases have expired before anybody answers, however quick they are. */
    deliver(r, c, options.lease_ms);
    for (i = 0; i < FINISHERS; i++) {
        racers[i].r = r, racers[i].seed = seed + i;
        begin(&workers[i], answer_at_random, &racers[i]);
    }
    /* Others expire while they are answered for. */
    while (atomic_load(&r->finished) < RACED_JOBS) {
        deliver(r, c, (int64_t)(next_random(&seed) % 80));
        sched_yield();
    }
    for (i = 0; i < FINISHERS; i++) end(&workers[i]);
    n = atomic_load(&r->deliveries);
    CHECK(n > RACED_JOBS);
    for (i = 0; i < n; i++) CHECK(atomic_load(&r->won[i]) <= 1);
    for (i = 0; i < RACED_JOBS; i++) CHECK(atomic_load(&r->won_of_job[i]) == 1);
    /* None is good any more, and after the stop neither. */
    for (i = 0; i < n; i++) CHECK(finish_one(r->d, r->tickets[i], FBY_FATAL) == FBY_E_STALE);
    fby_consumer_free(c);
    OK(fby_stop(r->d, SOON_MS, NULL, &err));
    for (i = 0; i < n; i++) CHECK(finish_one(r->d, r->tickets[i], FBY_DONE) == FBY_E_STALE);
    fby_release(r->d);
    free(r);
}

/* ---- handlers that are replaced and taken away by many threads while they run ---- */

enum { REGISTRARS = 4, REGISTRATIONS = 100 };

/* What a handler is registered with. It stays until the end, so that a call after its drop is seen. */
typedef struct {
    atomic_int drops;
    atomic_int inside;
    atomic_int late; /* calls after the drop, and drops during a call */
} property;

typedef struct {
    fby_dispatcher *d;
    property *properties;
    uint64_t seed;
} registrar;

static fby_verdict use(void *user_data, const fby_job *job, fby_reply *reply) {
    property *p = user_data;
    (void)job, (void)reply;
    atomic_fetch_add(&p->inside, 1);
    if (atomic_load(&p->drops) != 0) atomic_fetch_add(&p->late, 1);
    sched_yield();
    if (atomic_load(&p->drops) != 0) atomic_fetch_add(&p->late, 1);
    atomic_fetch_sub(&p->inside, 1);
    return FBY_DONE;
}

static void drop_property(void *user_data) {
    property *p = user_data;
    if (atomic_load(&p->inside) != 0) atomic_fetch_add(&p->late, 1);
    atomic_fetch_add(&p->drops, 1);
}

static void replace_at_random(void *data) {
    registrar *me = data;
    fby_kind_options bad = FBY_INIT(fby_kind_options);
    int i;
    bad.timeout_ms = -1;
    for (i = 0; i < REGISTRATIONS; i++) {
        uint64_t x = next_random(&me->seed);
        const fby_kind_options *options = x % 8 == 0 ? &bad : NULL;
        fby_status status =
            fby_register(me->d, fby_str("k"), options, use, &me->properties[i], drop_property, NULL);
        CHECK(status == (options ? FBY_E_INVALID : FBY_OK));
        if (x % 3 == 0) CHECK(fby_unregister(me->d, fby_str("k"), NULL, NULL) == FBY_OK);
        push(me->d, "k");
    }
}

static void user_data_is_dropped_once_whoever_replaces_it(void) {
    fby_dispatcher *d = open_plain();
    property *properties = calloc(REGISTRARS * REGISTRATIONS, sizeof *properties);
    registrar registrars[REGISTRARS];
    worker workers[REGISTRARS];
    size_t i;
    OK(fby_start(d, &err));
    for (i = 0; i < REGISTRARS; i++) {
        registrar r = {d, properties + i * REGISTRATIONS, 0x2545f4914f6cdd1du + i};
        registrars[i] = r;
        begin(&workers[i], replace_at_random, &registrars[i]);
    }
    for (i = 0; i < REGISTRARS; i++) end(&workers[i]);
    stop_and_release(d);
    for (i = 0; i < REGISTRARS * REGISTRATIONS; i++) {
        CHECK(atomic_load(&properties[i].drops) == 1);
        CHECK(atomic_load(&properties[i].late) == 0 && atomic_load(&properties[i].inside) == 0);
    }
    free(properties);
}

static const test_case cases[] = {
    CASE(of_all_answers_to_a_delivery_one_counts),
    CASE(user_data_is_dropped_once_whoever_replaces_it),
};
SUITE(races);

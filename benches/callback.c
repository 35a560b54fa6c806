/* No-op jobs through the C library: handlers as callbacks, or polled and finished 64 at a time.
 *
 *     callback callback|callback-many|poll JOBS
 *
 * Two producers push jobs of 100 bytes, one by one for callbacks and else 64 at a time, two workers run them, every
 * run is counted and every outcome stored: what `forebay`, `forebay-many` and `forebay-pull` of the Rust program do.
 * Prints one line of JSON, as that does. */
#include <forebay.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { PRODUCERS = 2, WORKERS = 2, BATCH = 64, PAYLOAD = 100, LINE = 128, PLACES = 64 };

static fby_dispatcher *dispatcher;
static unsigned long jobs_per_producer;
static int in_batches;

/* Each thread counts in a line of its own. */
static struct {
    _Alignas(LINE) atomic_ulong ran;
} counts[PLACES];

static void check(fby_status status, fby_error *err) {
    if (status == FBY_OK) return;
    fby_bytes message = fby_error_message(err);
    fprintf(stderr, "%s: %.*s\n", fby_status_name(status), (int)message.len, (const char *)message.ptr);
    exit(1);
}

static void count_one(void) {
    static atomic_int next;
    static _Thread_local int place = -1;
    if (place < 0) place = atomic_fetch_add(&next, 1) % PLACES;
    atomic_fetch_add_explicit(&counts[place].ran, 1, memory_order_relaxed);
}

static unsigned long counted(void) {
    unsigned long sum = 0;
    for (int i = 0; i < PLACES; i++) sum += atomic_load(&counts[i].ran);
    return sum;
}

/* What every handler does: it looks at both ends of the payload. */
static void touch(const fby_job *job) {
    const volatile unsigned char *bytes = job->payload.ptr;
    (void)(bytes[0] + bytes[job->payload.len - 1]);
    count_one();
}

static fby_verdict noop(void *user_data, const fby_job *job, fby_reply *reply) {
    (void)user_data, (void)reply;
    touch(job);
    return FBY_DONE;
}

static void push_each(const fby_job_spec *job) {
    fby_error *err = NULL;
    fby_id id;
    for (unsigned long i = 0; i < jobs_per_producer; i++) check(fby_push(dispatcher, job, FBY_DEFAULT, &id, NULL, &err), err);
}

/* Each batch is filled anew, as one of different jobs would be. */
static void push_batches(const fby_job_spec *job) {
    fby_job_spec jobs[BATCH];
    fby_id ids[BATCH];
    fby_error *err = NULL;
    for (unsigned long left = jobs_per_producer, size; left > 0; left -= size) {
        size = left < BATCH ? left : BATCH;
        for (unsigned long i = 0; i < size; i++) jobs[i] = *job;
        check(fby_push_many(dispatcher, jobs, sizeof *jobs, size, FBY_DEFAULT, ids, NULL, NULL, &err), err);
    }
}

static void *produce(void *unused) {
    unsigned char payload[PAYLOAD];
    fby_job_spec job = {sizeof job, .kind = fby_str("noop"), .payload = {payload, PAYLOAD}};
    memset(payload, 7, sizeof payload);
    if (in_batches) push_batches(&job);
    else push_each(&job);
    return unused;
}

static void *poll_and_finish(void *unused) {
    fby_consumer *consumer = NULL;
    fby_error *err = NULL;
    fby_job jobs[BATCH];
    fby_outcome outcomes[BATCH];
    size_t count;
    check(fby_consumer_new(dispatcher, NULL, 0, NULL, &consumer, &err), err);
    memset(outcomes, 0, sizeof outcomes);
    for (int i = 0; i < BATCH; i++) outcomes[i] = (fby_outcome){sizeof *outcomes, .verdict = FBY_DONE};
    while (fby_poll(consumer, jobs, sizeof *jobs, BATCH, FBY_FOREVER, &count, NULL) == FBY_OK) {
        for (size_t i = 0; i < count; i++) {
            touch(&jobs[i]);
            outcomes[i].ticket = jobs[i].ticket;
        }
        check(fby_finish(dispatcher, outcomes, sizeof *outcomes, count, NULL, &err), err);
    }
    fby_consumer_free(consumer);
    return unused;
}

static void run(unsigned long jobs) {
    pthread_t producers[PRODUCERS];
    fby_error *err = NULL;
    unsigned long before = counted();
    jobs_per_producer = jobs / PRODUCERS;
    for (int i = 0; i < PRODUCERS; i++) pthread_create(&producers[i], NULL, produce, NULL);
    for (int i = 0; i < PRODUCERS; i++) pthread_join(producers[i], NULL);
    check(fby_drain(dispatcher, 300000, &err), err);
    if (counted() - before != jobs_per_producer * PRODUCERS) {
        fprintf(stderr, "%lu of %lu jobs have run\n", counted() - before, jobs);
        exit(1);
    }
}

static double seconds_on_processors(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void open_for(int polls, pthread_t *workers) {
    fby_error *err = NULL;
    check(fby_open(fby_str(polls ? "memory:?capacity=0&concurrency=128" : "memory:?capacity=0&concurrency=2"), NULL,
                   &dispatcher, &err),
          err);
    if (polls) {
        for (int i = 0; i < WORKERS; i++) pthread_create(&workers[i], NULL, poll_and_finish, NULL);
    } else {
        check(fby_register(dispatcher, fby_str("noop"), NULL, noop, NULL, NULL, &err), err);
        check(fby_start(dispatcher, &err), err);
    }
}

int main(int argc, char **argv) {
    pthread_t workers[WORKERS];
    fby_error *err = NULL;
    if (argc != 3) {
        fprintf(stderr, "usage: %s callback|callback-many|poll JOBS\n", argv[0]);
        return 2;
    }
    int polls = strcmp(argv[1], "poll") == 0;
    in_batches = strcmp(argv[1], "callback") != 0;
    unsigned long jobs = strtoul(argv[2], NULL, 10);
    open_for(polls, workers);
    run(jobs / 4);
    double start = seconds(), cpu = seconds_on_processors();
    run(jobs);
    printf("{\"jobs\": %lu, \"seconds\": %.6f, \"cpu\": %.6f}\n", jobs, seconds() - start,
           seconds_on_processors() - cpu);
    check(fby_stop(dispatcher, 0, NULL, &err), err);
    for (int i = 0; polls && i < WORKERS; i++) pthread_join(workers[i], NULL);
    fby_release(dispatcher);
    return 0;
}

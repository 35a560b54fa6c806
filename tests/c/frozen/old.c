/* A program that was compiled when version 0.1.0 was new, and runs with the library of today: forebay.h in this
 * folder is the header of then and never changes. Every struct and array lies right before memory that nobody may
 * touch, so that a library which takes it for larger than it says it is crashes. */
#include "../harness.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Zeroed memory of this size whose next byte is out of bounds. */
static void *at_the_edge(size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (size + page - 1) / page * page;
    char *memory = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    CHECK(mprotect(memory + room, page, PROT_NONE) == 0);
    return memory + room - size;
}

/* A struct of the header of then, or an array of them, with their sizes set. */
#define OLD(T, count) ((T *)sized(at_the_edge(sizeof(T) * (count)), sizeof(T), count))

static void *sized(void *array, size_t size, size_t count) {
    size_t i;
    for (i = 0; i < count; i++) memcpy((char *)array + i * size, &size, sizeof size);
    return array;
}

static fby_verdict echo(void *user_data, const fby_job *job, fby_reply *reply) {
    CHECK(job->struct_size >= sizeof(fby_job));
    CHECK(same(job->kind, "echo") && same(job->queue, "default") && same(job->concurrency_key, "tenant"));
    CHECK(job->attempt == 1 && job->max_attempts == 3 && job->ticket != 0);
    OK(fby_reply_set_result(reply, job->payload, job->content_type, &err));
    pass(user_data);
    return FBY_DONE;
}

static void an_old_caller_registers_and_pushes(void) {
    fby_dispatcher *d = open_plain();
    fby_kind_options *options = OLD(fby_kind_options, 1);
    fby_job_spec *job = OLD(fby_job_spec, 1);
    fby_durability reached = 0;
    fby_buffer *result = NULL;
    fby_id id;
    gate ran = GATE;
    options->retry = fby_str("constant(1ms)");
    options->timeout_ms = SOON_MS;
    options->concurrency = 1;
    options->max_attempts = 3;
    options->options = fby_str("rate=none");
    OK(fby_register(d, fby_str("echo"), options, echo, &ran, NULL, &err));
    OK(fby_start(d, &err));
    job->kind = fby_str("echo");
    job->payload = fby_str("from the past");
    job->content_type = fby_str("text/plain");
    job->concurrency_key = fby_str("tenant");
    OK(fby_push(d, job, 0, &id, &reached, &err));
    CHECK(reached == FBY_DURABILITY_MEMORY);
    OK(fby_wait(d, &id, SOON_MS, NULL, &result, &err));
    CHECK(same(fby_buffer_bytes(result), "from the past") && counted(&ran) == 1);
    CHECK(same(fby_buffer_content_type(result), "text/plain"));
    fby_buffer_free(result);
    stop_and_release(d);
}

enum { JOBS = 100 };

static void an_old_caller_polls_and_finishes(void) {
    fby_dispatcher *d = open_with("memory:?concurrency=1000");
    fby_job_spec *specs = OLD(fby_job_spec, JOBS);
    fby_job *jobs = OLD(fby_job, JOBS);
    fby_outcome *outcomes = OLD(fby_outcome, JOBS);
    fby_consumer_options *options = OLD(fby_consumer_options, 1);
    fby_consumer *c = NULL;
    fby_bytes queue = fby_str("default");
    fby_id ids[JOBS];
    fby_status codes[JOBS];
    size_t i, n = 0;
    for (i = 0; i < JOBS; i++) {
        specs[i].kind = fby_str("k");
        specs[i].payload = bytes(&i, sizeof i);
        specs[i].concurrency_key = fby_str("tenant");
    }
    OK(fby_push_many(d, specs, sizeof *specs, JOBS, 0, ids, &n, NULL, &err));
    CHECK(n == JOBS);
    options->queues = &queue;
    options->queue_count = 1;
    options->lease_ms = SOON_MS;
    OK(fby_consumer_new(d, NULL, 0, options, &c, &err));
    OK(fby_poll(c, jobs, sizeof *jobs, JOBS, 0, &n, &err));
    CHECK(n == JOBS);
    for (i = 0; i < JOBS; i++) {
        CHECK(jobs[i].struct_size == sizeof *jobs && same(jobs[i].concurrency_key, "tenant"));
        CHECK(memcmp(&jobs[i].id, &ids[i], sizeof ids[i]) == 0);
        outcomes[i].ticket = jobs[i].ticket;
        outcomes[i].verdict = FBY_DONE;
        outcomes[i].result = jobs[i].payload;
    }
    OK(fby_finish(d, outcomes, sizeof *outcomes, JOBS, codes, &err));
    for (i = 0; i < JOBS; i++) CHECK(codes[i] == FBY_OK && state_of(d, &ids[i]) == FBY_STATE_SUCCEEDED);
    fby_consumer_free(c);
    stop_and_release(d);
}

static void an_old_caller_reads_reports(void) {
    char *path = scratch("old.dump");
    fby_dispatcher *d = open_plain();
    fby_dump_report *dumped = OLD(fby_dump_report, 1);
    fby_stop_report *stopped = OLD(fby_stop_report, 1);
    push(d, "k");
    OK(fby_dump(d, fby_str(path), dumped, &err));
    CHECK(dumped->struct_size == sizeof *dumped && dumped->jobs == 1 && dumped->known == 0);
    OK(fby_restore(d, fby_str(path), dumped, &err));
    CHECK(dumped->struct_size == sizeof *dumped && dumped->jobs == 0 && dumped->known == 1);
    OK(fby_stop(d, 0, stopped, &err));
    CHECK(stopped->struct_size == sizeof *stopped && stopped->waiting == 1 && stopped->handed_back == 0);
    fby_release(d);
    remove(path);
    free(path);
}

static const test_case cases[] = {
    CASE(an_old_caller_registers_and_pushes),
    CASE(an_old_caller_polls_and_finishes),
    CASE(an_old_caller_reads_reports),
};

int main(void) {
    size_t i;
    CHECK(fby_abi_version() == FBY_ABI_VERSION);
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cases[i].run();
        printf("c old_caller %s ... ok\n", cases[i].name);
    }
    printf("C old caller: %zu tests passed\n", i);
    return 0;
}

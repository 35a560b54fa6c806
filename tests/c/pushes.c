/* Pushing: what a batch tells of each job, headers, tokens. */
#include "harness.h"

#include <string.h>

enum { BATCH = 5 };

static void a_report_tells_of_each_job(void) {
    fby_dispatcher *d = open_plain();
    fby_job_spec jobs[BATCH];
    fby_pushed pushed[BATCH];
    fby_id known = push(d, "k");
    size_t i, n = 7;
    memset(pushed, 0xff, sizeof pushed);
    for (i = 0; i < BATCH; i++) jobs[i] = spec("k");
    jobs[1].key = jobs[2].key = fby_str("key");
    jobs[3].id = known;
    OK(fby_push_report(d, jobs, sizeof *jobs, 4, 0, pushed, sizeof *pushed, &n, &err));
    CHECK(n == 4);
    for (i = 0; i < 4; i++) {
        CHECK(pushed[i].struct_size == sizeof *pushed && pushed[i].reserved == 0 && pushed[i].shed == 0);
        CHECK(pushed[i].durability == FBY_DURABILITY_MEMORY);
        CHECK(pushed[i].created == (i < 2));
    }
    CHECK(memcmp(&pushed[1].id, &pushed[2].id, sizeof known) == 0);
    CHECK(memcmp(&pushed[3].id, &known, sizeof known) == 0);
    CHECK(state_of(d, &pushed[0].id) == FBY_STATE_QUEUED);
    fby_release(d);
}

static void a_report_stops_at_the_first_refusal(void) {
    fby_dispatcher *d = open_with("memory:?capacity=2");
    fby_job_spec jobs[BATCH];
    fby_pushed pushed[BATCH];
    uint64_t waiting = 0;
    size_t i, n = 7;
    for (i = 0; i < BATCH; i++) jobs[i] = spec("k");
    memset(pushed, 0, sizeof pushed);
    EXPECT(FBY_E_FULL, fby_push_report(d, jobs, sizeof *jobs, BATCH, 0, pushed, sizeof *pushed, &n, &err));
    CHECK(n == 2 && pushed[1].created == 1 && pushed[2].struct_size == 0);
    jobs[1].kind = fby_str("");
    INVALID(fby_push_report(d, jobs, sizeof *jobs, BATCH, 0, pushed, sizeof *pushed, &n, &err));
    CHECK(n == 0);
    OK(fby_len(d, fby_str("default"), &waiting, &err));
    CHECK(waiting == 2);
    fby_release(d);
}

static void a_report_tells_what_was_shed(void) {
    fby_dispatcher *d = open_with("memory:?capacity=1&on_full=drop_newest");
    fby_job_spec jobs[2];
    fby_pushed pushed[2];
    size_t n = 0;
    jobs[0] = jobs[1] = spec("k");
    OK(fby_push_report(d, jobs, sizeof *jobs, 2, 0, pushed, sizeof *pushed, &n, &err));
    CHECK(n == 2 && pushed[0].shed == 0 && pushed[1].shed == FBY_SHED_NEWEST && pushed[1].created == 1);
    CHECK(state_of(d, &pushed[1].id) == FBY_STATE_SHED);
    fby_release(d);
}

/* What it takes may have another size, too. */
static void a_report_fits_the_caller(void) {
    fby_dispatcher *d = open_plain();
    fby_job_spec jobs[2];
    struct {
        size_t struct_size;
        fby_id id;
    } old[3];
    struct {
        fby_pushed known;
        uint64_t unknown;
    } new[3];
    fby_pushed pushed;
    size_t n = 0;
    jobs[0] = jobs[1] = spec("k");
    memset(old, 0x55, sizeof old);
    OK(fby_push_report(d, jobs, sizeof *jobs, 2, 0, (fby_pushed *)old, sizeof *old, &n, &err));
    CHECK(n == 2 && old[1].struct_size == sizeof *old && state_of(d, &old[1].id) == FBY_STATE_QUEUED);
    CHECK(old[2].struct_size == 0x5555555555555555 && old[2].id.b[0] == 0x55);
    memset(new, 0x55, sizeof new);
    OK(fby_push_report(d, jobs, sizeof *jobs, 2, 0, &new[0].known, sizeof *new, &n, &err));
    CHECK(n == 2 && new[1].known.struct_size == sizeof(fby_pushed) && new[1].unknown == 0);
    CHECK(new[2].unknown == 0x5555555555555555);
    INVALID(fby_push_report(d, jobs, sizeof *jobs, 2, 0, &pushed, 0, &n, &err));
    INVALID(fby_push_report(d, jobs, sizeof *jobs, 2, 0, &pushed, 7, &n, &err));
    INVALID(fby_push_report(d, NULL, sizeof *jobs, 1, 0, &pushed, sizeof pushed, &n, &err));
    INVALID(fby_push_report(NULL, jobs, sizeof *jobs, 1, 0, &pushed, sizeof pushed, &n, &err));
    OK(fby_push_report(d, NULL, 0, 0, 0, NULL, 0, NULL, &err));
    fby_release(d);
}

/* ---- headers ---- */

static fby_verdict tell_headers(void *user_data, const fby_job *job, fby_reply *reply) {
    fby_dispatcher *d = user_data;
    fby_header header;
    OK(fby_job_header(d, job->ticket, 0, &header, &err));
    CHECK(same(header.name, "trace"));
    OK(fby_reply_set_result(reply, header.value, fby_str(""), &err));
    OK(fby_job_header(d, job->ticket, 1, &header, &err));
    CHECK(same(header.name, "tenant") && header.value.len == 0);
    EXPECT(FBY_E_NOT_FOUND, fby_job_header(d, job->ticket, 2, &header, &err));
    EXPECT(FBY_E_NOT_FOUND, fby_job_header(d, job->ticket, SIZE_MAX, &header, &err));
    return FBY_DONE;
}

static void headers_travel_with_the_job(void) {
    static const char *const urls[] = {"memory:", "sqlite:%s", "sqlite:%s?shared=true"};
    size_t i;
    for (i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        char *path = scratch("headers.db"), url[600];
        fby_header headers[2];
        fby_job_spec job = spec("k");
        fby_dispatcher *d;
        fby_buffer *result = NULL;
        fby_id id;
        snprintf(url, sizeof url, urls[i], path);
        d = open_with(url);
        add_handler(d, "k", tell_headers, d);
        OK(fby_start(d, &err));
        headers[0].name = fby_str("trace"), headers[0].value = fby_str("4bf92f35");
        headers[1].name = fby_str("tenant"), headers[1].value = bytes(NULL, 0);
        job.headers = headers, job.header_count = 2;
        OK(fby_push(d, &job, 0, &id, NULL, &err));
        /* They were copied. */
        memset(headers, 0, sizeof headers);
        OK(fby_wait(d, &id, SOON_MS, NULL, &result, &err));
        CHECK(same(fby_buffer_bytes(result), "4bf92f35"));
        fby_buffer_free(result);
        stop_and_release(d);
        remove_files(path);
        free(path);
    }
}

static void headers_live_as_long_as_the_delivery(void) {
    fby_dispatcher *d = open_plain();
    fby_consumer *c = consumer_of(d);
    fby_header header, given[1];
    fby_job_spec job = spec("k");
    fby_job polled;
    given[0].name = fby_str("trace"), given[0].value = fby_str("4bf92f35");
    job.headers = given, job.header_count = 1;
    OK(fby_push(d, &job, 0, NULL, NULL, &err));
    polled = poll_one(c);
    OK(fby_job_header(d, polled.ticket, 0, &header, &err));
    OK(fby_job_header(d, polled.ticket, 0, NULL, &err));
    OK(fby_cancel(d, &polled.id, NULL, &err));
    CHECK(same(header.value, "4bf92f35"));
    CHECK(finish_one(d, polled.ticket, FBY_DONE) == FBY_OK);
    EXPECT(FBY_E_STALE, fby_job_header(d, polled.ticket, 0, &header, &err));
    EXPECT(FBY_E_STALE, fby_job_header(d, 0, 0, &header, &err));
    INVALID(fby_job_header(NULL, polled.ticket, 0, &header, &err));
    push(d, "k");
    polled = poll_one(c);
    EXPECT(FBY_E_NOT_FOUND, fby_job_header(d, polled.ticket, 0, &header, &err));
    CHECK(finish_one(d, polled.ticket, FBY_DONE) == FBY_OK);
    fby_consumer_free(c);
    fby_release(d);
}

static void wrong_headers_and_tokens_are_codes(void) {
    fby_dispatcher *d = open_plain();
    fby_job_spec job = spec("k");
    fby_header header;
    fby_bytes token, wrong[4];
    char *longest = malloc(8 * 1024 + 1);
    uint64_t waiting = 0;
    size_t i;
    wrong[0] = bytes(NULL, 1), wrong[1] = bytes("x", SIZE_MAX), wrong[2] = bytes("\xff", 1), wrong[3] = bytes("", 0);
    memset(longest, 'x', 8 * 1024 + 1);
    for (i = 0; i < 4; i++) {
        header.name = wrong[i], header.value = fby_str("text");
        job = spec("k"), job.headers = &header, job.header_count = 1;
        INVALID(fby_push(d, &job, 0, NULL, NULL, &err));
        header.name = fby_str("name"), header.value = wrong[i];
        if (i < 3) INVALID(fby_push(d, &job, 0, NULL, NULL, &err));
        token = wrong[i];
        job = spec("k"), job.waits_for = &token, job.waits_for_count = 1;
        INVALID(fby_push(d, &job, 0, NULL, NULL, &err));
    }
    header.value = bytes(longest, 8 * 1024 + 1);
    job = spec("k"), job.headers = &header, job.header_count = 1;
    INVALID(fby_push(d, &job, 0, NULL, NULL, &err));
    job.header_count = SIZE_MAX;
    INVALID(fby_push(d, &job, 0, NULL, NULL, &err));
    job.headers = NULL, job.header_count = 1;
    INVALID(fby_push(d, &job, 0, NULL, NULL, &err));
    job = spec("k"), job.waits_for_count = 1;
    INVALID(fby_push(d, &job, 0, NULL, NULL, &err));
    job.waits_for = &token, job.waits_for_count = SIZE_MAX;
    INVALID(fby_push(d, &job, 0, NULL, NULL, &err));
    OK(fby_len(d, fby_str("default"), &waiting, &err));
    CHECK(waiting == 0);
    free(longest);
    fby_release(d);
}

/* ---- tokens ---- */

static void a_job_waits_for_all_its_tokens(void) {
    fby_dispatcher *d = open_plain();
    fby_bytes tokens[2];
    fby_job_spec job = spec("k");
    fby_id id, none;
    memset(&none, 0xff, sizeof none);
    tokens[0] = fby_str("paid"), tokens[1] = fby_str("packed");
    job.waits_for = tokens, job.waits_for_count = 2;
    OK(fby_push(d, &job, 0, &id, NULL, &err));
    CHECK(state_of(d, &id) == FBY_STATE_BLOCKED);
    OK(fby_signal(d, &id, fby_str("packed"), &err));
    OK(fby_signal(d, &id, fby_str("packed"), &err));
    OK(fby_signal(d, &id, fby_str("other"), &err));
    CHECK(state_of(d, &id) == FBY_STATE_BLOCKED);
    OK(fby_signal(d, &id, fby_str("paid"), &err));
    CHECK(state_of(d, &id) == FBY_STATE_QUEUED);
    EXPECT(FBY_E_NOT_FOUND, fby_signal(d, &none, fby_str("paid"), &err));
    INVALID(fby_signal(d, &id, bytes(NULL, 0), &err));
    INVALID(fby_signal(d, &id, bytes(NULL, 1), &err));
    INVALID(fby_signal(d, &id, bytes("\xff", 1), &err));
    INVALID(fby_signal(d, NULL, fby_str("paid"), &err));
    INVALID(fby_signal(NULL, &id, fby_str("paid"), &err));
    fby_release(d);
}

static const test_case cases[] = {
    CASE(a_report_tells_of_each_job),
    CASE(a_report_stops_at_the_first_refusal),
    CASE(a_report_tells_what_was_shed),
    CASE(a_report_fits_the_caller),
    CASE(headers_travel_with_the_job),
    CASE(headers_live_as_long_as_the_delivery),
    CASE(wrong_headers_and_tokens_are_codes),
    CASE(a_job_waits_for_all_its_tokens),
};
SUITE(pushes);

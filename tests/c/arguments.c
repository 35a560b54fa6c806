/* What a caller can get wrong: NULL everywhere, wrong lengths, wrong sizes, bad names. A code, never a
 * crash. */
#include "harness.h"

#include <stdint.h>
#include <string.h>

static fby_verdict never(void *user_data, const fby_job *job, fby_reply *reply) {
    (void)user_data, (void)job, (void)reply;
    abort();
}

/* What answers no code answers this; the rest of NULL is in nulls.c. */
static void without_a_code_null_is_nothing(void) {
    CHECK(fby_retain(NULL) == NULL);
    CHECK(fby_buffer_bytes(NULL).len == 0 && fby_buffer_content_type(NULL).len == 0);
    CHECK(fby_error_code(NULL) == FBY_OK && fby_error_message(NULL).len == 0 && !fby_error_retryable(NULL));
    CHECK(fby_cancelled(NULL, 1) == FBY_STOP_LEASE_LOST);
    CHECK(fby_str(NULL).len == 0);
    fby_buffer_free(NULL);
    fby_error_free(NULL);
    fby_options_free(NULL);
    fby_consumer_free(NULL);
    fby_forwarder_free(NULL);
    fby_watcher_free(NULL);
    fby_events_free(NULL);
    CHECK(fby_events_dropped(NULL) == 0);
    CHECK(strcmp(fby_event_name(0), "?") == 0 && strcmp(fby_event_name(FBY_EVENT_STALE), "stale") == 0);
    fby_release(NULL);
}

/* Without err the code is the same, and nothing is built. */
static void errors_are_optional(void) {
    fby_dispatcher *d = open_plain();
    fby_job_spec bad = spec("");
    CHECK(fby_push(d, &bad, 0, NULL, NULL, NULL) == FBY_E_INVALID);
    CHECK(fby_push(NULL, NULL, 0, NULL, NULL, NULL) == FBY_E_INVALID);
    CHECK(fby_open(fby_str("nowhere:"), NULL, &d, NULL) == FBY_E_UNSUPPORTED);
    CHECK(fby_stop(d, 0, NULL, NULL) == FBY_OK);
    fby_release(d);
}

static void errors_tell_what_and_whether_again(void) {
    fby_dispatcher *d = open_with("memory:?capacity=1");
    fby_job_spec job = spec("k");
    fby_error *err = NULL;
    push(d, "k");
    CHECK(fby_push(d, &job, 0, NULL, NULL, &err) == FBY_E_FULL);
    CHECK(fby_error_retryable(err) && contains(fby_error_message(err), "\"default\" is full"));
    fby_error_free(err);
    job.priority = 128;
    CHECK(fby_push(d, &job, 0, NULL, NULL, &err) == FBY_E_INVALID);
    CHECK(!fby_error_retryable(err) && contains(fby_error_message(err), "128"));
    fby_error_free(err);
    fby_release(d);
}

/* NULL with a length, and lengths that no memory has. */
static void wrong_lengths_are_codes(void) {
    fby_bytes wrong[2];
    fby_dispatcher *d = open_plain(), *other = NULL;
    fby_options *options = fby_options_new();
    fby_consumer *c = NULL;
    fby_id id;
    size_t i, n;
    wrong[0] = bytes(NULL, 1);
    wrong[1] = bytes("x", SIZE_MAX);
    for (i = 0; i < 2; i++) {
        fby_bytes w = wrong[i], k = fby_str("k");
        fby_job_spec job;
        fby_kind_options kind = FBY_INIT(fby_kind_options);
        fby_consumer_options from = FBY_INIT(fby_consumer_options);
        fby_outcome outcome = FBY_INIT(fby_outcome);
        INVALID(fby_options_set(options, w, k, &err));
        INVALID(fby_options_set(options, k, w, &err));
        INVALID(fby_open(w, NULL, &other, &err));
#define PUSH_WITH(field) job = spec("k"), job.field = w; INVALID(fby_push(d, &job, 0, NULL, NULL, &err)); \
        INVALID(fby_push_many(d, &job, sizeof job, 1, 0, NULL, NULL, NULL, &err))
        PUSH_WITH(kind);
        PUSH_WITH(payload);
        PUSH_WITH(content_type);
        PUSH_WITH(queue);
        PUSH_WITH(key);
        PUSH_WITH(concurrency_key);
        PUSH_WITH(retry);
        INVALID(fby_register(d, w, NULL, never, NULL, NULL, &err));
        kind.retry = w;
        INVALID(fby_register(d, k, &kind, never, NULL, NULL, &err));
        INVALID(fby_declare(d, w, NULL, &err));
        INVALID(fby_declare(d, k, &kind, &err));
        kind.retry = bytes(NULL, 0), kind.options = w;
        INVALID(fby_declare(d, k, &kind, &err));
        INVALID(fby_queue_option(d, w, fby_str("capacity"), fby_str("1"), &err));
        INVALID(fby_queue_option(d, k, w, fby_str("1"), &err));
        INVALID(fby_queue_option(d, k, fby_str("capacity"), w, &err));
        INVALID(fby_pressure(d, w, NULL, &err));
        INVALID(fby_explain_queue(d, w, NULL, &err));
        INVALID(fby_forward(d, w, fby_str("memory:"), k, bytes(NULL, 0), NULL, &err));
        INVALID(fby_forward(d, k, w, k, bytes(NULL, 0), NULL, &err));
        INVALID(fby_forward(d, k, fby_str("memory:"), w, bytes(NULL, 0), NULL, &err));
        INVALID(fby_forward(d, k, fby_str("memory:"), k, w, NULL, &err));
        INVALID(fby_unregister(d, w, NULL, &err));
        INVALID(fby_consumer_new(d, &w, 1, NULL, &c, &err));
        from.queues = &w;
        from.queue_count = 1;
        INVALID(fby_consumer_new(d, NULL, 0, &from, &c, &err));
        from.queues = NULL;
        INVALID(fby_consumer_new(d, NULL, 0, &from, &c, &err));
        outcome.result = w;
        INVALID(fby_finish(d, &outcome, sizeof outcome, 1, NULL, &err));
        outcome.result = bytes(NULL, 0), outcome.error = w;
        INVALID(fby_finish(d, &outcome, sizeof outcome, 1, NULL, &err));
        outcome.error = bytes(NULL, 0), outcome.content_type = w;
        INVALID(fby_finish(d, &outcome, sizeof outcome, 1, NULL, &err));
        INVALID(fby_pause(d, w, &err));
        INVALID(fby_resume(d, w, &err));
        INVALID(fby_purge(d, w, NULL, &err));
        INVALID(fby_len(d, w, NULL, &err));
        INVALID(fby_dump(d, w, NULL, &err));
        INVALID(fby_restore(d, w, NULL, &err));
        INVALID(fby_id_parse(w, &id, &err));
    }
    {
        fby_job_spec job = spec("k");
        fby_job polled;
        fby_outcome outcome = FBY_INIT(fby_outcome);
        fby_bytes k = fby_str("k");
        char text[37];
        INVALID(fby_push_many(d, &job, sizeof job, SIZE_MAX, 0, NULL, &n, NULL, &err));
        INVALID(fby_push_many(d, &job, sizeof job, SIZE_MAX / sizeof job, 0, NULL, &n, NULL, &err));
        INVALID(fby_finish(d, &outcome, sizeof outcome, SIZE_MAX, NULL, &err));
        INVALID(fby_consumer_new(d, &k, SIZE_MAX, NULL, &c, &err));
        c = consumer_of(d);
        INVALID(fby_poll(c, &polled, sizeof polled, SIZE_MAX, 0, &n, &err));
        id = push(d, "k");
        for (i = 0; i < 37; i++) INVALID(fby_id_format(&id, text, i, &err));
        OK(fby_id_format(&id, text, 37, &err));
        CHECK(strlen(text) == 36);
    }
    CHECK(other == NULL);
    fby_options_free(options);
    fby_consumer_free(c);
    fby_release(d);
}

/* With len 0 nothing is read, wherever ptr points. */
static void empty_is_empty_whatever_the_pointer(void) {
    fby_dispatcher *d = open_plain();
    fby_bytes nowhere = bytes((const void *)(uintptr_t)1, 0);
    fby_job_spec job = spec("k");
    fby_consumer *c;
    fby_job polled;
    job.payload = job.queue = job.key = job.concurrency_key = job.retry = job.content_type = nowhere;
    OK(fby_push(d, &job, 0, NULL, NULL, &err));
    c = consumer_of(d);
    polled = poll_one(c);
    CHECK(polled.concurrency_key.len == 0);
    CHECK(polled.payload.len == 0 && polled.key.len == 0 && same(polled.queue, "default"));
    CHECK(same(polled.content_type, "application/octet-stream"));
    CHECK(finish_one(d, polled.ticket, FBY_DONE) == FBY_OK);
    job.kind = nowhere;
    INVALID(fby_push(d, &job, 0, NULL, NULL, &err));
    /* So is an array of none. */
    OK(fby_push_many(d, NULL, 0, 0, 0, NULL, NULL, NULL, &err));
    OK(fby_push_report(d, NULL, 0, 0, 0, NULL, 0, NULL, &err));
    OK(fby_finish(d, NULL, 0, 0, NULL, &err));
    OK(fby_poll(c, NULL, 0, 0, 0, NULL, &err));
    fby_consumer_free(c);
    fby_release(d);
}

/* An old program: its struct ends before fields that came later. */
typedef struct {
    size_t struct_size;
    fby_bytes kind;
    fby_bytes payload;
} old_job_spec;

/* A program of the future: its struct has fields that this library does not know. */
typedef struct {
    fby_job_spec known;
    uint64_t unknown[2];
} new_job_spec;

static void structs_may_have_another_size(void) {
    fby_dispatcher *d = open_plain();
    old_job_spec old = {sizeof(old_job_spec), {"k", 1}, {"from the past", 13}};
    new_job_spec new = {FBY_INIT(fby_job_spec), {0, 0}};
    fby_consumer *c = consumer_of(d);
    fby_job job;
    struct {
        size_t struct_size;
        uint64_t handed_back;
    } old_report = {sizeof old_report, 7};
    struct {
        fby_stop_report known;
        uint64_t unknown;
    } new_report = {{sizeof new_report, 7, 7}, 7};

    OK(fby_push(d, (const fby_job_spec *)&old, 0, NULL, NULL, &err));
    job = poll_one(c);
    CHECK(same(job.payload, "from the past") && same(job.kind, "k"));
    CHECK(finish_one(d, job.ticket, FBY_DONE) == FBY_OK);

    new.known.struct_size = sizeof new;
    new.known.kind = fby_str("k");
    OK(fby_push(d, &new.known, 0, NULL, NULL, &err));
    job = poll_one(c);
    CHECK(finish_one(d, job.ticket, FBY_DONE) == FBY_OK);
    new.unknown[1] = 1;
    INVALID(fby_push(d, &new.known, 0, NULL, NULL, &err));

    new.known.struct_size = 0;
    INVALID(fby_push(d, &new.known, 0, NULL, NULL, &err));
    new.known.struct_size = 1;
    INVALID(fby_push(d, &new.known, 0, NULL, NULL, &err));
    new.known.struct_size = SIZE_MAX;
    INVALID(fby_push(d, &new.known, 0, NULL, NULL, &err));
    new.known.struct_size = 1 << 20;
    INVALID(fby_push(d, &new.known, 0, NULL, NULL, &err));

    fby_consumer_free(c);
    OK(fby_stop(d, 0, (fby_stop_report *)&old_report, &err));
    CHECK(old_report.struct_size == sizeof old_report && old_report.handed_back == 0);
    OK(fby_stop(d, 0, &new_report.known, &err));
    CHECK(new_report.known.struct_size == sizeof(fby_stop_report) && new_report.unknown == 0);
    old_report.struct_size = 0;
    INVALID(fby_stop(d, 0, (fby_stop_report *)&old_report, &err));
    fby_release(d);
}

/* A struct as a program of the future has it: with one more field. */
static void *of_the_future(const void *known, size_t size, uint64_t field) {
    size_t grown = size + sizeof field;
    char *made = malloc(grown);
    memcpy(made, known, size);
    memcpy(made, &grown, sizeof grown);
    memcpy(made + size, &field, sizeof field);
    return made;
}

/* Every struct that the library reads: a field that it does not know must be zero. */
static void a_field_of_the_future_is_refused_unless_zero(void) {
    fby_dispatcher *d = open_plain();
    fby_job_spec job = spec("k");
    fby_kind_options kind = FBY_INIT(fby_kind_options);
    fby_consumer_options from = FBY_INIT(fby_consumer_options);
    fby_outcome outcome = FBY_INIT(fby_outcome);
    uint64_t field;
    for (field = 0; field < 3; field++) {
        fby_status want = field == 0 ? FBY_OK : FBY_E_INVALID;
        fby_consumer *c = NULL;
        void *made = of_the_future(&job, sizeof job, field);
        EXPECT(want, fby_push(d, made, 0, NULL, NULL, &err));
        EXPECT(want, fby_push_many(d, made, sizeof job + sizeof field, 1, 0, NULL, NULL, NULL, &err));
        free(made);
        made = of_the_future(&kind, sizeof kind, field);
        EXPECT(want, fby_register(d, fby_str("other"), made, never, NULL, NULL, &err));
        EXPECT(want, fby_declare(d, fby_str("third"), made, &err));
        free(made);
        made = of_the_future(&from, sizeof from, field);
        EXPECT(want, fby_consumer_new(d, NULL, 0, made, &c, &err));
        fby_consumer_free(c);
        free(made);
        made = of_the_future(&outcome, sizeof outcome, field);
        want = field == 0 ? FBY_E_STALE : FBY_E_INVALID;
        EXPECT(want, fby_finish(d, made, sizeof outcome + sizeof field, 1, NULL, &err));
        free(made);
    }
    fby_release(d);
}

static void array_elements_may_have_another_size(void) {
    fby_dispatcher *d = open_plain();
    fby_consumer *c = consumer_of(d);
    old_job_spec old[2] = {{sizeof(old_job_spec), {"k", 1}, {"1", 1}}, {sizeof(old_job_spec), {"k", 1}, {"2", 1}}};
    new_job_spec new[2];
    struct {
        size_t struct_size;
        fby_ticket ticket;
    } old_jobs[2];
    struct {
        fby_job known;
        uint64_t unknown;
    } new_jobs[2];
    struct {
        fby_outcome known;
        uint64_t unknown;
    } new_outcomes[2];
    fby_status codes[2];
    size_t n, i;

    OK(fby_push_many(d, (const fby_job_spec *)old, sizeof old[0], 2, 0, NULL, &n, NULL, &err));
    CHECK(n == 2);
    memset(new, 0, sizeof new);
    for (i = 0; i < 2; i++) new[i].known = spec("k"), new[i].known.struct_size = sizeof new[0];
    OK(fby_push_many(d, &new[0].known, sizeof new[0], 2, 0, NULL, &n, NULL, &err));
    CHECK(n == 2);
    new[1].unknown[0] = 1;
    INVALID(fby_push_many(d, &new[0].known, sizeof new[0], 2, 0, NULL, &n, NULL, &err));
    CHECK(n == 0);
    new[1].unknown[0] = 0, new[1].known.struct_size = sizeof(fby_job_spec);
    INVALID(fby_push_many(d, &new[0].known, sizeof new[0], 2, 0, NULL, &n, NULL, &err));
    INVALID(fby_push_many(d, &new[0].known, 0, 2, 0, NULL, &n, NULL, &err));
    INVALID(fby_push_many(d, &new[0].known, sizeof new[0] + 1, 2, 0, NULL, &n, NULL, &err));

    OK(fby_poll(c, (fby_job *)old_jobs, sizeof old_jobs[0], 2, 0, &n, &err));
    CHECK(n == 2 && old_jobs[1].struct_size == sizeof old_jobs[0]);
    memset(new_jobs, 0xff, sizeof new_jobs);
    OK(fby_poll(c, &new_jobs[0].known, sizeof new_jobs[0], 2, 0, &n, &err));
    CHECK(n == 2 && new_jobs[1].known.struct_size == sizeof(fby_job) && new_jobs[1].unknown == 0);
    CHECK(same(new_jobs[1].known.kind, "k"));
    INVALID(fby_poll(c, &new_jobs[0].known, 7, 2, 0, &n, &err));

    memset(new_outcomes, 0, sizeof new_outcomes);
    for (i = 0; i < 2; i++) {
        new_outcomes[i].known.struct_size = sizeof new_outcomes[0];
        new_outcomes[i].known.ticket = old_jobs[i].ticket;
    }
    new_outcomes[0].unknown = 1;
    INVALID(fby_finish(d, &new_outcomes[0].known, sizeof new_outcomes[0], 2, codes, &err));
    CHECK(codes[0] == FBY_E_INVALID && codes[1] == FBY_OK);
    new_outcomes[0].unknown = 0;
    EXPECT(FBY_E_STALE, fby_finish(d, &new_outcomes[0].known, sizeof new_outcomes[0], 2, codes, &err));
    CHECK(codes[0] == FBY_OK && codes[1] == FBY_E_STALE);
    for (i = 0; i < 2; i++) CHECK(finish_one(d, new_jobs[i].known.ticket, FBY_DONE) == FBY_OK);
    fby_consumer_free(c);
    fby_release(d);
}

static void names_are_checked(void) {
    static const struct {
        const char *text;
        size_t len;
        int good;
    } names[] = {{"", 0, 0},       {"a\0b", 3, 0},       {"\xff\xfe", 2, 0}, {"line\nbreak", 10, 0},
                 {"\xed\xa0\x80", 3, 0}, {"名前", 6, 1}, {"../", 3, 1},      {"'; drop table", 13, 1}};
    fby_dispatcher *d = open_plain();
    char longest[256];
    size_t i;
    for (i = 0; i < sizeof names / sizeof names[0]; i++) {
        fby_bytes name = bytes(names[i].text, names[i].len);
        fby_status want = names[i].good ? FBY_OK : FBY_E_INVALID;
        fby_job_spec job = spec("k");
        EXPECT(want, fby_declare(d, name, NULL, &err));
        EXPECT(want, fby_pause(d, name, &err));
        job.kind = name;
        EXPECT(want, fby_push(d, &job, 0, NULL, NULL, &err));
        if (name.len > 0) {
            job = spec("k"), job.queue = name;
            EXPECT(want, fby_push(d, &job, 0, NULL, NULL, &err));
            job = spec("k"), job.key = name;
            EXPECT(want, fby_push(d, &job, 0, NULL, NULL, &err));
        }
    }
    memset(longest, 'x', sizeof longest);
    OK(fby_declare(d, bytes(longest, 255), NULL, &err));
    INVALID(fby_declare(d, bytes(longest, 256), NULL, &err));
    INVALID(fby_open(bytes("memory\xff:", 8), NULL, &d, &err));
    fby_release(d);
}

static void bad_numbers_are_codes(void) {
    fby_dispatcher *d = open_plain();
    fby_kind_options kind = FBY_INIT(fby_kind_options);
    fby_consumer_options from = FBY_INIT(fby_consumer_options);
    fby_outcome outcome = FBY_INIT(fby_outcome);
    fby_consumer *c;
    fby_job_spec job;
#define REFUSED(field, value) job = spec("k"), job.field = value; INVALID(fby_push(d, &job, 0, NULL, NULL, &err))
    REFUSED(priority, 128);
    REFUSED(priority, -129);
    REFUSED(delay_ms, -1);
    REFUSED(run_at_ms, -1);
    REFUSED(timeout_ms, -1);
    REFUSED(expires_after_ms, INT64_MIN);
    REFUSED(retry, fby_str("linear"));
    REFUSED(durability, 4);
    REFUSED(durability, -1);
    REFUSED(reserved, 1);
    outcome.reserved = 1;
    INVALID(fby_finish(d, &outcome, sizeof outcome, 1, NULL, &err));
    job = spec("k"), job.delay_ms = 1, job.run_at_ms = 1;
    INVALID(fby_push(d, &job, 0, NULL, NULL, &err));
    job = spec("k"), job.max_attempts = FBY_UNLIMITED, job.retry = fby_str("none");
    INVALID(fby_push(d, &job, 0, NULL, NULL, &err));
    kind.timeout_ms = -1;
    INVALID(fby_declare(d, fby_str("k"), &kind, &err));
    kind.timeout_ms = 0, kind.retry = fby_str("?");
    INVALID(fby_declare(d, fby_str("k"), &kind, &err));
    from.lease_ms = -1;
    INVALID(fby_consumer_new(d, NULL, 0, &from, &c, &err));
    EXPECT(FBY_E_STALE, fby_extend(d, 1, 1, &err));
    INVALID(fby_extend(d, 1, 0, &err));
    INVALID(fby_extend(d, 1, -1, &err));
    INVALID(fby_wait_stop(d, 1, 5, 0, NULL, &err));
    INVALID(fby_wait_stop(d, 1, -1, 0, NULL, &err));
    INVALID(fby_advance(d, -1, &err));
    EXPECT(FBY_E_UNSUPPORTED, fby_advance(d, 1, &err));
    fby_release(d);
}

static void payloads_of_every_size_come_back(void) {
    static const size_t sizes[] = {0, 1, 4096, (size_t)64 << 20};
    fby_dispatcher *d = open_plain();
    fby_consumer *c = consumer_of(d);
    char *data = malloc(((size_t)64 << 20) + 1);
    fby_outcome outcome = FBY_INIT(fby_outcome);
    size_t i;
    for (i = 0; i < ((size_t)64 << 20) + 1; i++) data[i] = (char)(i * 31 >> 3);
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        fby_job_spec spec_ = spec("k");
        fby_buffer *result = NULL;
        fby_job job;
        spec_.payload = bytes(data, sizes[i]);
        OK(fby_push(d, &spec_, 0, NULL, NULL, &err));
        job = poll_one(c);
        CHECK(job.payload.len == sizes[i] && (sizes[i] == 0 || memcmp(job.payload.ptr, data, sizes[i]) == 0));
        outcome.ticket = job.ticket;
        outcome.result = job.payload;
        OK(fby_finish(d, &outcome, sizeof outcome, 1, NULL, &err));
        OK(fby_wait(d, &job.id, 0, NULL, &result, &err));
        CHECK(fby_buffer_bytes(result).len == sizes[i]);
        CHECK(sizes[i] == 0 || memcmp(fby_buffer_bytes(result).ptr, data, sizes[i]) == 0);
        fby_buffer_free(result);
    }
    {
        fby_job_spec large = spec("k");
        fby_job job;
        large.payload = bytes(data, ((size_t)64 << 20) + 1);
        INVALID(fby_push(d, &large, 0, NULL, NULL, &err));
        push(d, "k");
        job = poll_one(c);
        outcome.ticket = job.ticket, outcome.result = large.payload;
        INVALID(fby_finish(d, &outcome, sizeof outcome, 1, NULL, &err));
        CHECK(finish_one(d, job.ticket, FBY_DONE) == FBY_OK);
    }
    free(data);
    fby_consumer_free(c);
    fby_release(d);
}

static void ids_and_codes_have_texts(void) {
    static const char text[] = "01939f3c-7b1e-7cc2-a5f0-6f1d2b3c4d5e";
    char back[37];
    fby_id id;
    OK(fby_id_parse(fby_str(text), &id, &err));
    CHECK(id.b[0] == 0x01 && id.b[15] == 0x5e);
    OK(fby_id_format(&id, back, sizeof back, &err));
    CHECK(strcmp(back, text) == 0);
    CHECK(strcmp(fby_status_name(FBY_OK), "FBY_OK") == 0);
    CHECK(strcmp(fby_status_name(FBY_E_WOULD_DEADLOCK), "FBY_E_WOULD_DEADLOCK") == 0);
    CHECK(strcmp(fby_status_name(12345), "FBY_E_?") == 0);
    CHECK(strcmp(fby_state_name(FBY_STATE_SUCCEEDED), "succeeded") == 0);
    CHECK(strcmp(fby_state_name(-1), "?") == 0);
    CHECK(fby_version() == (FBY_VERSION_MAJOR << 24 | FBY_VERSION_MINOR << 16 | FBY_VERSION_PATCH << 8));
    CHECK(strlen(fby_version_string()) >= 5);
}

static const test_case cases[] = {
    CASE(without_a_code_null_is_nothing),
    CASE(errors_are_optional),
    CASE(errors_tell_what_and_whether_again),
    CASE(wrong_lengths_are_codes),
    CASE(empty_is_empty_whatever_the_pointer),
    CASE(structs_may_have_another_size),
    CASE(a_field_of_the_future_is_refused_unless_zero),
    CASE(array_elements_may_have_another_size),
    CASE(names_are_checked),
    CASE(bad_numbers_are_codes),
    CASE(payloads_of_every_size_come_back),
    CASE(ids_and_codes_have_texts),
};
SUITE(arguments);

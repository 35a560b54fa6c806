/* What owners of queues do. */
#include "harness.h"

#include <string.h>

static void a_waiting_job_can_be_cancelled(void) {
    fby_dispatcher *d = open_plain();
    fby_id id = push(d, "k"), unknown;
    fby_state state = 0;
    fby_error *err = NULL;
    OK(fby_cancel(d, &id, &state, &err));
    CHECK(state == FBY_STATE_CANCELLED);
    OK(fby_cancel(d, &id, &state, &err));
    CHECK(state == FBY_STATE_CANCELLED);
    CHECK(fby_wait(d, &id, 0, &state, NULL, &err) == FBY_E_JOB_FAILED);
    CHECK(state == FBY_STATE_CANCELLED && contains(fby_error_message(err), "cancelled"));
    fby_error_free(err);
    memset(&unknown, 1, sizeof unknown);
    EXPECT(FBY_E_NOT_FOUND, fby_cancel(d, &unknown, &state, &err));
    EXPECT(FBY_E_NOT_FOUND, fby_wait(d, &unknown, 0, &state, NULL, &err));
    EXPECT(FBY_E_NOT_FOUND, fby_job_state(d, &unknown, &state, &err));
    EXPECT(FBY_E_NOT_FOUND, fby_get(d, &unknown, NULL, &err));
    EXPECT(FBY_E_NOT_FOUND, fby_explain(d, &unknown, NULL, &err));
    fby_release(d);
}

static void a_wait_ends_in_time(void) {
    fby_dispatcher *d = open_plain();
    fby_id id = push(d, "k");
    fby_state state = 77;
    fby_buffer *result = NULL;
    EXPECT(FBY_E_TIMEOUT, fby_wait(d, &id, 0, &state, &result, &err));
    EXPECT(FBY_E_TIMEOUT, fby_wait(d, &id, 5, &state, &result, &err));
    EXPECT(FBY_E_TIMEOUT, fby_drain(d, 5, &err));
    CHECK(state == 77 && result == NULL);
    fby_release(d);
}

static void a_paused_queue_hands_nothing_out(void) {
    fby_dispatcher *d = open_plain();
    fby_consumer *c = consumer_of(d);
    fby_job job;
    fby_buffer *why = NULL;
    fby_id id;
    size_t n;
    OK(fby_pause(d, fby_str("default"), &err));
    id = push(d, "k");
    OK(fby_poll(c, &job, sizeof job, 1, 0, &n, &err));
    CHECK(n == 0);
    OK(fby_explain(d, &id, &why, &err));
    CHECK(contains(fby_buffer_bytes(why), "is paused"));
    fby_buffer_free(why);
    OK(fby_resume(d, fby_str("default"), &err));
    job = poll_one(c);
    CHECK(finish_one(d, job.ticket, FBY_DONE) == FBY_OK);
    fby_consumer_free(c);
    fby_release(d);
}

static void a_queue_is_counted_and_purged(void) {
    fby_dispatcher *d = open_plain();
    fby_job_spec later = spec("k");
    fby_buffer *text = NULL;
    uint64_t n = 99;
    later.delay_ms = SOON_MS;
    push(d, "k");
    push(d, "k");
    OK(fby_push(d, &later, 0, NULL, NULL, &err));
    OK(fby_len(d, fby_str("default"), &n, &err));
    CHECK(n == 3);
    OK(fby_len(d, fby_str("unheard of"), &n, &err));
    CHECK(n == 0);
    OK(fby_stats(d, &text, &err));
    CHECK(contains(fby_buffer_bytes(text), "\"queued\":2") && contains(fby_buffer_bytes(text), "\"scheduled\":1"));
    fby_buffer_free(text);
    OK(fby_stats_prometheus(d, &text, &err));
    CHECK(contains(fby_buffer_bytes(text), "forebay_jobs_queued{queue=\"default\"} 2\n"));
    fby_buffer_free(text);
    OK(fby_purge(d, fby_str("default"), &n, &err));
    CHECK(n == 3);
    OK(fby_len(d, fby_str("default"), &n, &err));
    CHECK(n == 0);
    fby_release(d);
}

static void a_job_tells_what_is_known_of_it(void) {
    fby_dispatcher *d = open_plain();
    fby_job_spec job = spec("mail");
    fby_buffer *json = NULL;
    fby_id id, given;
    memset(&given, 0x42, sizeof given);
    job.id = given;
    job.payload = fby_str("1234567");
    job.delay_ms = SOON_MS;
    job.expires_after_ms = 2 * SOON_MS;
    job.max_attempts = FBY_UNLIMITED;
    OK(fby_push(d, &job, 0, &id, NULL, &err));
    CHECK(memcmp(&id, &given, sizeof id) == 0);
    OK(fby_get(d, &id, &json, &err));
    CHECK(contains(fby_buffer_bytes(json), "\"id\":\"42424242-4242-4242-4242-424242424242\""));
    CHECK(contains(fby_buffer_bytes(json), "\"kind\":\"mail\"") && contains(fby_buffer_bytes(json), "\"len\":7"));
    CHECK(contains(fby_buffer_bytes(json), "\"state\":\"scheduled\""));
    CHECK(same(fby_buffer_content_type(json), "application/json"));
    fby_buffer_free(json);
    fby_release(d);
}

static void a_dump_comes_back(void) {
    char *path = scratch("dump");
    fby_dispatcher *d = open_plain(), *other = open_plain();
    fby_dump_report report = FBY_INIT(fby_dump_report);
    fby_job_spec spec_ = spec("k");
    fby_consumer *c;
    fby_job job;
    fby_id id;
    spec_.payload = bytes("\0binary\xff", 8);
    spec_.key = fby_str("key");
    spec_.priority = -3;
    OK(fby_push(d, &spec_, 0, &id, NULL, &err));
    push(d, "k");
    EXPECT(FBY_E_NOT_FOUND, fby_restore(other, fby_str(path), &report, &err));
    OK(fby_dump(d, fby_str(path), &report, &err));
    CHECK(report.jobs == 2);
    OK(fby_restore(other, fby_str(path), &report, &err));
    CHECK(report.jobs == 2 && report.known == 0);
    OK(fby_restore(other, fby_str(path), &report, &err));
    CHECK(report.jobs == 0 && report.known == 2);
    c = consumer_of(other);
    job = poll_one(c);
    CHECK(job.payload.len == 0 && finish_one(other, job.ticket, FBY_DONE) == FBY_OK);
    job = poll_one(c);
    CHECK(job.payload.len == 8 && memcmp(job.payload.ptr, "\0binary\xff", 8) == 0);
    CHECK(same(job.key, "key") && job.priority == -3 && memcmp(&job.id, &id, sizeof id) == 0);
    CHECK(finish_one(other, job.ticket, FBY_DONE) == FBY_OK);
    fby_consumer_free(c);
    fby_release(d);
    fby_release(other);
    remove(path);
    free(path);
}

static void a_damaged_dump_is_left_alone(void) {
    char *path = scratch("damaged");
    fby_dispatcher *d = open_plain();
    FILE *f = fopen(path, "w");
    char text[64];
    fputs("{\"forebay_dump\":1,", f);
    fclose(f);
    EXPECT(FBY_E_CORRUPT, fby_restore(d, fby_str(path), NULL, &err));
    f = fopen(path, "w");
    fputs("{\"forebay_dump\":999999,\"created_us\":0}\n", f);
    fclose(f);
    EXPECT(FBY_E_FUTURE_FORMAT, fby_restore(d, fby_str(path), NULL, &err));
    f = fopen(path, "r");
    CHECK(fgets(text, sizeof text, f) != NULL && strstr(text, "999999") != NULL);
    fclose(f);
    EXPECT(FBY_E_STORAGE, fby_dump(d, fby_str("/nowhere/at/all"), NULL, &err));
    EXPECT(FBY_E_STORAGE, fby_dump(d, bytes("a\0b", 3), NULL, &err));
    fby_release(d);
    remove(path);
    free(path);
}

static void a_dump_file_is_kept(void) {
    char *path = scratch("kept"), *lock = malloc(600);
    fby_options *options = fby_options_new();
    fby_dispatcher *d = NULL, *other = NULL;
    fby_id id;
    sprintf(lock, "%s.lock", path);
    OK(fby_options_set(options, fby_str("dump_file"), fby_str(path), &err));
    OK(fby_open(fby_str("memory:"), options, &d, &err));
    EXPECT(FBY_E_ALREADY_OPEN, fby_open(fby_str("memory:"), options, &other, &err));
    id = push(d, "k");
    stop_and_release(d);
    OK(fby_open(fby_str("memory:"), options, &d, &err));
    CHECK(state_of(d, &id) == FBY_STATE_QUEUED);
    fby_release(d);
    fby_options_free(options);
    remove(path);
    remove(lock);
    free(path);
    free(lock);
}

static void a_finished_job_runs_again(void) {
    fby_dispatcher *d = open_plain();
    fby_consumer *c = consumer_of(d);
    fby_id id = push(d, "k"), again, same_again;
    fby_bytes input = fby_str("edited");
    fby_job polled;
    INVALID(fby_retry(d, &id, NULL, fby_str(""), &again, &err));
    OK(fby_cancel(d, &id, NULL, &err));
    OK(fby_retry(d, &id, &input, fby_str("text/odd"), &again, &err));
    OK(fby_retry(d, &id, &input, fby_str("text/odd"), &same_again, &err));
    CHECK(memcmp(&again, &same_again, sizeof again) == 0 && memcmp(&again, &id, sizeof id) != 0);
    EXPECT(FBY_E_CONFLICT, fby_retry(d, &id, NULL, fby_str(""), NULL, &err));
    polled = poll_one(c);
    CHECK(memcmp(polled.id.b, again.b, sizeof again.b) == 0);
    CHECK(same(polled.payload, "edited") && same(polled.content_type, "text/odd"));
    CHECK(finish_one(d, polled.ticket, FBY_DONE) == FBY_OK);
    CHECK(state_of(d, &id) == FBY_STATE_CANCELLED && state_of(d, &again) == FBY_STATE_SUCCEEDED);
    fby_consumer_free(c);
    stop_and_release(d);
}

static void a_queue_tells_what_it_has_of_its_own(void) {
    fby_dispatcher *d = open_plain();
    fby_bytes mail = fby_str("mail");
    fby_buffer *json = NULL;
    OK(fby_queue_option(d, mail, fby_str("capacity"), fby_str("7"), &err));
    OK(fby_queue_option(d, mail, fby_str("rate"), fby_str("100/s"), &err));
    OK(fby_queue_options(d, mail, &json, &err));
    CHECK(same(fby_buffer_content_type(json), "application/json"));
    CHECK(contains(fby_buffer_bytes(json), "\"capacity\":\"7\""));
    CHECK(contains(fby_buffer_bytes(json), "\"rate\":\"100/s\""));
    CHECK(contains(fby_buffer_bytes(json), "\"on_full\":\"default\""));
    fby_buffer_free(json);
    json = NULL;
    OK(fby_queue_options(d, mail, NULL, &err));
    INVALID(fby_queue_options(d, bytes(NULL, 0), &json, &err));
    INVALID(fby_queue_options(d, bytes("\xff", 1), &json, &err));
    INVALID(fby_queue_options(NULL, mail, &json, &err));
    CHECK(json == NULL);
    fby_release(d);
}

static const test_case cases[] = {
    CASE(a_waiting_job_can_be_cancelled),
    CASE(a_finished_job_runs_again),
    CASE(a_wait_ends_in_time),
    CASE(a_paused_queue_hands_nothing_out),
    CASE(a_queue_is_counted_and_purged),
    CASE(a_queue_tells_what_it_has_of_its_own),
    CASE(a_job_tells_what_is_known_of_it),
    CASE(a_dump_comes_back),
    CASE(a_damaged_dump_is_left_alone),
    CASE(a_dump_file_is_kept),
};
SUITE(queues);

/* What happens: streams and the log. */
#include "harness.h"

#include <poll.h>
#include <string.h>

static fby_events *stream_of(fby_dispatcher *d, fby_level level, size_t capacity) {
    fby_events *e = NULL;
    OK(fby_events_new(d, level, capacity, &e, &err));
    CHECK(e != NULL);
    return e;
}

static int wait_readable(fby_events *e, int timeout_ms) {
    struct pollfd asked;
    asked.events = POLLIN, asked.revents = 0;
    OK(fby_events_fd(e, &asked.fd, &err));
    return poll(&asked, 1, timeout_ms);
}

static size_t take(fby_events *e, fby_event *events, size_t max) {
    size_t n = 99;
    OK(fby_events_poll(e, events, sizeof events[0], max, 0, &n, &err));
    return n;
}

/* Polls a job and answers for it. */
static fby_id run_one(fby_dispatcher *d, fby_consumer *c, fby_verdict verdict, const char *error) {
    fby_job job = poll_one(c);
    fby_outcome o = FBY_INIT(fby_outcome);
    fby_id id = job.id;
    o.ticket = job.ticket, o.verdict = verdict, o.error = fby_str(error);
    OK(fby_finish(d, &o, sizeof o, 1, NULL, &err));
    return id;
}

static void a_life_is_told_in_words(void) {
    fby_dispatcher *d = open_plain();
    fby_consumer *c = consumer_of(d);
    fby_events *e = stream_of(d, FBY_LEVEL_DEBUG, 100);
    fby_event got[8];
    fby_id id;
    size_t i;
    static const int32_t kinds[] = {FBY_EVENT_PUSHED, FBY_EVENT_STARTED, FBY_EVENT_FAILED};
    CHECK(wait_readable(e, 0) == 1 && take(e, got, 8) == 0 && wait_readable(e, 0) == 0);
    push(d, "mail");
    CHECK(wait_readable(e, 0) == 1);
    id = run_one(d, c, FBY_FATAL, "no such address");
    CHECK(take(e, got, 8) == 3);
    for (i = 0; i < 3; i++) {
        CHECK(got[i].kind == kinds[i] && got[i].struct_size == sizeof got[i]);
        CHECK(memcmp(&got[i].id, &id, sizeof id) == 0);
        CHECK(same(got[i].queue, "default") && same(got[i].job_kind, "mail") && contains(got[i].message, "mail"));
        CHECK(got[i].at_ms > 1700000000000 && got[i].attempt == (i > 0));
        CHECK((got[i].took_us >= 0) == (i == 2));
    }
    CHECK(got[0].level == FBY_LEVEL_DEBUG && got[2].level == FBY_LEVEL_ERROR);
    CHECK(contains(got[2].message, "no such address") && contains(got[2].message, "attempt 1"));
    CHECK(strcmp(fby_event_name(got[2].kind), "failed") == 0);
    CHECK(take(e, got, 8) == 0 && wait_readable(e, 0) == 0 && fby_events_dropped(e) == 0);
    stop_and_release(d);
    CHECK(wait_readable(e, 0) == 1 && take(e, got, 8) == 1);
    CHECK(got[0].kind == FBY_EVENT_STOPPED && got[0].queue.len == 0 && got[0].took_us == -1);
    EXPECT(FBY_E_CLOSED, fby_events_poll(e, got, sizeof got[0], 8, FBY_FOREVER, NULL, &err));
    fby_events_free(e);
    fby_consumer_free(c);
}

static void a_stream_has_its_level_and_its_bound(void) {
    fby_dispatcher *d = open_plain();
    fby_consumer *c = consumer_of(d);
    fby_events *grave = stream_of(d, FBY_LEVEL_ERROR, 100), *small = stream_of(d, FBY_LEVEL_DEBUG, 2), *e = NULL;
    fby_event got[8];
    INVALID(fby_events_new(d, 0, 1, &e, &err));
    INVALID(fby_events_new(d, 5, 1, &e, &err));
    push(d, "k"), push(d, "k");
    run_one(d, c, FBY_DONE, "");
    run_one(d, c, FBY_FATAL, "why");
    CHECK(take(grave, got, 8) == 1 && got[0].kind == FBY_EVENT_FAILED);
    CHECK(take(small, got, 8) == 2 && got[1].kind == FBY_EVENT_PUSHED);
    CHECK(fby_events_dropped(small) == 4 && fby_events_dropped(grave) == 0);
    fby_events_free(grave);
    fby_events_free(small);
    fby_consumer_free(c);
    fby_release(d);
}

typedef struct {
    fby_dispatcher *d;
    gate calls, drops;
    fby_status stop;
    char last[400];
} logbook;

static void note(void *user_data, const fby_event *event) {
    logbook *book = user_data;
    snprintf(book->last, sizeof book->last, "%s %s %.*s", fby_event_name(event->kind),
             event->level == FBY_LEVEL_ERROR ? "error" : "?", (int)event->message.len, (const char *)event->message.ptr);
    if (event->kind == FBY_EVENT_FAILED) {
        /* What a log does is not told to it, and it cannot wait for itself. */
        fby_id id = push(book->d, "k");
        OK(fby_cancel(book->d, &id, NULL, &err));
        book->stop = fby_stop(book->d, 0, NULL, NULL);
    }
    pass(&book->calls);
}

static void let_go(void *user_data) {
    pass(&((logbook *)user_data)->drops);
}

static void a_log_is_told_and_let_go_once(void) {
    fby_dispatcher *d = open_plain();
    fby_consumer *c = consumer_of(d);
    logbook first = {NULL, GATE, GATE, -1, ""}, second = {NULL, GATE, GATE, -1, ""}, third = {NULL, GATE, GATE, -1, ""};
    first.d = second.d = third.d = d;
    INVALID(fby_log(NULL, FBY_LEVEL_INFO, note, &third, let_go, &err));
    INVALID(fby_log(d, 17, note, &third, let_go, &err));
    CHECK(counted(&third.drops) == 2);
    OK(fby_log(d, FBY_LEVEL_INFO, note, &first, let_go, &err));
    push(d, "k");
    run_one(d, c, FBY_FATAL, "it is broken");
    CHECK(counted(&first.calls) == 1 && first.stop == FBY_E_WOULD_DEADLOCK);
    CHECK(strncmp(first.last, "failed error job ", 17) == 0 && strstr(first.last, "it is broken") != NULL);
    OK(fby_log(d, FBY_LEVEL_WARN, note, &second, let_go, &err));
    CHECK(counted(&first.drops) == 1 && counted(&second.drops) == 0);
    OK(fby_log(d, FBY_LEVEL_WARN, NULL, &third, let_go, &err));
    CHECK(counted(&second.drops) == 1 && counted(&third.drops) == 3);
    push(d, "k");
    run_one(d, c, FBY_FATAL, "again");
    CHECK(counted(&first.calls) == 1 && counted(&second.calls) == 0);
    OK(fby_log(d, FBY_LEVEL_INFO, note, &third, let_go, &err));
    OK(fby_stop(d, 0, NULL, &err));
    CHECK(counted(&third.calls) == 1 && counted(&third.drops) == 4 && strncmp(third.last, "stopped ", 8) == 0);
    EXPECT(FBY_E_CLOSED, fby_log(d, FBY_LEVEL_INFO, note, &third, let_go, &err));
    CHECK(counted(&third.drops) == 5 && counted(&first.drops) == 1);
    fby_consumer_free(c);
    fby_release(d);
}

/* ---- a log that is replaced while threads push ---- */

enum { PUSHERS = 4, EACH = 300 };

static void count_event(void *user_data, const fby_event *event) {
    (void)event;
    /* Never after its drop. */
    CHECK(counted(&((logbook *)user_data)->drops) == 0);
}

static void push_each(void *data) {
    int i;
    for (i = 0; i < EACH; i++) push(data, "k");
}

static void a_log_is_let_go_after_its_last_call(void) {
    enum { BOOKS = 50 };
    static logbook books[BOOKS];
    fby_dispatcher *d = open_with("memory:?concurrency=2");
    worker pushers[PUSHERS];
    int i;
    for (i = 0; i < PUSHERS; i++) begin(&pushers[i], push_each, d);
    for (i = 0; i < BOOKS; i++) {
        logbook book = {NULL, GATE, GATE, 0, ""};
        books[i] = book;
        OK(fby_log(d, FBY_LEVEL_DEBUG, count_event, &books[i], let_go, &err));
    }
    for (i = 0; i < PUSHERS; i++) end(&pushers[i]);
    stop_and_release(d);
    for (i = 0; i < BOOKS; i++) CHECK(counted(&books[i].drops) == 1);
}

static const test_case cases[] = {
    CASE(a_life_is_told_in_words),
    CASE(a_stream_has_its_level_and_its_bound),
    CASE(a_log_is_told_and_let_go_once),
    CASE(a_log_is_let_go_after_its_last_call),
};
SUITE(events);

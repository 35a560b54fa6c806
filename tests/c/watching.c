/* The ends of many jobs. */
#include "harness.h"

#include <poll.h>
#include <string.h>

static fby_watcher *watcher_of(fby_dispatcher *d) {
    fby_watcher *w = NULL;
    OK(fby_watcher_new(d, &w, &err));
    CHECK(w != NULL);
    return w;
}

static int wait_readable(fby_watcher *w, int timeout_ms) {
    struct pollfd asked;
    asked.events = POLLIN, asked.revents = 0;
    OK(fby_watcher_fd(w, &asked.fd, &err));
    return poll(&asked, 1, timeout_ms);
}

static size_t take(fby_watcher *w, fby_end *ends, size_t max) {
    size_t n = 99;
    OK(fby_watcher_poll(w, ends, sizeof ends[0], max, 0, &n, &err));
    return n;
}

static void finish_next(fby_dispatcher *d, fby_consumer *c, const char *result) {
    fby_job job = poll_one(c);
    fby_outcome o = FBY_INIT(fby_outcome);
    o.ticket = job.ticket, o.result = fby_str(result);
    OK(fby_finish(d, &o, sizeof o, 1, NULL, &err));
}

static void ends_are_told_and_results_fetched(void) {
    fby_dispatcher *d = open_plain();
    fby_consumer *c = consumer_of(d);
    fby_watcher *w = watcher_of(d);
    fby_id first = push(d, "k"), second = push(d, "k"), unknown;
    fby_end ends[4];
    fby_state state = 0;
    fby_buffer *result = NULL;
    memset(&unknown, 1, sizeof unknown);
    EXPECT(FBY_E_NOT_FOUND, fby_watcher_add(w, &unknown, 1, &err));
    OK(fby_watcher_add(w, &first, 1, &err));
    INVALID(fby_watcher_add(w, &second, 1, &err));
    CHECK(wait_readable(w, 0) == 1);
    CHECK(take(w, ends, 4) == 0 && wait_readable(w, 0) == 0);
    finish_next(d, c, "one");
    finish_next(d, c, "two");
    CHECK(wait_readable(w, 0) == 1);
    OK(fby_watcher_add(w, &second, 2, &err));
    CHECK(take(w, ends, 1) == 1 && wait_readable(w, 0) == 1 && take(w, ends + 1, 3) == 1);
    CHECK(ends[0].struct_size == sizeof ends[0] && ends[0].tag == 1 && ends[1].tag == 2);
    CHECK(memcmp(&ends[0].id, &first, sizeof first) == 0 && ends[0].state == FBY_STATE_SUCCEEDED);
    CHECK(take(w, ends, 4) == 0 && wait_readable(w, 0) == 0);
    OK(fby_wait(d, &second, 0, &state, &result, &err));
    CHECK(state == FBY_STATE_SUCCEEDED && same(fby_buffer_bytes(result), "two"));
    fby_buffer_free(result);
    fby_watcher_free(w);
    fby_consumer_free(c);
    fby_release(d);
}

static void an_older_caller_takes_what_it_knows(void) {
    struct {
        size_t struct_size;
        uint64_t tag;
        uint64_t after;
    } older = {0, 0, 42};
    fby_dispatcher *d = open_plain();
    fby_watcher *w = watcher_of(d);
    fby_id id = push(d, "k");
    size_t n = 0;
    OK(fby_watcher_add(w, &id, 5, &err));
    OK(fby_cancel(d, &id, NULL, &err));
    OK(fby_watcher_poll(w, (fby_end *)&older, offsetof(fby_end, id), 1, 0, &n, &err));
    CHECK(n == 1 && older.tag == 5 && older.after == 42);
    fby_watcher_free(w);
    fby_release(d);
}

static void what_is_removed_is_not_told(void) {
    fby_dispatcher *d = open_plain();
    fby_watcher *w = watcher_of(d);
    fby_id kept = push(d, "k"), given_up = push(d, "k");
    bool removed = false;
    fby_end end;
    OK(fby_watcher_add(w, &kept, 1, &err));
    OK(fby_watcher_add(w, &given_up, 2, &err));
    OK(fby_watcher_remove(w, 2, &removed, &err));
    CHECK(removed);
    OK(fby_cancel(d, &kept, NULL, &err));
    OK(fby_cancel(d, &given_up, NULL, &err));
    OK(fby_watcher_remove(w, 1, &removed, &err));
    CHECK(!removed);
    CHECK(take(w, &end, 1) == 1 && end.tag == 1 && end.state == FBY_STATE_CANCELLED);
    CHECK(take(w, &end, 1) == 0);
    fby_watcher_free(w);
    fby_release(d);
}

static void a_stop_closes_the_watch(void) {
    fby_dispatcher *d = open_plain();
    fby_watcher *w = watcher_of(d);
    fby_id id = push(d, "k");
    fby_end end;
    OK(fby_watcher_add(w, &id, 1, &err));
    CHECK(wait_readable(w, 0) == 1 && take(w, &end, 1) == 0 && wait_readable(w, 0) == 0);
    stop_and_release(d);
    CHECK(wait_readable(w, 0) == 1);
    EXPECT(FBY_E_CLOSED, fby_watcher_poll(w, &end, sizeof end, 1, FBY_FOREVER, NULL, &err));
    CHECK(wait_readable(w, 0) == 1);
    fby_watcher_free(w);
}

static fby_verdict endless(void *user_data, const fby_job *job, fby_reply *reply) {
    fby_end end;
    (void)job, (void)reply;
    EXPECT(FBY_E_WOULD_DEADLOCK,
           fby_watcher_poll(*(fby_watcher **)user_data, &end, sizeof end, 1, FBY_FOREVER, NULL, &err));
    return FBY_DONE;
}

static void a_handler_does_not_wait_for_ever(void) {
    fby_dispatcher *d = open_plain();
    fby_watcher *w = watcher_of(d);
    fby_id id;
    fby_end end;
    add_handler(d, "k", endless, &w);
    OK(fby_start(d, &err));
    id = push(d, "k");
    OK(fby_watcher_add(w, &id, 1, &err));
    OK(fby_watcher_poll(w, &end, sizeof end, 1, SOON_MS, NULL, &err));
    CHECK(end.state == FBY_STATE_SUCCEEDED);
    fby_watcher_free(w);
    stop_and_release(d);
}

/* ---- adds, removals, ends and polls from many threads ---- */

enum { CROWD = 4, EACH = 500 };

typedef struct {
    fby_dispatcher *d;
    fby_watcher *w;
    atomic_int *told;   /* how often, by tag */
    atomic_int *removed, *left;
    int which;
} watching;

static fby_verdict done(void *user_data, const fby_job *job, fby_reply *reply) {
    (void)user_data, (void)job, (void)reply;
    return FBY_DONE;
}

static void push_and_watch(void *data) {
    watching *c = data;
    int i;
    for (i = 0; i < EACH; i++) {
        fby_id id = push(c->d, "k");
        uint64_t tag = (uint64_t)(c->which * EACH + i);
        OK(fby_watcher_add(c->w, &id, tag, &err));
        if (i % 4 == 0) {
            bool removed = false;
            OK(fby_watcher_remove(c->w, tag, &removed, &err));
            if (removed) atomic_fetch_add(c->removed, 1), atomic_fetch_sub(c->left, 1);
        }
    }
}

static void take_ends(void *data) {
    watching *c = data;
    while (atomic_load(c->left) > 0) {
        fby_end ends[16];
        size_t n = 0, i;
        OK(fby_watcher_poll(c->w, ends, sizeof ends[0], 16, 10, &n, &err));
        for (i = 0; i < n; i++) {
            CHECK(atomic_fetch_add(&c->told[ends[i].tag], 1) == 0);
            CHECK(ends[i].state == FBY_STATE_SUCCEEDED);
        }
        atomic_fetch_sub(c->left, (int)n);
    }
}

static void each_end_is_told_once_among_threads(void) {
    static atomic_int told[CROWD * EACH];
    fby_dispatcher *d = open_with("memory:?concurrency=2&keep_finished=100000");
    fby_watcher *w = watcher_of(d);
    atomic_int removed = 0, left = CROWD * EACH;
    watching crowd[CROWD];
    worker pushers[CROWD], takers[2];
    int i, all = 0;
    add_handler(d, "k", done, NULL);
    OK(fby_start(d, &err));
    for (i = 0; i < CROWD; i++) {
        watching c = {d, w, told, &removed, &left, 0};
        c.which = i, crowd[i] = c;
        begin(&pushers[i], push_and_watch, &crowd[i]);
    }
    for (i = 0; i < 2; i++) begin(&takers[i], take_ends, &crowd[i]);
    for (i = 0; i < CROWD; i++) end(&pushers[i]);
    for (i = 0; i < 2; i++) end(&takers[i]);
    for (i = 0; i < CROWD * EACH; i++) all += atomic_load(&told[i]);
    CHECK(all + atomic_load(&removed) == CROWD * EACH);
    fby_watcher_free(w);
    stop_and_release(d);
}

static const test_case cases[] = {
    CASE(ends_are_told_and_results_fetched),
    CASE(an_older_caller_takes_what_it_knows),
    CASE(what_is_removed_is_not_told),
    CASE(a_stop_closes_the_watch),
    CASE(a_handler_does_not_wait_for_ever),
    CASE(each_end_is_told_once_among_threads),
};
SUITE(watching);

/* fork: in the child every call is a code, and nothing hangs, is freed or is written. */
#include "harness.h"
#include "nulls.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int in_child;

static fby_verdict block(void *user_data, const fby_job *job, fby_reply *reply) {
    gate *gates = user_data;
    (void)job, (void)reply;
    pass(&gates[0]);
    await(&gates[1], 1);
    return FBY_DONE;
}

static void must_not_drop(void *user_data) {
    (void)user_data;
    CHECK(!in_child);
}

static void reap(pid_t child) {
    int status;
    CHECK(child > 0);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void use_all(fby_dispatcher *d, fby_consumer *c, fby_forwarder *f, fby_watcher *w, fby_id id, fby_ticket ticket) {
    fby_job_spec job = spec("k");
    fby_outcome outcome = FBY_INIT(fby_outcome);
    fby_bytes k = fby_str("k");
    fby_consumer *made = NULL;
    fby_watcher *watcher = NULL;
    fby_end end;
    fby_job polled;
    outcome.ticket = ticket;
#define FORKED(call) EXPECT(FBY_E_FORKED, call)
    FORKED(fby_push(d, &job, FBY_DEFAULT, NULL, NULL, &err));
    FORKED(fby_push_many(d, &job, sizeof job, 1, FBY_DEFAULT, NULL, NULL, NULL, &err));
    FORKED(fby_start(d, &err));
    FORKED(fby_flush(d, NULL, &err));
    FORKED(fby_now(d, NULL, &err));
    FORKED(fby_advance(d, 1, &err));
    FORKED(fby_drain(d, FBY_FOREVER, &err));
    FORKED(fby_register(d, k, NULL, block, NULL, NULL, &err));
    FORKED(fby_unregister(d, k, NULL, &err));
    FORKED(fby_declare(d, k, NULL, &err));
    FORKED(fby_consumer_new(d, NULL, 0, NULL, &made, &err));
    FORKED(fby_poll(c, &polled, sizeof polled, 1, FBY_FOREVER, NULL, &err));
    FORKED(fby_consumer_wake(c, &err));
    FORKED(fby_consumer_fd(c, NULL, &err));
    FORKED(fby_watcher_new(d, &watcher, &err));
    FORKED(fby_watcher_fd(w, NULL, &err));
    FORKED(fby_watcher_add(w, &id, 8, &err));
    FORKED(fby_watcher_remove(w, 7, NULL, &err));
    FORKED(fby_watcher_poll(w, &end, sizeof end, 1, FBY_FOREVER, NULL, &err));
    FORKED(fby_finish(d, &outcome, sizeof outcome, 1, NULL, &err));
    FORKED(fby_extend(d, ticket, 1, &err));
    CHECK(fby_cancelled(d, ticket) == FBY_STOP_LEASE_LOST);
    FORKED(fby_wait_stop(d, ticket, 0, FBY_FOREVER, NULL, &err));
    FORKED(fby_wait(d, &id, FBY_FOREVER, NULL, NULL, &err));
    FORKED(fby_job_state(d, &id, NULL, &err));
    FORKED(fby_get(d, &id, NULL, &err));
    FORKED(fby_explain(d, &id, NULL, &err));
    FORKED(fby_cancel(d, &id, NULL, &err));
    FORKED(fby_retry(d, &id, NULL, k, NULL, &err));
    FORKED(fby_job_shed(d, &id, NULL, &err));
    FORKED(fby_signal(d, &id, k, &err));
    FORKED(fby_list(d, NULL, NULL, &err));
    FORKED(fby_queue_options(d, k, NULL, &err));
    FORKED(fby_job_header(d, ticket, 0, NULL, &err));
    FORKED(fby_push_report(d, &job, sizeof job, 1, FBY_DEFAULT, NULL, 0, NULL, &err));
    FORKED(fby_finish_and_push(d, &outcome, &job, sizeof job, 1, &err));
    FORKED(fby_queue_option(d, k, fby_str("capacity"), fby_str("1"), &err));
    FORKED(fby_pressure(d, k, NULL, &err));
    FORKED(fby_explain_queue(d, k, NULL, &err));
    FORKED(fby_forward(d, k, fby_str("memory:"), k, bytes(NULL, 0), NULL, &err));
    FORKED(fby_forwarder_stop(f, FBY_FOREVER, &err));
    FORKED(fby_pause(d, k, &err));
    FORKED(fby_resume(d, k, &err));
    FORKED(fby_purge(d, k, NULL, &err));
    FORKED(fby_len(d, k, NULL, &err));
    FORKED(fby_stats(d, NULL, &err));
    FORKED(fby_stats_prometheus(d, NULL, &err));
    FORKED(fby_dump(d, fby_str("/nowhere"), NULL, &err));
    FORKED(fby_restore(d, fby_str("/nowhere"), NULL, &err));
    FORKED(fby_request_stop(d, &err));
    FORKED(fby_stop(d, FBY_DEFAULT, NULL, &err));
    fby_consumer_free(c);
    fby_forwarder_free(f);
    fby_watcher_free(w);
    fby_release(d);
}

static void a_child_gets_codes_and_ends_clean(void) {
    gate gates[2] = {GATE, GATE};
    char *path = scratch("forked"), *lock = malloc(600);
    fby_options *options = fby_options_new();
    fby_dispatcher *d = NULL;
    fby_consumer *c;
    fby_forwarder *f = NULL;
    fby_watcher *w = NULL;
    fby_id id, polled_id;
    fby_job polled;
    fby_end end;
    pid_t child;
    sprintf(lock, "%s.lock", path);
    OK(fby_options_set(options, fby_str("dump_file"), fby_str(path), &err));
    OK(fby_open(fby_str("memory:"), options, &d, &err));
    c = consumer_of(d);
    polled_id = push(d, "polled");
    polled = poll_one(c);
    OK(fby_register(d, fby_str("k"), NULL, block, gates, must_not_drop, &err));
    OK(fby_start(d, &err));
    id = push(d, "k");
    await(&gates[0], 1);
    OK(fby_watcher_new(d, &w, &err));
    OK(fby_watcher_add(w, &id, 7, &err));
    OK(fby_forward(d, fby_str("outbox"), fby_str("memory:"), bytes(NULL, 0), bytes(NULL, 0), &f, &err));

    child = fork();
    if (child == 0) {
        in_child = 1;
        use_all(d, c, f, w, id, polled.ticket);
        CHECK(access(path, F_OK) != 0);
        /* A dispatcher of its own works. */
        d = open_plain();
        push(d, "k");
        stop_and_release(d);
        exit(0);
    }
    reap(child);
    child = fork();
    if (child == 0) {
        in_child = 1;
        exit(0);
    }
    reap(child);

    /* The parent goes on. */
    CHECK(access(path, F_OK) != 0);
    pass(&gates[1]);
    await_state(d, &id, FBY_STATE_SUCCEEDED);
    CHECK(finish_one(d, polled.ticket, FBY_DONE) == FBY_OK);
    CHECK(state_of(d, &polled_id) == FBY_STATE_SUCCEEDED);
    OK(fby_watcher_poll(w, &end, sizeof end, 1, SOON_MS, NULL, &err));
    CHECK(end.tag == 7 && end.state == FBY_STATE_SUCCEEDED);
    fby_watcher_free(w);
    OK(fby_forwarder_stop(f, SOON_MS, &err));
    fby_forwarder_free(f);
    fby_consumer_free(c);
    stop_and_release(d);
    fby_options_free(options);
    remove(path);
    remove(lock);
    free(path);
    free(lock);
}

/* Those that a new function has of its own, too: the rows are made from the header. */
static void every_function_is_a_code_in_a_child(void) {
    stage s;
    pid_t child;
    set_stage(&s);
    s.path = "/nowhere";
    child = fork();
    if (child == 0) {
        size_t i, tried = 0;
        in_child = 1;
        alarm(60);
        for (i = 0; i < null_row_count; i++) {
            const null_row *row = &null_rows[i];
            fby_error *err = NULL;
            if (!row->bound || row->want == NO_CODE || strcmp(row->place, "nothing") != 0) continue;
            if (row->call(&s, &err) != FBY_E_FORKED || fby_error_code(err) != FBY_E_FORKED) {
                fprintf(stderr, "\n%s is no FBY_E_FORKED\n", row->function);
                _exit(1);
            }
            fby_error_free(err);
            tried++;
        }
        _exit(tried > 40 ? 0 : 2);
    }
    reap(child);
    strike_stage(&s);
}

static void a_file_stays_with_its_process(void) {
    char *path = scratch("forked.db"), url[700];
    fby_dispatcher *d, *other = NULL;
    fby_job_spec job = spec("k");
    uint64_t waiting = 0;
    pid_t child;
    snprintf(url, sizeof url, "sqlite:%s", path);
    d = open_with(url);
    push(d, "k");
    child = fork();
    if (child == 0) {
        in_child = 1;
        alarm(60);
        FORKED(fby_push(d, &job, FBY_DEFAULT, NULL, NULL, &err));
        FORKED(fby_flush(d, NULL, &err));
        EXPECT(FBY_E_ALREADY_OPEN, fby_open(fby_str(url), NULL, &other, &err));
        fby_release(d);
        exit(0);
    }
    reap(child);
    push(d, "k");
    stop_and_release(d);
    d = open_with(url);
    OK(fby_len(d, fby_str("default"), &waiting, &err));
    CHECK(waiting == 2);
    fby_release(d);
    remove_files(path);
    free(path);
}

/* ---- forks while other threads are inside the library ---- */

enum { PUSHERS = 8 };

typedef struct {
    fby_dispatcher *d;
    atomic_int *going;
    atomic_int *pushed;
} pusher;

static void push_on(void *data) {
    pusher *p = data;
    while (atomic_load(p->going)) {
        fby_job_spec job = spec("k");
        fby_status status = fby_push(p->d, &job, 0, NULL, NULL, NULL);
        CHECK(status == FBY_OK || status == FBY_E_FULL);
        if (status == FBY_OK) atomic_fetch_add(p->pushed, 1);
    }
}

static fby_verdict count(void *user_data, const fby_job *job, fby_reply *reply) {
    (void)job, (void)reply;
    atomic_fetch_add((atomic_int *)user_data, 1);
    return FBY_DONE;
}

static void forks_while_threads_push(void) {
    fby_dispatcher *d = open_with("memory:?concurrency=2&capacity=200&keep_finished=100");
    fby_consumer *c;
    fby_bytes other = fby_str("other");
    atomic_int going = 1, pushed = 0, ran = 0;
    pusher p = {d, &going, &pushed};
    worker workers[PUSHERS];
    int i;
    add_handler(d, "k", count, &ran);
    OK(fby_consumer_new(d, &other, 1, NULL, &c, &err));
    OK(fby_start(d, &err));
    for (i = 0; i < PUSHERS; i++) begin(&workers[i], push_on, &p);
    for (i = 0; i < rounds(20, 200, 1000); i++) {
        pid_t child = fork();
        if (child == 0) {
            fby_job_spec job = spec("k");
            in_child = 1;
            alarm(60);
            if (fby_push(d, &job, FBY_DEFAULT, NULL, NULL, NULL) != FBY_E_FORKED) _exit(1);
            if (fby_request_stop(d, NULL) != FBY_E_FORKED) _exit(2);
            if (fby_stop(d, FBY_DEFAULT, NULL, NULL) != FBY_E_FORKED) _exit(3);
            fby_consumer_free(c);
            fby_release(d);
            /* exit() would flush and unlock what other threads may hold in this C library. */
            _exit(0);
        }
        reap(child);
    }
    atomic_store(&going, 0);
    for (i = 0; i < PUSHERS; i++) end(&workers[i]);
    OK(fby_drain(d, SOON_MS, &err));
    CHECK(atomic_load(&ran) == atomic_load(&pushed) && atomic_load(&pushed) > 0);
    fby_consumer_free(c);
    stop_and_release(d);
}

static const test_case cases[] = {
    CASE(a_child_gets_codes_and_ends_clean),
    CASE(every_function_is_a_code_in_a_child),
    CASE(a_file_stays_with_its_process),
    CASE(forks_while_threads_push),
};
SUITE(forks);

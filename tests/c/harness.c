#include "harness.h"

#include <dirent.h>
#include <sched.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

char dangling;

void failed(const char *file, int line, const char *what) {
    fflush(stdout);
    fprintf(stderr, "\n%s:%d: not so: %s\n", file, line, what);
    abort();
}

void expected(const char *file, int line, const char *call, fby_status want, fby_status got, fby_error *err) {
    /* A call that takes no err leaves ours alone. */
    int took = err != DANGLING;
    if (want != got) {
        fby_bytes m = took ? fby_error_message(err) : fby_str("");
        fprintf(stderr, "\n%s:%d: %s\n  is %s (%.*s)\n", file, line, call, fby_status_name(got), (int)m.len,
                (const char *)m.ptr);
        failed(file, line, fby_status_name(want));
    }
    if (took && want == FBY_OK && err != NULL) failed(file, line, "no error with FBY_OK");
    if (took && want != FBY_OK) {
        if (err == NULL || fby_error_code(err) != want) failed(file, line, "the error has the code");
        if (fby_error_message(err).len == 0) failed(file, line, "the error has a message");
        fby_error_free(err);
    }
}

void pass(gate *g) {
    pthread_mutex_lock(&g->lock);
    g->count++;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

void await(gate *g, int count) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += SOON_MS / 1000;
    pthread_mutex_lock(&g->lock);
    while (g->count < count) {
        if (pthread_cond_timedwait(&g->changed, &g->lock, &until) != 0) {
            fprintf(stderr, "\n%d of %d have come\n", g->count, count);
            failed(__FILE__, __LINE__, "they come in time");
        }
    }
    pthread_mutex_unlock(&g->lock);
}

int counted(gate *g) {
    int count;
    pthread_mutex_lock(&g->lock);
    count = g->count;
    pthread_mutex_unlock(&g->lock);
    return count;
}

fby_dispatcher *open_with(const char *url) {
    fby_dispatcher *d = NULL;
    OK(fby_open(fby_str(url), NULL, &d, &err));
    CHECK(d != NULL);
    return d;
}

fby_dispatcher *open_plain(void) {
    return open_with("memory:?concurrency=4&retry=constant(1ms)");
}

fby_job_spec spec(const char *kind) {
    fby_job_spec job = FBY_INIT(fby_job_spec);
    job.kind = fby_str(kind);
    return job;
}

fby_id push(fby_dispatcher *d, const char *kind) {
    fby_job_spec job = spec(kind);
    fby_id id;
    OK(fby_push(d, &job, 0, &id, NULL, &err));
    return id;
}

void add_handler(fby_dispatcher *d, const char *kind, fby_handler handler, void *user_data) {
    OK(fby_register(d, fby_str(kind), NULL, handler, user_data, NULL, &err));
}

void stop_and_release(fby_dispatcher *d) {
    OK(fby_stop(d, SOON_MS, NULL, &err));
    fby_release(d);
}

fby_state state_of(fby_dispatcher *d, const fby_id *id) {
    fby_state state = 0;
    OK(fby_job_state(d, id, &state, &err));
    return state;
}

void await_state(fby_dispatcher *d, const fby_id *id, fby_state state) {
    fby_state got = 0;
    fby_status status = fby_wait(d, id, SOON_MS, &got, NULL, NULL);
    CHECK(status == (state == FBY_STATE_SUCCEEDED ? FBY_OK : FBY_E_JOB_FAILED));
    CHECK(got == state);
}

fby_consumer *consumer_of(fby_dispatcher *d) {
    fby_consumer *c = NULL;
    OK(fby_consumer_new(d, NULL, 0, NULL, &c, &err));
    return c;
}

fby_job poll_one(fby_consumer *c) {
    fby_job job;
    size_t n = 0;
    OK(fby_poll(c, &job, sizeof job, 1, SOON_MS, &n, &err));
    CHECK(n == 1);
    return job;
}

fby_status finish_one(fby_dispatcher *d, fby_ticket ticket, fby_verdict verdict) {
    fby_outcome outcome = FBY_INIT(fby_outcome);
    outcome.ticket = ticket;
    outcome.verdict = verdict;
    return fby_finish(d, &outcome, sizeof outcome, 1, NULL, NULL);
}

int same(fby_bytes bytes, const char *text) {
    return bytes.len == strlen(text) && (bytes.len == 0 || memcmp(bytes.ptr, text, bytes.len) == 0);
}

int contains(fby_bytes bytes, const char *text) {
    size_t i, len = strlen(text);
    for (i = 0; i + len <= bytes.len; i++) {
        if (memcmp((const char *)bytes.ptr + i, text, len) == 0) return 1;
    }
    return 0;
}

fby_bytes bytes(const void *ptr, size_t len) {
    fby_bytes b;
    b.ptr = ptr;
    b.len = len;
    return b;
}

char *scratch(const char *name) {
    const char *folder = getenv("TMPDIR");
    char *path = malloc(512);
    snprintf(path, 512, "%s/forebay-c-%ld-%s", folder ? folder : "/tmp", (long)getpid(), name);
    remove(path);
    return path;
}

void remove_files(const char *path) {
    static const char *const besides[] = {"", "-wal", "-shm", ".lock", ".flight", ".reserve", ".sock", ".wake"};
    size_t i;
    for (i = 0; i < sizeof besides / sizeof besides[0]; i++) {
        char file[700];
        snprintf(file, sizeof file, "%s%s", path, besides[i]);
        remove(file);
    }
}

int slow(void) {
    return getenv("FBY_TEST_SLOW") != NULL;
}

int rounds(int slowly, int plainly, int nightly) {
    if (slow()) return slowly;
    return getenv("FBY_TEST_NIGHTLY") != NULL ? nightly : plainly;
}

int entries(const char *folder) {
    DIR *dir = opendir(folder);
    int n = 0;
    CHECK(dir != NULL);
    while (readdir(dir) != NULL) n++;
    closedir(dir);
    return n;
}

/* A thread that has ended, and has been joined, may be listed for a moment still. */
void await_no_more(const char *folder, int most) {
    struct timespec now, until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += SOON_MS / 1000;
    while (entries(folder) > most) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec > until.tv_sec) {
            fprintf(stderr, "\n%d entries in %s, %d at most are expected\n", entries(folder), folder, most);
            failed(__FILE__, __LINE__, "they go in time");
        }
        sched_yield();
    }
}

static void *run_worker(void *data) {
    worker *w = data;
    w->body(w->data);
    return NULL;
}

void begin(worker *w, void (*body)(void *), void *data) {
    w->body = body;
    w->data = data;
    CHECK(pthread_create(&w->thread, NULL, run_worker, w) == 0);
}

void end(worker *w) {
    CHECK(pthread_join(w->thread, NULL) == 0);
}

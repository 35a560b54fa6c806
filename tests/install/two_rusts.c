/* Two Rust libraries in one program, each with a run time of its own, and both at work. */
#include <forebay.h>

#include <stdio.h>
#include <stdlib.h>

#define CHECK(what) ((what) ? (void)0 : (fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what), abort()))

uint32_t other_panics(uint32_t threads);

/* Not SQLite's: a program may call its own functions as it likes. */
int sqlite3_open(const char *path) {
    (void)path;
    return 42;
}

static fby_verdict panic_elsewhere(void *user_data, const fby_job *job, fby_reply *reply) {
    (void)user_data, (void)job, (void)reply;
    return other_panics(2) == 2 ? FBY_DONE : FBY_FATAL;
}

int main(int argc, char **argv) {
    fby_dispatcher *d = NULL;
    fby_job_spec job = FBY_INIT(fby_job_spec);
    fby_state state;
    fby_id id;
    int i;
    CHECK(argc == 2);
    job.kind = fby_str("elsewhere");
    CHECK(fby_abi_version() == FBY_ABI_VERSION);
    CHECK(fby_open(fby_str(argv[1]), NULL, &d, NULL) == FBY_OK);
    CHECK(fby_register(d, job.kind, NULL, panic_elsewhere, NULL, NULL, NULL) == FBY_OK);
    CHECK(fby_start(d, NULL) == FBY_OK);
    for (i = 0; i < 20; i++) {
        CHECK(fby_push(d, &job, FBY_FOREVER, &id, NULL, NULL) == FBY_OK);
        CHECK(fby_wait(d, &id, 60000, &state, NULL, NULL) == FBY_OK);
        CHECK(state == FBY_STATE_SUCCEEDED);
    }
    CHECK(other_panics(4) == 4);
    CHECK(sqlite3_open(argv[1]) == 42);
    CHECK(fby_stop(d, FBY_DEFAULT, NULL, NULL) == FBY_OK);
    fby_release(d);
    return 0;
}

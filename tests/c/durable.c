/* Jobs in a file: what was acknowledged is there after a stop, after an end without one, and after kill -9. */
#include "harness.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- a process of its own: this program again, as main.c hands it over ---- */

typedef struct {
    pid_t pid;
    FILE *out;
} process;

static process begin_process(const char *role, const char *path) {
    process p;
    int ends[2];
    CHECK(pipe(ends) == 0);
    fflush(stdout);
    p.pid = fork();
    CHECK(p.pid >= 0);
    if (p.pid == 0) {
        dup2(ends[1], 1);
        close(ends[0]);
        close(ends[1]);
        execl(program, program, "--child", role, path, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    p.out = fdopen(ends[0], "r");
    CHECK(p.out != NULL);
    return p;
}

/* A line of its output without the end; 0 if there is none any more. */
static int line_of(process *p, char *line, size_t room) {
    size_t len;
    if (fgets(line, (int)room, p->out) == NULL) return 0;
    len = strlen(line);
    if (len == 0 || line[len - 1] != '\n') return 0; /* cut by its end */
    line[len - 1] = 0;
    return 1;
}

static int end_process(process *p) {
    int status;
    while (fgetc(p->out) != EOF) {
    }
    fclose(p->out);
    CHECK(waitpid(p->pid, &status, 0) == p->pid);
    return status;
}

static int killed(int status) {
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

/* ---- what the processes do ---- */

static fby_dispatcher *open_file(const char *path, const char *options) {
    char url[700];
    snprintf(url, sizeof url, "sqlite:%s%s", path, options);
    return open_with(url);
}

static void push_for_ever(fby_dispatcher *d) {
    unsigned n;
    for (n = 0;; n++) {
        fby_job_spec job = spec("k");
        char id[37];
        fby_durability reached = 0;
        job.durability = n % 2 ? FBY_DURABILITY_OS : FBY_DURABILITY_DISK;
        job.payload = bytes(&n, sizeof n);
        OK(fby_push(d, &job, 0, &job.id, &reached, &err));
        CHECK(reached == job.durability);
        OK(fby_id_format(&job.id, id, sizeof id, &err));
        printf("%s\n", id);
        fflush(stdout);
    }
}

static fby_verdict die(void *user_data, const fby_job *job, fby_reply *reply) {
    (void)user_data, (void)job, (void)reply;
    raise(SIGKILL);
    return FBY_DONE;
}

int durable_child(const char *role, const char *path) {
    fby_dispatcher *d = open_file(path, "?max_crashes=2&write_behind=1h&retry=constant(1ms)");
    if (strcmp(role, "push") == 0) push_for_ever(d);
    if (strcmp(role, "leave") == 0) {
        push(d, "k");
        _exit(0);
    }
    if (strcmp(role, "die") == 0) {
        add_handler(d, "deadly", die, NULL);
        OK(fby_start(d, &err));
    }
    printf("open\n");
    fflush(stdout);
    for (;;) pause();
}

/* ---- cases ---- */

static void remove_database(char *path) {
    remove_files(path);
    free(path);
}

static char *database(void) {
    char *path = scratch("jobs.db");
    remove_database(path);
    return scratch("jobs.db");
}

static void a_job_is_there_after_a_stop(void) {
    char *path = database();
    fby_dispatcher *d = open_file(path, "?durability=os");
    fby_consumer *c;
    fby_job_spec job = spec("k");
    fby_id ids[3];
    fby_durability reached = 0;
    fby_job polled;
    job.payload = bytes("a\0b", 3);
    job.key = fby_str("key");
    job.content_type = fby_str("text/odd");
    OK(fby_push(d, &job, 0, &ids[0], &reached, &err));
    CHECK(reached == FBY_DURABILITY_OS);
    job = spec("k");
    job.durability = FBY_DURABILITY_DISK;
    OK(fby_push(d, &job, 0, &ids[1], &reached, &err));
    CHECK(reached == FBY_DURABILITY_DISK);
    job.durability = FBY_DURABILITY_MEMORY;
    OK(fby_push_many(d, &job, sizeof job, 1, 0, &ids[2], NULL, &reached, &err));
    CHECK(reached == FBY_DURABILITY_MEMORY);
    OK(fby_flush(d, &reached, &err));
    CHECK(reached == FBY_DURABILITY_DISK);
    stop_and_release(d);

    d = open_file(path, "");
    c = consumer_of(d);
    polled = poll_one(c);
    CHECK(memcmp(polled.id.b, ids[0].b, sizeof ids[0].b) == 0 && polled.attempt == 1);
    CHECK(polled.payload.len == 3 && memcmp(polled.payload.ptr, "a\0b", 3) == 0);
    CHECK(same(polled.content_type, "text/odd") && same(polled.key, "key"));
    CHECK(finish_one(d, polled.ticket, FBY_DONE) == FBY_OK);
    fby_consumer_free(c);
    stop_and_release(d);

    d = open_file(path, "");
    CHECK(state_of(d, &ids[0]) == FBY_STATE_SUCCEEDED);
    CHECK(state_of(d, &ids[1]) == FBY_STATE_QUEUED && state_of(d, &ids[2]) == FBY_STATE_QUEUED);
    fby_release(d);
    remove_database(path);
}

static void kill_9_loses_nothing_acknowledged(void) {
    int round;
    for (round = 0; round < (slow() ? 2 : 5); round++) {
        char *path = database(), text[64];
        process p = begin_process("push", path);
        fby_id ids[400];
        size_t acknowledged = 0, i, most = 1 + (size_t)(getpid() + round * 37) % 200;
        fby_dispatcher *d;
        while (acknowledged < 400 && line_of(&p, text, sizeof text)) {
            OK(fby_id_parse(fby_str(text), &ids[acknowledged++], &err));
            /* What it says until it is dead counts as well. */
            if (acknowledged == most) CHECK(kill(p.pid, SIGKILL) == 0);
        }
        CHECK(killed(end_process(&p)) && acknowledged >= most);
        d = open_file(path, "");
        for (i = 0; i < acknowledged; i++) CHECK(state_of(d, &ids[i]) == FBY_STATE_QUEUED);
        fby_release(d);
        remove_database(path);
    }
}

static void an_end_without_a_stop_loses_nothing_acknowledged(void) {
    char *path = database();
    process p = begin_process("leave", path);
    uint64_t waiting = 0;
    fby_dispatcher *d;
    CHECK(end_process(&p) == 0);
    d = open_file(path, "");
    OK(fby_len(d, fby_str("default"), &waiting, &err));
    CHECK(waiting == 1);
    fby_release(d);
    remove_database(path);
}

static void a_job_that_kills_its_process_fails_in_the_end(void) {
    char *path = database();
    fby_dispatcher *d = open_file(path, "");
    fby_id id = push(d, "deadly");
    fby_buffer *job = NULL;
    int deaths;
    stop_and_release(d);
    for (deaths = 0; deaths < 2; deaths++) {
        process p = begin_process("die", path);
        CHECK(killed(end_process(&p)));
    }
    d = open_file(path, "?max_crashes=2");
    await_state(d, &id, FBY_STATE_FAILED);
    OK(fby_get(d, &id, &job, &err));
    CHECK(contains(fby_buffer_bytes(job), "\"crashed\""));
    fby_buffer_free(job);
    stop_and_release(d);
    remove_database(path);
}

static void one_process_has_the_file(void) {
    char *path = database(), url[700], text[64];
    fby_dispatcher *d = NULL;
    fby_error *err = NULL;
    process p;
    snprintf(url, sizeof url, "sqlite:%s", path);
    p = begin_process("hold", path);
    CHECK(line_of(&p, text, sizeof text) && strcmp(text, "open") == 0);
    CHECK(fby_open(fby_str(url), NULL, &d, &err) == FBY_E_ALREADY_OPEN && d == NULL);
    snprintf(text, sizeof text, "process %ld", (long)p.pid);
    CHECK(contains(fby_error_message(err), text));
    fby_error_free(err);
    CHECK(kill(p.pid, SIGKILL) == 0 && killed(end_process(&p)));
    d = open_with(url);
    CHECK(fby_open(fby_str(url), NULL, &d, NULL) == FBY_E_ALREADY_OPEN);
    fby_release(d);
    remove_database(path);
}

static void what_cannot_be_opened_says_why(void) {
    char *path = database();
    fby_dispatcher *d = NULL;
    char url[700];
    FILE *file = fopen(path, "w");
    int i;
    for (i = 0; i < 1000; i++) fputs("something else entirely\n", file);
    fclose(file);
    snprintf(url, sizeof url, "sqlite:%s", path);
    EXPECT(FBY_E_CORRUPT, fby_open(fby_str(url), NULL, &d, &err));
    snprintf(url, sizeof url, "sqlite:%s/no/such", path);
    EXPECT(FBY_E_STORAGE, fby_open(fby_str(url), NULL, &d, &err));
    INVALID(fby_open(fby_str("sqlite:"), NULL, &d, &err));
    INVALID(fby_open(fby_str("sqlite:x?durability=ssd"), NULL, &d, &err));
    CHECK(d == NULL);
    remove_database(path);
}

static const test_case cases[] = {
    CASE(a_job_is_there_after_a_stop),
    CASE(kill_9_loses_nothing_acknowledged),
    CASE(an_end_without_a_stop_loses_nothing_acknowledged),
    CASE(a_job_that_kills_its_process_fails_in_the_end),
    CASE(one_process_has_the_file),
    CASE(what_cannot_be_opened_says_why),
};
SUITE(durable);

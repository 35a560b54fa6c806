/* A buffer in front of something slow, as a legacy application puts before its mail gateway or its database.
 *
 *   cc legacy_buffer.c $(pkg-config --cflags --libs forebay) -pthread -o legacy_buffer
 *   ./legacy_buffer jobs.db written.log < requests.txt
 *
 * Requests come by line and are answered at once, however far the gateway is behind:
 *
 *   order 17    must not be lost. "202" means that it is on the disk; beyond 20 they wait in the file only.
 *   bulk 18     can be sent again by whoever sends it: is told "429" while orders wait.
 *   metric 19   is worth something while it is new: when 20 wait, the oldest one makes room.
 *
 * SIGTERM stops it, and the next one goes on where it stopped; at the end of its input it finishes what there
 * is. Either way it says what has become of all it had. A request that was being written when the process was
 * killed is written once more, so whoever takes it must be able to hear of it twice: the id is there to tell. */
#include <forebay.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static fby_dispatcher *d;
static int written;

static void check(fby_status status, fby_error *err) {
    fby_bytes message = fby_error_message(err);
    if (status == FBY_OK) return;
    fprintf(stderr, "%s: %.*s\n", fby_status_name(status), (int)message.len, (const char *)message.ptr);
    exit(1);
}

static void option(const char *queue, const char *name, const char *value) {
    fby_error *err = NULL;
    check(fby_queue_option(d, fby_str(queue), fby_str(name), fby_str(value), &err), err);
}

/* The gateway: 5 to 50 ms per request, and no way to make it faster. On a worker thread of the library. */
static fby_verdict write_out(void *user_data, const fby_job *job, fby_reply *reply) {
    static _Thread_local unsigned seed;
    struct timespec pause = {0, 0};
    char id[37], line[512];
    int len;
    (void)user_data, (void)reply;
    seed = seed * 1103515245u + 12345u + (unsigned)job->id.b[15];
    pause.tv_nsec = (5 + (long)(seed >> 16) % 46) * 1000000;
    nanosleep(&pause, NULL);
    if (fby_id_format(&job->id, id, sizeof id, NULL) != FBY_OK) return FBY_FAILED;
    len = snprintf(line, sizeof line, "%d %s %.*s\n", (int)getpid(), id, (int)job->payload.len,
                   (const char *)job->payload.ptr);
    return write(written, line, (size_t)len) == len ? FBY_DONE : FBY_FAILED;
}

/* What the front says to whoever sent this. It never waits for the gateway. */
static int accept_request(const char *request, fby_error **err) {
    fby_job_spec job = FBY_INIT(fby_job_spec);
    char text[37];
    double pressure = 0;
    fby_id id;
    fby_status status;
    if (strncmp(request, "bulk", 4) == 0) {
        check(fby_pressure(d, fby_str("orders"), &pressure, err), *err);
        if (pressure >= 0.8) return printf("429 %s\n", request), 1;
    }
    job.kind = fby_str("write");
    job.queue = fby_str(strncmp(request, "metric", 6) == 0 ? "metrics" : "orders");
    job.priority = strncmp(request, "order", 5) == 0;
    job.payload = fby_str(request);
    status = fby_push(d, &job, FBY_DEFAULT, &id, NULL, err);
    if (status == FBY_E_CLOSED) return 0; /* who asks now gets no answer and asks the next process */
    check(status, *err);
    check(fby_id_format(&id, text, sizeof text, err), *err);
    return printf("202 %s %s\n", request, text), 1;
}

/* Takes requests while there are any. */
static void *front(void *unused) {
    fby_error *err = NULL;
    char line[256];
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = 0;
        if (!accept_request(line, &err)) return unused;
        fflush(stdout);
    }
    if (fby_drain(d, FBY_FOREVER, &err) == FBY_OK) kill(getpid(), SIGTERM);
    return unused;
}

/* A count of a queue, out of the text of fby_stats. */
static unsigned long long count(const char *queue, const char *name) {
    char key[64];
    snprintf(key, sizeof key, "\"%s\":", name);
    queue = strstr(queue, key);
    return queue == NULL ? 0 : strtoull(queue + strlen(key), NULL, 10);
}

/* What has become of everything it found and accepted: nothing is unaccounted for. */
static void tell(const char *stats, const char *name) {
    char key[64];
    unsigned long long accepted, waiting;
    snprintf(key, sizeof key, "\"name\":\"%s\"", name);
    stats = strstr(stats, key);
    if (stats == NULL) return;
    accepted = count(stats, "pushed") + count(stats, "restored");
    waiting = count(stats, "queued") + count(stats, "scheduled");
    printf("%s: %llu accepted = %llu delivered + %llu shed + %llu waiting\n", name, accepted,
           count(stats, "succeeded"), count(stats, "shed"), waiting);
}

int main(int argc, char **argv) {
    fby_error *err = NULL;
    fby_buffer *stats = NULL;
    sigset_t stops;
    pthread_t thread;
    char url[4096], text[65536];
    fby_bytes json;
    int signal;
    if (argc != 3) return 2;
    written = open(argv[2], O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (written < 0) return perror(argv[2]), 1;
    /* Before there are threads, so that none of them takes the signal. */
    sigemptyset(&stops);
    sigaddset(&stops, SIGTERM);
    sigaddset(&stops, SIGINT);
    sigprocmask(SIG_BLOCK, &stops, NULL);
    snprintf(url, sizeof url, "sqlite:%s?concurrency=4", argv[1]);
    check(fby_open(fby_str(url), NULL, &d, &err), err);
    option("orders", "capacity", "20");
    option("orders", "on_full", "spill");
    option("metrics", "capacity", "20");
    option("metrics", "on_full", "drop_oldest");
    check(fby_register(d, fby_str("write"), NULL, write_out, NULL, NULL, &err), err);
    check(fby_start(d, &err), err);
    if (pthread_create(&thread, NULL, front, NULL) != 0) return 1;
    sigwait(&stops, &signal);
    check(fby_stop(d, FBY_DEFAULT, NULL, &err), err);
    check(fby_stats(d, &stats, &err), err);
    json = fby_buffer_bytes(stats);
    snprintf(text, sizeof text, "%.*s", (int)json.len, (const char *)json.ptr);
    tell(text, "metrics");
    tell(text, "orders");
    fflush(stdout);
    _exit(0); /* the front may wait for a line that never comes */
}

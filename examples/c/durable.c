/* A queue in front of something slow, which loses nothing: kill it at any moment, and start it again.
 *
 *   cc durable.c $(pkg-config --cflags --libs forebay) -o durable && ./durable sqlite:jobs.db < orders.txt
 *
 * Orders come by line; SIGTERM or Ctrl-C stops it. Once "accepted" is printed the order is on the disk, and is
 * delivered by this process or, if that dies, by the next one that opens the file. An order that was being
 * delivered when the process died is delivered once more, so whoever takes it must be able to hear of it twice:
 * the key is there to tell. */
#include <forebay.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(fby_status status, fby_error *err) {
    fby_bytes message = fby_error_message(err);
    if (status == FBY_OK) return;
    fprintf(stderr, "%s: %.*s\n", fby_status_name(status), (int)message.len, (const char *)message.ptr);
    exit(1);
}

/* What is slow, or fails now and then. On a worker thread of the library. */
static fby_verdict deliver(void *user_data, const fby_job *job, fby_reply *reply) {
    (void)user_data, (void)reply;
    printf("delivered %.*s\n", (int)job->payload.len, (const char *)job->payload.ptr);
    fflush(stdout);
    return FBY_DONE;
}

int main(int argc, char **argv) {
    fby_error *err = NULL;
    fby_dispatcher *d = NULL;
    char line[256];
    sigset_t stops;
    int signal;
    if (argc != 2) return 2;
    /* Before there are threads, so that none of them takes the signal. */
    sigemptyset(&stops);
    sigaddset(&stops, SIGTERM);
    sigaddset(&stops, SIGINT);
    sigprocmask(SIG_BLOCK, &stops, NULL);
    check(fby_open(fby_str(argv[1]), NULL, &d, &err), err);
    check(fby_register(d, fby_str("deliver"), NULL, deliver, NULL, NULL, &err), err);
    check(fby_start(d, &err), err);
    while (fgets(line, sizeof line, stdin) != NULL) {
        fby_job_spec job = FBY_INIT(fby_job_spec);
        line[strcspn(line, "\n")] = 0;
        job.kind = fby_str("deliver");
        job.payload = job.key = fby_str(line); /* the same order again is no second one */
        job.durability = FBY_DURABILITY_DISK;
        check(fby_push(d, &job, FBY_DEFAULT, NULL, NULL, &err), err);
        printf("accepted %s\n", line);
        fflush(stdout);
    }
    sigwait(&stops, &signal);
    check(fby_stop(d, FBY_DEFAULT, NULL, &err), err);
    fby_release(d);
    return 0;
}

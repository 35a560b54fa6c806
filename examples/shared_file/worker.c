/* Works on what anybody pushes into a file: cc worker.c $(pkg-config --cflags --libs forebay) -o worker
 *
 *   ./worker 'sqlite:jobs.db?shared=true'        until SIGTERM or Ctrl-C */
#include <ctype.h>
#include <forebay.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static void check(fby_status status, fby_error *err) {
    fby_bytes message = fby_error_message(err);
    if (status == FBY_OK) return;
    fprintf(stderr, "%s: %.*s\n", fby_status_name(status), (int)message.len, (const char *)message.ptr);
    exit(1);
}

/* The payload in capital letters. Whoever pushed it gets them as text, whatever language that is in. */
static fby_verdict shout(void *user_data, const fby_job *job, fby_reply *reply) {
    const unsigned char *text = job->payload.ptr;
    char *loud = malloc(job->payload.len + 1);
    fby_bytes result = {loud, job->payload.len};
    size_t i;
    (void)user_data;
    if (loud == NULL) return FBY_FAILED;
    for (i = 0; i < job->payload.len; i++) loud[i] = (char)toupper(text[i]);
    fby_reply_set_result(reply, result, fby_str("text/plain"), NULL);
    free(loud);
    return FBY_DONE;
}

int main(int argc, char **argv) {
    fby_error *err = NULL;
    fby_dispatcher *d = NULL;
    sigset_t stops;
    int signal;
    if (argc != 2) return 2;
    /* Before there are threads, so that none of them takes the signal. */
    sigemptyset(&stops);
    sigaddset(&stops, SIGTERM);
    sigaddset(&stops, SIGINT);
    sigprocmask(SIG_BLOCK, &stops, NULL);
    check(fby_open(fby_str(argv[1]), NULL, &d, &err), err);
    check(fby_register(d, fby_str("shout"), NULL, shout, NULL, NULL, &err), err);
    check(fby_start(d, &err), err);
    printf("ready\n");
    fflush(stdout);
    sigwait(&stops, &signal);
    check(fby_stop(d, FBY_DEFAULT, NULL, &err), err);
    fby_release(d);
    return 0;
}

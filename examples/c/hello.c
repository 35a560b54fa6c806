/* A job and its result: cc hello.c $(pkg-config --cflags --libs forebay) && ./a.out */
#include <forebay.h>
#include <stdio.h>
#include <stdlib.h>

static fby_verdict greet(void *user_data, const fby_job *job, fby_reply *reply) {
    char text[64];
    (void)user_data;
    if (job->payload.len == 0) {
        fby_reply_set_error(reply, fby_str("who?"), NULL);
        return FBY_FAILED;
    }
    snprintf(text, sizeof text, "hello %.*s", (int)job->payload.len, (const char *)job->payload.ptr);
    fby_reply_set_result(reply, fby_str(text), fby_str("text/plain"), NULL);
    return FBY_DONE;
}

static void check(fby_status status, fby_error *err) {
    fby_bytes message = fby_error_message(err);
    if (status == FBY_OK) return;
    fprintf(stderr, "%s: %.*s\n", fby_status_name(status), (int)message.len, (const char *)message.ptr);
    exit(1);
}

int main(void) {
    fby_error *err = NULL;
    fby_dispatcher *d = NULL;
    fby_job_spec job = {sizeof job, .kind = fby_str("greet"), .payload = fby_str("world")};
    fby_id id;
    fby_buffer *result = NULL;
    check(fby_open(fby_str("memory:"), NULL, &d, &err), err);
    check(fby_register(d, job.kind, NULL, greet, NULL, NULL, &err), err);
    check(fby_start(d, &err), err);
    check(fby_push(d, &job, FBY_DEFAULT, &id, NULL, &err), err);
    check(fby_wait(d, &id, 60000, NULL, &result, &err), err);
    printf("%.*s\n", (int)fby_buffer_bytes(result).len, (const char *)fby_buffer_bytes(result).ptr);
    fby_buffer_free(result);
    check(fby_stop(d, 60000, NULL, &err), err);
    fby_release(d);
}

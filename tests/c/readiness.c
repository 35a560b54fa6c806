/* Event loops: consumers whose descriptor is waited for. */
#include "harness.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

static int fd_of(fby_consumer *c) {
    int fd = -1;
    OK(fby_consumer_fd(c, &fd, &err));
    CHECK(fd >= 0);
    return fd;
}

static int wait_readable(int fd, int timeout_ms) {
    struct pollfd asked;
    int n;
    asked.fd = fd, asked.events = POLLIN, asked.revents = 0;
    n = poll(&asked, 1, timeout_ms);
    CHECK(n >= 0 && (asked.revents & ~POLLIN) == 0);
    return n;
}

static int readable(int fd) { return wait_readable(fd, 0); }

/* Polls until there is nothing, finishes what there was, and says how much. */
static size_t work_off(fby_dispatcher *d, fby_consumer *c) {
    fby_job jobs[8];
    size_t n, i, all = 0;
    do {
        OK(fby_poll(c, jobs, sizeof jobs[0], 8, 0, &n, &err));
        for (i = 0; i < n; i++) CHECK(finish_one(d, jobs[i].ticket, FBY_DONE) == FBY_OK);
        all += n;
    } while (n > 0);
    return all;
}

static void a_descriptor_says_when_to_poll(void) {
    fby_dispatcher *d = open_plain();
    fby_consumer *c = consumer_of(d);
    int fd = fd_of(c), i;
    fby_job jobs[2];
    size_t n;
    CHECK(fd_of(c) == fd);
    CHECK((fcntl(fd, F_GETFL) & O_NONBLOCK) && (fcntl(fd, F_GETFD) & FD_CLOEXEC));
    CHECK(readable(fd));
    CHECK(work_off(d, c) == 0 && !readable(fd));
    for (i = 0; i < 3; i++) {
        push(d, "k"), push(d, "k"), push(d, "k");
        CHECK(readable(fd));
        OK(fby_poll(c, jobs, sizeof jobs[0], 2, 0, &n, &err));
        CHECK(n == 2 && readable(fd));
        CHECK(finish_one(d, jobs[0].ticket, FBY_DONE) == FBY_OK);
        CHECK(finish_one(d, jobs[1].ticket, FBY_DONE) == FBY_OK);
        CHECK(work_off(d, c) == 1 && !readable(fd));
    }
    fby_consumer_free(c);
    CHECK(fcntl(fd, F_GETFL) == -1);
    fby_release(d);
}

static void edges_are_enough(void) {
    fby_dispatcher *d = open_plain();
    fby_consumer *c = consumer_of(d);
    int fd = fd_of(c), loop = epoll_create1(EPOLL_CLOEXEC), i;
    struct epoll_event event, got;
    memset(&event, 0, sizeof event);
    event.events = EPOLLIN | EPOLLET, event.data.fd = fd;
    CHECK(epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) == 0);
    for (i = 0; i < 50; i++) {
        CHECK(epoll_wait(loop, &got, 1, SOON_MS) == 1);
        CHECK(work_off(d, c) == (size_t)(i > 0));
        CHECK(epoll_wait(loop, &got, 1, 0) == 0);
        push(d, "k");
    }
    close(loop);
    fby_consumer_free(c);
    fby_release(d);
}

static void a_wake_and_a_stop_are_readable(void) {
    fby_dispatcher *d = open_plain();
    fby_consumer *c = consumer_of(d), *other = consumer_of(d);
    int fd = fd_of(c), other_fd = fd_of(other);
    fby_job job;
    size_t n = 99;
    CHECK(work_off(d, c) == 0 && work_off(d, other) == 0);
    OK(fby_consumer_wake(c, &err));
    CHECK(readable(fd) && !readable(other_fd));
    EXPECT(FBY_E_INTERRUPTED, fby_poll(c, &job, sizeof job, 1, 0, &n, &err));
    CHECK(n == 0 && !readable(fd));
    CHECK(work_off(d, c) == 0);
    OK(fby_request_stop(d, &err));
    CHECK(readable(fd) && readable(other_fd));
    EXPECT(FBY_E_CLOSED, fby_poll(c, &job, sizeof job, 1, 0, &n, &err));
    CHECK(readable(fd));
    stop_and_release(d);
    EXPECT(FBY_E_CLOSED, fby_poll(other, &job, sizeof job, 1, 0, &n, &err));
    CHECK(readable(other_fd));
    fby_consumer_free(c);
    fby_consumer_free(other);
}

static void one_that_goes_passes_it_on(void) {
    fby_dispatcher *d = open_plain();
    fby_consumer *c[2];
    int fds[2], told;
    c[0] = consumer_of(d), c[1] = consumer_of(d);
    fds[0] = fd_of(c[0]), fds[1] = fd_of(c[1]);
    CHECK(work_off(d, c[0]) == 0 && work_off(d, c[1]) == 0);
    push(d, "k");
    CHECK(readable(fds[0]) + readable(fds[1]) == 1);
    told = readable(fds[1]);
    fby_consumer_free(c[told]);
    CHECK(readable(fds[!told]) && work_off(d, c[!told]) == 1);
    fby_consumer_free(c[!told]);
    fby_release(d);
}

/* Who holds many deliveries need not ask for each whether it should stop. */
static void who_should_stop_is_told_at_once(void) {
    fby_dispatcher *d = open_plain();
    fby_consumer *c = consumer_of(d), *other = consumer_of(d);
    int fd = fd_of(c);
    fby_job jobs[3];
    fby_stopped stopped[3];
    fby_id ids[3];
    fby_buffer *text;
    size_t n, i;
    for (i = 0; i < 3; i++) ids[i] = push(d, "k");
    OK(fby_poll(c, jobs, sizeof jobs[0], 3, 0, &n, &err));
    CHECK(n == 3 && work_off(d, c) == 0);
    OK(fby_consumer_stopped(c, stopped, sizeof stopped[0], 3, &n, &err));
    CHECK(n == 0 && !readable(fd));
    for (i = 0; i < 3; i++) {
        /* Also if nobody polls in between. */
        OK(fby_cancel(d, &ids[i], NULL, &err));
        CHECK(readable(fd));
        OK(fby_consumer_stopped(other, stopped, sizeof stopped[0], 3, &n, &err));
        CHECK(n == 0);
        OK(fby_consumer_stopped(c, stopped, sizeof stopped[0], 3, &n, &err));
        CHECK(n == 1 && stopped[0].ticket == jobs[i].ticket && stopped[0].reason == FBY_STOP_CANCELLED);
        CHECK(stopped[0].struct_size == sizeof stopped[0]);
    }
    for (i = 0; i < 3; i++) CHECK(finish_one(d, jobs[i].ticket, FBY_DONE) == FBY_OK);
    CHECK(work_off(d, c) == 0 && !readable(fd));
    OK(fby_option(d, fby_str("grace"), &text, &err));
    CHECK(fby_buffer_bytes(text).len == 3 && memcmp(fby_buffer_bytes(text).ptr, "30s", 3) == 0);
    fby_buffer_free(text);
    fby_consumer_free(c);
    fby_consumer_free(other);
    stop_and_release(d);
}

static void a_consumer_may_ask_for_other_kinds(void) {
    fby_dispatcher *d = open_plain();
    fby_consumer *c;
    fby_bytes kinds[2];
    int fd;
    kinds[0] = fby_str("one"), kinds[1] = fby_str("two");
    OK(fby_consumer_new(d, kinds, 1, NULL, &c, &err));
    fd = fd_of(c);
    push(d, "two");
    CHECK(work_off(d, c) == 0 && !readable(fd));
    OK(fby_consumer_kinds(c, kinds, 2, &err));
    CHECK(readable(fd) && work_off(d, c) == 1);
    OK(fby_consumer_kinds(c, kinds, 1, &err));
    push(d, "two");
    CHECK(work_off(d, c) == 0 && !readable(fd));
    fby_consumer_free(c);
    stop_and_release(d);
}

/* ---- a thousand consumers in one event loop ---- */

enum { CROWD = 1000 };

typedef struct {
    fby_dispatcher *d;
    int jobs;
} crowd_pusher;

static void push_all(void *data) {
    crowd_pusher *p = data;
    int i;
    for (i = 0; i < p->jobs; i++) push(p->d, "k");
}

static void a_thousand_consumers_wait_in_one_loop(void) {
    fby_dispatcher *d = open_with("memory:?concurrency=64&keep_finished=100000");
    static fby_consumer *crowd[CROWD];
    struct epoll_event events[64];
    int loop = epoll_create1(EPOLL_CLOEXEC), before = entries(THREADS), i, n, woken;
    int jobs = slow() ? 500 : 5000, done = 0;
    crowd_pusher p;
    worker pusher;
    struct rlimit files;
    CHECK(loop >= 0 && getrlimit(RLIMIT_NOFILE, &files) == 0);
    files.rlim_cur = files.rlim_max;
    CHECK(setrlimit(RLIMIT_NOFILE, &files) == 0);
    for (i = 0; i < CROWD; i++) {
        struct epoll_event event;
        memset(&event, 0, sizeof event);
        crowd[i] = consumer_of(d);
        event.events = EPOLLIN, event.data.u32 = (uint32_t)i;
        CHECK(epoll_ctl(loop, EPOLL_CTL_ADD, fd_of(crowd[i]), &event) == 0);
        CHECK(work_off(d, crowd[i]) == 0);
    }
    await_no_more(THREADS, before);
    CHECK(epoll_wait(loop, events, 64, 0) == 0);
    /* One push is announced to one of them, since all ask for the same. */
    push(d, "k");
    woken = epoll_wait(loop, events, 64, SOON_MS);
    CHECK(woken == 1);
    CHECK(work_off(d, crowd[events[0].data.u32]) == 1);
    CHECK(epoll_wait(loop, events, 64, 0) == 0);
    p.d = d, p.jobs = jobs;
    begin(&pusher, push_all, &p);
    while (done < jobs) {
        n = epoll_wait(loop, events, 64, SOON_MS);
        CHECK(n > 0);
        for (i = 0; i < n; i++) done += (int)work_off(d, crowd[events[i].data.u32]);
    }
    end(&pusher);
    await_no_more(THREADS, before);
    OK(fby_drain(d, SOON_MS, &err));
    for (i = 0; i < CROWD; i++) fby_consumer_free(crowd[i]);
    CHECK(done == jobs);
    close(loop);
    stop_and_release(d);
}

static const test_case cases[] = {
    CASE(a_descriptor_says_when_to_poll),
    CASE(edges_are_enough),
    CASE(a_wake_and_a_stop_are_readable),
    CASE(one_that_goes_passes_it_on),
    CASE(who_should_stop_is_told_at_once),
    CASE(a_consumer_may_ask_for_other_kinds),
    CASE(a_thousand_consumers_wait_in_one_loop),
};
SUITE(readiness);

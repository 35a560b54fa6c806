/* A daemon of one thread and one event loop, with a queue in a file that survives kill -9 (Linux: epoll).
 *   cc daemon.c $(pkg-config --cflags --libs forebay) -o daemon
 *   ./daemon 'sqlite:jobs.db?concurrency=64' written.log socket
 *
 * Clients of the socket speak by line, and each hears what it asked for:
 *   push TEXT   "accepted ID" once the job is on the disk, and later "ended ID succeeded TEXT-IN-CAPITALS"
 *   watch ID    the same "ended ...", for a job of another connection or of a process before this one
 *   state ID    "state ID queued", or wherever it is
 *   stats       "stats {...}", the counts
 *
 * SIGTERM and Ctrl-C end it: no more connections, what runs is finished, the rest waits in the file for the next
 * process. Everything the loop waits for is a descriptor: connections, signals, what clients say, jobs to be run
 * (fby_consumer_fd), and ends of jobs that clients wait for (fby_watcher_fd). */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <forebay.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { BATCH = 64, CLIENTS = 128, LINE = 4096, UNREAD = 1 << 20 };
enum { LISTENER, SIGNALS, JOBS, ENDS, FIRST_CLIENT }; /* who an event is of; then the names of clients */

static struct client {
    uint32_t name; /* 0 for a free place; never given twice, so that what is for one finds no other */
    int fd;
    size_t in_len, out_len;
    char in[LINE], out[UNREAD];
} clients[CLIENTS];

/* Pushes of one turn of the loop: they share one sync of the disk. */
static fby_job_spec asked[BATCH];
static struct { uint32_t client; char text[LINE]; } askers[BATCH];
static size_t asked_len;
static int loop, listener, written, stopping;
static fby_dispatcher *d;
static fby_consumer *consumer;
static fby_watcher *watcher;
static fby_error *err;

#define TEXT(bytes) (int)(bytes).len, (const char *)(bytes).ptr /* for %.*s */

/* For what must work. Where it does not, the process can as well be started again: nothing is lost by that. */
static void check(fby_status status) {
    if (status == FBY_OK) return;
    fprintf(stderr, "%s: %.*s\n", fby_status_name(status), TEXT(fby_error_message(err)));
    exit(1);
}

static int sys(int answer, const char *what) { return answer < 0 ? perror(what), exit(1), 0 : answer; }

static const char *text_of(const fby_id *id) {
    static char text[37];
    return fby_id_format(id, text, sizeof text, NULL) == FBY_OK ? text : "?";
}

static void in_loop(int how, int fd, uint32_t events, uint32_t who) {
    struct epoll_event event = {events, {.u32 = who}};
    sys(epoll_ctl(loop, how, fd, &event), "epoll");
}

static struct client *client_of(uint32_t name) {
    struct client *c = clients;
    while (c < clients + CLIENTS && c->name != name) c++;
    return c < clients + CLIENTS ? c : NULL;
}

static void meet(void) {
    static uint32_t names = FIRST_CLIENT;
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct client *c = client_of(0); /* a free place */
    if (fd < 0 || c == NULL) { close(fd); return; } /* it has gone, or there is none */
    c->name = names++, c->fd = fd, c->in_len = c->out_len = 0;
    in_loop(EPOLL_CTL_ADD, fd, EPOLLIN, c->name);
}

static void drop(struct client *c) {
    close(c->fd); /* the loop forgets it with that */
    c->name = 0;
}

/* Says something to a client, if it is still there. It is sent at the end of the turn: nobody holds the loop up. */
static void say(uint32_t client, const char *format, ...) {
    struct client *c = client_of(client);
    va_list parts;
    if (c == NULL) return;
    va_start(parts, format);
    c->out_len += (size_t)vsnprintf(c->out + c->out_len, UNREAD - c->out_len, format, parts);
    va_end(parts);
    if (c->out_len > UNREAD) c->out_len = UNREAD;
}

/* Sends what a client takes now. Who asks on and on without reading is cut off. */
static void send_to(struct client *c) {
    ssize_t sent = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL);
    if ((sent < 0 && errno != EAGAIN) || c->out_len == UNREAD) { drop(c); return; }
    if (sent > 0) memmove(c->out, c->out + sent, c->out_len -= (size_t)sent);
    in_loop(EPOLL_CTL_MOD, c->fd, EPOLLIN | (c->out_len > 0 ? EPOLLOUT : 0u), c->name);
}

/* A tag is one job's as long as that is watched: hence the number beside the client. */
static fby_status tell_end(uint32_t client, const fby_id *id) {
    static uint32_t number;
    return fby_watcher_add(watcher, id, (uint64_t)client << 32 | number++, NULL);
}

/* Accepts what was asked for in this turn. It is said after the disk has it, never before. */
static void push_asked(void) {
    fby_id ids[BATCH];
    size_t accepted, i;
    fby_status status = fby_push_many(d, asked, sizeof *asked, asked_len, 0, ids, &accepted, NULL, NULL);
    for (i = 0; i < accepted; i++) {
        say(askers[i].client, "accepted %s\n", text_of(&ids[i]));
        tell_end(askers[i].client, &ids[i]);
    }
    for (; i < asked_len; i++) say(askers[i].client, "refused %s\n", fby_status_name(status));
    asked_len = 0;
}

static void answer(uint32_t client, const char *line) {
    bool push = strncmp(line, "push ", 5) == 0;
    fby_buffer *stats = NULL;
    fby_state state;
    fby_id id;
    if (!push) push_asked(); /* answers come in the order of the questions */
    if (push) {
        askers[asked_len].client = client;
        strcpy(askers[asked_len].text, line + 5); /* it fits: a line is no longer than LINE */
        asked[asked_len] = (fby_job_spec)FBY_INIT(fby_job_spec);
        asked[asked_len].kind = fby_str("shout"), asked[asked_len].payload = fby_str(askers[asked_len].text);
        if (++asked_len == BATCH) push_asked();
    } else if (strcmp(line, "stats") == 0) {
        check(fby_stats(d, &stats, &err));
        say(client, "stats %.*s\n", TEXT(fby_buffer_bytes(stats)));
        fby_buffer_free(stats);
    } else if (strlen(line) < 6 || fby_id_parse(fby_str(line + 6), &id, NULL) != FBY_OK) {
        say(client, "what? push TEXT, watch ID, state ID or stats\n");
    } else if (strncmp(line, "state ", 6) == 0 && fby_job_state(d, &id, &state, NULL) == FBY_OK) {
        say(client, "state %s %s\n", line + 6, fby_state_name(state));
    } else if (strncmp(line, "watch ", 6) != 0 || tell_end(client, &id) != FBY_OK) {
        say(client, "unknown %s\n", line + 6);
    }
}

static void listen_to(struct client *c) {
    ssize_t got = recv(c->fd, c->in + c->in_len, LINE - c->in_len, 0);
    char *line = c->in, *end;
    if (got <= 0) { drop(c); return; }
    c->in_len += (size_t)got;
    for (; (end = memchr(line, '\n', (size_t)(c->in + c->in_len - line))) != NULL; line = end + 1) {
        *end = 0;
        answer(c->name, line);
    }
    c->in_len -= (size_t)(line - c->in);
    memmove(c->in, line, c->in_len);
    if (c->in_len == LINE) drop(c); /* nobody has so much to say in one line */
}

/* Runs one batch, on the loop's thread: texts in capitals, into the log, with one sync for all. After a kill between
 * that and fby_finish the next process writes them once more: the id is there to tell. The descriptor stays readable
 * until a poll finds nothing, so clients have their turn between two batches. No more jobs are out at once than the
 * option concurrency says. */
static void run_jobs(void) {
    static char loud[BATCH][LINE];
    fby_job jobs[BATCH];
    fby_outcome outcomes[BATCH];
    size_t count, i, j;
    check(fby_poll(consumer, jobs, sizeof *jobs, BATCH, 0, &count, &err));
    for (i = 0; i < count; i++) {
        const unsigned char *text = jobs[i].payload.ptr;
        for (j = 0; j < jobs[i].payload.len; j++) loud[i][j] = (char)toupper(text[j]);
        dprintf(written, "%s %.*s\n", text_of(&jobs[i].id), (int)j, loud[i]);
        outcomes[i] = (fby_outcome)FBY_INIT(fby_outcome); /* of which zero is FBY_DONE */
        outcomes[i].ticket = jobs[i].ticket, outcomes[i].result = (fby_bytes){loud[i], j};
    }
    sys(fdatasync(written), "the log");
    if (count > 0) check(fby_finish(d, outcomes, sizeof *outcomes, count, NULL, &err));
}

/* Tells clients of jobs that have ended, until there are no more: that answer makes the descriptor quiet. */
static void tell_ends(void) {
    fby_end ends[BATCH];
    size_t count, i;
    while (fby_watcher_poll(watcher, ends, sizeof *ends, BATCH, 0, &count, NULL) == FBY_OK && count > 0) {
        for (i = 0; i < count; i++) {
            fby_buffer *result = NULL; /* which there is if it has succeeded */
            fby_wait(d, &ends[i].id, 0, NULL, &result, NULL);
            say((uint32_t)(ends[i].tag >> 32), "ended %s %s %.*s\n", text_of(&ends[i].id),
                fby_state_name(ends[i].state), TEXT(fby_buffer_bytes(result)));
            fby_buffer_free(result);
        }
    }
}

static void turn(void) {
    struct epoll_event events[BATCH];
    int count = epoll_wait(loop, events, BATCH, -1), i;
    struct client *c;
    for (i = 0; i < count; i++) {
        uint32_t who = events[i].data.u32;
        if (who == LISTENER) meet();
        else if (who == SIGNALS) stopping = 1;
        else if (who == JOBS) run_jobs();
        else if (who == ENDS) tell_ends();
        else if (events[i].events != EPOLLOUT && (c = client_of(who)) != NULL) listen_to(c);
    }
    push_asked();
    for (c = clients; c < clients + CLIENTS; c++)
        if (c->name != 0 && c->out_len > 0) send_to(c);
}

int main(int argc, char **argv) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int waits[FIRST_CLIENT], i;
    sigset_t stops;
    if (argc != 4) return fputs("daemon URL LOG SOCKET\n", stderr), 2;
    sigemptyset(&stops), sigaddset(&stops, SIGTERM), sigaddset(&stops, SIGINT);
    sigprocmask(SIG_BLOCK, &stops, NULL); /* before the library has threads, of which one would take the signal */
    waits[SIGNALS] = sys(signalfd(-1, &stops, SFD_CLOEXEC), "signalfd");
    written = sys(open(argv[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644), argv[2]);
    check(fby_open(fby_str(argv[1]), NULL, &d, &err));
    check(fby_consumer_new(d, NULL, 0, NULL, &consumer, &err));
    check(fby_consumer_fd(consumer, &waits[JOBS], &err));
    check(fby_watcher_new(d, &watcher, &err));
    check(fby_watcher_fd(watcher, &waits[ENDS], &err));
    unlink(argv[3]); /* nobody else can have the file open, so what is left of the socket is a dead process's */
    snprintf(address.sun_path, sizeof address.sun_path, "%s", argv[3]);
    waits[LISTENER] = listener = sys(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
    sys(bind(listener, (struct sockaddr *)&address, sizeof address), argv[3]);
    sys(listen(listener, CLIENTS), argv[3]);
    loop = sys(epoll_create1(EPOLL_CLOEXEC), "epoll");
    for (i = 0; i < FIRST_CLIENT; i++) in_loop(EPOLL_CTL_ADD, waits[i], EPOLLIN, (uint32_t)i);
    puts("ready"), fflush(stdout);
    while (!stopping) turn();
    unlink(argv[3]);
    /* Nothing runs between two turns: what was accepted and not run is in the file. */
    check(fby_stop(d, FBY_DEFAULT, NULL, &err));
    fby_watcher_free(watcher);
    fby_consumer_free(consumer);
    fby_release(d);
}

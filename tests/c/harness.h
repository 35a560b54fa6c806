/* What the C cases share: checks, gates to wait at, and short forms of the calls every case makes.
 *
 * A case is a function in the table cases[] of its file; main.c runs them all, or those it is given. */
#ifndef HARNESS_H
#define HARNESS_H

#include <forebay.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
    const char *name;
    void (*run)(void);
} test_case;

typedef struct {
    const char *name;
    const test_case *cases;
    size_t count;
} suite;

#define CASE(f) {#f, f}
#define SUITE(n) const suite n##_suite = {#n, cases, sizeof cases / sizeof cases[0]}

#define CHECK(what) ((what) ? (void)0 : failed(__FILE__, __LINE__, #what))
/* The code, the code of the error object, and that there is a message, or no error for FBY_OK. */
#define EXPECT(code, call)                                       \
    do {                                                         \
        fby_error *err = DANGLING;                               \
        fby_status status_ = (call);                             \
        expected(__FILE__, __LINE__, #call, code, status_, err); \
    } while (0)
#define OK(call) EXPECT(FBY_OK, call)
#define INVALID(call) EXPECT(FBY_E_INVALID, call)

/* An err that the library must overwrite. */
#define DANGLING ((fby_error *)&dangling)
extern char dangling;

/* Nothing in these tests takes this long; a wait that does has failed. */
#define SOON_MS 60000

void failed(const char *file, int line, const char *what);
void expected(const char *file, int line, const char *call, fby_status want, fby_status got, fby_error *err);

/* A count that threads wait for. */
typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int count;
} gate;
#define GATE {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0}

void pass(gate *g);            /* count one more */
void await(gate *g, int count); /* until so many have been counted */
int counted(gate *g);

fby_dispatcher *open_with(const char *url);
fby_dispatcher *open_plain(void);
fby_job_spec spec(const char *kind);
fby_id push(fby_dispatcher *d, const char *kind);
void add_handler(fby_dispatcher *d, const char *kind, fby_handler handler, void *user_data);
void stop_and_release(fby_dispatcher *d);
fby_state state_of(fby_dispatcher *d, const fby_id *id);
void await_state(fby_dispatcher *d, const fby_id *id, fby_state state);
fby_consumer *consumer_of(fby_dispatcher *d);
fby_job poll_one(fby_consumer *c);
fby_status finish_one(fby_dispatcher *d, fby_ticket ticket, fby_verdict verdict);
int same(fby_bytes bytes, const char *text);
int contains(fby_bytes bytes, const char *text);
fby_bytes bytes(const void *ptr, size_t len);
char *scratch(const char *name); /* a path for a file of this run, to be freed; the file is gone */
void remove_files(const char *path); /* a durable file with all that stands beside it */
extern const char *program;       /* the path of this program */
int rounds(int slowly, int plainly, int nightly); /* how often to repeat what is a matter of luck */
int slow(void);                  /* whether the program runs in something that makes it slow */
int entries(const char *folder); /* how many there are: of /proc/self/task, threads */
void await_no_more(const char *folder, int most); /* until there are no more entries than that */
#define THREADS "/proc/self/task"
#define FILES "/proc/self/fd"

typedef struct {
    pthread_t thread;
    void (*body)(void *);
    void *data;
} worker;
void begin(worker *w, void (*body)(void *), void *data);
void end(worker *w);

#endif

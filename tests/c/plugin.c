/* A host that loads the library at run time, and closes it while its threads run. Not linked with it. */
#include <forebay.h>

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(what) ((what) ? (void)0 : (fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what), abort()))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int begun, closed, ended;

static void say(int *what) {
    pthread_mutex_lock(&lock);
    ++*what;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void await(const int *what, int count) {
    pthread_mutex_lock(&lock);
    while (*what < count) pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static fby_verdict work(void *user_data, const fby_job *job, fby_reply *reply) {
    (void)user_data, (void)job, (void)reply;
    say(&begun);
    await(&closed, 1);
    say(&ended);
    return FBY_DONE;
}

#define LOAD(name) \
    *(void **)&name##_ = dlsym(library, #name); \
    CHECK(name##_ != NULL)

static const char *path;
static fby_dispatcher *d;

static void *load(void) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) fprintf(stderr, "%s\n", dlerror());
    CHECK(library != NULL);
    return library;
}

static void closing_the_library_leaves_its_threads_alone(void) {
    void *library = load();
    /* The types of the header, so that a signature that changes is a different one here too. */
    __typeof__(&fby_open) fby_open_;
    __typeof__(&fby_register) fby_register_;
    __typeof__(&fby_start) fby_start_;
    __typeof__(&fby_push) fby_push_;
    fby_job_spec job = FBY_INIT(fby_job_spec);
    int i;
    LOAD(fby_open);
    LOAD(fby_register);
    LOAD(fby_start);
    LOAD(fby_push);
    job.kind = fby_str("k");
    CHECK(fby_open_(fby_str("memory:?concurrency=2"), NULL, &d, NULL) == FBY_OK);
    CHECK(fby_register_(d, job.kind, NULL, work, NULL, NULL, NULL) == FBY_OK);
    CHECK(fby_start_(d, NULL) == FBY_OK);
    for (i = 0; i < 4; i++) CHECK(fby_push_(d, &job, 0, NULL, NULL, NULL) == FBY_OK);
    await(&begun, 2);
    CHECK(dlclose(library) == 0);
    say(&closed);
    /* The code of the library still runs: the workers record two jobs and run the next two. */
    await(&ended, 4);
}

/* It is the same library, and knows the dispatcher of the time before. */
static void what_was_left_running_is_found_again(void) {
    void *library = load();
    __typeof__(&fby_push) fby_push_;
    __typeof__(&fby_stop) fby_stop_;
    __typeof__(&fby_release) fby_release_;
    fby_job_spec job = FBY_INIT(fby_job_spec);
    fby_stop_report report = FBY_INIT(fby_stop_report);
    LOAD(fby_push);
    LOAD(fby_stop);
    LOAD(fby_release);
    job.kind = fby_str("k");
    CHECK(fby_push_(d, &job, 0, NULL, NULL, NULL) == FBY_OK);
    await(&ended, 5);
    CHECK(fby_stop_(d, 60000, &report, NULL) == FBY_OK);
    CHECK(report.handed_back == 0 && report.waiting == 0);
    fby_release_(d);
    CHECK(dlclose(library) == 0);
}

/* A host may open and close it as often as it likes, with threads left behind each time. */
static void it_is_loaded_and_closed_again_and_again(void) {
    int i;
    for (i = 0; i < 20; i++) {
        void *library = load();
        __typeof__(&fby_open) fby_open_;
        __typeof__(&fby_start) fby_start_;
        fby_dispatcher *left = NULL;
        LOAD(fby_open);
        LOAD(fby_start);
        CHECK(fby_open_(fby_str("memory:?concurrency=2"), NULL, &left, NULL) == FBY_OK);
        CHECK(fby_start_(left, NULL) == FBY_OK);
        CHECK(dlclose(library) == 0);
    }
}

#define CASE(f) {#f, f}
static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    CASE(closing_the_library_leaves_its_threads_alone),
    CASE(what_was_left_running_is_found_again),
    CASE(it_is_loaded_and_closed_again_and_again),
};

int main(int argc, char **argv) {
    size_t i;
    CHECK(argc == 2);
    path = argv[1];
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cases[i].run();
        printf("c plugin %s ... ok\n", cases[i].name);
    }
    printf("C plugin: %zu tests passed\n", i);
    return 0;
}

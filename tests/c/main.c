/* Runs the cases of every suite, or those whose names it is given; a name after "-" is left out. */
#include "harness.h"

#include <string.h>

/* One a line, so that two that are new do not meet. */
#define SUITES(_) \
    _(arguments) \
    _(nulls) \
    _(life) \
    _(pushes) \
    _(handlers) \
    _(tickets) \
    _(races) \
    _(consumers) \
    _(readiness) \
    _(watching) \
    _(events) \
    _(listing) \
    _(queues) \
    _(overload) \
    _(forward) \
    _(forks) \
    _(durable) \
    _(scenarios)

#define DECLARED(name) extern const suite name##_suite;
SUITES(DECLARED)
int durable_child(const char *role, const char *path);

const char *program;

#define LISTED(name) &name##_suite,
static const suite *const suites[] = {SUITES(LISTED)};

static int wanted(const char *suite_name, const char *case_name, int argc, char **argv) {
    int i, named = 0;
    for (i = 1; i < argc; i++) {
        const char *name = argv[i] + (argv[i][0] == '-');
        int fits = strcmp(name, suite_name) == 0 || strcmp(name, case_name) == 0;
        if (argv[i][0] == '-' && fits) return 0;
        if (argv[i][0] != '-' && fits) return 1;
        named |= argv[i][0] != '-';
    }
    return !named;
}

int main(int argc, char **argv) {
    size_t i, j, ran = 0;
    program = argv[0];
    CHECK(fby_abi_version() == FBY_ABI_VERSION);
    if (argc == 4 && strcmp(argv[1], "--child") == 0) return durable_child(argv[2], argv[3]);
    for (i = 0; i < sizeof suites / sizeof suites[0]; i++) {
        for (j = 0; j < suites[i]->count; j++) {
            const test_case *c = &suites[i]->cases[j];
            if (wanted(suites[i]->name, c->name, argc, argv)) {
                printf("c %s %s ... ", suites[i]->name, c->name);
                fflush(stdout);
                c->run();
                printf("ok\n");
                ran++;
            }
        }
    }
    CHECK(ran > 0);
    printf("C: %zu tests passed\n", ran);
    return 0;
}

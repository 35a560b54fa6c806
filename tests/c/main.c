/* Runs the cases of every suite, or those whose names it is given; a name after "-" is left out. */
#include "harness.h"

#include <string.h>

extern const suite arguments_suite, life_suite, handlers_suite, tickets_suite, consumers_suite, queues_suite,
    overload_suite, forward_suite, forks_suite, durable_suite, pushes_suite, listing_suite, readiness_suite;
int durable_child(const char *role, const char *path);

const char *program;

static const suite *const suites[] = {
    &arguments_suite, &life_suite,    &pushes_suite,  &handlers_suite, &tickets_suite, &consumers_suite,
    &listing_suite,   &queues_suite,  &overload_suite, &forward_suite, &forks_suite,   &durable_suite,
    &readiness_suite,
};

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

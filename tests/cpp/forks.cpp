// fork: in the child everything throws forked, and nothing hangs, is freed or is written.
#include "harness.hpp"

#include <sys/wait.h>

namespace {

using namespace std::chrono_literals;
using forebay::job;

void a_child_gets_exceptions_and_ends_clean() {
    gate running, go;
    const std::string dump = scratch("forked");
    auto d = std::make_unique<forebay::dispatcher>("memory:?concurrency=4", forebay::options().set("dump_file", dump));
    auto later = std::make_unique<forebay::pending>();
    auto c = std::make_unique<forebay::consumer>(d->consume(forebay::consumer_options().kind("polled")));
    auto jobs = std::make_unique<forebay::batch>();
    d->handle("k", [&](const job &j) {
        *later = j.defer();
        running.pass();
        go.await(1);
    });
    d->start();
    const auto id = d->push("k"), polled = d->push("polled");
    running.await(1);
    CHECK(c->poll(*jobs, 1, soon) && jobs->size() == 1);

    const pid_t child = fork();
    if (child == 0) {
        THROWN(forebay::forked, d->push("k"));
        THROWN(forebay::forked, d->handle("k", [](const job &) {}));
        THROWN(forebay::forked, d->wait(id));
        THROWN(forebay::forked, d->list());
        THROWN(forebay::forked, d->stop());
        forebay::batch none;
        THROWN(forebay::forked, c->poll(none, 1));
        (*jobs)[0].done();
        THROWN(forebay::forked, jobs->finish());
        THROWN(forebay::forked, later->done());
        CHECK((*jobs)[0].stop_reason() == forebay::stop_reason::lease_lost);
        jobs.reset();
        later.reset();
        c.reset();
        d.reset();
        CHECK(access(dump.c_str(), F_OK) != 0);
        {
            const auto own = open();
            own.handle("k", [](const job &) { return "mine"; });
            own.start();
            CHECK(own.wait(own.push("k"), soon).view() == "mine");
        }
        std::exit(0);
    }
    int status = -1;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);

    // The parent goes on.
    go.pass();
    later->done("answered");
    CHECK(d->wait(id, soon).view() == "answered");
    (*jobs)[0].done();
    CHECK(jobs->finish() == 0 && d->state(polled) == forebay::state::succeeded);
    d->stop(soon);
    remove_files(dump);
}

const test_case cases[] = {
    CASE(a_child_gets_exceptions_and_ends_clean),
};

}  // namespace

SUITE(forks);

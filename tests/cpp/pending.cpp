// Deliveries that are answered later, by another thread.
#include "harness.hpp"

namespace {

using namespace std::chrono_literals;
using forebay::job;

// A job may be answered for while its handler is on its way out: what that refers to is made before the dispatcher,
// whose end waits for it.

// A dispatcher whose handler of "k" gives its deliveries away.
struct desk {
    desk() : d(open()) {
        d.handle("k", [this](const job &j) {
            const std::lock_guard<std::mutex> held(lock);
            given.push_back(j.defer());
            came.pass();
        });
        d.start();
    }
    forebay::pending next() {
        came.await(++taken);
        const std::lock_guard<std::mutex> held(lock);
        return std::move(given.back());
    }

    gate came;
    int taken = 0;
    std::mutex lock;
    std::vector<forebay::pending> given;
    forebay::dispatcher d;
};

void a_job_is_handed_to_another_thread() {
    desk at;
    const auto id = at.d.push("k");
    forebay::pending p = at.next();
    CHECK(p && p.id() == id && p.ticket() != 0 && p.stop_reason() == forebay::stop_reason::none);
    p.extend(soon);
    std::thread([p = std::move(p)]() mutable { p.done("from elsewhere"); }).join();
    CHECK(at.d.wait(id, soon).view() == "from elsewhere");
}

void the_answer_may_come_before_the_handler_returns() {
    const auto d = open();
    d.handle("k", [](const job &j) {
        auto p = j.defer();
        CHECK(j.deferred());
        std::thread([&p] { p.done(41); }).join();
        CHECK(j.payload() == "still there");
        return "what a handler returns that has given its job away does not count";
    });
    d.start();
    CHECK(d.wait_for<int>(d.push("k", "still there"), soon) == 41);
}

void what_is_returned_after_giving_a_job_away_does_not_count() {
    std::promise<forebay::pending> given;
    const auto d = open();
    d.handle("k", [&given](const job &j) {
        given.set_value(j.defer());
        return "not this";
    });
    d.start();
    const auto id = d.push("k");
    auto p = given.get_future().get();
    // A handler that has returned by now has not ended its job.
    THROWN(forebay::timeout, d.wait(id, 20ms));
    p.done("this");
    CHECK(d.wait(id, soon).view() == "this");
}

void a_delivery_counts_once() {
    desk at;
    const auto id = at.d.push("k");
    auto p = at.next();
    p.fail("no luck");
    THROWN(forebay::stale, p.done());
    const auto again = at.next();
    CHECK(contains(at.d.get(id).json(), "no luck"));
    CHECK(at.d.cancel(id) == forebay::state::running && again.stop_reason() == forebay::stop_reason::cancelled);
}

void what_nobody_answers_has_failed() {
    desk at;
    const auto id = at.d.push("k");
    at.next();
    auto second = at.next();
    second = forebay::pending();
    THROWN(forebay::invalid, second.finish(forebay::done()));
    CHECK(contains(THROWN(forebay::job_failed, at.d.wait(id, soon)).what(), "destroyed without an answer"));
}

void a_handler_may_throw_after_it_has_given_its_job_away() {
    std::promise<forebay::pending> given;
    const auto d = open();
    d.handle("k", [&given](const job &j) {
        given.set_value(j.defer());
        throw forebay::fatal("changed my mind");
    });
    d.start();
    const auto id = d.push("k");
    CHECK(contains(THROWN(forebay::job_failed, d.wait(id, soon)).what(), "changed my mind"));
    auto p = given.get_future().get();
    CHECK(p);
    THROWN(forebay::stale, p.done());
}

void an_answer_that_cannot_be_used_can_be_given_again() {
    std::promise<forebay::pending> given;
    const forebay::dispatcher d("memory:?max_payload=8");
    d.handle("k", [&given](const job &j) { given.set_value(j.defer()); });
    d.start();
    const auto id = d.push("k");
    auto p = given.get_future().get();
    THROWN(forebay::invalid, p.done("much too long"));
    THROWN(forebay::invalid, p.finish(forebay::snooze(-1s)));
    THROWN(forebay::invalid, p.finish(forebay::outcome(FBY_PENDING, "")));
    p.done("short");
    CHECK(d.wait(id, soon).view() == "short");
}

void an_end_and_what_follows_are_one_step() {
    desk at;
    at.d.handle("next", [](const job &j) { return j.payload(); });
    const auto id = at.d.push("k");
    auto p = at.next();
    THROWN(forebay::invalid, p.finish_and_push(forebay::done(), {{"next", "a"}, {"", "b"}}));
    CHECK(at.d.size("default") == 0 && p);
    std::vector<forebay::new_job> jobs;
    jobs.emplace_back("next", "a", forebay::push_options().key("follows"));
    p.finish_and_push(forebay::done("done"), jobs);
    CHECK(at.d.wait(id, soon).view() == "done");
    CHECK(at.d.wait(at.d.push("next", "a", forebay::push_options().key("follows")), soon).view() == "a");
    THROWN(forebay::stale, p.finish_and_push(forebay::done(), jobs));
}

// Whoever comes first: every delivery is answered exactly once, also by 8 threads that fight for it.
void one_of_many_answers_counts() {
    const auto d = open();
    for (int round = 0; round < 50; ++round) {
        const auto id = d.push("k");
        auto c = d.consume();
        forebay::batch jobs;
        CHECK(c.poll(jobs, 1, soon) && jobs.size() == 1);
        std::vector<forebay::pending> claims;
        for (int i = 0; i < 8; ++i) claims.push_back(jobs[0].defer());
        std::atomic<int> counted{0};
        std::vector<std::thread> threads;
        for (auto &claim : claims) {
            threads.emplace_back([&claim, &counted] {
                try {
                    claim.done();
                    ++counted;
                } catch (const forebay::stale &) {
                }
            });
        }
        for (auto &thread : threads) thread.join();
        CHECK(counted == 1 && d.state(id) == forebay::state::succeeded);
    }
}

const test_case cases[] = {
    CASE(a_job_is_handed_to_another_thread),
    CASE(the_answer_may_come_before_the_handler_returns),
    CASE(what_is_returned_after_giving_a_job_away_does_not_count),
    CASE(a_delivery_counts_once),
    CASE(what_nobody_answers_has_failed),
    CASE(a_handler_may_throw_after_it_has_given_its_job_away),
    CASE(an_answer_that_cannot_be_used_can_be_given_again),
    CASE(an_end_and_what_follows_are_one_step),
    CASE(one_of_many_answers_counts),
};

}  // namespace

SUITE(pending);

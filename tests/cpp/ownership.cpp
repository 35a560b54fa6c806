// Who destroys what, and when: handlers once, and everything in whatever order.
#include "harness.hpp"

#include <iterator>
#include <set>
#include <sstream>

namespace {

using namespace std::chrono_literals;
using forebay::job;

auto counted(std::atomic<int> &alive) {
    return [w = witness(alive), p = std::make_unique<int>(1)](const job &) { return std::to_string(*p); };
}

void what_a_callable_owns_is_destroyed_once() {
    std::atomic<int> alive{0};
    static_assert(!std::is_copy_constructible_v<decltype(counted(alive))>);
    {
        const auto d = open();
        d.handle("k", counted(alive));
        THROWN(forebay::invalid, d.handle("", counted(alive)));
        THROWN(forebay::not_found, d.handle("k", counted(alive), forebay::kind_options().set("no", "such")));
        CHECK(alive == 1);
        d.handle("k", counted(alive));
        CHECK(alive == 1);
        d.handle<std::string>("typed", [w = witness(alive)](const std::string &) {});
        CHECK(alive == 2);
        CHECK(d.remove_handler("typed") && alive == 1);
        CHECK(!d.remove_handler("typed"));
        d.start();
        CHECK(d.wait(d.push("k"), soon).view() == "1");
        CHECK(alive == 1);
        d.stop(soon);
        CHECK(alive == 0);
        THROWN(forebay::closed, d.handle("k", counted(alive)));
        CHECK(alive == 0);
    }
    {
        const auto d = open();
        d.handle("k", counted(alive));
        d.start();
        CHECK(alive == 1);
    }
    CHECK(alive == 0);
    forebay::dispatcher gone = open();
    const forebay::dispatcher here = std::move(gone);
    THROWN(forebay::invalid, gone.handle("k", counted(alive)));
    CHECK(alive == 0);
}

// The handler that is replaced is in a call: it is destroyed when that has returned.
void the_last_call_returns_before_the_destruction() {
    std::atomic<int> alive{0};
    gate running, go;
    const auto d = open();
    d.handle("k", [&, w = witness(alive)](const job &) {
        running.pass();
        go.await(1);
        CHECK(*w.alive == 2);
    });
    d.start();
    const auto id = d.push("k");
    running.await(1);
    d.handle("k", counted(alive));
    CHECK(alive == 2);
    go.pass();
    d.wait(id, soon);
    d.stop(soon);
    CHECK(alive == 0);
}

// The end of a dispatcher is the end of its handlers: what they refer to may go right after it.
void the_destructor_waits_for_what_runs() {
    std::atomic<int> ended{0};
    gate running;
    {
        const auto d = open();
        d.handle("k", [&](const job &j) {
            running.pass();
            while (j.stop_reason() != forebay::stop_reason::stopping) std::this_thread::yield();
            ++ended;
        });
        d.start();
        d.push("k");
        running.await(1);
    }
    CHECK(ended == 1);
}

void a_handler_may_destroy_its_dispatcher() {
    std::atomic<int> alive{0};
    std::promise<void> destroyed;
    auto d = std::make_unique<forebay::dispatcher>("memory:?concurrency=2");
    auto &mine = d;
    gate go;
    d->handle("k", [&, w = witness(alive)](const job &) {
        go.await(1);
        mine.reset();
        destroyed.set_value();
    });
    d->start();
    const forebay::dispatcher_ref kept = d->ref();
    const auto id = d->push("k");
    go.pass();
    destroyed.get_future().get();
    // A thread of its own stops it, when the handler has returned.
    kept.stop(soon);
    CHECK(alive == 0 && kept.state(id) == forebay::state::succeeded);
}

void everything_may_outlive_the_dispatcher() {
    forebay::pending later;
    forebay::consumer c;
    forebay::batch jobs, polled;
    forebay::dispatcher_ref ref;
    forebay::buffer result;
    {
        gate given;
        // What is given away counts as running, so a stop waits for it.
        const forebay::dispatcher d("memory:?concurrency=3&grace=0s");
        d.handle("k", [&](const job &j) {
            later = j.defer();
            given.pass();
        });
        d.handle("result", [](const job &) { return "kept"; });
        d.start();
        d.push("polled", "payload");
        c = d.consume(forebay::consumer_options().kind("polled"));
        CHECK(c.poll(jobs, 4, soon) && jobs.size() == 1);
        d.push("k");
        result = d.wait(d.push("result"), soon);
        ref = d;
        given.await(1);
    }
    CHECK(result.view() == "kept");
    CHECK(jobs[0].payload() == "payload" && jobs[0].stop_reason() == forebay::stop_reason::lease_lost);
    jobs[0].done();
    CHECK(jobs.finish() == 1);
    CHECK(!c.poll(polled, 1) && polled.empty());
    CHECK(later.stop_reason() != forebay::stop_reason::none);
    THROWN(forebay::stale, later.done());
    THROWN(forebay::stale, later.done());
    THROWN(forebay::closed, ref.push("k"));
    THROWN(forebay::closed, ref.start());
}

template <class T>
void move_onto_itself(T &object) {
    T &same = object;
    object = std::move(same);
}

void what_was_moved_from_says_so() {
    forebay::dispatcher first = open();
    forebay::dispatcher d = std::move(first);
    move_onto_itself(d);
    d.push("k");
    THROWN(forebay::invalid, first.push("k"));
    THROWN(forebay::invalid, first.push_many("k", std::vector<std::string>{"a"}));
    THROWN(forebay::invalid, first.start());
    THROWN(forebay::invalid, first.stop());
    THROWN(forebay::invalid, first.stats());
    THROWN(forebay::invalid, first.wait(forebay::job_id()));
    THROWN(forebay::invalid, first.list());
    THROWN(forebay::invalid, first.consume());
    THROWN(forebay::invalid, first.forward("q", "memory:"));
    THROWN(forebay::invalid, first.dump("/nowhere"));
    THROWN(forebay::invalid, first.ref().flush());
    CHECK(first.push_told(std::vector<forebay::new_job>{{"k", ""}}).refused->code() == FBY_E_INVALID);
    THROWN(forebay::invalid, forebay::forwarder().stop(0s));

    forebay::consumer c = d.consume(), taken = std::move(c);
    move_onto_itself(taken);
    forebay::batch jobs;
    THROWN(forebay::invalid, c.poll(jobs, 1, 0s));
    THROWN(forebay::invalid, c.wake());
    CHECK(taken.poll(jobs, 1, 0s) && jobs.size() == 1);
    forebay::batch others = std::move(jobs);
    move_onto_itself(others);
    CHECK(jobs.empty() && jobs.finish() == 0 && others.size() == 1);

    forebay::pending p = others[0].defer(), q = std::move(p);
    move_onto_itself(q);
    CHECK(!p && q && p.stop_reason() == forebay::stop_reason::lease_lost);
    THROWN(forebay::invalid, p.finish(forebay::done()));
    THROWN(forebay::invalid, p.extend(1s));
    q.done();
    CHECK(!q);

    // What is assigned over has ended, as if it had been destroyed.
    forebay::dispatcher_ref old = d;
    d = open();
    THROWN(forebay::closed, old.push("k"));
    d.push("k");
    old = d;
    move_onto_itself(old);
    old.push("k");
    CHECK(d.size("default") == 2);
}

// Handlers refer to the dispatcher, and the dispatcher owns them: a stop cuts the circle.
void nothing_keeps_itself_alive() {
    std::atomic<int> alive{0};
    {
        auto shared = std::make_shared<forebay::dispatcher>("memory:?concurrency=1");
        shared->handle("k", [shared, w = witness(alive)](const job &) { shared->push("other"); });
        shared->start();
        shared->wait(shared->push("k"), soon);
        shared->stop(soon);
    }
    CHECK(alive == 0);
}

// Shows one and the same string again and again, as every range that can be gone through once may.
struct words {
    std::istringstream text;
    std::istream_iterator<std::string> begin() { return std::istream_iterator<std::string>(text); }
    std::istream_iterator<std::string> end() { return {}; }
};

void a_range_that_can_be_read_once_is_copied() {
    const forebay::dispatcher d("memory:");
    d.push_many("k", words{std::istringstream("the-first-of-three-long-words the-second-of-three-long-words "
                                              "the-third-of-three-long-words")});
    auto consumer = d.consume();
    forebay::batch batch;
    CHECK(consumer.poll(batch, 3, soon) && batch.size() == 3);
    std::set<std::string> seen;
    for (auto &each : batch) seen.emplace(each.payload()), each.done();
    CHECK(seen.size() == 3 && seen.count("the-second-of-three-long-words") == 1);
    CHECK(batch.finish() == 0);
}

void an_instant_that_the_clock_cannot_tell_is_its_last() {
    const forebay::dispatcher d("memory:", forebay::options().manual_clock());
    d.push("k", "", forebay::push_options().timeout(std::chrono::hours(24 * 365 * 10000)));
    auto consumer = d.consume();
    forebay::batch batch;
    CHECK(consumer.poll(batch, 1, soon) && batch.size() == 1);
    CHECK(batch[0].due() > batch[0].created());
    d.advance(std::chrono::hours(24 * 365 * 100000));
    CHECK(d.now() > std::chrono::system_clock::now());
}

const test_case cases[] = {
    CASE(what_a_callable_owns_is_destroyed_once),
    CASE(the_last_call_returns_before_the_destruction),
    CASE(the_destructor_waits_for_what_runs),
    CASE(a_handler_may_destroy_its_dispatcher),
    CASE(everything_may_outlive_the_dispatcher),
    CASE(what_was_moved_from_says_so),
    CASE(nothing_keeps_itself_alive),
    CASE(a_range_that_can_be_read_once_is_copied),
    CASE(an_instant_that_the_clock_cannot_tell_is_its_last),
};

}  // namespace

SUITE(ownership);

// Watching: the ends of many jobs, and what happens.
#include "harness.hpp"

#include <set>

namespace {

using namespace std::chrono_literals;
using forebay::job;

void the_ends_of_many_jobs_are_told_once() {
    const auto d = open();
    d.handle("k", [](const job &j) {
        if (j.payload() == "7") throw forebay::fatal("no luck");
        return j.payload();
    });
    auto w = d.watch();
    std::vector<std::string> payloads;
    for (int i = 0; i < 100; ++i) payloads.push_back(std::to_string(i));
    const auto ids = d.push_many("k", payloads);
    for (std::size_t i = 0; i < ids.size(); ++i) w.add(ids[i], i);
    THROWN(forebay::invalid, w.add(ids[0], 5));
    THROWN(forebay::not_found, w.add(forebay::job_id(), 1000));
    CHECK(w.remove(99) && !w.remove(99) && !w.remove(1000));
    d.start();
    std::set<std::uint64_t> told;
    std::vector<forebay::job_end> ends;
    while (told.size() < 99 && w.poll(ends, 8, soon)) {
        CHECK(!ends.empty() && ends.size() <= 8);
        for (const auto &end : ends) {
            CHECK(told.insert(end.tag).second && end.id == ids[end.tag]);
            CHECK(end.state == (end.tag == 7 ? forebay::state::failed : forebay::state::succeeded));
            if (end.tag != 7) CHECK(d.wait(end.id, 0ms).view() == payloads[end.tag]);
        }
    }
    CHECK(w.poll(ends, 8, 0ms) && ends.empty());
    // One that has ended is told of at once.
    w.add(ids[3], 3);
    CHECK(w.poll(ends, 8, soon) && ends.size() == 1 && ends[0].tag == 3);
    d.stop();
    CHECK(!w.poll(ends, 8) && ends.empty());
}

void an_event_loop_waits_for_ends() {
    auto d = open();
    auto w = d.watch();
    std::vector<forebay::job_end> ends;
    const int fd = w.fd();
    const auto id = d.push("k");
    w.add(id, 1);
    CHECK(fd >= 0 && w.poll(ends, 1, 0ms) && ends.empty() && !readable(fd, 0ms));
    d.cancel(id);
    CHECK(readable(fd, soon) && w.poll(ends, 1, 0ms) && ends.size() == 1);
    CHECK(ends[0].state == forebay::state::cancelled);
    CHECK(w.poll(ends, 1, 0ms) && ends.empty() && !readable(fd, 0ms));
    forebay::watcher taken = std::move(w);
    THROWN(forebay::invalid, w.add(id, 2));
    THROWN(forebay::invalid, w.poll(ends, 1));
    d = open();
    CHECK(readable(fd, soon) && !taken.poll(ends, 1));
    taken = d.watch();
    taken.add(d.push("k"), 1);
}

void a_stream_tells_what_happens() {
    const forebay::dispatcher d("memory:?concurrency=1&retry=none&max_attempts=2");
    d.handle("k", [](const job &) { throw std::runtime_error("no luck"); });
    auto all = d.subscribe(forebay::level::debug), loud = d.subscribe(forebay::level::error, 1);
    const auto id = d.push("k");
    d.push("k");
    d.start();
    d.drain(soon);
    d.stop();
    std::vector<std::string> names;
    bool told = false;
    const auto note = [&](const forebay::event &e) {
        if (e.id() == id) names.emplace_back(e.name());
        if (e.id() != id || e.kind() != FBY_EVENT_FAILED) return;
        told = true;
        CHECK(e.level() == forebay::level::error && e.queue() == "default" && e.job_kind() == "k");
        CHECK(e.attempt() == 2 && e.took() && contains(e.message(), "no luck") && e.at() <= d.now());
    };
    while (all.poll(note, 2)) {
    }
    CHECK(told && names == std::vector<std::string>({"pushed", "started", "retried", "started", "failed"}));
    CHECK(all.dropped() == 0 && loud.dropped() == 1);
    std::size_t errors = 0;
    while (const auto count = loud.poll([](const forebay::event &e) { CHECK(e.level() == forebay::level::error); })) {
        errors += *count;
    }
    CHECK(errors == 1);
    forebay::events none;
    THROWN(forebay::invalid, none.poll(note));
    THROWN(forebay::invalid, d.subscribe(static_cast<forebay::level>(9)));
}

void an_event_loop_waits_for_events() {
    const auto d = open();
    auto e = d.subscribe(forebay::level::debug);
    const int fd = e.fd();
    const auto nothing = [](const forebay::event &) {};
    CHECK(fd >= 0 && e.poll(nothing, 8, 0ms) == 0u && !readable(fd, 0ms));
    d.push("k");
    CHECK(readable(fd, soon) && e.poll(nothing, 8, 0ms) == 1u && e.poll(nothing, 8, 0ms) == 0u && !readable(fd, 0ms));
    // What the function throws comes through.
    d.push("k");
    THROWN(std::runtime_error, e.poll([](const forebay::event &) { throw std::runtime_error("enough"); }));
}

void a_logger_is_any_callable() {
    std::atomic<int> alive{0}, calls{0};
    {
        const auto d = open();
        d.log(forebay::level::warn, [&calls, w = witness(alive)](const forebay::event &e) {
            CHECK(e.kind() == FBY_EVENT_RETRIED && e.level() == forebay::level::warn && e.attempt() == 1);
            ++calls;
            throw std::runtime_error("nobody hears it");
        });
        const auto fail_once = [&d] {
            auto c = d.consume();
            forebay::batch jobs;
            d.push("k");
            CHECK(c.poll(jobs, 1, 0ms) && jobs.size() == 1);
            jobs[0].fail("no luck");
            CHECK(jobs.finish() == 0 && d.purge("default") == 1);
        };
        fail_once();
        CHECK(calls == 1 && alive == 1);
        d.log(forebay::level::error, [w = witness(alive)](const forebay::event &) { CHECK(false); });
        CHECK(alive == 1);
        fail_once();
        d.remove_logger();
        CHECK(alive == 0 && calls == 1);
        d.log(forebay::level::debug, [&calls, w = witness(alive)](const forebay::event &) { ++calls; });
        CHECK(alive == 1);
    }
    CHECK(alive == 0 && calls > 1);
    auto gone = open();
    const auto here = std::move(gone);
    THROWN(forebay::invalid, gone.log(forebay::level::warn, [w = witness(alive)](const forebay::event &) {}));
    here.stop();
    THROWN(forebay::closed, here.log(forebay::level::warn, [w = witness(alive)](const forebay::event &) {}));
    CHECK(alive == 0);
}

void a_stream_that_tells_cannot_be_polled() {
    const auto d = open();
    auto stream = d.subscribe(forebay::level::debug);
    d.push("k");
    int told = 0;
    const auto nothing = [](const forebay::event &) {};
    stream.poll([&](const forebay::event &) { THROWN(forebay::invalid, stream.poll(nothing, 1, 0s)), ++told; });
    CHECK(told > 0);
    CHECK(stream.poll(nothing, 64, 0s).has_value());
}

const test_case cases[] = {
    CASE(a_stream_that_tells_cannot_be_polled),
    CASE(the_ends_of_many_jobs_are_told_once),
    CASE(an_event_loop_waits_for_ends),
    CASE(a_stream_tells_what_happens),
    CASE(an_event_loop_waits_for_events),
    CASE(a_logger_is_any_callable),
};

}  // namespace

SUITE(watching);

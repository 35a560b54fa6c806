// Watching: the ends of many jobs.
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

const test_case cases[] = {
    CASE(the_ends_of_many_jobs_are_told_once),
    CASE(an_event_loop_waits_for_ends),
};

}  // namespace

SUITE(watching);

// Pushing: what goes in, how many at once, and what becomes of each.
#include "harness.hpp"

#include <array>
#include <list>

struct point {
    int x, y;
};

template <>
struct forebay::codec<point> {
    static constexpr std::string_view content_type = "text/x-point";
    static std::string encode(const point &p) { return std::to_string(p.x) + " " + std::to_string(p.y); }
    static point decode(std::string_view text) {
        const std::size_t gap = text.find(' ');
        return {codec<int>::decode(text.substr(0, gap)), codec<int>::decode(text.substr(gap + 1))};
    }
};

namespace {

using namespace std::chrono_literals;
using forebay::job;
using forebay::new_job;
using forebay::push_options;

// What the jobs of the queue carry, in order.
std::vector<std::string> payloads(const forebay::dispatcher &d) {
    std::vector<std::string> payloads;
    auto c = d.consume();
    forebay::batch jobs;
    while (c.poll(jobs, 64, 0s) && !jobs.empty()) {
        jobs.run([&payloads](const job &j) { payloads.emplace_back(j.payload()); });
    }
    return payloads;
}

void anything_that_is_bytes_is_a_payload() {
    const auto d = open();
    const std::string text = "text";
    const unsigned char raw[] = {1, 0, 2};
    d.push("k", "literal");
    d.push("k", text);
    d.push("k", std::string_view(text).substr(1));
    d.push("k", std::vector<std::byte>{std::byte{255}});
    d.push("k", std::array<unsigned char, 2>{3, 4});
    d.push("k", raw);
    d.push("k", point{1, -2});
    d.push("k", 17u);
    d.push("k", static_cast<const char *>(nullptr));
    d.push("k");
    const std::vector<std::string> all = {"literal", "text", "ext", "\xff", "\3\4", std::string("\1\0\2", 3),
                                          "1 -2",    "17",   "",    ""};
    CHECK(payloads(d) == all);
}

void a_job_is_pushed_as_its_options_say() {
    const forebay::dispatcher d("memory:?clock=manual");
    const auto id = forebay::job_id::parse("01939f3c-7b1e-7cc2-a5f0-6f1d2b3c4d5e");
    auto how = push_options().queue("q").key("once").concurrency_key("tenant").content_type("text/plain").retry("none")
                   .id(id).priority(-7).max_attempts(9).timeout(90s).expires_after(1h).header("trace", "abc")
                   .header("tenant", "7").durable(forebay::durability::memory);
    // Copies and moves are as good as what they were made of.
    auto copy = how;
    how = push_options();
    push_options kept;
    kept = copy;
    auto moved = std::move(copy);
    CHECK(d.push("k", "p", kept) == id && d.push("k", "p", moved) == id);
    const auto info = d.get(id);
    CHECK(info.id() == id && info.queue() == "q" && info.kind() == "k" && info.key() == "once");
    CHECK(info.member("priority") == "-7" && info.member("max_attempts") == "9" && info.state() == "queued");
    CHECK(info.member("timeout_us") == "90000000" && info.member("deadline_us") != "null");
    auto c = d.consume();
    forebay::batch jobs;
    CHECK(c.poll(jobs, 2, 0s) && jobs.size() == 1);
    CHECK(jobs[0].header("trace") == "abc" && jobs[0].header("tenant") == "7" && !jobs[0].header("other"));
    CHECK(jobs[0].headers().size() == 2 && jobs[0].concurrency_key() == "tenant");
    CHECK(jobs[0].content_type() == "text/plain");
    jobs[0].done();
    jobs.finish();
    THROWN(forebay::stale, jobs[0].headers());
}

void a_job_starts_when_its_time_has_come() {
    const forebay::dispatcher d("memory:", forebay::options().manual_clock());
    const auto later = d.push("k", "", push_options().delay(10s));
    const auto at = d.push("k", "", push_options().run_at(d.now() + 20s));
    const auto token = d.push("k", "", push_options().waits_for("paid").waits_for("packed"));
    THROWN(forebay::invalid, d.push("k", "", push_options().delay(-1s)));
    THROWN(forebay::invalid, d.push("k", "", push_options().priority(128)));
    CHECK(d.state(later) == forebay::state::scheduled && d.state(token) == forebay::state::blocked);
    d.advance(10s);
    CHECK(d.state(later) == forebay::state::queued && d.state(at) == forebay::state::scheduled);
    d.advance(10s);
    CHECK(d.state(at) == forebay::state::queued);
    d.signal(token, "paid");
    d.signal(token, "something else");
    CHECK(d.state(token) == forebay::state::blocked);
    d.signal(token, "packed");
    CHECK(d.state(token) == forebay::state::queued);
    THROWN(forebay::not_found, d.signal(forebay::job_id(), "paid"));
}

void many_jobs_are_pushed_in_one_call() {
    const auto d = open();
    const std::vector<new_job> jobs = {{"k", "1", push_options().key("one")}, {"k", point{2, 3}}, {"k", std::string("4")}};
    const auto ids = d.push_many(jobs);
    CHECK(ids.size() == 3 && d.get(ids[0]).key() == "one" && ids[0] < ids[1]);
    d.push_many(std::list<new_job>{{"k", "5"}});
    d.push_many(std::array<new_job, 1>{new_job("k", "6")});
    d.push_many("k", std::list<std::string>{"7", "8"}, push_options().priority(0));
    d.push_many("k", std::vector<point>{{9, 9}});
    d.push_many("k", std::vector<const char *>{"10"});
    const std::vector<bool> made(2);  // whose elements stay nowhere
    struct proxies {
        std::vector<bool>::const_iterator begin_, end_;
        struct iterator {
            std::vector<bool>::const_iterator at;
            std::string operator*() const { return *at ? "yes" : "no"; }
            iterator &operator++() { return ++at, *this; }
            bool operator!=(const iterator &other) const { return at != other.at; }
        };
        iterator begin() const { return {begin_}; }
        iterator end() const { return {end_}; }
    };
    d.push_many("k", proxies{made.begin(), made.end()});
    CHECK(d.push_many(std::vector<new_job>()).empty());
    const std::vector<std::string> all = {"1", "2 3", "4", "5", "6", "7", "8", "9 9", "10", "no", "no"};
    CHECK(payloads(d) == all);
}

void a_refusal_tells_how_many_are_in() {
    const forebay::dispatcher d("memory:?capacity=2");
    const auto e = THROWN(forebay::full, d.push_many("k", std::vector<std::string>{"1", "2", "3"}));
    CHECK(e.accepted() == 2 && e.retryable() && d.size("default") == 2 && contains(e.what(), "2 of 2"));
    d.purge("default");
    // If one is not valid, none is accepted.
    const auto wrong = THROWN(forebay::invalid, d.push_many(std::vector<new_job>{{"k", "1"}, {"", "2"}}));
    CHECK(wrong.accepted() == 0 && d.size("default") == 0);

    std::vector<new_job> jobs = {{"k", "1", push_options().key("a")}, {"k", "1", push_options().key("a")}, {"k", "2"},
                                 {"k", "3"}};
    const auto report = d.push_told(jobs);
    CHECK(report.accepted.size() == 3 && report.refused && report.refused->code() == FBY_E_FULL);
    CHECK(report.accepted[0].created && !report.accepted[1].created);
    CHECK(report.accepted[0].id == report.accepted[1].id && report.accepted[2].created);
    CHECK(report.accepted[0].durability == forebay::durability::memory);
    CHECK(report.accepted[0].shed == forebay::shed::none && report.refused->accepted() == 3);
    d.configure_queue("default", "on_full", "drop_newest");
    const auto shed = d.push_told(std::vector<new_job>{{"k", "4"}});
    CHECK(!shed.refused && shed.accepted[0].shed == forebay::shed::newest);
}

void a_push_may_wait_for_room() {
    const forebay::dispatcher d("memory:?capacity=1");
    d.push("k");
    THROWN(forebay::full, d.push("k", ""));
    THROWN(forebay::full, d.push("k", "", {}, 1ms));
    std::thread pusher([&d] { d.push("k", "at last", {}, forebay::forever); });
    d.purge("default");
    pusher.join();
    CHECK(d.size("default") == 1);
}

void a_key_belongs_to_one_job() {
    const auto d = open();
    const auto id = d.push("k", "p", push_options().key("once"));
    CHECK(d.push("k", "p", push_options().key("once")) == id);
    THROWN(forebay::conflict, d.push("k", "another", push_options().key("once")));
    CHECK(d.size("default") == 1);
}

const test_case cases[] = {
    CASE(anything_that_is_bytes_is_a_payload),
    CASE(a_job_is_pushed_as_its_options_say),
    CASE(a_job_starts_when_its_time_has_come),
    CASE(many_jobs_are_pushed_in_one_call),
    CASE(a_refusal_tells_how_many_are_in),
    CASE(a_push_may_wait_for_room),
    CASE(a_key_belongs_to_one_job),
};

}  // namespace

SUITE(pushing);

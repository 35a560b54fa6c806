// The pull side: batches, and who answers for what is in them.
#include "harness.hpp"

namespace {

using namespace std::chrono_literals;
using forebay::job;

std::vector<std::string> texts(int count) {
    std::vector<std::string> texts;
    for (int i = 0; i < count; ++i) texts.push_back("job " + std::to_string(i));
    return texts;
}

void jobs_are_polled_and_answered_in_batches() {
    const forebay::dispatcher d("memory:?concurrency=64&max_attempts=1");
    const auto ids = d.push_many("k", texts(100));
    auto c = d.consume();
    forebay::batch jobs;
    int polls = 0, seen = 0;
    for (; c.poll(jobs, 64, 0s) && !jobs.empty(); ++polls) {
        for (auto &each : jobs) {
            CHECK(each.id() == ids[static_cast<std::size_t>(seen)] && each.open());
            each.done(std::string(each.payload()) + " done");
            CHECK(each.payload() == "job " + std::to_string(seen));
            ++seen;
        }
        CHECK(jobs.finish() == 0 && jobs.finish() == 0);
        CHECK(!jobs[0].open() && jobs[0].payload().empty());
    }
    CHECK(polls == 2 && seen == 100 && jobs.empty());
    CHECK(d.wait(ids[99]).view() == "job 99 done");
}

void a_handler_runs_on_a_batch() {
    const forebay::dispatcher d("memory:?concurrency=8&max_attempts=1");
    const auto ids = d.push_many("k", std::vector<std::string>{"fine", "std", "int", "fatal", "typed", "later"});
    auto c = d.consume();
    forebay::batch jobs;
    forebay::pending later;
    CHECK(c.poll(jobs, 8) && jobs.size() == 6);
    const auto handler = [&later](const job &j) -> forebay::outcome {
        if (j.payload() == "std") throw std::runtime_error("no luck");
        if (j.payload() == "int") throw 42;
        if (j.payload() == "fatal") throw forebay::fatal("no hope");
        if (j.payload() == "typed") return forebay::done("{}", "application/json");
        if (j.payload() == "later") later = j.defer();
        return forebay::done(j.payload());
    };
    CHECK(jobs.run(handler) == 0);
    CHECK(d.wait(ids[0]).view() == "fine");
    CHECK(contains(THROWN(forebay::job_failed, d.wait(ids[1])).what(), "no luck"));
    CHECK(contains(THROWN(forebay::job_failed, d.wait(ids[2])).what(), "no std::exception"));
    CHECK(contains(THROWN(forebay::job_failed, d.wait(ids[3])).what(), "no hope"));
    CHECK(d.wait(ids[4]).content_type() == "application/json");
    CHECK(d.state(ids[5]) == forebay::state::running);
    later.done("in the end");
    CHECK(d.wait(ids[5]).view() == "in the end");
}

void a_batch_is_not_polled_into_by_its_handler() {
    const forebay::dispatcher d("memory:?concurrency=8");
    const auto ids = d.push_many("k", texts(2));
    auto c = d.consume();
    forebay::batch jobs;
    CHECK(c.poll(jobs, 1) && jobs.size() == 1);
    jobs.run([&](const job &) { THROWN(forebay::invalid, c.poll(jobs, 1, forebay::wait_time(std::chrono::seconds(0)))); });
    CHECK(d.state(ids[0]) == forebay::state::succeeded && d.state(ids[1]) == forebay::state::queued);
    CHECK(c.poll(jobs, 1) && jobs.size() == 1);
}

void what_a_batch_does_not_answer_has_failed() {
    const forebay::dispatcher d("memory:?concurrency=8&max_attempts=1");
    const auto ids = d.push_many("k", texts(4));
    auto c = d.consume();
    {
        forebay::batch jobs;
        CHECK(c.poll(jobs, 2) && jobs.size() == 2);
        jobs[1].done();
        CHECK(jobs.finish() == 0);
        // Polled into again.
        CHECK(c.poll(jobs, 2) && jobs.size() == 2);
        CHECK(d.state(ids[0]) == forebay::state::failed && d.state(ids[1]) == forebay::state::succeeded);
        forebay::batch other;
        jobs = std::move(other);
        CHECK(d.state(ids[2]) == forebay::state::failed && jobs.empty());
    }
    CHECK(contains(THROWN(forebay::job_failed, d.wait(ids[3])).what(), "without an answer"));
}

void a_batch_says_what_counted() {
    const forebay::dispatcher d("memory:?concurrency=8&max_payload=8");
    const auto ids = d.push_many("k", std::vector<std::string>{"1", "2", "3"});
    auto c = d.consume();
    forebay::batch jobs;
    CHECK(c.poll(jobs, 8) && jobs.size() == 3);
    // Somebody else was faster with the first; the second cannot be answered so.
    jobs[0].defer().done();
    CHECK(!jobs[0].open());
    jobs[0].done();
    jobs[1].done("much too long");
    jobs[2].done("3");
    THROWN(forebay::invalid, jobs.finish());
    CHECK(d.wait(ids[2]).view() == "3" && d.state(ids[1]) == forebay::state::running && jobs[1].open());
    jobs[1].done("2");
    CHECK(jobs.finish() == 0 && d.wait(ids[1]).view() == "2");
}

void an_overdue_answer_does_not_count() {
    const forebay::dispatcher d("memory:?clock=manual&concurrency=4&max_attempts=1");
    const auto ids = d.push_many("k", texts(2), forebay::push_options().timeout(1s));
    auto c = d.consume();
    forebay::batch jobs;
    CHECK(c.poll(jobs, 8, 0s) && jobs.size() == 2);
    d.advance(2s);
    CHECK(jobs[0].stop_reason() == forebay::stop_reason::timed_out);
    jobs[0].done();
    jobs[1].done();
    CHECK(jobs.finish() == 2 && !jobs[0].open() && !jobs[1].open());
    THROWN(forebay::job_failed, d.wait(ids[0]));
}

void a_consumer_takes_its_kinds_and_queues() {
    const auto d = open();
    d.push("a", "1", forebay::push_options().queue("x"));
    d.push("b", "2", forebay::push_options().queue("x"));
    d.push("a", "3", forebay::push_options().queue("y"));
    auto c = d.consume(forebay::consumer_options().kind("a").kind("c").queue("y").queue("z").lease(soon));
    forebay::batch jobs;
    CHECK(c.poll(jobs, 8, 0s) && jobs.size() == 1 && jobs[0].payload() == "3");
    jobs[0].done();
    jobs.finish();
    CHECK(c.poll(jobs, 8, 0s) && jobs.empty());
    CHECK(c.poll(jobs, 0, 0s) && jobs.empty());
    THROWN(forebay::invalid, d.consume(forebay::consumer_options().lease(-1s)));
}

void a_wait_ends_by_a_wake_or_a_stop() {
    const auto d = open();
    gate polls;
    std::thread poller([&] {
        auto c = d.consume();
        forebay::batch jobs;
        c.wake();
        CHECK(c.poll(jobs, 1) && jobs.empty());
        polls.pass();
        CHECK(!c.poll(jobs, 1));
        CHECK(!c.poll(jobs, 1));
    });
    polls.await(1);
    d.stop();
    poller.join();
}

void a_consumer_may_ask_for_other_kinds() {
    const auto d = open();
    d.push("a");
    d.push("b");
    auto c = d.consume(forebay::consumer_options().kind("a"));
    forebay::batch jobs;
    CHECK(c.poll(jobs, 8, 0s) && jobs.size() == 1 && jobs[0].kind() == "a");
    c.take({"b"});
    CHECK(c.poll(jobs, 8, 0s) && jobs.size() == 1 && jobs[0].kind() == "b");
    THROWN(forebay::invalid, c.take({""}));
    c.take({});
    CHECK(c.poll(jobs, 8, 0s));
}

void a_consumer_hears_which_jobs_should_stop() {
    const forebay::dispatcher d("memory:?concurrency=200");
    const auto ids = d.push_many("k", texts(150));
    auto c = d.consume();
    forebay::batch jobs;
    CHECK(c.stopped().empty() && c.poll(jobs, 200, 0s) && jobs.size() == 150);
    for (const auto &id : ids) d.cancel(id);
    std::size_t told = 0;
    for (const auto &each : c.stopped()) {
        CHECK(each.reason == forebay::stop_reason::cancelled);
        for (auto &job : jobs) told += job.native().ticket == each.ticket;
    }
    CHECK(told == 150 && c.stopped().empty());
}

void an_event_loop_waits_for_a_descriptor() {
    const auto d = open();
    auto c = d.consume();
    const int fd = c.fd();
    forebay::batch jobs;
    const auto until_empty = [&] {
        std::size_t found = 0;
        for (; c.poll(jobs, 8, 0s) && !jobs.empty(); found += jobs.size()) jobs.run([](const job &) {});
        return found;
    };
    CHECK(fd >= 0 && c.fd() == fd && until_empty() == 0 && !readable(fd, 0ms));
    d.push_many("k", texts(2));
    CHECK(readable(fd, soon) && until_empty() == 2 && !readable(fd, 0ms));
    c.wake();
    CHECK(readable(fd, soon) && until_empty() == 0);
    // From another thread, while this one waits.
    std::thread([&d] { d.push("k"); }).join();
    CHECK(readable(fd, soon) && until_empty() == 1);
    d.stop();
    CHECK(readable(fd, soon) && !c.poll(jobs, 8, 0s));
    THROWN(forebay::invalid, forebay::consumer().fd());
}

const test_case cases[] = {
    CASE(jobs_are_polled_and_answered_in_batches),
    CASE(a_handler_runs_on_a_batch),
    CASE(a_batch_is_not_polled_into_by_its_handler),
    CASE(what_a_batch_does_not_answer_has_failed),
    CASE(a_batch_says_what_counted),
    CASE(an_overdue_answer_does_not_count),
    CASE(a_consumer_takes_its_kinds_and_queues),
    CASE(a_wait_ends_by_a_wake_or_a_stop),
    CASE(a_consumer_may_ask_for_other_kinds),
    CASE(a_consumer_hears_which_jobs_should_stop),
    CASE(an_event_loop_waits_for_a_descriptor),
};

}  // namespace

SUITE(consumers);

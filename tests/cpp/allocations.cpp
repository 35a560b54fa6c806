// The way of a job through the header allocates nothing that C would not.
#include "harness.hpp"

#include <new>

namespace {

std::atomic<std::size_t> allocated{0};

}  // namespace

// Every other form ends in these. Not inlined: valgrind puts its own in the place of all of them, or of none.
[[gnu::noinline]] void *operator new(std::size_t size) {
    ++allocated;
    if (void *memory = std::malloc(size ? size : 1)) return memory;
    throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void *memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void *memory, std::size_t) noexcept { std::free(memory); }

namespace {

using namespace std::chrono_literals;
using forebay::job;

constexpr int rounds = 1000;

// What so many jobs allocate on the C++ side, with everything grown that grows once.
template <class F>
std::size_t allocations_of(F run) {
    run();
    const std::size_t before = allocated;
    run();
    return allocated - before;
}

void a_job_allocates_nothing_in_the_header() {
    const forebay::dispatcher d("memory:?concurrency=1&retry=none&max_attempts=1");
    const std::string payload(100, 'x');
    std::atomic<std::size_t> sum{0};
    d.handle("void", [&sum](const job &j) { sum += j.payload().size(); });
    d.handle("view", [](const job &j) { return j.payload(); });
    d.handle<int>("typed", [&sum](int n) { sum += static_cast<std::size_t>(n); });
    d.handle("outcome", [](const job &) { return forebay::done(); });
    d.start();
    const auto runs = [&](const char *kind, std::string_view of) {
        return allocations_of([&, kind, of] {
            for (int i = 0; i < rounds; ++i) d.push(kind, of);
            d.drain(soon);
        });
    };
    CHECK(runs("void", payload) == 0);
    CHECK(runs("view", payload) == 0);
    CHECK(runs("typed", "12") == 0);
    CHECK(runs("outcome", "") == 0);
    CHECK(sum == 2 * rounds * (payload.size() + 12));
    // A result is one more copy only where it was made as a string.
    d.handle("string", [](const job &j) { return std::string(j.payload()); });
    CHECK(runs("string", payload) == rounds);
}

void a_batch_allocates_nothing_once_it_has_grown() {
    const forebay::dispatcher d("memory:?concurrency=64");
    auto c = d.consume();
    forebay::batch jobs;
    std::size_t done = 0;
    const auto round = [&](auto answer) {
        return allocations_of([&] {
            for (int i = 0; i < rounds; ++i) d.push("k", "short");
            while (c.poll(jobs, 64, 0s) && !jobs.empty()) {
                answer();
                done += jobs.size();
            }
        });
    };
    CHECK(round([&] {
              for (auto &each : jobs) each.done();
              jobs.finish();
          }) == 0);
    CHECK(round([&] { jobs.run([](const job &j) { return j.payload(); }); }) == 0);
    CHECK(done == 4 * rounds);
}

void a_pending_job_allocates_nothing() {
    const auto d = open();
    auto c = d.consume();
    forebay::batch jobs;
    CHECK(allocations_of([&] {
              for (int i = 0; i < 10; ++i) {
                  d.push("k");
                  CHECK(c.poll(jobs, 1, 0s) && jobs.size() == 1);
                  jobs[0].defer().done();
              }
          }) == 0);
}

const test_case cases[] = {
    CASE(a_job_allocates_nothing_in_the_header),
    CASE(a_batch_allocates_nothing_once_it_has_grown),
    CASE(a_pending_job_allocates_nothing),
};

}  // namespace

SUITE(allocations);

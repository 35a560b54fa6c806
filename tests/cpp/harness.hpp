// What the C++ cases share: checks, gates to wait at, and counts of what is alive.
//
// A case is a function in the table cases[] of its file; main.cpp runs them all, or those it is given.
#ifndef HARNESS_HPP
#define HARNESS_HPP

#include <forebay.hpp>
#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

struct test_case {
    const char *name;
    void (*run)();
};

struct suite {
    const char *name;
    const test_case *cases;
    std::size_t count;
};

#define CASE(f) {#f, f}
#define SUITE(n) \
    extern const suite n##_suite; \
    const suite n##_suite = {#n, cases, sizeof cases / sizeof cases[0]}

#define CHECK(what) ((what) ? (void)0 : failed(__FILE__, __LINE__, #what))
// What the expression throws, which must be of this class; its code is looked at too, where the class has one.
#define THROWN(type, expression) thrown<type>(__FILE__, __LINE__, #expression, [&] { (void)(expression); })

[[noreturn]] inline void failed(const char *file, int line, const char *what) {
    std::fflush(stdout);
    std::fprintf(stderr, "\n%s:%d: not so: %s\n", file, line, what);
    std::abort();
}

template <class E, class F>
E thrown(const char *file, int line, const char *what, F run) {
    try {
        run();
    } catch (const E &e) {
        return e;
    } catch (const std::exception &e) {
        std::fprintf(stderr, "\nthrown was: %s", e.what());
        failed(file, line, what);
    }
    std::fprintf(stderr, "\nnothing was thrown");
    failed(file, line, what);
}

// Nothing in these tests takes this long; a wait that does has failed.
constexpr std::chrono::seconds soon{60};
using std::chrono::milliseconds;

// A count that threads wait for.
class gate {
  public:
    void pass() {
        const std::lock_guard<std::mutex> held(lock_);
        ++count_;
        changed_.notify_all();
    }
    void await(int count) {
        std::unique_lock<std::mutex> held(lock_);
        CHECK(changed_.wait_for(held, soon, [&] { return count_ >= count; }));
    }
    int count() const {
        const std::lock_guard<std::mutex> held(lock_);
        return count_;
    }

  private:
    mutable std::mutex lock_;
    std::condition_variable changed_;
    int count_ = 0;
};

// Counts itself while it is alive; may only move.
struct witness {
    explicit witness(std::atomic<int> &n) : alive(&n) { ++*alive; }
    witness(const witness &) = delete;
    witness(witness &&other) noexcept : alive(std::exchange(other.alive, nullptr)) {}
    witness &operator=(const witness &) = delete;
    witness &operator=(witness &&) = delete;
    ~witness() {
        if (alive) --*alive;
    }
    std::atomic<int> *alive;
};

inline forebay::dispatcher open() {
    return forebay::dispatcher("memory:?concurrency=2&retry=none&max_attempts=2");
}

inline bool contains(std::string_view text, std::string_view part) {
    return text.find(part) != std::string_view::npos;
}

// Whether a descriptor is readable within so much time.
inline bool readable(int fd, std::chrono::milliseconds within) {
    pollfd waits{fd, POLLIN, 0};
    return ::poll(&waits, 1, static_cast<int>(within.count())) == 1 && (waits.revents & POLLIN) != 0;
}

// Removes a file, and what stands beside it if it holds jobs.
inline void remove_files(const std::string &path) {
    for (const char *beside : {"", "-wal", "-shm", ".lock", ".flight", ".reserve", ".sock", ".wake"}) {
        std::remove((path + beside).c_str());
    }
}

// The path of a file of this run that is not there.
inline std::string scratch(const std::string &name) {
    const char *folder = std::getenv("TMPDIR");
    const std::string path =
        std::string(folder ? folder : "/tmp") + "/forebay-cpp-" + std::to_string(::getpid()) + "-" + name;
    remove_files(path);
    return path;
}

#endif

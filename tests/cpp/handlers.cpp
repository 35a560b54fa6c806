// A C++ program on forebay.h alone: callables as handlers, with the trampoline that C++ needs.
#include <forebay.h>

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#define CHECK(what) \
    ((what) ? (void)0 : (std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what), std::abort()))

namespace {

constexpr int64_t soon_ms = 60000;

struct release {
    void operator()(fby_dispatcher *d) const { fby_release(d); }
    void operator()(fby_buffer *b) const { fby_buffer_free(b); }
    void operator()(fby_error *e) const { fby_error_free(e); }
};
using dispatcher = std::unique_ptr<fby_dispatcher, release>;
using buffer = std::unique_ptr<fby_buffer, release>;
using error = std::unique_ptr<fby_error, release>;

fby_bytes bytes(const std::string &text) {
    return {text.data(), text.size()};
}

std::string text(fby_bytes b) {
    return {static_cast<const char *>(b.ptr), b.len};
}

dispatcher open() {
    fby_dispatcher *d = nullptr;
    CHECK(fby_open(fby_str("memory:?concurrency=2&retry=none&max_attempts=2"), nullptr, &d, nullptr) == FBY_OK);
    return dispatcher(d);
}

// What a handler throws when the service behind it says "not now".
struct rate_limited {
    int64_t retry_after_ms;
};

// No exception may leave a handler, so this is where they end.
template <class F>
fby_verdict trampoline(void *cell, const fby_job *job, fby_reply *reply) noexcept {
    try {
        return (*static_cast<F *>(cell))(*job, reply);
    } catch (const rate_limited &e) {
        fby_reply_set_delay(reply, e.retry_after_ms, nullptr);
        return FBY_RATE_LIMITED;
    } catch (const std::exception &e) {
        fby_reply_set_error(reply, bytes(e.what()), nullptr);
    } catch (...) {
        fby_reply_set_error(reply, fby_str("an exception that is no std::exception"), nullptr);
    }
    return FBY_FAILED;
}

// The callable moves to the heap; the library's drop is its deleter.
template <class F>
fby_status add(const dispatcher &d, const char *kind, F f, const std::string &named = {}) {
    auto options = FBY_INIT(fby_kind_options);
    options.options = bytes(named);
    return fby_register(d.get(), fby_str(kind), &options, trampoline<F>, new F(std::move(f)),
                        [](void *cell) { delete static_cast<F *>(cell); }, nullptr);
}

fby_id push(const dispatcher &d, const std::string &kind, const std::string &payload = {}) {
    auto job = FBY_INIT(fby_job_spec);
    fby_id id{};
    job.kind = bytes(kind);
    job.payload = bytes(payload);
    CHECK(fby_push(d.get(), &job, FBY_DEFAULT, &id, nullptr, nullptr) == FBY_OK);
    return id;
}

// The result, or the text of the job's error.
std::pair<fby_status, std::string> wait(const dispatcher &d, const fby_id &id) {
    fby_buffer *result = nullptr;
    fby_error *failed = nullptr;
    const fby_status status = fby_wait(d.get(), &id, soon_ms, nullptr, &result, &failed);
    const buffer owned(result);
    const error why(failed);
    return {status, status == FBY_OK ? text(fby_buffer_bytes(result)) : text(fby_error_message(failed))};
}

void stop(const dispatcher &d) {
    CHECK(fby_stop(d.get(), soon_ms, nullptr, nullptr) == FBY_OK);
}

void a_lambda_is_a_handler() {
    const auto d = open();
    const std::string greeting = "hello ";
    CHECK(add(d, "greet", [greeting](const fby_job &job, fby_reply *reply) {
              fby_reply_set_result(reply, bytes(greeting + text(job.payload)), fby_str("text/plain"), nullptr);
              return FBY_DONE;
          }) == FBY_OK);
    CHECK(fby_start(d.get(), nullptr) == FBY_OK);
    CHECK(wait(d, push(d, "greet", "world")) == std::make_pair(fby_status(FBY_OK), std::string("hello world")));
    stop(d);
}

void what_is_thrown_fails_the_attempt() {
    const auto d = open();
    std::atomic<int> calls{0};
    CHECK(add(d, "throw", [&calls](const fby_job &job, fby_reply *) -> fby_verdict {
              ++calls;
              if (text(job.payload) == "int") throw 42;
              throw std::runtime_error("no " + text(job.payload));
          }) == FBY_OK);
    CHECK(fby_start(d.get(), nullptr) == FBY_OK);
    const auto [status, why] = wait(d, push(d, "throw", "paper"));
    CHECK(status == FBY_E_JOB_FAILED && why.find("no paper") != std::string::npos);
    CHECK(calls == 2);
    const auto [other, because] = wait(d, push(d, "throw", "int"));
    CHECK(other == FBY_E_JOB_FAILED && because.find("no std::exception") != std::string::npos);
    stop(d);
}

void what_is_thrown_may_be_no_failure() {
    const auto d = open();
    std::atomic<int> calls{0};
    const auto handler = [&calls](const fby_job &job, fby_reply *) -> fby_verdict {
        CHECK(job.attempt == 1);
        if (++calls < 4) throw rate_limited{1};
        return FBY_DONE;
    };
    CHECK(add(d, "busy", handler, "max_attempts=1&rate=1000/s") == FBY_OK);
    CHECK(add(d, "busy", handler, "max_attempt=1") == FBY_E_NOT_FOUND);
    CHECK(fby_start(d.get(), nullptr) == FBY_OK);
    CHECK(wait(d, push(d, "busy")).first == FBY_OK);
    CHECK(calls == 4);
    stop(d);
}

void what_is_shed_is_told_to_who_waits() {
    const auto d = open();
    const auto set = [&d](const char *name, const std::string &value) {
        CHECK(fby_queue_option(d.get(), fby_str("default"), fby_str(name), bytes(value), nullptr) == FBY_OK);
    };
    set("capacity", "1");
    set("on_full", "drop_oldest");
    const fby_id first = push(d, "k"), second = push(d, "k");
    fby_shed rule = 0;
    CHECK(fby_job_shed(d.get(), &first, &rule, nullptr) == FBY_OK && rule == FBY_SHED_OLDEST);
    CHECK(fby_job_shed(d.get(), &second, &rule, nullptr) == FBY_OK && rule == 0);
    const auto [status, why] = wait(d, first);
    CHECK(status == FBY_E_SHED && why.find("waited longest") != std::string::npos);
}

// What a callable owns may only move, and is destroyed once: at the stop, at the release, when it is
// replaced, when its registration fails.
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

void what_a_callable_owns_is_destroyed_once() {
    std::atomic<int> alive{0};
    const auto handler = [&alive] {
        return [w = witness(alive), p = std::make_unique<int>(1)](const fby_job &, fby_reply *) { return *p - 1; };
    };
    static_assert(!std::is_copy_constructible_v<decltype(handler())>);
    CHECK(add({}, "k", handler()) == FBY_E_INVALID);
    CHECK(alive == 0);
    {
        const auto d = open();
        CHECK(add(d, "k", handler()) == FBY_OK);
        CHECK(add(d, "", handler()) == FBY_E_INVALID);
        CHECK(alive == 1);
        CHECK(add(d, "k", handler()) == FBY_OK);
        CHECK(alive == 1);
        CHECK(add(d, "other", handler()) == FBY_OK);
        CHECK(alive == 2);
        stop(d);
        CHECK(alive == 0);
        CHECK(add(d, "k", handler()) == FBY_E_CLOSED);
        CHECK(alive == 0);
    }
    {
        const auto d = open();
        CHECK(add(d, "k", handler()) == FBY_OK);
    }
    CHECK(alive == 0);
}

// A job may outlive its handler, and be answered by the thread it was handed to.
void a_job_is_handed_to_another_thread() {
    const auto d = open();
    std::mutex lock;
    std::condition_variable changed;
    fby_ticket given = 0;
    CHECK(add(d, "k", [&](const fby_job &job, fby_reply *) {
              const std::lock_guard<std::mutex> held(lock);
              given = job.ticket;
              changed.notify_one();
              return FBY_PENDING;
          }) == FBY_OK);
    CHECK(fby_start(d.get(), nullptr) == FBY_OK);
    const fby_id id = push(d, "k");
    {
        std::unique_lock<std::mutex> held(lock);
        CHECK(changed.wait_for(held, std::chrono::milliseconds(soon_ms), [&] { return given != 0; }));
    }
    auto outcome = FBY_INIT(fby_outcome);
    outcome.ticket = given;
    outcome.result = fby_str("from elsewhere");
    CHECK(fby_finish(d.get(), &outcome, sizeof outcome, 1, nullptr, nullptr) == FBY_OK);
    CHECK(wait(d, id).second == "from elsewhere");
    stop(d);
}

struct test_case {
    const char *name;
    void (*run)();
};

#define CASE(f) {#f, f}
const test_case cases[] = {
    CASE(a_lambda_is_a_handler),
    CASE(what_is_thrown_fails_the_attempt),
    CASE(what_is_thrown_may_be_no_failure),
    CASE(what_is_shed_is_told_to_who_waits),
    CASE(what_a_callable_owns_is_destroyed_once),
    CASE(a_job_is_handed_to_another_thread),
};

}  // namespace

int main() {
    int ran = 0;
    for (const auto &c : cases) {
        std::printf("c++ %s ... ", c.name);
        std::fflush(stdout);
        c.run();
        std::printf("ok\n");
        ++ran;
    }
    std::printf("C++: %d tests passed\n", ran);
    return 0;
}

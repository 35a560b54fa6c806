// Handlers: what may be one, what it returns and throws, and what it can ask its job.
#include "harness.hpp"

struct order {
    int number;
};

// An order is its number; what is none throws.
template <>
struct forebay::codec<order> {
    static constexpr std::string_view content_type = "text/x-order";
    static std::string encode(const order &o) { return "order " + std::to_string(o.number); }
    static order decode(std::string_view text) {
        if (text.substr(0, 6) != "order ") throw std::invalid_argument("no order");
        return {codec<int>::decode(text.substr(6))};
    }
};

namespace {

using namespace std::chrono_literals;
using forebay::job;

void a_lambda_is_a_handler() {
    const auto d = open();
    const std::string greeting = "hello ";
    d.handle("greet", [greeting](const job &j) { return greeting + std::string(j.payload()); });
    d.start();
    CHECK(d.wait(d.push("greet", "world"), soon).view() == "hello world");
}

std::string shout(const job &j) {
    return std::string(j.payload()) + "!";
}

struct counter {
    void operator()(const job &) { ++*calls; }
    std::atomic<int> *calls;
};

void any_callable_is_a_handler() {
    const auto d = open();
    std::atomic<int> calls{0};
    d.handle("function", shout);
    d.handle("object", counter{&calls});
    d.handle("member", &job::kind);
    d.handle("std", std::function<std::string(const job &)>(shout));
    d.handle("empty", std::function<std::string(const job &)>());
    d.handle("moves", [p = std::make_unique<std::string>("mine")](const job &) { return *p; });
    d.start();
    CHECK(d.wait(d.push("function", "a"), soon).view() == "a!");
    CHECK(d.wait(d.push("object"), soon).view().empty() && calls == 1);
    CHECK(d.wait(d.push("member"), soon).view() == "member");
    CHECK(d.wait(d.push("std", "b"), soon).view() == "b!");
    CHECK(d.wait(d.push("moves"), soon).view() == "mine");
    CHECK(contains(THROWN(forebay::job_failed, d.wait(d.push("empty"), soon)).what(), "bad_function_call"));
}

void a_result_is_bytes_or_goes_through_a_codec() {
    const auto d = open();
    d.handle("literal", [](const job &) { return "text"; });
    d.handle("none", [](const job &) { return static_cast<const char *>(nullptr); });
    d.handle("view", [](const job &j) { return j.kind(); });
    d.handle("bytes", [](const job &) { return std::vector<std::byte>{std::byte{0}, std::byte{255}}; });
    d.handle("order", [](const job &) { return order{7}; });
    d.handle("number", [](const job &) { return forebay::done(-12); });
    d.handle("typed", [](const job &) { return forebay::done("{}", "application/json"); });
    d.start();
    CHECK(d.wait(d.push("literal"), soon).view() == "text");
    CHECK(d.wait(d.push("none"), soon).view().empty());
    CHECK(d.wait(d.push("view"), soon).view() == "view");
    CHECK(d.wait(d.push("bytes"), soon).view() == std::string_view("\0\xff", 2));
    CHECK(d.wait_for<int>(d.push("number"), soon) == -12);
    CHECK(d.wait(d.push("typed"), soon).content_type() == "application/json");
    const auto result = d.wait(d.push("order"), soon);
    CHECK(result.content_type() == "text/x-order" && result.as<order>().number == 7);
}

void a_handler_of_values_gets_values() {
    const auto d = open();
    std::atomic<int> calls{0};
    d.handle<order>("next", [&calls](const order &o) { return ++calls, order{o.number + 1}; });
    d.handle<order>("kind", [](order o, const job &j) { return std::string(j.kind()) + std::to_string(o.number); });
    d.handle<std::string>("text", [](std::string text) { return text; });
    d.start();
    CHECK(d.wait_for<order>(d.push("next", order{1}), soon).number == 2);
    CHECK(d.wait(d.push("kind", order{1}), soon).view() == "kind1");
    CHECK(d.wait(d.push("text", "as it is"), soon).view() == "as it is");
    // What is no order now will be none at the second attempt.
    const auto wrong = d.push("next", "something else");
    const auto why = THROWN(forebay::job_failed, d.wait(wrong, soon));
    CHECK(contains(why.what(), "no order") && contains(why.what(), "\"next\""));
    CHECK(d.get(wrong).attempt() == 1 && calls == 1);
}

void what_is_thrown_fails_the_attempt() {
    const auto d = open();
    std::atomic<int> calls{0};
    d.handle("throw", [&calls](const job &j) {
        ++calls;
        if (j.payload() == "int") throw 42;
        throw std::runtime_error("no " + std::string(j.payload()));
    });
    d.start();
    CHECK(contains(THROWN(forebay::job_failed, d.wait(d.push("throw", "paper"), soon)).what(), "no paper"));
    CHECK(calls == 2);
    const auto why = THROWN(forebay::job_failed, d.wait(d.push("throw", "int"), soon));
    CHECK(contains(why.what(), "no std::exception") && calls == 4);
}

// What a handler says, by returning or by throwing it, and what comes of it.
struct row {
    std::function<forebay::outcome()> says;
    forebay::state ends;
    int calls;
    const char *tells;
};

void an_outcome_is_returned_or_thrown() {
    const row rows[] = {
        {[] { return forebay::done("fine"); }, forebay::state::succeeded, 1, "succeeded"},
        {[] { return forebay::failed("no luck"); }, forebay::state::failed, 2, "no luck"},
        {[] { return forebay::fatal("no hope"); }, forebay::state::failed, 1, "no hope"},
        {[] { return forebay::retry("again"); }, forebay::state::failed, 2, "again"},
        {[] { return forebay::retry_after(1ms, "later"); }, forebay::state::failed, 2, "later"},
        {[] { return forebay::cancelled("no need"); }, forebay::state::cancelled, 1, "no need"},
        {[] { return forebay::outcome(99, ""); }, forebay::state::failed, 2, "99, which is no verdict"},
        {[] { return forebay::retry_after(-1s); }, forebay::state::failed, 2, "negative"},
    };
    for (const row &r : rows) {
        for (const bool throws : {false, true}) {
            const auto d = open();
            std::atomic<int> calls{0};
            d.handle("k", [&](const job &) {
                ++calls;
                if (throws) throw r.says();
                return r.says();
            });
            d.start();
            const auto id = d.push("k");
            if (r.ends != forebay::state::succeeded) THROWN(forebay::job_failed, d.wait(id, soon));
            else CHECK(d.wait(id, soon).view() == "fine");
            CHECK(d.state(id) == r.ends && calls == r.calls && contains(d.get(id).json(), r.tells));
        }
    }
}

void what_is_thrown_may_be_no_failure() {
    const auto d = open();
    std::atomic<int> calls{0};
    const auto handler = [&calls](const job &j) {
        CHECK(j.attempt() == 1);
        switch (++calls) {
            case 1: throw forebay::rate_limited(1ms);
            case 2: throw forebay::snooze(1ms);
            case 3: throw forebay::rate_limited();
            default: return;
        }
    };
    d.handle("busy", handler, forebay::kind_options().set("max_attempts", "1").set("rate", "1000/s"));
    THROWN(forebay::not_found, d.handle("busy", handler, forebay::kind_options().set("max_attempt", "1")));
    d.start();
    d.wait(d.push("busy"), soon);
    CHECK(calls == 4);
}

void a_result_that_is_too_long_fails_the_attempt() {
    const forebay::dispatcher d("memory:?max_payload=8&max_attempts=1");
    d.handle("long", [](const job &) { return "much too long"; });
    d.handle("thrown", [](const job &) { throw forebay::done("much too long"); });
    d.start();
    for (const char *kind : {"long", "thrown"}) {
        CHECK(contains(THROWN(forebay::job_failed, d.wait(d.push(kind), soon)).what(), "max_payload"));
    }
}

void a_job_tells_of_itself() {
    const auto d = open();
    const auto before = std::chrono::system_clock::now() - 1s;
    d.handle("k", [&](const job &j) {
        CHECK(j.kind() == "k" && j.queue() == "q" && j.payload() == "p" && j.content_type() == "text/plain");
        CHECK(j.key() == "once" && j.concurrency_key() == "tenant" && j.priority() == -3);
        CHECK(j.attempt() == 1 && j.max_attempts() == 4 && j.fence() == 1 && j.id());
        CHECK(j.created() > before && j.due() && *j.due() > j.created());
        CHECK(j.stop_reason() == forebay::stop_reason::none && !j.stopping() && !j.deferred());
        j.extend(soon);
        THROWN(forebay::invalid, j.extend(-1s));
        return j.id().str();
    });
    d.start();
    const auto id = d.push("k", "p", forebay::push_options().queue("q").content_type("text/plain").key("once")
                                         .concurrency_key("tenant").priority(-3).max_attempts(4).timeout(soon));
    CHECK(d.wait(id, soon).view() == id.str());
}

void a_handler_pushes_through_its_job() {
    const auto d = open();
    std::promise<forebay::job_id> next;
    d.handle("first", [&next](const job &j) { next.set_value(j.dispatcher().push("second", j.payload())); });
    d.handle("second", shout);
    d.start();
    d.wait(d.push("first", "passed on"), soon);
    CHECK(d.wait(next.get_future().get(), soon).view() == "passed on!");
}

void a_handler_hears_that_it_should_stop() {
    const auto d = open();
    gate running;
    d.handle("long", [&running](const job &j) {
        CHECK(j.wait_stop(0ms) == forebay::stop_reason::none);
        running.pass();
        CHECK(j.wait_stop() == forebay::stop_reason::cancelled && j.stopping());
        CHECK(j.stop_reason() == forebay::stop_reason::cancelled);
    });
    d.start();
    const auto id = d.push("long");
    running.await(1);
    CHECK(d.cancel(id) == forebay::state::running);
    THROWN(forebay::job_failed, d.wait(id, soon));
    CHECK(d.state(id) == forebay::state::cancelled);
}

void a_handler_cannot_wait_for_itself() {
    const auto d = open();
    d.handle("k", [&d](const job &j) {
        THROWN(forebay::would_deadlock, d.stop());
        THROWN(forebay::would_deadlock, d.drain());
        THROWN(forebay::would_deadlock, d.wait(j.id()));
    });
    d.start();
    d.wait(d.push("k"), soon);
}

void what_is_shed_is_told_to_who_waits() {
    const auto d = open();
    d.configure_queue("default", {{"capacity", "1"}, {"on_full", "drop_oldest"}});
    const auto first = d.push("k"), second = d.push("k");
    CHECK(d.shed(first) == forebay::shed::oldest && d.state(first) == forebay::state::shed);
    CHECK(d.shed(second) == forebay::shed::none);
    CHECK(contains(THROWN(forebay::job_shed, d.wait(first, soon)).what(), "waited longest"));
    CHECK(THROWN(forebay::job_failed, d.wait(first, soon)).code() == FBY_E_SHED);
}

const test_case cases[] = {
    CASE(a_lambda_is_a_handler),
    CASE(any_callable_is_a_handler),
    CASE(a_result_is_bytes_or_goes_through_a_codec),
    CASE(a_handler_of_values_gets_values),
    CASE(what_is_thrown_fails_the_attempt),
    CASE(an_outcome_is_returned_or_thrown),
    CASE(what_is_thrown_may_be_no_failure),
    CASE(a_result_that_is_too_long_fails_the_attempt),
    CASE(a_job_tells_of_itself),
    CASE(a_handler_pushes_through_its_job),
    CASE(a_handler_hears_that_it_should_stop),
    CASE(a_handler_cannot_wait_for_itself),
    CASE(what_is_shed_is_told_to_who_waits),
};

}  // namespace

SUITE(handlers);

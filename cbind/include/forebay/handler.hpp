// Handlers: from any callable to the function pointer, the data and the drop of forebay.h.
#ifndef FOREBAY_HANDLER_HPP
#define FOREBAY_HANDLER_HPP

#include <forebay/job.hpp>

#include <exception>
#include <functional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace forebay::detail {

// Where the words of a handler go that the library's threads run.
class reply_sink {
  public:
    explicit reply_sink(fby_reply *reply) noexcept : reply_(reply) {}
    void result(std::string_view bytes_of, std::string_view type) {
        call(fby_reply_set_result, reply_, bytes(bytes_of), bytes(type));
    }
    void error(std::string_view text) noexcept { fby_reply_set_error(reply_, bytes(text), nullptr); }
    void delay(std::int64_t ms) { call(fby_reply_set_delay, reply_, ms); }

  private:
    fby_reply *reply_;
};

// Says an outcome, and gives its verdict.
template <class Sink>
fby_verdict say(Sink &sink, const outcome &what) {
    if (what.verdict() == FBY_DONE) {
        sink.result(what.text(), what.content_type());
    } else if (!what.text().empty()) {
        sink.error(what.text());
    }
    if (what.delay_ms() != 0) sink.delay(what.delay_ms());
    return what.verdict();
}

// Calls a handler and says what it returns.
template <class Sink, class F>
fby_verdict answer(Sink &sink, F &handler, const job &of) {
    using returned = std::decay_t<std::invoke_result_t<F &, const job &>>;
    static_assert(!std::is_arithmetic_v<returned>,
                  "a handler returns nothing, bytes, a value with a codec or an outcome; for a result that is a "
                  "number say forebay::done(number)");
    if constexpr (std::is_void_v<returned>) {
        std::invoke(handler, of);
        return of.deferred() ? FBY_PENDING : FBY_DONE;
    } else {
        const auto &value = std::invoke(handler, of);
        if (of.deferred()) return FBY_PENDING;
        if constexpr (std::is_convertible_v<const returned &, const outcome &>) {
            return say(sink, value);
        } else {
            with_bytes(value, [&sink](std::string_view bytes_of, std::string_view type) { sink.result(bytes_of, type); });
            return FBY_DONE;
        }
    }
}

// Calls a handler. No exception leaves this: an outcome that is thrown is one that is returned, every other
// exception, one of answering included, is a failed attempt.
template <class Sink, class F>
fby_verdict attempt(Sink &sink, F &handler, const job &of) noexcept {
    try {
        try {
            return answer(sink, handler, of);
        } catch (const outcome &what) {
            return say(sink, what);
        }
    } catch (const std::exception &e) {
        sink.error(e.what());
    } catch (...) {
        sink.error("an exception that is no std::exception");
    }
    return FBY_FAILED;
}

// A callable on the heap, with the dispatcher that runs it. That reference and the dispatcher's to the cell are
// a circle, which every stop cuts: it drops the handlers.
template <class F>
struct cell {
    owned<fby_dispatcher> dispatcher;
    F handler;
};

template <class F>
fby_verdict run_cell(void *data, const fby_job *native, fby_reply *reply) noexcept {
    auto &self = *static_cast<cell<F> *>(data);
    const job of(*native, self.dispatcher.get());
    reply_sink sink(reply);
    return attempt(sink, self.handler, of);
}

template <class F>
void drop_cell(void *data) noexcept {
    delete static_cast<cell<F> *>(data);
}

// A payload that is no T will be none at the next attempt either.
template <class T>
T decoded(const job &of) {
    try {
        return of.as<T>();
    } catch (const outcome &) {
        throw;
    } catch (const std::exception &e) {
        throw fatal("the payload of kind \"" + std::string(of.kind()) + "\" cannot be read: " + e.what());
    }
}

// A handler of values as a handler of jobs.
template <class T, class F>
struct typed {
    F handler;

    decltype(auto) operator()(const job &of) {
        if constexpr (std::is_invocable_v<F &, T, const job &>) {
            return std::invoke(handler, decoded<T>(of), of);
        } else {
            return std::invoke(handler, decoded<T>(of));
        }
    }
};

}  // namespace forebay::detail

#endif  // FOREBAY_HANDLER_HPP

// What became of an attempt: returned by a handler, thrown out of it, or given to a delivery later.
#ifndef FOREBAY_OUTCOME_HPP
#define FOREBAY_OUTCOME_HPP

#include <forebay/value.hpp>

#include <exception>
#include <string>
#include <string_view>
#include <utility>

namespace forebay {

/// What became of one attempt of a job. Make one with done, failed, fatal, retry, retry_after, snooze,
/// rate_limited or cancelled; a handler may return it or throw it, to the same effect.
class outcome : public std::exception {
  public:
    /// Of a verdict of forebay.h; the functions below say it in words.
    outcome(fby_verdict verdict, std::string text, std::string content_type = {}, std::int64_t delay_ms = 0)
        : text_(std::move(text)), content_type_(std::move(content_type)), delay_ms_(delay_ms), verdict_(verdict) {}

    /// The verdict, one of FBY_DONE to FBY_RATE_LIMITED.
    fby_verdict verdict() const noexcept { return verdict_; }
    /// The result that goes with FBY_DONE, else the text.
    std::string_view text() const noexcept { return text_; }
    /// As text().
    const char *what() const noexcept override { return text_.c_str(); }
    /// What the result is, as a MIME type; empty for bytes.
    std::string_view content_type() const noexcept { return content_type_; }
    /// The pause, in milliseconds; 0 leaves it to the retry policy.
    std::int64_t delay_ms() const noexcept { return delay_ms_; }

    /// This as the answer to a delivery, for fby_finish. It points to what this owns.
    fby_outcome native(fby_ticket ticket) const noexcept {
        auto native = detail::sized<fby_outcome>();
        native.ticket = ticket;
        native.verdict = verdict_;
        native.delay_ms = delay_ms_;
        (verdict_ == FBY_DONE ? native.result : native.error) = detail::bytes(text_);
        native.content_type = detail::bytes(content_type_);
        return native;
    }

  private:
    std::string text_;
    std::string content_type_;
    std::int64_t delay_ms_;
    fby_verdict verdict_;
};

/// It worked.
inline outcome done() {
    return outcome(FBY_DONE, {});
}

/// It worked, with a result: bytes, or a value with a codec.
template <class T>
outcome done(const T &result) {
    return detail::with_bytes(result, [](std::string_view bytes, std::string_view type) {
        return outcome(FBY_DONE, std::string(bytes), std::string(type));
    });
}

/// It worked, with these bytes, which are of this MIME type.
template <class T>
outcome done(const T &result, std::string_view content_type) {
    return detail::with_bytes(result, [content_type](std::string_view bytes, std::string_view) {
        return outcome(FBY_DONE, std::string(bytes), std::string(content_type));
    });
}

/// It failed; the retry policy says whether and when it runs again. An exception is the same.
inline outcome failed(std::string text) {
    return outcome(FBY_FAILED, std::move(text));
}

/// It failed, and no attempt can help: the job fails now.
inline outcome fatal(std::string text) {
    return outcome(FBY_FATAL, std::move(text));
}

/// Run it again after the pause of the retry policy; the attempt counts.
inline outcome retry(std::string text) {
    return outcome(FBY_RETRY, std::move(text));
}

/// Run it again after this pause; the attempt counts. A pause of 0 is the retry policy's.
template <class Rep, class Period>
outcome retry_after(std::chrono::duration<Rep, Period> pause, std::string text = {}) {
    return outcome(FBY_RETRY, std::move(text), {}, detail::to_ms(pause));
}

/// It is not time yet: run it again after this pause; the attempt does not count.
template <class Rep, class Period>
outcome snooze(std::chrono::duration<Rep, Period> pause) {
    return outcome(FBY_SNOOZE, {}, {}, detail::to_ms(pause));
}

/// What the handler calls says "not now": run it again after the pause of the retry policy. It is no failure,
/// and the attempt does not count.
inline outcome rate_limited() {
    return outcome(FBY_RATE_LIMITED, {});
}

/// As rate_limited(), after this pause; one of 0 is the retry policy's.
template <class Rep, class Period>
outcome rate_limited(std::chrono::duration<Rep, Period> pause) {
    return outcome(FBY_RATE_LIMITED, {}, {}, detail::to_ms(pause));
}

/// The handler gives up: the job is cancelled.
inline outcome cancelled(std::string text = {}) {
    return outcome(FBY_CANCELLED, std::move(text));
}

}  // namespace forebay

#endif  // FOREBAY_OUTCOME_HPP

// What dispatchers, kinds, consumers and jobs are made with. Every setter gives the object back, so that they
// chain; what is not set is left to the defaults of docs/configuration.md.
#ifndef FOREBAY_OPTIONS_HPP
#define FOREBAY_OPTIONS_HPP

#include <forebay/texts.hpp>
#include <forebay/value.hpp>

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace forebay {

namespace detail {

template <>
struct freed<fby_options> {
    void operator()(fby_options *o) const noexcept { fby_options_free(o); }
};

// A time as the options have it.
template <class Rep, class Period>
std::string text_of_time(std::chrono::duration<Rep, Period> time) {
    return std::to_string(to_ms(time)) + "ms";
}

}  // namespace detail

/// What a dispatcher is opened with: the common options by a name of their own, all of them by set(). A wrong
/// name or value is told when the dispatcher is opened.
class options {
  public:
    /// The defaults.
    options() = default;
    /// The defaults but for these: options{{"concurrency", "4"}, {"grace", "10s"}}.
    options(std::initializer_list<std::pair<std::string, std::string>> named) : named_(named) {}

    /// Any option by its name.
    options &set(std::string name, std::string value) {
        return named_.emplace_back(std::move(name), std::move(value)), *this;
    }
    /// Jobs that may run at once.
    options &concurrency(std::size_t jobs) { return set("concurrency", std::to_string(jobs)); }
    /// Jobs that may wait in one queue; 0 is without bound.
    options &capacity(std::size_t jobs) { return set("capacity", std::to_string(jobs)); }
    /// What a push does when its queue is full, for example "block(5s)" or "drop_oldest".
    options &on_full(std::string policy) { return set("on_full", std::move(policy)); }
    /// How often a job may run in all.
    options &max_attempts(std::uint32_t attempts) {
        return set("max_attempts", attempts == unlimited ? "unlimited" : std::to_string(attempts));
    }
    /// The pause between attempts, for example "exponential(1s, cap=5m)".
    options &retry(std::string policy) { return set("retry", std::move(policy)); }
    /// How long one attempt may take.
    template <class Rep, class Period>
    options &timeout(std::chrono::duration<Rep, Period> time) {
        return set("timeout", detail::text_of_time(time));
    }
    /// How long a stop waits for running jobs, the destructor of the dispatcher too.
    template <class Rep, class Period>
    options &grace(std::chrono::duration<Rep, Period> time) {
        return set("grace", detail::text_of_time(time));
    }

    /// The clock stands still until dispatcher::advance moves it: for tests.
    options &manual_clock() { return set("clock", "manual"); }

    /// This as forebay.h has it. Throws not_found for a name that no option has, invalid for a value that is not
    /// of its form.
    detail::owned<fby_options> native() const {
        detail::owned<fby_options> native(fby_options_new());
        for (const auto &[name, value] : named_) {
            detail::call(fby_options_set, native.get(), detail::bytes(name), detail::bytes(value));
        }
        return native;
    }

  private:
    std::vector<std::pair<std::string, std::string>> named_;
};

/// How jobs of a kind are run.
class kind_options {
  public:
    /// The pause between attempts, for example "exponential(1s, cap=5m)".
    kind_options &retry(std::string policy) { return retry_ = std::move(policy), *this; }
    /// How long one attempt may take.
    template <class Rep, class Period>
    kind_options &timeout(std::chrono::duration<Rep, Period> time) {
        return timeout_ms_ = detail::to_ms(time), *this;
    }
    /// The most bodies of this kind at once.
    kind_options &concurrency(std::uint32_t bodies) { return concurrency_ = bodies, *this; }
    /// How often a job may run in all; unlimited needs a retry policy that pauses.
    kind_options &max_attempts(std::uint32_t attempts) { return max_attempts_ = attempts, *this; }
    /// Any option of a kind by its name, for example set("breaker", "failures(5, open=30s)").
    kind_options &set(std::string_view name, std::string_view value) {
        named_.append(named_.empty() ? "" : "&").append(name).append("=").append(value);
        return *this;
    }

    /// This as forebay.h has it. It points to what this owns.
    fby_kind_options native() const noexcept {
        auto native = detail::sized<fby_kind_options>();
        native.retry = detail::bytes(retry_);
        native.timeout_ms = timeout_ms_;
        native.concurrency = concurrency_;
        native.max_attempts = max_attempts_;
        native.options = detail::bytes(named_);
        return native;
    }

  private:
    std::string retry_;
    std::string named_;
    std::int64_t timeout_ms_ = 0;
    std::uint32_t concurrency_ = 0;
    std::uint32_t max_attempts_ = 0;
};

/// How a job is pushed. It owns its texts, so it may be kept and used again.
class push_options {
  public:
    /// The queue.
    push_options &queue(std::string name) { return queue_ = std::move(name), *this; }
    /// The idempotency key: of several pushes with one key, the first makes the job and the others get its id.
    push_options &key(std::string key) { return key_ = std::move(key), *this; }
    /// The concurrency key: jobs of a queue that share it take turns with those of other keys.
    push_options &concurrency_key(std::string key) { return concurrency_key_ = std::move(key), *this; }
    /// What the payload is, as a MIME type; else it is what the codec says, or bytes.
    push_options &content_type(std::string type) { return content_type_ = std::move(type), *this; }
    /// The pause between attempts, for example "exponential(1s, cap=5m)".
    push_options &retry(std::string policy) { return retry_ = std::move(policy), *this; }
    /// The id of the job. Pushing the same id again changes nothing.
    push_options &id(const job_id &id) { return spec_.id = id.native(), *this; }
    /// From -128 to 127, higher first.
    push_options &priority(int priority) { return spec_.priority = priority, *this; }
    /// How often the job may run in all; unlimited needs a retry policy that pauses.
    push_options &max_attempts(std::uint32_t attempts) { return spec_.max_attempts = attempts, *this; }
    /// Start no earlier than this long after the push.
    template <class Rep, class Period>
    push_options &delay(std::chrono::duration<Rep, Period> time) {
        return spec_.delay_ms = detail::to_ms(time), *this;
    }
    /// Start no earlier than at this instant. Not together with delay.
    push_options &run_at(std::chrono::system_clock::time_point at) {
        return spec_.run_at_ms = detail::to_ms(at), *this;
    }
    /// How long one attempt may take.
    template <class Rep, class Period>
    push_options &timeout(std::chrono::duration<Rep, Period> time) {
        return spec_.timeout_ms = detail::to_ms(time), *this;
    }
    /// An attempt that has not started this long after the push never starts: the job expires.
    template <class Rep, class Period>
    push_options &expires_after(std::chrono::duration<Rep, Period> time) {
        return spec_.expires_after_ms = detail::to_ms(time), *this;
    }
    /// What the job must survive before the push is answered. An engine that cannot do so much does what it can.
    push_options &durable(forebay::durability least) {
        return spec_.durability = static_cast<fby_durability>(least), *this;
    }
    /// A header, which travels with the job: a trace id, a tenant. More than one call adds headers.
    push_options &header(std::string name, std::string value) {
        return headers_.add({std::move(name), std::move(value)}), *this;
    }
    /// The job is blocked until dispatcher::signal has delivered this token; more than one call adds tokens.
    push_options &waits_for(std::string token) { return tokens_.add(std::move(token)), *this; }

    /// A job of this kind and payload as forebay.h has it. It points to what this owns and to the arguments.
    fby_job_spec native(std::string_view kind, std::string_view payload, std::string_view type) const noexcept {
        fby_job_spec spec = spec_;
        spec.kind = detail::bytes(kind);
        spec.payload = detail::bytes(payload);
        spec.content_type = detail::bytes(content_type_.empty() ? type : std::string_view(content_type_));
        spec.queue = detail::bytes(queue_);
        spec.key = detail::bytes(key_);
        spec.retry = detail::bytes(retry_);
        spec.concurrency_key = detail::bytes(concurrency_key_);
        spec.headers = headers_.data();
        spec.header_count = headers_.size();
        spec.waits_for = tokens_.data();
        spec.waits_for_count = tokens_.size();
        return spec;
    }

  private:
    std::string queue_, key_, concurrency_key_, content_type_, retry_;
    detail::header_list headers_;
    detail::name_list tokens_;
    fby_job_spec spec_ = detail::sized<fby_job_spec>();  // its texts are filled in by native()
};

/// A job to be pushed with others: a kind, a payload, and how. It owns them.
class new_job {
  public:
    /// A job of this kind that carries these bytes, or this value with a codec.
    template <class T>
    new_job(std::string kind, const T &payload, push_options how = {}) : kind_(std::move(kind)), how_(std::move(how)) {
        detail::with_bytes(payload, [this](std::string_view bytes, std::string_view type) {
            payload_ = bytes;
            type_ = type;
        });
    }

    /// This as forebay.h has it. It points to what this owns.
    fby_job_spec native() const noexcept { return how_.native(kind_, payload_, type_); }

  private:
    std::string kind_, payload_, type_;
    push_options how_;
};

/// What a consumer asks for.
class consumer_options {
  public:
    /// Jobs of this kind; more than one call adds kinds. Without one, jobs of every kind.
    consumer_options &kind(std::string name) { return kinds_.add(std::move(name)), *this; }
    /// Jobs of this queue; more than one call adds queues. Without one, jobs of every queue.
    consumer_options &queue(std::string name) { return queues_.add(std::move(name)), *this; }
    /// Leases end this long after the poll unless they are extended; else the option lease says.
    template <class Rep, class Period>
    consumer_options &lease(std::chrono::duration<Rep, Period> time) {
        return lease_ms_ = detail::to_ms(time), *this;
    }

    /// The kinds, as forebay.h has them.
    const detail::name_list &kinds() const noexcept { return kinds_; }
    /// The rest as forebay.h has it. It points to what this owns.
    fby_consumer_options native() const noexcept {
        auto native = detail::sized<fby_consumer_options>();
        native.queues = queues_.data();
        native.queue_count = queues_.size();
        native.lease_ms = lease_ms_;
        return native;
    }

  private:
    detail::name_list kinds_, queues_;
    std::int64_t lease_ms_ = 0;
};

}  // namespace forebay

#endif  // FOREBAY_OPTIONS_HPP

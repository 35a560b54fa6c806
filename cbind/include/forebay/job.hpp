// A job that runs: what a handler is given, and what it can give away to be answered later.
#ifndef FOREBAY_JOB_HPP
#define FOREBAY_JOB_HPP

#include <forebay/outcome.hpp>
#include <forebay/push.hpp>

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace forebay {

class dispatcher_ref;

namespace detail {

template <>
struct freed<fby_dispatcher> {
    void operator()(fby_dispatcher *d) const noexcept { fby_release(d); }
};

// One more reference to a dispatcher.
inline owned<fby_dispatcher> share(fby_dispatcher *d) noexcept {
    return owned<fby_dispatcher>(fby_retain(d));
}

// Waits for another reason to stop than the known one.
inline stop_reason wait_stop(const fby_dispatcher *d, fby_ticket ticket, stop_reason known, wait_time wait) {
    fby_stop_reason why = 0;
    call(fby_wait_stop, d, ticket, static_cast<fby_stop_reason>(known), wait.native(), &why);
    return static_cast<stop_reason>(why);
}

// Answers for one delivery. Whether its ticket is still good after the error: only then may it be tried again.
inline bool still_good(fby_status code) noexcept {
    return code == FBY_E_INVALID || code == FBY_E_NO_MEMORY;
}

}  // namespace detail

/// A delivery that is answered later: by whichever thread calls finish, also before the handler that made it
/// has returned. Exactly one answer counts; of a handler that throws after all and of this, the first.
///
/// Moves. One that is destroyed without an answer has failed its attempt, so that no job hangs because somebody
/// forgot it. It keeps no dispatcher from stopping, and may outlive it: finish then throws stale. Threads: one
/// at a time for the same object, any one.
class pending {
  public:
    /// None: finish throws invalid.
    pending() noexcept = default;
    /// A delivery by its ticket.
    pending(fby_dispatcher *dispatcher, const fby_job &job) noexcept
        : dispatcher_(detail::share(dispatcher)), ticket_(job.ticket), id_(job.id) {}
    pending(pending &&other) noexcept
        : dispatcher_(std::move(other.dispatcher_)), ticket_(std::exchange(other.ticket_, 0)), id_(other.id_) {}
    pending &operator=(pending &&other) noexcept {
        if (this != &other) {
            abandon();
            dispatcher_ = std::move(other.dispatcher_);
            ticket_ = std::exchange(other.ticket_, 0);
            id_ = other.id_;
        }
        return *this;
    }
    ~pending() { abandon(); }

    /// Answers. Throws stale if the attempt no longer counts: it was answered, timed out, lost its lease or was
    /// handed back at a stop; then nothing has changed. Throws invalid for an outcome that cannot be used, for
    /// example a result above max_payload; then this can be answered again.
    void finish(const outcome &what) {
        fby_error *why = nullptr;
        const fby_outcome answer = what.native(ticket_);
        const fby_status code = fby_finish(dispatcher_.get(), &answer, sizeof answer, 1, nullptr, &why);
        told(code, why);
    }
    /// Answers, and pushes the jobs of a range of new_job that follow from it: either both are stored or neither. A
    /// full queue does not refuse them. Where the answer does not become what it says, because the job was cancelled
    /// meanwhile, nothing is pushed. Throws as finish; unknown_kind and invalid for a job that cannot be used, and
    /// then this can be answered again; conflict for a key that another job has and closed behind a stop, and then
    /// the attempt has failed.
    template <class Range>
    void finish_and_push(const outcome &what, Range &&jobs) {
        detail::specs(jobs, [&](const std::vector<fby_job_spec> &specs) {
            fby_error *why = nullptr;
            const fby_outcome answer = what.native(ticket_);
            const fby_status code = fby_finish_and_push(dispatcher_.get(), &answer, specs.data(), sizeof(fby_job_spec),
                                                        specs.size(), &why);
            told(code, why);
        });
    }
    /// As above, for jobs that are written down: finish_and_push(done(), {{"bill", "7"}, {"pack", "7"}}).
    void finish_and_push(const outcome &what, std::initializer_list<new_job> jobs) {
        finish_and_push<std::initializer_list<new_job> &>(what, jobs);
    }
    /// It worked, with this result: bytes, or a value with a codec.
    template <class T>
    void done(const T &result) {
        finish(forebay::done(result));
    }
    /// It worked.
    void done() { finish(forebay::done()); }
    /// It failed; the retry policy says whether and when it runs again.
    void fail(std::string text) { finish(failed(std::move(text))); }

    /// The id of the job.
    const job_id &id() const noexcept { return id_; }
    /// The number of the delivery; 0 if there is nothing to answer.
    fby_ticket ticket() const noexcept { return ticket_; }
    /// Whether there is something to answer.
    explicit operator bool() const noexcept { return ticket_ != 0; }
    /// Why whoever works on it should stop.
    forebay::stop_reason stop_reason() const noexcept {
        return static_cast<forebay::stop_reason>(fby_cancelled(dispatcher_.get(), ticket_));
    }
    /// Waits until whoever works on it should stop, for another reason than the known one; none if the time was
    /// over first.
    forebay::stop_reason wait_stop(wait_time wait = forever,
                                   forebay::stop_reason known = forebay::stop_reason::none) const {
        return detail::wait_stop(dispatcher_.get(), ticket_, known, wait);
    }
    /// Makes the lease end this long from now. Throws stale, invalid.
    template <class Rep, class Period>
    void extend(std::chrono::duration<Rep, Period> lease) {
        detail::call(fby_extend, dispatcher_.get(), ticket_, detail::to_ms(lease));
    }

  private:
    // The ticket counts no more, but for an answer that could not be used.
    void told(fby_status code, fby_error *why) {
        if (!detail::still_good(code) && code != FBY_E_UNKNOWN_KIND) ticket_ = 0;
        detail::check(code, why);
    }

    void abandon() noexcept {
        if (ticket_ == 0) return;
        auto answer = detail::sized<fby_outcome>();
        answer.ticket = std::exchange(ticket_, 0);
        answer.verdict = FBY_FAILED;
        answer.error = fby_str("the pending delivery was destroyed without an answer");
        fby_finish(dispatcher_.get(), &answer, sizeof answer, 1, nullptr, nullptr);
    }

    detail::owned<fby_dispatcher> dispatcher_;
    fby_ticket ticket_ = 0;
    job_id id_;
};

/// One attempt of a job, while its handler runs or its batch lives. The views it gives live as long. It stays
/// where it is: take what you need out of it.
class job {
  public:
    /// A delivery of forebay.h; both must outlive this.
    job(const fby_job &native, fby_dispatcher *dispatcher) noexcept : native_(&native), dispatcher_(dispatcher) {}
    job(const job &) = delete;
    job &operator=(const job &) = delete;

    /// Its id.
    job_id id() const noexcept { return job_id(native_->id); }
    /// Its kind.
    std::string_view kind() const noexcept { return detail::view(native_->kind); }
    /// Its queue.
    std::string_view queue() const noexcept { return detail::view(native_->queue); }
    /// What it carries.
    std::string_view payload() const noexcept { return detail::view(native_->payload); }
    /// The value that the codec of T reads from the payload. Throws what the codec throws.
    template <class T>
    T as() const {
        return codec<T>::decode(payload());
    }
    /// What the payload is, as a MIME type.
    std::string_view content_type() const noexcept { return detail::view(native_->content_type); }
    /// Its idempotency key; empty for none.
    std::string_view key() const noexcept { return detail::view(native_->key); }
    /// Its concurrency key; empty for none.
    std::string_view concurrency_key() const noexcept { return detail::view(native_->concurrency_key); }
    /// The number of this attempt, from 1.
    std::uint32_t attempt() const noexcept { return native_->attempt; }
    /// How often it may run in all; the constant unlimited for no limit.
    std::uint32_t max_attempts() const noexcept { return native_->max_attempts; }
    /// Its priority.
    int priority() const noexcept { return native_->priority; }
    /// Grows with every claim of the job: lets what the handler writes to refuse a late writer.
    std::uint64_t fence() const noexcept { return native_->fence; }
    /// When it was pushed.
    std::chrono::system_clock::time_point created() const noexcept { return detail::from_ms(native_->created_ms); }
    /// When this attempt is overdue, if it may be.
    std::optional<std::chrono::system_clock::time_point> due() const noexcept {
        if (native_->due_ms == 0) return std::nullopt;
        return detail::from_ms(native_->due_ms);
    }
    /// The value of one of its headers, if it has it. Throws stale if the attempt no longer counts.
    std::optional<std::string_view> header(std::string_view name) const {
        for (const auto &[each, value] : headers()) {
            if (each == name) return value;
        }
        return std::nullopt;
    }
    /// Its headers, in the order in which they were given. Throws stale if the attempt no longer counts.
    std::vector<std::pair<std::string_view, std::string_view>> headers() const {
        std::vector<std::pair<std::string_view, std::string_view>> all;
        for (;;) {
            fby_header header{};
            fby_error *why = nullptr;
            const fby_status code = fby_job_header(dispatcher_, native_->ticket, all.size(), &header, &why);
            if (code == FBY_E_NOT_FOUND) return fby_error_free(why), all;
            detail::check(code, why);
            all.emplace_back(detail::view(header.name), detail::view(header.value));
        }
    }

    /// Why the handler should stop. Cheap: long handlers should ask often.
    forebay::stop_reason stop_reason() const noexcept {
        return static_cast<forebay::stop_reason>(fby_cancelled(dispatcher_, native_->ticket));
    }
    /// Whether the handler should stop, for whatever reason.
    bool stopping() const noexcept { return stop_reason() != forebay::stop_reason::none; }
    /// Waits until the handler should stop, for another reason than the known one; none if the time was over
    /// first. Who was told stopping may go on within the grace, and wait for more with that one known.
    forebay::stop_reason wait_stop(wait_time wait = forever,
                                   forebay::stop_reason known = forebay::stop_reason::none) const {
        return detail::wait_stop(dispatcher_, native_->ticket, known, wait);
    }
    /// Makes the lease end this long from now. Throws stale if the attempt no longer counts, invalid.
    template <class Rep, class Period>
    void extend(std::chrono::duration<Rep, Period> lease) const {
        detail::call(fby_extend, dispatcher_, native_->ticket, detail::to_ms(lease));
    }

    /// Takes the answer out of the handler's hands: whoever has the pending gives it, and what the handler
    /// returns no longer counts. What it throws does, if it comes first. The views of the job end with the
    /// answer, so copy what the other thread needs.
    pending defer() const noexcept {
        deferred_ = true;
        return pending(dispatcher_, *native_);
    }
    /// Whether the answer was taken out of the handler's hands.
    bool deferred() const noexcept { return deferred_; }

    /// The dispatcher that runs it, to push more. It may be kept.
    dispatcher_ref dispatcher() const noexcept;

    /// This as forebay.h has it.
    const fby_job &native() const noexcept { return *native_; }

  protected:
    /// For batches, which move what they hold while they are made.
    job(job &&other) noexcept = default;

  private:
    const fby_job *native_;
    fby_dispatcher *dispatcher_;
    mutable bool deferred_ = false;
};

}  // namespace forebay

#endif  // FOREBAY_JOB_HPP

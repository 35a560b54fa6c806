// The pull side: jobs in batches, for threads and event loops of your own.
#ifndef FOREBAY_CONSUMER_HPP
#define FOREBAY_CONSUMER_HPP

#include <forebay/handler.hpp>
#include <forebay/options.hpp>

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace forebay {

namespace detail {

template <>
struct freed<fby_consumer> {
    void operator()(fby_consumer *c) const noexcept { fby_consumer_free(c); }
};

}  // namespace detail

/// One job of a batch, and the answer it is to get.
class delivery : public job {
  public:
    /// A delivery of forebay.h; both must outlive this.
    delivery(fby_job &native, fby_dispatcher *dispatcher) noexcept : job(native, dispatcher), mine_(&native) {}
    delivery(delivery &&) noexcept = default;

    /// Says what became of it; the batch tells the library. The last word before that counts.
    void answer(outcome what) { answer_ = std::move(what); }
    /// It worked.
    void done() { answer(forebay::done()); }
    /// It worked, with this result: bytes, or a value with a codec.
    template <class T>
    void done(const T &result) {
        answer(forebay::done(result));
    }
    /// It failed; the retry policy says whether and when it runs again.
    void fail(std::string text) { answer(failed(std::move(text))); }
    /// Whether it can still be answered here: it was not yet, and was not taken out with defer().
    bool open() const noexcept { return mine_ != nullptr && !deferred(); }

  private:
    friend class batch;

    // The memory of the delivery has ended, so its views become empty.
    void close() noexcept {
        mine_->payload = mine_->content_type = mine_->key = mine_->concurrency_key = fby_bytes{};
        mine_ = nullptr;
    }

    fby_job *mine_;
    std::optional<outcome> answer_;
};

/// Jobs that were polled together and are answered together. Moves; keeps its memory for the next poll.
///
/// A job that has no answer when the batch is destroyed, or polled into again, has failed its attempt. Threads:
/// one at a time for the same batch; what another thread is to answer is taken out with defer().
class batch {
  public:
    /// No jobs.
    batch() noexcept = default;
    batch(batch &&) noexcept = default;
    batch &operator=(batch &&other) noexcept {
        if (this != &other) {
            abandon();
            dispatcher_ = std::move(other.dispatcher_);
            jobs_ = std::move(other.jobs_);
            deliveries_ = std::exchange(other.deliveries_, {});
        }
        return *this;
    }
    ~batch() { abandon(); }

    /// How many jobs there are.
    std::size_t size() const noexcept { return deliveries_.size(); }
    /// Whether there is none.
    bool empty() const noexcept { return deliveries_.empty(); }
    /// The job of this place, which must be below size().
    delivery &operator[](std::size_t place) noexcept { return deliveries_[place]; }
    /// The first job.
    auto begin() noexcept { return deliveries_.begin(); }
    /// The end of the jobs.
    auto end() noexcept { return deliveries_.end(); }

    /// Tells the library every answer that was given since the last call, in one call. Returns how many of them
    /// no longer counted: their jobs had timed out, lost their lease, or were handed back at a stop. The views of
    /// the jobs that were answered end. Throws invalid for an answer that cannot be used, for example a result
    /// above max_payload, whose job can be answered again; the others have been told.
    std::size_t finish() {
        answers_.clear();
        for (const delivery &each : deliveries_) {
            if (each.open() && each.answer_) answers_.push_back(each.answer_->native(each.native().ticket));
        }
        if (answers_.empty()) return 0;
        codes_.assign(answers_.size(), FBY_OK);
        fby_error *why = nullptr;
        const fby_status code = fby_finish(dispatcher_.get(), answers_.data(), sizeof(fby_outcome), answers_.size(),
                                           codes_.data(), &why);
        return settle(code, detail::owned<fby_error>(why));
    }

    /// Runs a handler on every job that has no answer yet, in turn on this thread, and tells the library what
    /// they answered. The handler is one as for dispatcher::handle: it may throw. As finish() otherwise.
    template <class F>
    std::size_t run(F &&handler) {
        {
            const detail::raised now(running_);
            attempt_all(handler);
        }
        return finish();
    }

  private:
    friend class consumer;

    template <class F>
    void attempt_all(F &handler) {
        for (delivery &each : deliveries_) {
            if (!each.open() || each.answer_) continue;
            sink words{};
            const fby_verdict verdict = detail::attempt(words, handler, each);
            if (verdict != FBY_PENDING) each.answer(std::move(words).of(verdict));
        }
    }

    // Where the words of a handler go that this thread runs.
    struct sink {
        std::string text, type;
        std::int64_t delay_ms = 0;

        void result(std::string_view bytes, std::string_view content_type) {
            text = bytes;
            type = content_type;
        }
        void error(std::string_view words) { text = words; }
        void delay(std::int64_t ms) { delay_ms = ms; }
        outcome of(fby_verdict verdict) && { return outcome(verdict, std::move(text), std::move(type), delay_ms); }
    };

    // Goes through the codes, which stand in the order of the answers.
    std::size_t settle(fby_status first, detail::owned<fby_error> why) {
        std::size_t place = 0, gone = 0;
        fby_status worst = first == FBY_E_STALE ? FBY_OK : first;
        for (delivery &each : deliveries_) {
            if (!each.open() || !each.answer_) continue;
            const fby_status code = codes_[place++];
            each.answer_.reset();
            if (code == FBY_E_STALE) ++gone;
            if (worst == FBY_OK && code != FBY_E_STALE) worst = code;
            if (!detail::still_good(code)) each.close();
        }
        if (worst != FBY_OK) detail::raise(worst, why.release());
        return gone;
    }

    // Answers for what nobody has answered for. Nothing can be done about an error here.
    void abandon() noexcept {
        for (delivery &each : deliveries_) {
            if (!each.open()) continue;
            auto answer = detail::sized<fby_outcome>();
            answer.ticket = each.native().ticket;
            answer.verdict = FBY_FAILED;
            answer.error = fby_str("the batch was destroyed without an answer for this job");
            fby_finish(dispatcher_.get(), &answer, sizeof answer, 1, nullptr, nullptr);
        }
        deliveries_.clear();
    }

    detail::owned<fby_dispatcher> dispatcher_;
    std::vector<fby_job> jobs_;
    std::vector<delivery> deliveries_;
    std::vector<fby_outcome> answers_;
    std::vector<fby_status> codes_;
    // A poll meanwhile would take the jobs away that handlers are run on.
    bool running_ = false;
};

/// A delivery that was told to stop.
struct stopped_delivery {
    fby_ticket ticket;            ///< the number of the delivery, as pending::ticket has it
    forebay::stop_reason reason;  ///< why
};

/// Asks for jobs. Moves. Make one per thread that polls; it may outlive its dispatcher, and keeps it from
/// nothing.
class consumer {
  public:
    /// One that asks for nothing: poll throws invalid.
    consumer() noexcept = default;
    /// A consumer of a dispatcher; dispatcher::consume makes it.
    consumer(fby_dispatcher *dispatcher, const consumer_options &what) : dispatcher_(detail::share(dispatcher)) {
        const fby_consumer_options native = what.native();
        fby_consumer *made = nullptr;
        detail::call(fby_consumer_new, dispatcher, what.kinds().data(), what.kinds().size(), &native, &made);
        consumer_.reset(made);
    }

    consumer(consumer &&) noexcept = default;
    consumer &operator=(consumer &&other) noexcept {
        if (this != &other) {
            consumer_ = std::move(other.consumer_);
            dispatcher_ = std::move(other.dispatcher_);
        }
        return *this;
    }
    ~consumer() = default;

    /// Takes up to max jobs into a batch, in place of what it held; waits for the first one only. True with the
    /// jobs, or with none if the time was up or somebody called wake(); false once the dispatcher stops. Throws
    /// would_deadlock for an endless wait in a handler, invalid while another thread polls
    /// and in a handler that this batch runs, forked, storage. Threads: one at a time for the same consumer.
    bool poll(batch &into, std::size_t max, wait_time wait = forever) {
        if (into.running_) throw invalid(FBY_E_INVALID, "this batch runs a handler just now; poll into another one");
        into.abandon();
        if (into.dispatcher_.get() != dispatcher_.get()) into.dispatcher_ = detail::share(dispatcher_.get());
        into.jobs_.resize(max);
        // Before there are jobs, which an exception would lose.
        into.deliveries_.reserve(max);
        std::size_t count = 0;
        fby_error *why = nullptr;
        const fby_status code = fby_poll(consumer_.get(), into.jobs_.data(), sizeof(fby_job), max, wait.native(), &count, &why);
        if (code == FBY_E_CLOSED || code == FBY_E_INTERRUPTED) {
            fby_error_free(why);
            return code == FBY_E_INTERRUPTED;
        }
        detail::check(code, why);
        for (std::size_t i = 0; i < count; ++i) into.deliveries_.emplace_back(into.jobs_[i], dispatcher_.get());
        return true;
    }

    /// A descriptor for an event loop, the same at each call: readable when poll may find something, when the
    /// dispatcher stops, and after wake(). Wait until it is readable, poll with a wait of 0 until the batch is empty,
    /// and wait again; level-triggered and edge-triggered loops may do the same. Never read from it, write to it or
    /// close it: it belongs to the consumer. From the first call on such a poll that finds nothing counts as waiting,
    /// so go on polling when it is readable, or destroy the consumer. Throws no_memory if the process may have no more
    /// descriptors. Threads: one at a time, as poll.
    int fd() const {
        int fd = -1;
        detail::call(fby_consumer_fd, consumer_.get(), &fd);
        return fd;
    }

    /// Takes jobs of these kinds from now on, instead of those it took; without one, jobs of every kind. Poll after
    /// this. Throws invalid, and then nothing has changed. Threads: one at a time, as poll.
    void take(const std::vector<std::string> &kinds) {
        std::vector<fby_bytes> natives;
        for (const std::string &kind : kinds) natives.push_back(detail::bytes(kind));
        detail::call(fby_consumer_kinds, consumer_.get(), natives.data(), natives.size());
    }

    /// The deliveries that were told to stop since the last call: for a holder of thousands, who would have to ask
    /// stop_reason() of each. One that was told stopping may be told more. From the first call on fd() becomes
    /// readable for this, too: call it when poll has found nothing, and then wait. Threads: one at a time, as poll.
    std::vector<stopped_delivery> stopped() {
        std::vector<stopped_delivery> all;
        std::array<fby_stopped, 64> natives;
        for (std::size_t count = natives.size(); count == natives.size();) {
            detail::call(fby_consumer_stopped, consumer_.get(), natives.data(), sizeof(fby_stopped), natives.size(),
                         &count);
            for (std::size_t i = 0; i < count; ++i) {
                all.push_back({natives[i].ticket, static_cast<forebay::stop_reason>(natives[i].reason)});
            }
        }
        return all;
    }

    /// Ends a poll that waits, or the next one that would. Threads: any, also while another one polls.
    void wake() const { detail::call(fby_consumer_wake, consumer_.get()); }

  private:
    detail::owned<fby_dispatcher> dispatcher_;
    detail::owned<fby_consumer> consumer_;
};

}  // namespace forebay

#endif  // FOREBAY_CONSUMER_HPP

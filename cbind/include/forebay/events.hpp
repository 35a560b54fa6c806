// What happens: told to a function as it does, or taken from a stream.
#ifndef FOREBAY_EVENTS_HPP
#define FOREBAY_EVENTS_HPP

#include <forebay/job.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <ostream>
#include <string_view>
#include <utility>
#include <vector>

namespace forebay {

/// How much an event matters.
enum class level : fby_level {
    debug = FBY_LEVEL_DEBUG,  ///< the life of jobs that do what they should
    info = FBY_LEVEL_INFO,    ///< what an operator may want to know
    warn = FBY_LEVEL_WARN,    ///< what is handled, and should not happen often
    error = FBY_LEVEL_ERROR,  ///< what somebody has to look at
};

/// Something that happened. It lives while it is told, and its views with it.
class event {
  public:
    /// An event of forebay.h, which must outlive this.
    explicit event(const fby_event &native) noexcept : native_(&native) {}
    event(const event &) = delete;
    event &operator=(const event &) = delete;

    /// What: one of FBY_EVENT_PUSHED and so on. A later library may have kinds that the header does not name.
    fby_event_kind kind() const noexcept { return native_->kind; }
    /// What, in a word, for example "retried".
    std::string_view name() const noexcept { return fby_event_name(native_->kind); }
    /// How much it matters.
    forebay::level level() const noexcept { return static_cast<forebay::level>(native_->level); }
    /// To which job; no id for what concerns no single one.
    job_id id() const noexcept { return job_id(native_->id); }
    /// In which queue; empty for what concerns the dispatcher.
    std::string_view queue() const noexcept { return detail::view(native_->queue); }
    /// Of which kind the job is; empty for what concerns no single one.
    std::string_view job_kind() const noexcept { return detail::view(native_->job_kind); }
    /// All of it in a sentence, with the error of the attempt if it failed.
    std::string_view message() const noexcept { return detail::view(native_->message); }
    /// When.
    std::chrono::system_clock::time_point at() const noexcept { return detail::from_ms(native_->at_ms); }
    /// How long the attempt took that has ended, if one has.
    std::optional<std::chrono::microseconds> took() const noexcept {
        if (native_->took_us < 0) return std::nullopt;
        return std::chrono::microseconds(native_->took_us);
    }
    /// The number of the attempt, from 1; 0 before the first.
    std::uint32_t attempt() const noexcept { return native_->attempt; }

    friend std::ostream &operator<<(std::ostream &out, const event &e) { return out << e.message(); }

  private:
    const fby_event *native_;
};

namespace detail {

template <>
struct freed<fby_events> {
    void operator()(fby_events *e) const noexcept { fby_events_free(e); }
};

// A logger cannot be told that it has failed, nor can anybody else.
template <class F>
void run_logger(void *data, const fby_event *native) noexcept {
    try {
        std::invoke(*static_cast<F *>(data), event(*native));
    } catch (...) {
    }
}

template <class F>
void drop_logger(void *data) noexcept {
    delete static_cast<F *>(data);
}

}  // namespace detail

/// A stream of what happens, from when it was made. It never holds the dispatcher up: what finds its buffer full is
/// dropped and counted. Moves. Threads: one at a time polls the same stream.
class events {
  public:
    /// One in which nothing happens: poll throws invalid.
    events() noexcept = default;
    /// A stream of a dispatcher; dispatcher::subscribe makes it.
    events(fby_dispatcher *dispatcher, forebay::level least, std::size_t capacity)
        : dispatcher_(detail::share(dispatcher)) {
        fby_events *made = nullptr;
        detail::call(fby_events_new, dispatcher, static_cast<fby_level>(least), capacity, &made);
        events_.reset(made);
    }
    events(events &&) noexcept = default;
    events &operator=(events &&other) noexcept {
        if (this != &other) {
            events_ = std::move(other.events_);
            dispatcher_ = std::move(other.dispatcher_);
        }
        return *this;
    }
    ~events() = default;

    /// Calls each(const event &) for up to max events, the oldest first; waits for the first one only. Gives their
    /// number, 0 if the time was up; nothing once the dispatcher has stopped and all has been told. Throws what each
    /// throws, and then the rest of those taken is lost; would_deadlock for an endless wait in a handler; invalid
    /// while another thread polls, and within each.
    template <class F>
    std::optional<std::size_t> poll(F &&each, std::size_t max = 64, wait_time wait = forever) {
        if (telling_) throw invalid(FBY_E_INVALID, "this stream tells of its events just now; poll it afterwards");
        taken_.resize(max);
        std::size_t count = 0;
        fby_error *why = nullptr;
        const fby_status code = fby_events_poll(events_.get(), taken_.data(), sizeof(fby_event), max, wait.native(),
                                                &count, &why);
        if (code == FBY_E_CLOSED) return fby_error_free(why), std::nullopt;
        detail::check(code, why);
        const detail::raised now(telling_);
        for (std::size_t i = 0; i < count; ++i) std::invoke(each, event(taken_[i]));
        return count;
    }
    /// How many events found the buffer full and were dropped.
    std::uint64_t dropped() const noexcept { return fby_events_dropped(events_.get()); }
    /// A descriptor for an event loop, the same at each call: readable when poll may find an event, and when the
    /// dispatcher has stopped. Wait until it is readable, poll with a wait of 0 until that gives 0, and wait again.
    /// Never read from it, write to it or close it. Throws no_memory if the process may have no more descriptors.
    int fd() const {
        int fd = -1;
        detail::call(fby_events_fd, events_.get(), &fd);
        return fd;
    }

  private:
    detail::owned<fby_dispatcher> dispatcher_;
    detail::owned<fby_events> events_;
    std::vector<fby_event> taken_;
    // A poll meanwhile would take the events away that are told of.
    bool telling_ = false;
};

}  // namespace forebay

#endif  // FOREBAY_EVENTS_HPP

// The ends of many jobs, for one thread or event loop that looks after all of them.
#ifndef FOREBAY_WATCHER_HPP
#define FOREBAY_WATCHER_HPP

#include <forebay/job.hpp>

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace forebay {

namespace detail {

template <>
struct freed<fby_watcher> {
    void operator()(fby_watcher *w) const noexcept { fby_watcher_free(w); }
};

}  // namespace detail

/// The end of a job.
struct job_end {
    std::uint64_t tag;     ///< what it was added under
    job_id id;             ///< which job
    forebay::state state;  ///< its final state; unknown if it was forgotten before anybody looked
};

/// Is told of the ends of any number of jobs, once each, without a thread for each. Moves. Threads: any, several at
/// once, which share the ends among them; what it has not told when it is destroyed is told to nobody.
class watcher {
  public:
    /// One that watches nothing: every function throws invalid.
    watcher() noexcept = default;
    /// A watcher of a dispatcher; dispatcher::watch makes it.
    explicit watcher(fby_dispatcher *dispatcher) : dispatcher_(detail::share(dispatcher)) {
        fby_watcher *made = nullptr;
        detail::call(fby_watcher_new, dispatcher, &made);
        watcher_.reset(made);
    }
    watcher(watcher &&) noexcept = default;
    watcher &operator=(watcher &&other) noexcept {
        if (this != &other) {
            watcher_ = std::move(other.watcher_);
            dispatcher_ = std::move(other.dispatcher_);
        }
        return *this;
    }
    ~watcher() = default;

    /// Has the end of a job told, once; one that has ended is told of at once. The tag is any number that no other
    /// job of this watcher has, and is free again when its end was polled. Throws not_found for an id that is unknown
    /// or forgotten, invalid for a tag that is in use, closed if the job will not end here any more.
    void add(const job_id &id, std::uint64_t tag) const {
        detail::call(fby_watcher_add, watcher_.get(), &id.native(), tag);
    }
    /// Takes back what was added under a tag. True if the end will not be told; false if it has been or will be with
    /// the next polls, or if there is no such tag.
    bool remove(std::uint64_t tag) const {
        bool removed = false;
        detail::call(fby_watcher_remove, watcher_.get(), tag, &removed);
        return removed;
    }
    /// Takes up to max ends, in place of what the vector held; waits for the first one only. True with the ends, or
    /// with none if the time was up; false if there are none and the dispatcher has stopped, or stops and none of the
    /// jobs will end here any more. dispatcher::wait then gets a result without waiting. Throws would_deadlock for an
    /// endless wait in a handler.
    bool poll(std::vector<job_end> &into, std::size_t max, wait_time wait = forever) const {
        into.clear();
        // Before there are ends, which an exception would lose.
        into.reserve(max);
        std::vector<fby_end> ends(max);
        std::size_t count = 0;
        fby_error *why = nullptr;
        const fby_status code = fby_watcher_poll(watcher_.get(), ends.data(), sizeof(fby_end), max, wait.native(),
                                                 &count, &why);
        if (code == FBY_E_CLOSED) return fby_error_free(why), false;
        detail::check(code, why);
        for (std::size_t i = 0; i < count; ++i) {
            into.push_back({ends[i].tag, job_id(ends[i].id), static_cast<forebay::state>(ends[i].state)});
        }
        return true;
    }
    /// A descriptor for an event loop, the same at each call: readable when poll may find an end, and when the
    /// dispatcher stops. Wait until it is readable, poll with a wait of 0 until there is no end, and wait again. Never
    /// read from it, write to it or close it. Throws no_memory if the process may have no more descriptors.
    int fd() const {
        int fd = -1;
        detail::call(fby_watcher_fd, watcher_.get(), &fd);
        return fd;
    }

  private:
    detail::owned<fby_dispatcher> dispatcher_;
    detail::owned<fby_watcher> watcher_;
};

}  // namespace forebay

#endif  // FOREBAY_WATCHER_HPP

// Jobs that are looked at: one by one, or page by page as a range.
#ifndef FOREBAY_LISTING_HPP
#define FOREBAY_LISTING_HPP

#include <forebay/json.hpp>
#include <forebay/job.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace forebay {

/// What is known about a job. Everything is in json(); the rest reads it.
class job_info {
  public:
    /// Of a JSON object as fby_get makes it.
    explicit job_info(std::string json) : json_(std::move(json)) {}

    /// The JSON object. Payload and result are told of by length and type only.
    const std::string &json() const noexcept { return json_; }
    /// The text of one member of the object as it stands there, for example "null"; empty if there is none.
    std::string_view member(std::string_view name) const noexcept { return detail::json_member(json_, name); }
    /// The id.
    job_id id() const { return job_id::parse(text("id")); }
    /// The kind.
    std::string kind() const { return text("kind"); }
    /// The queue.
    std::string queue() const { return text("queue"); }
    /// The name of the state, for example "succeeded".
    std::string state() const { return text("state"); }
    /// The number of the attempt that runs or ran last; 0 before the first.
    std::uint32_t attempt() const { return codec<std::uint32_t>::decode(member("attempt")); }
    /// The idempotency key, if there is one.
    std::optional<std::string> key() const {
        if (member("key") == "null") return std::nullopt;
        return text("key");
    }
    /// What the last attempt that failed said, if one did.
    std::optional<std::string> error() const {
        const std::string_view error = member("error");
        if (error.empty() || error == "null") return std::nullopt;
        return detail::json_text(detail::json_member(error, "message"));
    }

  private:
    std::string text(std::string_view name) const { return detail::json_text(member(name)); }

    std::string json_;
};

/// Which jobs a listing shows: those that every word of it fits.
class filter {
  public:
    /// Only this queue.
    filter &queue(std::string name) { return queue_ = std::move(name), *this; }
    /// Only this kind.
    filter &kind(std::string name) { return kind_ = std::move(name), *this; }
    /// Only the job with this idempotency key.
    filter &key(std::string key) { return key_ = std::move(key), *this; }
    /// Only this state; more than one call adds states.
    filter &state(forebay::state s) { return states_.push_back(static_cast<fby_state>(s)), *this; }
    /// Only jobs pushed at or after this instant.
    filter &created_from(std::chrono::system_clock::time_point at) { return from_ms_ = detail::to_ms(at), *this; }
    /// Only jobs pushed before this instant.
    filter &created_before(std::chrono::system_clock::time_point at) { return before_ms_ = detail::to_ms(at), *this; }
    /// How many jobs are asked for at a time, up to 10000. A listing shows all of them all the same.
    filter &page(std::uint32_t jobs) { return page_ = jobs, *this; }

    /// This as forebay.h has it, for the page after this job. It points to what this owns.
    fby_filter native(const job_id &after) const noexcept {
        auto native = detail::sized<fby_filter>();
        native.queue = detail::bytes(queue_);
        native.kind = detail::bytes(kind_);
        native.key = detail::bytes(key_);
        native.states = states_.data();
        native.state_count = states_.size();
        native.created_from_ms = from_ms_;
        native.created_before_ms = before_ms_;
        native.after = after.native();
        native.limit = page_;
        return native;
    }

  private:
    std::string queue_, kind_, key_;
    std::vector<fby_state> states_;
    std::int64_t from_ms_ = 0, before_ms_ = 0;
    std::uint32_t page_ = 100;
};

/// The jobs that a filter shows, newest first, as a range of job_info: a page is asked for when the loop gets there,
/// so the loop may stop early, and what comes and goes meanwhile may be seen or not. It can be gone through once at
/// a time; begin() starts over. Moves. Threads: one at a time for the same listing.
class listing {
  public:
    /// Of a dispatcher; dispatcher::list makes it.
    listing(fby_dispatcher *dispatcher, filter what)
        : dispatcher_(detail::share(dispatcher)), what_(std::move(what)) {
        fetch({});
    }

    /// An input iterator over job_info. Throws from ++ as dispatcher::list.
    class iterator {
      public:
        using iterator_category = std::input_iterator_tag;
        using value_type = job_info;
        using difference_type = std::ptrdiff_t;
        using pointer = const job_info *;
        using reference = const job_info &;

        /// The end.
        iterator() noexcept = default;
        /// The job. It lives until the next ++.
        reference operator*() const noexcept { return of_->jobs_[of_->place_]; }
        pointer operator->() const noexcept { return &**this; }
        iterator &operator++() {
            if (!of_->step()) of_ = nullptr;
            return *this;
        }
        void operator++(int) { ++*this; }
        friend bool operator==(const iterator &a, const iterator &b) noexcept { return a.of_ == b.of_; }
        friend bool operator!=(const iterator &a, const iterator &b) noexcept { return a.of_ != b.of_; }

      private:
        friend class listing;
        explicit iterator(listing *of) noexcept : of_(of) {}

        listing *of_ = nullptr;
    };

    /// The first job. Asks for the first page, but for the first time.
    iterator begin() {
        if (std::exchange(begun_, true)) fetch({});
        return jobs_.empty() ? iterator() : iterator(this);
    }
    /// The end.
    iterator end() const noexcept { return iterator(); }
    /// How many jobs the filter shows, as of the last page that was asked for.
    std::uint64_t total() const noexcept { return total_; }

  private:
    // The job after this one; false if there is none.
    bool step() {
        if (++place_ < jobs_.size()) return true;
        if (next_) fetch(next_);
        else jobs_.clear();
        return !jobs_.empty();
    }

    void fetch(job_id after) {
        const fby_filter native = what_.native(after);
        const std::string page = detail::text_of(fby_list, dispatcher_.get(), &native);
        const std::string_view next = detail::json_member(page, "next");
        jobs_.clear();
        place_ = 0;
        detail::json_elements(detail::json_member(page, "jobs"),
                              [this](std::string_view job) { jobs_.emplace_back(std::string(job)); });
        total_ = codec<std::uint64_t>::decode(detail::json_member(page, "total"));
        next_ = next == "null" ? job_id() : job_id::parse(detail::json_text(next));
    }

    detail::owned<fby_dispatcher> dispatcher_;
    filter what_;
    std::vector<job_info> jobs_;
    std::size_t place_ = 0;
    std::uint64_t total_ = 0;
    job_id next_;
    bool begun_ = false;
};

}  // namespace forebay

#endif  // FOREBAY_LISTING_HPP

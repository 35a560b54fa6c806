// Small values: states, ids, times to wait, and bytes that the library hands over.
#ifndef FOREBAY_VALUE_HPP
#define FOREBAY_VALUE_HPP

#include <forebay/codec.hpp>
#include <forebay/error.hpp>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <ostream>
#include <string>
#include <string_view>

namespace forebay {

/// Where a job stands; those from succeeded on are final. A later library may know more.
enum class state : fby_state {
    unknown = 0,                      ///< nobody knows any more: see watcher
    blocked = FBY_STATE_BLOCKED,      ///< waits for tokens
    scheduled = FBY_STATE_SCHEDULED,  ///< waits for its time, or for its next attempt
    queued = FBY_STATE_QUEUED,        ///< waits for a worker
    running = FBY_STATE_RUNNING,      ///< a handler or a consumer has it
    succeeded = FBY_STATE_SUCCEEDED,  ///< it worked
    failed = FBY_STATE_FAILED,        ///< it failed, and no attempt is left
    cancelled = FBY_STATE_CANCELLED,  ///< somebody or its handler gave it up
    expired = FBY_STATE_EXPIRED,      ///< its time was over before it started
    shed = FBY_STATE_SHED,            ///< a rule against overload gave it up
};

/// Whether a job of this state has ended.
constexpr bool is_final(state s) noexcept {
    return static_cast<fby_state>(s) >= FBY_STATE_SUCCEEDED;
}

/// The name of a state, for example "succeeded"; "?" for one that the library does not know.
inline std::string_view to_string(state s) noexcept {
    return fby_state_name(static_cast<fby_state>(s));
}

/// Which rule against overload gave a job up; none for a job that was not shed.
enum class shed : fby_shed {
    none = 0,
    newest = FBY_SHED_NEWEST,        ///< its queue was full when it came
    oldest = FBY_SHED_OLDEST,        ///< its queue was full, and it had waited longest
    lowest = FBY_SHED_LOWEST,        ///< its queue was full, and its priority was the lowest
    coalesced = FBY_SHED_COALESCED,  ///< a newer job of its concurrency key took its place
    sampled = FBY_SHED_SAMPLED,      ///< its queue was full, and it was not in the sample
    delayed = FBY_SHED_DELAYED,      ///< it had waited too long in a queue that is overloaded
};

/// What an accepted job survives; a higher one survives all that a lower one does.
enum class durability : fby_durability {
    as_configured = 0,               ///< the option durability
    memory = FBY_DURABILITY_MEMORY,  ///< lost with the process, unless it is written before
    os = FBY_DURABILITY_OS,          ///< survives kill -9; a power cut may take it
    disk = FBY_DURABILITY_DISK,      ///< survives a power cut
};

/// Why a handler should stop; none while it may go on.
enum class stop_reason : fby_stop_reason {
    none = 0,
    cancelled = FBY_STOP_CANCELLED,    ///< somebody cancelled the job
    timed_out = FBY_STOP_TIMED_OUT,    ///< the attempt took too long; its answer no longer counts
    lease_lost = FBY_STOP_LEASE_LOST,  ///< the lease was lost or handed back; its answer no longer counts
    stopping = FBY_STOP_STOPPING,      ///< the dispatcher stops; an answer within the grace still counts
};

/// A max_attempts without limit.
constexpr std::uint32_t unlimited = FBY_UNLIMITED;

/// The id of a job: a UUID. A default one is no id.
class job_id {
  public:
    /// No id.
    job_id() noexcept = default;
    /// The id of forebay.h.
    explicit job_id(const fby_id &id) noexcept : id_(id) {}
    /// Reads an id from text, with hyphens or without. Throws invalid.
    static job_id parse(std::string_view text) {
        job_id id;
        detail::call(fby_id_parse, detail::bytes(text), &id.id_);
        return id;
    }

    /// The id as text, for example 01939f3c-7b1e-7cc2-a5f0-6f1d2b3c4d5e.
    std::string str() const {
        char text[37] = {};
        detail::call(fby_id_format, &id_, &text[0], sizeof text);
        return text;
    }
    /// The id as forebay.h has it.
    const fby_id &native() const noexcept { return id_; }
    /// Whether there is an id.
    explicit operator bool() const noexcept { return *this != job_id(); }

    friend bool operator==(const job_id &a, const job_id &b) noexcept { return a.compare(b) == 0; }
    friend bool operator!=(const job_id &a, const job_id &b) noexcept { return a.compare(b) != 0; }
    /// Ids of one process in the order in which they were made.
    friend bool operator<(const job_id &a, const job_id &b) noexcept { return a.compare(b) < 0; }
    friend std::ostream &operator<<(std::ostream &out, const job_id &id) { return out << id.str(); }

  private:
    int compare(const job_id &other) const noexcept { return std::memcmp(id_.b, other.id_.b, sizeof id_.b); }

    fby_id id_{};
};

/// How long a call may wait: any duration of std::chrono, or forever. A negative one is no wait at all, a
/// fraction of a millisecond counts as one.
class wait_time {
  public:
    /// So long.
    template <class Rep, class Period>
    constexpr wait_time(std::chrono::duration<Rep, Period> time);  // NOLINT: a duration is a time to wait
    /// Without limit; use the constant forever.
    static constexpr wait_time without_limit() noexcept { return wait_time(); }
    /// The milliseconds of forebay.h, where -1 is FBY_FOREVER.
    constexpr std::int64_t native() const noexcept { return ms_; }
    /// The milliseconds for a call to which -1 is FBY_DEFAULT.
    constexpr std::int64_t native_or_longest() const noexcept {
        return ms_ == FBY_FOREVER ? (std::numeric_limits<std::int64_t>::max)() : ms_;
    }

  private:
    constexpr wait_time() noexcept = default;

    std::int64_t ms_ = FBY_FOREVER;
};

/// A wait without limit.
constexpr wait_time forever = wait_time::without_limit();

namespace detail {

// Milliseconds, rounded up: nothing is to happen too early. What does not fit is the longest there is.
template <class Rep, class Period>
constexpr std::int64_t to_ms(std::chrono::duration<Rep, Period> time) {
    using ms = std::chrono::duration<std::int64_t, std::milli>;
    const double rough = std::chrono::duration<double, std::milli>(time).count();
    if (rough >= 9.2e18) return (std::numeric_limits<std::int64_t>::max)();
    if (!(rough > -9.2e18)) return (std::numeric_limits<std::int64_t>::min)();
    const ms whole = std::chrono::duration_cast<ms>(time);
    return whole.count() + (whole < time ? 1 : 0);
}

inline std::int64_t to_ms(std::chrono::system_clock::time_point at) {
    return to_ms(at.time_since_epoch());
}

// The instant, or the last one that the clock of the standard library can tell, which may be in the year 2262.
inline std::chrono::system_clock::time_point from_ms(std::int64_t ms) {
    using std::chrono::duration_cast, std::chrono::milliseconds, std::chrono::system_clock;
    const auto last = duration_cast<milliseconds>((system_clock::duration::max)());
    if (milliseconds(ms) > last) return (system_clock::time_point::max)();
    return system_clock::time_point(duration_cast<system_clock::duration>(milliseconds(ms)));
}

template <>
struct freed<fby_buffer> {
    void operator()(fby_buffer *b) const noexcept { fby_buffer_free(b); }
};

}  // namespace detail

template <class Rep, class Period>
constexpr wait_time::wait_time(std::chrono::duration<Rep, Period> time)
    : ms_(detail::to_ms(time) < 0 ? 0 : detail::to_ms(time)) {}

/// Bytes that the library handed over: a result, a text. Moves, and frees them with itself.
class buffer {
  public:
    /// Nothing.
    buffer() noexcept = default;
    /// Takes a buffer of forebay.h over.
    explicit buffer(fby_buffer *native) noexcept : native_(native) {}

    /// The bytes. They live as long as the buffer.
    std::string_view view() const noexcept { return detail::view(fby_buffer_bytes(native_.get())); }
    /// As view().
    operator std::string_view() const noexcept { return view(); }  // NOLINT: it is one
    /// A copy of the bytes.
    std::string str() const { return std::string(view()); }
    /// What the bytes are, as a MIME type. It lives as long as the buffer.
    std::string_view content_type() const noexcept {
        return detail::view(fby_buffer_content_type(native_.get()));
    }
    /// The value that the codec of T reads from the bytes. Throws what the codec throws.
    template <class T>
    T as() const {
        return codec<T>::decode(view());
    }

    friend std::ostream &operator<<(std::ostream &out, const buffer &b) { return out << b.view(); }

  private:
    detail::owned<fby_buffer> native_;
};

namespace detail {

// The text that a function of forebay.h writes to a buffer before its error.
template <class F, class... Arguments>
std::string text_of(F function, Arguments... arguments) {
    fby_buffer *text = nullptr;
    call(function, arguments..., &text);
    return buffer(text).str();
}


// A flag that is up while this lives.
struct raised {
    explicit raised(bool &flag) noexcept : flag_(flag) { flag_ = true; }
    raised(const raised &) = delete;
    raised &operator=(const raised &) = delete;
    ~raised() { flag_ = false; }

  private:
    bool &flag_;
};
}  // namespace detail
}  // namespace forebay

/// Ids as keys of unordered containers.
template <>
struct std::hash<forebay::job_id> {
    std::size_t operator()(const forebay::job_id &id) const noexcept {
        const auto &bytes = id.native().b;
        return std::hash<std::string_view>()(std::string_view(reinterpret_cast<const char *>(bytes), sizeof bytes));
    }
};

#endif  // FOREBAY_VALUE_HPP

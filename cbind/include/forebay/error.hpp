// Errors: one class per code of forebay.h, each with the sentence of the library.
#ifndef FOREBAY_ERROR_HPP
#define FOREBAY_ERROR_HPP

#include <forebay.h>

#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace forebay {

/// What Forebay throws. what() names the thing and the mend; the classes below tell one code from another, so
/// catch the ones you can do something about and leave the rest to error.
class error : public std::runtime_error {
  public:
    /// An error of this code. accepted is how many jobs of a push_many were taken before it.
    error(fby_status code, const std::string &text, bool retryable = false, std::size_t accepted = 0)
        : std::runtime_error(text), code_(code), retryable_(retryable), accepted_(accepted) {}

    /// The code, one of FBY_E_INVALID to FBY_E_PANIC. A later library may have codes that this header does not
    /// name: those are an error of no class of its own.
    fby_status code() const noexcept { return code_; }
    /// The name of the code, for example "FBY_E_FULL".
    const char *name() const noexcept { return fby_status_name(code_); }
    /// Whether the same call may work later without a change by the caller.
    bool retryable() const noexcept { return retryable_; }
    /// How many jobs push_many had accepted when the next one was refused: the first so many of its range are
    /// in the queue. 0 for every other call.
    std::size_t accepted() const noexcept { return accepted_; }

  private:
    fby_status code_;
    bool retryable_;
    std::size_t accepted_;
};

/// The class of one code.
template <fby_status Code, class Base = error>
class coded : public Base {
  public:
    using Base::Base;
};

using invalid = coded<FBY_E_INVALID>;               ///< an argument, a name, an option or a job is not valid
using no_memory = coded<FBY_E_NO_MEMORY>;           ///< memory or a thread could not be had
using full = coded<FBY_E_FULL>;                     ///< the queue holds as many jobs as it may
using closed = coded<FBY_E_CLOSED>;                 ///< the dispatcher has stopped
using timeout = coded<FBY_E_TIMEOUT>;               ///< the time to wait was up first
using stale = coded<FBY_E_STALE>;                   ///< the delivery no longer counts
using conflict = coded<FBY_E_CONFLICT>;             ///< the idempotency key belongs to another job
using not_found = coded<FBY_E_NOT_FOUND>;           ///< there is no job, option or file of that name or id
using storage = coded<FBY_E_STORAGE>;               ///< the store or the file system failed
using forked = coded<FBY_E_FORKED>;                 ///< opened before a fork, used in the child
using would_deadlock = coded<FBY_E_WOULD_DEADLOCK>; ///< the call would wait for the handler that makes it
using unsupported = coded<FBY_E_UNSUPPORTED>;       ///< the engine or this build cannot do that
using interrupted = coded<FBY_E_INTERRUPTED>;       ///< consumer::wake ended the wait
using job_failed = coded<FBY_E_JOB_FAILED>;         ///< the job ended otherwise than well; what() is its error
using job_shed = coded<FBY_E_SHED, job_failed>;     ///< a rule against overload gave the job up
using unknown_kind = coded<FBY_E_UNKNOWN_KIND>;     ///< no handler for this kind is registered here
using corrupt = coded<FBY_E_CORRUPT>;               ///< the file is damaged; nothing was changed
using future_format = coded<FBY_E_FUTURE_FORMAT>;   ///< a newer version wrote the file; nothing was changed
using already_open = coded<FBY_E_ALREADY_OPEN>;     ///< the file is in use by another process or dispatcher
using not_known = coded<FBY_E_UNKNOWN>;             ///< the store failed before it could say whether it was kept

namespace detail {

inline fby_bytes bytes(std::string_view text) noexcept {
    fby_bytes bytes{};
    bytes.ptr = text.data();
    bytes.len = text.size();
    return bytes;
}

inline std::string_view view(fby_bytes bytes) noexcept {
    return bytes.len == 0 ? std::string_view() : std::string_view(static_cast<const char *>(bytes.ptr), bytes.len);
}

// A struct of forebay.h with its size set and the rest zero. FBY_INIT warns in C++ with -Wextra.
template <class T>
T sized() noexcept {
    T value{};
    value.struct_size = sizeof value;
    return value;
}

template <class T>
struct freed;
template <>
struct freed<fby_error> {
    void operator()(fby_error *e) const noexcept { fby_error_free(e); }
};

// A handle of forebay.h that is freed with its owner. NULL is no handle: every function of the library then
// answers FBY_E_INVALID, which is what a moved-from object throws.
template <class T>
using owned = std::unique_ptr<T, freed<T>>;

template <fby_status Code, class Base>
[[noreturn]] void raise_as(const std::string &text, bool retryable, std::size_t accepted) {
    throw coded<Code, Base>(Code, text, retryable, accepted);
}

using raiser = void (*)(const std::string &, bool, std::size_t);

// The function that throws the class of a code; NULL for a code without one.
inline raiser raiser_of(fby_status code) noexcept {
    switch (code) {
        case FBY_E_INVALID: return raise_as<FBY_E_INVALID, error>;
        case FBY_E_NO_MEMORY: return raise_as<FBY_E_NO_MEMORY, error>;
        case FBY_E_FULL: return raise_as<FBY_E_FULL, error>;
        case FBY_E_CLOSED: return raise_as<FBY_E_CLOSED, error>;
        case FBY_E_TIMEOUT: return raise_as<FBY_E_TIMEOUT, error>;
        case FBY_E_STALE: return raise_as<FBY_E_STALE, error>;
        case FBY_E_CONFLICT: return raise_as<FBY_E_CONFLICT, error>;
        case FBY_E_NOT_FOUND: return raise_as<FBY_E_NOT_FOUND, error>;
        case FBY_E_STORAGE: return raise_as<FBY_E_STORAGE, error>;
        case FBY_E_FORKED: return raise_as<FBY_E_FORKED, error>;
        case FBY_E_WOULD_DEADLOCK: return raise_as<FBY_E_WOULD_DEADLOCK, error>;
        case FBY_E_UNSUPPORTED: return raise_as<FBY_E_UNSUPPORTED, error>;
        case FBY_E_INTERRUPTED: return raise_as<FBY_E_INTERRUPTED, error>;
        case FBY_E_JOB_FAILED: return raise_as<FBY_E_JOB_FAILED, error>;
        case FBY_E_SHED: return raise_as<FBY_E_SHED, job_failed>;
        case FBY_E_UNKNOWN_KIND: return raise_as<FBY_E_UNKNOWN_KIND, error>;
        case FBY_E_CORRUPT: return raise_as<FBY_E_CORRUPT, error>;
        case FBY_E_FUTURE_FORMAT: return raise_as<FBY_E_FUTURE_FORMAT, error>;
        case FBY_E_ALREADY_OPEN: return raise_as<FBY_E_ALREADY_OPEN, error>;
        case FBY_E_UNKNOWN: return raise_as<FBY_E_UNKNOWN, error>;
        default: return nullptr;
    }
}

// Throws what a status means; the error object, which is freed, has the text.
[[noreturn]] inline void raise(fby_status code, fby_error *why, std::size_t accepted = 0) {
    const owned<fby_error> freed_here(why);
    const std::string text(view(fby_error_message(why)));
    const bool retryable = fby_error_retryable(why);
    if (const raiser known = raiser_of(code)) known(text, retryable, accepted);
    throw error(code, text, retryable, accepted);
}

inline void check(fby_status code, fby_error *why) {
    if (code != FBY_OK) raise(code, why);
}

// Calls a function of forebay.h whose last argument is the error, and throws what it says.
template <class F, class... Arguments>
void call(F function, Arguments... arguments) {
    fby_error *why = nullptr;
    const fby_status code = function(arguments..., &why);
    check(code, why);
}

}  // namespace detail
}  // namespace forebay

#endif  // FOREBAY_ERROR_HPP

// Many jobs in one call: from ranges of C++ to the arrays of forebay.h.
#ifndef FOREBAY_PUSH_HPP
#define FOREBAY_PUSH_HPP

#include <forebay/options.hpp>

#include <deque>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace forebay {

/// What became of one job of a push.
struct pushed {
    job_id id;                       ///< of the new job, or of the one that had the id or key already
    forebay::durability durability;  ///< what it now survives
    forebay::shed shed;              ///< the rule against overload that gave it up as it came
    bool created;                    ///< whether this push made it; false if the id or key was known
};

/// What became of the jobs of a push.
struct push_report {
    std::vector<pushed> accepted;  ///< the first so many of the range
    std::optional<error> refused;  ///< why the one after them was refused, if there was one
};

namespace detail {

inline std::int64_t or_default(std::optional<wait_time> wait) noexcept {
    return wait ? wait->native_or_longest() : FBY_DEFAULT;
}

template <class Range>
using element = decltype(*std::begin(std::declval<Range &>()));

// Whether a range can be gone through twice. One that cannot may show one and the same object again and again, as
// that of std::istream_iterator does.
template <class Range, class = void>
constexpr bool is_multipass = false;
template <class Range>
constexpr bool is_multipass<Range, std::void_t<typename std::iterator_traits<decltype(
                                       std::begin(std::declval<Range &>()))>::iterator_category>> =
    std::is_convertible_v<
        typename std::iterator_traits<decltype(std::begin(std::declval<Range &>()))>::iterator_category,
        std::forward_iterator_tag>;

// Whether the elements of a range stay where they are while it does, so that they can be pointed to.
template <class Range, class T>
constexpr bool holds = is_multipass<Range> && std::is_lvalue_reference_v<element<Range>> &&
                       std::is_same_v<std::decay_t<element<Range>>, T>;

// Calls then with the jobs of a range of new_job, or of what one can be made of.
template <class Range, class Then>
auto specs(Range &jobs, Then then) {
    std::vector<fby_job_spec> specs;
    std::deque<new_job> made;
    for (auto &&each : jobs) {
        if constexpr (holds<Range, new_job>) {
            specs.push_back(each.native());
        } else {
            specs.push_back(made.emplace_back(std::forward<decltype(each)>(each)).native());
        }
    }
    return then(specs);
}

// Calls then with jobs of one kind, one for each payload of a range.
template <class Range, class Then>
auto specs(std::string_view kind, Range &payloads, const push_options &how, Then then) {
    using payload = std::decay_t<element<Range>>;
    std::vector<fby_job_spec> specs;
    std::deque<std::string> made;
    for (auto &&each : payloads) {
        if constexpr (holds<Range, payload> && is_bytes<payload>) {
            specs.push_back(how.native(kind, view_of(each), {}));
        } else {
            with_bytes(each, [&](std::string_view bytes_of, std::string_view type) {
                // What the codec calls the type is static.
                specs.push_back(how.native(kind, made.emplace_back(bytes_of), type));
            });
        }
    }
    return then(specs);
}

inline std::vector<job_id> push_all(const fby_dispatcher *d, const std::vector<fby_job_spec> &specs,
                                    std::optional<wait_time> wait) {
    std::vector<fby_id> ids(specs.size());
    std::size_t accepted = 0;
    fby_error *why = nullptr;
    const fby_status code = fby_push_many(d, specs.data(), sizeof(fby_job_spec), specs.size(), or_default(wait),
                                          ids.data(), &accepted, nullptr, &why);
    if (code != FBY_OK) raise(code, why, accepted);
    std::vector<job_id> made;
    made.reserve(ids.size());
    for (const fby_id &id : ids) made.emplace_back(id);
    return made;
}

// Pushes, and says of each job what became of it.
inline push_report push_told(const fby_dispatcher *d, const std::vector<fby_job_spec> &specs,
                             std::optional<wait_time> wait) {
    std::vector<fby_pushed> natives(specs.size());
    std::size_t accepted = 0;
    fby_error *why = nullptr;
    const fby_status code = fby_push_report(d, specs.data(), sizeof(fby_job_spec), specs.size(), or_default(wait),
                                            natives.data(), sizeof(fby_pushed), &accepted, &why);
    const owned<fby_error> freed_here(why);
    push_report report;
    if (code != FBY_OK) {
        report.refused.emplace(code, std::string(view(fby_error_message(why))), fby_error_retryable(why), accepted);
    }
    for (std::size_t i = 0; i < accepted; ++i) {
        const fby_pushed &each = natives[i];
        report.accepted.push_back({job_id(each.id), static_cast<forebay::durability>(each.durability),
                                   static_cast<forebay::shed>(each.shed), each.created != 0});
    }
    return report;
}

}  // namespace detail
}  // namespace forebay

#endif  // FOREBAY_PUSH_HPP

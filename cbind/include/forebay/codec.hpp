// How values become payloads and results, and come back: what is bytes goes as it is, the rest through a codec.
#ifndef FOREBAY_CODEC_HPP
#define FOREBAY_CODEC_HPP

#include <charconv>
#include <cstddef>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

namespace forebay {

/// How a T becomes bytes and comes back. Specialise it for your types:
///
///     template <>
///     struct forebay::codec<order> {
///         static constexpr std::string_view content_type = "application/json";
///         static std::string encode(const order &o);
///         static order decode(std::string_view bytes);   // throws what is not an order
///     };
///
/// encode may return anything that is bytes. Both may be called from any thread, several at once. There are
/// codecs for strings, for vectors of bytes and for whole numbers (as decimal text).
template <class T, class = void>
struct codec;

namespace detail {

template <class T>
constexpr bool is_text = std::is_convertible_v<const T &, std::string_view>;

template <class T, class = void>
constexpr bool is_byte_range = false;
template <class T>
constexpr bool is_byte_range<T, std::void_t<decltype(std::data(std::declval<const T &>())),
                                            decltype(std::size(std::declval<const T &>()))>> =
    sizeof(*std::data(std::declval<const T &>())) == 1 &&
    !std::is_same_v<std::remove_cv_t<std::remove_reference_t<decltype(*std::data(std::declval<const T &>()))>>, bool> &&
    std::is_trivially_copyable_v<std::remove_reference_t<decltype(*std::data(std::declval<const T &>()))>>;

// What goes as it is: texts, and anything with data() and size() whose elements are bytes.
template <class T>
constexpr bool is_bytes = is_text<T> || is_byte_range<T>;

template <class T, class = void>
constexpr bool has_codec = false;
template <class T>
constexpr bool has_codec<T, std::void_t<decltype(codec<T>::encode(std::declval<const T &>()))>> = true;

template <class T>
std::string_view view_of(const T &bytes) {
    if constexpr (std::is_pointer_v<T>) {
        return bytes == nullptr ? std::string_view() : std::string_view(bytes);
    } else if constexpr (is_text<T>) {
        return bytes;
    } else {
        return {reinterpret_cast<const char *>(std::data(bytes)), std::size(bytes)};
    }
}

// Calls then(bytes, content type) with what a value is; both live during the call.
template <class T, class Then>
decltype(auto) with_bytes(const T &value, Then &&then) {
    using plain = std::decay_t<const T &>;  // a literal is a text
    static_assert(is_bytes<T> || has_codec<plain>,
                  "neither bytes nor a type with a codec: specialise forebay::codec for it");
    if constexpr (is_bytes<T>) {
        return std::forward<Then>(then)(view_of(value), std::string_view());
    } else {
        const auto &encoded = codec<plain>::encode(value);
        return std::forward<Then>(then)(view_of(encoded), std::string_view(codec<plain>::content_type));
    }
}

}  // namespace detail

/// Texts, as their bytes.
template <>
struct codec<std::string> {
    static constexpr std::string_view content_type = {};
    static const std::string &encode(const std::string &text) noexcept { return text; }
    static std::string decode(std::string_view bytes) { return std::string(bytes); }
};

/// Vectors of bytes: of char, signed char, unsigned char or std::byte.
template <class T>
struct codec<std::vector<T>, std::enable_if_t<sizeof(T) == 1 && std::is_trivially_copyable_v<T> &&
                                              !std::is_same_v<T, bool>>> {
    static constexpr std::string_view content_type = {};
    static const std::vector<T> &encode(const std::vector<T> &bytes) noexcept { return bytes; }
    static std::vector<T> decode(std::string_view bytes) {
        const T *const first = reinterpret_cast<const T *>(bytes.data());
        return bytes.empty() ? std::vector<T>() : std::vector<T>(first, first + bytes.size());
    }
};

/// Whole numbers, as decimal text. decode throws std::invalid_argument for what is no number of that type.
template <class T>
struct codec<T, std::enable_if_t<std::is_integral_v<T> && !std::is_same_v<T, bool>>> {
    static constexpr std::string_view content_type = "text/plain";
    static std::string encode(T number) { return std::to_string(number); }
    static T decode(std::string_view text) {
        T number{};
        const char *const end = text.data() + text.size();
        const auto [rest, code] = std::from_chars(text.data(), end, number);
        if (code != std::errc() || rest != end) {
            throw std::invalid_argument("\"" + std::string(text) + "\" is no whole number of this type");
        }
        return number;
    }
};

}  // namespace forebay

#endif  // FOREBAY_CODEC_HPP

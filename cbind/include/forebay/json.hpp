// Just enough of JSON to read what the library writes: the member of an object, the elements of an array, a text.
// It is no parser: what the library does not write may be read wrongly.
#ifndef FOREBAY_JSON_HPP
#define FOREBAY_JSON_HPP

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace forebay::detail {

// Where the value ends that begins at this place: before the comma or bracket behind it.
inline std::size_t json_end(std::string_view json, std::size_t at) noexcept {
    int depth = 0;
    bool quoted = false;
    for (; at < json.size(); ++at) {
        const char c = json[at];
        if (quoted) {
            if (c == '\\') ++at;
            else quoted = c != '"';
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            ++depth;
        } else if ((c == '}' || c == ']') && depth-- == 0) {
            return at;
        } else if (c == ',' && depth == 0) {
            return at;
        }
    }
    return json.size();
}

// Calls each(element) for the elements of an array, or for the members, name and all, of an object.
template <class Each>
void json_elements(std::string_view json, Each each) {
    for (std::size_t at = 1; at + 1 < json.size();) {
        const std::size_t end = json_end(json, at);
        each(json.substr(at, end - at));
        at = end + 1;
    }
}

// The value of a member of an object, as it stands there; empty if there is none.
inline std::string_view json_member(std::string_view json, std::string_view name) noexcept {
    std::string_view found;
    json_elements(json, [&](std::string_view member) {
        if (member.size() < name.size() + 3 || member[0] != '"' || member.substr(1, name.size()) != name) return;
        if (member.substr(name.size() + 1, 2) == "\":") found = member.substr(name.size() + 3);
    });
    return found;
}

inline void append_utf8(std::string &to, std::uint32_t point) {
    const auto low = [](std::uint32_t bits) { return static_cast<char>(0x80u | (bits & 0x3fu)); };
    if (point < 0x80) {
        to += static_cast<char>(point);
    } else if (point < 0x800) {
        (to += static_cast<char>(0xc0u | (point >> 6))) += low(point);
    } else if (point < 0x10000) {
        ((to += static_cast<char>(0xe0u | (point >> 12))) += low(point >> 6)) += low(point);
    } else {
        (((to += static_cast<char>(0xf0u | (point >> 18))) += low(point >> 12)) += low(point >> 6)) += low(point);
    }
}

// The four hexadecimal digits of a \u, 0 if they are none.
inline std::uint32_t json_unit(std::string_view json, std::size_t at) noexcept {
    std::uint32_t unit = 0;
    if (at + 4 <= json.size()) std::from_chars(json.data() + at, json.data() + at + 4, unit, 16);
    return unit;
}

// What a text between quotes says.
inline std::string json_text(std::string_view json) {
    constexpr std::string_view names = "bfnrt", controls = "\b\f\n\r\t";
    std::string text;
    for (std::size_t at = 1; at + 1 < json.size(); ++at) {
        if (json[at] != '\\') {
            text += json[at];
            continue;
        }
        const char c = json[++at];
        const std::size_t name = names.find(c);
        if (c == 'u') {
            std::uint32_t point = json_unit(json, at + 1);
            at += 4;
            if (point >= 0xd800 && point < 0xdc00) {
                point = 0x10000u + ((point - 0xd800u) << 10) + (json_unit(json, at + 3) - 0xdc00u);
                at += 6;
            }
            append_utf8(text, point);
        } else {
            text += name == std::string_view::npos ? c : controls[name];
        }
    }
    return text;
}

}  // namespace forebay::detail

#endif  // FOREBAY_JSON_HPP

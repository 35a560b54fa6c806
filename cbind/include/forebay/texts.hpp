// Lists of texts as forebay.h has them: arrays that point to what somebody must own.
#ifndef FOREBAY_TEXTS_HPP
#define FOREBAY_TEXTS_HPP

#include <forebay/error.hpp>

#include <cstddef>
#include <list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace forebay::detail {

inline fby_bytes native_text(const std::string &text) noexcept {
    return bytes(text);
}

inline fby_header native_text(const std::pair<std::string, std::string> &header) noexcept {
    return {bytes(header.first), bytes(header.second)};
}

// Texts that stay where they are while the list does, also when it moves, and the array that points to them.
// Empty, it allocates nothing.
template <class Text>
class text_list {
  public:
    text_list() noexcept = default;
    text_list(const text_list &other) {
        for (const Text &text : other.texts_) add(text);
    }
    text_list(text_list &&) noexcept = default;
    text_list &operator=(text_list other) noexcept {
        texts_.swap(other.texts_);
        natives_.swap(other.natives_);
        return *this;
    }
    ~text_list() = default;

    void add(Text text) { natives_.push_back(native_text(texts_.emplace_back(std::move(text)))); }
    auto data() const noexcept { return natives_.data(); }
    std::size_t size() const noexcept { return natives_.size(); }

  private:
    std::list<Text> texts_;
    std::vector<decltype(native_text(std::declval<const Text &>()))> natives_;
};

using name_list = text_list<std::string>;
using header_list = text_list<std::pair<std::string, std::string>>;

}  // namespace forebay::detail

#endif  // FOREBAY_TEXTS_HPP

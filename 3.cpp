#include <forebay.hpp>
#include <iostream>

int main() {
    forebay::dispatcher d("memory:?capacity=2");
    const auto once = forebay::push_options().key("order 17");
    const auto id = d.push("bill", "17", once);
    std::cout << std::boolalpha << (d.push("bill", "17", once) == id) << "\n";
    try {
        d.push("bill", "18", once);
    } catch (const forebay::conflict &e) {
        std::cout << e.name() << "\n";
    }
    try {
        d.push_many("bill", std::vector<int>{1, 2, 3});
    } catch (const forebay::full &e) {
        std::cout << e.accepted() << " of 3: " << e.what() << "\n";
    }
    forebay::dispatcher other = std::move(d);
    try {
        d.push("bill");
    } catch (const forebay::invalid &e) {
        std::cout << e.what() << "\n";
    }
}

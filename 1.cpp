#include <forebay.hpp>
#include <iostream>

struct parcel {
    int grams;
};

template <>
struct forebay::codec<parcel> {
    static constexpr std::string_view content_type = "text/plain";
    static std::string encode(const parcel &p) { return std::to_string(p.grams) + " g"; }
    static parcel decode(std::string_view text) {
        if (text.size() < 3 || text.substr(text.size() - 2) != " g") throw std::invalid_argument("no weight in grams");
        return {codec<int>::decode(text.substr(0, text.size() - 2))};
    }
};

int main() {
    using namespace std::chrono_literals;
    forebay::dispatcher d("memory:");
    const auto how = forebay::kind_options().max_attempts(3).retry("constant(10ms)").timeout(30s)
                         .set("breaker", "failures(5, open=30s)");
    d.handle<parcel>("ship", [](const parcel &p, const forebay::job &job) {
        if (p.grams > 30000) throw forebay::fatal("too heavy");
        if (job.attempt() == 1) throw std::runtime_error("the carrier hung up");
        return parcel{p.grams + 50};
    }, how);
    d.start();
    const auto light = d.push("ship", parcel{700}), heavy = d.push("ship", parcel{40000}), none = d.push("ship", "?");
    std::cout << d.wait_for<parcel>(light, 5s).grams << " after " << d.get(light).attempt() << " attempts\n";
    for (const auto &id : {heavy, none}) {
        try {
            d.wait(id, 5s);
        } catch (const forebay::job_failed &) {
            std::cout << *d.get(id).error() << "\n";
        }
    }
}

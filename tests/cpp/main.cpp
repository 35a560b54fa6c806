// Runs the cases of every suite, or those whose names it is given; a name after "-" is left out.
#include "harness.hpp"

extern const suite handlers_suite, ownership_suite, pending_suite, consumers_suite, pushing_suite,
    life_suite, allocations_suite, forks_suite, scenarios_suite, watching_suite;

namespace {

const suite *const suites[] = {&handlers_suite, &ownership_suite, &pending_suite, &consumers_suite,
                               &pushing_suite, &life_suite, &allocations_suite, &forks_suite, &scenarios_suite,
                               &watching_suite};

bool wanted(std::string_view suite_name, std::string_view case_name, const std::vector<std::string_view> &names) {
    bool named = false;
    for (std::string_view name : names) {
        const bool without = name.substr(0, 1) == "-";
        if (without) name.remove_prefix(1);
        const bool fits = name == suite_name || name == case_name;
        if (fits) return !without;
        named |= !without;
    }
    return !named;
}

}  // namespace

int main(int argc, char **argv) {
    const std::vector<std::string_view> names(argv + 1, argv + argc);
    int ran = 0;
    for (const suite *each : suites) {
        for (std::size_t i = 0; i < each->count; ++i) {
            const test_case &c = each->cases[i];
            if (!wanted(each->name, c.name, names)) continue;
            std::printf("c++ %s %s ... ", each->name, c.name);
            std::fflush(stdout);
            c.run();
            std::printf("ok\n");
            ++ran;
        }
    }
    CHECK(ran > 0);
    std::printf("C++: %d tests passed\n", ran);
    return 0;
}

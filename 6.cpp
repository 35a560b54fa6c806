#include <forebay.hpp>
#include <iostream>

int main() {
    using namespace std::chrono_literals;
    forebay::dispatcher d("memory:", forebay::options().manual_clock().retry("constant(1h)").max_attempts(2));
    auto c = d.consume();
    forebay::batch jobs;
    const auto id = d.push("remind", "dentist", forebay::push_options().delay(24h));
    const auto polled = [&] { return c.poll(jobs, 1, 0s) ? jobs.size() : 0; };
    std::cout << to_string(d.state(id)) << " " << polled() << "\n";
    d.advance(24h);
    std::cout << to_string(d.state(id)) << " " << polled() << "\n";
    jobs[0].fail("nobody answers the telephone");
    jobs.finish();
    std::cout << to_string(d.state(id)) << " " << polled() << "\n";
    d.advance(1h);
    std::cout << polled() << ", attempt " << jobs[0].attempt() << "\n";
}

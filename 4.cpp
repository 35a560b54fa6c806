#include <forebay.hpp>
#include <iostream>

int main() {
    using namespace std::chrono_literals;
    forebay::dispatcher d("memory:?concurrency=64&max_attempts=1");
    const auto ids = d.push_many("double", std::vector<int>{1, 2, 3, 4});
    d.push("halve", 8);
    forebay::consumer c = d.consume(forebay::consumer_options().kind("double"));
    forebay::batch jobs;
    while (c.poll(jobs, 64, 0s) && !jobs.empty()) {
        for (forebay::delivery &job : jobs) {
            if (job.as<int>() == 3) job.fail("not this one");
            else job.done(2 * job.as<int>());
        }
        std::cout << jobs.size() << " jobs, " << jobs.finish() << " too late\n";
    }
    std::cout << d.wait_for<int>(ids[3]) << ", " << d.get(ids[2]).state() << "\n";
}

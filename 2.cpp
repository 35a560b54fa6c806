#include <forebay.hpp>
#include <iostream>

int main() {
    using namespace std::chrono_literals;
    std::vector<std::thread> calls;  // what an asynchronous client of yours does
    forebay::dispatcher d("memory:?concurrency=1");
    d.handle("ask", [&calls](const forebay::job &job) {
        calls.emplace_back([answer = job.defer(), question = std::string(job.payload())]() mutable {
            try {
                answer.done(question + " 42");
            } catch (const forebay::stale &) {
                // It was overdue, cancelled or handed back at a stop: the answer is nobody's any more.
            }
        });
    });
    d.start();
    std::cout << d.wait(d.push("ask", "six times seven?"), 5s) << "\n";
    for (auto &call : calls) call.join();
}

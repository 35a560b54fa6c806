#include <forebay.hpp>
#include <iostream>

int main() {
    forebay::dispatcher d("memory:?concurrency=4");
    d.handle("greet", [](const forebay::job &job) { return "hello " + std::string(job.payload()); });
    d.start();
    const forebay::job_id id = d.push("greet", "world");
    std::cout << d.wait(id, std::chrono::seconds(5)) << "\n";
}

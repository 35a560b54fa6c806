#include <forebay.hpp>
#include <iostream>
#include <signal.h>
#include <unistd.h>

int main() {
    using namespace std::chrono_literals;
    sigset_t stops;
    sigemptyset(&stops);
    sigaddset(&stops, SIGTERM);
    sigaddset(&stops, SIGINT);
    sigprocmask(SIG_BLOCK, &stops, nullptr);  // inherited by every thread, so that none of them is interrupted

    forebay::dispatcher d("memory:?concurrency=1");
    d.handle("long", [](const forebay::job &job) {
        kill(getpid(), SIGTERM);  // here it is the job that ends the program
        while (!job.stopping()) std::this_thread::yield();
        std::cout << "finishing\n";
    });
    d.start();
    d.push_many("long", std::vector<int>{1, 2, 3});

    int signal = 0;
    sigwait(&stops, &signal);
    const forebay::stop_report report = d.stop(10s);
    std::cout << report.handed_back << " handed back, " << report.waiting << " wait\n";
}

// A service that delivers webhooks: it answers at once, and delivers when the other side is ready to listen.
//
//     c++ -std=c++17 hooks.cpp $(pkg-config --cflags --libs forebay) -pthread -o hooks
//     ./hooks jobs.db received.log
//
//     POST /hooks        Idempotency-Key: order-17, and "where what" as body   202 and an id: it is on the disk
//     GET /hooks/ID      what became of it; waits a second for its end         200, 202 or 404
//     GET /why           why deliveries do not start                           200
//     PUT /receiver      "up", "down" or "busy": how the receiver is today     200
//
// The receiver is in the same process here, and writes what it gets to received.log. SIGTERM ends the service: what
// is being delivered is finished, the rest is in the file for the next process.
#include <forebay.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cerrno>
#include <fstream>
#include <iostream>
#include <mutex>

using namespace std::chrono_literals;

// ---- what is delivered ---------------------------------------------------------------------------------

struct hook {
    std::string to, body;
};

template <>
struct forebay::codec<hook> {
    static constexpr std::string_view content_type = "text/x-hook";
    static std::string encode(const hook &h) { return h.to + " " + h.body; }
    static hook decode(std::string_view text) {
        const std::size_t gap = text.find(' ');
        if (gap == 0 || gap == std::string_view::npos) throw std::invalid_argument("a hook is \"where what\"");
        if (text.find('\n') != std::string_view::npos) throw std::invalid_argument("a hook is one line");
        return {std::string(text.substr(0, gap)), std::string(text.substr(gap + 1))};
    }
};

// ---- where it goes -------------------------------------------------------------------------------------

// Somebody else's server: it may be down or busy, it refuses what it does not like, and loses every third call.
class receiver {
  public:
    explicit receiver(const std::string &path) : log_(path, std::ios::app) {}

    bool set(std::string_view mode) {
        if (mode != "up" && mode != "down" && mode != "busy") return false;
        status_ = mode == "up" ? 200 : mode == "down" ? 503 : 429;
        return true;
    }

    // The status of HTTP. The id lets the receiver tell a second delivery of the same hook from a new one.
    int post(const hook &h, const forebay::job_id &id) {
        if (status_ != 200) return status_;
        if (++calls_ % 3 == 0) return 502;
        if (h.body == "nonsense") return 422;
        const std::lock_guard<std::mutex> held(lock_);
        log_ << id << " " << h.to << " " << h.body << std::endl;
        return 200;
    }

  private:
    std::atomic<int> status_{200}, calls_{0};
    std::mutex lock_;
    std::ofstream log_;
};

// One attempt. What cannot be mended by trying again is fatal; "not now" is no failure.
std::string deliver(receiver &to, const hook &h, const forebay::job &job) {
    const int status = to.post(h, job.id());
    if (status == 429) throw forebay::rate_limited(50ms);
    if (status >= 500) throw std::runtime_error(h.to + " answered " + std::to_string(status));
    if (status >= 400) throw forebay::fatal(h.to + " refuses it with " + std::to_string(status));
    return "delivered to " + h.to + " at attempt " + std::to_string(job.attempt());
}

// ---- what is asked -------------------------------------------------------------------------------------

struct request {
    std::string method, path, key, body;
};

struct response {
    int status;
    std::string body;
};

class service {
  public:
    service(const forebay::dispatcher &d, receiver &to) : d_(d), to_(to) {}

    response answer(const request &r) const {
        try {
            if (r.method == "POST" && r.path == "/hooks") return accept(r);
            if (r.method == "GET" && r.path.rfind("/hooks/", 0) == 0) return tell(forebay::job_id::parse(r.path.substr(7)));
            if (r.method == "GET" && r.path == "/why") return {200, d_.explain_queue("hooks")};
            if (r.method == "PUT" && r.path == "/receiver") return {to_.set(r.body) ? 200 : 400, ""};
            return {404, "there is POST /hooks, GET /hooks/ID, GET /why and PUT /receiver"};
        } catch (const forebay::conflict &e) {
            return {409, e.what()};
        } catch (const forebay::not_found &e) {
            return {404, e.what()};
        } catch (const forebay::invalid &e) {
            return {400, e.what()};
        } catch (const std::invalid_argument &e) {
            return {400, e.what()};
        } catch (const forebay::error &e) {
            return {e.retryable() || e.code() == FBY_E_CLOSED ? 503 : 500, e.what()};
        }
    }

  private:
    // With its key a hook may be posted again, by a caller who has not heard the answer, and is delivered once.
    response accept(const request &r) const {
        const hook h = forebay::codec<hook>::decode(r.body);
        return {202, d_.push("deliver", h, forebay::push_options().queue("hooks").key(r.key)).str()};
    }

    response tell(const forebay::job_id &id) const {
        try {
            return {200, d_.wait(id, 1s).str()};
        } catch (const forebay::timeout &) {
            return {202, std::string(to_string(d_.state(id)))};
        } catch (const forebay::job_failed &e) {
            return {200, e.what()};
        }
    }

    const forebay::dispatcher &d_;
    receiver &to_;
};

// ---- as much of HTTP as that takes ---------------------------------------------------------------------

std::string header(const std::string &head, const std::string &name) {
    const std::string line = "\r\n" + name + ": ";
    const auto same = [](unsigned char a, unsigned char b) { return std::tolower(a) == std::tolower(b); };
    const auto at = std::search(head.begin(), head.end(), line.begin(), line.end(), same);
    const auto from = static_cast<std::size_t>(at - head.begin()) + line.size();
    return at == head.end() ? "" : head.substr(from, head.find("\r\n", from) - from);
}

// What a caller sends, who has five seconds for it; no method if that is no request.
request read_request(int fd) {
    const timeval patience{5, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    std::string text;
    request r;
    char some[4096];
    for (std::size_t end = std::string::npos, length = 0; end == std::string::npos || text.size() < end + 4 + length;) {
        const ssize_t got = recv(fd, some, sizeof some, 0);
        if (got < 0 && errno == EINTR) continue;  // the process was stopped and goes on
        if (got <= 0 || text.size() > 1 << 20) return {};
        text.append(some, static_cast<std::size_t>(got));
        if (end != std::string::npos || (end = text.find("\r\n\r\n")) == std::string::npos) continue;
        length = std::strtoul(header(text, "Content-Length").c_str(), nullptr, 10);
    }
    const std::size_t gap = text.find(' '), end = text.find("\r\n\r\n");
    r.method = text.substr(0, gap);
    r.path = text.substr(gap + 1, text.find(' ', gap + 1) - gap - 1);
    r.key = header(text, "Idempotency-Key");
    r.body = text.substr(end + 4);
    return r;
}

void write_response(int fd, const response &r) {
    const std::string text = "HTTP/1.1 " + std::to_string(r.status) + " -\r\nConnection: close\r\nContent-Length: " +
                             std::to_string(r.body.size()) + "\r\n\r\n" + r.body;
    if (send(fd, text.data(), text.size(), MSG_NOSIGNAL) < 0) return;  // who has hung up asks again
}

// Takes callers until the socket is shut down.
void front(int socket, const service &s) {
    for (int fd; (fd = accept(socket, nullptr, nullptr)) >= 0; close(fd)) {
        const request r = read_request(fd);
        if (!r.method.empty()) write_response(fd, s.answer(r));
    }
}

// A socket on the loopback, on a port that it prints.
int listen_somewhere() {
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof where;
    auto *const address = reinterpret_cast<sockaddr *>(&where);
    const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (socket < 0 || bind(socket, address, size) != 0 || listen(socket, 64) != 0) throw std::runtime_error("no port");
    getsockname(socket, address, &size);
    std::cout << "listening " << ntohs(where.sin_port) << std::endl;
    return socket;
}

// ---- its life ------------------------------------------------------------------------------------------

int main(int argc, char **argv) {
    if (argc != 3) return std::cerr << "hooks FILE LOG\n", 2;
    sigset_t stops;
    sigemptyset(&stops);
    sigaddset(&stops, SIGTERM);
    sigaddset(&stops, SIGINT);
    sigprocmask(SIG_BLOCK, &stops, nullptr);  // before there are threads: they inherit it
    try {
        receiver to(argv[2]);
        const forebay::dispatcher d("sqlite:" + std::string(argv[1]), forebay::options().grace(5s));
        d.configure_queue("hooks", {{"capacity", "1000"}, {"on_full", "reject"}});
        d.handle<hook>("deliver", [&to](const hook &h, const forebay::job &job) { return deliver(to, h, job); },
                       forebay::kind_options().concurrency(4).timeout(10s).max_attempts(forebay::unlimited)
                           .retry("exponential(20ms, cap=1s)").set("breaker", "failures(5, open=200ms)"));
        d.start();
        const service s(d, to);
        const int socket = listen_somewhere();
        std::vector<std::thread> fronts;
        for (int i = 0; i < 4; ++i) fronts.emplace_back([&] { front(socket, s); });
        int signal = 0;
        sigwait(&stops, &signal);
        shutdown(socket, SHUT_RDWR);
        for (auto &each : fronts) each.join();
        close(socket);
        const auto report = d.stop();
        std::cout << "stopped: " << report.handed_back << " handed back, " << report.waiting << " wait" << std::endl;
        return 0;
    } catch (const std::exception &e) {
        return std::cerr << "hooks: " << e.what() << "\n", 1;
    }
}

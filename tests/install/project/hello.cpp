// An exception of the program's own passes through frames of the library's neighbours, not through the library.
#include <forebay.h>

#include <cstdio>
#include <stdexcept>
#include <string>

static fby_verdict greet(void *, const fby_job *job, fby_reply *reply) {
    try {
        throw std::runtime_error(std::string(static_cast<const char *>(job->payload.ptr), job->payload.len));
    } catch (const std::runtime_error &caught) {
        return fby_reply_set_result(reply, fby_str(caught.what()), fby_str("text/plain"), nullptr) == FBY_OK
                   ? FBY_DONE : FBY_FATAL;
    }
}

int main() {
    fby_dispatcher *d = nullptr;
    fby_buffer *result = nullptr;
    fby_id id;
    fby_job_spec job = FBY_INIT(fby_job_spec);
    job.kind = fby_str("greet");
    job.payload = fby_str("C++");
    if (fby_open(fby_str("memory:"), nullptr, &d, nullptr) != FBY_OK) return 1;
    if (fby_register(d, job.kind, nullptr, greet, nullptr, nullptr, nullptr) != FBY_OK) return 1;
    if (fby_start(d, nullptr) != FBY_OK || fby_push(d, &job, 0, &id, nullptr, nullptr) != FBY_OK) return 1;
    if (fby_wait(d, &id, 60000, nullptr, &result, nullptr) != FBY_OK) return 1;
    fby_bytes said = fby_buffer_bytes(result);
    std::printf("%.*s", static_cast<int>(said.len), static_cast<const char *>(said.ptr));
    fby_buffer_free(result);
    fby_release(d);
}

// The dispatcher: everything there is to do with jobs.
#ifndef FOREBAY_DISPATCHER_HPP
#define FOREBAY_DISPATCHER_HPP

#include <forebay/consumer.hpp>
#include <forebay/events.hpp>
#include <forebay/listing.hpp>
#include <forebay/push.hpp>
#include <forebay/watcher.hpp>

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace forebay {

namespace detail {

template <>
struct freed<fby_forwarder> {
    void operator()(fby_forwarder *f) const noexcept { fby_forwarder_free(f); }
};

}  // namespace detail

/// What a stop did.
struct stop_report {
    std::uint64_t handed_back;  ///< running jobs that did not finish within the grace and went back to the queue
    std::uint64_t waiting;      ///< jobs that still wait, those handed back among them
};

/// What a dump or a restore did.
struct dump_report {
    std::uint64_t jobs;   ///< jobs written, or read and accepted
    std::uint64_t known;  ///< jobs of the file that were here already and were left as they are
};

/// A queue whose jobs are passed on. Moves; the queue is passed on, too, when this is gone.
class forwarder {
  public:
    /// None.
    forwarder() noexcept = default;
    /// Takes a forwarder of forebay.h over.
    explicit forwarder(fby_forwarder *native) noexcept : native_(native) {}

    /// Passes on no more: waits so long for the delivery that is under way; then the queue is everybody's again.
    /// Throws timeout if it is still under way, with which it ends all the same.
    void stop(wait_time grace) const {
        detail::call(fby_forwarder_stop, native_.get(), grace.native_or_longest());
    }

  private:
    detail::owned<fby_forwarder> native_;
};

/// What dispatcher and dispatcher_ref can do. Threads: every function may be called from any thread, several at
/// once, and in a handler unless it says otherwise.
///
/// On top of what is said of each, every function throws forked in the child of a fork, invalid on an object
/// that was moved from, and, on a file, storage; what changes something on a file may throw not_known: it may
/// have happened or not.
class operations {
  public:
    // ---- handlers ----

    /// Registers a handler for jobs of a kind; start() starts the threads that run it. A second call replaces the
    /// handler for attempts that start later.
    ///
    /// The handler is anything that can be called with a const job &; it is moved to the heap, so it may own what
    /// can only be moved. Several threads may be in it at once. What it returns: nothing, bytes or a value with a
    /// codec (the result), or an outcome. What it throws: an outcome is as one that is returned, every other
    /// exception is a failed attempt with its what(). It is destroyed once, after its last call has returned: when
    /// this fails, when it is replaced or removed, or by the stop.
    ///
    /// Throws not_found for an option that there is not, invalid, closed.
    template <class F>
    void handle(std::string_view kind, F handler, const kind_options &how = {}) const {
        static_assert(std::is_invocable_v<F &, const job &>, "a handler is called with a const forebay::job &");
        const fby_kind_options native = how.native();
        // The library owns the cell from the call on, also when the call fails.
        auto *cell = new detail::cell<F>{detail::share(this->native()), std::move(handler)};
        detail::call(fby_register, this->native(), detail::bytes(kind), &native, detail::run_cell<F>,
                     static_cast<void *>(cell), detail::drop_cell<F>);
    }

    /// As handle, for a handler that is called with a T, or with a T and a const job &. A payload from which the
    /// codec of T cannot read one fails its job without another attempt.
    template <class T, class F>
    void handle(std::string_view kind, F handler, const kind_options &how = {}) const {
        static_assert(std::is_invocable_v<F &, T> || std::is_invocable_v<F &, T, const job &>,
                      "this handler is called with a T, or with a T and a const forebay::job &");
        handle(kind, detail::typed<T, F>{std::move(handler)}, how);
    }

    /// Takes the handler of a kind away. Attempts that run go on with it, jobs of the kind wait from now on.
    /// Returns whether there was one. Throws closed.
    bool remove_handler(std::string_view kind) const {
        bool removed = false;
        detail::call(fby_unregister, native(), detail::bytes(kind), &removed);
        return removed;
    }

    /// Says how jobs of a kind are to be run by consumers of this process, without a handler. Throws as handle.
    void declare(std::string_view kind, const kind_options &how) const {
        const fby_kind_options native = how.native();
        detail::call(fby_declare, this->native(), detail::bytes(kind), &native);
    }

    /// A consumer: the other way to run jobs, by threads or an event loop of your own. Throws invalid.
    consumer consume(const consumer_options &what = {}) const { return consumer(native(), what); }

    // ---- pushing ----

    /// Pushes a job that carries bytes, or a value with a codec; gives its id, once the job is as safe as it is to
    /// be. If the queue is full it waits this long for room; without a wait, as the option on_full says.
    ///
    /// Throws full, also for a full disk; conflict for a key that another job has; unknown_kind if so configured;
    /// closed; would_deadlock; no_memory; invalid. Then the job was not accepted. Whoever gave it an id or a key
    /// may push it again and has it once.
    template <class T>
    job_id push(std::string_view kind, const T &payload, const push_options &how = {},
                std::optional<wait_time> wait = {}) const {
        return detail::with_bytes(payload, [&](std::string_view bytes, std::string_view type) {
            const fby_job_spec spec = how.native(kind, bytes, type);
            fby_id id{};
            detail::call(fby_push, native(), &spec, detail::or_default(wait), &id, nullptr);
            return job_id(id);
        });
    }
    /// Pushes a job without a payload.
    job_id push(std::string_view kind) const { return push(kind, std::string_view()); }

    /// Pushes the jobs of a range of new_job, or of what a new_job can be made of, in order and in one call; gives
    /// their ids. All are checked first: if one is not valid, none is accepted. The wait is for all together.
    ///
    /// Throws as push, for the first that was refused; those before it are in the queue, and error::accepted()
    /// says how many they are.
    template <class Range>
    std::vector<job_id> push_many(Range &&jobs, std::optional<wait_time> wait = {}) const {
        return detail::specs(jobs, [&](const auto &specs) { return detail::push_all(native(), specs, wait); });
    }
    /// Pushes jobs of one kind, one for each payload of a range. As push_many otherwise.
    template <class Range>
    std::vector<job_id> push_many(std::string_view kind, Range &&payloads, const push_options &how = {},
                                  std::optional<wait_time> wait = {}) const {
        return detail::specs(kind, payloads, how,
                             [&](const auto &specs) { return detail::push_all(native(), specs, wait); });
    }
    /// As push_many, and tells of each job what became of it. Does not throw for a refusal, which is in the report.
    template <class Range>
    push_report push_told(Range &&jobs, std::optional<wait_time> wait = {}) const {
        return detail::specs(jobs, [&](const auto &specs) { return detail::push_told(native(), specs, wait); });
    }

    // ---- one job ----

    /// Waits for the end of a job, and gives its result. Throws job_failed with the job's own error if it ended
    /// otherwise than well, job_shed, which is one, if a rule against overload gave it up; timeout; not_found for
    /// an id that is unknown or forgotten; would_deadlock in a handler that would wait for itself; closed if the
    /// dispatcher stopped first.
    buffer wait(const job_id &id, wait_time wait = forever) const {
        fby_buffer *result = nullptr;
        detail::call(fby_wait, native(), &id.native(), wait.native(), nullptr, &result);
        return buffer(result);
    }
    /// As wait, and reads the result with the codec of T.
    template <class T>
    T wait_for(const job_id &id, wait_time wait = forever) const {
        return this->wait(id, wait).template as<T>();
    }
    /// A watcher of the ends of many jobs: for whoever waits for more than one at a time.
    watcher watch() const { return watcher(native()); }
    /// Where a job stands. Throws not_found.
    forebay::state state(const job_id &id) const {
        fby_state state = 0;
        detail::call(fby_job_state, native(), &id.native(), &state);
        return static_cast<forebay::state>(state);
    }
    /// Which rule against overload gave a job up. Throws not_found.
    forebay::shed shed(const job_id &id) const {
        fby_shed rule = 0;
        detail::call(fby_job_shed, native(), &id.native(), &rule);
        return static_cast<forebay::shed>(rule);
    }
    /// Everything known about a job. Throws not_found.
    job_info get(const job_id &id) const { return job_info(detail::text_of(fby_get, native(), &id.native())); }
    /// The jobs that a filter shows, newest first: for (const job_info &job : d.list(filter().queue("mail"))) ...
    listing list(const filter &what = {}) const { return listing(native(), what); }
    /// Why a job is not running, or how it ended, as a sentence. Throws not_found.
    std::string explain(const job_id &id) const { return detail::text_of(fby_explain, native(), &id.native()); }
    /// Cancels a job: one that waits at once, one that runs is asked to stop and is cancelled when its handler
    /// returns. Gives the state after the call: cancelled, running, or the final one it had. Throws not_found.
    forebay::state cancel(const job_id &id) const {
        fby_state state = 0;
        detail::call(fby_cancel, native(), &id.native(), &state);
        return static_cast<forebay::state>(state);
    }
    /// Delivers a token to a job that waits for it; when its last one has come, the job is queued, or scheduled. A
    /// token that the job does not wait for changes nothing. Throws not_found, closed.
    void signal(const job_id &id, std::string_view token) const {
        detail::call(fby_signal, native(), &id.native(), detail::bytes(token));
    }
    /// Runs a finished job again with its old payload, which one that succeeded no longer has, as a new job with
    /// the same settings; gives its id. The same retry twice makes one job. Throws not_found; invalid also for a
    /// job that is not over; otherwise as push.
    job_id retry(const job_id &id) const { return again(id, nullptr, {}); }
    /// Runs a finished job again with another payload. Throws conflict if it was retried before with another one.
    template <class T>
    job_id retry(const job_id &id, const T &payload) const {
        return detail::with_bytes(payload, [&](std::string_view bytes, std::string_view type) {
            const fby_bytes input = detail::bytes(bytes);
            return again(id, &input, type);
        });
    }

    // ---- queues ----

    /// Sets one option of a queue by its name; the value "default" leaves it to the dispatcher's options. Throws
    /// not_found for a name that no option has; invalid for a value that is not of its form, or does not go with
    /// the other options; unsupported for one that the engine cannot keep; closed. Then nothing was changed.
    void configure_queue(std::string_view queue, std::string_view name, std::string_view value) const {
        detail::call(fby_queue_option, native(), detail::bytes(queue), detail::bytes(name), detail::bytes(value));
    }
    /// Sets options of a queue, in turn: configure_queue("mail", {{"capacity", "100"}, {"on_full", "spill"}}).
    void configure_queue(std::string_view queue,
                         std::initializer_list<std::pair<std::string_view, std::string_view>> named) const {
        for (const auto &[name, value] : named) configure_queue(queue, name, value);
    }
    /// What a queue has of its own, as a JSON object: each option by its name with its text, "default" for one that
    /// is left to the dispatcher's options.
    std::string queue_options(std::string_view queue) const {
        return detail::text_of(fby_queue_options, native(), detail::bytes(queue));
    }
    /// How long a push to a queue waits for room when it is full, as its option on_full says; 0 if it does not wait.
    wait_time patience(std::string_view queue) const {
        std::int64_t ms = 0;
        detail::call(fby_queue_patience, native(), detail::bytes(queue), &ms);
        return ms < 0 ? forever : wait_time(std::chrono::milliseconds(ms));
    }
    /// How full a queue is, from 0 to 1. Cheap: ask before every push, if you like.
    double pressure(std::string_view queue) const {
        double pressure = 0;
        detail::call(fby_pressure, native(), detail::bytes(queue), &pressure);
        return pressure;
    }
    /// How many jobs wait in a queue: blocked, scheduled and queued ones.
    std::uint64_t size(std::string_view queue) const {
        std::uint64_t size = 0;
        detail::call(fby_len, native(), detail::bytes(queue), &size);
        return size;
    }
    /// What a queue holds and what keeps its jobs from starting, as a sentence. Throws not_found.
    std::string explain_queue(std::string_view queue) const {
        return detail::text_of(fby_explain_queue, native(), detail::bytes(queue));
    }
    /// Stops handing out jobs of a queue. Pushes go on, running jobs too. Throws closed.
    void pause(std::string_view queue) const { detail::call(fby_pause, native(), detail::bytes(queue)); }
    /// Hands out jobs of a queue again. Throws closed.
    void resume(std::string_view queue) const { detail::call(fby_resume, native(), detail::bytes(queue)); }
    /// Cancels every job that waits in a queue, and gives their number. Running ones go on.
    std::uint64_t purge(std::string_view queue) const {
        std::uint64_t count = 0;
        detail::call(fby_purge, native(), detail::bytes(queue), &count);
        return count;
    }
    /// Passes the jobs of a queue on to another dispatcher from now on, in order and whatever their kinds; see
    /// docs/forwarding.md. to_queue is the queue there, empty for one of the same name; named are options as in a
    /// URL, for example "batch=100&retry=constant(1s)". The other one may be down: jobs wait here meanwhile.
    /// Throws not_found for an option that there is not, invalid also for a queue that is forwarded already,
    /// closed, no_memory.
    forwarder forward(std::string_view queue, std::string_view url, std::string_view to_queue = {},
                      std::string_view named = {}) const {
        fby_forwarder *made = nullptr;
        detail::call(fby_forward, native(), detail::bytes(queue), detail::bytes(url), detail::bytes(to_queue),
                     detail::bytes(named), &made);
        return forwarder(made);
    }

    // ---- all of it ----

    /// The counts of every queue, as a JSON object: one consistent snapshot.
    std::string stats() const { return detail::text_of(fby_stats, native()); }
    /// The counts of every queue in the text format of Prometheus.
    std::string stats_prometheus() const { return detail::text_of(fby_stats_prometheus, native()); }
    /// What an option of the dispatcher is set to, for example "30s" for "grace". Throws not_found.
    std::string option(std::string_view name) const {
        return detail::text_of(fby_option, native(), detail::bytes(name));
    }
    /// Writes every unfinished job to a file, as of one instant. The former file stays until the new one is whole.
    /// Throws storage if it cannot be written.
    dump_report dump(std::string_view path) const { return dumped(fby_dump, path); }
    /// Reads a dump and accepts its jobs; restoring twice makes no duplicates. Throws not_found if there is no such
    /// file; corrupt and future_format for one that cannot be used, which is left alone; closed.
    dump_report restore(std::string_view path) const { return dumped(fby_restore, path); }
    /// Returns when everything that was accepted, finished or changed before is on the disk, or as safe as the
    /// engine can make it; gives how safe that is.
    forebay::durability flush() const {
        fby_durability reached = 0;
        detail::call(fby_flush, native(), &reached);
        return static_cast<forebay::durability>(reached);
    }

    // ---- what happens ----

    /// A stream of what happens from now on that matters so much at least, through a buffer of so many events, at most
    /// 1048576. Levels that nobody wants to hear of cost nothing.
    events subscribe(level least = level::info, std::size_t capacity = 1024) const {
        return events(native(), least, capacity);
    }
    /// Has what happens told to a callable from now on, instead of to the former one: anything that can be called with
    /// a const event &. It is called on whichever thread it happened, several at once; what it throws is lost, and it
    /// must not wait for handlers to end. It is destroyed once: when this fails, when another one takes its place, or
    /// when the dispatcher has stopped. Throws closed.
    template <class F>
    void log(level least, F logger) const {
        static_assert(std::is_invocable_v<F &, const event &>, "a logger is called with a const forebay::event &");
        // The library owns it from the call on, also when the call fails.
        detail::call(fby_log, native(), static_cast<fby_level>(least), detail::run_logger<F>,
                     static_cast<void *>(new F(std::move(logger))), detail::drop_logger<F>);
    }
    /// Has nobody told what happens any more, but for streams.
    void remove_logger() const { detail::call(fby_log, native(), FBY_LEVEL_ERROR, nullptr, nullptr, nullptr); }

    // ---- its life ----

    /// Starts the worker threads that run handlers: as many as the option concurrency says. A second call changes
    /// nothing. Throws no_memory if the system refuses a thread, closed.
    void start() const { detail::call(fby_start, native()); }
    /// Waits until no job is queued and none runs. Scheduled jobs are not waited for. Throws timeout; would_deadlock
    /// in a handler.
    void drain(wait_time wait = forever) const { detail::call(fby_drain, native(), wait.native()); }
    /// Stops: hands out no more jobs, waits for running ones, gives the others back to the queue, ends the threads,
    /// destroys the handlers, and writes the dump file if there is one. Without a grace, the option grace is how
    /// long it waits. A second call waits for the first and reports the same. Throws would_deadlock in a handler,
    /// where request_stop is to be used; storage if the dump could not be written, after all else has ended.
    stop_report stop(std::optional<wait_time> grace = {}) const {
        auto report = detail::sized<fby_stop_report>();
        detail::call(fby_stop, native(), detail::or_default(grace), &report);
        return {report.handed_back, report.waiting};
    }
    /// Begins to stop and returns at once: nothing more is handed out, and handlers that ask hear it. Somebody must
    /// still call stop, or destroy the dispatcher.
    void request_stop() const { detail::call(fby_request_stop, native()); }

    /// What time it is for the dispatcher.
    std::chrono::system_clock::time_point now() const {
        std::int64_t ms = 0;
        detail::call(fby_now, native(), &ms);
        return detail::from_ms(ms);
    }
    /// For tests: moves the clock of a dispatcher that was opened with options::manual_clock, and does all that has
    /// become due before it returns: jobs are queued, attempts and leases end, jobs expire. Throws unsupported if
    /// the clock is the system's, invalid for a negative time.
    template <class Rep, class Period>
    void advance(std::chrono::duration<Rep, Period> by) const {
        detail::call(fby_advance, native(), detail::to_ms(by));
    }

    /// The dispatcher of forebay.h, which stays this object's; NULL if this was moved from.
    fby_dispatcher *native() const noexcept { return native_.get(); }

  protected:
    operations() noexcept = default;
    explicit operations(detail::owned<fby_dispatcher> native) noexcept : native_(std::move(native)) {}
    operations(operations &&) noexcept = default;
    operations &operator=(operations &&) noexcept = default;
    ~operations() = default;

    detail::owned<fby_dispatcher> native_;  // NOLINT: of the two classes below

  private:
    job_id again(const job_id &id, const fby_bytes *input, std::string_view type) const {
        fby_id made{};
        detail::call(fby_retry, native(), &id.native(), input, detail::bytes(type), &made);
        return job_id(made);
    }
    template <class F>
    dump_report dumped(F function, std::string_view path) const {
        auto report = detail::sized<fby_dump_report>();
        detail::call(function, native(), detail::bytes(path), &report);
        return {report.jobs, report.known};
    }
};

/// A dispatcher for whoever does not own it: copies are cheap, and keep it neither from stopping nor wait for it.
/// When the owner has stopped it, what needs it running throws closed.
class dispatcher_ref : public operations {
  public:
    /// None: every function throws invalid.
    dispatcher_ref() noexcept = default;
    /// To a dispatcher of forebay.h. One that has C++ handlers must be stopped with fby_stop: its release alone
    /// does not.
    explicit dispatcher_ref(fby_dispatcher *native) noexcept : operations(detail::share(native)) {}
    dispatcher_ref(const dispatcher_ref &other) noexcept : dispatcher_ref(other.native()) {}
    dispatcher_ref(dispatcher_ref &&) noexcept = default;
    dispatcher_ref &operator=(const dispatcher_ref &other) noexcept {
        if (this != &other) native_ = detail::share(other.native());
        return *this;
    }
    dispatcher_ref &operator=(dispatcher_ref &&) noexcept = default;
    ~dispatcher_ref() = default;
};

/// A queue of jobs with everything around it. Moves. Its end is the end of the work: the destructor stops, and
/// waits as long as the option grace says for the handlers that run, so what they refer to must live longer than
/// it. Jobs that still wait are lost with "memory:" and kept in a file.
class dispatcher : public operations {
  public:
    /// Opens one on the engine that a URL names: "memory:" is in this process, "sqlite:/var/lib/app/jobs.db" keeps
    /// every job in that file, which this process then has for itself, and "sqlite:/var/lib/app/jobs.db?shared=true"
    /// shares it with other processes that say so. Options in the URL, as in "memory:?concurrency=4", override
    /// those given.
    ///
    /// Throws unsupported for a URL that names no engine, and for a library of another ABI than this header's;
    /// invalid and not_found for bad options; corrupt, future_format, already_open and storage for a file that
    /// cannot be used, which is left alone; no_memory if no thread can be started.
    explicit dispatcher(std::string_view url, const options &with = {}) : operations(open(url, with)) {}
    dispatcher(dispatcher &&) noexcept = default;
    dispatcher &operator=(dispatcher &&other) noexcept {
        if (this != &other) {
            close();
            native_ = std::move(other.native_);
        }
        return *this;
    }
    ~dispatcher() { close(); }

    /// The same dispatcher, for somebody who does not own it.
    dispatcher_ref ref() const noexcept { return dispatcher_ref(native()); }
    /// As ref().
    operator dispatcher_ref() const noexcept { return ref(); }  // NOLINT: whoever takes one may be given this

  private:
    static detail::owned<fby_dispatcher> open(std::string_view url, const options &with) {
        if (fby_abi_version() != FBY_ABI_VERSION) {
            throw unsupported(FBY_E_UNSUPPORTED, "this program was built for ABI " + std::to_string(FBY_ABI_VERSION) +
                                                     " of libforebay and runs with " +
                                                     std::to_string(fby_abi_version()) + ": build it again");
        }
        fby_dispatcher *opened = nullptr;
        detail::call(fby_open, detail::bytes(url), with.native().get(), &opened);
        return detail::owned<fby_dispatcher>(opened);
    }

    // A stop, not only a release: the handlers refer to the dispatcher. One of its own handlers cannot wait for it,
    // so a thread does.
    void close() noexcept {
        detail::owned<fby_dispatcher> mine = std::move(native_);
        if (mine == nullptr) return;
        if (fby_stop(mine.get(), FBY_DEFAULT, nullptr, nullptr) != FBY_E_WOULD_DEADLOCK) return;
        fby_request_stop(mine.get(), nullptr);
        try {
            std::thread([mine = std::move(mine)] { fby_stop(mine.get(), FBY_DEFAULT, nullptr, nullptr); }).detach();
        } catch (...) {
            // Without a thread nobody can wait. It has been asked to stop, and hands out no more jobs.
        }
    }
};

inline dispatcher_ref job::dispatcher() const noexcept {
    return dispatcher_ref(dispatcher_);
}

/// The version of the library, for example "0.1.0".
inline std::string_view version() noexcept {
    return fby_version_string();
}

}  // namespace forebay

#endif  // FOREBAY_DISPATCHER_HPP

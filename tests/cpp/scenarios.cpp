// The scenario files of tests/scenarios, run in C++ on every engine; their README tells what they say. The runners
// of the other languages have the same parts.
#include "harness.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <deque>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

namespace {

using nlohmann::json;
namespace fs = std::filesystem;

// Where the clock stands at the beginning, in milliseconds since 1970.
constexpr std::int64_t start_ms = 1'700'000'000'000;
constexpr std::string_view nobody = "00000000-0000-7000-8000-000000000001";

// What a file says cannot be done.
struct mistake : std::runtime_error {
    using std::runtime_error::runtime_error;
};

std::string in_quotes(std::string_view text) { return '"' + std::string(text) + '"'; }

// ---- fields ----------------------------------------------------------------------------------------------

// The fields of a step, taken out one by one: what is left over is not known to this runner.
class fields {
  public:
    explicit fields(json of) : of_(std::move(of)) {}

    bool has(const std::string &name) const { return of_.contains(name); }
    template <class T>
    std::optional<T> take(const std::string &name) {
        const auto at = of_.find(name);
        if (at == of_.end()) return std::nullopt;
        T value = at->get<T>();
        of_.erase(at);
        return value;
    }
    template <class T>
    T take(const std::string &name, T otherwise) {
        return take<T>(name).value_or(std::move(otherwise));
    }
    template <class T = std::string>
    T need(const std::string &name) {
        if (auto value = take<T>(name)) return *std::move(value);
        throw mistake("field " + in_quotes(name) + " is missing");
    }
    std::optional<milliseconds> ms(const std::string &name) {
        if (const auto value = take<std::int64_t>(name)) return milliseconds(*value);
        return std::nullopt;
    }
    std::string queue() { return take<std::string>("queue", "default"); }
    void end() const {
        if (!of_.empty()) throw mistake("unknown field " + in_quotes(of_.begin().key()));
    }

  private:
    json of_;
};

using texts = std::vector<std::string>;
using named = std::map<std::string, std::string>;

// ---- answers ---------------------------------------------------------------------------------------------

// FBY_E_FULL is "full".
json failure(const forebay::error &e) {
    std::string name = std::string(e.name()).substr(6);
    for (char &c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return {{"error", name}, {"message", e.what()}};
}

json maybe(std::string_view text) { return text.empty() ? json() : json(std::string(text)); }

json attempts(std::uint32_t most) { return most == forebay::unlimited ? json("unlimited") : json(most); }

// Text, or null if it is no UTF-8.
json utf8(std::string_view bytes) {
    try {
        const json text = std::string(bytes);
        (void)text.dump();
        return text;
    } catch (const json::exception &) {
        return {};
    }
}

// What a payload is, in the ways that scenarios look at it.
json told_payload(std::string_view bytes, std::string_view type) {
    std::string hex;
    for (const char c : bytes.substr(0, 64)) {
        constexpr std::string_view digits = "0123456789abcdef";
        const auto byte = static_cast<unsigned char>(c);
        (hex += digits[byte >> 4]) += digits[byte & 15];
    }
    return {{"payload", utf8(bytes)},
            {"hex", hex},
            {"size", bytes.size()},
            {"content_type", std::string(type)},
            {"json", type == "application/json" ? json::parse(bytes) : json()}};
}

std::string_view name_of(forebay::durability level) {
    constexpr std::array<std::string_view, 4> names = {"?", "memory", "os", "disk"};
    return names.at(static_cast<std::size_t>(level));
}

json name_of(forebay::shed rule) {
    constexpr std::array<std::string_view, 7> names = {"",           "newest",  "oldest", "lowest",
                                                       "coalesced", "sampled", "delayed"};
    if (rule == forebay::shed::none) return {};
    return "shed_" + std::string(names.at(static_cast<std::size_t>(rule)));
}

json name_of(forebay::stop_reason reason) {
    constexpr std::array<std::string_view, 5> names = {"", "cancelled", "timed_out", "lease_lost", "stopping"};
    return maybe(names.at(static_cast<std::size_t>(reason)));
}

// ---- what is pushed and answered -------------------------------------------------------------------------

struct carried {
    std::string bytes, type;
    bool given = true;
};

// What a push, a retry or a result carries.
carried payload_of(fields &f) {
    if (f.has("json")) return {f.need<json>("json").dump(), "application/json"};
    if (const auto size = f.take<std::size_t>("size")) return {std::string(*size, 'x'), {}};
    if (const auto hex = f.take<std::string>("hex")) {
        std::string bytes;
        for (std::size_t i = 0; i + 1 < hex->size(); i += 2) {
            bytes += static_cast<char>(std::stoi(hex->substr(i, 2), nullptr, 16));
        }
        return {bytes, {}};
    }
    const bool given = f.has("payload");
    return {f.take<std::string>("payload", {}), {}, given};
}

forebay::outcome outcome_of(fields &f) {
    const auto verdict = f.need("verdict");
    const auto error = f.take<std::string>("error", {});
    const auto after = f.ms("after_ms");
    if (auto text = f.take<std::string>("result")) return forebay::done(*text);
    const carried result = payload_of(f);
    if (verdict == "done") return forebay::done(result.bytes, result.type);
    if (verdict == "failed") return forebay::failed(error);
    if (verdict == "fatal") return forebay::fatal(error);
    if (verdict == "retry") return after ? forebay::retry_after(*after, error) : forebay::retry(error);
    if (verdict == "snooze") return forebay::snooze(after.value_or(milliseconds(0)));
    if (verdict == "rate_limited") return after ? forebay::rate_limited(*after) : forebay::rate_limited();
    if (verdict == "cancelled") return forebay::cancelled(error);
    if (verdict == "throw") throw std::runtime_error(error);
    throw mistake("unknown verdict " + in_quotes(verdict));
}

forebay::kind_options kind_options_of(const named &options) {
    forebay::kind_options all;
    for (const auto &[name, value] : options) all.set(name, value);
    return all;
}

// ---- the stage -------------------------------------------------------------------------------------------

// A folder of its own, removed with everything in it.
struct scratch {
    scratch() {
        std::string path = fs::exists("/dev/shm") ? "/dev/shm/forebay-scenario-XXXXXX" : "/tmp/forebay-scenario-XXXXXX";
        CHECK(mkdtemp(path.data()) != nullptr);
        folder = path;
    }
    scratch(const scratch &) = delete;
    scratch &operator=(const scratch &) = delete;
    ~scratch() { fs::remove_all(folder); }

    fs::path folder;
};

// One scenario on one engine: the dispatcher, and what the labels of the file stand for.
class stage {
  public:
    stage(std::string url, named options) : url_(std::move(url)), options_(std::move(options)) { open(url_); }

    json step(const std::string &name, fields &f) {
        static const std::map<std::string, json (stage::*)(fields &)> steps = {
            {"push", &stage::push}, {"push_many", &stage::push_many}, {"next", &stage::next},
            {"complete", &stage::complete}, {"extend", &stage::extend}, {"stop_reason", &stage::stop_reason},
            {"cancel", &stage::cancel}, {"retry", &stage::retry}, {"signal", &stage::signal},
            {"state", &stage::state}, {"get", &stage::get}, {"result", &stage::result},
            {"explain", &stage::explain}, {"list", &stage::list}, {"pause", &stage::pause},
            {"resume", &stage::resume}, {"purge", &stage::purge}, {"len", &stage::len},
            {"pressure", &stage::pressure}, {"stats", &stage::stats}, {"metrics", &stage::metrics},
            {"explain_queue", &stage::explain_queue}, {"configure_queue", &stage::configure_queue},
            {"queue_options", &stage::queue_options}, {"declare", &stage::declare}, {"forward", &stage::forward}, {"handle", &stage::handle},
            {"start", &stage::start}, {"drain", &stage::drain}, {"dump", &stage::dump},
            {"restore", &stage::restore}, {"cut", &stage::cut}, {"flush", &stage::flush},
            {"request_stop", &stage::request_stop}, {"stop", &stage::stop}, {"release", &stage::release},
            {"open", &stage::open_again}, {"advance", &stage::advance},
        };
        const auto found = steps.find(name);
        if (found == steps.end()) throw mistake("unknown step " + in_quotes(name));
        return (this->*found->second)(f);
    }

  private:
    std::string filled(std::string text) const {
        const auto at = text.find("{scratch}");
        return at == std::string::npos ? text : text.replace(at, 9, scratch_.folder.string());
    }

    void open(const std::string &url) {
        forebay::options options;
        options.set("clock", "manual(" + std::to_string(start_ms + advanced_.count()) + ")");
        // A dispatcher that goes stops, and would wait for what a scenario leaves running.
        options.set("grace", "0s");
        for (const auto &[name, value] : options_) options.set(name, filled(value));
        // The one that is open stays if this fails.
        forebay::dispatcher opened(filled(url), options);
        d_ = std::move(opened);
    }

    forebay::dispatcher &d() {
        if (!d_) throw mistake("no dispatcher is open");
        return *d_;
    }
    forebay::job_id id(const std::string &label) const {
        const auto known = jobs_.find(label);
        if (known != jobs_.end()) return known->second;
        if (label == "nobody") return forebay::job_id::parse(nobody);
        throw mistake("no job is called " + in_quotes(label));
    }
    forebay::pending &delivery(fields &f) {
        const auto label = f.need("job");
        const auto known = deliveries_.find(label);
        if (known == deliveries_.end()) throw mistake("no delivery is called " + in_quotes(label));
        return *known->second;
    }
    std::string label(const forebay::job_id &id) const {
        const auto of_it = [&](const auto &known) { return known.second == id; };
        const auto known = std::find_if(jobs_.begin(), jobs_.end(), of_it);
        return known == jobs_.end() ? "?" : known->first;
    }
    void name(const std::optional<std::string> &label, const forebay::job_id &id) {
        if (label && this->label(id) == "?") jobs_.emplace(*label, id);
    }
    std::chrono::system_clock::time_point at(milliseconds after) const {
        return std::chrono::system_clock::time_point(milliseconds(start_ms) + after);
    }

    // ---- jobs to be pushed, and deliveries

    forebay::new_job job(fields &f, std::optional<std::string> &label) {
        forebay::push_options how;
        label = f.take<std::string>("as");
        if (auto value = f.take<std::string>("queue")) how.queue(*value);
        if (auto value = f.take<std::string>("key")) how.key(*value);
        if (auto value = f.take<std::string>("concurrency_key")) how.concurrency_key(*value);
        if (auto value = f.take<std::string>("retry")) how.retry(*value);
        if (auto value = f.take<int>("priority")) how.priority(*value);
        if (auto value = f.ms("delay_ms")) how.delay(*value);
        if (auto value = f.ms("at_ms")) how.run_at(at(advanced_ + *value));
        if (auto value = f.ms("timeout_ms")) how.timeout(*value);
        if (auto value = f.ms("expires_ms")) how.expires_after(*value);
        if (auto value = f.take<json>("max_attempts")) {
            how.max_attempts(value->is_string() ? forebay::unlimited : value->get<std::uint32_t>());
        }
        for (const auto &[header, value] : f.take<std::vector<std::pair<std::string, std::string>>>("headers", {})) {
            how.header(header, value);
        }
        for (const auto &token : f.take<texts>("waits_for", {})) how.waits_for(token);
        if (auto value = f.take<std::string>("durability")) {
            for (const auto level : {forebay::durability::memory, forebay::durability::os, forebay::durability::disk}) {
                if (name_of(level) == *value) how.durable(level);
            }
        }
        if (auto value = f.take<std::string>("id")) {
            const auto known = jobs_.find(*value);
            const auto id = known == jobs_.end() ? forebay::job_id::parse(*value) : known->second;
            name(label, id);
            how.id(id);
        }
        const carried payload = payload_of(f);
        if (!payload.type.empty()) how.content_type(payload.type);
        return {f.take<std::string>("kind", "k"), payload.bytes, how};
    }
    std::vector<forebay::new_job> batch(fields &f, const std::string &field,
                                        std::vector<std::optional<std::string>> &labels) {
        std::vector<forebay::new_job> jobs;
        for (const json &each : f.take<std::vector<json>>(field, {})) {
            fields of(each);
            jobs.push_back(job(of, labels.emplace_back()));
            of.end();
        }
        return jobs;
    }
    json pushed(const forebay::pushed &one, const std::optional<std::string> &label) {
        name(label, one.id);
        return {{"id", this->label(one.id)},
                {"created", one.created},
                {"shed", name_of(one.shed)},
                {"durability", std::string(name_of(one.durability))}};
    }
    json delivered(const forebay::delivery &job, const std::optional<std::string> &label) {
        name(label, job.id());
        const auto known = this->label(job.id());
        json headers = json::array();
        for (const auto &[header, value] : job.headers()) headers.push_back({std::string(header), std::string(value)});
        json told = told_payload(job.payload(), job.content_type());
        told.update({{"id", known},
                     {"kind", std::string(job.kind())},
                     {"queue", std::string(job.queue())},
                     {"attempt", job.attempt()},
                     {"max_attempts", attempts(job.max_attempts())},
                     {"priority", job.priority()},
                     {"key", maybe(job.key())},
                     {"concurrency_key", maybe(job.concurrency_key())},
                     {"headers", headers},
                     {"fence", job.fence()},
                     {"due_ms", nullptr}});
        if (const auto due = job.due()) {
            told["due_ms"] = std::chrono::duration_cast<milliseconds>(*due - at(advanced_)).count();
        }
        // One that is let go has failed, so every one is kept.
        forebay::pending &held = held_.emplace_back(job.defer());
        deliveries_[known] = &held;
        if (label) deliveries_[*label] = &held;
        return told;
    }

    // ---- pushing and working

    json push(fields &f) {
        const auto wait = f.ms("wait_ms");
        std::optional<std::string> label;
        const std::vector<forebay::new_job> jobs = {job(f, label)};
        const auto report = d().push_told(jobs, waiting(wait));
        if (report.refused) return failure(*report.refused);
        return pushed(report.accepted.at(0), label);
    }
    static std::optional<forebay::wait_time> waiting(std::optional<milliseconds> wait) {
        return wait ? std::optional<forebay::wait_time>(*wait) : std::nullopt;
    }
    json push_many(fields &f) {
        const auto wait = f.ms("wait_ms");
        std::vector<std::optional<std::string>> labels;
        const auto jobs = batch(f, "jobs", labels);
        const auto report = d().push_told(jobs, waiting(wait));
        json answer = report.refused ? failure(*report.refused) : json::object();
        json all = json::array();
        for (std::size_t i = 0; i < report.accepted.size(); ++i) all.push_back(pushed(report.accepted[i], labels[i]));
        answer["accepted"] = report.accepted.size();
        answer["jobs"] = all;
        return answer;
    }
    json next(fields &f) {
        forebay::consumer_options what;
        for (const auto &kind : f.take<texts>("kinds", {})) what.kind(kind);
        for (const auto &queue : f.take<texts>("queues", {})) what.queue(queue);
        if (const auto lease = f.ms("lease_ms")) what.lease(*lease);
        const auto label = f.take<std::string>("as");
        const auto max = f.take<std::size_t>("max", 1);
        const auto wait = f.ms("wait_ms").value_or(milliseconds(0));
        forebay::batch found;
        if (!d().consume(what).poll(found, max, wait)) {
            return {{"error", "closed"}, {"message", "the poll says that the dispatcher stops"}};
        }
        json ids = json::array(), jobs = json::array();
        for (const forebay::delivery &each : found) {
            jobs.push_back(delivered(each, label));
            ids.push_back(jobs.back()["id"]);
        }
        return {{"ids", ids}, {"jobs", jobs}};
    }
    json complete(fields &f) {
        auto &job = delivery(f);
        std::vector<std::optional<std::string>> labels;
        const auto then = batch(f, "then", labels);
        const auto outcome = outcome_of(f);
        if (then.empty()) {
            job.finish(outcome);
        } else {
            job.finish_and_push(outcome, then);
        }
        return json::object();
    }
    json extend(fields &f) {
        auto &job = delivery(f);
        job.extend(milliseconds(f.need<std::int64_t>("lease_ms")));
        return json::object();
    }
    json stop_reason(fields &f) { return {{"reason", name_of(delivery(f).stop_reason())}}; }

    // ---- single jobs

    json cancel(fields &f) { return {{"state", std::string(to_string(d().cancel(id(f.need("job")))))}}; }
    json retry(fields &f) {
        const auto old = id(f.need("job"));
        const auto label = f.take<std::string>("as");
        const carried input = payload_of(f);
        const auto again = input.given ? d().retry(old, input.bytes) : d().retry(old);
        name(label, again);
        return {{"id", this->label(again)}};
    }
    json signal(fields &f) {
        const auto job = id(f.need("job"));
        d().signal(job, f.need("token"));
        return json::object();
    }
    json state(fields &f) {
        json states = json::object();
        for (const auto &label : f.need<texts>("jobs")) states[label] = std::string(to_string(d().state(id(label))));
        return states;
    }
    static void tell_failure(json &told, const json &why) {
        told["failure_kind"] = why.is_null() ? json() : why.at("kind");
        told["failure"] = why.is_null() ? json() : why.at("message");
    }
    json get(fields &f) {
        json told = json::parse(d().get(id(f.need("job"))).json());
        told["id"] = label(forebay::job_id::parse(told.at("id").get<std::string>()));
        told["waits_for"] = told.at("waits");
        const json timeout = told.at("timeout_us"), most = told.at("max_attempts");
        told["timeout_ms"] = timeout.is_null() ? json() : json(timeout.get<std::int64_t>() / 1000);
        if (!most.is_null()) told["max_attempts"] = attempts(most.get<std::uint32_t>());
        const auto due = told.at("run_at_us").get<std::int64_t>() / 1000 - start_ms - advanced_.count();
        told["due_ms"] = std::max(due, std::int64_t{0});
        tell_failure(told, told.at("error"));
        told.erase("error");
        for (json &attempt : told.at("history")) tell_failure(attempt, json(attempt.at("failure")));
        return told;
    }
    json result(fields &f) {
        const auto result = d().wait(id(f.need("job")), milliseconds(0));
        json told = told_payload(result.view(), result.content_type());
        told["result"] = told["payload"];
        return told;
    }
    json explain(fields &f) { return {{"text", d().explain(id(f.need("job")))}}; }
    json list(fields &f) {
        forebay::filter what;
        if (auto value = f.take<std::string>("queue")) what.queue(*value);
        if (auto value = f.take<std::string>("kind")) what.kind(*value);
        if (auto value = f.take<std::string>("key")) what.key(*value);
        if (auto value = f.ms("created_from_ms")) what.created_from(at(*value));
        if (auto value = f.ms("created_before_ms")) what.created_before(at(*value));
        for (const auto &name : f.take<texts>("states", {})) what.state(state_called(name));
        const auto limit = f.take<std::uint32_t>("limit", 20);
        const auto after = f.take<std::string>("after");
        // Pages follow each other by themselves here: this one is cut out of what they show together.
        auto all = d().list(what.page(limit));
        json ids = json::array();
        bool there = !after;
        for (const auto &job : all) {
            if (ids.size() == limit) break;
            if (there) ids.push_back(label(job.id()));
            there |= after && job.id() == id(*after);
        }
        return {{"ids", ids}, {"total", all.total()}};
    }
    static forebay::state state_called(const std::string &name) {
        for (fby_state code = FBY_STATE_BLOCKED; code <= FBY_STATE_SHED; ++code) {
            if (to_string(static_cast<forebay::state>(code)) == name) return static_cast<forebay::state>(code);
        }
        throw mistake("no state " + in_quotes(name));
    }

    // ---- queues and kinds

    json pause(fields &f) { return d().pause(f.queue()), json::object(); }
    json resume(fields &f) { return d().resume(f.queue()), json::object(); }
    json purge(fields &f) { return {{"count", d().purge(f.queue())}}; }
    json len(fields &f) { return {{"len", d().size(f.queue())}}; }
    json pressure(fields &f) { return {{"pressure", d().pressure(f.queue())}}; }
    json stats(fields &f) {
        const auto queue = f.queue();
        const json all = json::parse(d().stats());
        for (json counts : all.at("queues")) {
            if (counts.at("name") != queue) continue;
            counts.update(json(counts.at("totals")));
            return counts;
        }
        throw mistake("no queue is called " + in_quotes(queue));
    }
    json metrics(fields &) { return {{"text", d().stats_prometheus()}}; }
    json explain_queue(fields &f) { return {{"text", d().explain_queue(f.queue())}}; }
    json forward(fields &f) {
        const auto queue = f.queue(), url = filled(f.need("url")), to = f.take<std::string>("to_queue", {});
        std::string options;
        for (const auto &[name, value] : f.take<named>("options", {})) {
            options.append(options.empty() ? "" : "&").append(name).append("=").append(value);
        }
        return d().forward(queue, url, to, options), json::object();
    }
    json configure_queue(fields &f) {
        const auto queue = f.queue();
        for (const auto &[name, value] : f.need<named>("options")) d().configure_queue(queue, name, value);
        return json::object();
    }
    json queue_options(fields &f) { return json::parse(d().queue_options(f.queue())); }
    json declare(fields &f) {
        const auto kind = f.need("kind");
        d().declare(kind, kind_options_of(f.need<named>("options")));
        return json::object();
    }

    // ---- the dispatcher

    // A handler that says for each attempt what the file has for it.
    json handle(fields &f) {
        const auto kind = f.need("kind");
        const auto options = kind_options_of(f.take<named>("options", {}));
        auto answers = f.need<std::vector<json>>("answers");
        const auto handler = [answers = std::move(answers)](const forebay::job &job) {
            fields answer(answers.at(std::min<std::size_t>(answers.size(), job.attempt()) - 1));
            auto outcome = outcome_of(answer);
            answer.end();
            return outcome;
        };
        d().handle(kind, handler, options);
        return json::object();
    }
    json start(fields &) { return d().start(), json::object(); }
    json drain(fields &f) { return d().drain(f.ms("wait_ms").value_or(soon)), json::object(); }
    std::string path(fields &f) { return (scratch_.folder / f.need("file")).string(); }
    json dump(fields &f) { return {{"jobs", d().dump(path(f)).jobs}}; }
    json restore(fields &f) { return {{"jobs", d().restore(path(f)).jobs}}; }
    json cut(fields &f) {
        const fs::path file = path(f);
        fs::resize_file(file, fs::file_size(file) / 2);
        return json::object();
    }
    json flush(fields &) { return {{"durability", std::string(name_of(d().flush()))}}; }
    json request_stop(fields &) { return d().request_stop(), json::object(); }
    json stop(fields &f) {
        const auto report = d().stop(f.ms("grace_ms").value_or(milliseconds(0)));
        return {{"handed_back", report.handed_back}, {"waiting", report.waiting}};
    }
    json release(fields &) { return d_.reset(), json::object(); }
    json open_again(fields &f) {
        if (auto options = f.take<named>("options")) options_ = *options;
        return open(f.take<std::string>("url", url_)), json::object();
    }
    json advance(fields &f) {
        const milliseconds by(f.need<std::int64_t>("ms"));
        d().advance(by);
        advanced_ += by;
        return json::object();
    }

    scratch scratch_;
    std::string url_;
    named options_;
    milliseconds advanced_{0};
    std::optional<forebay::dispatcher> d_;
    std::map<std::string, forebay::job_id> jobs_;
    std::deque<forebay::pending> held_;
    std::map<std::string, forebay::pending *> deliveries_;
};

// ---- what is expected ------------------------------------------------------------------------------------

std::optional<std::string> differs(const std::string &at, const json &wanted, const json *found);

bool keeps(const std::string &rule, const json &value, const json &found) {
    if (rule == "$not") return differs("", value, &found).has_value();
    if (rule == "$from") return found.is_number() && value.get<double>() <= found.get<double>();
    if (rule == "$to") return found.is_number() && found.get<double>() <= value.get<double>();
    if (rule != "$contains" || !found.is_string()) return false;
    const auto text = found.get<std::string>();
    return std::all_of(value.begin(), value.end(), [&](const json &part) {
        return text.find(part.get<std::string>()) != std::string::npos;
    });
}

// What does not fit, at which place of the answer.
std::optional<std::string> differs(const std::string &at, const json &wanted, const json *found) {
    const std::string here = at + " is " + (found ? found->dump() : "missing") + ", not " + wanted.dump();
    if (found == nullptr) return here;
    const bool rules = wanted.is_object() && std::any_of(wanted.items().begin(), wanted.items().end(), [](const auto &one) {
        return one.key().substr(0, 1) == "$";
    });
    if (rules) {
        for (const auto &[rule, value] : wanted.items()) {
            if (!keeps(rule, value, *found)) return here;
        }
    } else if (wanted.is_object() && found->is_object()) {
        for (const auto &[name, value] : wanted.items()) {
            const auto member = found->find(name);
            const json *inside = member == found->end() ? nullptr : &*member;
            if (auto difference = differs(at + "." + name, value, inside)) return difference;
        }
    } else if (wanted.is_array() && found->is_array() && wanted.size() == found->size()) {
        for (std::size_t i = 0; i < wanted.size(); ++i) {
            if (auto difference = differs(at + "[" + std::to_string(i) + "]", wanted[i], &(*found)[i])) return difference;
        }
    } else if (wanted != *found) {
        return here;
    }
    return std::nullopt;
}

// ---- running ---------------------------------------------------------------------------------------------

// Does one step: what is wrong.
std::optional<std::string> run_step(stage &on, const json &step) {
    fields f(step);
    const auto name = f.need("do");
    const auto wanted = f.take<json>("expect", json::object());
    json answer;
    try {
        try {
            answer = on.step(name, f);
        } catch (const forebay::error &e) {
            answer = failure(e);
        }
        f.end();
    } catch (const mistake &m) {
        return "(" + name + "): " + m.what();
    }
    if (answer.contains("error") && !wanted.contains("error")) {
        return "(" + name + "): failed with " + answer["error"].get<std::string>() + ": " + answer["message"].dump();
    }
    const auto difference = differs("answer", wanted, &answer);
    if (!difference) return std::nullopt;
    return "(" + name + "): " + *difference + "; the answer was " + answer.dump();
}

// Runs one scenario on one engine: what is wrong.
std::optional<std::string> run(const json &scenario, const json &place) {
    stage on(place.at("url").get<std::string>(), scenario.value("open", named()));
    const json &steps = scenario.at("steps");
    for (std::size_t i = 0; i < steps.size(); ++i) {
        if (auto fault = run_step(on, steps[i])) return "step " + std::to_string(i + 1) + " " + *fault;
    }
    return std::nullopt;
}

// Whether the head of a file is as it must be.
bool is_whole(const json &scenario, const std::string &name) {
    static const std::set<std::string> known = {"scenario", "shows", "text", "needs", "open", "fails", "steps"};
    for (const auto &[field, value] : scenario.items()) {
        if (known.count(field) == 0 || value.empty()) return false;
    }
    return scenario.value("scenario", "") == name && scenario.contains("text") && scenario.contains("steps") &&
           scenario.contains("shows") != scenario.contains("fails");
}

// forebay.hpp has no stream of events yet.
bool wants_events(const json &scenario) {
    const json &steps = scenario.at("steps");
    return std::any_of(steps.begin(), steps.end(), [](const json &step) { return step.value("do", "") == "subscribe"; });
}

// Runs a file on every engine that has what it needs: how many those were. Faults are added.
std::size_t run_file(const fs::path &path, const json &places, texts &faults) {
    std::ifstream file(path);
    const json scenario = json::parse(file);
    const auto name = path.stem().string();
    if (!is_whole(scenario, name)) {
        faults.push_back(name + " is no scenario of that name");
        return 0;
    }
    if (wants_events(scenario)) return 0;
    std::size_t runs = 0;
    for (const json &place : places) {
        const auto has = place.at("has").get<std::set<std::string>>();
        const auto needs = scenario.value("needs", texts());
        if (!std::all_of(needs.begin(), needs.end(), [&](const auto &need) { return has.count(need) > 0; })) continue;
        ++runs;
        const auto fault = run(scenario, place);
        const auto fails = scenario.value("fails", texts());
        const auto told = [&](const auto &part) { return fault && fault->find(part) != std::string::npos; };
        if (fails.empty() ? !fault : std::all_of(fails.begin(), fails.end(), told)) continue;
        faults.push_back(name + " on " + place.at("engine").get<std::string>() + ": " +
                         fault.value_or("it should have failed"));
    }
    if (runs == 0) faults.push_back(name + ": no engine has what it needs");
    return runs;
}

void run_folder(const fs::path &folder) {
    std::ifstream listed("../engines.json");
    const json places = json::parse(listed);
    std::size_t files = 0, runs = 0;
    texts faults;
    for (const auto &entry : fs::directory_iterator(folder)) {
        if (entry.path().extension() != ".json") continue;
        ++files;
        runs += run_file(entry.path(), places, faults);
    }
    for (const auto &fault : faults) std::fprintf(stderr, "\n%s\n", fault.c_str());
    std::printf("%zu scenarios, %zu runs ... ", files, runs);
    CHECK(files > 0 && faults.empty());
}

void every_scenario_on_every_engine() {
    const char *folder = std::getenv("FOREBAY_SCENARIOS");
    run_folder(folder == nullptr ? "../scenarios" : folder);
}

// What is wrong in them is found out, at the step where it is.
void every_wrong_scenario_fails() {
    run_folder("../scenarios/wrong");
}

const test_case cases[] = {
    CASE(every_scenario_on_every_engine),
    CASE(every_wrong_scenario_fails),
};

}  // namespace

SUITE(scenarios);

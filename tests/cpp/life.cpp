// A dispatcher's life, its queues and its jobs: what the rest of the functions do.
#include "harness.hpp"

#include <set>
#include <sstream>
#include <unordered_set>

namespace {

using namespace std::chrono_literals;
using forebay::job;

void errors_have_a_class_and_a_code() {
    using forebay::dispatcher;
    const std::string path = scratch("errors.db"), text = scratch("errors.txt");
    THROWN(forebay::unsupported, dispatcher("carrier-pigeon:"));
    THROWN(forebay::not_found, dispatcher("memory:?concurency=1"));
    THROWN(forebay::invalid, dispatcher("memory:?concurrency=-1"));
    THROWN(forebay::not_found, dispatcher("memory:", forebay::options{{"concurency", "1"}}));
    THROWN(forebay::invalid, dispatcher("memory:", forebay::options().set("grace", "soon")));
    THROWN(forebay::storage, dispatcher("sqlite:/no/such/folder/jobs.db"));
    const dispatcher owner("sqlite:" + path);
    THROWN(forebay::already_open, dispatcher("sqlite:" + path));
    std::FILE *file = std::fopen(text.c_str(), "w");
    CHECK(file != nullptr && std::fputs("no dump", file) >= 0 && std::fclose(file) == 0);
    THROWN(forebay::corrupt, owner.restore(text));
    THROWN(forebay::not_found, owner.restore("/no/such/file"));
    THROWN(forebay::storage, owner.dump("/no/such/folder/dump"));
    THROWN(forebay::not_found, owner.explain_queue("nobody"));
    THROWN(forebay::not_found, owner.configure_queue("q", "no_such_option", "1"));

    const dispatcher d("memory:?unknown_kinds=reject");
    const auto e = THROWN(forebay::unknown_kind, d.push("k"));
    CHECK(e.code() == FBY_E_UNKNOWN_KIND && std::string_view(e.name()) == "FBY_E_UNKNOWN_KIND" && contains(e.what(), "k"));
    THROWN(forebay::not_found, d.get(forebay::job_id()));
    THROWN(forebay::not_found, d.wait(forebay::job_id()));
    THROWN(forebay::not_found, d.cancel(forebay::job_id()));
    THROWN(forebay::unsupported, d.advance(1s));
    // A code that this header does not know is an error without a class of its own.
    CHECK(THROWN(forebay::error, forebay::detail::check(99, nullptr)).code() == 99);
    CHECK(THROWN(forebay::error, forebay::detail::check(FBY_E_PANIC, nullptr)).code() == FBY_E_PANIC);
    remove_files(path);
    remove_files(text);
}

void the_options_are_the_dispatchers() {
    auto how = forebay::options{{"concurrency", "1"}}.capacity(2).on_full("reject").max_attempts(forebay::unlimited)
                   .retry("constant(1ms)").timeout(250ms).grace(1min).concurrency(3);
    const forebay::dispatcher d("memory:", how), same("memory:", std::move(how));
    CHECK(d.option("concurrency") == "3" && same.option("grace") == "1m" && d.option("timeout") == "250ms");
    THROWN(forebay::not_found, d.option("no such"));
    d.push("k");
    d.push("k");
    THROWN(forebay::full, d.push("k"));
}

void a_job_is_looked_after() {
    const auto d = open();
    const auto first = d.push("k", "1"), second = d.push("k", "2");
    CHECK(contains(d.explain(first), "queued") && d.size("default") == 2);
    CHECK(d.cancel(first) == forebay::state::cancelled && forebay::is_final(d.state(first)));
    const auto e = THROWN(forebay::timeout, d.wait(second, 0ms));
    CHECK(e.code() == FBY_E_TIMEOUT);
    THROWN(forebay::invalid, d.retry(second));
    d.handle("k", [](const job &j) { return j.payload(); });
    d.start();
    CHECK(d.wait(second, soon).view() == "2");
    const auto again = d.retry(first);
    CHECK(d.wait(again, soon).view() == "1" && d.retry(first) == again);
    THROWN(forebay::conflict, d.retry(first, "another"));
    CHECK(d.wait_for<int>(d.retry(second, 3), soon) == 3);
    CHECK(to_string(d.state(again)) == "succeeded" && !d.get(again).error());
    CHECK(d.get(first).state() == "cancelled" && d.get(again).attempt() == 1 && !d.get(first).key());
}

void a_queue_is_looked_after() {
    const auto d = open();
    d.configure_queue("q", {{"capacity", "4"}, {"rate", "100/s"}});
    CHECK(contains(d.queue_options("q"), "\"capacity\":\"4\""));
    CHECK(d.patience("q").native() == 0);
    d.configure_queue("q", "on_full", "block(5s)");
    CHECK(d.patience("q").native() == 5000);
    d.pause("q");
    d.push_many("k", std::vector<std::string>(3), forebay::push_options().queue("q"));
    CHECK(d.pressure("q") == 0.75 && d.size("q") == 3 && d.pressure("other") == 0);
    CHECK(contains(d.explain_queue("q"), "paused"));
    auto c = d.consume();
    forebay::batch jobs;
    CHECK(c.poll(jobs, 1, 0s) && jobs.empty());
    d.resume("q");
    CHECK(c.poll(jobs, 1, 0s) && jobs.size() == 1);
    CHECK(d.purge("q") == 2 && d.size("q") == 0);
    CHECK(contains(d.stats(), "\"cancelled\":2") && contains(d.stats_prometheus(), "forebay_"));
}

void a_listing_asks_for_pages_as_it_goes() {
    const auto d = open();
    std::set<forebay::job_id> pushed;
    for (int i = 0; i < 25; ++i) pushed.insert(d.push(i % 2 ? "odd" : "even", "", forebay::push_options().queue("q")));
    auto all = d.list(forebay::filter().queue("q").page(10));
    CHECK(all.total() == 25);
    std::set<forebay::job_id> listed;
    for (int round = 0; round < 2; ++round) {
        listed.clear();
        forebay::job_id former;
        for (const auto &info : all) {
            CHECK(!former || info.id() < former);
            former = info.id();
            listed.insert(info.id());
        }
        CHECK(listed == pushed);
    }
    int odd = 0;
    for (const auto &info : d.list(forebay::filter().kind("odd").state(forebay::state::queued).page(5))) {
        CHECK(info.kind() == "odd" && info.state() == "queued");
        // A full page to the last job, and a loop that stops early.
        if (++odd == 10) break;
    }
    CHECK(odd == 10 && d.list(forebay::filter().key("none")).begin() == d.list().end());
    CHECK(d.list(forebay::filter().state(forebay::state::failed)).total() == 0);
    CHECK(d.list(forebay::filter().created_before(d.now() + 1h).created_from(d.now() - 1h)).total() == 25);
    CHECK(d.list(forebay::filter().created_from(d.now() + 1h)).total() == 0);
    THROWN(forebay::invalid, d.list(forebay::filter().page(100000)));
}

void what_was_said_is_read_as_it_was_said() {
    const auto d = open();
    const std::string said = "\"quoted\\\" {[,]} \xc3\xa4 \xf0\x9f\x8c\x8a \t\x01 end";
    d.handle("k", [&said](const job &) { throw std::runtime_error(said); });
    d.start();
    const auto id = d.push("k", "", forebay::push_options().key("a \"key\" \\").max_attempts(1));
    THROWN(forebay::job_failed, d.wait(id, soon));
    CHECK(d.get(id).error() == said && d.get(id).key() == "a \"key\" \\");
    CHECK((*d.list().begin()).error() == said && d.get(id).member("no such").empty());
    CHECK(forebay::detail::json_text("\"\\u00e4\\ud83c\\udf0a\\/\\b\"") == "\xc3\xa4\xf0\x9f\x8c\x8a/\b");
}

void unfinished_jobs_are_dumped_and_restored() {
    const std::string path = scratch("dump");
    const auto d = open();
    d.push_many("k", std::vector<std::string>{"1", "2"});
    CHECK(d.dump(path).jobs == 2);
    const auto other = open();
    other.push("k");
    const auto first = other.restore(path), second = other.restore(path);
    CHECK(first.jobs == 2 && first.known == 0 && second.jobs == 0 && second.known == 2 && other.size("default") == 3);
    remove_files(path);
}

void a_stop_says_what_is_left() {
    const auto d = open();
    gate running;
    d.handle("k", [&running](const job &j) {
        running.pass();
        while (!j.stopping()) std::this_thread::yield();
        forebay::pending(j.defer()).fail("interrupted");
    });
    d.start();
    for (int i = 0; i < 3; ++i) d.push("k");
    running.await(2);
    THROWN(forebay::timeout, d.drain(0ms));
    d.request_stop();
    const auto report = d.stop(soon), same = d.stop(0ms);
    CHECK(report.handed_back == 0 && report.waiting == same.waiting && report.waiting >= 1);
    THROWN(forebay::closed, d.push("k"));
    THROWN(forebay::closed, d.pause("q"));
}

void a_file_keeps_what_was_pushed() {
    const std::string path = scratch("jobs.db"), url = "sqlite:" + path;
    forebay::job_id id;
    {
        const forebay::dispatcher d(url);
        const auto report = d.push_told(std::vector<forebay::new_job>{{"k", "kept"}});
        CHECK(report.accepted[0].durability == forebay::durability::disk && d.flush() == forebay::durability::disk);
        id = report.accepted[0].id;
    }
    const forebay::dispatcher d(url);
    d.handle("k", [](const job &j) { return j.payload(); });
    d.start();
    CHECK(d.wait(id, soon).view() == "kept");
    d.drain(soon);
    remove_files(path);
}

void a_queue_is_passed_on() {
    const std::string path = scratch("target.db");
    const auto d = open();
    const auto id = d.push("k", "moved", forebay::push_options().queue("outbox"));
    auto forwarder = d.forward("outbox", "sqlite:" + path, "inbox", "batch=10");
    THROWN(forebay::invalid, d.forward("outbox", "memory:"));
    THROWN(forebay::not_found, d.forward("other", "memory:", "", "bach=10"));
    d.wait(id, soon);
    forwarder.stop(soon);
    d.stop(soon);
    const forebay::dispatcher target("sqlite:" + path);
    CHECK(target.size("inbox") == 1 && target.get(id).queue() == "inbox");
    remove_files(path);
}

void values_are_as_expected() {
    using forebay::wait_time;
    CHECK(wait_time(1ms).native() == 1 && wait_time(1us).native() == 1 && wait_time(1500us).native() == 2);
    CHECK(wait_time(-1s).native() == 0 && wait_time(0s).native() == 0 && wait_time(2min).native() == 120000);
    CHECK(wait_time(std::chrono::duration<double>(0.25)).native() == 250);
    CHECK(wait_time(std::chrono::hours::max()).native() == INT64_MAX && forebay::forever.native() == FBY_FOREVER);
    CHECK(forebay::forever.native_or_longest() == INT64_MAX && wait_time(5ms).native_or_longest() == 5);
    CHECK(forebay::detail::to_ms(std::chrono::duration<double>(-1e300)) < 0);

    const auto id = forebay::job_id::parse("01939f3c7b1e7cc2a5f06f1d2b3c4d5e");
    std::ostringstream text;
    text << id;
    CHECK(text.str() == "01939f3c-7b1e-7cc2-a5f0-6f1d2b3c4d5e" && id == forebay::job_id(id.native()));
    CHECK(id && !forebay::job_id() && forebay::job_id() < id && id != forebay::job_id());
    CHECK(std::unordered_set<forebay::job_id>({id, id, forebay::job_id()}).size() == 2);
    THROWN(forebay::invalid, forebay::job_id::parse("no id"));

    CHECK(forebay::codec<std::uint8_t>::decode("255") == 255 && forebay::codec<long>::decode("-7") == -7);
    for (const char *wrong : {"", "256", "1 ", " 1", "x", "-1"}) {
        THROWN(std::invalid_argument, forebay::codec<std::uint8_t>::decode(wrong));
    }
    CHECK(forebay::codec<std::vector<char>>::decode("ab") == std::vector<char>({'a', 'b'}));
    CHECK(forebay::codec<std::vector<char>>::decode("").empty());
    CHECK(forebay::buffer().view().empty() && forebay::version() == std::string(fby_version_string()));
    CHECK(to_string(static_cast<forebay::state>(99)) == "?" && !forebay::is_final(forebay::state::running));
}

const test_case cases[] = {
    CASE(errors_have_a_class_and_a_code),
    CASE(the_options_are_the_dispatchers),
    CASE(a_job_is_looked_after),
    CASE(a_queue_is_looked_after),
    CASE(a_listing_asks_for_pages_as_it_goes),
    CASE(what_was_said_is_read_as_it_was_said),
    CASE(unfinished_jobs_are_dumped_and_restored),
    CASE(a_stop_says_what_is_left),
    CASE(a_file_keeps_what_was_pushed),
    CASE(a_queue_is_passed_on),
    CASE(values_are_as_expected),
};

}  // namespace

SUITE(life);

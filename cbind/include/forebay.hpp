// forebay.hpp: Forebay in C++17, on forebay.h and the standard library alone. Header only.
//
//     forebay::dispatcher d("memory:?concurrency=4");
//     d.handle("greet", [](const forebay::job &job) { return "hello " + std::string(job.payload()); });
//     d.start();
//     std::cout << d.wait(d.push("greet", "world")) << "\n";
//
// What holds for all of it:
//  - Errors are exceptions of class forebay::error, one class per code. The program must be built with exceptions;
//    -fno-rtti is no hindrance.
//  - Whatever owns something moves and does not copy. An object that was moved from throws forebay::invalid.
//  - Nothing outlives its memory: jobs, consumers and pending deliveries may be destroyed after the dispatcher.
//  - Texts go in as std::string_view and are read during the call only. Times are durations of std::chrono, of any
//    unit, and rounded up to milliseconds.
//  - No exception leaves a handler: what it throws is what became of its attempt.
//  - native() is the way to forebay.h for what is not here.
//
// The guide is docs/cpp.md.
#ifndef FOREBAY_HPP
#define FOREBAY_HPP

#include <forebay/codec.hpp>
#include <forebay/consumer.hpp>
#include <forebay/dispatcher.hpp>
#include <forebay/error.hpp>
#include <forebay/events.hpp>
#include <forebay/handler.hpp>
#include <forebay/job.hpp>
#include <forebay/json.hpp>
#include <forebay/listing.hpp>
#include <forebay/options.hpp>
#include <forebay/outcome.hpp>
#include <forebay/push.hpp>
#include <forebay/texts.hpp>
#include <forebay/value.hpp>
#include <forebay/watcher.hpp>

#endif  // FOREBAY_HPP

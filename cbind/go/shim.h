// What Go calls beside the functions of forebay.h: several of them in one crossing, and those whose structs would
// have to hold pointers to Go's memory.
#ifndef FOREBAY_GO_SHIM_H
#define FOREBAY_GO_SHIM_H

#include <forebay.h>
#include <stdlib.h>

// What a turn came to.
typedef struct fbygo_turned {
  size_t jobs;
  fby_status finished;
  fby_status polled;
  fby_error *finish_error;
  fby_error *poll_error;
  size_t stopped;
} fbygo_turned;

// Answers for `ended` deliveries, takes up to `max` new ones without waiting, and then up to `told` of those that
// should stop.
fbygo_turned fbygo_turn(const fby_dispatcher *dispatcher, fby_consumer *consumer, const fby_outcome *outcomes,
                        fby_status *codes, size_t ended, fby_job *jobs, size_t max, fby_stopped *stopped,
                        size_t told);

// fby_declare with options by name.
fby_status fbygo_declare(const fby_dispatcher *dispatcher, fby_bytes kind, fby_bytes options, fby_error **err);

// fby_list with a filter whose parts come one by one.
fby_status fbygo_list(const fby_dispatcher *dispatcher, fby_bytes queue, fby_bytes kind, fby_bytes key,
                      const fby_state *states, size_t state_count, int64_t created_from_ms,
                      int64_t created_before_ms, const fby_id *after, uint32_t limit, fby_buffer **json,
                      fby_error **err);

#endif

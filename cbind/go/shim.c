#include "shim.h"

fbygo_turned fbygo_turn(const fby_dispatcher *dispatcher, fby_consumer *consumer, const fby_outcome *outcomes,
                        fby_status *codes, size_t ended, fby_job *jobs, size_t max, fby_stopped *stopped,
                        size_t told) {
  fbygo_turned turned = {0, FBY_OK, FBY_OK, NULL, NULL, 0};
  if (ended > 0) {
    turned.finished = fby_finish(dispatcher, outcomes, sizeof(fby_outcome), ended, codes, &turned.finish_error);
  }
  if (max > 0) {
    turned.polled = fby_poll(consumer, jobs, sizeof(fby_job), max, 0, &turned.jobs, &turned.poll_error);
  }
  // The last, so that each of them is known, and that nothing is told between this and the wait.
  fby_consumer_stopped(consumer, stopped, sizeof(fby_stopped), told, &turned.stopped, NULL);
  return turned;
}

fby_status fbygo_declare(const fby_dispatcher *dispatcher, fby_bytes kind, fby_bytes options, fby_error **err) {
  fby_kind_options declared = FBY_INIT(fby_kind_options);
  declared.options = options;
  return fby_declare(dispatcher, kind, &declared, err);
}

fby_status fbygo_list(const fby_dispatcher *dispatcher, fby_bytes queue, fby_bytes kind, fby_bytes key,
                      const fby_state *states, size_t state_count, int64_t created_from_ms,
                      int64_t created_before_ms, const fby_id *after, uint32_t limit, fby_buffer **json,
                      fby_error **err) {
  fby_filter filter = FBY_INIT(fby_filter);
  filter.queue = queue;
  filter.kind = kind;
  filter.key = key;
  filter.states = states;
  filter.state_count = state_count;
  filter.created_from_ms = created_from_ms;
  filter.created_before_ms = created_before_ms;
  filter.after = *after;
  filter.limit = limit;
  return fby_list(dispatcher, &filter, json, err);
}

/* The calls with NULL in every place, which cbind/tools/nulls.py makes from the header, and what they are made with. */
#ifndef NULLS_H
#define NULLS_H

#include "harness.h"

/* One of everything that a function may take. */
typedef struct {
    fby_dispatcher *dispatcher;
    fby_consumer *consumer;
    fby_forwarder *forwarder;
    fby_watcher *watcher;
    fby_events *events;
    fby_options *options;
    fby_error *error;
    fby_buffer *buffer;
    fby_reply *reply;
    fby_handler handler;
    fby_drop drop;
    fby_logger logger;
    fby_bytes name;
    fby_id id;         /* of a job that has failed */
    fby_ticket ticket; /* of one that was polled */
    char *path;        /* of a dump */
    char text[64];
} stage;

enum { INVALID_CODE, NOT_INVALID, ANY_CODE, NO_CODE };

typedef struct {
    const char *function;
    const char *place; /* where NULL is */
    int want;
    bool bound; /* takes what belongs to the process that made it */
    fby_status (*call)(stage *s, fby_error **err);
} null_row;

void set_stage(stage *s);
void strike_stage(stage *s);

extern const null_row null_rows[];
extern const size_t null_row_count;

#endif

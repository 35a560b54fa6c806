/* What the parts of the scenario runner share: scenarios.c runs files and compares, scenario_steps.c does what each
 * step says, scenario_stage.c reads its fields and knows what the labels stand for. The files and their fields:
 * tests/scenarios/README.md. */
#ifndef SCENARIOS_H
#define SCENARIOS_H

#include "harness.h"

#include <jansson.h>

#define MANY 64

/* Where the clock stands at the beginning, in milliseconds since 1970. */
#define START_MS INT64_C(1700000000000)

/* What a label of the file stands for. */
typedef struct {
    char label[64];
    fby_id id;
    fby_ticket ticket;
} label;

/* One scenario on one engine. */
typedef struct {
    const char *url;
    char scratch[64];
    json_t *options;
    int64_t advanced_ms;
    fby_dispatcher *d;
    fby_events *events;
    label jobs[MANY], deliveries[MANY];
    size_t job_count, delivery_count;
    json_t *kept;       /* values that were taken from a step, until it is over */
    void *blocks[MANY]; /* memory of a step */
    size_t block_count;
    char mistake[256];  /* what the file says cannot be done; empty if nothing is wrong with it */
} stage;

json_t *stage_open(stage *s, const char *url);
void stage_release(stage *s);

/* Does a step, whose fields it takes out one by one: what is left is not known to this runner. The answer, or NULL
 * with a mistake. */
json_t *stage_step(stage *s, const char *name, json_t *fields);

/* ---- fields: a mistake is noted once, and nothing more is made of the step */

void mistaken(stage *s, const char *format, const char *what);
json_t *take(stage *s, json_t *fields, const char *name); /* lives until the step is over */
json_t *need(stage *s, json_t *fields, const char *name);
fby_bytes text_of(const json_t *value);
fby_bytes text(stage *s, json_t *fields, const char *name);
int64_t number(stage *s, json_t *fields, const char *name, int64_t otherwise);
fby_bytes queue_of(stage *s, json_t *fields);
void *keep(stage *s, void *block); /* memory until the step is over */

/* ---- labels */

const char *label_of(const stage *s, const fby_id *id);
const char *label_of_text(const stage *s, const json_t *id);
void name_job(stage *s, const char *name, const fby_id *id);
fby_id job_called(stage *s, const char *name);
fby_id job_of(stage *s, json_t *fields);
fby_ticket ticket_of(stage *s, json_t *fields);

/* ---- jobs to be pushed, and deliveries */

/* What a push, a retry or a result carries. */
typedef struct {
    fby_bytes bytes, type;
    int given;
} carried;

carried payload_of(stage *s, json_t *fields);
fby_job_spec spec_of(stage *s, json_t *fields, const char **name);
fby_job_spec *batch_of(stage *s, json_t *jobs, const char **names);
json_t *pushed(stage *s, const fby_pushed *p, const char *name);
json_t *delivered(stage *s, const fby_job *job, const char *name);

/* ---- answers */

json_t *failure(fby_error *err);
json_t *string(fby_bytes b); /* null if it is not UTF-8 */
json_t *name_or_null(fby_bytes b);
json_t *parsed(fby_buffer *buffer);
json_t *told_text(fby_buffer *buffer);
void tell_payload(json_t *answer, fby_bytes b, fby_bytes type);
json_t *attempts(uint32_t most);
const char *level_name(fby_durability level);

/* Makes a call with err, whose error is the answer. */
#define TRY(call)                                  \
    do {                                           \
        fby_error *err = NULL;                     \
        if ((call) != FBY_OK) return failure(err); \
    } while (0)

#endif

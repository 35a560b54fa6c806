/* What scenario files talk of: fields, labels, jobs, answers. */
#include "scenarios.h"

#include <string.h>
#include <unistd.h>

#define NOBODY "00000000-0000-7000-8000-000000000001"

static const char *const sheds[] = {NULL,          "shed_newest",    "shed_oldest", "shed_lowest",
                                    "shed_coalesced", "shed_sampled", "shed_delayed"};
static const char *const levels[] = {NULL, "memory", "os", "disk"};

static const char *shed_name(fby_shed rule) {
    return rule >= 0 && (size_t)rule < sizeof sheds / sizeof sheds[0] ? sheds[rule] : "?";
}

const char *level_name(fby_durability level) {
    return level >= 0 && (size_t)level < sizeof levels / sizeof levels[0] ? levels[level] : "?";
}

void mistaken(stage *s, const char *format, const char *what) {
    if (s->mistake[0] == '\0') snprintf(s->mistake, sizeof s->mistake, format, what);
}

/* ---- fields ----------------------------------------------------------------------------------------- */

/* A field, which the step then no longer has; it lives until the step is over. */
json_t *take(stage *s, json_t *fields, const char *name) {
    json_t *value = json_object_get(fields, name);
    if (value == NULL) return NULL;
    json_array_append(s->kept, value);
    json_object_del(fields, name);
    return value;
}

json_t *need(stage *s, json_t *fields, const char *name) {
    json_t *value = take(s, fields, name);
    if (value == NULL) mistaken(s, "field \"%s\" is missing", name);
    return value;
}

fby_bytes text_of(const json_t *value) {
    return bytes(json_string_value(value), json_string_length(value));
}

fby_bytes text(stage *s, json_t *fields, const char *name) {
    return text_of(take(s, fields, name));
}

int64_t number(stage *s, json_t *fields, const char *name, int64_t otherwise) {
    json_t *value = take(s, fields, name);
    return value == NULL ? otherwise : json_integer_value(value);
}

fby_bytes queue_of(stage *s, json_t *fields) {
    json_t *value = take(s, fields, "queue");
    return value == NULL ? fby_str("default") : text_of(value);
}

/* Memory until the step is over. */
void *keep(stage *s, void *block) {
    CHECK(block != NULL && s->block_count < MANY);
    return s->blocks[s->block_count++] = block;
}

/* ---- answers ---------------------------------------------------------------------------------------- */

/* FBY_E_FULL is "full". */
json_t *failure(fby_error *err) {
    fby_bytes message = fby_error_message(err);
    char name[32];
    json_t *answer;
    size_t i;
    snprintf(name, sizeof name, "%s", fby_status_name(fby_error_code(err)) + strlen("FBY_E_"));
    for (i = 0; name[i] != '\0'; i++) name[i] |= name[i] == '_' ? 0 : 0x20;
    answer = json_pack("{s:s, s:s%}", "error", name, "message", message.ptr, message.len);
    fby_error_free(err);
    return answer;
}

/* Text, if it is UTF-8, or null. */
json_t *string(fby_bytes b) {
    json_t *value = json_stringn(b.len == 0 ? "" : b.ptr, b.len);
    return value == NULL ? json_null() : value;
}

/* Text, or null if there is none. */
json_t *name_or_null(fby_bytes b) {
    return b.len == 0 ? json_null() : string(b);
}

json_t *parsed(fby_buffer *buffer) {
    fby_bytes b = fby_buffer_bytes(buffer);
    json_t *value = json_loadb(b.ptr, b.len, JSON_DECODE_ANY, NULL);
    fby_buffer_free(buffer);
    CHECK(value != NULL);
    return value;
}

json_t *told_text(fby_buffer *buffer) {
    json_t *answer = json_pack("{s:o}", "text", string(fby_buffer_bytes(buffer)));
    fby_buffer_free(buffer);
    return answer;
}

/* What a payload is, in the ways that scenarios look at it. */
void tell_payload(json_t *answer, fby_bytes b, fby_bytes type) {
    char hex[2 * 64 + 1] = "";
    size_t i;
    for (i = 0; i < b.len && i < 64; i++) snprintf(hex + 2 * i, 3, "%02x", ((const unsigned char *)b.ptr)[i]);
    json_object_set_new(answer, "payload", string(b));
    json_object_set_new(answer, "hex", json_string(hex));
    json_object_set_new(answer, "size", json_integer((json_int_t)b.len));
    json_object_set_new(answer, "content_type", string(type));
    json_object_set_new(answer, "json",
                        same(type, "application/json") ? json_loadb(b.ptr, b.len, JSON_DECODE_ANY, NULL) : json_null());
}

json_t *attempts(uint32_t most) {
    return most == FBY_UNLIMITED ? json_string("unlimited") : json_integer(most);
}

/* ---- labels ----------------------------------------------------------------------------------------- */

static label *find(label *in, size_t count, const char *name) {
    size_t i;
    for (i = 0; i < count; i++) {
        if (strcmp(in[i].label, name) == 0) return &in[i];
    }
    return NULL;
}

const char *label_of(const stage *s, const fby_id *id) {
    size_t i;
    for (i = 0; i < s->job_count; i++) {
        if (memcmp(&s->jobs[i].id, id, sizeof *id) == 0) return s->jobs[i].label;
    }
    return "?";
}

const char *label_of_text(const stage *s, const json_t *id) {
    fby_id read;
    return fby_id_parse(text_of(id), &read, NULL) == FBY_OK ? label_of(s, &read) : "?";
}

void name_job(stage *s, const char *name, const fby_id *id) {
    if (name == NULL || strcmp(label_of(s, id), "?") != 0) return;
    CHECK(s->job_count < MANY);
    snprintf(s->jobs[s->job_count].label, sizeof s->jobs[0].label, "%s", name);
    s->jobs[s->job_count++].id = *id;
}

static void name_delivery(stage *s, const char *name, fby_ticket ticket) {
    label *known = find(s->deliveries, s->delivery_count, name);
    if (known == NULL) {
        CHECK(s->delivery_count < MANY);
        known = &s->deliveries[s->delivery_count++];
        snprintf(known->label, sizeof known->label, "%s", name);
    }
    known->ticket = ticket;
}

fby_id job_called(stage *s, const char *name) {
    fby_id id = {{0}};
    label *known = name == NULL ? NULL : find(s->jobs, s->job_count, name);
    if (known != NULL) return known->id;
    if (name != NULL && strcmp(name, "nobody") == 0) {
        fby_id_parse(fby_str(NOBODY), &id, NULL);
    } else if (name != NULL) {
        mistaken(s, "no job is called \"%s\"", name);
    }
    return id;
}

fby_id job_of(stage *s, json_t *fields) {
    return job_called(s, json_string_value(need(s, fields, "job")));
}

fby_ticket ticket_of(stage *s, json_t *fields) {
    const char *name = json_string_value(need(s, fields, "job"));
    label *known = name == NULL ? NULL : find(s->deliveries, s->delivery_count, name);
    if (known == NULL && name != NULL) mistaken(s, "no delivery is called \"%s\"", name);
    return known == NULL ? 0 : known->ticket;
}

/* ---- jobs to be pushed ------------------------------------------------------------------------------ */

/* What a push, a retry or a result carries. */
carried payload_of(stage *s, json_t *fields) {
    json_t *json = take(s, fields, "json"), *hex = take(s, fields, "hex"), *size = take(s, fields, "size");
    json_t *plain = take(s, fields, "payload");
    carried c = {text_of(plain), {NULL, 0}, json || hex || size || plain};
    size_t i;
    if (json != NULL) {
        c.bytes = fby_str(keep(s, json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY)));
        c.type = fby_str("application/json");
    } else if (size != NULL) {
        size_t len = (size_t)json_integer_value(size);
        c.bytes = bytes(memset(keep(s, malloc(len)), 'x', len), len);
    } else if (hex != NULL) {
        unsigned char *into = keep(s, malloc(json_string_length(hex) / 2 + 1));
        for (i = 0; i < json_string_length(hex) / 2; i++) {
            sscanf(json_string_value(hex) + 2 * i, "%2hhx", &into[i]);
        }
        c.bytes = bytes(into, i);
    }
    return c;
}

/* A job, and the label it is to have, which may be NULL. */
fby_job_spec spec_of(stage *s, json_t *fields, const char **name) {
    fby_job_spec job = FBY_INIT(fby_job_spec);
    json_t *kind = take(s, fields, "kind"), *most = take(s, fields, "max_attempts"), *at = take(s, fields, "at_ms");
    json_t *headers = take(s, fields, "headers"), *tokens = take(s, fields, "waits_for"), *id = take(s, fields, "id");
    json_t *level = take(s, fields, "durability");
    carried c = payload_of(s, fields);
    size_t i;
    *name = json_string_value(take(s, fields, "as"));
    job.kind = kind == NULL ? fby_str("k") : text_of(kind);
    job.payload = c.bytes;
    job.content_type = c.type;
    job.queue = text(s, fields, "queue");
    job.key = text(s, fields, "key");
    job.concurrency_key = text(s, fields, "concurrency_key");
    job.retry = text(s, fields, "retry");
    job.priority = (int32_t)number(s, fields, "priority", 0);
    job.delay_ms = number(s, fields, "delay_ms", 0);
    job.timeout_ms = number(s, fields, "timeout_ms", 0);
    job.expires_after_ms = number(s, fields, "expires_ms", 0);
    job.max_attempts = json_is_string(most) ? FBY_UNLIMITED : (uint32_t)json_integer_value(most);
    if (at != NULL) job.run_at_ms = START_MS + s->advanced_ms + json_integer_value(at);
    for (i = 1; level != NULL && i < 4; i++) {
        if (strcmp(levels[i], json_string_value(level)) == 0) job.durability = (fby_durability)i;
    }
    job.header_count = json_array_size(headers);
    if (job.header_count > 0) {
        fby_header *all = keep(s, calloc(job.header_count, sizeof *all));
        for (i = 0; i < job.header_count; i++) {
            all[i].name = text_of(json_array_get(json_array_get(headers, i), 0));
            all[i].value = text_of(json_array_get(json_array_get(headers, i), 1));
        }
        job.headers = all;
    }
    job.waits_for_count = json_array_size(tokens);
    if (job.waits_for_count > 0) {
        fby_bytes *all = keep(s, calloc(job.waits_for_count, sizeof *all));
        for (i = 0; i < job.waits_for_count; i++) all[i] = text_of(json_array_get(tokens, i));
        job.waits_for = all;
    }
    if (id != NULL) {
        label *known = find(s->jobs, s->job_count, json_string_value(id));
        if (known != NULL) {
            job.id = known->id;
        } else {
            OK(fby_id_parse(text_of(id), &job.id, &err));
        }
        name_job(s, *name, &job.id);
    }
    return job;
}

/* Jobs with their labels; the step has them until it is over. */
fby_job_spec *batch_of(stage *s, json_t *jobs, const char **names) {
    size_t i, count = json_array_size(jobs);
    fby_job_spec *specs = count == 0 ? NULL : keep(s, calloc(count, sizeof *specs));
    CHECK(count <= MANY);
    for (i = 0; i < count; i++) {
        json_t *fields = json_array_get(jobs, i);
        specs[i] = spec_of(s, fields, &names[i]);
        if (json_object_size(fields) > 0) mistaken(s, "unknown field \"%s\"", json_object_iter_key(json_object_iter(fields)));
    }
    return specs;
}

json_t *pushed(stage *s, const fby_pushed *p, const char *name) {
    name_job(s, name, &p->id);
    return json_pack("{s:s, s:b, s:s?, s:s}", "id", label_of(s, &p->id), "created", (int)p->created, "shed",
                     shed_name(p->shed), "durability", level_name(p->durability));
}

json_t *delivered(stage *s, const fby_job *job, const char *name) {
    json_t *headers = json_array(), *answer;
    fby_header header;
    size_t i;
    name_job(s, name, &job->id);
    name_delivery(s, label_of(s, &job->id), job->ticket);
    if (name != NULL) name_delivery(s, name, job->ticket);
    for (i = 0; fby_job_header(s->d, job->ticket, i, &header, NULL) == FBY_OK; i++) {
        json_array_append_new(headers, json_pack("[o, o]", string(header.name), string(header.value)));
    }
    answer = json_pack("{s:s, s:o, s:o, s:i, s:o, s:i, s:o, s:o, s:o, s:I, s:o}", "id", label_of(s, &job->id), "kind",
                       string(job->kind), "queue", string(job->queue), "attempt", (int)job->attempt, "max_attempts",
                       attempts(job->max_attempts), "priority", (int)job->priority, "key", name_or_null(job->key),
                       "concurrency_key", name_or_null(job->concurrency_key), "headers", headers, "fence",
                       (json_int_t)job->fence, "due_ms",
                       job->due_ms == 0 ? json_null() : json_integer(job->due_ms - START_MS - s->advanced_ms));
    tell_payload(answer, job->payload, job->content_type);
    return answer;
}

/* Listing: filters, pages, and the JSON they come in. */
#include "harness.h"

#include <string.h>

enum { MANY = 25 };

/* The text behind a name in a JSON object; 0 if there is none, as for null. */
static int text_of(fby_bytes json, const char *name, char *out, size_t cap) {
    const char *begin = json.ptr, *end = begin + json.len;
    size_t len, n = 0;
    char wanted[64];
    snprintf(wanted, sizeof wanted, "\"%s\":\"", name);
    len = strlen(wanted);
    for (; begin + len <= end && memcmp(begin, wanted, len) != 0; begin++) continue;
    if (begin + len > end) return 0;
    for (begin += len; *begin != '"' && n + 1 < cap; begin++) out[n++] = *begin;
    out[n] = 0;
    return 1;
}

/* How many jobs a page shows, by what each of them has once. */
static int jobs_on(fby_bytes json) {
    static const char once[] = "\"fence\":";
    const char *text = json.ptr;
    size_t i;
    int count = 0;
    for (i = 0; i + sizeof once - 1 <= json.len; i++) count += memcmp(text + i, once, sizeof once - 1) == 0;
    return count;
}

static int shown_by(fby_dispatcher *d, const fby_filter *filter) {
    fby_buffer *json = NULL;
    int count;
    OK(fby_list(d, filter, &json, &err));
    CHECK(same(fby_buffer_content_type(json), "application/json"));
    count = jobs_on(fby_buffer_bytes(json));
    fby_buffer_free(json);
    return count;
}

static void pages_show_each_job_once(void) {
    fby_dispatcher *d = open_plain();
    fby_filter filter = FBY_INIT(fby_filter);
    fby_id ids[MANY];
    int seen[MANY] = {0}, i, pages = 0, more = 1;
    for (i = 0; i < MANY; i++) ids[i] = push(d, "k");
    CHECK(shown_by(d, NULL) == 20);
    filter.limit = 7;
    while (more) {
        fby_buffer *json = NULL;
        char text[40];
        OK(fby_list(d, &filter, &json, &err));
        CHECK(contains(fby_buffer_bytes(json), "\"total\":25"));
        for (i = 0; i < MANY; i++) {
            OK(fby_id_format(&ids[i], text, sizeof text, &err));
            seen[i] += contains(fby_buffer_bytes(json), text) ? 1 : 0;
        }
        more = text_of(fby_buffer_bytes(json), "next", text, sizeof text);
        if (more) {
            /* It is the last job of the page, so its id is in there once more. */
            OK(fby_id_parse(fby_str(text), &filter.after, &err));
        }
        fby_buffer_free(json);
        pages++;
    }
    CHECK(pages == 4);
    for (i = 0; i < MANY; i++) CHECK(seen[i] == 1);
    fby_release(d);
}

static void each_field_of_a_filter_counts(void) {
    fby_dispatcher *d = open_plain();
    fby_filter filter = FBY_INIT(fby_filter);
    fby_job_spec job = spec("mail");
    fby_state states[] = {FBY_STATE_CANCELLED, FBY_STATE_SCHEDULED};
    fby_buffer *json = NULL;
    fby_id id;
    job.queue = fby_str("out"), job.key = fby_str("first");
    OK(fby_push(d, &job, 0, &id, NULL, &err));
    OK(fby_cancel(d, &id, NULL, &err));
    job.key = fby_str("second"), job.delay_ms = SOON_MS;
    OK(fby_push(d, &job, 0, NULL, NULL, &err));
    push(d, "other");
#define SHOWS(count, field, value)                                   \
    memset(&filter, 0, sizeof filter), filter.struct_size = sizeof filter; \
    filter.field = value;                                            \
    CHECK(shown_by(d, &filter) == (count))
    SHOWS(3, limit, 10000);
    SHOWS(2, queue, fby_str("out"));
    SHOWS(1, kind, fby_str("other"));
    SHOWS(1, key, fby_str("second"));
    SHOWS(0, queue, fby_str("nowhere"));
    SHOWS(0, created_before_ms, 1);
    SHOWS(3, created_from_ms, 1);
    SHOWS(0, created_from_ms, INT64_MAX);
    SHOWS(0, after, id);
    filter.after.b[0] = 0xff;
    CHECK(shown_by(d, &filter) == 3);
    SHOWS(3, state_count, 0);
    filter.states = states, filter.state_count = 2;
    CHECK(shown_by(d, &filter) == 2);
    filter.state_count = 1;
    CHECK(shown_by(d, &filter) == 1);
    OK(fby_list(d, &filter, &json, &err));
    CHECK(contains(fby_buffer_bytes(json), "\"state\":\"cancelled\"") && contains(fby_buffer_bytes(json), "\"next\":null"));
    fby_buffer_free(json);
    fby_release(d);
}

static void a_wrong_filter_is_a_code(void) {
    fby_dispatcher *d = open_plain();
    fby_filter filter = FBY_INIT(fby_filter);
    fby_state states[] = {0};
    fby_buffer *json = NULL;
#define NO_FILTER(field, value)                                            \
    memset(&filter, 0, sizeof filter), filter.struct_size = sizeof filter; \
    filter.field = value;                                                  \
    INVALID(fby_list(d, &filter, &json, &err))
    NO_FILTER(struct_size, 0);
    NO_FILTER(limit, 10001);
    NO_FILTER(reserved, 1);
    NO_FILTER(state_count, 1);
    NO_FILTER(created_from_ms, -1);
    NO_FILTER(created_before_ms, -1);
    NO_FILTER(queue, bytes(NULL, 1));
    NO_FILTER(kind, bytes("\xff", 1));
    NO_FILTER(key, bytes("x", SIZE_MAX));
    filter.key = bytes(NULL, 0), filter.states = states, filter.state_count = 1;
    INVALID(fby_list(d, &filter, &json, &err));
    states[0] = 99;
    INVALID(fby_list(d, &filter, &json, &err));
    filter.state_count = SIZE_MAX / 2;
    INVALID(fby_list(d, &filter, &json, &err));
    INVALID(fby_list(NULL, NULL, &json, &err));
    OK(fby_list(d, NULL, NULL, &err));
    CHECK(json == NULL);
    fby_release(d);
}

static const test_case cases[] = {
    CASE(pages_show_each_job_once),
    CASE(each_field_of_a_filter_counts),
    CASE(a_wrong_filter_is_a_code),
};
SUITE(listing);

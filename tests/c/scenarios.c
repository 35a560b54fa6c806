/* The scenario files of tests/scenarios, run in C on every engine; their README tells what they say. The runners of
 * the other languages have the same parts. */
#include "scenarios.h"

#include <dirent.h>
#include <string.h>
#include <unistd.h>

#define FOLDER "../scenarios"
#define TEXT 4096

/* ---- what is expected ------------------------------------------------------------------------------- */

static int differs(const char *at, const json_t *wanted, const json_t *found, char *out);

static int keeps(const char *rule, const json_t *value, const json_t *found) {
    char ignored[TEXT];
    const json_t *part;
    size_t i;
    if (strcmp(rule, "$not") == 0) return differs("", value, found, ignored);
    if (strcmp(rule, "$from") == 0) return json_is_number(found) && json_number_value(value) <= json_number_value(found);
    if (strcmp(rule, "$to") == 0) return json_is_number(found) && json_number_value(found) <= json_number_value(value);
    if (strcmp(rule, "$contains") != 0 || !json_is_string(found)) return 0;
    json_array_foreach(value, i, part) {
        if (strstr(json_string_value(found), json_string_value(part)) == NULL) return 0;
    }
    return 1;
}

static int equal(const json_t *one, const json_t *other) {
    if (json_is_integer(one) && json_is_integer(other)) return json_integer_value(one) == json_integer_value(other);
    if (json_is_number(one) && json_is_number(other)) return json_number_value(one) == json_number_value(other);
    return json_equal(one, other);
}

/* What does not fit, at which place of the answer: 0 if all does. */
static int differs(const char *at, const json_t *wanted, const json_t *found, char *out) {
    const char *name;
    json_t *value;
    char below[256], *shown, *meant;
    size_t i;
    int fits = 1, rules = 0;
    if (found == NULL) {
        fits = 0;
    } else if (json_is_object(wanted)) {
        json_object_foreach((json_t *)wanted, name, value) {
            if (name[0] == '$') {
                rules = 1;
                fits = fits && keeps(name, value, found);
            }
        }
        fits = fits && (rules || json_is_object(found));
        if (fits && !rules) {
            json_object_foreach((json_t *)wanted, name, value) {
                snprintf(below, sizeof below, "%s.%s", at, name);
                if (differs(below, value, json_object_get(found, name), out)) return 1;
            }
        }
    } else if (json_is_array(wanted) && json_is_array(found) && json_array_size(wanted) == json_array_size(found)) {
        json_array_foreach(wanted, i, value) {
            snprintf(below, sizeof below, "%s[%zu]", at, i);
            if (differs(below, value, json_array_get(found, i), out)) return 1;
        }
    } else {
        fits = equal(wanted, found);
    }
    if (fits) return 0;
    shown = found == NULL ? strdup("missing") : json_dumps(found, JSON_COMPACT | JSON_ENCODE_ANY);
    meant = json_dumps(wanted, JSON_COMPACT | JSON_ENCODE_ANY);
    snprintf(out, TEXT, "%s is %s, not %s", at, shown, meant);
    free(shown);
    free(meant);
    return 1;
}

/* ---- running ---------------------------------------------------------------------------------------- */

static void end_of_step(stage *s) {
    json_array_clear(s->kept);
    while (s->block_count > 0) free(s->blocks[--s->block_count]);
}

/* Does one step: 0, or 1 with what is wrong. */
static int run_step(stage *s, json_t *fields, size_t number, char *out) {
    json_t *wanted = json_incref(json_object_get(fields, "expect")), *answer, *error;
    char name[32], what[TEXT] = "", *shown;
    snprintf(name, sizeof name, "%s", json_string_value(json_object_get(fields, "do")));
    json_object_del(fields, "do");
    json_object_del(fields, "expect");
    answer = stage_step(s, name, fields);
    if (json_object_size(fields) > 0 && s->mistake[0] == '\0') {
        mistaken(s, "unknown field \"%s\"", json_object_iter_key(json_object_iter(fields)));
    }
    error = json_object_get(answer, "error");
    if (s->mistake[0] != '\0') {
        snprintf(what, sizeof what, "%s", s->mistake);
    } else if (error != NULL && json_object_get(wanted, "error") == NULL) {
        snprintf(what, sizeof what, "failed with %s: %s", json_string_value(error),
                 json_string_value(json_object_get(answer, "message")));
    } else if (wanted != NULL && differs("answer", wanted, answer, what)) {
        shown = json_dumps(answer, JSON_COMPACT);
        snprintf(what + strlen(what), sizeof what - strlen(what), "; the answer was %s", shown);
        free(shown);
    }
    json_decref(answer);
    json_decref(wanted);
    end_of_step(s);
    if (what[0] != '\0') snprintf(out, 2 * TEXT, "step %zu (%s): %s", number, name, what);
    return what[0] != '\0';
}

static void remove_folder(const char *path) {
    DIR *folder = opendir(path);
    struct dirent *entry;
    char file[512];
    CHECK(folder != NULL);
    while ((entry = readdir(folder)) != NULL) {
        snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
        unlink(file);
    }
    closedir(folder);
    rmdir(path);
}

/* Runs one scenario on one engine: 0, or 1 with what is wrong. */
static int run(const json_t *scenario, const json_t *place, char *out) {
    stage *s = calloc(1, sizeof *s);
    json_t *steps = json_deep_copy(json_object_get(scenario, "steps")), *fields, *opened;
    size_t i;
    int wrong = 0;
    CHECK(s != NULL);
    s->url = json_string_value(json_object_get(place, "url"));
    s->options = json_incref(json_object_get(scenario, "open"));
    s->kept = json_array();
    snprintf(s->scratch, sizeof s->scratch, "%s/forebay-scenario-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    CHECK(mkdtemp(s->scratch) != NULL);
    opened = stage_open(s, s->url);
    CHECK(json_object_size(opened) == 0);
    json_decref(opened);
    end_of_step(s);
    json_array_foreach(steps, i, fields) {
        if (!wrong) wrong = run_step(s, fields, i + 1, out);
    }
    stage_release(s);
    remove_folder(s->scratch);
    json_decref(steps);
    json_decref(s->options);
    json_decref(s->kept);
    free(s);
    return wrong;
}

/* Checks the head of a file: what else it has than a scenario may have, and whether it is whole. */
static int is_whole(const json_t *scenario, const char *file) {
    static const char *const known = " scenario shows text needs open fails steps ";
    const char *name = json_string_value(json_object_get(scenario, "scenario")), *field;
    char word[64];
    json_t *value;
    json_object_foreach((json_t *)scenario, field, value) {
        snprintf(word, sizeof word, " %s ", field);
        if (strstr(known, word) == NULL) return 0;
    }
    return name != NULL && strncmp(name, file, strlen(name)) == 0 && strcmp(file + strlen(name), ".json") == 0 &&
           json_string_length(json_object_get(scenario, "text")) > 0 && json_object_get(scenario, "steps") != NULL &&
           (json_array_size(json_object_get(scenario, "shows")) == 0) !=
               (json_array_size(json_object_get(scenario, "fails")) == 0);
}

static int has_all(const json_t *place, const json_t *needs) {
    json_t *need, *has;
    size_t i, j;
    json_array_foreach(needs, i, need) {
        int found = 0;
        json_array_foreach(json_object_get(place, "has"), j, has) { found |= json_equal(need, has); }
        if (!found) return 0;
    }
    return 1;
}

/* Runs a file on every engine that has what it needs: how many those were. */
static size_t run_file(const char *folder, const char *file, const json_t *places, size_t *faults) {
    char path[512], what[2 * TEXT];
    json_t *scenario, *place, *part, *fails;
    size_t i, j, runs = 0;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    scenario = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    if (!is_whole(scenario, file)) {
        fprintf(stderr, "\n%s is no scenario of that name\n", path);
        (*faults)++;
        json_decref(scenario);
        return 0;
    }
    fails = json_object_get(scenario, "fails");
    json_array_foreach(places, i, place) {
        int wrong, found = 1;
        if (!has_all(place, json_object_get(scenario, "needs"))) continue;
        runs++;
        what[0] = '\0';
        wrong = run(scenario, place, what);
        json_array_foreach(fails, j, part) { found &= strstr(what, json_string_value(part)) != NULL; }
        if (wrong == (fails == NULL) || !found) {
            fprintf(stderr, "\n%s on %s: %s\n", file, json_string_value(json_object_get(place, "engine")),
                    wrong ? what : "it should have failed");
            (*faults)++;
        }
    }
    if (runs == 0) fprintf(stderr, "\n%s: no engine has what it needs\n", file);
    *faults += runs == 0;
    json_decref(scenario);
    return runs;
}

static void run_folder(const char *folder) {
    json_t *places = json_load_file("../engines.json", 0, NULL);
    size_t files = 0, runs = 0, faults = 0;
    DIR *open = opendir(folder);
    struct dirent *entry;
    CHECK(json_array_size(places) > 0 && open != NULL);
    while ((entry = readdir(open)) != NULL) {
        const char *dot = strrchr(entry->d_name, '.');
        if (dot == NULL || strcmp(dot, ".json") != 0) continue;
        files++;
        runs += run_file(folder, entry->d_name, places, &faults);
    }
    closedir(open);
    json_decref(places);
    printf("%zu scenarios, %zu runs ... ", files, runs);
    CHECK(files > 0 && faults == 0);
}

static void every_scenario_on_every_engine(void) {
    const char *folder = getenv("FOREBAY_SCENARIOS");
    run_folder(folder == NULL ? FOLDER : folder);
}

/* What is wrong in them is found out, at the step where it is. */
static void every_wrong_scenario_fails(void) {
    run_folder(FOLDER "/wrong");
}

static const test_case cases[] = {
    CASE(every_scenario_on_every_engine),
    CASE(every_wrong_scenario_fails),
};

SUITE(scenarios);

/* report.c - gathers what a run's folder holds into one JSON object and puts it into page.html, which draws
 * it. A "<" of the data is written as \u003c: whatever names and texts hold, they cannot end the element that
 * they stand in, and the page takes them as text alone. */
#include "report/report.h"
#include "files/file.h"
#include "files/json.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_LINES = 2000 };

__asm__(".pushsection .rodata\n.hidden up_report_page\n.global up_report_page\n"
        "up_report_page: .incbin \"" UP_REPORT_PAGE "\"\n.byte 0\n.popsection\n");
extern const char up_report_page[];

static const char place[] = "@DATA@";

/* The file `name` of a run; *text NULL: there is none. */
static up_status read_part(const char *run, const char *name, char **text, size_t *size) {
    char path[4096];
    void *data = NULL;
    *text = NULL;
    snprintf(path, sizeof path, "%s/%s", run, name);
    if (access(path, F_OK)) return UP_OK;
    UP_TRY(up_file_read(path, &data, size));
    *text = data;
    return UP_OK;
}

/* Every n-th line of a file of JSON objects, so that at most MOST_LINES are kept; the last one may be torn.
 */
static up_status read_lines(const char *run, const char *name, json_t *list) {
    char *text, *rest, *line;
    size_t size = 0, count = 0, number = 0;
    up_status status = UP_OK;
    UP_TRY(read_part(run, name, &text, &size));
    for (size_t i = 0; text && i < size; i++) count += text[i] == '\n';
    size_t step = count / MOST_LINES + 1;
    rest = text;
    while (status == UP_OK && text && number < count && (line = strsep(&rest, "\n"))) {
        json_t *object = NULL;
        if (number++ % step) continue;
        status = up_json_read(name, line, strlen(line), 0, &object);
        if (status == UP_OK && json_array_append_new(list, object))
            status = up_fail(UP_ERR_MEMORY, name, "no memory for its lines");
    }
    free(text);
    return status;
}

static up_status read_scores(const char *run, json_t **scores) {
    char *text;
    size_t size = 0;
    UP_TRY(read_part(run, "metrics.json", &text, &size));
    if (!text) return (*scores = json_array()) ? UP_OK : up_fail(UP_ERR_MEMORY, run, "no memory");
    up_status status = up_json_read("metrics.json", text, size, 0, scores);
    free(text);
    if (status == UP_OK && !json_is_array(*scores))
        status = up_fail(UP_ERR_FORMAT, "metrics.json", "it is no list");
    return status;
}

/* The settings of a run are in the state of its checkpoints; without one the page tells none. */
static up_status read_settings(const char *run, json_t *page) {
    char newest[256] = "", name[300], *text;
    size_t size = 0;
    json_t *state;
    DIR *folder = opendir(run);
    if (!folder) return up_fail(UP_ERR_IO, run, "cannot open the folder");
    for (struct dirent *d; (d = readdir(folder));)
        if (!strncmp(d->d_name, "checkpoint-", 11) && !strchr(d->d_name, '.') &&
            strcmp(d->d_name, newest) > 0)
            snprintf(newest, sizeof newest, "%s", d->d_name);
    closedir(folder);
    if (!*newest) return UP_OK;
    snprintf(name, sizeof name, "%s/state.json", newest);
    UP_TRY(read_part(run, name, &text, &size));
    if (!text) return UP_OK;
    up_status status = up_json_read(name, text, size, 0, &state);
    free(text);
    UP_TRY(status);
    json_t *settings = json_object_get(state, "settings");
    if (settings && json_object_set(page, "settings", settings))
        status = up_fail(UP_ERR_MEMORY, run, "no memory for its settings");
    json_decref(state);
    return status;
}

static up_status gather(const char *run, json_t *page) {
    json_t *metrics = json_array(), *predictions = json_array(), *scores = NULL;
    up_status status = UP_OK;
    if (!metrics || !predictions || json_object_set_new(page, "name", json_string(run)))
        UP_GO(up_fail(UP_ERR_MEMORY, run, "no memory for its report, or its name is not UTF-8"));
    UP_GO(read_lines(run, "metrics.jsonl", metrics));
    UP_GO(read_lines(run, "predictions.jsonl", predictions));
    UP_GO(read_scores(run, &scores));
    UP_GO(read_settings(run, page));
    if (!json_array_size(metrics) && !json_array_size(scores))
        UP_GO(up_fail(UP_ERR_ARGUMENT, run, "holds neither metrics.jsonl nor metrics.json"));
    if (json_object_set(page, "metrics", metrics) || json_object_set(page, "predictions", predictions) ||
        json_object_set(page, "scores", scores))
        UP_GO(up_fail(UP_ERR_MEMORY, run, "no memory for its report"));
done:
    json_decref(metrics);
    json_decref(predictions);
    json_decref(scores);
    return status;
}

static up_status put_data(up_file_writer *file, const char *text) {
    for (size_t n; *text; text += n) {
        n = strcspn(text, "<");
        UP_TRY(up_file_put(file, text, n));
        if (!text[n]) return UP_OK;
        UP_TRY(up_file_put(file, "\\u003c", 6));
        n++;
    }
    return UP_OK;
}

static up_status put_page(up_file_writer *file, const char *data) {
    const char *at = strstr(up_report_page, place), *behind = at + sizeof place - 1;
    UP_TRY(up_file_put(file, up_report_page, (size_t)(at - up_report_page)));
    UP_TRY(put_data(file, data));
    return up_file_put(file, behind, strlen(behind));
}

static up_status write_page(const char *path, const char *data) {
    up_file_writer file;
    UP_TRY(up_file_begin(path, &file));
    up_status status = put_page(&file, data);
    if (status == UP_OK) return up_file_commit(&file);
    up_file_abort(&file);
    return status;
}

up_status up_report_write(const char *run, const char *out) {
    char path[4096], *data = NULL;
    size_t length;
    up_status status = UP_OK;
    json_t *page = json_object();
    if (!page) return up_fail(UP_ERR_MEMORY, run, "no memory for its report");
    UP_GO(gather(run, page));
    UP_GO(up_json_write(run, page, JSON_COMPACT | JSON_REAL_PRECISION(6), &data, &length));
    snprintf(path, sizeof path, "%s/report.html", run);
    UP_GO(write_page(out ? out : path, data));
done:
    free(data);
    json_decref(page);
    return status;
}

/* videos.c - lists of clips: Kinetics, Moments in Time. */
#include "data/datasets/reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct list {
    up_dataset *dataset;
    up_sample_index_writer *writer;
    up_sample sample;
    int columns[5]; /* of Kinetics: label, youtube_id, time_start, time_end, split; -1: it has none */
} list;

enum { CELLS = 16 };

/* Cut a line at its commas, in place; a cell in quotes may hold some. */
static int cut(char *line, char **cells) {
    int n = 0;
    while (line && n < CELLS) {
        char *end = line;
        if (*line == '"') {
            line++;
            end = strchr(line, '"');
            if (!end) end = line + strlen(line);
            if (*end) *end++ = 0;
        }
        cells[n++] = line;
        end = strchr(end, ',');
        if (end) *end++ = 0;
        line = end;
    }
    return n;
}

static const char *const kinetics[5] = {"label", "youtube_id", "time_start", "time_end", "split"};

static up_status take_names(list *l, char **cells, int count) {
    for (int k = 0; k < 5; k++) {
        l->columns[k] = -1;
        for (int i = 0; i < count; i++)
            if (!strcmp(cells[i], kinetics[k])) l->columns[k] = i;
        if (l->columns[k] < 0 && k < 4 && k != 0)
            return up_fail(UP_ERR_FORMAT, l->dataset->options.data, "no column \"%s\" in its first line",
                           kinetics[k]);
    }
    return UP_OK;
}

/* Where the clip of a row lies: by label in folders, as most scripts store them, or all in one. */
static void name_clip(const list *l, const char *label, const char *name, char *out, size_t room) {
    const char *folder = l->dataset->options.videos ? l->dataset->options.videos : l->dataset->folder;
    char path[4096];
    snprintf(out, room, "%s/%s", label, name);
    snprintf(path, sizeof path, "%s/%s", folder, out);
    if (!*label || access(path, F_OK)) snprintf(out, room, "%s", name);
}

static up_status add_kinetics(void *context, char *line, size_t number) {
    list *l = context;
    char *cells[CELLS], *text[5], name[512], path[1024], *end;
    int count = cut(line, cells);
    if (number == 1) return take_names(l, cells, count);
    for (int k = 0; k < 5; k++) {
        if (l->columns[k] >= count)
            return up_fail(UP_ERR_FORMAT, l->dataset->options.data,
                           "line %zu has %d cells; wanted \"%s\" in cell %d", number, count, kinetics[k],
                           l->columns[k] + 1);
        text[k] = l->columns[k] < 0 ? "" : cells[l->columns[k]];
    }
    const char *split = l->dataset->options.split;
    if (split && strcmp(split, text[4])) return UP_OK;
    long from = strtol(text[2], &end, 10), to = *end && *end != '.' ? -1 : strtol(text[3], &end, 10);
    if (from < 0 || to < from || (*end && *end != '.'))
        return up_fail(UP_ERR_FORMAT, l->dataset->options.data, "line %zu: \"%s\" to \"%s\": wanted seconds",
                       number, text[2], text[3]);
    snprintf(name, sizeof name, "%s_%06ld_%06ld.mp4", text[1], from, to);
    name_clip(l, text[0], name, path, sizeof path);
    up_sample_clear(&l->sample);
    UP_TRY(up_datasets_add(&l->sample, "video", path));
    if (*text[0]) UP_TRY(up_datasets_add(&l->sample, "label", text[0]));
    UP_TRY(up_datasets_add(&l->sample, "key", text[1]));
    return up_sample_index_record(l->writer, &l->sample);
}

/* "class/file.mp4,label", and numbers of those who agreed, in the older lists. */
static up_status add_moment(void *context, char *line, size_t number) {
    list *l = context;
    char *cells[CELLS];
    int count = cut(line, cells);
    if (count < 2 || !*cells[0] || !*cells[1])
        return up_fail(UP_ERR_FORMAT, l->dataset->options.data, "line %zu: wanted FILE,LABEL", number);
    up_sample_clear(&l->sample);
    UP_TRY(up_datasets_add(&l->sample, "video", cells[0]));
    UP_TRY(up_datasets_add(&l->sample, "label", cells[1]));
    UP_TRY(up_datasets_add(&l->sample, "key", cells[0]));
    return up_sample_index_record(l->writer, &l->sample);
}

static up_status read_list(up_dataset *d, up_sample_index_writer *w, up_each_line each) {
    list l = {d, w, {0}, {0}};
    UP_TRY(up_sample_index_input(w, d->options.data));
    up_status status = up_datasets_each_line(d->options.data, each, &l);
    up_sample_free(&l.sample);
    return status;
}

up_status up_read_kinetics(up_dataset *d, up_sample_index_writer *w) {
    return read_list(d, w, add_kinetics);
}

up_status up_read_moments(up_dataset *d, up_sample_index_writer *w) {
    return read_list(d, w, add_moment);
}

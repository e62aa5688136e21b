/* captions.c - lists with several lines for one picture or clip, one behind the other: Flickr30k, MSVD. */
#include "data/datasets/reader.h"
#include "files/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct list {
    up_dataset *dataset;
    up_sample_index_writer *writer;
    up_sample sample; /* the picture or clip at hand with the captions found so far */
    char key[512];
    const char *chosen; /* names between line breaks, one behind each; NULL: all are taken */
} list;

static up_status flush(list *l) {
    return l->sample.count ? up_sample_index_record(l->writer, &l->sample) : UP_OK;
}

static up_status add(list *l, const char *kind, const char *key, const char *file, const char *caption) {
    if (strcmp(l->key, key)) {
        UP_TRY(flush(l));
        snprintf(l->key, sizeof l->key, "%s", key);
        up_sample_clear(&l->sample);
        UP_TRY(up_datasets_add(&l->sample, kind, file));
        UP_TRY(up_datasets_add(&l->sample, "key", key));
    }
    return up_datasets_add(&l->sample, "text", caption);
}

static up_status wrong(const list *l, size_t number, const char *wanted) {
    return up_fail(UP_ERR_FORMAT, l->dataset->options.data, "line %zu: wanted %s", number, wanted);
}

/* "1000092795.jpg#0<tab>A caption ." */
static up_status add_flickr(void *context, char *line, size_t number) {
    list *l = context;
    char *tab = strchr(line, '\t'), *hash = strchr(line, '#');
    if (!tab || !hash || hash > tab || hash == line || hash - line >= (long)sizeof l->key)
        return wrong(l, number, "FILE#NUMBER<tab>CAPTION");
    *hash = 0;
    return add(l, "image", line, line, tab + 1);
}

/* Whether a list of names has this one, of which `length` bytes count. */
static int is_chosen(const char *names, const char *name, size_t length) {
    for (const char *at = names; at && (at = strstr(at, name)); at++)
        if ((at == names || at[-1] == '\n') && (at[length] == '\n' || at[length] == '\r' || !at[length]))
            return 1;
    return !names;
}

/* "-4wsuPCjDBc_5_15 a squirrel is eating a peanut": the clip is the file of that name, .avi; lines that begin
 * with # are remarks. */
static up_status add_msvd(void *context, char *line, size_t number) {
    list *l = context;
    char *space = strchr(line, ' '), file[600];
    if (*line == '#') return UP_OK;
    if (!space || space == line || space - line >= (long)sizeof l->key)
        return wrong(l, number, "NAME CAPTION");
    *space = 0;
    if (!is_chosen(l->chosen, line, (size_t)(space - line))) return UP_OK;
    snprintf(file, sizeof file, "%s.avi", line);
    return add(l, "video", line, file, space + 1);
}

static up_status read_list(up_dataset *d, up_sample_index_writer *w, const char *chosen, up_each_line each) {
    list l = {.dataset = d, .writer = w, .chosen = chosen};
    UP_TRY(up_sample_index_input(w, d->options.data));
    up_status status = up_datasets_each_line(d->options.data, each, &l);
    if (status == UP_OK) status = flush(&l);
    up_sample_free(&l.sample);
    return status;
}

up_status up_read_flickr30k(up_dataset *d, up_sample_index_writer *w) {
    return read_list(d, w, NULL, add_flickr);
}

up_status up_read_msvd(up_dataset *d, up_sample_index_writer *w) {
    const char *names = d->options.annotations;
    void *chosen = NULL;
    size_t size;
    if (names) UP_TRY(up_sample_index_input(w, names));
    if (names) UP_TRY(up_file_read(names, &chosen, &size));
    up_status status = read_list(d, w, chosen, add_msvd);
    free(chosen);
    return status;
}

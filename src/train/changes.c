/* changes.c - where two configurations differ, line by line: what a resumed run tells. */
#include "train/trainer.h"
#include "ref/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_SIZE = 300 }; /* longer lines are cut */

typedef struct lines {
    const char **start;
    size_t *length;
    size_t count;
} lines;

static void lines_free(lines *l) {
    free(l->start);
    free(l->length);
}

static up_status split(const char *text, lines *out) {
    size_t room = 1;
    for (const char *c = text; *c; c++) room += *c == '\n';
    *out = (lines){calloc(room, sizeof *out->start), calloc(room, sizeof *out->length), 0};
    if (!out->start || !out->length) return up_fail(UP_ERR_MEMORY, "configuration", "%zu lines wanted", room);
    for (; *text; out->count++) {
        out->start[out->count] = text;
        out->length[out->count] = strcspn(text, "\n");
        text += out->length[out->count];
        text += *text != 0;
    }
    return UP_OK;
}

static int equal(const lines *a, size_t i, const lines *b, size_t j) {
    return a->length[i] == b->length[j] && !memcmp(a->start[i], b->start[j], a->length[i]);
}

/* Line i of those before `end`, without what would act on a terminal; "" behind them. */
static const char *show(const lines *l, size_t i, size_t end, char out[LINE_SIZE]) {
    *out = 0;
    if (i < end) up_printable(l->start[i], l->length[i], out, LINE_SIZE);
    return out;
}

/* Lines i..i_end of a stand where lines j..j_end of b stand now. */
static void tell(const char *folder, const lines *a, size_t i, size_t i_end, const lines *b, size_t j,
                 size_t j_end) {
    char was[LINE_SIZE], is[LINE_SIZE];
    for (; i < i_end || j < j_end; i++, j++)
        up_log(UP_LOG_NOTICE, "%s: the configuration has changed since: was \"%s\", is \"%s\"", folder,
               show(a, i, i_end, was), show(b, j, j_end, is));
}

/* common[i, j]: the most lines that a from i on and b from j on have in common, in order. */
static void tell_all(const char *folder, const lines *a, const lines *b, const int *common) {
    size_t width = b->count + 1, i = 0, j = 0;
    while (i < a->count || j < b->count) {
        size_t i_end = i, j_end = j;
        while (i_end < a->count && j_end < b->count && !equal(a, i_end, b, j_end)) {
            int down = common[(i_end + 1) * width + j_end], right = common[i_end * width + j_end + 1];
            i_end += down >= right;
            j_end += down < right;
        }
        if (i_end == a->count || j_end == b->count) { /* nothing in common is left */
            i_end = a->count;
            j_end = b->count;
        }
        tell(folder, a, i, i_end, b, j, j_end);
        i = i_end + (i_end < a->count);
        j = j_end + (j_end < b->count);
    }
}

up_status up_changes_tell(const char *folder, const char *then, const char *now) {
    enum { MOST = 1 << 24 }; /* of a table that is nobody's configuration */
    lines a = {0}, b = {0};
    int *common = NULL;
    up_status status = UP_OK;
    UP_GO(split(then, &a));
    UP_GO(split(now, &b));
    size_t width = b.count + 1;
    if ((a.count + 1) > MOST / width)
        UP_GO(up_fail(UP_ERR_FORMAT, folder, "holds settings of %zu lines", a.count));
    common = calloc((a.count + 1) * width, sizeof *common);
    if (!common) UP_GO(up_fail(UP_ERR_MEMORY, folder, "no memory to compare its settings"));
    for (size_t i = a.count; i-- > 0;)
        for (size_t j = b.count; j-- > 0;) {
            int down = common[(i + 1) * width + j], right = common[i * width + j + 1];
            common[i * width + j] = equal(&a, i, &b, j) ? common[(i + 1) * width + j + 1] + 1
                                    : down > right      ? down
                                                        : right;
        }
    tell_all(folder, &a, &b, common);
done:
    free(common);
    lines_free(&a);
    lines_free(&b);
    return status;
}

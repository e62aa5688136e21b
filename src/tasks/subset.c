/* subset.c - few-shot subsets: a share of a source's rows, drawn for each class alike, by a seed of their
 * own: the same rows for every run that names the same list, fraction and fraction_seed. */
#include "tasks/source.h"
#include "uniperceiver/random.h"

#include <math.h>
#include <stdlib.h>

enum { PURPOSE_SUBSET = 0x5b }; /* of these draws alone */

static size_t class_of(const up_source *s, size_t row) {
    return s->class_of_row ? (size_t)s->class_of_row[row] : 0;
}

/* Rows of one class, of which `left` are still to be looked at and `wanted` of those to be taken: each set of
 * so many is equally likely (Knuth, algorithm S). */
typedef struct share {
    size_t left, wanted;
    up_rng rng;
} share;

static size_t take_rows(const up_source *s, share *shares, size_t *rows) {
    size_t count = 0;
    for (size_t row = 0; row < s->table.rows; row++) {
        if (s->class_of_row && s->class_of_row[row] < 0) continue; /* not a sample of a class */
        share *of = &shares[class_of(s, row)];
        uint32_t place = up_rng_below(&of->rng, (uint32_t)of->left);
        of->left--;
        if (place >= of->wanted) continue;
        of->wanted--;
        rows[count++] = row;
    }
    return count;
}

up_status up_source_thin(up_source *s) {
    const up_task_settings *c = s->settings;
    size_t classes = s->class_of_row ? s->class_count : 1, count;
    share *shares = calloc(classes, sizeof *shares);
    size_t *rows = malloc((s->table.rows + 1) * sizeof *rows);
    up_status status = UP_OK;
    if (!shares || !rows) UP_GO(up_fail(UP_ERR_MEMORY, c->name, "a share of %zu rows wanted", s->table.rows));
    for (size_t row = 0; row < s->table.rows; row++)
        if (!s->class_of_row || s->class_of_row[row] >= 0) shares[class_of(s, row)].left++;
    for (size_t i = 0; i < classes; i++) {
        size_t wanted = (size_t)llround(c->fraction * (double)shares[i].left);
        shares[i].wanted = wanted || !shares[i].left ? wanted : 1;
        shares[i].rng = up_rng_make((uint64_t)c->fraction_seed, i, 0, PURPOSE_SUBSET);
    }
    count = take_rows(s, shares, rows);
    for (size_t i = 0; s->class_of_row && i < count; i++) s->class_of_row[i] = s->class_of_row[rows[i]];
    up_table_keep(&s->table, rows, count);
done:
    free(shares);
    free(rows);
    return status;
}

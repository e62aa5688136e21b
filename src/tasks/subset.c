/* subset.c - few-shot subsets: a share of a source's rows, drawn for each class alike, by a seed of their
 * own: the same rows for every run that names the same list, fraction and fraction_seed. */
#include "tasks/source.h"
#include "uniperceiver/random.h"

#include <math.h>
#include <stdlib.h>

enum { PURPOSE_SUBSET = 0x5b }; /* of these draws alone */

/* Rows of one class, of which `left` are still to be looked at and `wanted` of those to be taken: each set of
 * so many is equally likely (Knuth, algorithm S). */
typedef struct share {
    size_t left, wanted;
    up_rng rng;
} share;

/* The class of each row, -1: of none; where there are no classes, all are of class 0. */
static up_status find_classes(const up_source *s, int *class_of_row) {
    up_sample sample = {0};
    up_status status = UP_OK;
    for (size_t row = 0; row < s->data.count; row++) {
        class_of_row[row] = 0;
        if (s->task->targets != UP_TARGETS_CLASSES) continue;
        class_of_row[row] = -1;
        status = up_dataset_sample(&s->data, row, &sample);
        if (up_is_of_sample(status)) continue;
        UP_GO(status);
        UP_GO(up_source_class(s, &sample, row, &class_of_row[row]));
    }
    status = UP_OK;
done:
    up_sample_free(&sample);
    return status;
}

static size_t take_rows(const int *class_of_row, size_t count, share *shares, size_t *rows) {
    size_t taken = 0;
    for (size_t row = 0; row < count; row++) {
        if (class_of_row[row] < 0) continue; /* not a sample of a class */
        share *of = &shares[class_of_row[row]];
        uint32_t place = up_rng_below(&of->rng, (uint32_t)of->left);
        of->left--;
        if (place >= of->wanted) continue;
        of->wanted--;
        rows[taken++] = row;
    }
    return taken;
}

up_status up_source_thin(up_source *s) {
    const up_task_settings *c = s->settings;
    size_t classes = s->task->targets == UP_TARGETS_CLASSES ? s->class_count : 1, count = s->data.count;
    share *shares = calloc(classes, sizeof *shares);
    int *class_of_row = malloc(count * sizeof *class_of_row);
    size_t *rows = malloc(count * sizeof *rows);
    up_status status = UP_OK;
    if (!shares || !class_of_row || !rows)
        UP_GO(up_fail(UP_ERR_MEMORY, c->name, "a share of %zu rows wanted", count));
    UP_GO(find_classes(s, class_of_row));
    for (size_t row = 0; row < count; row++)
        if (class_of_row[row] >= 0) shares[class_of_row[row]].left++;
    for (size_t i = 0; i < classes; i++) {
        size_t wanted = (size_t)llround(c->fraction * (double)shares[i].left);
        shares[i].wanted = wanted || !shares[i].left ? wanted : 1;
        shares[i].rng = up_rng_make((uint64_t)c->fraction_seed, i, 0, PURPOSE_SUBSET);
    }
    count = take_rows(class_of_row, count, shares, rows);
    up_dataset_keep(&s->data, rows, count);
    rows = NULL;
done:
    free(shares);
    free(class_of_row);
    free(rows);
    return status;
}

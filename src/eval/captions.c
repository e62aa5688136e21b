/* captions.c - generated texts (paper appendix D, image and video caption): beam search through the session,
 * scored by the words shared with the true text; chance is the same score against the texts of all other
 * rows. */
#include "eval/eval.h"
#include "files/file.h"
#include "files/progress.h"

#include <stdlib.h>
#include <string.h>

enum { BEAM = 3, AT_ONCE = 16 /* rows that are read and captioned before the next */ };

/* A text as tokens. */
typedef struct tokens {
    int32_t *ids;
    size_t count;
} tokens;

/* Captions and true texts of n rows. */
typedef struct captions {
    size_t n;
    up_caption *made;
    tokens *true_texts;
} captions;

/* The picture or clip of a row; *path and *bytes are malloc'ed. */
static up_status open_row(const up_source *s, size_t row, char **path, void **bytes, up_part *part) {
    size_t size;
    UP_TRY(up_table_file(&s->table, row, s->task->video ? s->video : s->image, path));
    UP_TRY(up_file_read(*path, bytes, &size));
    *part = (up_part){
        .kind = s->task->video ? UP_PART_VIDEO : UP_PART_IMAGE, .data = *bytes, .size = size, .name = *path};
    return UP_OK;
}

static up_status caption_rows(up_evaluation *e, const up_source *s, size_t first, size_t count,
                              up_caption *out) {
    char *path[AT_ONCE] = {0};
    void *bytes[AT_ONCE] = {0};
    up_part parts[AT_ONCE];
    up_input inputs[AT_ONCE];
    up_status status = UP_OK;
    const up_caption_options options = {.beam = BEAM,
                                        .max_words = (int)s->settings->text_limit,
                                        .task = e->world.config->task_names[s->temperature]};
    for (size_t i = 0; i < count; i++) {
        UP_GO(open_row(s, first + i, &path[i], &bytes[i], &parts[i]));
        inputs[i] = (up_input){&parts[i], 1, 0};
    }
    UP_GO(up_caption_inputs(e->session, inputs, (int)count, &options, out));
done:
    for (size_t i = 0; i < count; i++) {
        free(path[i]);
        free(bytes[i]);
    }
    return status;
}

static up_status make_captions(up_evaluation *e, const up_source *s, captions *c) {
    c->n = up_evaluation_rows(s);
    c->made = calloc(c->n + 1, sizeof *c->made);
    c->true_texts = calloc(c->n + 1, sizeof *c->true_texts);
    if (!c->made || !c->true_texts)
        return up_fail(UP_ERR_MEMORY, s->settings->name, "%zu captions wanted", c->n);
    up_counter counter = up_counter_start("  captions", (int64_t)c->n, e->options.quiet);
    for (size_t first = 0, count; first < c->n; first += count) {
        count = c->n - first < AT_ONCE ? c->n - first : AT_ONCE;
        UP_TRY(caption_rows(e, s, first, count, c->made + first));
        up_counter_show(&counter, (int64_t)(first + count));
        UP_TRY(up_evaluation_goes_on(e, s));
    }
    for (size_t i = 0; i < c->n; i++) {
        const char *text = up_table_cell(&s->table, i, s->text);
        tokens *own = &c->true_texts[i];
        UP_TRY(up_tokenize(e->world.tokenizer, text, strlen(text), &own->ids, &own->count));
    }
    return UP_OK;
}

static void captions_free(captions *c) {
    for (size_t i = 0; i < c->n; i++) {
        if (c->made) up_caption_free(&c->made[i]);
        if (c->true_texts) free(c->true_texts[i].ids);
    }
    free(c->made);
    free(c->true_texts);
}

static double overlap(const captions *c, size_t made, size_t with) {
    const up_caption *a = &c->made[made];
    const tokens *b = &c->true_texts[with];
    return up_bag_f1(a->ids, (size_t)a->words, b->ids, b->count);
}

static up_status score(up_evaluation *e, const up_source *s, const captions *c) {
    double *own = malloc((c->n + 1) * sizeof *own), others = 0;
    if (!own) return up_fail(UP_ERR_MEMORY, s->settings->name, "%zu scores wanted", c->n);
    for (size_t i = 0; i < c->n; i++) {
        own[i] = overlap(c, i, i);
        for (size_t j = 0; j < c->n; j++)
            if (j != i) others += overlap(c, i, j);
    }
    double pairs = (double)c->n * (double)(c->n - 1);
    up_metric number = up_mean(own, (int64_t)c->n, others / pairs);
    free(own);
    return up_score_add(e, s, "word F1", number);
}

static void show(up_evaluation *e, const up_source *s, const captions *c) {
    if (!c->n || e->captions_shown++) return;
    fprintf(e->examples, "\nCaptions, in words (%s)\n", s->settings->name);
    for (int i = 0; i < UP_SHOWN; i++) {
        size_t row = up_shown_row(c->n, i);
        fprintf(e->examples, "  %-28s true: %-46s said: %s\n",
                up_table_cell(&s->table, row, s->task->video ? s->video : s->image),
                up_table_cell(&s->table, row, s->text), c->made[row].text);
    }
}

up_status up_measure_captions(up_evaluation *e, const up_source *s) {
    captions c = {0};
    up_status status = UP_OK;
    UP_GO(make_captions(e, s, &c));
    if (c.n > 1) UP_GO(score(e, s, &c)); /* one row has no others to compare with */
    show(e, s, &c);
done:
    captions_free(&c);
    return status;
}

/* measure.c - every task is the nearest target by cosine (paper equation 1): encode the rows of a source some
 * at a time and its target set once, and count. */
#include "eval/eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_AT_ONCE = 64 };

/* Read-outs of a source's rows. A row may have several (words; several cuts of one picture), which is why
 * each says whose it is. */
typedef struct readouts {
    up_features x; /* retrieval: of all rows; otherwise of the rows at hand */
    int64_t count;
    int64_t room;
    int32_t *labels, *best; /* [count] the true target, -1: left out; the nearest one */
    size_t *row;            /* [count] row of the list */
} readouts;

static up_status reserve(readouts *r, int64_t more) {
    if (r->count + more <= r->room) return UP_OK;
    int64_t room = r->room ? r->room : 256;
    while (room < r->count + more) room *= 2;
    int32_t *labels = realloc(r->labels, (size_t)room * sizeof *labels);
    if (labels) r->labels = labels;
    int32_t *best = realloc(r->best, (size_t)room * sizeof *best);
    if (best) r->best = best;
    size_t *row = realloc(r->row, (size_t)room * sizeof *row);
    if (row) r->row = row;
    if (!labels || !best || !row)
        return up_fail(UP_ERR_MEMORY, "features", "%lld rows wanted", (long long)room);
    r->room = room;
    return UP_OK;
}

static void readouts_free(readouts *r) {
    up_features_free(&r->x);
    free(r->labels);
    free(r->best);
    free(r->row);
}

/* Labels and rows of the batch in e->work: the sequence of a read-out is the sample it is of. */
static up_status take_labels(const up_work *w, const size_t *rows, readouts *r) {
    const up_batch *b = &w->batch;
    UP_TRY(reserve(r, b->readouts));
    for (int i = 0, sequence = 0; i < b->readouts; i++) {
        const int32_t *s = b->sequence + (size_t)sequence * UP_SEQ_FIELDS;
        while (b->readout_row[i] >= s[UP_SEQ_Q_START] + s[UP_SEQ_Q_COUNT]) {
            sequence++;
            s += UP_SEQ_FIELDS;
        }
        r->labels[r->count + i] = w->labels[i];
        r->row[r->count + i] = rows[sequence];
    }
    return UP_OK;
}

/* What is done with each batch of inputs, which is in e->work and staged. */
typedef up_status (*take_batch)(up_evaluation *e, const up_source *s, readouts *r);

static up_status each_batch(up_evaluation *e, const up_source *s, readouts *r, take_batch take) {
    size_t rows[ROWS_AT_ONCE], limit = up_evaluation_rows(s);
    const up_build_options options = {.seed = 0}; /* runs of all seeds are asked for the same hidden words */
    for (size_t first = 0; first < limit; first += ROWS_AT_ONCE) {
        int count = 0;
        for (size_t row = first; row < limit && row < first + ROWS_AT_ONCE; row++) {
            int labelled;
            UP_TRY(up_source_is_labelled(s, row, &labelled));
            if (labelled) rows[count++] = row;
        }
        if (!count) continue;
        UP_TRY(up_source_build(s, &options, rows, count, &e->work));
        if (!e->work.batch.readouts) continue;
        UP_TRY(take_labels(&e->work, rows, r));
        UP_TRY(up_encoder_stage(e->encoder, &e->work.batch, NULL));
        UP_TRY(take(e, s, r));
        r->count += e->work.batch.readouts;
        UP_TRY(up_evaluation_goes_on(e, s));
    }
    return UP_OK;
}

/* --- classes, answers, words: one set for all rows --- */

static up_status take_nearest(up_evaluation *e, const up_source *s, readouts *r) {
    UP_TRY(up_features_resize(&r->x, up_encoder_readouts(e->encoder)));
    UP_TRY(up_encoder_forward(e->encoder, r->x.raw));
    UP_TRY(up_features_normalize(&r->x));
    return up_nearest(e->cosines, r->x.unit, up_target_set_features(s->set)->unit, r->best + r->count);
}

static up_status measure_accuracy(up_evaluation *e, const up_source *s) {
    int64_t targets = up_target_set_count(s->set);
    int words = s->task->targets == UP_TARGETS_WORDS;
    readouts r = {0};
    up_metric number = {0};
    up_status status = UP_OK;
    UP_GO(up_features_create(up_session_model(e->session), 0, &r.x));
    UP_GO(up_target_set_encode(s->set, &(up_set_encoders){.scout = e->scout}));
    UP_GO(each_batch(e, s, &r, take_nearest));
    if (words)
        UP_GO(up_word_accuracy(r.best, r.labels, r.count, targets, &number));
    else
        number = up_accuracy(r.best, r.labels, r.count, targets);
    UP_GO(up_score_add(e, s, words ? "word accuracy" : "accuracy", number));
done:
    readouts_free(&r);
    return status;
}

/* --- retrieval: the rows' own texts are the set, both directions --- */

typedef struct retrieval {
    readouts inputs;
    up_batch texts;        /* target sequences of all rows */
    int32_t *groups;       /* [n] rows of equal texts have the same */
    int64_t *there, *back; /* [n] ranks of inputs among texts, of texts among inputs */
} retrieval;

static up_status take_row_features(up_evaluation *e, const up_source *s, readouts *r) {
    retrieval *t = (retrieval *)r; /* its first member */
    const up_batch *targets = &e->work.targets;
    (void)s;
    UP_TRY(up_batch_append(&t->texts, targets, 0, targets->sequences));
    return up_encoder_forward(e->encoder, up_view_rows(r->x.raw, r->count, e->work.batch.readouts));
}

static up_status group_rows(const up_source *s, retrieval *t) {
    int64_t n = t->inputs.count;
    t->groups = malloc(((size_t)n + 1) * sizeof *t->groups);
    t->there = malloc(((size_t)n + 1) * sizeof *t->there);
    t->back = malloc(((size_t)n + 1) * sizeof *t->back);
    if (!t->groups || !t->there || !t->back)
        return up_fail(UP_ERR_MEMORY, s->settings->name, "%lld texts wanted", (long long)n);
    return up_group_targets(&t->texts, t->groups);
}

/* At 1 and at 5, both ways. */
static up_status add_recalls(up_evaluation *e, const up_source *s, const retrieval *t) {
    static const struct {
        int at;
        const char *there, *back;
    } cuts[] = {{1, "R@1 input to text", "R@1 text to input"}, {5, "R@5 input to text", "R@5 text to input"}};
    int64_t n = t->inputs.count;
    up_metric number;
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        UP_TRY(up_recall(t->there, t->groups, n, t->groups, n, cuts[i].at, &number));
        UP_TRY(up_score_add(e, s, cuts[i].there, number));
        UP_TRY(up_recall(t->back, t->groups, n, t->groups, n, cuts[i].at, &number));
        UP_TRY(up_score_add(e, s, cuts[i].back, number));
    }
    return UP_OK;
}

/* The text of a row, the first of several, filled to a width. */
static void tell_text(FILE *out, const up_source *s, size_t row, int width) {
    up_sample sample = {0};
    const up_value *v = NULL;
    if (up_dataset_sample(&s->data, row, &sample) == UP_OK)
        v = up_sample_value(&sample, s->settings->target, 0);
    fprintf(out, "%-*s", width, v ? up_value_text(&sample, v) : "");
    up_sample_free(&sample);
}

/* The nearest texts of a row, in words; of equal cosines one is told. */
static void tell_nearest(FILE *out, const up_source *s, const retrieval *t, const float *cosines) {
    double below = INFINITY;
    for (int place = 0; place < UP_SHOWN; place++) {
        int64_t best = -1;
        for (int64_t j = 0; j < t->inputs.count; j++)
            if ((double)cosines[j] < below && (best < 0 || cosines[j] > cosines[best])) best = j;
        if (best < 0) return;
        below = (double)cosines[best];
        fprintf(out, "%s ", place ? "," : "");
        tell_text(out, s, t->inputs.row[best], 0);
        fprintf(out, " (%.2f)", below);
    }
}

static up_status show_retrievals(up_evaluation *e, const up_source *s, const retrieval *t, up_view texts) {
    int64_t n = t->inputs.count;
    up_status status = UP_OK;
    if (!n || e->retrievals_shown++) return UP_OK;
    float *cosines = malloc((size_t)n * sizeof *cosines);
    if (!cosines) return up_fail(UP_ERR_MEMORY, s->settings->name, "%lld cosines wanted", (long long)n);
    fprintf(e->examples, "\nRetrievals, in words (%s; the best three of %lld)\n", s->settings->name,
            (long long)n);
    for (int i = 0; i < UP_SHOWN; i++) {
        size_t at = up_shown_row((size_t)n, i);
        UP_GO(up_cosines_read(e->cosines, up_view_rows(t->inputs.x.unit, (int64_t)at, 1), texts, cosines));
        fprintf(e->examples, "  true: ");
        tell_text(e->examples, s, t->inputs.row[at], 46);
        fprintf(e->examples, " found:");
        tell_nearest(e->examples, s, t, cosines);
        fprintf(e->examples, "\n");
    }
done:
    free(cosines);
    return status;
}

static up_status measure_recall(up_evaluation *e, const up_source *s) {
    retrieval t = {0};
    up_features *x = &t.inputs.x;
    up_status status = UP_OK;
    UP_GO(up_features_create(up_session_model(e->session), 0, x));
    UP_GO(up_features_resize(x, (int64_t)up_evaluation_rows(s)));
    UP_GO(up_batch_begin(&t.texts, e->world.config));
    UP_GO(each_batch(e, s, &t.inputs, take_row_features));
    UP_GO(up_features_normalize(x));
    UP_GO(group_rows(s, &t)); /* the set takes the texts */
    UP_GO(up_target_set_fill(s->set, &t.texts));
    UP_GO(up_target_set_encode(s->set, &(up_set_encoders){.scout = e->scout}));
    up_view texts = up_target_set_features(s->set)->unit;
    UP_GO(up_ranks(e->cosines, x->unit, texts, t.groups, t.groups, t.there));
    UP_GO(up_ranks(e->cosines, texts, x->unit, t.groups, t.groups, t.back));
    UP_GO(add_recalls(e, s, &t));
    UP_GO(show_retrievals(e, s, &t, texts));
done:
    readouts_free(&t.inputs);
    up_batch_free(&t.texts);
    free(t.groups);
    free(t.there);
    free(t.back);
    return status;
}

up_status up_measure(up_evaluation *e, const up_source *s) {
    return s->task->targets == UP_TARGETS_TEXTS ? measure_recall(e, s) : measure_accuracy(e, s);
}

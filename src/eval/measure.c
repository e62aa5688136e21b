/* measure.c - every task is the nearest target by cosine (paper equation 1): encode the rows of a source some
 * at a time and its target set once, and count. Of a row that is looked at in several ways the unit features
 * are averaged: its nearest target is then the one with the highest mean of logits. */
#include "eval/head.h"
#include "infer/session.h"
#include "tasks/cut.h"

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
    int32_t *targets;       /* [V] 0, 1, ...: where the best five are counted */
    int64_t among_five, ranked;
    const size_t *here; /* [here_count] rows at hand */
    int here_count;
    up_features view; /* several views: of the one at hand */
    float *sum;       /* [2, view.rows, D] the mean of the unit features of the views, and those of one */
    up_head *head;    /* classes: what takes part beside the cosines; NULL: nothing */
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
    up_features_free(&r->view);
    free(r->sum);
    free(r->labels);
    free(r->best);
    free(r->row);
    free(r->targets);
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

/* The mean of the views' unit features. The first view is staged. */
static up_status average_views(up_evaluation *e, const up_source *s, readouts *r, up_view into) {
    up_backend *b = r->view.backend;
    size_t values = (size_t)(into.rows * into.cols);
    int views = up_views(s->settings);
    float *one = r->sum + values;
    memset(r->sum, 0, values * sizeof *r->sum);
    for (int v = 0; v < views; v++) {
        const up_build_options options = {.view = v};
        if (v) {
            UP_TRY(up_source_build(s, &options, r->here, r->here_count, &e->work));
            UP_TRY(up_encoder_stage(e->encoder, &e->work.batch, NULL));
        }
        UP_TRY(up_encoder_forward(e->encoder, r->view.raw));
        UP_TRY(up_features_normalize(&r->view));
        UP_TRY(up_features_read(&r->view, one));
        for (size_t i = 0; i < values; i++) r->sum[i] += one[i] / (float)views;
    }
    return b->ops->upload(b, into, r->sum);
}

/* Features of the batch that is staged, [its read-outs, D]. */
static up_status encode_inputs(up_evaluation *e, const up_source *s, readouts *r, up_view into) {
    if (up_views(s->settings) == 1) return up_encoder_forward(e->encoder, into);
    if (!r->view.backend) UP_TRY(up_features_create(up_session_model(e->session), 0, &r->view));
    UP_TRY(up_features_resize(&r->view, into.rows));
    float *sum = realloc(r->sum, 2 * (size_t)(into.rows * into.cols) * sizeof *sum);
    if (!sum) return up_fail(UP_ERR_MEMORY, "views", "%lld rows wanted", (long long)into.rows);
    r->sum = sum;
    return average_views(e, s, r, into);
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
        r->here = rows;
        r->here_count = count;
        UP_TRY(up_encoder_stage(e->encoder, &e->work.batch, NULL));
        UP_TRY(take(e, s, r));
        r->count += e->work.batch.readouts;
        UP_TRY(up_evaluation_goes_on(e, s));
    }
    return UP_OK;
}

/* --- classes, answers, words: one set for all rows --- */

static up_status count_among_five(up_evaluation *e, const up_source *s, readouts *r) {
    int64_t n = e->work.batch.readouts;
    const int32_t *labels = r->labels + r->count;
    int64_t *rank = malloc(((size_t)n + 1) * sizeof *rank);
    if (!rank) return up_fail(UP_ERR_MEMORY, s->settings->name, "%lld ranks wanted", (long long)n);
    up_status status =
        up_ranks(e->cosines, r->x.unit, up_target_set_features(s->set)->unit, labels, r->targets, rank);
    for (int64_t i = 0; i < n && status == UP_OK; i++) {
        r->ranked += labels[i] >= 0;
        r->among_five += labels[i] >= 0 && rank[i] < 5;
    }
    free(rank);
    return status;
}

static up_status count_targets(readouts *r, int64_t targets) {
    r->targets = malloc((size_t)targets * sizeof *r->targets);
    if (!r->targets) return up_fail(UP_ERR_MEMORY, "targets", "%lld wanted", (long long)targets);
    for (int64_t j = 0; j < targets; j++) r->targets[j] = (int32_t)j;
    return UP_OK;
}

static int is_among_five(const up_head *h, size_t input, size_t label) {
    double own = up_head_logit(h, input, label);
    int nearer = 0;
    for (size_t c = 0; c < h->classes; c++) nearer += c != label && up_head_logit(h, input, c) >= own;
    return nearer < 5;
}

static up_status nearest_by_head(up_evaluation *e, const up_source *s, readouts *r) {
    UP_TRY(up_head_read(e, s, &r->x, r->head));
    for (size_t i = 0; i < (size_t)r->x.unit.rows; i++) {
        double largest = -INFINITY;
        int32_t label = r->labels[r->count + (int64_t)i];
        for (size_t c = 0; c < r->head->classes; c++) {
            double z = up_head_logit(r->head, i, c);
            if (!isfinite(z)) return up_fail(UP_ERR_NUMERIC, s->settings->name, "a logit is not finite");
            if (z > largest) r->best[r->count + (int64_t)i] = (int32_t)c;
            largest = fmax(largest, z);
        }
        if (!r->targets || label < 0) continue;
        r->ranked++;
        r->among_five += is_among_five(r->head, i, (size_t)label);
    }
    return UP_OK;
}

static up_status take_nearest(up_evaluation *e, const up_source *s, readouts *r) {
    UP_TRY(up_features_resize(&r->x, up_encoder_readouts(e->encoder)));
    UP_TRY(encode_inputs(e, s, r, r->x.raw));
    UP_TRY(up_features_normalize(&r->x));
    if (r->head->row_of_class) return nearest_by_head(e, s, r);
    if (r->targets) UP_TRY(count_among_five(e, s, r));
    return up_nearest(e->cosines, r->x.unit, up_target_set_features(s->set)->unit, r->best + r->count);
}

/* Logits z [V] of the read-outs' first one, of the row that is in e->work and staged. */
static up_status read_logits(up_evaluation *e, const up_source *s, readouts *r, up_view targets, float *z) {
    double scale;
    UP_TRY(up_features_resize(&r->x, up_encoder_readouts(e->encoder)));
    UP_TRY(encode_inputs(e, s, r, r->x.raw));
    UP_TRY(up_features_normalize(&r->x));
    if (r->head && r->head->row_of_class) {
        UP_TRY(up_head_read(e, s, &r->x, r->head));
        for (size_t c = 0; c < s->class_count; c++) z[c] = (float)up_head_logit(r->head, 0, c);
        return UP_OK;
    }
    UP_TRY(up_task_scale(e->session, e->world.config->task_names[s->temperature], &scale));
    UP_TRY(up_cosines_read(e->cosines, up_view_rows(r->x.unit, 0, 1), targets, z));
    for (int64_t j = 0; j < targets.rows; j++) z[j] *= (float)scale;
    return UP_OK;
}

/* The target text of a row of retrieval, malloc'ed. */
static up_status row_text(const up_source *s, size_t row, char **text) {
    up_sample sample = {0};
    UP_TRY(up_dataset_sample(&s->data, row, &sample));
    const up_value *v = up_sample_value(&sample, s->settings->target, 0);
    *text = strdup(v ? up_value_text(&sample, v) : "");
    up_sample_free(&sample);
    return *text ? UP_OK : up_fail(UP_ERR_MEMORY, s->settings->name, "no memory for a text");
}

/* What a target is called: malloc'ed. `rows`: of retrieval, whose text a target is; else NULL. */
static up_status name_target(const up_evaluation *e, const up_source *s, const size_t *rows, int64_t j,
                             char **name) {
    if (s->task->targets == UP_TARGETS_WORDS)
        return up_predictions_words(e->predictions, e->world.vocabulary + j, 1, 0, name);
    if (rows) return row_text(s, rows[j], name);
    *name = strdup(s->classes[j]);
    return *name ? UP_OK : up_fail(UP_ERR_MEMORY, s->settings->name, "no memory for a name");
}

/* One row more for predictions.jsonl. */
static up_status keep_row(up_evaluation *e, const up_source *s, readouts *r, const size_t *rows, size_t row,
                          int64_t truth, float *z) {
    const up_build_options options = {.seed = 0};
    up_view targets = up_target_set_features(s->set)->unit;
    up_prediction p = {.row = row, .work = &e->work};
    up_choice choices[UP_CHOICES];
    char *names[UP_CHOICES + 1] = {0};
    up_status status = UP_OK;
    r->here = &row;
    r->here_count = 1;
    UP_GO(up_source_build(s, &options, &row, 1, &e->work));
    UP_GO(up_encoder_stage(e->encoder, &e->work.batch, NULL));
    UP_GO(read_logits(e, s, r, targets, z));
    p.choice_count = up_choose(z, targets.rows, choices);
    UP_GO(name_target(e, s, rows, rows ? truth : e->work.labels[0], &names[UP_CHOICES]));
    p.truth = names[UP_CHOICES];
    for (int i = 0; i < p.choice_count; i++) {
        UP_GO(name_target(e, s, rows, choices[i].target, &names[i]));
        p.choices[i] = names[i];
        p.probabilities[i] = choices[i].probability;
    }
    UP_GO(up_predictions_add(e->predictions, s, &p));
done:
    for (int i = 0; i <= UP_CHOICES; i++) free(names[i]);
    return status;
}

/* Rows that are spread over the list, each at its first read-out. */
static up_status keep_rows(up_evaluation *e, const up_source *s, readouts *r, const size_t *rows) {
    size_t n = (size_t)r->count, last = SIZE_MAX;
    int64_t targets = up_target_set_count(s->set);
    up_status status = UP_OK;
    if (!e->predictions || s->task->text == &up_text_slots)
        return UP_OK; /* a first word has nothing before it */
    float *z = malloc(((size_t)targets + 1) * sizeof *z);
    if (!z) return up_fail(UP_ERR_MEMORY, s->settings->name, "%lld logits wanted", (long long)targets);
    for (size_t i = 0; i < UP_PREDICTED_ROWS && n; i++) {
        size_t at = (2 * i + 1) * n / (2 * UP_PREDICTED_ROWS);
        if (r->row[at] == last || r->labels[at] < 0) continue;
        last = r->row[at];
        UP_GO(keep_row(e, s, r, rows, last, (int64_t)at, z));
    }
done:
    free(z);
    return status;
}

up_status up_measure_accuracy(up_evaluation *e, const up_source *s) {
    int64_t targets = up_target_set_count(s->set);
    int words = s->task->metric == UP_METRIC_WORDS;
    up_head h = {0};
    readouts r = {.head = &h};
    up_metric number = {0};
    up_status status = UP_OK;
    UP_GO(up_features_create(up_session_model(e->session), 0, &r.x));
    UP_GO(up_target_set_encode(s->set, &(up_set_encoders){.scout = e->scout}));
    if (!words && targets > 5) UP_GO(count_targets(&r, targets)); /* of five all are among the best five */
    UP_GO(up_head_open(e, s, ROWS_AT_ONCE, &h));
    UP_GO(each_batch(e, s, &r, take_nearest));
    if (words)
        UP_GO(up_word_accuracy(r.best, r.labels, r.count, targets, &number));
    else
        number = up_accuracy(r.best, r.labels, r.count, targets);
    UP_GO(up_score_add(e, s, words ? "word accuracy" : "accuracy", number));
    if (r.targets)
        UP_GO(up_score_add(e, s, "top-5 accuracy", up_share(r.among_five, r.ranked, 5 / (double)targets)));
    if (e->predictions) UP_GO(up_predictions_confusion(e->predictions, s, r.labels, r.best, r.count));
    UP_GO(keep_rows(e, s, &r, NULL));
done:
    up_head_close(&h);
    readouts_free(&r);
    return status;
}

/* --- retrieval: the rows' own texts are the set, both directions --- */

typedef struct retrieval {
    readouts inputs;
    up_batch texts;        /* target sequences of all rows */
    uint64_t *pictures;    /* [n] whose the texts are; 0: nobody's */
    int32_t *groups;       /* [n] rows of equal texts, or of one picture, have the same */
    int64_t *there, *back; /* [n] ranks of inputs among texts, of texts among inputs */
} retrieval;

static up_status take_row_features(up_evaluation *e, const up_source *s, readouts *r) {
    retrieval *t = (retrieval *)r; /* its first member */
    const up_batch *targets = &e->work.targets;
    UP_TRY(up_batch_append(&t->texts, targets, 0, targets->sequences));
    memcpy(t->pictures + r->count, e->work.pictures, (size_t)targets->sequences * sizeof *t->pictures);
    return encode_inputs(e, s, r, up_view_rows(r->x.raw, r->count, e->work.batch.readouts));
}

static up_status group_rows(const up_source *s, retrieval *t) {
    int64_t n = t->inputs.count;
    t->groups = malloc(((size_t)n + 1) * sizeof *t->groups);
    t->there = malloc(((size_t)n + 1) * sizeof *t->there);
    t->back = malloc(((size_t)n + 1) * sizeof *t->back);
    if (!t->groups || !t->there || !t->back)
        return up_fail(UP_ERR_MEMORY, s->settings->name, "%lld texts wanted", (long long)n);
    UP_TRY(up_group_targets(&t->texts, t->groups));
    return up_group_pictures(t->pictures, (int)n, t->groups);
}

/* At 1, 5 and 10, both ways. */
static up_status add_recalls(up_evaluation *e, const up_source *s, const retrieval *t) {
    static const struct {
        int at;
        const char *there, *back;
    } cuts[] = {{1, "R@1 input to text", "R@1 text to input"},
                {5, "R@5 input to text", "R@5 text to input"},
                {10, "R@10 input to text", "R@10 text to input"}};
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
    char *text = NULL;
    fprintf(out, "%-*s", width, row_text(s, row, &text) == UP_OK ? text : "");
    free(text);
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

up_status up_measure_recall(up_evaluation *e, const up_source *s) {
    retrieval t = {0};
    up_features *x = &t.inputs.x;
    up_status status = UP_OK;
    t.pictures = malloc(up_evaluation_rows(s) * sizeof *t.pictures);
    if (!t.pictures) UP_GO(up_fail(UP_ERR_MEMORY, s->settings->name, "%zu rows", up_evaluation_rows(s)));
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
    UP_GO(keep_rows(e, s, &t.inputs, t.inputs.row));
done:
    readouts_free(&t.inputs);
    up_batch_free(&t.texts);
    free(t.pictures);
    free(t.groups);
    free(t.there);
    free(t.back);
    return status;
}

/* measure.c - every task is the nearest target by cosine (paper equation 1): encode the rows of a source some
 * at a time and its target set once, and count. Of a row that is looked at in several ways the unit features
 * are averaged: its nearest target is then the one with the highest mean of logits. */
#include "eval/measure.h"
#include "eval/answers.h"
#include "eval/label_scores.h"
#include "files/digest.h"
#include "files/progress.h"
#include "infer/session.h"
#include "tasks/classes.h"
#include "tasks/cut.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static up_status reserve(up_readouts *r, int64_t more) {
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

void up_readouts_free(up_readouts *r) {
    up_features_free(&r->x);
    up_features_free(&r->view);
    free(r->sum);
    free(r->labels);
    free(r->best);
    free(r->row);
    free(r->targets);
}

/* Labels and rows of the batch in e->work: the sequence of a read-out is the sample it is of. */
static up_status take_labels(const up_work *w, const size_t *rows, up_readouts *r) {
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
static up_status average_views(up_evaluation *e, const up_source *s, up_readouts *r, up_view into) {
    up_backend *b = r->view.backend;
    size_t values = (size_t)(into.rows * into.cols);
    int views = up_views(s->settings);
    float *one = r->sum + values;
    memset(r->sum, 0, values * sizeof *r->sum);
    for (int v = 0; v < views; v++) {
        const up_build_options options = {.view = v};
        if (v) {
            UP_TRY(up_source_build(s, &options, r->rows, r->row_count, &e->work));
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
static up_status encode_inputs(up_evaluation *e, const up_source *s, up_readouts *r, up_view into) {
    if (up_views(s->settings) == 1) return up_encoder_forward(e->encoder, into);
    if (!r->view.backend) UP_TRY(up_features_create(up_session_model(e->session), 0, &r->view));
    UP_TRY(up_features_resize(&r->view, into.rows));
    float *sum = realloc(r->sum, 2 * (size_t)(into.rows * into.cols) * sizeof *sum);
    if (!sum) return up_fail(UP_ERR_MEMORY, "views", "%lld rows wanted", (long long)into.rows);
    r->sum = sum;
    return average_views(e, s, r, into);
}

/* --- some rows at a time --- */

static int is_wanted(const up_readouts *r, size_t row, int labelled) {
    return r->left_out ? !r->left_out[row] : labelled;
}

static up_status choose_rows(const up_source *s, const up_readouts *r, size_t first, size_t end, size_t *rows,
                             int *count) {
    *count = 0;
    for (size_t row = first; row < end; row++) {
        int labelled = 0;
        if (!r->left_out) UP_TRY(up_source_is_labelled(s, row, &labelled));
        if (is_wanted(r, row, labelled)) rows[(*count)++] = row;
    }
    return UP_OK;
}

/* A record of the rows at hand: how many read-outs and tokens they have, then labels and rows of these, and
 * their features [here, D]. */
typedef struct part {
    int64_t here, tokens;
} part;

static size_t part_bytes(const up_evaluation *e, int64_t here) {
    size_t one = sizeof(int32_t) + sizeof(size_t) + (size_t)e->world.config->width * sizeof(float);
    return sizeof(part) + (size_t)here * one;
}

static up_status restore(up_evaluation *e, up_readouts *r, const char *bytes, size_t size, int *done) {
    part head;
    *done = 0;
    if (size < sizeof head) return UP_OK;
    memcpy(&head, bytes, sizeof head);
    if (head.here < 0 || head.here > INT32_MAX || part_bytes(e, head.here) != size) return UP_OK;
    UP_TRY(reserve(r, head.here));
    size_t n = (size_t)head.here;
    bytes += sizeof head;
    memcpy(r->labels + r->count, bytes, n * sizeof *r->labels);
    bytes += n * sizeof *r->labels;
    memcpy(r->row + r->count, bytes, n * sizeof *r->row);
    bytes += n * sizeof *r->row;
    r->here = (int)n;
    e->restored += head.tokens;
    *done = 1;
    if (!n) return UP_OK;
    float *aligned = malloc(n * (size_t)e->world.config->width * sizeof *aligned);
    if (!aligned) return up_fail(UP_ERR_MEMORY, "features", "%zu rows wanted", n);
    memcpy(aligned, bytes, n * (size_t)e->world.config->width * sizeof *aligned);
    up_status status = up_features_resize(&r->x, head.here);
    if (status == UP_OK) status = r->x.backend->ops->upload(r->x.backend, r->x.raw, aligned);
    free(aligned);
    return status;
}

static up_status keep_part(const up_evaluation *e, up_readouts *r, size_t first, int64_t tokens) {
    size_t n = (size_t)r->here, size = part_bytes(e, r->here);
    part head = {r->here, tokens};
    if (!r->parts) return UP_OK;
    char *bytes = malloc(size), *at = bytes;
    float *features = malloc((n * (size_t)e->world.config->width + 1) * sizeof *features);
    up_status status = UP_OK;
    if (!bytes || !features) UP_GO(up_fail(UP_ERR_MEMORY, "features", "%zu rows wanted", n));
    if (n) UP_GO(r->x.backend->ops->download(r->x.backend, features, r->x.raw));
    memcpy(at, &head, sizeof head);
    at += sizeof head;
    memcpy(at, r->labels + r->count, n * sizeof *r->labels);
    at += n * sizeof *r->labels;
    memcpy(at, r->row + r->count, n * sizeof *r->row);
    at += n * sizeof *r->row;
    memcpy(at, features, n * (size_t)e->world.config->width * sizeof *features);
    up_parts_put(r->parts, first, bytes, size);
done:
    free(bytes);
    free(features);
    return status;
}

/* Features of the rows at hand in r->x, and whose they are behind those of the rows before. */
static up_status encode_rows(up_evaluation *e, const up_source *s, up_readouts *r) {
    const up_build_options options = {.seed = 0}; /* runs of all seeds are asked for the same hidden words */
    r->here = 0;
    if (!r->row_count) return UP_OK;
    UP_TRY(up_source_build(s, &options, r->rows, r->row_count, &e->work));
    if (!e->work.batch.readouts) return UP_OK;
    UP_TRY(take_labels(&e->work, r->rows, r));
    UP_TRY(up_encoder_stage(e->encoder, &e->work.batch, NULL));
    r->here = e->work.batch.readouts;
    UP_TRY(up_features_resize(&r->x, r->here));
    return encode_inputs(e, s, r, r->x.raw);
}

/* The same of rows first..end, out of the file of parts where it has them. */
static up_status read_rows(up_evaluation *e, const up_source *s, up_readouts *r, size_t first, size_t end) {
    size_t rows[UP_ROWS_AT_ONCE], size;
    const void *bytes = up_parts_take(r->parts, first, &size);
    int64_t before = up_encoder_tokens(e->encoder);
    int done = 0;
    if (bytes) UP_TRY(restore(e, r, bytes, size, &done));
    if (done) return UP_OK;
    UP_TRY(choose_rows(s, r, first, end, rows, &r->row_count));
    r->rows = rows;
    up_status status = encode_rows(e, s, r);
    r->rows = NULL;
    UP_TRY(status);
    return keep_part(e, r, first, up_encoder_tokens(e->encoder) - before);
}

up_status up_each_batch(up_evaluation *e, const up_source *s, up_readouts *r, up_take_batch take) {
    size_t limit = up_evaluation_rows(s);
    up_status status = UP_OK;
    up_counter counter = up_counter_start("  rows", (int64_t)limit, e->options.quiet);
    UP_GO(up_features_create(up_session_model(e->session), 0, &r->x));
    UP_GO(up_parts_open(e, s, &r->parts));
    for (size_t first = 0, end; first < limit; first = end) {
        end = limit - first < UP_ROWS_AT_ONCE ? limit : first + UP_ROWS_AT_ONCE;
        UP_GO(read_rows(e, s, r, first, end));
        if (r->here) UP_GO(take(e, s, r));
        r->count += r->here;
        up_counter_show(&counter, (int64_t)end);
        UP_GO(up_evaluation_goes_on(e, s));
    }
done:
    up_parts_close(r->parts);
    r->parts = NULL;
    return status;
}

/* --- classes, answers, words: one set for all rows --- */

static up_status count_among_five(up_evaluation *e, const up_source *s, up_readouts *r) {
    int64_t n = r->here;
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

static up_status count_targets(up_readouts *r, int64_t targets) {
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

static up_status nearest_by_head(up_evaluation *e, const up_source *s, up_readouts *r) {
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

static up_status take_nearest(up_evaluation *e, const up_source *s, up_readouts *r) {
    UP_TRY(up_features_normalize(&r->x));
    if (r->head->row_of_class) return nearest_by_head(e, s, r);
    if (r->targets) UP_TRY(count_among_five(e, s, r));
    return up_nearest(e->cosines, r->x.unit, up_target_set_features(s->set)->unit, r->best + r->count);
}

/* Logits z [V] of the read-outs' first one, of the row that is in e->work and staged. */
static up_status read_logits(up_evaluation *e, const up_source *s, up_readouts *r, up_view targets,
                             float *z) {
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

/* Of a class or word; there are no names beside the source's. */
static up_status name_target(const up_evaluation *e, const up_source *s, const void *names, int64_t j,
                             char **name) {
    (void)names;
    if (s->task->targets == UP_TARGETS_WORDS)
        return up_predictions_words(e->predictions, e->world.vocabulary + j, 1, 0, name);
    *name = strdup(s->classes[j]);
    return *name ? UP_OK : up_fail(UP_ERR_MEMORY, s->settings->name, "no memory for a name");
}

/* One row more for predictions.jsonl: the first read-out of a row. */
static up_status keep_row(up_evaluation *e, const up_source *s, up_readouts *r, size_t at,
                          up_name_target name, const void *names, float *z) {
    const up_build_options options = {.seed = 0};
    up_view targets = up_target_set_features(s->set)->unit;
    up_prediction p = {.row = r->row[at], .work = &e->work};
    up_choice choices[UP_CHOICES];
    char *texts[UP_CHOICES + 1] = {0};
    up_status status = UP_OK;
    r->rows = &p.row;
    r->row_count = 1;
    UP_GO(up_source_build(s, &options, r->rows, 1, &e->work));
    UP_GO(up_encoder_stage(e->encoder, &e->work.batch, NULL));
    UP_GO(read_logits(e, s, r, targets, z));
    p.choice_count = up_choose(z, targets.rows, choices);
    UP_GO(name(e, s, names, r->labels[at], &texts[UP_CHOICES]));
    p.truth = texts[UP_CHOICES];
    for (int i = 0; i < p.choice_count; i++) {
        UP_GO(name(e, s, names, choices[i].target, &texts[i]));
        p.choices[i] = texts[i];
        p.probabilities[i] = choices[i].probability;
    }
    UP_GO(up_predictions_add(e->predictions, s, &p));
done:
    r->rows = NULL;
    for (int i = 0; i <= UP_CHOICES; i++) free(texts[i]);
    return status;
}

up_status up_keep_rows(up_evaluation *e, const up_source *s, up_readouts *r, up_name_target name,
                       const void *names) {
    size_t n = (size_t)r->count, last = SIZE_MAX;
    int64_t targets = up_target_set_count(s->set);
    up_status status = UP_OK;
    if (!e->predictions || s->task->text == &up_text_slots)
        return UP_OK; /* a first word has nothing before it */
    float *z = malloc(((size_t)targets + 1) * sizeof *z);
    if (!z) return up_fail(UP_ERR_MEMORY, s->settings->name, "%lld logits wanted", (long long)targets);
    for (size_t i = 0; i < UP_PREDICTED_ROWS && n; i++) {
        size_t at = (2 * i + 1) * n / (2 * UP_PREDICTED_ROWS);
        while (at && r->row[at - 1] == r->row[at]) at--;
        if (r->row[at] == last || r->labels[at] < 0) continue;
        last = r->row[at];
        UP_GO(keep_row(e, s, r, at, name, names, z));
    }
done:
    free(z);
    return status;
}

/* --- scores --- */

/* Of two classes called 0 and 1, as GLUE has them: F1 of the 1 (MRPC, QQP) and Matthews' correlation (CoLA).
 */
static up_status add_label_scores(up_evaluation *e, const up_source *s, const up_readouts *r) {
    int one = s->task->targets == UP_TARGETS_CLASSES ? up_classes_find(s, "1") : -1;
    int64_t n = 0, counts[4];
    if (one < 0 || s->class_count != 2 || up_classes_find(s, "0") < 0) return UP_OK;
    int32_t *said = malloc(2 * ((size_t)r->count + 1) * sizeof *said), *labels = said + r->count;
    if (!said) return up_fail(UP_ERR_MEMORY, s->settings->name, "%lld labels wanted", (long long)r->count);
    for (int64_t i = 0; i < r->count; i++) {
        if (r->labels[i] < 0) continue;
        said[n] = r->best[i] == one;
        labels[n++] = r->labels[i] == one;
    }
    up_status status = up_score_add(e, s, "F1", up_f1_metric(said, labels, n));
    double matthews = up_matthews(said, labels, (size_t)n, 2, counts);
    double error = n ? sqrt(fmax(0, 1 - matthews * matthews) / (double)n) : 0;
    if (status == UP_OK)
        status = up_score_add(e, s, "Matthews correlation", (up_metric){matthews, 0, error, n});
    free(said);
    return status;
}

/* Lists of classes are kept as texts are; words are the session's, and the mean over templates is made anew.
 */
static up_status encode_set(up_evaluation *e, const up_source *s) {
    if (s->task->targets != UP_TARGETS_CLASSES || s->settings->template_count)
        return up_target_set_encode(s->set, &(up_set_encoders){.scout = e->scout});
    size_t texts = s->class_count + 1, ids = (size_t)s->class_starts[s->class_count];
    uint64_t content = up_digest(0, s->class_starts, texts * sizeof *s->class_starts);
    return up_evaluation_encode_set(e, s, up_digest(content, s->class_ids, ids * sizeof *s->class_ids));
}

up_status up_measure_accuracy(up_evaluation *e, const up_source *s) {
    int64_t targets = up_target_set_count(s->set);
    int words = s->task->metric == UP_METRIC_WORDS;
    up_head h = {0};
    up_readouts r = {.head = &h};
    uint8_t *all = NULL;
    up_metric number = {0};
    up_status status = UP_OK;
    if (up_has_answers(s)) { /* a question whose answers are no candidates counts: as missed */
        all = calloc(up_evaluation_rows(s) + 1, sizeof *all);
        if (!all) UP_GO(up_fail(UP_ERR_MEMORY, s->settings->name, "%zu rows", up_evaluation_rows(s)));
        r.left_out = all;
    }
    UP_GO(encode_set(e, s));
    if (!words && targets > 5) UP_GO(count_targets(&r, targets)); /* of five all are among the best five */
    UP_GO(up_head_open(e, s, UP_ROWS_AT_ONCE, &h));
    UP_GO(up_each_batch(e, s, &r, take_nearest));
    if (words)
        UP_GO(up_word_accuracy(r.best, r.labels, r.count, targets, &number));
    else
        number = up_accuracy(r.best, r.labels, r.count, targets);
    UP_GO(up_score_add(e, s, words ? "word accuracy" : "accuracy", number));
    if (r.targets)
        UP_GO(up_score_add(e, s, "top-5 accuracy", up_share(r.among_five, r.ranked, 5 / (double)targets)));
    UP_GO(add_label_scores(e, s, &r));
    if (all) UP_GO(up_score_answers(e, s, r.row, r.best, r.count));
    if (e->predictions) UP_GO(up_predictions_confusion(e->predictions, s, r.labels, r.best, r.count));
    UP_GO(up_keep_rows(e, s, &r, name_target, NULL));
done:
    up_head_close(&h);
    up_readouts_free(&r);
    free(all);
    return status;
}

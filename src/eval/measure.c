/* measure.c - accuracy and recall from features: every task is the nearest target by cosine (paper equation
 * 1). */
#include "eval/eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { EVALUATION_BATCH = 64 };

static up_status append(float **rows, int64_t *count, const float *more, int64_t n, int width) {
    float *grown = realloc(*rows, (size_t)(*count + n) * (size_t)width * sizeof *grown);
    if (!grown && *count + n)
        return up_fail(UP_ERR_MEMORY, "features", "%lld rows wanted", (long long)(*count + n));
    *rows = grown;
    if (n) memcpy(grown + (size_t)*count * (size_t)width, more, (size_t)n * (size_t)width * sizeof *grown);
    *count += n;
    return UP_OK;
}

static up_status append_labels(up_features *f, const up_work *w, int64_t offset) {
    int64_t before = f->n - w->batch.queries;
    int32_t *grown = realloc(f->labels, (size_t)(f->n ? f->n : 1) * sizeof *grown);
    if (!grown) return up_fail(UP_ERR_MEMORY, "labels", "%lld wanted", (long long)f->n);
    f->labels = grown;
    for (int i = 0; i < w->batch.queries; i++)
        grown[before + i] = w->labels[i] < 0 ? -1 : w->labels[i] + (int32_t)offset;
    return UP_OK;
}

/* The rows of a batch into the features; a shared target set is taken from the first batch. */
static up_status take_batch(up_evaluation *e, up_features *f, int retrieving) {
    const up_batch *b = &e->work.batch;
    int64_t rows = b->queries + b->targets, offset = retrieving ? f->v : 0;
    float *features = malloc((size_t)rows * (size_t)f->width * sizeof *features);
    if (!features) return up_fail(UP_ERR_MEMORY, "features", "%lld rows wanted", (long long)rows);
    up_status status = up_run_features(e->run, features);
    for (int64_t i = 0; status == UP_OK && i < rows * f->width; i++)
        if (!isfinite(features[i]))
            status = up_fail(UP_ERR_NUMERIC, "feature", "not finite: check the model");
    if (status == UP_OK) status = append(&f->queries, &f->n, features, b->queries, f->width);
    if (status == UP_OK) status = append_labels(f, &e->work, offset);
    if (status == UP_OK && (retrieving || !f->v))
        status = append(&f->targets, &f->v, features + (size_t)b->queries * (size_t)f->width, b->targets,
                        f->width);
    free(features);
    return status;
}

up_status up_measure_features(up_evaluation *e, const up_source *s, up_features *f) {
    size_t rows[EVALUATION_BATCH], limit = s->table.rows;
    up_build_options options = {0, 0, 0}; /* seed 0: runs of all seeds are asked for the same hidden words */
    int retrieving = s->task->objective == UP_RETRIEVE;
    up_status status = UP_OK;
    *f = (up_features){.width = up_session_width(e->session)};
    if (s->settings->limit && (size_t)s->settings->limit < limit) limit = (size_t)s->settings->limit;
    for (size_t first = 0; first < limit; first += EVALUATION_BATCH) {
        int count = 0;
        for (size_t row = first; row < limit && row < first + EVALUATION_BATCH; row++)
            if (!s->class_of_row || s->class_of_row[row] >= 0) rows[count++] = row;
        if (!count) continue;
        options.moment = first;
        UP_GO(up_source_build(s, &options, rows, count, &e->work));
        UP_GO(up_run_forward(e->run, &e->work.batch, NULL));
        UP_GO(take_batch(e, f, retrieving));
        if (e->options.stop && *e->options.stop)
            UP_GO(up_fail(UP_ERR_INTERRUPTED, s->settings->name, "evaluation stopped"));
    }
done:
    if (status != UP_OK) up_features_free(f);
    return status;
}

void up_features_free(up_features *f) {
    free(f->queries);
    free(f->targets);
    free(f->labels);
    *f = (up_features){0};
}

static double cosine(const float *a, const float *b, int width) {
    double sum = 0;
    for (int i = 0; i < width; i++) sum += (double)a[i] * b[i];
    return sum;
}

/* The first best of v targets for a query. */
static int64_t nearest(const float *query, const float *targets, int64_t v, int width) {
    int64_t best = 0;
    double most = -INFINITY;
    for (int64_t i = 0; i < v; i++) {
        double c = cosine(query, targets + (size_t)i * (size_t)width, width);
        if (c > most) {
            most = c;
            best = i;
        }
    }
    return best;
}

static up_score share(const up_source *s, const char *metric, int trained, int64_t hits, int64_t n,
                      double chance) {
    double p = n ? (double)hits / (double)n : 0;
    return (up_score){
        s->settings->name, metric, trained, p, chance, n ? sqrt(p * (1 - p) / (double)n) : 0, n};
}

/* How often the most frequent label occurs: what a constant answer would reach. */
static double most_frequent(const up_features *f, int64_t counted) {
    int64_t *times = calloc((size_t)(f->v ? f->v : 1), sizeof *times), most = 0;
    for (int64_t i = 0; times && i < f->n; i++)
        if (f->labels[i] >= 0 && ++times[f->labels[i]] > most) most = times[f->labels[i]];
    free(times);
    return counted ? (double)most / (double)counted : 0;
}

static up_status measure_accuracy(up_evaluation *e, const up_source *s, const up_features *f, int trained) {
    int64_t hits = 0, counted = 0;
    for (int64_t i = 0; i < f->n; i++) {
        if (f->labels[i] < 0) continue;
        counted++;
        hits +=
            nearest(f->queries + (size_t)i * (size_t)f->width, f->targets, f->v, f->width) == f->labels[i];
    }
    int words = s->task->objective == UP_MLM || s->task->objective == UP_AR;
    double chance = words ? most_frequent(f, counted) : f->v ? 1.0 / (double)f->v : 0;
    return up_scores_add(&e->scores,
                         share(s, words ? "word accuracy" : "accuracy", trained, hits, counted, chance));
}

/* How many of n candidates stand before the best one whose text is row i's own: several rows may share a
 * text. */
static int64_t rank_of(const up_source *s, int64_t i, const float *query, const float *candidates, int64_t n,
                       int width) {
    const char *own = up_table_cell(&s->table, (size_t)i, s->target);
    double best = -INFINITY;
    int64_t before = 0;
    for (int64_t j = 0; j < n; j++)
        if (!strcmp(up_table_cell(&s->table, (size_t)j, s->target), own))
            best = fmax(best, cosine(query, candidates + (size_t)j * (size_t)width, width));
    for (int64_t j = 0; j < n; j++)
        before += strcmp(up_table_cell(&s->table, (size_t)j, s->target), own) &&
                  cosine(query, candidates + (size_t)j * (size_t)width, width) >= best;
    return before;
}

/* Chance of one of row i's own texts among k drawn from n. */
static double chance_at(const up_source *s, int64_t i, int64_t n, int k) {
    const char *own = up_table_cell(&s->table, (size_t)i, s->target);
    int64_t others = n;
    double miss = 1;
    for (int64_t j = 0; j < n; j++) others -= !strcmp(up_table_cell(&s->table, (size_t)j, s->target), own);
    for (int t = 0; t < k && t < n; t++) miss *= fmax(0, (double)(others - t)) / (double)(n - t);
    return 1 - miss;
}

/* Recall at 1 and 5, both ways. */
static up_status measure_recall(up_evaluation *e, const up_source *s, const up_features *f, int trained) {
    enum { CUTS = 2 };
    static const int cuts[CUTS] = {1, 5};
    static const char *const there_names[CUTS] = {"R@1 input to text", "R@5 input to text"};
    static const char *const back_names[CUTS] = {"R@1 text to input", "R@5 text to input"};
    int64_t there[CUTS] = {0}, back[CUTS] = {0};
    double chance[CUTS] = {0};
    for (int64_t i = 0; i < f->n; i++) {
        size_t at = (size_t)i * (size_t)f->width;
        int64_t to = rank_of(s, i, f->queries + at, f->targets, f->n, f->width);
        int64_t from = rank_of(s, i, f->targets + at, f->queries, f->n, f->width);
        for (int c = 0; c < CUTS; c++) {
            there[c] += to < cuts[c];
            back[c] += from < cuts[c];
            chance[c] += chance_at(s, i, f->n, cuts[c]) / (double)f->n;
        }
    }
    for (int c = 0; c < CUTS; c++) {
        UP_TRY(up_scores_add(&e->scores, share(s, there_names[c], trained, there[c], f->n, chance[c])));
        UP_TRY(up_scores_add(&e->scores, share(s, back_names[c], trained, back[c], f->n, chance[c])));
    }
    return UP_OK;
}

up_status up_measure(up_evaluation *e, const up_source *s, int trained) {
    up_features f;
    UP_TRY(up_measure_features(e, s, &f));
    up_status status = s->task->objective == UP_RETRIEVE ? measure_recall(e, s, &f, trained)
                                                         : measure_accuracy(e, s, &f, trained);
    up_features_free(&f);
    return status;
}

/* recall.c - retrieval in both directions, as the field counts it (Karpathy's splits of COCO and Flickr30k,
 * MSVD): each picture or clip is one query, however many rows it has, all texts of all rows are candidates; a
 * picture is found at k where one of its own texts is among the first k, a text where its picture is. */
#include "eval/measure.h"
#include "files/digest.h"
#include "infer/session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Where a text stands in the list. */
typedef struct place {
    size_t row, number;
} place;

typedef struct retrieval {
    up_readouts inputs; /* one of each picture */
    uint8_t *left_out;  /* [rows] 1: a row before has the same picture */
    int32_t *picture;   /* [rows] */
    int32_t pictures;   /* P */
    float *raw;         /* [P, D] features of inputs, on the host */
    up_features x;      /* [P, D] */
    up_batch texts;     /* T target sequences */
    place *places;      /* [T] */
    uint64_t *owner;    /* [T] picture + 1 */
    size_t room;        /* of places and owner */
    int32_t *group_x;   /* [P], [T]: what is right for each other has the same */
    int32_t *group_y;
    int64_t *there, *back; /* [P] ranks of inputs among texts, [T] of texts among inputs */
} retrieval;

static void retrieval_free(retrieval *t) {
    up_readouts_free(&t->inputs);
    up_features_free(&t->x);
    up_batch_free(&t->texts);
    free(t->left_out);
    free(t->picture);
    free(t->raw);
    free(t->places);
    free(t->owner);
    free(t->group_x);
    free(t->group_y);
    free(t->there);
    free(t->back);
}

/* --- inputs --- */

static up_status choose_inputs(up_evaluation *e, const up_source *s, retrieval *t) {
    size_t rows = up_evaluation_rows(s), width = (size_t)e->world.config->width;
    int32_t next = 0;
    t->left_out = calloc(rows + 1, 1);
    t->picture = malloc((rows + 1) * sizeof *t->picture);
    if (!t->left_out || !t->picture) return up_fail(UP_ERR_MEMORY, s->settings->name, "%zu rows", rows);
    UP_TRY(up_evaluation_pictures(s, t->picture, &t->pictures));
    for (size_t row = 0; row < rows; row++) {
        t->left_out[row] = t->picture[row] < next;
        next += !t->left_out[row];
    }
    t->raw = malloc(((size_t)t->pictures + 1) * width * sizeof *t->raw);
    if (!t->raw) return up_fail(UP_ERR_MEMORY, s->settings->name, "features of %d inputs", t->pictures);
    t->inputs.left_out = t->left_out;
    return UP_OK;
}

/* An up_take_batch. */
static up_status take_inputs(up_evaluation *e, const up_source *s, up_readouts *r) {
    retrieval *t = (retrieval *)r; /* its first member */
    up_backend *b = r->x.backend;
    (void)s;
    return b->ops->download(b, t->raw + (size_t)r->count * (size_t)e->world.config->width, r->x.raw);
}

static up_status encode_inputs(up_evaluation *e, const up_source *s, retrieval *t) {
    UP_TRY(choose_inputs(e, s, t));
    UP_TRY(up_each_batch(e, s, &t->inputs, take_inputs));
    UP_TRY(up_features_create(up_session_model(e->session), 0, &t->x));
    UP_TRY(up_features_resize(&t->x, t->pictures));
    UP_TRY(t->x.backend->ops->upload(t->x.backend, t->x.raw, t->raw));
    return up_features_normalize(&t->x);
}

/* --- texts --- */

static up_status reserve_texts(const up_source *s, retrieval *t, size_t wanted) {
    size_t room = t->room ? t->room : 256;
    if (wanted <= t->room) return UP_OK;
    while (room < wanted) room *= 2;
    place *places = realloc(t->places, room * sizeof *places);
    if (places) t->places = places;
    uint64_t *owner = realloc(t->owner, room * sizeof *owner);
    if (owner) t->owner = owner;
    if (!places || !owner) return up_fail(UP_ERR_MEMORY, s->settings->name, "%zu texts wanted", room);
    t->room = room;
    return UP_OK;
}

/* All texts of all rows, and of each input the first that is its own. */
static up_status take_texts(const up_source *s, retrieval *t) {
    for (int32_t i = 0; i < t->pictures; i++) t->inputs.labels[i] = -1;
    for (size_t row = 0; row < up_evaluation_rows(s); row++) {
        int first = t->texts.sequences;
        int32_t picture = t->picture[row];
        UP_TRY(up_source_texts(s, row, &t->texts));
        UP_TRY(reserve_texts(s, t, (size_t)t->texts.sequences));
        for (int j = first; j < t->texts.sequences; j++) {
            t->places[j] = (place){row, (size_t)(j - first)};
            t->owner[j] = (uint64_t)picture + 1;
        }
        if (t->inputs.labels[picture] < 0) t->inputs.labels[picture] = first;
    }
    return UP_OK;
}

/* Of their tokens with the places where they end. */
static uint64_t digest_of_texts(const up_batch *texts) {
    size_t fields = (size_t)texts->sequences * UP_SEQ_FIELDS;
    uint64_t digest = up_digest(0, texts->text_id, (size_t)texts->text_count * sizeof *texts->text_id);
    return up_digest(digest, texts->sequence, fields * sizeof *texts->sequence);
}

/* A picture and its own texts; where equal texts are one, also those that have a text in common. */
static up_status group_texts(const up_source *s, retrieval *t) {
    size_t n = (size_t)t->pictures, v = (size_t)t->texts.sequences;
    t->group_x = malloc((n + 1) * sizeof *t->group_x);
    t->group_y = malloc((v + 1) * sizeof *t->group_y);
    t->there = malloc((n + 1) * sizeof *t->there);
    t->back = malloc((v + 1) * sizeof *t->back);
    if (!t->group_x || !t->group_y || !t->there || !t->back)
        return up_fail(UP_ERR_MEMORY, s->settings->name, "%zu texts wanted", v);
    if (s->settings->equal_texts) {
        UP_TRY(up_group_targets(&t->texts, t->group_y));
        UP_TRY(up_group_pictures(t->owner, (int)v, t->group_y));
        for (size_t i = 0; i < n; i++) t->group_x[i] = t->group_y[t->inputs.labels[i]];
        return UP_OK;
    }
    for (size_t j = 0; j < v; j++) t->group_y[j] = (int32_t)(t->owner[j] - 1);
    for (size_t i = 0; i < n; i++) t->group_x[i] = (int32_t)i;
    return UP_OK;
}

/* --- scores --- */

/* At 1, 5 and 10, both ways. */
static up_status add_recalls(up_evaluation *e, const up_source *s, const retrieval *t) {
    static const struct {
        int at;
        const char *there, *back;
    } cuts[] = {{1, "R@1 input to text", "R@1 text to input"},
                {5, "R@5 input to text", "R@5 text to input"},
                {10, "R@10 input to text", "R@10 text to input"}};
    int64_t n = t->pictures, v = up_target_set_count(s->set);
    up_metric number;
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        UP_TRY(up_recall(t->there, t->group_x, n, t->group_y, v, cuts[i].at, &number));
        UP_TRY(up_score_add(e, s, cuts[i].there, number));
        UP_TRY(up_recall(t->back, t->group_y, v, t->group_x, n, cuts[i].at, &number));
        UP_TRY(up_score_add(e, s, cuts[i].back, number));
    }
    return UP_OK;
}

/* An up_name_target: text j of the list; names: the retrieval. */
static up_status name_text(const up_evaluation *e, const up_source *s, const void *names, int64_t j,
                           char **name) {
    const retrieval *t = names;
    const place *p = &t->places[j];
    up_sample sample = {0};
    (void)e;
    UP_TRY(up_dataset_sample(&s->data, p->row, &sample));
    const up_value *v = up_sample_value(&sample, s->settings->target, p->number);
    *name = strdup(v ? up_value_text(&sample, v) : "");
    up_sample_free(&sample);
    return *name ? UP_OK : up_fail(UP_ERR_MEMORY, s->settings->name, "no memory for a text");
}

/* Text j, filled to a width. */
static void tell_text(up_evaluation *e, const up_source *s, const retrieval *t, int64_t j, int width) {
    char *text = NULL;
    fprintf(e->examples, "%-*s", width, name_text(e, s, t, j, &text) == UP_OK ? text : "");
    free(text);
}

/* The nearest of n texts, in words; of equal cosines one is told. */
static void tell_nearest(up_evaluation *e, const up_source *s, const retrieval *t, const float *cosines,
                         int64_t n) {
    double below = INFINITY;
    for (int shown = 0; shown < UP_SHOWN; shown++) {
        int64_t best = -1;
        for (int64_t j = 0; j < n; j++)
            if ((double)cosines[j] < below && (best < 0 || cosines[j] > cosines[best])) best = j;
        if (best < 0) return;
        below = (double)cosines[best];
        fprintf(e->examples, "%s ", shown ? "," : "");
        tell_text(e, s, t, best, 0);
        fprintf(e->examples, " (%.2f)", below);
    }
}

static up_status show_retrievals(up_evaluation *e, const up_source *s, const retrieval *t, up_view texts) {
    up_status status = UP_OK;
    if (!t->pictures || e->retrievals_shown++) return UP_OK;
    float *cosines = malloc((size_t)texts.rows * sizeof *cosines);
    if (!cosines)
        return up_fail(UP_ERR_MEMORY, s->settings->name, "%lld cosines wanted", (long long)texts.rows);
    fprintf(e->examples, "\nRetrievals, in words (%s; the best three of %lld)\n", s->settings->name,
            (long long)texts.rows);
    for (int i = 0; i < UP_SHOWN; i++) {
        size_t at = up_shown_row((size_t)t->pictures, i);
        UP_GO(up_cosines_read(e->cosines, up_view_rows(t->x.unit, (int64_t)at, 1), texts, cosines));
        fprintf(e->examples, "  true: ");
        tell_text(e, s, t, t->inputs.labels[at], 46);
        fprintf(e->examples, " found:");
        tell_nearest(e, s, t, cosines, texts.rows);
        fprintf(e->examples, "\n");
    }
done:
    free(cosines);
    return status;
}

up_status up_measure_recall(up_evaluation *e, const up_source *s) {
    retrieval t = {0};
    up_status status = UP_OK;
    UP_GO(encode_inputs(e, s, &t));
    UP_GO(up_batch_begin(&t.texts, e->world.config));
    UP_GO(take_texts(s, &t));
    UP_GO(group_texts(s, &t)); /* the set takes the texts */
    uint64_t content = digest_of_texts(&t.texts);
    UP_GO(up_target_set_fill(s->set, &t.texts));
    UP_GO(up_evaluation_encode_set(e, s, content));
    up_view texts = up_target_set_features(s->set)->unit;
    UP_GO(up_ranks(e->cosines, t.x.unit, texts, t.group_x, t.group_y, t.there));
    UP_GO(up_ranks(e->cosines, texts, t.x.unit, t.group_y, t.group_x, t.back));
    UP_GO(add_recalls(e, s, &t));
    UP_GO(show_retrievals(e, s, &t, texts));
    UP_GO(up_keep_rows(e, s, &t.inputs, name_text, &t));
done:
    retrieval_free(&t);
    return status;
}

/* cider.c - CIDEr and CIDEr-D: cosines of n-gram counts that are weighed by how few pictures' references have
 * them, as the COCO caption tools compute them. */
#include "eval/caption_metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double SIGMA = 6;

/* In how many pictures' references n-grams are: `times` counts pictures. */
typedef up_ngrams frequencies;

/* Append the n-grams of all references of a picture, each once. */
static up_status take_picture(const up_captioned *p, frequencies *f, size_t *room) {
    size_t first = f->count, kept;
    for (size_t i = 0; i < p->reference_count; i++) {
        up_ngrams n;
        UP_TRY(up_ngrams_count(&p->references[i], &n));
        if (f->count + n.count > *room) {
            size_t wanted = 2 * (f->count + n.count);
            up_ngram *grown = realloc(f->list, wanted * sizeof *grown);
            if (!grown) {
                up_ngrams_free(&n);
                return up_fail(UP_ERR_MEMORY, "CIDEr", "%zu n-grams wanted", wanted);
            }
            f->list = grown;
            *room = wanted;
        }
        if (n.count) memcpy(f->list + f->count, n.list, n.count * sizeof *n.list);
        f->count += n.count;
        up_ngrams_free(&n);
    }
    if (f->count == first) return UP_OK;
    qsort(f->list + first, f->count - first, sizeof *f->list, up_ngram_compare);
    kept = first + 1;
    for (size_t i = first + 1; i < f->count; i++)
        if (up_ngram_compare(&f->list[kept - 1], &f->list[i])) f->list[kept++] = f->list[i];
    f->count = kept;
    return UP_OK;
}

static up_status count_pictures(const up_corpus *c, frequencies *f) {
    size_t room = 0, kept = 0;
    for (size_t i = 0; i < c->count; i++) UP_TRY(take_picture(&c->pictures[i], f, &room));
    if (f->count) qsort(f->list, f->count, sizeof *f->list, up_ngram_compare);
    for (size_t i = 0; i < f->count; i++)
        if (kept && !up_ngram_compare(&f->list[kept - 1], &f->list[i])) {
            f->list[kept - 1].times++;
        } else {
            f->list[kept] = f->list[i];
            f->list[kept++].times = 1;
        }
    f->count = kept;
    return UP_OK;
}

/* A caption as a vector for each length of n-gram. */
typedef struct vectors {
    up_ngrams n;
    double *weight; /* [n.count] */
    double norm[UP_NGRAM], pairs;
} vectors;

static void vectors_free(vectors *v) {
    up_ngrams_free(&v->n);
    free(v->weight);
}

static up_status vectors_of(const up_phrase *p, const frequencies *f, double log_pictures, vectors *v) {
    *v = (vectors){0};
    UP_TRY(up_ngrams_count(p, &v->n));
    v->weight = malloc((v->n.count + 1) * sizeof *v->weight);
    if (!v->weight) {
        vectors_free(v);
        return up_fail(UP_ERR_MEMORY, "CIDEr", "a caption of %zu words", p->count);
    }
    for (size_t i = 0; i < v->n.count; i++) {
        const up_ngram *own = &v->n.list[i];
        const up_ngram *known =
            f->count ? bsearch(own, f->list, f->count, sizeof *own, up_ngram_compare) : NULL;
        double pictures = known ? known->times : 1;
        v->weight[i] = own->times * (log_pictures - log(pictures));
        v->norm[own->length - 1] += v->weight[i] * v->weight[i];
    }
    for (int k = 0; k < UP_NGRAM; k++) v->norm[k] = sqrt(v->norm[k]);
    v->pairs = p->count ? (double)p->count - 1 : 0; /* the tools measure length in pairs of words */
    return UP_OK;
}

/* The mean over lengths of n-gram. */
static double similarity(const vectors *a, const vectors *b, up_cider_kind kind) {
    double value[UP_NGRAM] = {0}, sum = 0, far = a->pairs - b->pairs;
    for (size_t i = 0, j = 0; i < a->n.count && j < b->n.count;) {
        int order = up_ngram_compare(&a->n.list[i], &b->n.list[j]);
        if (!order) {
            double x = a->weight[i], y = b->weight[j];
            value[a->n.list[i].length - 1] += (kind == UP_CIDER_D ? fmin(x, y) : x) * y;
        }
        i += order <= 0;
        j += order >= 0;
    }
    for (int k = 0; k < UP_NGRAM; k++) {
        if (a->norm[k] > 0 && b->norm[k] > 0) value[k] /= a->norm[k] * b->norm[k];
        sum += value[k];
    }
    if (kind == UP_CIDER_D) sum *= exp(-far * far / (2 * SIGMA * SIGMA));
    return sum / UP_NGRAM;
}

static up_status score_picture(const up_captioned *p, const frequencies *f, double log_pictures,
                               up_cider_kind kind, double *score) {
    vectors candidate, reference;
    double sum = 0;
    up_status status = UP_OK;
    UP_TRY(vectors_of(&p->candidate, f, log_pictures, &candidate));
    for (size_t i = 0; i < p->reference_count; i++) {
        UP_GO(vectors_of(&p->references[i], f, log_pictures, &reference));
        sum += similarity(&candidate, &reference, kind);
        vectors_free(&reference);
    }
    *score = 10 * sum / (double)p->reference_count;
done:
    vectors_free(&candidate);
    return status;
}

up_status up_cider(const up_corpus *c, up_cider_kind kind, double *own, double *all) {
    frequencies f = {0};
    double sum = 0, score = 0;
    up_status status = UP_OK;
    UP_GO(count_pictures(c, &f));
    for (size_t i = 0; i < c->count; i++) {
        UP_GO(score_picture(&c->pictures[i], &f, log((double)c->count), kind, &score));
        if (own) own[i] = score;
        sum += score;
    }
    *all = c->count ? sum / (double)c->count : 0;
done:
    up_ngrams_free(&f);
    return status;
}

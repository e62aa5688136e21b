/* bleu.c - BLEU with the conventions of the COCO caption tools: no smoothing but terms of 1e-15 and 1e-9 that
 * keep quotients finite, and of equally close reference lengths the shorter one. */
#include "eval/caption_metrics.h"

#include <math.h>
#include <stdlib.h>

typedef struct bleu_counts {
    double guessed[UP_NGRAM], correct[UP_NGRAM];
    double length, reference;
} bleu_counts;

static const double SMALL = 1e-9, TINY = 1e-15;

static void scores_of(const bleu_counts *c, double out[UP_NGRAM]) {
    double product = 1, ratio = (c->length + TINY) / (c->reference + SMALL);
    for (int k = 0; k < UP_NGRAM; k++) {
        product *= (c->correct[k] + TINY) / (c->guessed[k] + SMALL);
        out[k] = pow(product, 1.0 / (k + 1)) * (ratio < 1 ? exp(1 - 1 / ratio) : 1);
    }
}

static double closest_length(const up_captioned *p) {
    size_t own = p->candidate.count, best = p->references[0].count;
    for (size_t i = 1; i < p->reference_count; i++) {
        size_t length = p->references[i].count;
        size_t far = length > own ? length - own : own - length, near = best > own ? best - own : own - best;
        if (far < near || (far == near && length < best)) best = length;
    }
    return (double)best;
}

/* most [candidate->count]: raise to how often one reference has each n-gram of the candidate. */
static up_status take_reference(const up_phrase *reference, const up_ngrams *candidate, int32_t *most) {
    up_ngrams n;
    UP_TRY(up_ngrams_count(reference, &n));
    for (size_t i = 0, j = 0; i < candidate->count && j < n.count;) {
        int order = up_ngram_compare(&candidate->list[i], &n.list[j]);
        if (!order && n.list[j].times > most[i]) most[i] = n.list[j].times;
        i += order <= 0;
        j += order >= 0;
    }
    up_ngrams_free(&n);
    return UP_OK;
}

static up_status count_picture(const up_captioned *p, bleu_counts *out) {
    up_ngrams n;
    up_status status = UP_OK;
    UP_TRY(up_ngrams_count(&p->candidate, &n));
    int32_t *most = calloc(n.count + 1, sizeof *most);
    if (!most) UP_GO(up_fail(UP_ERR_MEMORY, "BLEU", "%zu counts wanted", n.count));
    for (size_t i = 0; i < p->reference_count; i++) UP_GO(take_reference(&p->references[i], &n, most));
    *out = (bleu_counts){.length = (double)p->candidate.count, .reference = closest_length(p)};
    for (size_t i = 0; i < n.count; i++) {
        int32_t times = n.list[i].times;
        out->guessed[n.list[i].length - 1] += times;
        out->correct[n.list[i].length - 1] += times < most[i] ? times : most[i];
    }
done:
    free(most);
    up_ngrams_free(&n);
    return status;
}

up_status up_bleu(const up_corpus *c, double (*own)[UP_NGRAM], double all[UP_NGRAM]) {
    bleu_counts sum = {0}, one;
    for (size_t i = 0; i < c->count; i++) {
        UP_TRY(count_picture(&c->pictures[i], &one));
        for (int k = 0; k < UP_NGRAM; k++) {
            sum.guessed[k] += one.guessed[k];
            sum.correct[k] += one.correct[k];
        }
        sum.length += one.length;
        sum.reference += one.reference;
        if (own) scores_of(&one, own[i]);
    }
    scores_of(&sum, all);
    return UP_OK;
}

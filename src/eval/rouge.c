/* rouge.c - ROUGE-L with the conventions of the COCO caption tools. */
#include "eval/caption_metrics.h"

#include <stdlib.h>

static const double BETA = 1.2;

/* Length of the longest common subsequence; row [b->count + 1] is memory. */
static size_t common(const up_phrase *a, const up_phrase *b, uint16_t *row) {
    for (size_t j = 0; j <= b->count; j++) row[j] = 0;
    for (size_t i = 0; i < a->count; i++) {
        uint16_t corner = 0; /* of the row before, one to the left */
        for (size_t j = 0; j < b->count; j++) {
            uint16_t above = row[j + 1];
            if (a->words[i] == b->words[j])
                row[j + 1] = (uint16_t)(corner + 1);
            else if (row[j] > above)
                row[j + 1] = row[j];
            corner = above;
        }
    }
    return row[b->count];
}

/* An empty caption counts as one empty word there. */
static double length_of(const up_phrase *p) {
    return p->count ? (double)p->count : 1;
}

static double score_picture(const up_captioned *p, uint16_t *row) {
    double precision = 0, recall = 0;
    for (size_t i = 0; i < p->reference_count; i++) {
        const up_phrase *r = &p->references[i];
        double shared = p->candidate.count || r->count ? (double)common(&p->candidate, r, row) : 1;
        double of_candidate = shared / length_of(&p->candidate), of_reference = shared / length_of(r);
        if (of_candidate > precision) precision = of_candidate;
        if (of_reference > recall) recall = of_reference;
    }
    if (!(precision > 0)) return 0;
    return (1 + BETA * BETA) * precision * recall / (recall + BETA * BETA * precision);
}

up_status up_rouge(const up_corpus *c, double *own, double *all) {
    uint16_t row[UP_CAPTION_WORDS + 1];
    double sum = 0;
    for (size_t i = 0; i < c->count; i++) {
        double score = score_picture(&c->pictures[i], row);
        if (own) own[i] = score;
        sum += score;
    }
    *all = c->count ? sum / (double)c->count : 0;
    return UP_OK;
}

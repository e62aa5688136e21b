/* beam.c - beam search over words: the best extensions of all hypotheses, found in one pass over the logits.
 */
#include "infer/beam.h"
#include "uniperceiver/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

up_status up_beam_start(const up_beam_options *o, up_beam *b) {
    size_t beam = (size_t)o->beam, limit = (size_t)o->limit;
    *b = (up_beam){.options = *o, .count = 1, .live = 1};
    b->now = calloc(beam, sizeof *b->now);
    b->next = calloc(beam, sizeof *b->next);
    b->best = calloc(beam, sizeof *b->best);
    b->memory = malloc(2 * beam * limit * sizeof *b->memory);
    if (!b->now || !b->next || !b->best || !b->memory)
        return up_fail(UP_ERR_MEMORY, "caption", "no memory for %zu beams of %zu words", beam, limit);
    for (size_t i = 0; i < beam; i++) {
        b->now[i].words = b->memory + 2 * i * limit;
        b->next[i].words = b->memory + (2 * i + 1) * limit;
    }
    return UP_OK;
}

void up_beam_free(up_beam *b) {
    free(b->now);
    free(b->next);
    free(b->best);
    free(b->memory);
    *b = (up_beam){0};
}

/* Log-probabilities only fall: once the best has ended, nothing can pass it. Not so where longer ones are
 * divided by more. */
int up_beam_goes_on(const up_beam *b) {
    if (!b->live) return 0;
    for (int i = 0; i < b->count; i++)
        if (!b->now[i].ended && b->now[i].count == b->options.limit) return 0; /* all live ones are as long */
    return b->options.length_penalty > 0 || !b->now[0].ended;
}

/* --- the best extensions --- */

static void offer(up_beam *b, up_extension e) {
    int at = b->kept;
    if (at == b->options.beam && !(e.log_probability > b->best[at - 1].log_probability)) return;
    if (at == b->options.beam) at--;
    for (; at > 0 && e.log_probability > b->best[at - 1].log_probability; at--) b->best[at] = b->best[at - 1];
    b->best[at] = e;
    if (b->kept < b->options.beam) b->kept++;
}

/* Logits up to this one cannot enter: `sure` + logit is what counts. Rounded down, as `offer` decides. */
static float entry_bar(const up_beam *b, double sure) {
    if (b->kept < b->options.beam) return -INFINITY;
    return nextafterf((float)(b->best[b->kept - 1].log_probability - sure), -INFINITY);
}

static int may_follow(const up_beam *b, const up_hypothesis *h, int entry) {
    return h->count >= b->options.minimum || b->options.vocabulary[entry] != UP_TOKEN_END;
}

/* All entries behind one hypothesis. Few of them are better than what is kept already, so a block is looked
 * through only if any is: that question the compiler answers for several at once. */
static up_status offer_words(up_beam *b, int from, const float *z, double lse) {
    enum { BLOCK = 128 };
    const up_hypothesis *h = &b->now[from];
    double sure = h->log_probability - lse;
    int total = b->options.vocabulary_count;
    for (int first = 0; first < total; first += BLOCK) {
        int end = total - first < BLOCK ? total : first + BLOCK, better = 0, broken = 0;
        float bar = entry_bar(b, sure);
        for (int v = first; v < end; v++) {
            better |= z[v] > bar;
            broken |= !(z[v] - z[v] == 0);
        }
        if (broken) return up_fail(UP_ERR_NUMERIC, "feature", "not finite: check the model and the input");
        for (int v = first; better && v < end; v++)
            if (z[v] > bar && may_follow(b, h, v)) offer(b, (up_extension){from, v, sure + (double)z[v]});
    }
    return UP_OK;
}

static up_status choose_extensions(up_beam *b, const float *logits, const float *lse) {
    int live = 0;
    b->kept = 0;
    for (int i = 0; i < b->count; i++) {
        up_hypothesis *h = &b->now[i];
        if (h->ended) {
            offer(b, (up_extension){i, -1, h->log_probability});
            continue;
        }
        const float *row = logits + (size_t)live * (size_t)b->options.vocabulary_count;
        UP_TRY(offer_words(b, i, row, (double)lse[live]));
        h->parent = live++; /* its place among the live ones, for its children */
    }
    return UP_OK;
}

static void apply(const up_beam *b, const up_extension *e, up_hypothesis *to) {
    const up_hypothesis *from = &b->now[e->from];
    memcpy(to->words, from->words, (size_t)from->count * sizeof *to->words);
    to->count = from->count;
    to->parent = from->parent;
    to->ended = from->ended;
    to->log_probability = e->log_probability;
    if (e->entry < 0) return;
    to->words[to->count++] = b->options.vocabulary[e->entry];
    to->ended = to->words[to->count - 1] == UP_TOKEN_END;
}

up_status up_beam_extend(up_beam *b, const float *logits, const float *lse) {
    UP_TRY(choose_extensions(b, logits, lse));
    b->live = 0;
    for (int i = 0; i < b->kept; i++) {
        apply(b, &b->best[i], &b->next[i]);
        b->live += !b->next[i].ended;
    }
    up_hypothesis *old = b->now;
    b->now = b->next;
    b->next = old;
    b->count = b->kept;
    return UP_OK;
}

/* --- the answer --- */

static double score(const up_beam *b, const up_hypothesis *h) {
    int words = h->count - h->ended;
    return h->log_probability / pow(words + 1, b->options.length_penalty);
}

const up_hypothesis *up_beam_best(const up_beam *b) {
    const up_hypothesis *best = &b->now[0];
    for (int i = 1; i < b->count; i++)
        if (score(b, &b->now[i]) > score(b, best)) best = &b->now[i];
    return best;
}

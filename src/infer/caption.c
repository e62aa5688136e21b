/* caption.c - captions by beam search (paper appendix B): a <SPE> appended behind the words is encoded and
 * compared with every vocabulary entry; the best becomes the next word, until <|endoftext|>. A hypothesis'
 * score is the sum of its words' log-probabilities. Cached keys and values (decoder.h) and whole sequences
 * give the same. */
#include "infer/session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_BEAM = 5, DEFAULT_WORDS = 20, MAX_BEAM = 1024 };

typedef struct hypothesis {
    int32_t *words;           /* [limit], the end token included */
    int count, ended, parent; /* parent: place among the last step's live hypotheses */
    double log_probability;
} hypothesis;

typedef struct extension { /* of hypothesis `from` by vocabulary entry `entry`; entry -1: it has ended and
                              stays */
    int from, entry;
    double log_probability;
} extension;

typedef struct search {
    up_session *session;
    up_pieces pieces;
    int prefix_pieces, begun_count; /* the pieces before the begun text, and the begun text itself */
    int32_t *begun;
    int beam, limit, vocabulary_count, live;
    const int32_t *vocabulary; /* the session's words */
    up_target_set *words;
    double scale;
    hypothesis *now, *next; /* [beam] */
    int count;              /* hypotheses in `now` */
    extension *best;        /* [beam] */
    up_decoder *decoder;    /* NULL: uncached */
    up_features slots;      /* [live, D] features of the next slots; uncached: of every slot */
    float *cosines;         /* [beam, vocabulary] of the next slots */
    double *scores;         /* [vocabulary] */
    int *parents;           /* [beam] */
    int32_t *last_words;
} search;

/* --- the next slot of every live hypothesis against the vocabulary: cosines [live, vocabulary] --- */

static up_status score_rows(search *t, up_view unit, int to) {
    float *out = t->cosines + (size_t)to * (size_t)t->vocabulary_count;
    return up_cosines_read(t->session->cosines, unit, up_target_set_features(t->words)->unit, out);
}

/* The definition: [prefix | words | slots] whole, as in training. Slot n + 1 belongs to word n + 1, which is
 * not known yet and which nobody but later slots sees: any id stands for it. */
static up_status pack_by_definition(search *t, int total, int32_t *words) {
    up_session *s = t->session;
    UP_TRY(up_batch_begin(&s->batch, up_model_config(s->model)));
    memcpy(words, t->begun, (size_t)t->begun_count * sizeof *words);
    for (int i = 0; i < t->count; i++) {
        const hypothesis *h = &t->now[i];
        if (h->ended) continue;
        memcpy(words + t->begun_count, h->words, (size_t)(total - 1 - t->begun_count) * sizeof *words);
        UP_TRY(up_batch_open(&s->batch, UP_SIDE_INPUT, 0));
        UP_TRY(up_pieces_pack(s, &t->pieces, t->prefix_pieces, &s->batch));
        UP_TRY(up_batch_words_and_slots(&s->batch, words, total));
        UP_TRY(up_batch_close(&s->batch));
    }
    return UP_OK;
}

static up_status score_by_definition(search *t) {
    up_session *s = t->session;
    int total = t->begun_count + t->now[0].count + 1;
    int32_t *words = calloc((size_t)total, sizeof *words);
    if (!words) return up_fail(UP_ERR_MEMORY, "caption", "no memory for %d words", total);
    up_status status = pack_by_definition(t, total, words);
    free(words);
    UP_TRY(status);
    UP_TRY(up_encode_batch(s));
    for (int i = 0; i < t->live; i++) /* the last slot of each */
        UP_TRY(score_rows(t, up_view_rows(s->features.unit, (int64_t)(i + 1) * total - 1, 1), i));
    return UP_OK;
}

static up_status score_by_cache(search *t, int step) {
    const int *parents = t->parents;
    const int32_t *words = t->last_words;
    int more = 1;
    if (step == 0) { /* of the one empty hypothesis: its parent is 0, its words those begun */
        words = t->begun;
        more = t->begun_count;
    }
    for (int i = 0, live = 0; step > 0 && i < t->count; i++) {
        if (t->now[i].ended) continue;
        t->parents[live] = t->now[i].parent;
        t->last_words[live++] = t->now[i].words[t->now[i].count - 1];
    }
    UP_TRY(up_features_resize(&t->slots, t->live));
    UP_TRY(up_decoder_step(t->decoder, t->live, parents, words, more, t->slots.raw));
    UP_TRY(up_features_normalize(&t->slots));
    return score_rows(t, t->slots.unit, 0);
}

/* --- the search --- */

/* Keep the best `beam` extensions, best first; of equal ones the earlier. */
static void offer(search *t, int *kept, extension e) {
    int at = *kept;
    if (at == t->beam && !(e.log_probability > t->best[at - 1].log_probability)) return;
    if (at == t->beam) at--;
    for (; at > 0 && e.log_probability > t->best[at - 1].log_probability; at--) t->best[at] = t->best[at - 1];
    t->best[at] = e;
    if (*kept < t->beam) ++*kept;
}

/* Log-probability of every vocabulary entry at one slot: cos / tau, then log-softmax. */
static up_status score_words(search *t, int live) {
    const float *cosines = t->cosines + (size_t)live * (size_t)t->vocabulary_count;
    for (int v = 0; v < t->vocabulary_count; v++) t->scores[v] = t->scale * (double)cosines[v];
    return up_log_softmax(t->scores, t->vocabulary_count);
}

/* The best extensions of all hypotheses by all words; those that have ended stand as they are. */
static up_status choose_extensions(search *t, int *kept) {
    int live = 0;
    *kept = 0;
    for (int i = 0; i < t->count; i++) {
        const hypothesis *h = &t->now[i];
        if (h->ended) {
            offer(t, kept, (extension){i, -1, h->log_probability});
            continue;
        }
        UP_TRY(score_words(t, live));
        t->now[i].parent = live++; /* its place among the live ones, for its children */
        for (int v = 0; v < t->vocabulary_count; v++)
            offer(t, kept, (extension){i, v, h->log_probability + t->scores[v]});
    }
    return UP_OK;
}

static void apply(const search *t, const extension *e, hypothesis *to) {
    const hypothesis *from = &t->now[e->from];
    memcpy(to->words, from->words, (size_t)from->count * sizeof *to->words);
    to->count = from->count;
    to->parent = from->parent;
    to->ended = from->ended;
    to->log_probability = e->log_probability;
    if (e->entry < 0) return;
    to->words[to->count++] = t->vocabulary[e->entry];
    to->ended = to->words[to->count - 1] == UP_TOKEN_END;
}

/* Extend every live hypothesis by every word, keep the best, and make them the next hypotheses. */
static up_status extend(search *t) {
    int kept;
    UP_TRY(choose_extensions(t, &kept));
    t->live = 0;
    for (int i = 0; i < kept; i++) {
        apply(t, &t->best[i], &t->next[i]);
        t->live += !t->next[i].ended;
    }
    hypothesis *old = t->now;
    t->now = t->next;
    t->next = old;
    t->count = kept;
    return UP_OK;
}

static up_status search_words(search *t) {
    /* log-probabilities only fall: once the best has ended, nothing can pass it */
    for (int step = 0; step < t->limit && t->live && !t->now[0].ended; step++) {
        UP_TRY(t->decoder ? score_by_cache(t, step) : score_by_definition(t));
        UP_TRY(extend(t));
    }
    return UP_OK;
}

/* --- from an input to its caption --- */

/* The texts that end the input are words already said: they stand behind the prefix, and it does not see
 * them. */
static up_status split_begun(search *t) {
    int from = t->pieces.count, count = 0;
    while (from > 0 && up_piece_is_text(&t->pieces.list[from - 1])) count += t->pieces.list[--from].count;
    t->prefix_pieces = from;
    t->begun = malloc(((size_t)count + 1) * sizeof *t->begun);
    if (!t->begun) return up_fail(UP_ERR_MEMORY, "caption", "no memory for %d words", count);
    for (; from < t->pieces.count; from++) {
        const up_piece *p = &t->pieces.list[from];
        if (p->count) memcpy(t->begun + t->begun_count, p->ids, (size_t)p->count * sizeof *t->begun);
        t->begun_count += p->count;
    }
    return UP_OK;
}

static up_status make_room(search *t) {
    size_t beam = (size_t)t->beam, limit = (size_t)t->limit, vocabulary = (size_t)t->vocabulary_count;
    t->now = calloc(beam, sizeof *t->now);
    t->next = calloc(beam, sizeof *t->next);
    t->best = calloc(beam, sizeof *t->best);
    t->parents = calloc(beam, sizeof *t->parents);
    t->last_words = calloc(beam, sizeof *t->last_words);
    t->cosines = malloc(beam * vocabulary * sizeof *t->cosines);
    t->scores = malloc(vocabulary * sizeof *t->scores);
    int failed =
        !t->now || !t->next || !t->best || !t->parents || !t->last_words || !t->cosines || !t->scores;
    for (int i = 0; i < t->beam && !failed; i++) {
        t->now[i].words = malloc(limit * sizeof(int32_t));
        t->next[i].words = malloc(limit * sizeof(int32_t));
        failed = !t->now[i].words || !t->next[i].words;
    }
    return failed ? up_fail(UP_ERR_MEMORY, "caption", "no memory for %d beams of %d words", t->beam, t->limit)
                  : UP_OK;
}

static void search_free(search *t) {
    for (int i = 0; i < t->beam; i++) {
        if (t->now) free(t->now[i].words);
        if (t->next) free(t->next[i].words);
    }
    free(t->now);
    free(t->next);
    free(t->best);
    free(t->parents);
    free(t->last_words);
    free(t->cosines);
    free(t->scores);
    free(t->begun);
    up_pieces_free(&t->pieces);
    up_features_free(&t->slots);
    up_decoder_free(t->decoder);
}

static up_status begin_decoder(search *t) {
    up_session *s = t->session;
    UP_TRY(up_batch_begin(&s->batch, up_model_config(s->model)));
    UP_TRY(up_batch_open(&s->batch, UP_SIDE_INPUT, 0));
    UP_TRY(up_pieces_pack(s, &t->pieces, t->prefix_pieces, &s->batch));
    UP_TRY(up_batch_close(&s->batch));
    UP_TRY(up_features_create(s->model, 0, &t->slots));
    return up_decoder_create(s->encoder, &s->batch, t->beam, t->begun_count + t->limit, &t->decoder);
}

/* Sizes, from the options and the room that the model has. */
static up_status set_limits(search *t, const up_caption_options *o) {
    int positions = up_model_config(t->session->model)->text_positions;
    t->beam = o->beam ? o->beam : DEFAULT_BEAM;
    t->limit = o->max_words ? o->max_words : DEFAULT_WORDS;
    if (t->beam < 1 || t->beam > MAX_BEAM)
        return up_fail(UP_ERR_ARGUMENT, "beam", "%d is outside 1..%d", t->beam, MAX_BEAM);
    if (t->limit < 1) return up_fail(UP_ERR_ARGUMENT, "words", "%d; wanted at least 1", t->limit);
    if (t->begun_count >= positions)
        return up_fail(UP_ERR_ARGUMENT, "text",
                       "%d tokens; the model has %d positions, no room for another word", t->begun_count,
                       positions);
    if (t->limit > positions - t->begun_count) t->limit = positions - t->begun_count;
    return UP_OK;
}

static up_status tell(search *t, up_caption *out) {
    const hypothesis *h = &t->now[0];
    out->words = h->count - h->ended;
    out->log_probability = h->log_probability;
    out->ids = malloc(((size_t)out->words + 1) * sizeof *out->ids);
    if (!out->ids) return up_fail(UP_ERR_MEMORY, "caption", "no memory for %d words", out->words);
    memcpy(out->ids, h->words, (size_t)out->words * sizeof *out->ids);
    return up_detokenize(t->session->tokenizer, out->ids, (size_t)out->words, &out->text);
}

/* The words to choose from, and what divides their cosines. */
static up_status choose_words(search *t, const up_caption_options *o) {
    const char *task = o->task ? o->task : t->prefix_pieces ? "caption" : "ar";
    UP_TRY(up_task_scale(t->session, task, &t->scale));
    UP_TRY(up_session_words(t->session, o->vocabulary, o->vocabulary_count, &t->words));
    t->vocabulary = t->session->word_ids;
    t->vocabulary_count = t->session->word_count;
    return UP_OK;
}

up_status up_caption_input(up_session *s, const up_input *input, const up_caption_options *options,
                           up_caption *out) {
    static const up_caption_options defaults = {0};
    const up_caption_options *o = options ? options : &defaults;
    up_status status = UP_OK;
    search t = {.session = s};
    UP_TRY(up_given(out, "caption"));
    *out = (up_caption){0};
    UP_TRY(up_given(s, "session"));
    UP_TRY(up_given(input, "input"));
    UP_GO(up_pieces_make(s, input, 1, &t.pieces));
    UP_GO(split_begun(&t));
    UP_GO(set_limits(&t, o));
    UP_GO(choose_words(&t, o));
    UP_GO(make_room(&t));
    if (!o->uncached) UP_GO(begin_decoder(&t));
    t.count = t.live = 1; /* the empty hypothesis */
    UP_GO(search_words(&t));
    UP_GO(tell(&t, out));
done:
    search_free(&t);
    if (status != UP_OK) up_caption_free(out);
    return status;
}

void up_caption_free(up_caption *caption) {
    if (!caption) return;
    free(caption->text);
    free(caption->ids);
    *caption = (up_caption){0};
}

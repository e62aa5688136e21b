/* caption.c - captions by beam search (paper appendix B): a <SPE> appended behind the words is encoded and
 * compared with every vocabulary entry; the best becomes the next word, until <|endoftext|>. A hypothesis'
 * score is the sum of its words' log-probabilities. Cached keys and values (ref/model/decode.h) and whole
 * sequences give the same. */
#include "infer/session.h"
#include "ref/model/decode.h"

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
    const int32_t *vocabulary;
    double scale;
    hypothesis *now, *next; /* [beam] */
    int count;              /* hypotheses in `now` */
    extension *best;        /* [beam] */
    up_decoder *decoder;    /* NULL: uncached */
    float *slots, *all;     /* [beam, D] features of the slots; uncached: room for those of every word */
    double *scores;         /* [vocabulary] */
    int *parents;           /* [beam] */
    int32_t *last_words;
} search;

/* --- target features of words: the sequences [<SPE>, v, <|endoftext|>] --- */

static up_status encode_words(up_session *s, const int32_t *ids, int count, float *out) {
    const up_config *c = up_model_config(s->model);
    size_t width = (size_t)c->width;
    UP_TRY(up_batch_begin(&s->batch, c));
    for (int i = 0, first = 0; i < count; i++) {
        UP_TRY(up_batch_open(&s->batch, UP_SIDE_TARGET, 1));
        UP_TRY(up_batch_text(&s->batch, (int32_t[]){ids[i], UP_TOKEN_END}, 2, 0, NULL));
        UP_TRY(up_batch_close(&s->batch));
        if (s->batch.tokens < UP_ENCODE_TOKENS && i + 1 < count) continue;
        UP_TRY(up_encode_batch(s, out + (size_t)first * width));
        UP_TRY(up_batch_begin(&s->batch, c));
        first = i + 1;
    }
    return UP_OK;
}

static up_status use_vocabulary(up_session *s, const int32_t *ids, int count) {
    if (s->vocabulary && s->vocabulary_count == count &&
        !memcmp(s->vocabulary, ids, (size_t)count * sizeof *ids))
        return UP_OK;
    free(s->vocabulary);
    free(s->vocabulary_features);
    s->vocabulary_count = 0;
    s->vocabulary = malloc((size_t)count * sizeof *ids);
    s->vocabulary_features = malloc((size_t)count * (size_t)up_session_width(s) * sizeof(float));
    up_status status = UP_OK;
    if (!s->vocabulary || !s->vocabulary_features)
        UP_GO(up_fail(UP_ERR_MEMORY, "vocabulary", "features of %d words wanted", count));
    memcpy(s->vocabulary, ids, (size_t)count * sizeof *ids);
    UP_GO(encode_words(s, ids, count, s->vocabulary_features));
    s->vocabulary_count = count;
done:
    if (status != UP_OK) {
        free(s->vocabulary);
        free(s->vocabulary_features);
        s->vocabulary = NULL;
        s->vocabulary_features = NULL;
    }
    return status;
}

/* The ids given, else the model's own target set, else every token. */
static up_status choose_vocabulary(up_session *s, const up_caption_options *o) {
    const up_config *c = up_model_config(s->model);
    int count = o->vocabulary_count;
    const int32_t *ids = o->vocabulary ? o->vocabulary : up_model_targets(s->model, &count);
    if (c->vocabulary <= UP_TOKEN_END)
        return up_fail(UP_ERR_ARGUMENT, "caption", "the model's vocabulary of %d has no end token",
                       c->vocabulary);
    if (ids && count < 1) return up_fail(UP_ERR_ARGUMENT, "vocabulary", "%d words; wanted at least 1", count);
    for (int i = 0; ids && i < count; i++)
        if (ids[i] < 0 || ids[i] >= c->vocabulary)
            return up_fail(UP_ERR_ARGUMENT, "vocabulary", "id %d; the model has ids 0 to %d", ids[i],
                           c->vocabulary - 1);
    if (ids) return use_vocabulary(s, ids, count);
    int32_t *every = malloc((size_t)c->vocabulary * sizeof *every);
    if (!every) return up_fail(UP_ERR_MEMORY, "vocabulary", "%d ids wanted", c->vocabulary);
    for (int i = 0; i < c->vocabulary - 1; i++) every[i] = i; /* all but <SPE> */
    up_status status = use_vocabulary(s, every, c->vocabulary - 1);
    free(every);
    return status;
}

/* --- features of the next slot of every live hypothesis --- */

/* The definition: [prefix | words | slots] whole, as in training. Slot n + 1 belongs to word n + 1, which is
 * not known yet and which nobody but later slots sees: any id stands for it. */
static up_status slots_by_definition(search *t) {
    up_session *s = t->session;
    int width = up_session_width(s), total = t->begun_count + t->now[0].count + 1;
    int32_t *words = calloc((size_t)total, sizeof *words);
    up_status status = UP_OK;
    if (!words) return up_fail(UP_ERR_MEMORY, "caption", "no memory for %d words", total);
    UP_GO(up_batch_begin(&s->batch, up_model_config(s->model)));
    memcpy(words, t->begun, (size_t)t->begun_count * sizeof *words);
    for (int i = 0; i < t->count; i++) {
        const hypothesis *h = &t->now[i];
        if (h->ended) continue;
        memcpy(words + t->begun_count, h->words, (size_t)(total - 1 - t->begun_count) * sizeof *words);
        UP_GO(up_batch_open(&s->batch, UP_SIDE_INPUT, 0));
        UP_GO(up_pieces_pack(s, &t->pieces, t->prefix_pieces, &s->batch));
        UP_GO(up_batch_words_and_slots(&s->batch, words, total));
        UP_GO(up_batch_close(&s->batch));
    }
    UP_GO(up_encode_batch(s, t->all));
    for (int i = 0; i < t->live; i++)
        memcpy(t->slots + (size_t)i * (size_t)width,
               t->all + ((size_t)(i + 1) * (size_t)total - 1) * (size_t)width, (size_t)width * sizeof(float));
done:
    free(words);
    return status;
}

static up_status slots_by_cache(search *t, int step) {
    if (step == 0) return up_decoder_step(t->decoder, 1, (int[]){0}, t->begun, t->begun_count, t->slots);
    for (int i = 0, live = 0; i < t->count; i++) {
        if (t->now[i].ended) continue;
        t->parents[live] = t->now[i].parent;
        t->last_words[live++] = t->now[i].words[t->now[i].count - 1];
    }
    return up_decoder_step(t->decoder, t->live, t->parents, t->last_words, 1, t->slots);
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
static void score_words(search *t, const float *slot) {
    int width = up_session_width(t->session);
    double largest = -INFINITY, sum = 0;
    for (int v = 0; v < t->vocabulary_count; v++) {
        const float *word = t->session->vocabulary_features + (size_t)v * (size_t)width;
        t->scores[v] = t->scale * up_dot(slot, word, width);
        largest = fmax(largest, t->scores[v]);
    }
    for (int v = 0; v < t->vocabulary_count; v++) sum += exp(t->scores[v] - largest);
    for (int v = 0; v < t->vocabulary_count; v++) t->scores[v] -= largest + log(sum);
}

/* Extend every live hypothesis by every word, keep the best, and make them the next hypotheses. */
static void extend(search *t) {
    int kept = 0, width = up_session_width(t->session), live = 0;
    for (int i = 0; i < t->count; i++) {
        const hypothesis *h = &t->now[i];
        if (h->ended) {
            offer(t, &kept, (extension){i, -1, h->log_probability});
            continue;
        }
        score_words(t, t->slots + (size_t)live * (size_t)width);
        t->now[i].parent = live++; /* its place among the live ones, for its children */
        for (int v = 0; v < t->vocabulary_count; v++)
            offer(t, &kept, (extension){i, v, h->log_probability + t->scores[v]});
    }
    t->live = 0;
    for (int i = 0; i < kept; i++) {
        const hypothesis *from = &t->now[t->best[i].from];
        hypothesis *to = &t->next[i];
        memcpy(to->words, from->words, (size_t)from->count * sizeof *to->words);
        to->count = from->count;
        to->parent = from->parent;
        to->ended = from->ended;
        to->log_probability = t->best[i].log_probability;
        if (t->best[i].entry >= 0) {
            to->words[to->count++] = t->vocabulary[t->best[i].entry];
            to->ended = to->words[to->count - 1] == UP_TOKEN_END;
        }
        t->live += !to->ended;
    }
    hypothesis *old = t->now;
    t->now = t->next;
    t->next = old;
    t->count = kept;
}

static up_status search_words(search *t) {
    /* log-probabilities only fall: once the best has ended, nothing can pass it */
    for (int step = 0; step < t->limit && t->live && !t->now[0].ended; step++) {
        UP_TRY(t->decoder ? slots_by_cache(t, step) : slots_by_definition(t));
        extend(t);
    }
    return UP_OK;
}

/* --- from an input to its caption --- */

/* The texts that end the input are words already said: they stand behind the prefix, and it does not see
 * them. */
static up_status split_begun(search *t) {
    int from = t->pieces.count, count = 0;
    while (from > 0 && !t->pieces.list[from - 1].patches) count += t->pieces.list[--from].count;
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

static up_status make_room(search *t, int cached) {
    size_t width = (size_t)up_session_width(t->session), beam = (size_t)t->beam, limit = (size_t)t->limit;
    size_t read = cached ? 1 : (size_t)t->begun_count + limit;
    t->now = calloc(beam, sizeof *t->now);
    t->next = calloc(beam, sizeof *t->next);
    t->best = calloc(beam, sizeof *t->best);
    t->parents = calloc(beam, sizeof *t->parents);
    t->last_words = calloc(beam, sizeof *t->last_words);
    t->slots = malloc(beam * width * sizeof *t->slots);
    t->all = malloc(beam * read * width * sizeof *t->all);
    t->scores = malloc((size_t)t->vocabulary_count * sizeof *t->scores);
    int failed = !t->now || !t->next || !t->best || !t->parents || !t->last_words || !t->slots || !t->all ||
                 !t->scores;
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
    free(t->slots);
    free(t->all);
    free(t->scores);
    free(t->begun);
    up_pieces_free(&t->pieces);
    up_decoder_free(t->decoder);
}

static up_status begin_decoder(search *t) {
    up_session *s = t->session;
    UP_TRY(up_batch_begin(&s->batch, up_model_config(s->model)));
    UP_TRY(up_batch_open(&s->batch, UP_SIDE_INPUT, 0));
    UP_TRY(up_pieces_pack(s, &t->pieces, t->prefix_pieces, &s->batch));
    UP_TRY(up_batch_close(&s->batch));
    return up_decoder_create(s->run, &s->batch, t->beam, t->begun_count + t->limit, &t->decoder);
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

up_status up_caption_input(up_session *s, const up_input *input, const up_caption_options *options,
                           up_caption *out) {
    static const up_caption_options defaults = {0};
    static const char *const caption_tasks[] = {"caption", NULL}, *const text_tasks[] = {"ar", "text_caption",
                                                                                         NULL};
    const up_caption_options *o = options ? options : &defaults;
    up_status status = UP_OK;
    search t = {.session = s};
    *out = (up_caption){0};
    UP_GO(up_pieces_make(s, input, 1, &t.pieces));
    UP_GO(split_begun(&t));
    UP_GO(set_limits(&t, o));
    UP_GO(up_logit_scale(s, o->task, t.prefix_pieces ? caption_tasks : text_tasks, &t.scale));
    UP_GO(choose_vocabulary(s, o));
    t.vocabulary = s->vocabulary;
    t.vocabulary_count = s->vocabulary_count;
    UP_GO(make_room(&t, !o->uncached));
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
    free(caption->text);
    free(caption->ids);
    *caption = (up_caption){0};
}

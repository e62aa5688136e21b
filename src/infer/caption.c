/* caption.c - captions by beam search (paper appendix B): a <SPE> appended behind the words is encoded and
 * compared with every vocabulary entry; the best becomes the next word, until <|endoftext|>. Several inputs
 * go at once: a step encodes the slots of all their hypotheses in one batch and compares them in one product.
 * Cached keys and values (decoder.h) and whole sequences give the same. The choice of words is beam.c. */
#include "infer/beam.h"
#include "infer/session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_BEAM = 5, DEFAULT_WORDS = 20, MAX_BEAM = 1024 };
/* Inputs that go at once: as many as have their keys and values in so many bytes, but not more than make wide
 * products. */
enum { GROUP = 32, GROUP_BYTES = 512 << 20 };

/* An input on the way to its caption. */
typedef struct subject {
    up_pieces pieces;
    int prefix_pieces, begun_count; /* the pieces before the begun text, and the begun text itself */
    int32_t *begun;
    up_beam beam;
    int row, row_before; /* of its first live hypothesis among those of all subjects, and a step before */
} subject;

/* A group of inputs. */
typedef struct search {
    up_session *session;
    const up_caption_options *options;
    const char *task;
    double scale;
    up_target_set *words;
    subject list[GROUP];
    int first;             /* place of the first subject among the inputs */
    int count, live;       /* subjects; hypotheses that are to be extended, of all of them */
    int longest;           /* words of a sequence at most */
    up_features slots;     /* [live, D] features of the next slots */
    float *logits, *lse;   /* [live, vocabulary], [live] */
    int *parents, *counts; /* [live] what each goes on behind (decoder.h), and by how many words */
    int32_t *said;         /* these words; at first those begun */
} search;

/* --- the next slot of every live hypothesis: t->slots.raw [live, D] --- */

/* The definition: [prefix | words | slots] whole, as in training. Slot n + 1 belongs to word n + 1, which is
 * not known yet and which nobody but later slots sees: any id stands for it. */
static up_status pack_by_definition(const search *t, const subject *u, const up_hypothesis *h) {
    up_session *s = t->session;
    int total = u->begun_count + h->count + 1;
    int32_t *words = calloc((size_t)total, sizeof *words);
    if (!words) return up_fail(UP_ERR_MEMORY, "caption", "no memory for %d words", total);
    memcpy(words, u->begun, (size_t)u->begun_count * sizeof *words);
    memcpy(words + u->begun_count, h->words, (size_t)h->count * sizeof *words);
    up_status status = up_batch_open(&s->batch, UP_SIDE_INPUT, 0);
    if (status == UP_OK) status = up_pieces_pack(s, &u->pieces, u->prefix_pieces, &s->batch);
    if (status == UP_OK) status = up_batch_words_and_slots(&s->batch, words, total);
    if (status == UP_OK) status = up_batch_close(&s->batch);
    free(words);
    return status;
}

static up_status encode_by_definition(search *t) {
    up_session *s = t->session;
    up_backend *b = s->backend;
    UP_TRY(up_batch_begin(&s->batch, up_model_config(s->model)));
    for (int i = 0; i < t->count; i++)
        for (int k = 0; up_beam_goes_on(&t->list[i].beam) && k < t->list[i].beam.count; k++)
            if (!t->list[i].beam.now[k].ended)
                UP_TRY(pack_by_definition(t, &t->list[i], &t->list[i].beam.now[k]));
    UP_TRY(up_encode_batch(s));
    for (int i = 0, slots = 0; i < t->live; i++) { /* the last slot of each */
        slots += s->batch.sequence[(size_t)i * UP_SEQ_FIELDS + UP_SEQ_WORDS];
        up_view last = up_view_rows(s->features.raw, slots - 1, 1);
        UP_TRY(b->ops->copy(b, up_view_rows(t->slots.raw, i, 1), last));
    }
    return UP_OK;
}

/* What the live hypotheses of a subject say next, and behind what. */
static void list_first(search *t, subject *u, int32_t **said) {
    t->parents[u->row] = (int)(u - t->list); /* its prefix */
    t->counts[u->row] = u->begun_count;
    memcpy(*said, u->begun, (size_t)u->begun_count * sizeof **said);
    *said += u->begun_count;
}

static void list_next(search *t, subject *u, int32_t **said) {
    int row = u->row;
    for (int i = 0; i < u->beam.count; i++) {
        const up_hypothesis *h = &u->beam.now[i];
        if (h->ended) continue;
        t->parents[row] = u->row_before + h->parent;
        t->counts[row++] = 1;
        *(*said)++ = h->words[h->count - 1];
    }
}

static up_status encode_by_cache(search *t, int step) {
    int32_t *said = t->said;
    for (int i = 0; i < t->count; i++) {
        if (!up_beam_goes_on(&t->list[i].beam)) continue;
        if (step == 0)
            list_first(t, &t->list[i], &said);
        else
            list_next(t, &t->list[i], &said);
    }
    return up_decoder_step(t->session->decoder, t->live, t->parents, t->counts, t->said, t->slots.raw);
}

/* --- the search --- */

static void count_live(search *t) {
    t->live = 0;
    for (int i = 0; i < t->count; i++) {
        subject *u = &t->list[i];
        u->row_before = u->row;
        u->row = t->live;
        if (up_beam_goes_on(&u->beam)) t->live += u->beam.live;
    }
}

static void say(const search *t, int subject) {
    const up_hypothesis *h = up_beam_best(&t->list[subject].beam);
    if (t->options->said)
        t->options->said(t->options->listener, t->first + subject, h->words, h->count - h->ended);
}

static up_status search_words(search *t) {
    up_session *s = t->session;
    size_t vocabulary = (size_t)s->word_count;
    count_live(t);
    for (int step = 0; t->live; step++) {
        UP_TRY(up_features_resize(&t->slots, t->live));
        UP_TRY(t->options->uncached ? encode_by_definition(t) : encode_by_cache(t, step));
        UP_TRY(up_features_normalize(&t->slots));
        UP_TRY(up_cosines_logits(s->cosines, t->slots.unit, up_target_set_features(t->words)->unit, t->scale,
                                 t->logits, t->lse));
        for (int i = 0; i < t->count; i++) {
            subject *u = &t->list[i];
            if (!up_beam_goes_on(&u->beam)) continue;
            UP_TRY(up_beam_extend(&u->beam, t->logits + (size_t)u->row * vocabulary, t->lse + u->row));
            say(t, i);
        }
        count_live(t);
    }
    return UP_OK;
}

/* --- from inputs to a group --- */

/* The texts that end the input are words already said: they stand behind the prefix, and it does not see
 * them. */
static up_status split_begun(subject *u) {
    int from = u->pieces.count, count = 0;
    while (from > 0 && up_piece_is_text(&u->pieces.list[from - 1])) count += u->pieces.list[--from].count;
    u->prefix_pieces = from;
    u->begun = malloc(((size_t)count + 1) * sizeof *u->begun);
    if (!u->begun) return up_fail(UP_ERR_MEMORY, "caption", "no memory for %d words", count);
    for (; from < u->pieces.count; from++) {
        const up_piece *p = &u->pieces.list[from];
        if (p->count) memcpy(u->begun + u->begun_count, p->ids, (size_t)p->count * sizeof *u->begun);
        u->begun_count += p->count;
    }
    return UP_OK;
}

static up_status check_options(const up_caption_options *o) {
    if (o->beam < 0 || o->beam > MAX_BEAM)
        return up_fail(UP_ERR_ARGUMENT, "beam", "%d is outside 1..%d", o->beam, MAX_BEAM);
    if (o->max_words < 0) return up_fail(UP_ERR_ARGUMENT, "words", "%d; wanted at least 1", o->max_words);
    if (o->min_words < 0) return up_fail(UP_ERR_ARGUMENT, "words", "%d; wanted 0 or more", o->min_words);
    if (!(o->length_penalty >= 0) || isinf(o->length_penalty))
        return up_fail(UP_ERR_ARGUMENT, "length penalty", "%f; wanted 0 or more", o->length_penalty);
    return UP_OK;
}

/* Sizes, from the options and the room that the model has. */
static up_status start_beam(const search *t, subject *u) {
    const up_caption_options *o = t->options;
    const up_session *s = t->session;
    int positions = up_model_config(s->model)->text_positions;
    int room = positions - u->begun_count;
    if (room < 1)
        return up_fail(UP_ERR_ARGUMENT, "text",
                       "%d tokens; the model has %d positions, no room for another word", u->begun_count,
                       positions);
    up_beam_options beam = {.beam = o->beam ? o->beam : DEFAULT_BEAM,
                            .limit = o->max_words ? o->max_words : DEFAULT_WORDS,
                            .minimum = o->min_words,
                            .length_penalty = o->length_penalty,
                            .vocabulary = s->word_ids,
                            .vocabulary_count = s->word_count};
    if (beam.limit > room) beam.limit = room;
    if (beam.minimum && beam.vocabulary_count == 1 && beam.vocabulary[0] == UP_TOKEN_END)
        return up_fail(UP_ERR_ARGUMENT, "vocabulary", "no word but the end token; wanted %d words",
                       beam.minimum);
    return up_beam_start(&beam, &u->beam);
}

static int has_prefix(const up_input *input) {
    for (int i = 0; i < input->count && input->parts; i++)
        if (input->parts[i].kind != UP_PART_TEXT && input->parts[i].kind != UP_PART_IDS) return 1;
    return 0;
}

static const char *task_of(const search *t, const up_input *input) {
    if (t->options->task) return t->options->task;
    return has_prefix(input) ? "caption" : "ar";
}

/* One more input; its prefix is appended to the session's batch. */
static up_status add_subject(search *t, const up_input *input) {
    up_session *s = t->session;
    subject *u = &t->list[t->count++];
    UP_TRY(up_pieces_make(s, input, 1, &u->pieces));
    UP_TRY(split_begun(u));
    UP_TRY(up_session_words(s, t->options->vocabulary, t->options->vocabulary_count, &t->words));
    UP_TRY(start_beam(t, u));
    if (u->begun_count + u->beam.options.limit > t->longest)
        t->longest = u->begun_count + u->beam.options.limit;
    UP_TRY(up_batch_open(&s->batch, UP_SIDE_INPUT, 0));
    UP_TRY(up_pieces_pack(s, &u->pieces, u->prefix_pieces, &s->batch));
    return up_batch_close(&s->batch);
}

/* The next inputs that go at once: of one temperature, and few enough for their keys and values. */
static up_status gather_group(search *t, const up_input *inputs, int n) {
    up_session *s = t->session;
    size_t bytes = 0;
    t->task = task_of(t, &inputs[0]);
    UP_TRY(up_task_scale(s, t->task, &t->scale));
    UP_TRY(up_batch_begin(&s->batch, up_model_config(s->model)));
    while (t->count < n && t->count < GROUP && bytes < GROUP_BYTES) {
        int before = s->batch.tokens;
        if (strcmp(task_of(t, &inputs[t->count]), t->task)) break;
        UP_TRY(add_subject(t, &inputs[t->count]));
        const up_beam_options *o = &t->list[t->count - 1].beam.options;
        bytes += up_decoder_bytes(s->encoder, s->batch.tokens - before, o->beam, t->longest);
        if (t->options->uncached) break;
    }
    return UP_OK;
}

static up_status make_room(search *t) {
    size_t rows = 0, begun = 0, vocabulary = (size_t)t->session->word_count;
    for (int i = 0; i < t->count; i++) {
        rows += (size_t)t->list[i].beam.options.beam;
        begun += (size_t)t->list[i].begun_count;
    }
    t->logits = malloc(rows * vocabulary * sizeof *t->logits);
    t->lse = malloc(rows * sizeof *t->lse);
    t->parents = malloc(rows * sizeof *t->parents);
    t->counts = malloc(rows * sizeof *t->counts);
    t->said = malloc((rows + begun) * sizeof *t->said);
    if (t->logits && t->lse && t->parents && t->counts && t->said) return UP_OK;
    return up_fail(UP_ERR_MEMORY, "caption", "no memory for %zu hypotheses", rows);
}

static void search_free(search *t) {
    for (int i = 0; i < t->count; i++) {
        up_pieces_free(&t->list[i].pieces);
        free(t->list[i].begun);
        up_beam_free(&t->list[i].beam);
    }
    free(t->logits);
    free(t->lse);
    free(t->parents);
    free(t->counts);
    free(t->said);
    up_features_free(&t->slots);
    free(t);
}

static up_status begin_decoder(search *t) {
    up_session *s = t->session;
    int beams = t->list[0].beam.options.beam;
    if (!s->decoder) UP_TRY(up_decoder_create(s->encoder, &s->decoder));
    return up_decoder_begin(s->decoder, &s->batch, beams, t->longest);
}

static up_status tell(const search *t, const subject *u, up_caption *out) {
    const up_hypothesis *h = up_beam_best(&u->beam);
    out->words = h->count - h->ended;
    out->log_probability = h->log_probability;
    out->ids = malloc(((size_t)out->words + 1) * sizeof *out->ids);
    if (!out->ids) return up_fail(UP_ERR_MEMORY, "caption", "no memory for %d words", out->words);
    memcpy(out->ids, h->words, (size_t)out->words * sizeof *out->ids);
    return up_detokenize(t->session->tokenizer, out->ids, (size_t)out->words, &out->text);
}

/* Captions of the inputs from `first` on, *done of them. */
static up_status caption_group(up_session *s, const up_input *inputs, int n, int first,
                               const up_caption_options *o, up_caption *out, int *done) {
    up_status status = UP_OK;
    search *t = calloc(1, sizeof *t);
    if (!t) return up_fail(UP_ERR_MEMORY, "caption", "%zu bytes wanted", sizeof *t);
    t->session = s;
    t->options = o;
    t->first = first;
    UP_GO(gather_group(t, inputs + first, n - first));
    UP_GO(make_room(t));
    UP_GO(up_features_create(s->model, 0, &t->slots));
    if (!o->uncached) UP_GO(begin_decoder(t));
    UP_GO(search_words(t));
    for (int i = 0; i < t->count; i++) UP_GO(tell(t, &t->list[i], &out[first + i]));
    *done = t->count;
done:
    search_free(t);
    return status;
}

up_status up_caption_inputs(up_session *s, const up_input *inputs, int n, const up_caption_options *options,
                            up_caption *out) {
    up_caption_options known;
    const up_caption_options *o = &known;
    up_status status = UP_OK;
    UP_TRY(up_given_list(out, n, "caption"));
    for (int i = 0; i < n; i++) out[i] = (up_caption){0};
    UP_TRY(up_given(s, "session"));
    UP_TRY(up_given_list(inputs, n, "input"));
    UP_TRY(up_options_take("caption options", options, UP_BYTES_TO(up_caption_options, length_penalty),
                           &known, sizeof known));
    UP_TRY(check_options(o));
    for (int first = 0, some = 0; first < n; first += some)
        UP_GO(caption_group(s, inputs, n, first, o, out, &some));
done:
    for (int i = 0; status != UP_OK && i < n; i++) up_caption_free(&out[i]);
    return status;
}

up_status up_caption_input(up_session *s, const up_input *input, const up_caption_options *options,
                           up_caption *out) {
    return up_caption_inputs(s, input, 1, options, out);
}

void up_caption_free(up_caption *caption) {
    if (!caption) return;
    free(caption->text);
    free(caption->ids);
    *caption = (up_caption){0};
}

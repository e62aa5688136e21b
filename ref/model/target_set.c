/* target_set.c - candidate targets, encoded once per state of the weights: as a whole where they fit, else in
 * chunks; and back the same way. Paper section 3.1 (targets are sequences like inputs), appendix E (why sets
 * are divided). */
#include "uniperceiver/target_set.h"
#include "ref/given.h"
#include "ref/model/activations.h"
#include "ref/model/arithmetic.h"

#include <stdlib.h>
#include <string.h>

enum { DEFAULT_TOKENS = 1536 };

struct up_target_set {
    up_model *model; /* borrowed */
    uint64_t key;
    up_batch sequences; /* all of them */
    up_batch part;      /* the present chunk */
    up_comm *comm;      /* borrowed; NULL: not divided */
    int64_t *rows;      /* [ranks] sequences of each */
    int first, end;     /* those of this rank, all where it is not divided */
    int64_t tokens;     /* of them */
    up_features features;
    int fresh; /* 1: features are those of `version`, with the draws of `seed` and `step` where drop_path > 0
                */
    uint64_t version, seed, step;
    double drop_path;
    uint64_t pass; /* of an encoder, which keeps the activations of all of it; 0: none does */
    int64_t encoded;
    double needed; /* FLOP so far */
    double owed;   /* FLOP of a way back through the present features */
};

up_status up_target_set_create(up_model *model, uint64_t key, int with_gradients, up_target_set **out) {
    UP_GIVEN(model, out);
    up_target_set *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s) return up_fail(UP_ERR_MEMORY, "target set", "%zu bytes wanted", sizeof *s);
    s->model = model;
    s->key = key;
    up_status status = up_features_create(model, with_gradients, &s->features);
    if (status == UP_OK) status = up_batch_begin(&s->sequences, up_model_config(model));
    if (status != UP_OK) {
        up_target_set_free(s);
        return status;
    }
    *out = s;
    return UP_OK;
}

void up_target_set_free(up_target_set *s) {
    if (!s) return;
    up_batch_free(&s->sequences);
    up_batch_free(&s->part);
    up_features_free(&s->features);
    free(s->rows);
    free(s);
}

/* ---- sequences ---- */

static void forget(up_target_set *s) {
    s->fresh = 0;
    s->pass = 0;
    s->features.has_dunit = s->features.has_draw = 0;
}

/* Who an entry is, among all entries of all sets. */
static uint64_t entry_key(const up_target_set *s, uint64_t entry) {
    return s->key * 0x9e3779b97f4a7c15u + entry;
}

static up_status check_readouts(const up_batch *b) {
    for (int i = 0; i < b->sequences; i++) {
        const int32_t *q = b->sequence + (size_t)i * UP_SEQ_FIELDS;
        int row = i < b->readouts ? b->readout_row[i] : -1;
        if (b->readouts != b->sequences || row < q[UP_SEQ_Q_START] ||
            row >= q[UP_SEQ_Q_START] + q[UP_SEQ_Q_COUNT])
            return up_fail(UP_ERR_ARGUMENT, "target set", "%d read-outs of %d sequences; wanted one each",
                           b->readouts, b->sequences);
    }
    return UP_OK;
}

up_status up_target_set_fill(up_target_set *s, up_batch *sequences) {
    UP_GIVEN(s, sequences);
    UP_TRY(up_batch_check(sequences, up_model_config(s->model)));
    UP_TRY(check_readouts(sequences));
    up_batch taken = *sequences;
    *sequences = s->sequences;
    s->sequences = taken;
    for (int i = 0; i < taken.sequences; i++) taken.key[i] = entry_key(s, taken.key[i]);
    forget(s);
    return up_batch_begin(sequences, &taken.config);
}

static up_status put_text(up_target_set *s, const int32_t *ids, int count, uint64_t key) {
    UP_TRY(up_batch_open(&s->sequences, UP_SIDE_TARGET, 1));
    UP_TRY(up_batch_text(&s->sequences, ids, count, 0, NULL));
    return up_batch_close_as(&s->sequences, entry_key(s, key));
}

/* All entries are there, or some were: what could not be filled, or does not fit the model, leaves the set
 * empty. */
static up_status end_filling(up_target_set *s, up_status status) {
    const up_config *config = up_model_config(s->model);
    if (status == UP_OK && s->sequences.sequences) status = up_batch_check(&s->sequences, config);
    if (status != UP_OK) up_batch_begin(&s->sequences, config);
    return status;
}

up_status up_target_set_fill_texts(up_target_set *s, const int32_t *ids, const int64_t *starts, int64_t n) {
    UP_GIVEN(s);
    UP_TRY(up_given_list(ids, n, "ids"));
    UP_TRY(up_given_list(starts, n, "starts"));
    forget(s);
    UP_TRY(up_batch_begin(&s->sequences, up_model_config(s->model)));
    up_status status = UP_OK;
    for (int64_t i = 0; i < n && status == UP_OK; i++)
        status = put_text(s, ids + starts[i], (int)(starts[i + 1] - starts[i]), (uint64_t)i);
    return end_filling(s, status);
}

up_status up_target_set_fill_words(up_target_set *s, const int32_t *ids, int64_t n, int32_t end) {
    UP_GIVEN(s);
    UP_TRY(up_given_list(ids, n, "ids"));
    forget(s);
    UP_TRY(up_batch_begin(&s->sequences, up_model_config(s->model)));
    up_status status = UP_OK;
    for (int64_t i = 0; i < n && status == UP_OK; i++)
        status = put_text(s, (int32_t[]){ids[i], end}, 2, (uint64_t)ids[i]);
    return end_filling(s, status);
}

int64_t up_target_set_count(const up_target_set *s) {
    if (!s) return 0;
    return s->sequences.sequences;
}
int64_t up_target_set_tokens(const up_target_set *s) {
    if (!s) return 0;
    return s->sequences.tokens;
}
up_features *up_target_set_features(up_target_set *s) {
    if (!s) return NULL;
    return &s->features;
}
int up_target_set_owes(const up_target_set *s) {
    if (!s) return 0;
    return s->features.has_dunit || s->features.has_draw;
}
int64_t up_target_set_encoded(const up_target_set *s) {
    if (!s) return 0;
    return s->encoded;
}
double up_target_set_needed(const up_target_set *s) {
    if (!s) return 0;
    return s->needed;
}

/* ---- ranks ---- */

void up_target_set_divide(up_target_set *s, up_comm *comm) {
    if (!s) return;
    s->comm = comm && comm->ranks > 1 ? comm : NULL;
    forget(s);
}

int up_target_set_divided(const up_target_set *s) {
    if (!s) return 0;
    return s->comm != NULL;
}

int64_t up_target_set_own(const up_target_set *s) {
    if (!s) return 0;
    return s->comm ? s->end - s->first : s->sequences.sequences;
}

static int64_t tokens_of(const up_target_set *s, int sequence) {
    return s->sequences.sequence[(size_t)sequence * UP_SEQ_FIELDS + UP_SEQ_Q_COUNT];
}

/* Rank r begins at the first sequence before which stand r / ranks of the tokens. */
static up_status divide(up_target_set *s) {
    const up_batch *b = &s->sequences;
    s->first = 0;
    s->end = b->sequences;
    s->tokens = b->tokens;
    if (!s->comm) return UP_OK;
    int64_t ranks = s->comm->ranks, before = 0;
    if (!s->rows) s->rows = malloc((size_t)ranks * sizeof *s->rows);
    if (!s->rows) return up_fail(UP_ERR_MEMORY, "target set", "%d ranks to list", s->comm->ranks);
    int at = 0;
    for (int64_t r = 0; r < ranks; r++) {
        int first = at;
        int64_t tokens = before;
        while (at < b->sequences && before * ranks < (r + 1) * b->tokens) before += tokens_of(s, at++);
        s->rows[r] = at - first;
        if (r != s->comm->rank) continue;
        s->first = first;
        s->end = at;
        s->tokens = before - tokens;
    }
    return UP_OK;
}

static up_view own_rows(const up_target_set *s, up_view all) {
    return up_view_rows(all, s->first, s->end - s->first);
}

static up_status gather(up_target_set *s) {
    up_view all = s->features.raw;
    if (!s->comm) return UP_OK;
    UP_TRY(s->comm->ops->allgather(s->comm, up_model_backend(s->model), own_rows(s, all), all, s->rows));
    return s->comm->ops->wait(s->comm);
}

static up_status scatter(up_target_set *s) {
    up_view all = s->features.draw;
    if (!s->comm) return UP_OK;
    UP_TRY(s->comm->ops->reduce_scatter(s->comm, up_model_backend(s->model), all, own_rows(s, all), s->rows));
    return s->comm->ops->wait(s->comm);
}

/* ---- passes ---- */

/* Encoders of another model would give features of that one. */
static up_status check_encoders(const up_target_set *s, const up_set_encoders *how) {
    const up_encoder *encoders[] = {how->whole, how->chunk, how->scout};
    for (int i = 0; i < 3; i++)
        if (encoders[i] && up_encoder_model(encoders[i]) != s->model)
            return up_fail(UP_ERR_ARGUMENT, "target set", "an encoder is another model's");
    return UP_OK;
}

/* 1 where the features were made with the random choices that are asked for. */
static int same_draws(const up_target_set *s, const up_set_encoders *how) {
    if (s->drop_path <= 0 && how->drop_path <= 0) return 1;
    return s->drop_path == how->drop_path && s->seed == how->seed && s->step == how->step;
}

static int budget_of(const up_set_encoders *how) {
    return how->tokens > 0 ? how->tokens : DEFAULT_TOKENS;
}

/* This rank's sequences first.. that make the next chunk: chunks of about one size, none over the budget
 * unless a single sequence is. */
static int chunk_count(const up_target_set *s, const up_set_encoders *how, int first) {
    int64_t chunks = (s->tokens + budget_of(how) - 1) / budget_of(how);
    int64_t limit = (s->tokens + chunks - 1) / chunks;
    int count = 1;
    int64_t tokens = tokens_of(s, first);
    while (first + count < s->end) {
        int64_t more = tokens_of(s, first + count);
        if (tokens + more > limit) break;
        tokens += more;
        count++;
    }
    return count;
}

static up_status encode_part(up_target_set *s, const up_set_encoders *how, up_encoder *encoder,
                             const up_batch *b, int first) {
    UP_TRY(up_encoder_stage_drawn(encoder, b, how->drop_path, how->seed, how->step));
    s->encoded += b->tokens;
    return up_encoder_forward(encoder, up_view_rows(s->features.raw, first, b->sequences));
}

/* Forth for the first time: what is needed, however it is computed. */
static up_status encode_fresh(up_target_set *s, const up_set_encoders *how, up_encoder *encoder,
                              const up_batch *b, int first) {
    const up_encoder *back = how->whole ? how->whole : how->chunk;
    up_arithmetic a = up_arithmetic_needed(s->model, b, back ? back->gradients : NULL);
    UP_TRY(encode_part(s, how, encoder, b, first));
    s->needed += a.forward;
    s->owed += a.backward;
    return UP_OK;
}

/* Sequences first..first+count-1 as a batch of their own. */
static up_status take_part(up_target_set *s, int first, int count) {
    UP_TRY(up_batch_begin(&s->part, &s->sequences.config));
    return up_batch_append(&s->part, &s->sequences, first, count);
}

static int fits_whole(const up_target_set *s, const up_set_encoders *how) {
    if (!how->whole) return 0;
    return s->tokens <= budget_of(how) ||
           (size_t)s->tokens * up_encoder_token_bytes(how->whole) <= how->whole_bytes;
}

/* What this rank encodes, in one pass that keeps its activations. */
static up_status encode_whole(up_target_set *s, const up_set_encoders *how) {
    int count = s->end - s->first;
    if (count == s->sequences.sequences) return encode_fresh(s, how, how->whole, &s->sequences, 0);
    UP_TRY(take_part(s, s->first, count));
    return encode_fresh(s, how, how->whole, &s->part, s->first);
}

static up_status encode_own(up_target_set *s, const up_set_encoders *how) {
    s->pass = 0;
    s->owed = 0;
    if (s->first == s->end) return UP_OK; /* fewer sequences than ranks */
    if (fits_whole(s, how)) {
        UP_TRY(encode_whole(s, how));
        s->pass = up_encoder_pass(how->whole);
        return UP_OK;
    }
    if (!how->scout) return up_fail(UP_ERR_ARGUMENT, "target set", "no encoder for chunks");
    for (int first = s->first, count; first < s->end; first += count) {
        count = chunk_count(s, how, first);
        UP_TRY(take_part(s, first, count));
        UP_TRY(encode_fresh(s, how, how->scout, &s->part, first));
    }
    return UP_OK;
}

up_status up_target_set_encode(up_target_set *s, const up_set_encoders *how) {
    UP_GIVEN(s, how);
    uint64_t version = up_model_version(s->model);
    if (!s->sequences.sequences) return up_fail(UP_ERR_ARGUMENT, "target set", "empty");
    UP_TRY(check_encoders(s, how));
    if (s->fresh && s->version == version && same_draws(s, how)) return UP_OK;
    if (up_target_set_owes(s))
        return up_fail(UP_ERR_ARGUMENT, "target set",
                       "its gradients have not gone back yet, and the weights or the draws of drop path have "
                       "changed");
    s->fresh = 0;
    UP_TRY(up_features_resize(&s->features, s->sequences.sequences));
    UP_TRY(divide(s));
    UP_TRY(encode_own(s, how));
    UP_TRY(gather(s));
    UP_TRY(up_features_normalize(&s->features));
    s->version = version;
    s->drop_path = how->drop_path;
    s->seed = how->seed;
    s->step = how->step;
    s->fresh = 1;
    return UP_OK;
}

up_status up_target_set_restore(up_target_set *s, const float *raw) {
    UP_GIVEN(s, raw);
    up_backend *b = up_model_backend(s->model);
    if (!s->sequences.sequences || up_target_set_owes(s))
        return up_fail(UP_ERR_ARGUMENT, "target set", "empty, or its gradients have not gone back yet");
    forget(s);
    UP_TRY(up_features_resize(&s->features, s->sequences.sequences));
    UP_TRY(b->ops->upload(b, s->features.raw, raw));
    UP_TRY(divide(s));
    UP_TRY(up_features_normalize(&s->features));
    s->version = up_model_version(s->model);
    s->drop_path = 0;
    s->fresh = 1;
    return UP_OK;
}

/* Every chunk again, with activations, and back. */
static up_status chunks_backward(up_target_set *s, const up_set_encoders *how, up_bucket_done done,
                                 void *context) {
    for (int first = s->first, count; first < s->end; first += count) {
        count = chunk_count(s, how, first);
        int last = first + count == s->end;
        UP_TRY(take_part(s, first, count));
        UP_TRY(encode_part(s, how, how->chunk, &s->part, first));
        UP_TRY(up_encoder_backward(how->chunk, up_view_rows(s->features.draw, first, count),
                                   last ? done : NULL, context));
    }
    return UP_OK;
}

up_status up_target_set_backward(up_target_set *s, const up_set_encoders *how, up_bucket_done done,
                                 void *context) {
    UP_GIVEN(s, how);
    if (!s->fresh || s->version != up_model_version(s->model))
        return up_fail(UP_ERR_ARGUMENT, "target set", "its features are stale: nothing to go back through");
    if (!s->features.with_gradients)
        return up_fail(UP_ERR_ARGUMENT, "target set", "it was made without gradients");
    if (!same_draws(s, how))
        return up_fail(UP_ERR_ARGUMENT, "target set", "it was encoded with other draws of drop path");
    UP_TRY(check_encoders(s, how));
    int held = how->whole && s->pass && s->pass == up_encoder_pass(how->whole);
    if (!held && !how->chunk) return up_fail(UP_ERR_ARGUMENT, "target set", "no encoder to go back through");
    UP_TRY(up_features_back(&s->features));
    UP_TRY(scatter(s));
    s->pass = 0;
    s->needed += s->owed;
    if (held) return up_encoder_backward(how->whole, own_rows(s, s->features.draw), done, context);
    return chunks_backward(s, how, done, context);
}

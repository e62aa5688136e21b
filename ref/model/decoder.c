/* decoder.c - decoding with cached keys and values. A step is an ordinary forward pass of a batch whose
 * sequences are [new words | slot], each behind the cached keys of its continuation under the causal mask:
 * what appendix B's doubled mask lets the last slot and the words see. A slot's own key is overwritten by the
 * next word's.
 *
 * Of a layer the cache holds `beams` blocks of `block` rows. In each, every prefix has its own `room` rows:
 * those of the prefix, of its words, and of a slot. So a prefix' keys lie at the same place of every block.
 */
#include "uniperceiver/decoder.h"
#include "ref/given.h"
#include "ref/model/activations.h"

#include <stdlib.h>

/* A prefix in every block. */
typedef struct place {
    int first, tokens, used; /* row of a block; tokens of the prefix; its continuations in the present step */
} place;

/* A continuation: the block that holds its words. */
typedef struct branch {
    int prefix, block, words;
} branch;

struct up_decoder {
    up_encoder *encoder; /* borrowed */
    up_batch batch;
    up_cache cache;
    up_buffer *kept, *moved, *lists; /* the cache; words on their way to another block; rows as i32 */
    size_t kept_bytes, moved_bytes, lists_bytes;
    int prefixes, beams, max_words; /* 0 prefixes: nothing was begun, or a step failed inside */
    place *places;                  /* [prefixes] */
    branch *now, *next;   /* [prefixes * beams] continuations of the step before, of the present one */
    int count;            /* of `now` */
    int32_t *rows;        /* host list */
    int64_t longest_list; /* room in `rows` and `lists` */
};

/* A layer's keys and values go into the cache. Those of a prefix into every block, and the attention looks at
 * them where they are; behind a prefix it looks into the cache. */
up_status up_cache_keys(up_encoder *e, int layer, up_attention_args *a) {
    up_backend *b = up_backend_of(e);
    int64_t width = a->k.cols, rows = e->cache->kept.rows / e->model->config.layers;
    up_view both = a->k, kept = up_view_rows(e->cache->kept, layer * rows, rows);
    both.cols = 2 * width; /* keys and values are neighbours in the projection too */
    int64_t copies = e->cache->copies, block = rows / copies;
    for (int64_t i = 0; i < copies; i++) {
        up_view to = up_view_rows(kept, i * block, block);
        UP_TRY(b->ops->scatter(b, &(up_scatter_args){.x = both, .rows = e->in->cached_rows, .y = to}));
    }
    if (!e->cache->behind) return UP_OK;
    a->k = up_view_cols(kept, 0, width);
    a->v = up_view_cols(kept, width, width);
    return UP_OK;
}

/* One forward pass whose tokens' keys and values go to the rows in d->rows. */
static up_status pass(up_decoder *d, const up_batch *batch, up_view features) {
    up_encoder *e = d->encoder;
    UP_TRY(up_stage_cached(e, batch, d->rows));
    e->cache = &d->cache;
    up_status status = up_encoder_forward(e, features);
    e->cache = NULL;
    return status;
}

static up_status encode_prefixes(up_decoder *d, const up_batch *prefixes) {
    int at = 0;
    for (int p = 0; p < d->prefixes; p++)
        for (int i = 0; i < d->places[p].tokens; i++) d->rows[at++] = d->places[p].first + i;
    d->cache.copies = d->beams;
    d->cache.behind = 0;
    UP_TRY(pass(d, prefixes, up_view_at(NULL, UP_F32, 0, 0, d->encoder->model->config.width)));
    d->cache.copies = d->cache.behind = 1;
    for (int p = 0; p < d->prefixes; p++) d->now[p] = (branch){.prefix = p};
    d->count = d->prefixes;
    return UP_OK;
}

/* --- beginning --- */

static up_status check_prefixes(const up_batch *prefixes, int beams, int max_words) {
    if (prefixes->sequences < 1 || prefixes->readouts || prefixes->cached || prefixes->tokens < 1)
        return up_fail(UP_ERR_ARGUMENT, "decoder",
                       "%d prefixes with %d read-outs%s; wanted at least 1 with none", prefixes->sequences,
                       prefixes->readouts, prefixes->cached ? ", behind cached keys" : "");
    if (beams < 1 || max_words < 1 || max_words > INT32_MAX - 1 - prefixes->tokens)
        return up_fail(UP_ERR_ARGUMENT, "decoder", "%d beams of %d words; wanted 1 at least", beams,
                       max_words);
    return UP_OK;
}

static void free_lists(up_decoder *d) {
    free(d->rows);
    free(d->places);
    free(d->now);
    free(d->next);
    d->rows = NULL;
    d->places = NULL;
    d->now = d->next = NULL;
}

static up_status make_lists(up_decoder *d, int64_t tokens) {
    int64_t branches = (int64_t)d->prefixes * d->beams, step = branches * (d->max_words + 1);
    int64_t moves = 2 * d->encoder->model->config.layers * branches * d->max_words;
    d->longest_list = moves > step ? moves : step;
    if (d->longest_list < tokens) d->longest_list = tokens;
    free_lists(d);
    d->rows = malloc((size_t)d->longest_list * sizeof *d->rows);
    d->places = calloc((size_t)d->prefixes, sizeof *d->places);
    d->now = calloc((size_t)branches, sizeof *d->now);
    d->next = calloc((size_t)branches, sizeof *d->next);
    if (d->rows && d->places && d->now && d->next) return UP_OK;
    return up_fail(UP_ERR_MEMORY, "decoder", "%lld row numbers wanted", (long long)d->longest_list);
}

/* Rows of a block: those of all prefixes. */
static int64_t lay_out(up_decoder *d, const up_batch *prefixes) {
    int64_t block = 0;
    for (int p = 0; p < d->prefixes; p++) {
        int tokens = prefixes->sequence[(size_t)p * UP_SEQ_FIELDS + UP_SEQ_Q_COUNT];
        d->places[p] = (place){.first = (int)block, .tokens = tokens};
        block += (int64_t)tokens + d->max_words + 1;
        if (block > INT32_MAX) break;
    }
    return block;
}

static size_t row_bytes(const up_encoder *e) {
    return 2 * (size_t)e->model->config.width * up_dtype_size(e->dtype);
}

/* Memory for the cache, for words that change blocks, and for lists of rows. */
static up_status make_room(up_decoder *d, const up_batch *prefixes) {
    up_backend *b = up_backend_of(d->encoder);
    const up_config *c = &d->encoder->model->config;
    UP_TRY(make_lists(d, prefixes->tokens));
    int64_t rows = c->layers * (int64_t)d->beams * lay_out(d, prefixes);
    int64_t moved = (int64_t)c->layers * d->prefixes * d->beams * d->max_words;
    if (rows > INT32_MAX) return up_fail(UP_ERR_ARGUMENT, "decoder", "%lld rows of keys", (long long)rows);
    UP_TRY(up_grow_buffer(b, &d->kept, &d->kept_bytes, (size_t)rows * row_bytes(d->encoder)));
    UP_TRY(up_grow_buffer(b, &d->moved, &d->moved_bytes, (size_t)moved * row_bytes(d->encoder)));
    UP_TRY(up_grow_buffer(b, &d->lists, &d->lists_bytes, (size_t)d->longest_list * sizeof(int32_t)));
    d->cache.kept = up_view_at(d->kept, d->encoder->dtype, 0, rows, 2 * (int64_t)c->width);
    return UP_OK;
}

static up_status begin(up_decoder *d, const up_batch *prefixes, int beams, int max_words) {
    d->prefixes = prefixes->sequences;
    d->beams = beams;
    d->max_words = max_words;
    UP_TRY(make_room(d, prefixes));
    return encode_prefixes(d, prefixes);
}

up_status up_decoder_begin(up_decoder *d, const up_batch *prefixes, int beams, int max_words) {
    UP_GIVEN(d, prefixes);
    d->prefixes = 0;
    UP_TRY(check_prefixes(prefixes, beams, max_words));
    up_status status = begin(d, prefixes, beams, max_words);
    if (status != UP_OK) d->prefixes = 0;
    return status;
}

up_status up_decoder_create(up_encoder *encoder, up_decoder **out) {
    UP_GIVEN(encoder, out);
    *out = calloc(1, sizeof **out);
    if (!*out) return up_fail(UP_ERR_MEMORY, "decoder", "%zu bytes wanted", sizeof **out);
    (*out)->encoder = encoder;
    return UP_OK;
}

void up_decoder_free(up_decoder *d) {
    if (!d) return;
    up_backend *b = up_backend_of(d->encoder);
    b->ops->release(b, d->kept);
    b->ops->release(b, d->moved);
    b->ops->release(b, d->lists);
    up_batch_free(&d->batch);
    free_lists(d);
    free(d);
}

size_t up_decoder_bytes(const up_encoder *encoder, int prefix_tokens, int beams, int max_words) {
    if (!encoder || prefix_tokens < 0 || beams < 0 || max_words < 0) return 0;
    size_t rows = (size_t)prefix_tokens + (size_t)max_words + 1;
    return (size_t)encoder->model->config.layers * (size_t)beams * rows * row_bytes(encoder);
}

/* --- a step --- */

/* Row of the cache of a branch's key `index`, in layer 0. */
static int row_of(const up_decoder *d, const branch *b, int index) {
    int64_t block = d->cache.kept.rows / d->encoder->model->config.layers / d->beams;
    return (int)(b->block * block) + d->places[b->prefix].first + index;
}

/* Rows of the words that change blocks: where they are, where they go. */
static int64_t list_moves(const up_decoder *d, int count, const int *parents, int32_t *from, int32_t *to) {
    int layers = d->encoder->model->config.layers;
    int layer_rows = (int)(d->cache.kept.rows / layers);
    int64_t n = 0;
    for (int i = 0; i < count; i++) {
        const branch *old = &d->now[parents[i]], *new = &d->next[i];
        int prefix = d->places[old->prefix].tokens;
        if (old->block == new->block) continue;
        for (int k = 0; k < layers * old->words; k++, n++) {
            int below = k / old->words * layer_rows, index = prefix + k % old->words;
            from[n] = below + row_of(d, old, index);
            to[n] = below + row_of(d, new, index);
        }
    }
    return n;
}

/* Each continuation takes the words of its parent, in all layers at once: gather, then scatter. */
static up_status reorder(up_decoder *d, int count, const int *parents) {
    up_backend *b = up_backend_of(d->encoder);
    int32_t *from = d->rows, *to = d->rows + d->longest_list / 2;
    int64_t n = list_moves(d, count, parents, from, to);
    if (!n) return UP_OK;
    up_view from_rows = up_view_at(d->lists, UP_I32, 0, n, 1);
    up_view to_rows = up_view_at(d->lists, UP_I32, n, n, 1);
    up_view moved = up_view_at(d->moved, d->cache.kept.dtype, 0, n, d->cache.kept.cols);
    UP_TRY(b->ops->upload(b, from_rows, from));
    UP_TRY(b->ops->upload(b, to_rows, to));
    UP_TRY(b->ops->gather(b, &(up_gather_args){.x = d->cache.kept, .rows = from_rows, .y = moved}));
    return b->ops->scatter(b, &(up_scatter_args){.x = moved, .rows = to_rows, .y = d->cache.kept});
}

/* The sequence [words | slot] of a continuation, behind its cached keys. */
static up_status pack(up_decoder *d, const branch *to, const int32_t *words, int more) {
    up_batch *b = &d->batch;
    int cached = d->places[to->prefix].tokens + to->words;
    for (int i = 0; i <= more; i++) d->rows[b->tokens + i] = row_of(d, to, cached + i);
    UP_TRY(up_batch_continue(b, UP_SIDE_INPUT, row_of(d, to, 0), cached));
    UP_TRY(up_batch_text(b, words, more, to->words, NULL));
    UP_TRY(up_batch_text(b, (int32_t[]){UP_ID_SPE}, 1, to->words + more, (uint8_t[]){1}));
    return up_batch_close(b);
}

static up_status step(up_decoder *d, int count, const int *parents, const int *counts, const int32_t *words,
                      up_view features) {
    UP_TRY(reorder(d, count, parents));
    UP_TRY(up_batch_begin(&d->batch, &d->encoder->model->config));
    for (int i = 0; i < count; i++) {
        UP_TRY(pack(d, &d->next[i], words, counts[i]));
        d->next[i].words += counts[i];
        words += counts[i];
    }
    return pass(d, &d->batch, features);
}

/* d->next: each continuation in the next free block of its prefix. */
static up_status take_blocks(up_decoder *d, int count, const int *parents, const int *counts) {
    for (int p = 0; p < d->prefixes; p++) d->places[p].used = 0;
    for (int i = 0; i < count; i++) {
        if (parents[i] < 0 || parents[i] >= d->count)
            return up_fail(UP_ERR_ARGUMENT, "decoder", "continuation %d goes on behind %d of %d", i,
                           parents[i], d->count);
        branch b = d->now[parents[i]];
        b.block = d->places[b.prefix].used++;
        if (b.block >= d->beams || counts[i] < 0 || counts[i] > d->max_words - b.words)
            return up_fail(UP_ERR_ARGUMENT, "decoder",
                           "continuation %d of prefix %d takes %d words more; wanted at most %d of %d words",
                           b.block + 1, b.prefix, counts[i], d->beams, d->max_words);
        d->next[i] = b;
    }
    return UP_OK;
}

up_status up_decoder_step(up_decoder *d, int count, const int *parents, const int *counts,
                          const int32_t *words, up_view features) {
    UP_GIVEN(d, parents, counts, words);
    if (!d->prefixes) return up_fail(UP_ERR_ARGUMENT, "decoder", "nothing was begun, or a step has failed");
    if (count < 1 || count > d->prefixes * d->beams)
        return up_fail(UP_ERR_ARGUMENT, "decoder", "%d continuations; wanted at most %d of %d prefixes",
                       count, d->beams, d->prefixes);
    UP_TRY(take_blocks(d, count, parents, counts));
    up_status status = step(d, count, parents, counts, words, features);
    if (status != UP_OK) { /* the cache may hold half of it */
        d->prefixes = 0;
        return status;
    }
    branch *old = d->now;
    d->now = d->next;
    d->next = old;
    d->count = count;
    return UP_OK;
}

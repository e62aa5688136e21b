/* decoder.c - decoding with cached keys and values. A step is an ordinary forward pass of a batch whose
 * sequences are [new words | slot], each behind the cached keys of its beam under the causal mask: what
 * appendix B's doubled mask lets the last slot and the words see. A slot's own key is overwritten by the next
 * word's. */
#include "uniperceiver/decoder.h"
#include "ref/model/activations.h"

#include <stdlib.h>

struct up_decoder {
    up_encoder *encoder; /* borrowed */
    up_batch batch;
    up_cache cache;
    up_buffer *kept, *moved, *lists; /* the cache; words on their way to another beam; rows as i32 */
    int32_t *rows;                   /* host list */
    int prefix, beams, room, words;  /* tokens of the prefix; keys a beam has room for; words it has */
    int broken;                      /* 1: a step failed; the cache may hold half of it */
};

/* A layer's keys and values go into the cache, and the attention looks there. */
up_status up_cache_keys(up_encoder *e, int layer, up_attention_args *a) {
    up_backend *b = up_backend_of(e);
    int64_t width = a->k.cols, rows = e->cache->kept.rows / e->model->config.layers;
    up_view both = a->k, kept = up_view_rows(e->cache->kept, layer * rows, rows);
    both.cols = 2 * width; /* keys and values are neighbours in the projection too */
    UP_TRY(b->ops->scatter(b, &(up_scatter_args){.x = both, .rows = e->in->cached_rows, .y = kept}));
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

static up_status encode_prefix(up_decoder *d, const up_batch *prefix) {
    up_backend *b = up_backend_of(d->encoder);
    const up_config *c = &d->encoder->model->config;
    for (int i = 0; i < prefix->tokens; i++) d->rows[i] = i;
    UP_TRY(pass(d, prefix, up_view_at(NULL, UP_F32, 0, 0, c->width)));
    for (int layer = 0; layer < c->layers; layer++)
        for (int beam = 1; beam < d->beams; beam++) {
            int64_t first = (int64_t)layer * d->beams * d->room;
            up_view to = up_view_rows(d->cache.kept, first + (int64_t)beam * d->room, d->prefix);
            UP_TRY(b->ops->copy(b, to, up_view_rows(d->cache.kept, first, d->prefix)));
        }
    return UP_OK;
}

static up_status check_prefix(const up_batch *prefix, int beams, int max_words) {
    if (prefix->sequences != 1 || prefix->readouts || prefix->cached || prefix->tokens < 1)
        return up_fail(UP_ERR_ARGUMENT, "decoder",
                       "a prefix of %d sequences with %d read-outs%s; wanted 1 with none", prefix->sequences,
                       prefix->readouts, prefix->cached ? ", behind cached keys" : "");
    if (beams < 1 || max_words < 1 || max_words > INT32_MAX - 1 - prefix->tokens)
        return up_fail(UP_ERR_ARGUMENT, "decoder", "%d beams of %d words; wanted 1 at least", beams,
                       max_words);
    return UP_OK;
}

/* Memory for the cache, for words that change beams, and for lists of rows. */
static up_status make_room(up_decoder *d, int max_words) {
    up_backend *b = up_backend_of(d->encoder);
    const up_config *c = &d->encoder->model->config;
    int64_t rows = (int64_t)c->layers * d->beams * d->room, moved = (int64_t)c->layers * d->beams * max_words;
    int64_t tokens = (int64_t)d->beams * (max_words + 1), list = 2 * moved; /* the longest of the lists */
    if (rows > INT32_MAX) return up_fail(UP_ERR_ARGUMENT, "decoder", "%lld rows of keys", (long long)rows);
    if (list < tokens) list = tokens;
    if (list < d->prefix) list = d->prefix;
    d->rows = malloc((size_t)list * sizeof *d->rows);
    if (!d->rows) return up_fail(UP_ERR_MEMORY, "decoder", "%lld row numbers wanted", (long long)list);
    size_t row = 2 * (size_t)c->width * up_dtype_size(d->encoder->dtype);
    UP_TRY(b->ops->alloc(b, (size_t)rows * row, &d->kept));
    UP_TRY(b->ops->alloc(b, (size_t)moved * row, &d->moved));
    UP_TRY(b->ops->alloc(b, (size_t)list * sizeof(int32_t), &d->lists));
    d->cache.kept = up_view_at(d->kept, d->encoder->dtype, 0, rows, 2 * (int64_t)c->width);
    return UP_OK;
}

up_status up_decoder_create(up_encoder *encoder, const up_batch *prefix, int beams, int max_words,
                            up_decoder **out) {
    up_status status = UP_OK;
    *out = NULL;
    UP_TRY(check_prefix(prefix, beams, max_words));
    up_decoder *d = calloc(1, sizeof *d);
    if (!d) return up_fail(UP_ERR_MEMORY, "decoder", "%zu bytes wanted", sizeof *d);
    d->encoder = encoder;
    d->prefix = prefix->tokens;
    d->beams = beams;
    d->room = d->prefix + max_words + 1;
    UP_GO(make_room(d, max_words));
    UP_GO(encode_prefix(d, prefix));
    *out = d;
    d = NULL;
done:
    up_decoder_free(d);
    return status;
}

void up_decoder_free(up_decoder *d) {
    if (!d) return;
    up_backend *b = up_backend_of(d->encoder);
    b->ops->release(b, d->kept);
    b->ops->release(b, d->moved);
    b->ops->release(b, d->lists);
    up_batch_free(&d->batch);
    free(d->rows);
    free(d);
}

/* Beam i takes the words of beam parents[i], in all layers at once: gather, then scatter. */
static up_status reorder(up_decoder *d, int count, const int *parents) {
    up_backend *b = up_backend_of(d->encoder);
    int layers = d->encoder->model->config.layers, same = 1;
    for (int i = 0; i < count; i++) same &= parents[i] == i;
    if (same || !d->words) return UP_OK;
    int64_t n = (int64_t)layers * count * d->words, at = 0;
    for (int layer = 0; layer < layers; layer++)
        for (int i = 0; i < count; i++)
            for (int word = 0; word < d->words; word++, at++) {
                int first = layer * d->beams * d->room + d->prefix + word;
                d->rows[at] = first + parents[i] * d->room;
                d->rows[n + at] = first + i * d->room;
            }
    up_view lists = up_view_at(d->lists, UP_I32, 0, 2 * n, 1);
    up_view moved = up_view_at(d->moved, d->cache.kept.dtype, 0, n, d->cache.kept.cols);
    up_view from = up_view_rows(lists, 0, n), to = up_view_rows(lists, n, n);
    UP_TRY(b->ops->upload(b, lists, d->rows));
    UP_TRY(b->ops->gather(b, &(up_gather_args){.x = d->cache.kept, .rows = from, .y = moved}));
    return b->ops->scatter(b, &(up_scatter_args){.x = moved, .rows = to, .y = d->cache.kept});
}

/* The sequence [words | slot] of one beam, behind its cached keys. */
static up_status pack_beam(up_decoder *d, int beam, const int32_t *words, int more) {
    up_batch *b = &d->batch;
    int cached = d->prefix + d->words;
    UP_TRY(up_batch_continue(b, UP_SIDE_INPUT, beam * d->room, cached));
    UP_TRY(up_batch_text(b, words, more, d->words, NULL));
    UP_TRY(up_batch_text(b, (int32_t[]){UP_ID_SPE}, 1, d->words + more, (uint8_t[]){1}));
    UP_TRY(up_batch_close(b));
    for (int i = 0; i <= more; i++) d->rows[beam * (more + 1) + i] = beam * d->room + cached + i;
    return UP_OK;
}

static up_status step(up_decoder *d, int count, const int *parents, const int32_t *words, int more,
                      up_view features) {
    UP_TRY(reorder(d, count, parents));
    UP_TRY(up_batch_begin(&d->batch, &d->encoder->model->config));
    for (int i = 0; i < count; i++)
        UP_TRY(pack_beam(d, i, more ? words + (size_t)i * (size_t)more : NULL, more));
    return pass(d, &d->batch, features);
}

up_status up_decoder_step(up_decoder *d, int count, const int *parents, const int32_t *words, int more,
                          up_view features) {
    if (d->broken) return up_fail(UP_ERR_ARGUMENT, "decoder", "a step has failed: it cannot go on");
    if (count < 1 || count > d->beams || more < 0 || d->prefix + d->words + more >= d->room)
        return up_fail(UP_ERR_ARGUMENT, "decoder", "%d words in %d beams; wanted at most %d in %d",
                       d->words + more, count, d->room - d->prefix - 1, d->beams);
    for (int i = 0; i < count; i++)
        if (parents[i] < 0 || parents[i] >= d->beams)
            return up_fail(UP_ERR_ARGUMENT, "decoder", "beam %d continues beam %d of %d", i, parents[i],
                           d->beams);
    d->broken = 1;
    UP_TRY(step(d, count, parents, words, more, features));
    d->broken = 0;
    d->words += more;
    return UP_OK;
}

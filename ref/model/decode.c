/* decode.c - decoding with cached keys and values. A step is an ordinary forward pass of a batch whose
 * sequences are [new words | slot], each behind the cached keys of its beam under the causal mask: what
 * appendix B's doubled mask lets the last slot and the words see. A slot's own key is overwritten by the next
 * word's. */
#include "ref/model/decode.h"
#include "ref/model/run.h"

#include <stdlib.h>

struct up_decoder {
    up_run *run; /* borrowed */
    up_batch batch;
    up_cache cache;
    up_buffer *kept, *moved, *lists; /* the cache; words on their way to another beam; rows as i32 */
    int32_t *host_list;
    int prefix, beams, room, words; /* tokens of the prefix; keys a beam has room for; words it has */
};

up_status up_cache_layer(up_run *r, int layer, up_attention_args *a) {
    up_backend *b = r->model->backend;
    int64_t width = a->k.cols, rows = r->cache->kept.rows / r->model->config.layers;
    up_view both = a->k, kept = up_view_rows(r->cache->kept, layer * rows, rows);
    both.cols = 2 * width; /* keys and values are neighbours in the projection too */
    UP_TRY(b->ops->scatter(b, &(up_scatter_args){.x = both, .rows = r->cache->place, .y = kept}));
    a->k = up_view_cols(kept, 0, width);
    a->v = up_view_cols(kept, width, width);
    return UP_OK;
}

/* One forward pass whose tokens' keys and values go to the rows in d->host_list. */
static up_status pass(up_decoder *d, const up_batch *batch) {
    up_run *r = d->run;
    up_backend *b = r->model->backend;
    d->cache.place = up_view_at(d->lists, UP_I32, 0, batch->tokens, 1);
    UP_TRY(b->ops->upload(b, d->cache.place, d->host_list));
    r->cache = &d->cache;
    up_status status = up_run_forward(r, batch, NULL);
    r->cache = NULL;
    return status;
}

static up_status encode_prefix(up_decoder *d, const up_batch *prefix) {
    up_backend *b = d->run->model->backend;
    int layers = d->run->model->config.layers;
    for (int i = 0; i < prefix->tokens; i++) d->host_list[i] = i;
    UP_TRY(pass(d, prefix));
    for (int layer = 0; layer < layers; layer++)
        for (int beam = 1; beam < d->beams; beam++) {
            int64_t first = (int64_t)layer * d->beams * d->room;
            UP_TRY(b->ops->copy(b, up_view_rows(d->cache.kept, first + (int64_t)beam * d->room, d->prefix),
                                up_view_rows(d->cache.kept, first, d->prefix)));
        }
    return UP_OK;
}

up_status up_decoder_create(up_run *run, const up_batch *prefix, int beams, int max_words, up_decoder **out) {
    up_status status = UP_OK;
    const up_config *c = &run->model->config;
    up_backend *b = run->model->backend;
    up_decoder *d = calloc(1, sizeof *d);
    *out = NULL;
    if (!d) return up_fail(UP_ERR_MEMORY, "decoder", "%zu bytes wanted", sizeof *d);
    d->run = run;
    d->prefix = prefix->tokens;
    d->beams = beams;
    if (prefix->sequences != 1 || beams < 1 || max_words < 1)
        UP_GO(up_fail(UP_ERR_ARGUMENT, "decoder",
                      "%d sequences, %d beams, %d words; wanted 1, and 1 at least", prefix->sequences, beams,
                      max_words));
    d->room = d->prefix + max_words + 1;
    int64_t rows = (int64_t)c->layers * beams * d->room, moved = (int64_t)c->layers * beams * max_words;
    int64_t tokens = (int64_t)beams * (max_words + 1), list = 2 * moved; /* the longest of the lists */
    if (rows > INT32_MAX) UP_GO(up_fail(UP_ERR_ARGUMENT, "decoder", "%lld rows of keys", (long long)rows));
    if (list < tokens) list = tokens;
    if (list < d->prefix) list = d->prefix;
    d->host_list = malloc((size_t)list * sizeof *d->host_list);
    if (!d->host_list) UP_GO(up_fail(UP_ERR_MEMORY, "decoder", "%lld row numbers wanted", (long long)list));
    size_t row = 2 * (size_t)c->width * sizeof(float);
    UP_GO(b->ops->alloc(b, (size_t)rows * row, &d->kept));
    UP_GO(b->ops->alloc(b, (size_t)moved * row, &d->moved));
    UP_GO(b->ops->alloc(b, (size_t)list * sizeof(int32_t), &d->lists));
    d->cache.kept = up_view_at(d->kept, UP_F32, 0, rows, 2 * (int64_t)c->width);
    UP_GO(encode_prefix(d, prefix));
    *out = d;
    d = NULL;
done:
    up_decoder_free(d);
    return status;
}

void up_decoder_free(up_decoder *d) {
    if (!d) return;
    up_backend *b = d->run->model->backend;
    b->ops->release(b, d->kept);
    b->ops->release(b, d->moved);
    b->ops->release(b, d->lists);
    up_batch_free(&d->batch);
    free(d->host_list);
    free(d);
}

/* Beam i takes the words of beam parents[i], in all layers at once: gather, then scatter. */
static up_status reorder(up_decoder *d, int count, const int *parents) {
    up_backend *b = d->run->model->backend;
    int layers = d->run->model->config.layers, same = 1;
    for (int i = 0; i < count; i++) same &= parents[i] == i;
    if (same || !d->words) return UP_OK;
    int64_t n = (int64_t)layers * count * d->words, at = 0;
    for (int layer = 0; layer < layers; layer++)
        for (int i = 0; i < count; i++)
            for (int word = 0; word < d->words; word++, at++) {
                int first = layer * d->beams * d->room + d->prefix + word;
                d->host_list[at] = first + parents[i] * d->room;
                d->host_list[n + at] = first + i * d->room;
            }
    up_view lists = up_view_at(d->lists, UP_I32, 0, 2 * n, 1);
    up_view moved = up_view_at(d->moved, UP_F32, 0, n, d->cache.kept.cols);
    UP_TRY(b->ops->upload(b, lists, d->host_list));
    UP_TRY(b->ops->gather(
        b, &(up_gather_args){.x = d->cache.kept, .rows = up_view_rows(lists, 0, n), .y = moved}));
    return b->ops->scatter(
        b, &(up_scatter_args){.x = moved, .rows = up_view_rows(lists, n, n), .y = d->cache.kept});
}

/* The sequence [words | slot] of one beam. A batch opens every sequence with a bare <SPE>; here that stands
 * in the cache already, so the token becomes the first word (or the slot) instead. */
static up_status pack_beam(up_decoder *d, int beam, const int32_t *words, int more) {
    up_batch *b = &d->batch;
    UP_TRY(up_batch_open(b, UP_SIDE_INPUT, more == 0));
    b->text_id[b->text_count - 1] = more ? words[0] : -1;
    b->text_position[b->text_count - 1] = d->words;
    if (more) {
        UP_TRY(up_batch_text(b, words + 1, more - 1, d->words + 1, NULL));
        UP_TRY(up_batch_text(b, (int32_t[]){-1}, 1, d->words + more, (uint8_t[]){1}));
    }
    UP_TRY(up_batch_close(b));
    int32_t *s = b->sequence + (size_t)beam * UP_SEQ_FIELDS;
    s[UP_SEQ_KIND] = UP_MASK_CAUSAL;
    s[UP_SEQ_K_START] = beam * d->room;
    s[UP_SEQ_K_COUNT] = b->max_keys = d->prefix + d->words + more + 1;
    for (int i = 0; i <= more; i++)
        d->host_list[beam * (more + 1) + i] = beam * d->room + d->prefix + d->words + i;
    return UP_OK;
}

up_status up_decoder_step(up_decoder *d, int count, const int *parents, const int32_t *words, int more,
                          float *out) {
    if (count < 1 || count > d->beams || more < 0 || d->prefix + d->words + more >= d->room)
        return up_fail(UP_ERR_ARGUMENT, "decoder", "%d words in %d beams; wanted at most %d in %d",
                       d->words + more, count, d->room - d->prefix - 1, d->beams);
    UP_TRY(reorder(d, count, parents));
    UP_TRY(up_batch_begin(&d->batch, &d->run->model->config));
    for (int i = 0; i < count; i++)
        UP_TRY(pack_beam(d, i, more ? words + (size_t)i * (size_t)more : NULL, more));
    UP_TRY(pass(d, &d->batch));
    d->words += more;
    return up_run_features(d->run, out);
}

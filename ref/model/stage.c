/* stage.c - a packed batch on its way to the device: checked, laid out, its lists made and uploaded in one
 * piece, pixels as they are. Two input regions take turns, so that a batch can be staged while the one before
 * it is still at work.
 *
 * The narrow last layer: behind its keys and values nothing mixes tokens, and only rows that are read out are
 * used; computing those alone is exact. With a picture of 196 patches one row of 197 remains, with a
 * vocabulary entry one of 3. */
#include "ref/model/activations.h"
#include "ref/given.h"

#include <stdlib.h>
#include <string.h>

static up_sizes sizes_of(const up_batch *b) {
    return (up_sizes){.tokens = b->tokens,
                      .sequences = b->sequences,
                      .readouts = b->readouts,
                      .text = b->text_count,
                      .image = b->image.count,
                      .video = b->video.count,
                      .image_values = b->image.values != NULL,
                      .video_values = b->video.values != NULL,
                      .timed_image = b->image.count && b->image.frame[0] >= 0,
                      .max_keys = b->max_keys};
}

static up_sizes room_for(const up_sizes *n) {
    up_sizes room = *n;
    room.tokens = up_ladder(n->tokens);
    room.sequences = up_ladder(n->sequences);
    room.readouts = up_ladder(n->readouts);
    room.text = up_ladder(n->text);
    room.image = n->image ? up_ladder(n->image) : 0;
    room.video = n->video ? up_ladder(n->video) : 0;
    room.max_keys = up_ladder(n->max_keys);
    return room;
}

/* Queries of a sequence must be the last of its keys (backend.h) unless all keys are seen: so a doubled
 * sequence keeps all of its slots and nothing else, or nothing, and a causal one its last rows, or nothing.
 */
static int is_narrow(const up_encoder *e, const up_batch *b) {
    if (e->all_rows) return 0;
    for (int s = 0, at = 0; s < b->sequences; s++) {
        const int32_t *q = b->sequence + (size_t)s * UP_SEQ_FIELDS;
        int end = q[UP_SEQ_Q_START] + q[UP_SEQ_Q_COUNT], first = at;
        while (at < b->readouts && b->readout_row[at] < end) at++;
        int kept = at - first;
        if (q[UP_SEQ_KIND] == UP_MASK_FULL || !kept) continue;
        if (q[UP_SEQ_KIND] == UP_MASK_DOUBLED && kept != q[UP_SEQ_WORDS]) return 0;
        if (b->readout_row[first] != end - kept) return 0; /* ascending: these are the last ones */
    }
    return 1;
}

/* ---- lists, in host memory of the region's layout ---- */

static int32_t *at(const up_encoder *e, up_view list) {
    return (int32_t *)(void *)e->host + list.offset;
}

static void fill(const up_encoder *e, up_view list, int64_t room, int32_t value) {
    int32_t *out = at(e, list);
    for (int64_t i = 0; i < room * list.cols; i++) out[i] = value;
}

static void put(const up_encoder *e, up_view list, int64_t room, const int32_t *values, int count,
                int32_t unused) {
    fill(e, list, room, unused);
    if (count) memcpy(at(e, list), values, (size_t)(count * list.cols) * sizeof *values);
}

/* Token ids as the tables number them: the last one stands for <SPE>, too. */
static void put_ids(const up_encoder *e, const up_input_region *r, const up_batch *b) {
    int32_t *ids = at(e, r->ids), spe = e->model->config.vocabulary - 1;
    fill(e, r->ids, r->room.text, UP_ID_NONE);
    for (int i = 0; i < b->text_count; i++) ids[i] = b->text_id[i] == spe ? UP_ID_SPE : b->text_id[i];
}

/* Which of the T tokens stands in each row; T is laid out for the room of every modality. */
static void put_order(const up_encoder *e, const up_input_region *r, const up_batch *b) {
    int32_t *order = at(e, r->order);
    fill(e, r->order, r->room.tokens, -1);
    for (int i = 0; i < b->text_count; i++) order[b->text_row[i]] = i;
    for (int i = 0; i < b->image.count; i++) order[b->image.row[i]] = r->room.text + i;
    for (int i = 0; i < b->video.count; i++) order[b->video.row[i]] = r->room.text + r->room.image + i;
}

static void put_sequences(const up_encoder *e, const up_input_region *r, const up_batch *b) {
    int32_t *owner = at(e, r->owner), *narrow_owner = at(e, r->narrow_owner);
    put(e, r->sequence, r->room.sequences, b->sequence, b->sequences, 0);
    put(e, r->narrow_sequence, r->room.sequences, b->sequence, b->sequences, 0);
    fill(e, r->owner, r->room.tokens, -1);
    fill(e, r->narrow_owner, r->room.readouts, -1);
    int read = 0;
    for (int s = 0; s < b->sequences; s++) {
        const int32_t *q = b->sequence + (size_t)s * UP_SEQ_FIELDS;
        int32_t *narrow = at(e, r->narrow_sequence) + (size_t)s * UP_SEQ_FIELDS;
        int end = q[UP_SEQ_Q_START] + q[UP_SEQ_Q_COUNT];
        for (int row = q[UP_SEQ_Q_START]; row < end; row++) owner[row] = s;
        narrow[UP_SEQ_Q_START] = read;
        for (; read < b->readouts && b->readout_row[read] < end; read++) narrow_owner[read] = s;
        narrow[UP_SEQ_Q_COUNT] = read - narrow[UP_SEQ_Q_START];
    }
}

static void put_readouts(const up_encoder *e, const up_input_region *r, const up_batch *b) {
    put(e, r->readout, r->room.readouts, b->readout_row, b->readouts, -1);
    put(e, r->places, r->room.readouts, b->readout_row, b->readouts, -1);
    for (int i = 0; r->narrow && i < b->readouts; i++) at(e, r->places)[i] = i;
}

static void put_patches(const up_encoder *e, const up_patch_input *p, int room, const up_patch_rows *from) {
    put(e, p->cells, room, from->cell, from->count, -1);
    if (up_view_present(p->frames)) put(e, p->frames, room, from->frame, from->count, -1);
}

static void put_drop(const up_encoder *e, const up_input_region *r, const float *drop) {
    int branches = 2 * e->model->config.layers, n = r->sizes.sequences, room = r->room.sequences;
    float *out = (float *)(void *)e->host + r->drop.offset;
    for (int i = 0; i < branches; i++)
        for (int s = 0; s < room; s++)
            out[(size_t)i * (size_t)room + (size_t)s] = s < n ? drop[(size_t)i * (size_t)n + (size_t)s] : 0;
}

static void put_lists(const up_encoder *e, const up_input_region *r, const up_batch *b, const float *drop,
                      const int32_t *cached_rows) {
    put_sequences(e, r, b);
    put_ids(e, r, b);
    put(e, r->positions, r->room.text, b->text_position, b->text_count, -1);
    put_patches(e, &r->image, r->room.image, &b->image);
    put_patches(e, &r->video, r->room.video, &b->video);
    put_order(e, r, b);
    put(e, r->text_rows, r->room.text, b->text_row, b->text_count, -1);
    put(e, r->image_rows, r->room.image, b->image.row, b->image.count, -1);
    put(e, r->video_rows, r->room.video, b->video.row, b->video.count, -1);
    put_readouts(e, r, b);
    put(e, r->cached_rows, r->room.tokens, cached_rows, cached_rows ? b->tokens : 0, -1);
    if (drop) put_drop(e, r, drop);
}

/* ---- memory and upload ---- */

static up_status grow_host(up_encoder *e, size_t wanted) {
    if (wanted <= e->host_bytes) return UP_OK;
    unsigned char *grown = realloc(e->host, wanted);
    if (!grown) return up_fail(UP_ERR_MEMORY, "packed batch", "%zu bytes of lists wanted", wanted);
    e->host = grown;
    e->host_bytes = wanted;
    return UP_OK;
}

static size_t pixel_bytes(const up_encoder *e, int rows, int values) {
    size_t patch = 3 * (size_t)e->model->config.patch * (size_t)e->model->config.patch;
    return (size_t)rows * patch * (values ? sizeof(float) : 1);
}

static up_status make_room(up_encoder *e, up_input_region *r) {
    up_backend *b = up_backend_of(e);
    size_t lists = up_plan_inputs(e, r);
    UP_TRY(grow_host(e, lists));
    UP_TRY(up_grow_buffer(b, &r->buffer, &r->bytes, lists));
    UP_TRY(up_grow_buffer(b, &r->pixels[0], &r->pixel_bytes[0],
                          pixel_bytes(e, r->room.image, r->sizes.image_values)));
    UP_TRY(up_grow_buffer(b, &r->pixels[1], &r->pixel_bytes[1],
                          pixel_bytes(e, r->room.video, r->sizes.video_values)));
    up_plan_inputs(e, r);
    return UP_OK;
}

static up_status upload_pixels(const up_encoder *e, up_view pixels, const up_patch_rows *from) {
    up_backend *b = up_backend_of(e);
    int64_t unused = pixels.rows - from->count;
    if (!from->count) return UP_OK;
    /* values that nobody wrote may be NaN, which no gradient of 0 takes away; every byte has a level */
    if (from->values && unused) UP_TRY(b->ops->fill(b, up_view_rows(pixels, from->count, unused), 0));
    return b->ops->upload(b, up_view_rows(pixels, 0, from->count),
                          from->values ? (const void *)from->values : from->bytes);
}

static up_status stage(up_encoder *e, const up_batch *batch, const float *drop, const int32_t *cached_rows) {
    up_backend *b = up_backend_of(e);
    up_input_region *r = &e->regions[e->next];
    e->staged = 0;
    UP_TRY(up_batch_check(batch, &e->model->config));
    if (batch->cached && !cached_rows)
        return up_fail(UP_ERR_ARGUMENT, "encoder", "the batch stands behind cached keys: decoder.h");
    r->sizes = sizes_of(batch);
    r->room = room_for(&r->sizes);
    r->narrow = is_narrow(e, batch);
    r->drops = drop != NULL;
    UP_TRY(make_room(e, r));
    put_lists(e, r, batch, drop, cached_rows);
    size_t bytes = (size_t)(r->drop.offset + (drop ? r->drop.rows : 0)) * sizeof *drop; /* factors lie last */
    UP_TRY(b->ops->upload(b, up_view_at(r->buffer, UP_U8, 0, 1, (int64_t)bytes), e->host));
    UP_TRY(upload_pixels(e, r->image.pixels, &batch->image));
    UP_TRY(upload_pixels(e, r->video.pixels, &batch->video));
    e->staged = 1;
    return UP_OK;
}

up_status up_encoder_stage(up_encoder *e, const up_batch *batch, const float *drop) {
    UP_GIVEN(e, batch);
    return stage(e, batch, drop, NULL);
}

up_status up_encoder_stage_drawn(up_encoder *e, const up_batch *batch, double drop_path, uint64_t seed,
                                 uint64_t step) {
    UP_GIVEN(e, batch);
    int layers = e->model->config.layers;
    size_t wanted = 2 * (size_t)layers * (size_t)batch->sequences;
    if (drop_path <= 0) return stage(e, batch, NULL, NULL);
    e->staged = 0;
    if (wanted > e->draws_room) {
        float *grown = realloc(e->draws, 2 * wanted * sizeof *grown);
        if (!grown) return up_fail(UP_ERR_MEMORY, "drop path", "%zu factors wanted", 2 * wanted);
        e->draws = grown;
        e->draws_room = 2 * wanted;
    }
    up_drop_path(drop_path, layers, seed, step, batch, e->draws);
    return stage(e, batch, e->draws, NULL);
}

up_status up_stage_cached(up_encoder *e, const up_batch *batch, const int32_t *cached_rows) {
    if (e->gradients) return up_fail(UP_ERR_ARGUMENT, "decoder", "its encoder was made for training");
    return stage(e, batch, NULL, cached_rows);
}

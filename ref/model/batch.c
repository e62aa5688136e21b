/* batch.c - building packed batches on the host: token rows, sequences, read-out rows. Paper section 3.1 (the
 * leading <SPE>) and appendix B (words and slots). */
#include "uniperceiver/batch.h"

#include <stdlib.h>
#include <string.h>

/* Grow *array to hold `wanted` elements of `size` bytes; *capacity counts elements. */
static up_status grow(void *array, int *capacity, int64_t wanted, size_t size) {
    void **memory = array;
    if (wanted <= *capacity) return UP_OK;
    int64_t room = *capacity ? *capacity : 64;
    while (room < wanted) room *= 2;
    void *grown = room <= INT32_MAX ? realloc(*memory, (size_t)room * size) : NULL;
    if (!grown) return up_fail(UP_ERR_MEMORY, "packed batch", "%lld elements wanted", (long long)room);
    *memory = grown;
    *capacity = (int)room;
    return UP_OK;
}

static up_status grow_text(up_batch *b, int more) {
    int capacity = b->capacity_text; /* three arrays of one capacity: each grows from the same start */
    UP_TRY(grow(&b->text_id, &capacity, (int64_t)b->text_count + more, sizeof(int32_t)));
    capacity = b->capacity_text;
    UP_TRY(grow(&b->text_position, &capacity, (int64_t)b->text_count + more, sizeof(int32_t)));
    return grow(&b->text_row, &b->capacity_text, (int64_t)b->text_count + more, sizeof(int32_t));
}

static up_status grow_patches(up_batch *b, up_patch_rows *p, int *capacity, int more) {
    int64_t wanted = (int64_t)p->count + more;
    int old = *capacity, room = old;
    UP_TRY(grow(&p->pixels, &room, wanted, sizeof(float) * (size_t)b->patch_values));
    room = old;
    UP_TRY(grow(&p->cell, &room, wanted, sizeof(int32_t)));
    room = old;
    UP_TRY(grow(&p->frame, &room, wanted, sizeof(int32_t)));
    return grow(&p->row, capacity, wanted, sizeof(int32_t));
}

up_status up_batch_begin(up_batch *b, const up_config *config) {
    int values = 3 * config->patch * config->patch;
    if (b->patch_values && b->patch_values != values)
        return up_fail(UP_ERR_ARGUMENT, "packed batch", "was built for patches of %d values, not %d",
                       b->patch_values, values);
    b->patch_values = values;
    b->tokens = b->sequences = b->text_count = b->image.count = b->video.count = 0;
    b->queries = b->targets = b->max_keys = b->open = 0;
    return UP_OK;
}

void up_batch_free(up_batch *b) {
    free(b->sequence);
    free(b->text_id);
    free(b->text_position);
    free(b->text_row);
    free(b->image.pixels);
    free(b->image.cell);
    free(b->image.frame);
    free(b->image.row);
    free(b->video.pixels);
    free(b->video.cell);
    free(b->video.frame);
    free(b->video.row);
    free(b->query_row);
    free(b->target_row);
    memset(b, 0, sizeof *b);
}

static int32_t *current(up_batch *b) {
    return b->sequence + (size_t)(b->sequences - 1) * UP_SEQ_FIELDS;
}

static up_status read_out(up_batch *b, int row) {
    if (current(b)[UP_SEQ_SIDE] == UP_SIDE_INPUT) {
        UP_TRY(grow(&b->query_row, &b->capacity_queries, (int64_t)b->queries + 1, sizeof(int32_t)));
        b->query_row[b->queries++] = row;
    } else {
        UP_TRY(grow(&b->target_row, &b->capacity_targets, (int64_t)b->targets + 1, sizeof(int32_t)));
        b->target_row[b->targets++] = row;
    }
    return UP_OK;
}

static up_status put_text(up_batch *b, int32_t id, int32_t position, int read) {
    UP_TRY(grow_text(b, 1));
    b->text_id[b->text_count] = id;
    b->text_position[b->text_count] = position;
    b->text_row[b->text_count++] = b->tokens;
    return read ? (b->tokens++, read_out(b, b->tokens - 1)) : (b->tokens++, UP_OK);
}

up_status up_batch_open(up_batch *b, up_side side, int read) {
    if (b->open) return up_fail(UP_ERR_ARGUMENT, "packed batch", "a sequence is still open");
    UP_TRY(grow(&b->sequence, &b->capacity_sequences, (int64_t)b->sequences + 1,
                sizeof(int32_t) * UP_SEQ_FIELDS));
    b->sequences++;
    int32_t *s = current(b);
    memset(s, 0, sizeof(int32_t) * UP_SEQ_FIELDS);
    s[UP_SEQ_Q_START] = s[UP_SEQ_K_START] = b->tokens;
    s[UP_SEQ_KIND] = UP_MASK_FULL;
    s[UP_SEQ_SIDE] = side;
    b->open = 1;
    return put_text(b, -1, -1, read); /* id -1: the model's own <SPE>, filled in at upload */
}

static up_status must_be_open(const up_batch *b) {
    if (!b->open) return up_fail(UP_ERR_ARGUMENT, "packed batch", "no sequence is open");
    if (b->sequence[(size_t)(b->sequences - 1) * UP_SEQ_FIELDS + UP_SEQ_KIND] == UP_MASK_DOUBLED)
        return up_fail(UP_ERR_ARGUMENT, "packed batch",
                       "words and slots must be the last part of a sequence");
    return UP_OK;
}

up_status up_batch_text(up_batch *b, const int32_t *ids, int count, int first_position, const uint8_t *read) {
    UP_TRY(must_be_open(b));
    for (int i = 0; i < count; i++) UP_TRY(put_text(b, ids[i], first_position + i, read && read[i]));
    return UP_OK;
}

static up_status put_patches(up_batch *b, up_patch_rows *p, int *capacity, const float *patches, int frames,
                             int cells, int first_frame) {
    UP_TRY(must_be_open(b));
    UP_TRY(grow_patches(b, p, capacity, frames * cells));
    memcpy(p->pixels + (size_t)p->count * (size_t)b->patch_values, patches,
           sizeof(float) * (size_t)frames * (size_t)cells * (size_t)b->patch_values);
    for (int f = 0; f < frames; f++)
        for (int cell = 0; cell < cells; cell++, p->count++) {
            p->cell[p->count] = cell;
            p->frame[p->count] = first_frame < 0 ? -1 : first_frame + f;
            p->row[p->count] = b->tokens++;
        }
    return UP_OK;
}

up_status up_batch_image(up_batch *b, const up_config *c, const float *patches, int cells) {
    if (cells != up_config_cells(c))
        return up_fail(UP_ERR_ARGUMENT, "image", "%d patches, the model has %d cells", cells,
                       up_config_cells(c));
    return put_patches(b, &b->image, &b->capacity_image, patches, 1, cells, c->image_time ? 0 : -1);
}

up_status up_batch_video(up_batch *b, const up_config *c, const float *patches, int frames, int cells,
                         int first_frame) {
    if (cells != up_config_cells(c))
        return up_fail(UP_ERR_ARGUMENT, "video", "%d patches a frame, the model has %d cells", cells,
                       up_config_cells(c));
    if (frames < 1 || first_frame < 0 || first_frame + frames > c->frames)
        return up_fail(UP_ERR_ARGUMENT, "video", "frames %d..%d, the model has temporal rows 0..%d",
                       first_frame, first_frame + frames - 1, c->frames - 1);
    return put_patches(b, &b->video, &b->capacity_video, patches, frames, cells, first_frame);
}

up_status up_batch_words_and_slots(up_batch *b, const int32_t *words, int count) {
    UP_TRY(must_be_open(b));
    if (count < 1) return up_fail(UP_ERR_ARGUMENT, "packed batch", "no words to predict");
    int prefix = b->tokens - current(b)[UP_SEQ_Q_START];
    for (int i = 0; i < count; i++) UP_TRY(put_text(b, words[i], i, 0));
    for (int i = 0; i < count; i++) UP_TRY(put_text(b, -1, i, 1));
    int32_t *s = current(b);
    s[UP_SEQ_KIND] = UP_MASK_DOUBLED;
    s[UP_SEQ_PREFIX] = prefix;
    s[UP_SEQ_WORDS] = count;
    return UP_OK;
}

up_status up_batch_close(up_batch *b) {
    if (!b->open) return up_fail(UP_ERR_ARGUMENT, "packed batch", "no sequence is open");
    int32_t *s = current(b);
    s[UP_SEQ_Q_COUNT] = s[UP_SEQ_K_COUNT] = b->tokens - s[UP_SEQ_Q_START];
    if (s[UP_SEQ_K_COUNT] > b->max_keys) b->max_keys = s[UP_SEQ_K_COUNT];
    b->open = 0;
    return UP_OK;
}

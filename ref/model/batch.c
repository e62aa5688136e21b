/* batch.c - building packed batches on the host: token rows, sequences, read-out rows. Paper section 3.1 (the
 * leading <SPE>) and appendix B (words and slots). */
#include "uniperceiver/batch.h"
#include "ref/given.h"

#include <stdlib.h>
#include <string.h>

static const char what[] = "packed batch";

/* Grow *array from *capacity to hold `wanted` elements of `size` bytes. */
static up_status grow(void *array, int *capacity, int64_t wanted, size_t size) {
    void **memory = array;
    if (wanted <= *capacity) return UP_OK;
    int64_t room = *capacity ? *capacity : 64;
    while (room < wanted) room *= 2;
    void *grown = room <= INT32_MAX ? realloc(*memory, (size_t)room * size) : NULL;
    if (!grown) return up_fail(UP_ERR_MEMORY, what, "%lld elements wanted", (long long)room);
    *memory = grown;
    *capacity = (int)room;
    return UP_OK;
}

/* Arrays of one capacity: each grows from the same start. */
typedef struct column {
    void *array;
    size_t size;
} column;

static up_status grow_columns(const column *columns, int count, int *capacity, int64_t wanted) {
    int room = *capacity;
    for (int i = 0; i < count; i++) {
        room = *capacity;
        UP_TRY(grow(columns[i].array, &room, wanted, columns[i].size));
    }
    *capacity = room;
    return UP_OK;
}

static up_status grow_text(up_batch *b, int64_t more) {
    const column columns[] = {{&b->text_id, sizeof(int32_t)},
                              {&b->text_position, sizeof(int32_t)},
                              {&b->text_row, sizeof(int32_t)}};
    return grow_columns(columns, 3, &b->capacity_text, b->text_count + more);
}

static size_t patch_values(const up_batch *b) {
    return 3 * (size_t)b->config.patch * (size_t)b->config.patch;
}

static up_status grow_patches(up_batch *b, up_patch_rows *p, int as_values, int64_t more) {
    column pixels = {&p->bytes, patch_values(b)};
    if (as_values) pixels = (column){&p->values, patch_values(b) * sizeof(float)};
    const column columns[] = {
        pixels, {&p->cell, sizeof(int32_t)}, {&p->frame, sizeof(int32_t)}, {&p->row, sizeof(int32_t)}};
    return grow_columns(columns, 4, &p->capacity, p->count + more);
}

static up_status grow_sequences(up_batch *b, int64_t more) {
    const column columns[] = {{&b->sequence, UP_SEQ_FIELDS * sizeof(int32_t)}, {&b->key, sizeof(uint64_t)}};
    return grow_columns(columns, 2, &b->capacity_sequences, b->sequences + more);
}

static void forget_patches(up_patch_rows *p) {
    free(p->bytes);
    free(p->values);
    free(p->cell);
    free(p->frame);
    free(p->row);
    memset(p, 0, sizeof *p);
}

up_status up_batch_begin(up_batch *b, const up_config *config) {
    UP_GIVEN(b, config);
    if (b->config.patch != config->patch) {
        forget_patches(&b->image);
        forget_patches(&b->video);
    }
    b->config = *config;
    b->tokens = b->sequences = b->text_count = b->image.count = b->video.count = 0;
    b->readouts = b->max_keys = b->cached = b->open = 0;
    return UP_OK;
}

void up_batch_free(up_batch *b) {
    if (!b) return;
    free(b->sequence);
    free(b->key);
    free(b->text_id);
    free(b->text_position);
    free(b->text_row);
    free(b->readout_row);
    forget_patches(&b->image);
    forget_patches(&b->video);
    memset(b, 0, sizeof *b);
}

static int32_t *current(const up_batch *b) {
    return b->sequence + (size_t)(b->sequences - 1) * UP_SEQ_FIELDS;
}

static up_status put_readout(up_batch *b, int row) {
    UP_TRY(grow(&b->readout_row, &b->capacity_readouts, (int64_t)b->readouts + 1, sizeof(int32_t)));
    b->readout_row[b->readouts++] = row;
    return UP_OK;
}

static up_status put_text(up_batch *b, int32_t id, int32_t position, int read) {
    UP_TRY(grow_text(b, 1));
    b->text_id[b->text_count] = id;
    b->text_position[b->text_count] = position;
    b->text_row[b->text_count] = b->tokens;
    b->text_count++;
    b->tokens++;
    return read ? put_readout(b, b->tokens - 1) : UP_OK;
}

static up_status begin_sequence(up_batch *b, up_side side, up_mask_kind kind) {
    if (b->open) return up_fail(UP_ERR_ARGUMENT, what, "a sequence is still open");
    UP_TRY(grow_sequences(b, 1));
    b->sequences++;
    int32_t *s = current(b);
    memset(s, 0, sizeof(int32_t) * UP_SEQ_FIELDS);
    s[UP_SEQ_Q_START] = b->tokens;
    s[UP_SEQ_K_START] = b->tokens;
    s[UP_SEQ_KIND] = kind;
    s[UP_SEQ_SIDE] = side;
    b->open = 1;
    return UP_OK;
}

static up_status refuse_mixture(const up_batch *b, int cached) {
    if (!b->sequences || b->cached == cached) return UP_OK;
    return up_fail(UP_ERR_ARGUMENT, what, "sequences behind cached keys and others do not mix");
}

up_status up_batch_open(up_batch *b, up_side side, int read) {
    UP_GIVEN(b);
    UP_TRY(refuse_mixture(b, 0));
    UP_TRY(begin_sequence(b, side, UP_MASK_FULL));
    return put_text(b, UP_ID_SPE, -1, read);
}

up_status up_batch_continue(up_batch *b, up_side side, int key_start, int cached) {
    UP_GIVEN(b);
    if (key_start < 0 || cached < 0)
        return up_fail(UP_ERR_ARGUMENT, what, "%d cached keys from row %d on", cached, key_start);
    UP_TRY(refuse_mixture(b, 1));
    UP_TRY(begin_sequence(b, side, UP_MASK_CAUSAL));
    b->cached = 1;
    current(b)[UP_SEQ_K_START] = key_start;
    current(b)[UP_SEQ_K_COUNT] = cached; /* its own are added when it is closed */
    return UP_OK;
}

static up_status must_be_open(const up_batch *b) {
    if (!b->open) return up_fail(UP_ERR_ARGUMENT, what, "no sequence is open");
    if (current(b)[UP_SEQ_KIND] == UP_MASK_DOUBLED)
        return up_fail(UP_ERR_ARGUMENT, what, "words and slots must be the last part of a sequence");
    return UP_OK;
}

up_status up_batch_text(up_batch *b, const int32_t *ids, int count, int first_position, const uint8_t *read) {
    UP_GIVEN(b);
    UP_TRY(up_given_list(ids, count, "ids"));
    UP_TRY(must_be_open(b));
    for (int i = 0; i < count; i++) UP_TRY(put_text(b, ids[i], first_position + i, read && read[i]));
    return UP_OK;
}

/* Bytes that came before the first values become values, too. */
static up_status turn_to_values(up_batch *b, up_patch_rows *p, int video) {
    float levels[3 * 256];
    size_t patch = patch_values(b), channel = patch / 3;
    float *values = malloc((size_t)(p->capacity ? p->capacity : 1) * patch * sizeof *values);
    if (!values) return up_fail(UP_ERR_MEMORY, what, "%d patches wanted", p->capacity);
    up_pixel_levels(up_config_pixel_norm(&b->config, video), levels);
    for (size_t i = 0; i < (size_t)p->count * patch; i++)
        values[i] = levels[256 * (i % patch / channel) + p->bytes[i]];
    free(p->bytes);
    p->bytes = NULL;
    p->values = values;
    return UP_OK;
}

/* A group of patches is of bytes until the first values come. An empty group starts anew. */
static up_status choose_form(up_batch *b, up_patch_rows *p, int video, int values) {
    if (!p->count && !values && p->values) forget_patches(p);
    if (values && !p->values) return turn_to_values(b, p, video);
    return UP_OK;
}

static void copy_values(const up_batch *b, up_patch_rows *p, int video, const uint8_t *bytes,
                        const float *values, size_t count) {
    size_t first = (size_t)p->count * patch_values(b), channel = patch_values(b) / 3;
    if (values) {
        memcpy(p->values + first, values, count * sizeof *values);
    } else if (p->values) {
        float levels[3 * 256];
        up_pixel_levels(up_config_pixel_norm(&b->config, video), levels);
        for (size_t i = 0; i < count; i++)
            p->values[first + i] = levels[256 * (i % patch_values(b) / channel) + bytes[i]];
    } else {
        memcpy(p->bytes + first, bytes, count);
    }
}

/* frames x cells patches in one of the two forms; frame f has temporal row first_frame + f, -1: none. */
typedef struct patches {
    const uint8_t *bytes;
    const float *values;
    int frames, cells, first_frame;
} patches;

static up_status put_patches(up_batch *b, int video, const patches *from) {
    up_patch_rows *p = video ? &b->video : &b->image;
    int count = from->frames * from->cells;
    UP_TRY(must_be_open(b));
    UP_TRY(choose_form(b, p, video, from->values != NULL));
    UP_TRY(grow_patches(b, p, p->values != NULL, count));
    copy_values(b, p, video, from->bytes, from->values, (size_t)count * patch_values(b));
    for (int i = 0; i < count; i++) {
        int frame = i / from->cells;
        p->cell[p->count] = i % from->cells;
        p->frame[p->count] = from->first_frame < 0 ? -1 : from->first_frame + frame;
        p->row[p->count] = b->tokens++;
        p->count++;
    }
    return UP_OK;
}

static up_status check_cells(const up_batch *b, const char *part, int cells) {
    if (cells == up_config_cells(&b->config)) return UP_OK;
    return up_fail(UP_ERR_ARGUMENT, part, "%d patches, the model has %d cells", cells,
                   up_config_cells(&b->config));
}

static up_status put_image(up_batch *b, const uint8_t *bytes, const float *values, int cells) {
    UP_TRY(check_cells(b, "image", cells));
    return put_patches(b, 0, &(patches){bytes, values, 1, cells, b->config.image_time ? 0 : -1});
}

static up_status put_video(up_batch *b, const uint8_t *bytes, const float *values, int frames, int cells,
                           int first_frame) {
    UP_TRY(check_cells(b, "video", cells));
    if (frames < 1 || first_frame < 0 || first_frame > b->config.frames - frames)
        return up_fail(UP_ERR_ARGUMENT, "video", "frames %d..%d, the model has temporal rows 0..%d",
                       first_frame, first_frame + frames - 1, b->config.frames - 1);
    return put_patches(b, 1, &(patches){bytes, values, frames, cells, first_frame});
}

up_status up_batch_image(up_batch *b, const uint8_t *patches, int cells) {
    UP_GIVEN(b, patches);
    return put_image(b, patches, NULL, cells);
}
up_status up_batch_image_values(up_batch *b, const float *patches, int cells) {
    UP_GIVEN(b, patches);
    return put_image(b, NULL, patches, cells);
}
up_status up_batch_video(up_batch *b, const uint8_t *patches, int frames, int cells, int first_frame) {
    UP_GIVEN(b, patches);
    return put_video(b, patches, NULL, frames, cells, first_frame);
}
up_status up_batch_video_values(up_batch *b, const float *patches, int frames, int cells, int first_frame) {
    UP_GIVEN(b, patches);
    return put_video(b, NULL, patches, frames, cells, first_frame);
}

up_status up_batch_words_and_slots(up_batch *b, const int32_t *words, int count) {
    UP_GIVEN(b, words);
    UP_TRY(must_be_open(b));
    if (count < 1) return up_fail(UP_ERR_ARGUMENT, what, "no words to predict");
    if (b->cached) return up_fail(UP_ERR_ARGUMENT, what, "words and slots behind cached keys");
    int prefix = b->tokens - current(b)[UP_SEQ_Q_START];
    for (int i = 0; i < count; i++) UP_TRY(put_text(b, words[i], i, 0));
    for (int i = 0; i < count; i++) UP_TRY(put_text(b, UP_ID_SPE, i, 1));
    int32_t *s = current(b);
    s[UP_SEQ_KIND] = UP_MASK_DOUBLED;
    s[UP_SEQ_PREFIX] = prefix;
    s[UP_SEQ_WORDS] = count;
    return UP_OK;
}

up_status up_batch_close(up_batch *b) {
    UP_GIVEN(b);
    return up_batch_close_as(b, (uint64_t)(b->sequences - 1));
}

up_status up_batch_close_as(up_batch *b, uint64_t key) {
    UP_GIVEN(b);
    if (!b->open) return up_fail(UP_ERR_ARGUMENT, what, "no sequence is open");
    int32_t *s = current(b);
    if (b->tokens == s[UP_SEQ_Q_START]) return up_fail(UP_ERR_ARGUMENT, what, "a sequence without a token");
    s[UP_SEQ_Q_COUNT] = b->tokens - s[UP_SEQ_Q_START];
    s[UP_SEQ_K_COUNT] += s[UP_SEQ_Q_COUNT]; /* behind those that are cached */
    if (s[UP_SEQ_K_COUNT] > b->max_keys) b->max_keys = s[UP_SEQ_K_COUNT];
    b->key[b->sequences - 1] = key;
    b->open = 0;
    return UP_OK;
}

/* ---- appending a part of another batch ---- */

/* Elements of an ascending list of rows that lie in [first, end): from *at on, *count of them. */
static void find_rows(const int32_t *rows, int total, int first, int end, int *at, int *count) {
    int low = 0, high = total;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (rows[middle] < first)
            low = middle + 1;
        else
            high = middle;
    }
    *at = low;
    while (high < total && rows[high] < end) high++;
    *count = high - low;
}

static up_status append_text(up_batch *b, const up_batch *from, int first, int end, int moved) {
    int at, count;
    find_rows(from->text_row, from->text_count, first, end, &at, &count);
    UP_TRY(grow_text(b, count));
    for (int i = at; i < at + count; i++) {
        b->text_id[b->text_count] = from->text_id[i];
        b->text_position[b->text_count] = from->text_position[i];
        b->text_row[b->text_count] = from->text_row[i] + moved;
        b->text_count++;
    }
    return UP_OK;
}

static up_status append_patches(up_batch *b, const up_batch *from, int video, int first, int end, int moved) {
    up_patch_rows *p = video ? &b->video : &b->image;
    const up_patch_rows *q = video ? &from->video : &from->image;
    int at, count;
    find_rows(q->row, q->count, first, end, &at, &count);
    if (!count) return UP_OK;
    size_t skip = (size_t)at * patch_values(b);
    UP_TRY(choose_form(b, p, video, q->values != NULL));
    UP_TRY(grow_patches(b, p, p->values != NULL, count));
    copy_values(b, p, video, q->bytes ? q->bytes + skip : NULL, q->values ? q->values + skip : NULL,
                (size_t)count * patch_values(b));
    for (int i = at; i < at + count; i++) {
        p->cell[p->count] = q->cell[i];
        p->frame[p->count] = q->frame[i];
        p->row[p->count] = q->row[i] + moved;
        p->count++;
    }
    return UP_OK;
}

static up_status append_readouts(up_batch *b, const up_batch *from, int first, int end, int moved) {
    int at, count;
    find_rows(from->readout_row, from->readouts, first, end, &at, &count);
    for (int i = at; i < at + count; i++) UP_TRY(put_readout(b, from->readout_row[i] + moved));
    return UP_OK;
}

up_status up_batch_append(up_batch *b, const up_batch *from, int first, int count) {
    UP_GIVEN(b, from);
    if (b->open || from->open) return up_fail(UP_ERR_ARGUMENT, what, "a sequence is still open");
    if (first < 0 || count < 0 || first > from->sequences - count)
        return up_fail(UP_ERR_ARGUMENT, what, "sequences %d..%d of %d", first, first + count - 1,
                       from->sequences);
    if (b == from || b->config.patch != from->config.patch || from->cached || b->cached)
        return up_fail(UP_ERR_ARGUMENT, what, "the two batches are one, or of different kinds");
    if (!count) return UP_OK;
    const int32_t *sequences = from->sequence + (size_t)first * UP_SEQ_FIELDS;
    const int32_t *last = sequences + (size_t)(count - 1) * UP_SEQ_FIELDS;
    int start = sequences[UP_SEQ_Q_START], end = last[UP_SEQ_Q_START] + last[UP_SEQ_Q_COUNT];
    int moved = b->tokens - start;
    UP_TRY(grow_sequences(b, count));
    UP_TRY(append_text(b, from, start, end, moved));
    UP_TRY(append_patches(b, from, 0, start, end, moved));
    UP_TRY(append_patches(b, from, 1, start, end, moved));
    UP_TRY(append_readouts(b, from, start, end, moved));
    memcpy(b->key + b->sequences, from->key + first, (size_t)count * sizeof *b->key);
    for (int i = 0; i < count; i++) {
        b->sequences++;
        int32_t *s = current(b);
        memcpy(s, sequences + (size_t)i * UP_SEQ_FIELDS, UP_SEQ_FIELDS * sizeof *s);
        s[UP_SEQ_Q_START] += moved;
        s[UP_SEQ_K_START] += moved;
        if (s[UP_SEQ_K_COUNT] > b->max_keys) b->max_keys = s[UP_SEQ_K_COUNT];
    }
    b->tokens += end - start;
    return UP_OK;
}

/* ---- taking sequences back ---- */

/* Elements of an ascending list of rows that lie before `end`. */
static int count_before(const int32_t *rows, int count, int end) {
    while (count && rows[count - 1] >= end) count--;
    return count;
}

up_status up_batch_keep(up_batch *b, int sequences) {
    UP_GIVEN(b);
    int closed = b->sequences - b->open;
    if (sequences < 0 || sequences > closed)
        return up_fail(UP_ERR_ARGUMENT, what, "%d sequences to keep of %d", sequences, closed);
    if (sequences == b->sequences) return UP_OK;
    int end = b->sequence[(size_t)sequences * UP_SEQ_FIELDS + UP_SEQ_Q_START];
    b->text_count = count_before(b->text_row, b->text_count, end);
    b->image.count = count_before(b->image.row, b->image.count, end);
    b->video.count = count_before(b->video.row, b->video.count, end);
    b->readouts = count_before(b->readout_row, b->readouts, end);
    b->tokens = end;
    b->sequences = sequences;
    b->open = 0;
    b->max_keys = 0;
    for (int i = 0; i < sequences; i++) {
        int keys = b->sequence[(size_t)i * UP_SEQ_FIELDS + UP_SEQ_K_COUNT];
        if (keys > b->max_keys) b->max_keys = keys;
    }
    return UP_OK;
}

/* ---- checking against a model ---- */

static up_status check_text(const up_batch *b, const up_config *c) {
    for (int i = 0; i < b->text_count; i++) {
        int32_t id = b->text_id[i], position = b->text_position[i];
        if (id < UP_ID_SPE || id >= c->vocabulary)
            return up_fail(UP_ERR_ARGUMENT, "text", "token id %d, the model has ids 0..%d", id,
                           c->vocabulary - 1);
        if (position < -1 || position >= c->text_positions)
            return up_fail(UP_ERR_ARGUMENT, "text", "position %d, the model has positions 0..%d", position,
                           c->text_positions - 1);
    }
    return UP_OK;
}

/* `timed` 1: every patch has a temporal row, 0: none has. */
static up_status check_patches(const up_patch_rows *p, const up_config *c, const char *part, int timed) {
    for (int i = 0; i < p->count; i++) {
        if (p->cell[i] < 0 || p->cell[i] >= up_config_cells(c))
            return up_fail(UP_ERR_ARGUMENT, part, "cell %d, the model has cells 0..%d", p->cell[i],
                           up_config_cells(c) - 1);
        if (p->frame[i] < -1 || p->frame[i] >= c->frames || (p->frame[i] >= 0) != timed)
            return up_fail(UP_ERR_ARGUMENT, part, "frame %d, the model has temporal rows 0..%d; wanted %s",
                           p->frame[i], c->frames - 1, timed ? "one of them" : "-1, as for the others");
    }
    return UP_OK;
}

/* Sequences follow each other without a gap, and their masks are what they say. */
static up_status check_sequences(const up_batch *b) {
    int row = 0;
    for (int i = 0; i < b->sequences; i++) {
        const int32_t *s = b->sequence + (size_t)i * UP_SEQ_FIELDS;
        int count = s[UP_SEQ_Q_COUNT], keys = s[UP_SEQ_K_COUNT];
        int cached = s[UP_SEQ_KIND] == UP_MASK_CAUSAL;
        if (s[UP_SEQ_Q_START] != row || count < 1 || count > b->tokens - row || keys < count ||
            keys > b->max_keys)
            return up_fail(UP_ERR_ARGUMENT, what, "sequence %d: %d rows from %d on, %d keys", i, count,
                           s[UP_SEQ_Q_START], keys);
        if (cached != b->cached || (!cached && (s[UP_SEQ_K_START] != row || keys != count)))
            return up_fail(UP_ERR_ARGUMENT, what, "sequence %d: its keys are not its own rows", i);
        if (s[UP_SEQ_KIND] < UP_MASK_FULL || s[UP_SEQ_KIND] > UP_MASK_CAUSAL || s[UP_SEQ_SIDE] < 0 ||
            s[UP_SEQ_SIDE] > 1)
            return up_fail(UP_ERR_ARGUMENT, what, "sequence %d: mask kind %d, side %d", i, s[UP_SEQ_KIND],
                           s[UP_SEQ_SIDE]);
        if (s[UP_SEQ_KIND] == UP_MASK_DOUBLED &&
            (s[UP_SEQ_PREFIX] < 0 || s[UP_SEQ_WORDS] < 0 ||
             (int64_t)s[UP_SEQ_PREFIX] + 2 * (int64_t)s[UP_SEQ_WORDS] != count))
            return up_fail(UP_ERR_ARGUMENT, what, "sequence %d: %d + 2 x %d rows, it has %d", i,
                           s[UP_SEQ_PREFIX], s[UP_SEQ_WORDS], count);
        row += count;
    }
    if (row != b->tokens)
        return up_fail(UP_ERR_ARGUMENT, what, "%d rows in %d sequences of %d", b->tokens, b->sequences, row);
    return UP_OK;
}

/* Every row has one token, of one kind. */
static up_status check_rows(const up_batch *b) {
    const struct {
        const int32_t *row;
        int count;
    } parts[] = {
        {b->text_row, b->text_count}, {b->image.row, b->image.count}, {b->video.row, b->video.count}};
    int64_t total = (int64_t)b->text_count + b->image.count + b->video.count;
    if (total != b->tokens)
        return up_fail(UP_ERR_ARGUMENT, what, "%lld tokens for %d rows", (long long)total, b->tokens);
    uint8_t *taken = calloc((size_t)b->tokens, 1);
    if (!taken) return up_fail(UP_ERR_MEMORY, what, "%d rows to check", b->tokens);
    up_status status = UP_OK;
    for (int p = 0; p < 3; p++)
        for (int i = 0; i < parts[p].count && status == UP_OK; i++) {
            int32_t row = parts[p].row[i];
            if (row < 0 || row >= b->tokens || taken[row])
                status = up_fail(UP_ERR_ARGUMENT, what, "row %d of %d is no row or has two tokens", row,
                                 b->tokens);
            else
                taken[row] = 1;
        }
    free(taken);
    return status;
}

static up_status check_readouts(const up_batch *b) {
    for (int i = 0, before = -1; i < b->readouts; before = b->readout_row[i], i++)
        if (b->readout_row[i] <= before || b->readout_row[i] >= b->tokens)
            return up_fail(UP_ERR_ARGUMENT, what, "row %d read out behind row %d of %d; wanted ascending",
                           b->readout_row[i], before, b->tokens);
    return UP_OK;
}

up_status up_batch_check(const up_batch *b, const up_config *c) {
    UP_GIVEN(b, c);
    if (b->open) return up_fail(UP_ERR_ARGUMENT, what, "a sequence is still open");
    if (b->tokens < 1) return up_fail(UP_ERR_ARGUMENT, what, "empty");
    if ((b->image.count || b->video.count) && b->config.patch != c->patch)
        return up_fail(UP_ERR_ARGUMENT, what, "patches of %d pixels, the model's have %d", b->config.patch,
                       c->patch);
    UP_TRY(check_text(b, c));
    UP_TRY(check_patches(&b->image, c, "image", b->image.count && b->image.frame[0] >= 0));
    UP_TRY(check_patches(&b->video, c, "video", 1));
    UP_TRY(check_sequences(b));
    UP_TRY(check_rows(b));
    return check_readouts(b);
}

/* inputs.c - parts of an input -> tokens -> a sequence of the packed batch. Paper section 3.1 and appendix A:
 * the leading <SPE>, then the tokens of each part; question answering appends a second <SPE> (appendix D). */
#include "infer/session.h"
#include "data/picture.h"

#include <stdlib.h>
#include <string.h>

static const char *name_of(const up_part *part, const char *fallback) {
    return part->name ? part->name : fallback;
}

/* Ids that the model has; that of <SPE> in its table becomes the batch's own number of it. */
static up_status check_ids(const up_config *c, const char *name, up_piece *piece) {
    for (int i = 0; i < piece->count; i++) {
        if (piece->ids[i] < 0 || piece->ids[i] >= c->vocabulary)
            return up_fail(UP_ERR_ARGUMENT, name, "token id %d; the model has ids 0 to %d", piece->ids[i],
                           c->vocabulary - 1);
        if (piece->ids[i] == c->vocabulary - 1) piece->ids[i] = UP_ID_SPE;
    }
    return UP_OK;
}

static up_status check_room(const char *name, size_t count, int room) {
    if (count <= (size_t)room) return UP_OK;
    return up_fail(UP_ERR_ARGUMENT, name, "%zu tokens; the model has room for %d", count, room);
}

/* Tokens of a text, or the ids that are given, into out->ids. */
static up_status make_ids(up_session *s, const up_part *part, int closed, int room, up_piece *out,
                          size_t *count) {
    const char *name = name_of(part, "text");
    int given = part->kind == UP_PART_IDS;
    if (!given && !closed) return up_tokenize(s->tokenizer, part->data, part->size, &out->ids, count);
    if (given) UP_TRY(check_room(name, part->size, room));
    out->ids = malloc((size_t)room * sizeof *out->ids);
    if (!out->ids) return up_fail(UP_ERR_MEMORY, name, "no memory for its tokens");
    if (!given)
        return up_tokenize_closed(s->tokenizer, part->data, part->size, (size_t)room, out->ids, count);
    if (part->size) memcpy(out->ids, part->data, part->size * sizeof *out->ids);
    *count = part->size;
    return UP_OK;
}

/* Text positions are shared by all texts of a sequence: `used` of them are taken. */
static up_status text_piece(up_session *s, const up_part *part, int closed, int used, up_piece *out) {
    const char *name = name_of(part, "text");
    int room = up_model_config(s->model)->text_positions - used;
    size_t count = 0;
    if (room < 1)
        return up_fail(UP_ERR_ARGUMENT, name, "no room: the model has %d text positions", used + room);
    UP_TRY(make_ids(s, part, closed, room, out, &count));
    UP_TRY(check_room(name, count, room));
    out->count = (int)count;
    return check_ids(up_model_config(s->model), name, out);
}

/* Pixels that the caller normalised: a frame has as many values in patches. */
static up_status make_values(const up_config *c, const char *name, const float *pixels, int frames,
                             up_piece *out) {
    size_t frame = up_picture_bytes(c);
    out->values = malloc((size_t)frames * frame * sizeof *out->values);
    if (!out->values) return up_fail(UP_ERR_MEMORY, name, "no memory for %d frames", frames);
    for (int f = 0; f < frames; f++)
        UP_TRY(up_image_patches(pixels + (size_t)f * frame, c->image_size, c->image_size, c->patch,
                                out->values + (size_t)f * frame));
    return UP_OK;
}

/* The middle squares of a picture, or of the frames of a clip. */
static up_status make_bytes(const up_config *c, const char *name, const up_image *images, int frames,
                            up_piece *out) {
    int count = frames ? frames : 1;
    size_t frame = up_picture_bytes(c);
    out->bytes = malloc((size_t)count * frame);
    if (!out->bytes) return up_fail(UP_ERR_MEMORY, name, "no memory for %d frames", count);
    out->frames = frames;
    for (int f = 0; f < count; f++)
        UP_TRY(up_picture_patches(c, &images[f], frames > 0, &up_cut_middle, out->bytes + (size_t)f * frame));
    return UP_OK;
}

static up_status image_piece(up_session *s, const up_part *part, up_piece *out) {
    const char *name = name_of(part, "picture");
    up_image image = {0};
    UP_TRY(up_image_decode(part->data, part->size, name, &s->limits, &image));
    up_status status = make_bytes(up_model_config(s->model), name, &image, 0, out);
    up_image_free(&image);
    return status;
}

static up_status video_piece(up_session *s, const up_part *part, up_piece *out) {
    const up_config *c = up_model_config(s->model);
    const char *name = name_of(part, "video");
    const up_video_clip clip = {.frames = c->frames, .stride = c->video_stride, .start = -1, .fraction = -1};
    up_image *images = calloc((size_t)c->frames, sizeof *images);
    if (!images) return up_fail(UP_ERR_MEMORY, name, "no memory for %d frames", c->frames);
    up_status status = up_video_decode(part->data, part->size, name, &clip, &s->limits, images);
    if (status == UP_OK) status = make_bytes(c, name, images, c->frames, out);
    for (int f = 0; f < c->frames; f++) up_image_free(&images[f]);
    free(images);
    return status;
}

static up_status pixel_piece(up_session *s, const up_part *part, up_piece *out) {
    const up_config *c = up_model_config(s->model);
    const char *name = name_of(part, "pixels");
    size_t frames = part->frames ? (size_t)part->frames : 1;
    if (part->frames < 0 || part->frames > c->frames)
        return up_fail(UP_ERR_ARGUMENT, name, "%d frames; the model takes at most %d", part->frames,
                       c->frames);
    size_t wanted = frames * up_picture_bytes(c);
    if (part->size != wanted)
        return up_fail(UP_ERR_ARGUMENT, name, "%zu values; wanted %zu, for %d x %d pixels", part->size,
                       wanted, c->image_size, c->image_size);
    out->frames = part->frames;
    return make_values(c, name, part->data, (int)frames, out);
}

/* What up_part_prepare made. */
static up_status patch_piece(up_session *s, const up_part *part, up_piece *out) {
    const char *name = name_of(part, "patches");
    size_t frames = part->frames ? (size_t)part->frames : 1;
    if (part->frames < 0 || part->frames > up_model_config(s->model)->frames ||
        part->size != frames * up_picture_bytes(up_model_config(s->model)))
        return up_fail(UP_ERR_ARGUMENT, name, "%zu bytes of %d frames are none of the model's", part->size,
                       part->frames);
    out->bytes = malloc(part->size);
    if (!out->bytes) return up_fail(UP_ERR_MEMORY, name, "no memory for its patches");
    memcpy(out->bytes, part->data, part->size);
    out->frames = part->frames;
    return UP_OK;
}

static int is_text(const up_part *part) {
    return part->kind == UP_PART_TEXT || part->kind == UP_PART_IDS;
}

static up_status make_piece(up_session *s, const up_part *part, int closed, int *positions, up_piece *out) {
    if (part->size && !part->data) return up_fail(UP_ERR_ARGUMENT, name_of(part, "input"), "no data");
    switch (part->kind) {
    case UP_PART_TEXT:
    case UP_PART_IDS:
        UP_TRY(text_piece(s, part, closed, *positions, out));
        *positions += out->count;
        return UP_OK;
    case UP_PART_IMAGE:
        return image_piece(s, part, out);
    case UP_PART_VIDEO:
        return video_piece(s, part, out);
    case UP_PART_PIXELS:
        return pixel_piece(s, part, out);
    case UP_PART_PATCHES:
        return patch_piece(s, part, out);
    }
    return up_fail(UP_ERR_ARGUMENT, name_of(part, "input"), "unknown kind of part: %d", (int)part->kind);
}

up_status up_pieces_make(up_session *s, const up_input *input, int begun, up_pieces *out) {
    int positions = 0, open_from = input->count;
    *out = (up_pieces){.slot = input->slot};
    if (input->count < 0 || (input->count && !input->parts))
        return up_fail(UP_ERR_ARGUMENT, "input", "%d parts and no list of them", input->count);
    out->list = calloc((size_t)input->count + 1, sizeof *out->list);
    if (!out->list) return up_fail(UP_ERR_MEMORY, "input", "no memory for %d parts", input->count);
    while (begun && open_from > 0 && is_text(&input->parts[open_from - 1])) open_from--;
    for (int i = 0; i < input->count; i++)
        UP_TRY(make_piece(s, &input->parts[i], i < open_from, &positions, &out->list[out->count++]));
    return UP_OK;
}

void up_pieces_free(up_pieces *pieces) {
    for (int i = 0; i < pieces->count; i++) {
        free(pieces->list[i].ids);
        free(pieces->list[i].bytes);
        free(pieces->list[i].values);
    }
    free(pieces->list);
    *pieces = (up_pieces){0};
}

/* One token more than there is room for tells that a text is longer. */
static up_status prepare_text(up_session *s, const up_part *part, up_prepared *out) {
    size_t room = (size_t)up_model_config(s->model)->text_positions, count;
    int32_t *ids = malloc((room + 1) * sizeof *ids);
    out->memory = ids;
    if (!ids) return up_fail(UP_ERR_MEMORY, name_of(part, "text"), "no memory for its tokens");
    UP_TRY(up_tokenize_closed(s->tokenizer, part->data, part->size, room + 1, ids, &count));
    out->cut = count > room;
    if (out->cut) ids[--count - 1] = UP_TOKEN_END;
    out->part = (up_part){.kind = UP_PART_IDS, .data = ids, .size = count, .name = part->name};
    return UP_OK;
}

up_status up_part_prepare(up_session *s, const up_part *part, up_prepared *out) {
    up_piece piece = {0};
    int positions = 0;
    *out = (up_prepared){.part = *part};
    if (part->size && !part->data) return up_fail(UP_ERR_ARGUMENT, name_of(part, "input"), "no data");
    if (part->kind == UP_PART_TEXT) return prepare_text(s, part, out);
    up_status status = make_piece(s, part, 1, &positions, &piece);
    if (status == UP_OK && piece.bytes) {
        size_t frames = piece.frames ? (size_t)piece.frames : 1;
        out->part = (up_part){.kind = UP_PART_PATCHES,
                              .data = piece.bytes,
                              .size = frames * up_picture_bytes(up_model_config(s->model)),
                              .frames = piece.frames,
                              .name = part->name};
        out->memory = piece.bytes;
        piece.bytes = NULL;
    }
    free(piece.ids);
    free(piece.bytes);
    free(piece.values);
    return status;
}

int up_piece_is_text(const up_piece *piece) {
    return !piece->bytes && !piece->values;
}

static up_status pack_patches(const up_piece *p, int cells, up_batch *batch) {
    if (p->bytes && p->frames) return up_batch_video(batch, p->bytes, p->frames, cells, 0);
    if (p->bytes) return up_batch_image(batch, p->bytes, cells);
    if (p->frames) return up_batch_video_values(batch, p->values, p->frames, cells, 0);
    return up_batch_image_values(batch, p->values, cells);
}

up_status up_pieces_pack(const up_session *s, const up_pieces *pieces, int count, up_batch *batch) {
    int position = 0, cells = up_config_cells(up_model_config(s->model));
    for (int i = 0; i < count; i++) {
        const up_piece *p = &pieces->list[i];
        if (!up_piece_is_text(p)) {
            UP_TRY(pack_patches(p, cells, batch));
            continue;
        }
        UP_TRY(up_batch_text(batch, p->ids, p->count, position, NULL));
        position += p->count;
    }
    return UP_OK;
}

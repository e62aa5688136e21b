/* inputs.c - parts of an input -> tokens -> a sequence of the packed batch. Paper section 3.1 and appendix A:
 * the leading <SPE>, then the tokens of each part; question answering appends a second <SPE> (appendix D). */
#include "infer/session.h"

#include <stdlib.h>
#include <string.h>

static const char *name_of(const up_part *part, const char *fallback) {
    return part->name ? part->name : fallback;
}

/* Text positions are shared by all texts of a sequence: `used` of them are taken. */
static up_status text_piece(up_session *s, const up_part *part, int closed, int used, up_piece *out) {
    const char *name = name_of(part, "text");
    int room = up_model_config(s->model)->text_positions - used;
    size_t count = 0;
    if (room < 1)
        return up_fail(UP_ERR_ARGUMENT, name, "no room: the model has %d text positions", used + room);
    if (part->kind == UP_PART_TEXT && !closed) {
        UP_TRY(up_tokenize(s->tokenizer, part->data, part->size, &out->ids, &count));
    } else {
        int given = part->kind == UP_PART_IDS;
        out->ids = malloc((given ? part->size + 1 : (size_t)room) * sizeof *out->ids);
        if (!out->ids) return up_fail(UP_ERR_MEMORY, name, "no memory for its tokens");
        if (given && part->size) memcpy(out->ids, part->data, part->size * sizeof *out->ids);
        count = part->size;
        if (!given)
            UP_TRY(up_tokenize_closed(s->tokenizer, part->data, part->size, (size_t)room, out->ids, &count));
    }
    if (count > (size_t)room)
        return up_fail(UP_ERR_ARGUMENT, name, "%zu tokens; the model has room for %d", count, room);
    out->count = (int)count;
    for (int i = 0; i < out->count; i++)
        if (out->ids[i] < 0 || out->ids[i] >= up_model_config(s->model)->vocabulary)
            return up_fail(UP_ERR_ARGUMENT, name, "token id %d; the model has ids 0 to %d", out->ids[i],
                           up_model_config(s->model)->vocabulary - 1);
    return UP_OK;
}

static up_status make_patches(const up_config *c, const char *name, const float *pixels, int frames,
                              up_piece *out) {
    size_t frame = 3 * (size_t)c->image_size * (size_t)c->image_size;
    out->patches =
        malloc((size_t)frames * frame * sizeof *out->patches); /* a frame has as many values in patches */
    if (!out->patches) return up_fail(UP_ERR_MEMORY, name, "no memory for %d frames", frames);
    for (int f = 0; f < frames; f++)
        UP_TRY(up_image_patches(pixels + (size_t)f * frame, c->image_size, c->image_size, c->patch,
                                out->patches + (size_t)f * frame));
    return UP_OK;
}

/* The middle square of a picture, normalised: 3 * image_size * image_size values. */
static up_status square_pixels(const up_config *c, const up_image *image, int resize,
                               const up_pixel_norm *norm, float *pixels) {
    up_image square = {0};
    UP_TRY(up_image_square(image, resize, c->image_size, 0.5, 0.5, &square));
    up_image_normalize(&square, norm, pixels);
    up_image_free(&square);
    return UP_OK;
}

static up_status image_piece(up_session *s, const up_part *part, up_piece *out) {
    const up_config *c = up_model_config(s->model);
    const char *name = name_of(part, "picture");
    up_status status = UP_OK;
    up_image image = {0};
    float *pixels = malloc(3 * (size_t)c->image_size * (size_t)c->image_size * sizeof *pixels);
    if (!pixels) return up_fail(UP_ERR_MEMORY, name, "no memory for its pixels");
    UP_GO(up_image_decode(part->data, part->size, name, &s->limits, &image));
    UP_GO(square_pixels(c, &image, c->image_resize, &up_pixel_norm_image, pixels));
    UP_GO(make_patches(c, name, pixels, 1, out));
done:
    up_image_free(&image);
    free(pixels);
    return status;
}

static up_status video_piece(up_session *s, const up_part *part, up_piece *out) {
    const up_config *c = up_model_config(s->model);
    const char *name = name_of(part, "video");
    const up_video_clip clip = {.frames = c->frames, .stride = c->video_stride, .start = -1, .fraction = -1};
    const up_pixel_norm *norm = c->frames_as_images ? &up_pixel_norm_image : &up_pixel_norm_video;
    size_t frame = 3 * (size_t)c->image_size * (size_t)c->image_size;
    up_status status = UP_OK;
    up_image *images = calloc((size_t)c->frames, sizeof *images);
    float *pixels = malloc((size_t)c->frames * frame * sizeof *pixels);
    if (!images || !pixels) UP_GO(up_fail(UP_ERR_MEMORY, name, "no memory for %d frames", c->frames));
    UP_GO(up_video_decode(part->data, part->size, name, &clip, &s->limits, images));
    for (int f = 0; f < c->frames; f++)
        UP_GO(square_pixels(c, &images[f], c->video_resize, norm, pixels + (size_t)f * frame));
    UP_GO(make_patches(c, name, pixels, c->frames, out));
    out->frames = c->frames;
done:
    for (int f = 0; images && f < c->frames; f++) up_image_free(&images[f]);
    free(images);
    free(pixels);
    return status;
}

static up_status pixel_piece(up_session *s, const up_part *part, up_piece *out) {
    const up_config *c = up_model_config(s->model);
    const char *name = name_of(part, "pixels");
    size_t frames = part->frames ? (size_t)part->frames : 1;
    if (part->frames < 0 || part->frames > c->frames)
        return up_fail(UP_ERR_ARGUMENT, name, "%d frames; the model takes at most %d", part->frames,
                       c->frames);
    size_t wanted = frames * 3 * (size_t)c->image_size * (size_t)c->image_size;
    if (part->size != wanted)
        return up_fail(UP_ERR_ARGUMENT, name, "%zu values; wanted %zu, for %d x %d pixels", part->size,
                       wanted, c->image_size, c->image_size);
    out->frames = part->frames;
    return make_patches(c, name, part->data, (int)frames, out);
}

static int is_text(const up_part *part) {
    return part->kind == UP_PART_TEXT || part->kind == UP_PART_IDS;
}

up_status up_pieces_make(up_session *s, const up_input *input, int begun, up_pieces *out) {
    int used = 0, open_from = input->count;
    *out = (up_pieces){.slot = input->slot};
    if (input->count < 0 || (input->count && !input->parts))
        return up_fail(UP_ERR_ARGUMENT, "input", "%d parts and no list of them", input->count);
    out->list = calloc((size_t)input->count + 1, sizeof *out->list);
    if (!out->list) return up_fail(UP_ERR_MEMORY, "input", "no memory for %d parts", input->count);
    while (begun && open_from > 0 && is_text(&input->parts[open_from - 1])) open_from--;
    for (int i = 0; i < input->count; i++) {
        const up_part *part = &input->parts[i];
        up_piece *piece = &out->list[out->count++];
        if (part->size && !part->data) return up_fail(UP_ERR_ARGUMENT, name_of(part, "input"), "no data");
        switch (part->kind) {
        case UP_PART_TEXT:
        case UP_PART_IDS:
            UP_TRY(text_piece(s, part, i < open_from, used, piece));
            used += piece->count;
            break;
        case UP_PART_IMAGE:
            UP_TRY(image_piece(s, part, piece));
            break;
        case UP_PART_VIDEO:
            UP_TRY(video_piece(s, part, piece));
            break;
        case UP_PART_PIXELS:
            UP_TRY(pixel_piece(s, part, piece));
            break;
        default:
            return up_fail(UP_ERR_ARGUMENT, name_of(part, "input"), "unknown kind of part: %d",
                           (int)part->kind);
        }
    }
    return UP_OK;
}

void up_pieces_free(up_pieces *pieces) {
    for (int i = 0; i < pieces->count; i++) {
        free(pieces->list[i].ids);
        free(pieces->list[i].patches);
    }
    free(pieces->list);
    *pieces = (up_pieces){0};
}

up_status up_pieces_pack(const up_session *s, const up_pieces *pieces, int count, up_batch *batch) {
    const up_config *c = up_model_config(s->model);
    int position = 0, cells = up_config_cells(c);
    for (int i = 0; i < count; i++) {
        const up_piece *p = &pieces->list[i];
        if (!p->patches) {
            UP_TRY(up_batch_text(batch, p->ids, p->count, position, NULL));
            position += p->count;
        } else if (p->frames) {
            UP_TRY(up_batch_video(batch, c, p->patches, p->frames, cells, 0));
        } else {
            UP_TRY(up_batch_image(batch, c, p->patches, cells));
        }
    }
    return UP_OK;
}

/* picture.c - resize, cut, mirror, patches: all on bytes; the model turns bytes into values. Paper appendix
 * A.
 */
#include "data/picture.h"
#include "data/pixels.h"

#include <stdlib.h>
#include <string.h>

const up_cut up_cut_middle = {.x = 0.5, .y = 0.5};

size_t up_picture_bytes(const up_config *c) {
    return 3 * (size_t)c->image_size * (size_t)c->image_size;
}

static void mirror(up_image *image) {
    size_t length = (size_t)image->width * 3;
    uint8_t *row = image->data;
    for (int y = 0; y < image->height; y++, row += length)
        for (uint8_t *left = row, *right = row + length - 3; left < right; left += 3, right -= 3) {
            uint8_t swap[3];
            memcpy(swap, left, 3);
            memcpy(left, right, 3);
            memcpy(right, swap, 3);
        }
}

static int short_side(const up_config *c, int frame, const up_cut *cut) {
    if (cut->resize) return cut->resize;
    return frame ? c->video_resize : c->image_resize;
}

/* A random part, whatever its proportions, becomes the square. It is cut out before it is resized: no pixel
 * outside counts. */
static up_status random_part(const up_image *image, const up_augmentation *how, up_rng *chance, int size,
                             up_image *square) {
    up_box box = up_draw_part(how, chance, image->width, image->height);
    up_image part = {0};
    UP_TRY(up_image_crop(image, box.x, box.y, box.width, box.height, &part));
    up_status status = up_image_resize(&part, 0, 0, box.width, box.height, size, size, square);
    up_image_free(&part);
    return status;
}

static up_status fixed_part(const up_image *image, up_whole whole, int resize, int size, const up_cut *cut,
                            up_image *square) {
    double x = cut->x, y = cut->y;
    if (cut->along && whole.width >= whole.height) y = 0.5;
    if (cut->along && whole.width < whole.height) {
        y = x;
        x = 0.5;
    }
    return up_image_square_of(image, whole, resize, size, x, y, square);
}

typedef struct decoded {
    const up_image *image;
    up_whole whole;
    int frame; /* 1: of a clip */
} decoded;

static up_status patches_of(const up_config *c, const decoded *from, const up_cut *cut, uint8_t *out) {
    up_image square = {0};
    up_rng chance = cut->chance;
    up_status status = UP_OK;
    if (cut->augmented && cut->how.resized)
        UP_GO(random_part(from->image, &cut->how, &chance, c->image_size, &square));
    else
        UP_GO(fixed_part(from->image, from->whole, short_side(c, from->frame, cut), c->image_size, cut,
                         &square));
    if (cut->mirror) mirror(&square);
    if (cut->augmented) UP_GO(up_augment(&cut->how, up_config_pixel_norm(c, from->frame), &chance, &square));
    UP_GO(up_image_patch_bytes(&square, c->patch, out));
done:
    up_image_free(&square);
    return status;
}

up_status up_picture_patches(const up_config *c, const up_image *image, int frame, const up_cut *cut,
                             uint8_t *out) {
    return patches_of(c, &(decoded){image, up_image_whole(image), frame}, cut, out);
}

up_status up_picture_read(const up_config *c, const up_media *media, const up_image_limits *limits,
                          const up_cut *cut, uint8_t *out) {
    up_image image = {0};
    up_whole whole;
    int resize = short_side(c, 0, cut);
    up_decoding how = {.limits = limits, .short_side = cut->scaled ? (3 * resize + 1) / 2 : 0};
    up_status status = media->bytes
                           ? up_image_decode_as(media->bytes, media->size, media->name, &how, &image, &whole)
                           : up_image_read_as(media->name, &how, &image, &whole);
    if (status == UP_OK) status = patches_of(c, &(decoded){&image, whole, 0}, cut, out);
    up_image_free(&image);
    return status;
}

static up_status read_clip(const up_config *c, const up_media *media, const up_image_limits *limits,
                           const up_pixels_wanted *wanted, uint8_t *out) {
    const up_video_clip *clip = &wanted->clip;
    up_image *frames = calloc((size_t)clip->frames, sizeof *frames);
    up_status status = UP_OK;
    if (!frames) return up_fail(UP_ERR_MEMORY, media->name, "%d frames wanted", clip->frames);
    UP_GO(media->bytes ? up_video_decode(media->bytes, media->size, media->name, clip, limits, frames)
                       : up_video_read(media->name, clip, limits, frames));
    for (int f = 0; f < clip->frames; f++)
        UP_GO(up_picture_patches(c, &frames[f], 1, &wanted->cut, out + (size_t)f * up_picture_bytes(c)));
done:
    for (int f = 0; f < clip->frames; f++) up_image_free(&frames[f]);
    free(frames);
    return status;
}

size_t up_pixels_bytes(const up_config *c, const up_pixels_wanted *wanted) {
    return up_picture_bytes(c) * (wanted->clip.frames ? (size_t)wanted->clip.frames : 1);
}

up_status up_pixels_read(const up_config *c, const up_media *media, const up_image_limits *limits,
                         const up_pixels_wanted *wanted, uint8_t *out) {
    if (wanted->clip.frames) return read_clip(c, media, limits, wanted, out);
    return up_picture_read(c, media, limits, &wanted->cut, out);
}

/* picture.c - resize, cut, mirror, patches: all on bytes; the model turns bytes into values. Paper appendix
 * A.
 */
#include "data/picture.h"
#include "data/pixels.h"

const up_cut up_cut_middle = {.x = 0.5, .y = 0.5};

size_t up_picture_bytes(const up_config *c) {
    return 3 * (size_t)c->image_size * (size_t)c->image_size;
}

static void mirror(up_image *image) {
    for (int y = 0; y < image->height; y++)
        for (int x = 0; x < image->width / 2; x++)
            for (int c = 0; c < 3; c++) {
                uint8_t *a = &image->data[(y * image->width + x) * 3 + c];
                uint8_t *b = &image->data[(y * image->width + image->width - 1 - x) * 3 + c];
                uint8_t swap = *a;
                *a = *b;
                *b = swap;
            }
}

static int short_side(const up_config *c, int frame, const up_cut *cut) {
    if (cut->resize) return cut->resize;
    return frame ? c->video_resize : c->image_resize;
}

static up_status patches_of(const up_config *c, const up_image *image, up_whole whole, int resize,
                            const up_cut *cut, uint8_t *out) {
    up_image square = {0};
    UP_TRY(up_image_square_of(image, whole, resize, c->image_size, cut->x, cut->y, &square));
    if (cut->mirror) mirror(&square);
    up_status status = up_image_patch_bytes(&square, c->patch, out);
    up_image_free(&square);
    return status;
}

up_status up_picture_patches(const up_config *c, const up_image *image, int frame, const up_cut *cut,
                             uint8_t *out) {
    return patches_of(c, image, up_image_whole(image), short_side(c, frame, cut), cut, out);
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
    if (status == UP_OK) status = patches_of(c, &image, whole, resize, cut, out);
    up_image_free(&image);
    return status;
}

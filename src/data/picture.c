/* picture.c - resize, cut, mirror, patches: all on bytes; the model turns bytes into values. Paper appendix
 * A.
 */
#include "data/picture.h"

const up_cut up_cut_middle = {0, 0.5, 0.5, 0};

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

up_status up_picture_patches(const up_config *c, const up_image *image, int frame, const up_cut *cut,
                             uint8_t *out) {
    int resize = cut->resize;
    if (!resize) resize = frame ? c->video_resize : c->image_resize;
    up_image square = {0};
    UP_TRY(up_image_square(image, resize, c->image_size, cut->x, cut->y, &square));
    if (cut->mirror) mirror(&square);
    up_status status = up_image_patch_bytes(&square, c->patch, out);
    up_image_free(&square);
    return status;
}

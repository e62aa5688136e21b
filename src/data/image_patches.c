/* image_patches.c - RGB bytes to normalised planar floats (torchvision's ToTensor and Normalize, in single
 * precision), and those to the patches that the projection weight [D, 3, patch, patch] multiplies. */
#include "data/pixels.h"
#include "ref/given.h"

#include <string.h>

void up_image_normalize(const up_image *in, const up_pixel_norm *norm, float *out) {
    if (!in || !in->data || !norm || !out) return;
    float levels[3 * 256];
    size_t n = (size_t)in->width * (size_t)in->height;
    up_pixel_levels(norm, levels);
    for (int c = 0; c < 3; c++) {
        const float *value = levels + 256 * c;
        const uint8_t *pixel = in->data + c;
        for (size_t i = 0; i < n; i++, pixel += 3) *out++ = value[*pixel];
    }
}

static up_status check_grid(int height, int width, int patch) {
    if (patch < 1 || height < patch || width < patch || height % patch || width % patch)
        return up_fail(UP_ERR_ARGUMENT, "patches", "%d x %d pixels do not divide into patches of %d x %d",
                       width, height, patch, patch);
    return UP_OK;
}

up_status up_image_patches(const float *pixels, int height, int width, int patch, float *out) {
    UP_GIVEN(pixels, out);
    UP_TRY(check_grid(height, width, patch));
    size_t w = (size_t)width, h = (size_t)height, side = (size_t)patch;
    for (size_t y = 0; y < h; y += side)
        for (size_t x = 0; x < w; x += side)
            for (size_t c = 0; c < 3; c++)
                for (size_t row = 0; row < side; row++, out += side)
                    memcpy(out, pixels + (c * h + y + row) * w + x, side * sizeof *out);
    return UP_OK;
}

up_status up_image_patch_bytes(const up_image *in, int patch, uint8_t *out) {
    UP_GIVEN(in, out);
    UP_GIVEN(in->data);
    UP_TRY(check_grid(in->height, in->width, patch));
    const up_image_passes *passes = up_image_passes_here();
    size_t side = (size_t)patch, plane = side * side, width = (size_t)in->width;
    for (int y = 0; y < in->height; y += patch)
        for (int x = 0; x < in->width; x += patch, out += 3 * plane)
            for (size_t row = 0; row < side; row++)
                passes->split(in->data + (((size_t)y + row) * width + (size_t)x) * 3, patch, out + row * side,
                              plane);
    return UP_OK;
}

/* image_patches.c - RGB bytes to normalised planar floats (torchvision's ToTensor and Normalize, in single
 * precision), and those to the patches that the projection weight [D, 3, patch, patch] multiplies. */
#include "uniperceiver/image.h"

#include <string.h>

const up_pixel_norm up_pixel_norm_image = {{0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}};
const up_pixel_norm up_pixel_norm_video = {{0.5f, 0.5f, 0.5f}, {0.5f, 0.5f, 0.5f}};

void up_image_normalize(const up_image *in, const up_pixel_norm *norm, float *out) {
    size_t n = (size_t)in->width * (size_t)in->height;
    for (int c = 0; c < 3; c++) {
        float value[256];
        for (int p = 0; p < 256; p++) value[p] = ((float)p / 255.0f - norm->mean[c]) / norm->std[c];
        const uint8_t *pixel = in->data + c;
        for (size_t i = 0; i < n; i++, pixel += 3) *out++ = value[*pixel];
    }
}

up_status up_image_patches(const float *pixels, int height, int width, int patch, float *out) {
    if (patch < 1 || height < patch || width < patch || height % patch || width % patch)
        return up_fail(UP_ERR_ARGUMENT, "patches", "%d x %d pixels do not divide into patches of %d x %d",
                       width, height, patch, patch);
    size_t w = (size_t)width, h = (size_t)height, side = (size_t)patch;
    for (size_t y = 0; y < h; y += side)
        for (size_t x = 0; x < w; x += side)
            for (size_t c = 0; c < 3; c++)
                for (size_t row = 0; row < side; row++, out += side)
                    memcpy(out, pixels + (c * h + y + row) * w + x, side * sizeof *out);
    return UP_OK;
}

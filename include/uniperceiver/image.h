/* image.h - picture files -> RGB pixels -> resized, cropped, normalised patches. Paper appendix A;
 * released-model pixel rules: short side resized (bicubic, antialiased, as Pillow does it), crop, mean and
 * standard deviation.
 */
#ifndef UNIPERCEIVER_IMAGE_H
#define UNIPERCEIVER_IMAGE_H

#include "uniperceiver/model.h"
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 8-bit RGB, interleaved: pixel(y, x, c) = data[(y * width + x) * 3 + c]. `data` is malloc'ed and owned by
 * the struct. */
typedef struct up_image {
    int width, height;
    uint8_t *data; /* [height, width, 3] */
} up_image;

typedef struct up_image_limits {
    int64_t max_pixels; /* a picture with more is refused before it is decoded; 0 = default, 178,956,970
                           (Pillow's) */
} up_image_limits;

/* Decode JPEG (grey, progressive, CMYK/YCCK; EXIF orientation applied), PNG (palette, grey, alpha over white,
 * 16 bit) or WebP, and with FFmpeg GIF (the first frame), BMP and TIFF, recognised by content. `name` is used
 * in messages. `limits` may be NULL. Free with up_image_free. */
UP_API up_status up_image_decode(const void *bytes, size_t size, const char *name,
                                 const up_image_limits *limits, up_image *out);
UP_API up_status up_image_read(const char *path, const up_image_limits *limits, up_image *out);
UP_API void up_image_free(up_image *image); /* also fine on a zeroed struct; zeroes it */

/* Bicubic antialiased resize of the box (x0, y0, x1, y1) of `in` to width x height; equal to Pillow's
 * Image.resize(BICUBIC, box=...) on 8-bit pixels (two passes, fixed-point coefficients, rounded after each
 * pass). */
UP_API up_status up_image_resize(const up_image *in, double x0, double y0, double x1, double y1, int width,
                                 int height, up_image *out);

/* Resize the short side to `short_side` (long side: int(long * short_side / short) as torchvision does it),
 * bicubic. */
UP_API up_status up_image_resize_short(const up_image *in, int short_side, up_image *out);

/* Cut out width x height at (x, y), which must lie inside. */
UP_API up_status up_image_crop(const up_image *in, int x, int y, int width, int height, up_image *out);

/* Resize the short side to `resize`, then cut a `size` x `size` square: at fractions fx, fy in [0,1] of the
 * free room (0.5, 0.5 = centre; offset = round-half-even as torchvision's CenterCrop for 0.5, floor(f * (room
 * + 1)) otherwise, clamped to room). resize >= size. */
UP_API up_status up_image_square(const up_image *in, int resize, int size, double fx, double fy,
                                 up_image *out);

/* RGB -> planar normalised float, out[c, y, x], 3 * height * width values. */
UP_API void up_image_normalize(const up_image *in, const up_pixel_norm *norm, float *out);

/* Planar float picture [3, height, width] -> patches [cells, 3 * patch * patch]: cells row-major over the
 * grid (height / patch) x (width / patch), inside a patch channel, then row, then column: the order of a
 * convolution weight [D, 3, patch, patch]. height and width must be multiples of patch. */
UP_API up_status up_image_patches(const float *pixels, int height, int width, int patch, float *out);
/* The same from the picture's bytes, which the model normalises itself: out [cells, 3 * patch * patch]. */
UP_API up_status up_image_patch_bytes(const up_image *in, int patch, uint8_t *out);

#ifdef __cplusplus
}
#endif
#endif

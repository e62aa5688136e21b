/* pixels.h - what the decoders of pictures and video share: allocation under a limit, orientation, alpha. */
#ifndef UP_DATA_PIXELS_H
#define UP_DATA_PIXELS_H

#include "data/image_passes.h"
#include "uniperceiver/image.h"

/* More pixels than `limits` allows (NULL: the default) is UP_ERR_FORMAT; `name` is the file in the message.
 */
up_status up_image_check_size(int64_t width, int64_t height, const char *name, const up_image_limits *limits);

/* Allocate a picture of 3 bytes a pixel, or 4 for RGBA on its way to up_image_over_white, after that check.
 */
up_status up_image_alloc(int64_t width, int64_t height, int channels, const char *name,
                         const up_image_limits *limits, up_image *out);
extern const up_image_limits up_image_unlimited; /* for copies of a picture that is held already */
int64_t up_image_max_pixels(const up_image_limits *limits);

/* How stored pixels become upright ones: first transpose (swap x and y), then mirror left-right, then
 * top-bottom. */
typedef struct up_orientation {
    int transpose, flip_x, flip_y;
} up_orientation;

/* Replace `image` by its upright version; nothing is done for the identity. */
up_status up_image_orient(up_image *image, up_orientation how, const char *name);

/* Lay the RGBA pixels of a picture over white, and shrink it to RGB. */
void up_image_over_white(up_image *image);

/* The formats. Each is given bytes that begin with its signature and a zeroed `out`, which it may leave half
 * filled on failure (the caller frees it). */
up_status up_jpeg_decode(const uint8_t *bytes, size_t size, const char *name, const up_image_limits *limits,
                         up_image *out);
up_status up_png_decode(const uint8_t *bytes, size_t size, const char *name, const up_image_limits *limits,
                        up_image *out);
up_status up_webp_decode(const uint8_t *bytes, size_t size, const char *name, const up_image_limits *limits,
                         up_image *out);

/* The EXIF orientation (1..8) in the body of a JPEG APP1 segment; 1 where there is none or it makes no sense.
 */
int up_exif_orientation(const uint8_t *body, size_t size);

/* The window (x, y, width, height) of what up_image_resize would make of the whole picture at full_width x
 * full_height, without computing the rest. All passes give the same bytes. */
up_status up_image_resize_window(const up_image_passes *passes, const up_image *in, const double box[4],
                                 int full_width, int full_height, int x, int y, int width, int height,
                                 up_image *out);

#endif

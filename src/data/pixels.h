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

/* A picture in upright position of which fewer pixels may have been decoded: sides / times, rounded up. */
typedef struct up_whole {
    int width, height;
    int times;        /* 1, 2, 4 or 8 */
    double left, top; /* where it begins in what has been decoded: not 0 where a side that was rounded up has
                         been mirrored */
} up_whole;

/* What a picture is that has been decoded whole. */
up_whole up_image_whole(const up_image *image);

/* How stored pixels become upright ones: first transpose (swap x and y), then mirror left-right, then
 * top-bottom. */
typedef struct up_orientation {
    int transpose, flip_x, flip_y;
} up_orientation;

/* Replace `image` by its upright version; nothing is done for the identity. */
up_status up_image_orient(up_image *image, up_orientation how, const char *name);

/* Lay the RGBA pixels of a picture over white, and shrink it to RGB. */
void up_image_over_white(up_image *image);

typedef struct up_decoding {
    const up_image_limits *limits; /* of the stored picture; may be NULL */
    int short_side;                /* 0: every pixel. Otherwise a format that decodes smaller pictures faster
                                      (JPEG) may give the smallest whose short side is no shorter than this */
} up_decoding;

/* The formats. Each is given bytes that begin with its signature and a zeroed `out`, which it may leave half
 * filled on failure (the caller frees it). */
up_status up_jpeg_decode(const uint8_t *bytes, size_t size, const char *name, const up_decoding *how,
                         up_image *out, up_whole *whole);
up_status up_png_decode(const uint8_t *bytes, size_t size, const char *name, const up_decoding *how,
                        up_image *out, up_whole *whole);
up_status up_webp_decode(const uint8_t *bytes, size_t size, const char *name, const up_decoding *how,
                         up_image *out, up_whole *whole);

/* What FFmpeg knows (video.c): GIF, of which the first frame, BMP and TIFF. */
up_status up_still_decode(const uint8_t *bytes, size_t size, const char *name, const up_decoding *how,
                          up_image *out, up_whole *whole);

/* up_image_decode and up_image_read, decoded as `how` says. */
up_status up_image_decode_as(const void *bytes, size_t size, const char *name, const up_decoding *how,
                             up_image *out, up_whole *whole);
up_status up_image_read_as(const char *path, const up_decoding *how, up_image *out, up_whole *whole);

/* up_image_square of a picture of which `in` has been decoded: where the square lies is decided by the whole.
 */
up_status up_image_square_of(const up_image *in, up_whole whole, int resize, int size, double fx, double fy,
                             up_image *out);

/* The EXIF orientation (1..8) in the body of a JPEG APP1 segment; 1 where there is none or it makes no sense.
 */
int up_exif_orientation(const uint8_t *body, size_t size);
/* The same of a TIFF file, as what undoes it. */
up_orientation up_orientation_of_tiff(const uint8_t *tiff, size_t size);

/* The window (x, y, width, height) of what up_image_resize would make of the whole picture at full_width x
 * full_height, without computing the rest. All passes give the same bytes. */
up_status up_image_resize_window(const up_image_passes *passes, const up_image *in, const double box[4],
                                 int full_width, int full_height, int x, int y, int width, int height,
                                 up_image *out);

#endif

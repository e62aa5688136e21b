/* picture.h - a picture or frame of a clip -> the patches of bytes that a batch takes: the one place where
 * pixels are resized, cut and laid out for a model. Training cuts at random, everything else in the middle.
 */
#ifndef UP_DATA_PICTURE_H
#define UP_DATA_PICTURE_H

#include "data/augment.h"
#include "data/media.h"
#include "uniperceiver/image.h"
#include "uniperceiver/video.h"

typedef struct up_cut {
    int resize;          /* short side before the cut; 0: the model's, for pictures or for frames */
    double x, y;         /* where in the free room, 0 to 1; 0.5: the middle */
    int mirror;          /* 1: left and right change places */
    int scaled;          /* 1: up_picture_read may decode fewer pixels, 3/2 of the short side at the least */
    int along;           /* 1: x is where along the longer side; the other side is cut in the middle */
    int augmented;       /* 1: what follows takes part */
    up_augmentation how; /* a random part instead of resize, x and y; what happens to the pixels */
    up_rng chance;       /* of all of that, alike for every frame of a clip */
} up_cut;

/* The middle, at the model's own size. */
extern const up_cut up_cut_middle;

/* Bytes of one picture or frame: cells * 3 * patch * patch. */
size_t up_picture_bytes(const up_config *config);

/* out [cells, 3 * patch * patch]; `frame` 1: a frame of a clip. */
up_status up_picture_patches(const up_config *config, const up_image *image, int frame, const up_cut *cut,
                             uint8_t *out);

/* The same out of a picture's bytes or file. */
up_status up_picture_read(const up_config *config, const up_media *media, const up_image_limits *limits,
                          const up_cut *cut, uint8_t *out);

/* What is wanted of a picture or clip; plain values, which can be sent to another process. */
typedef struct up_pixels_wanted {
    up_cut cut;
    up_video_clip clip; /* frames 0: a picture */
} up_pixels_wanted;

/* Its patches: out [frames, cells, 3 * patch * patch], of so many bytes. */
size_t up_pixels_bytes(const up_config *config, const up_pixels_wanted *wanted);
up_status up_pixels_read(const up_config *config, const up_media *media, const up_image_limits *limits,
                         const up_pixels_wanted *wanted, uint8_t *out);

#endif

/* augment.h - what training changes about a picture: the operations of RandAugment, random erasing, random
 * resized crops, mixup and cutmix, as the paper's appendix E takes them from DeiT (Touvron et al. 2021),
 * whose form of RandAugment is `rand-m9-mstd0.5-inc1`. All on bytes. DeiT's colour jitter is not among them:
 * it takes part only without RandAugment.
 *
 * augment_points.c changes pixels by their values, augment_space.c moves them, augment_draw.c chooses, mix.c
 * mixes the pictures of a batch.
 */
#ifndef UP_DATA_AUGMENT_H
#define UP_DATA_AUGMENT_H

#include "uniperceiver/image.h"
#include "uniperceiver/random.h"

/* RandAugment's operations, each with what its value is. */
typedef enum up_change {
    UP_CHANGE_AUTOCONTRAST, /* none: each channel's range becomes 0..255 */
    UP_CHANGE_EQUALIZE,     /* none: each channel's histogram becomes level */
    UP_CHANGE_INVERT,       /* none */
    UP_CHANGE_ROTATE,       /* degrees, counter-clockwise, around the middle */
    UP_CHANGE_POSTERIZE,    /* bits that are kept, 0 to 8 */
    UP_CHANGE_SOLARIZE,     /* bytes from there on are inverted */
    UP_CHANGE_SOLARIZE_ADD, /* what is added to bytes below 128 */
    UP_CHANGE_COLOUR,       /* these four: 0 gives the degenerate picture (grey, mean grey, black, smooth), 1
                               the picture itself, more goes beyond */
    UP_CHANGE_CONTRAST,
    UP_CHANGE_BRIGHTNESS,
    UP_CHANGE_SHARPNESS,
    UP_CHANGE_SHEAR_X,     /* pixels to the left a row */
    UP_CHANGE_SHEAR_Y,     /* pixels up a column */
    UP_CHANGE_TRANSLATE_X, /* shares of the width, to the left */
    UP_CHANGE_TRANSLATE_Y, /* shares of the height, up */
    UP_CHANGES
} up_change;

/* In place, as Pillow does it: equal bytes where only values change, within 1 of 255 where pixels move
 * (bicubic). `fill` stands where the picture moved away. */
up_status up_image_change(up_image *image, up_change change, double value, const uint8_t fill[3]);

/* The value of an operation at magnitude 0 to 10; `negative` 1: of the other direction, where it has two. */
double up_change_value(up_change change, double magnitude, int negative);

/* The two parts of up_image_change: by values, and by places. */
up_status up_change_points(up_image *image, up_change change, double value);
up_status up_change_places(up_image *image, up_change change, double value, const uint8_t fill[3]);

typedef struct up_augmentation {
    int resized;      /* 1: a random part of the picture, not of a resized one: random resized crop */
    double area;      /* that part's share of the picture, from this to 1 */
    double ratio;     /* its width by its height, from 1 / ratio to ratio */
    int operations;   /* of RandAugment; 0: none */
    double magnitude; /* their strength, 0 to 10: mean */
    double deviation; /* and standard deviation */
    double erase;     /* probability that a rectangle becomes noise */
} up_augmentation;

typedef struct up_box {
    int x, y, width, height;
} up_box;

/* The part of a width x height picture that becomes the sample. */
up_box up_draw_part(const up_augmentation *how, up_rng *rng, int width, int height);

/* RandAugment, then erasing, of a picture that is as large as the model wants it. `norm`: the model's, by
 * which its mean is grey and its deviation that of the noise. */
up_status up_augment(const up_augmentation *how, const up_pixel_norm *norm, up_rng *rng, up_image *image);

/* The parts of up_augment, for tests: which operation with which value, RandAugment's chance that it is done
 * included (0: not done); which rectangle (width 0: none fits). */
int up_draw_change(const up_augmentation *how, up_rng *rng, up_change *change, double *value);
up_box up_draw_erased(up_rng *rng, int width, int height);

/* Mixing of all pictures of a batch, each with the one at the same place from its end: how much of itself a
 * picture keeps. */
typedef struct up_mixing {
    double mixup, cutmix; /* alpha of the Beta distributions; 0: never */
    double choice;        /* how often cutmix, where both are there */
} up_mixing;

typedef struct up_mix {
    up_box box;  /* cutmix: what the partner gives; width 0: mixup, or nothing */
    double kept; /* the share of the picture itself, of the partner 1 - kept */
} up_mix;

up_mix up_draw_mix(const up_mixing *how, up_rng *rng, int size);

/* patches [pictures, cells, 3 * patch * patch] of squares of `size` pixels, as up_image_patch_bytes writes
 * them. In place; needs no memory. */
void up_mix_patches(const up_mix *mix, uint8_t *patches, int pictures, int size, int patch);

#endif

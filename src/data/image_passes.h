/* image_passes.h - the inner loops of resizing and cutting into patches: a portable definition
 * (image_passes.c), and the same bytes faster on AVX2 and AVX-512. */
#ifndef UP_DATA_IMAGE_PASSES_H
#define UP_DATA_IMAGE_PASSES_H

#include "files/isa.h"

#include <stddef.h>
#include <stdint.h>

enum {
    UP_RESIZE_FRACTION =
        22, /* bits of a weight behind the point: 32 less 8 of the pixel, 2 for sign, overshoot */
    UP_RESIZE_GROUP = 4,  /* taps of an output pixel come in groups of so many, the last filled up with 0 */
    UP_RESIZE_ROWS = 4,   /* rows that go across at once */
    UP_RESIZE_MARGIN = 16 /* bytes behind a row that may be read on the way across, and written */
};

/* For each of n output pixels: the inputs first[i] .. first[i] + count[i] - 1 and their weights, groups[i]
 * groups of them. A group is 16 bytes: four int32_t, or what `pack` of the passes makes of them. */
typedef struct up_resize_taps {
    int n, taps; /* taps: room for each output pixel in `weights`, whole groups */
    int *first, *count;
    int32_t *weights; /* [n, taps] */
} up_resize_taps;

static inline int up_resize_groups(int count) {
    return (count + UP_RESIZE_GROUP - 1) / UP_RESIZE_GROUP;
}

typedef struct up_image_passes {
    /* Weights of one group into the form that the two passes below read; NULL: they read int32_t. */
    void (*pack)(int32_t weights[UP_RESIZE_GROUP]);

    /* Rows of RGB pixels to rows of k->n RGB pixels. UP_RESIZE_MARGIN bytes behind each input row are
     * readable, and behind each output row writable: their values mean nothing. */
    void (*across)(const up_resize_taps *k, const uint8_t *const in[UP_RESIZE_ROWS],
                   uint8_t *const out[UP_RESIZE_ROWS]);

    /* Output row i, n bytes: the weighted sum of the rows at `rows`, the first of which is input first[i].
     * The stride is a multiple of 64, and whole rows of it are readable. */
    void (*down)(const up_resize_taps *k, int i, const uint8_t *rows, size_t stride, size_t n, uint8_t *out);

    /* n RGB pixels to n values of each channel; `plane` is how far the channels lie apart. */
    void (*split)(const uint8_t *in, int n, uint8_t *out, size_t plane);
} up_image_passes;

/* NULL where this build has none of that instruction set. */
const up_image_passes *up_image_passes_of(up_isa isa);

/* Those of this processor. */
const up_image_passes *up_image_passes_here(void);

extern const up_image_passes up_image_passes_base;
#if defined __x86_64__ && defined __GNUC__
#define UP_IMAGE_PASSES_X86 1
extern const up_image_passes up_image_passes_avx2, up_image_passes_avx512;
#endif

#endif

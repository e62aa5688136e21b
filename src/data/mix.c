/* mix.c - mixup (Zhang et al. 2018) and cutmix (Yun et al. 2019) of the pictures of a batch, one choice and
 * one share for all of it, as DeiT has them (timm's Mixup in its mode "batch"). */
#include "data/augment.h"

#include <math.h>
#include <string.h>

/* log of a draw from Gamma(alpha, 1): Marsaglia and Tsang 2000, by whose rule a shape below 1 is one more and
 * times U^(1 / alpha). */
static double log_gamma_draw(up_rng *rng, double alpha) {
    double boost = 0;
    if (alpha < 1) {
        boost = log(1 - up_rng_uniform(rng)) / alpha;
        alpha++;
    }
    double d = alpha - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (;;) {
        double x = up_rng_normal(rng), v = 1 + c * x;
        if (v <= 0) continue;
        v = v * v * v;
        if (log(1 - up_rng_uniform(rng)) < x * x / 2 + d - d * v + d * log(v)) return log(d * v) + boost;
    }
}

static double beta_draw(up_rng *rng, double alpha) {
    double x = log_gamma_draw(rng, alpha), y = log_gamma_draw(rng, alpha);
    return 1 / (1 + exp(y - x));
}

static int clipped(int at, int size) {
    return at < 0 ? 0 : at > size ? size : at;
}

up_mix up_draw_mix(const up_mixing *how, up_rng *rng, int size) {
    up_mix mix = {.kept = 1};
    int cut = how->cutmix > 0 && (how->mixup <= 0 || up_rng_uniform(rng) < how->choice);
    double alpha = cut ? how->cutmix : how->mixup;
    if (alpha <= 0) return mix;
    mix.kept = beta_draw(rng, alpha);
    if (!cut) return mix;
    int side = (int)(size * sqrt(1 - mix.kept));
    int y = (int)up_rng_below(rng, (uint32_t)size), x = (int)up_rng_below(rng, (uint32_t)size);
    mix.box.x = clipped(x - side / 2, size);
    mix.box.y = clipped(y - side / 2, size);
    mix.box.width = clipped(x + side / 2, size) - mix.box.x;
    mix.box.height = clipped(y + side / 2, size) - mix.box.y;
    mix.kept = 1 - (double)mix.box.width * mix.box.height / ((double)size * size);
    return mix;
}

/* Both of a pair at once: each keeps its share and takes the rest of the other. 16 fractional bits. */
static void blend(uint8_t *a, uint8_t *b, size_t n, double kept) {
    uint32_t own = (uint32_t)rint(kept * 65536), other = 65536 - own;
    for (size_t i = 0; i < n; i++) {
        uint32_t x = a[i], y = b[i];
        a[i] = (uint8_t)((x * own + y * other + 32768) >> 16);
        b[i] = (uint8_t)((y * own + x * other + 32768) >> 16);
    }
}

static void swap(uint8_t *a, uint8_t *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint8_t kept = a[i];
        a[i] = b[i];
        b[i] = kept;
    }
}

/* The same box of both changes places: row by row of each channel of each patch that it meets. */
static void swap_box(uint8_t *a, uint8_t *b, up_box box, int size, int patch) {
    size_t side = (size_t)patch, cell = 3 * side * side;
    for (int y = box.y; y < box.y + box.height; y++)
        for (int x = box.x, next; x < box.x + box.width; x = next) {
            next = (x / patch + 1) * patch;
            if (next > box.x + box.width) next = box.x + box.width;
            size_t at = (size_t)(y / patch * (size / patch) + x / patch) * cell + (size_t)(y % patch) * side +
                        (size_t)(x % patch);
            for (size_t c = 0; c < 3; c++, at += side * side) swap(a + at, b + at, (size_t)(next - x));
        }
}

void up_mix_patches(const up_mix *mix, uint8_t *patches, int pictures, int size, int patch) {
    size_t bytes = 3 * (size_t)size * (size_t)size;
    for (int i = 0; i < pictures / 2; i++) {
        uint8_t *a = patches + (size_t)i * bytes, *b = patches + (size_t)(pictures - 1 - i) * bytes;
        if (mix->box.width)
            swap_box(a, b, mix->box, size, patch);
        else if (mix->kept < 1)
            blend(a, b, bytes, mix->kept);
    }
}

/* drop.c - drop path (Huang et al. 2016; paper section 4.2): a branch of a layer is left out for a whole
 * sequence with probability p, else scaled by 1 / (1 - p). Factors are functions of (seed, step, sequence,
 * branch). */
#include "uniperceiver/encoder.h"
#include "uniperceiver/random.h"

void up_drop_path(double p, int layers, uint64_t seed, uint64_t step, const up_batch *b, float *out) {
    if (!b || !out) return;
    enum { PURPOSE = 0x64726f70 /* "drop" */ };
    for (int s = 0; s < b->sequences; s++) {
        up_rng rng = up_rng_make(seed, step, b->key[s], PURPOSE);
        for (int branch = 0; branch < 2 * layers; branch++)
            out[(size_t)branch * (size_t)b->sequences + (size_t)s] =
                up_rng_uniform(&rng) < p ? 0.0f : (float)(1 / (1 - p));
    }
}

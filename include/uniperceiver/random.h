/* random.h - counter-based random numbers: every value is a pure function of (key, counter).
 *
 * Nothing holds a hidden state, so a sample, a mask or an initial weight can be recomputed anywhere, in any
 * order, by any number of threads. Generator: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy
 * as 1, 2, 3", SC 2011).
 */
#ifndef UNIPERCEIVER_RANDOM_H
#define UNIPERCEIVER_RANDOM_H

#include "uniperceiver/status.h"
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Four 32-bit words for (key, counter, stream). */
UP_API void up_philox(uint64_t key, uint64_t counter, uint64_t stream, uint32_t out[4]);

/* A convenience cursor over one stream; copy it to fork it, store it to resume it. `words` is the block of
 * four draws that `counter` stands in, made when its first is drawn. */
typedef struct up_rng {
    uint64_t key, stream, counter;
    uint32_t words[4];
} up_rng;

/* A stream from a seed and up to three numbers that say what it is for, e.g. (seed, epoch, index, purpose).
 */
UP_API up_rng up_rng_make(uint64_t seed, uint64_t a, uint64_t b, uint64_t c);
UP_API uint32_t up_rng_u32(up_rng *rng);
UP_API uint32_t up_rng_below(up_rng *rng, uint32_t n); /* uniform in 0..n-1, unbiased; n >= 1 */
UP_API double up_rng_uniform(up_rng *rng);             /* uniform in [0, 1) */
UP_API double up_rng_normal(up_rng *rng);              /* mean 0, variance 1 (Box-Muller, one value a call) */

/* Element `index` (0..n-1) of a pseudo-random permutation of 0..n-1 chosen by `key`: a Feistel network over
 * the next power of four, walked until it lands inside. No memory, so an epoch's order needs no state. */
UP_API uint64_t up_permute(uint64_t key, uint64_t n, uint64_t index);

#ifdef __cplusplus
}
#endif
#endif

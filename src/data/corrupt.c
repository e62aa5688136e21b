/* corrupt.c - whole-word masking, 80 / 10 / 10 (Devlin et al. 2019, as the paper's section 3.2 follows it).
 */
#include "data/corrupt.h"

#include <math.h>
#include <string.h>

/* End (exclusive) of the word that starts at `i`. */
static int word_end(const up_tokenizer *t, const int32_t *ids, int count, int i) {
    while (i < count - 1 && !up_token_ends_word(t, ids[i])) i++;
    return i + 1;
}

static void hide(const up_masking *m, up_rng *rng, int from, int to, int32_t *corrupted, uint8_t *read) {
    double draw = m->always ? 0 : up_rng_uniform(rng);
    for (int i = from; i < to; i++) {
        read[i] = 1;
        if (draw < 0.8)
            corrupted[i] = UP_ID_SPE;
        else if (draw < 0.9)
            corrupted[i] = m->random[up_rng_below(rng, (uint32_t)m->random_count)];
    }
}

void up_mask_words(const up_tokenizer *t, const up_masking *m, up_rng *rng, const int32_t *ids, int count,
                   int32_t *corrupted, uint8_t *read) {
    memcpy(corrupted, ids, (size_t)count * sizeof *ids);
    memset(read, 0, (size_t)count);
    int end = count && ids[count - 1] == UP_TOKEN_END ? count - 1 : count, words = 0;
    for (int i = 0; i < end; i = word_end(t, ids, end, i)) words++;
    if (!words) return;
    int wanted = (int)fmax(
        1, floor(m->share * words + up_rng_uniform(rng))); /* right on average, also for short texts */
    /* selection sampling (Knuth, algorithm S): each set of `wanted` words is equally likely */
    int seen = 0;
    for (int i = 0; i < end && wanted; seen++) {
        int next = word_end(t, ids, end, i);
        if (up_rng_below(rng, (uint32_t)(words - seen)) < (uint32_t)wanted) {
            hide(m, rng, i, next, corrupted, read);
            wanted--;
        }
        i = next;
    }
}

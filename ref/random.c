/* random.c - Philox4x32-10 and what is drawn from it. Source: Salmon et al., SC 2011. */
#include "uniperceiver/random.h"

#include <math.h>

void up_philox(uint64_t key, uint64_t counter, uint64_t stream, uint32_t out[4]) {
    if (!out) return;
    uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32);
    uint32_t c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c0 = n0;
        c1 = (uint32_t)p1;
        c2 = n2;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

up_rng up_rng_make(uint64_t seed, uint64_t a, uint64_t b, uint64_t c) {
    uint32_t w[4]; /* hash the purpose into a stream number with the generator itself */
    up_philox(seed, a, b, w);
    up_philox(((uint64_t)w[1] << 32) | w[0], c, ((uint64_t)w[3] << 32) | w[2], w);
    return (up_rng){.key = seed, .stream = ((uint64_t)w[1] << 32) | w[0], .counter = 0};
}

uint32_t up_rng_u32(up_rng *rng) {
    if (!rng) return 0;
    if ((rng->counter & 3) == 0) up_philox(rng->key, rng->counter >> 2, rng->stream, rng->words);
    return rng->words[rng->counter++ & 3];
}

uint32_t up_rng_below(up_rng *rng, uint32_t n) {
    if (!rng || !n) return 0;
    uint32_t reject = (uint32_t)(-n) % n; /* 2^32 mod n: the draws below it would favour small results */
    uint32_t x;
    do x = up_rng_u32(rng);
    while (x < reject);
    return x % n;
}

double up_rng_uniform(up_rng *rng) {
    if (!rng) return 0;
    uint64_t hi = up_rng_u32(rng), lo = up_rng_u32(rng);
    return (double)(((hi << 32) | lo) >> 11) * 0x1p-53;
}

double up_rng_normal(up_rng *rng) {
    if (!rng) return 0;
    double u = 1.0 - up_rng_uniform(rng), v = up_rng_uniform(rng); /* u in (0, 1]: its logarithm is finite */
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

uint64_t up_permute(uint64_t key, uint64_t n, uint64_t index) {
    if (!n) return 0;
    int half = 1; /* bits of each half: 4^half >= n */
    while (half < 32 && (1ull << (2 * half)) < n) half++;
    uint64_t mask = (1ull << half) - 1;
    do { /* cycle walking: the domain is less than 4 n, so few rounds are expected */
        uint64_t left = index >> half, right = index & mask;
        for (uint64_t round = 0; round < 4; round++) {
            uint32_t w[4];
            up_philox(key, right, round, w);
            uint64_t next = left ^ (w[0] & mask);
            left = right;
            right = next;
        }
        index = (left << half) | right;
    } while (index >= n);
    return index;
}

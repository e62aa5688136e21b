/* digest.c - eight chains of multiply and fold, side by side: each step is a bijection of its chain, so a
 * word that differs shows at the chain's end, and the chains do not wait for each other. */
#include "files/digest.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { LANES = 8 };

static uint64_t mix(uint64_t hash, uint64_t value) {
    hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
    return hash ^ (hash >> 32);
}

uint64_t up_digest(uint64_t before, const void *data, size_t bytes) {
    const unsigned char *at = data;
    uint64_t lane[LANES], word[LANES];
    uint64_t hash = mix(before, bytes);
    for (unsigned i = 0; i < LANES; i++) lane[i] = mix(hash, i + 1);
    for (; bytes >= sizeof word; bytes -= sizeof word, at += sizeof word) {
        memcpy(word, at, sizeof word);
        for (int i = 0; i < LANES; i++) lane[i] = mix(lane[i], word[i]);
    }
    memset(word, 0, sizeof word);
    if (bytes) memcpy(word, at, bytes);
    for (int i = 0; i < LANES; i++) hash = mix(hash, mix(lane[i], word[i]));
    return hash;
}

void up_digest_text(uint64_t digest, char text[24]) {
    snprintf(text, 24, "%016" PRIx64, digest);
}

/* words.h - a word and its tokens: byte-pair merges (Sennrich et al. 2016), and a cache of words met before.
 */
#ifndef UP_DATA_WORDS_H
#define UP_DATA_WORDS_H

#include "data/vocabulary.h"

#include <string.h>

/* --- eight bytes of text at a time --- */

#define UP_EACH_BYTE 0x0101010101010101u

/* The first byte is the lowest. */
static inline uint64_t up_load_bytes(const char *text) {
    uint64_t bytes;
    memcpy(&bytes, text, sizeof bytes);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    bytes = __builtin_bswap64(bytes);
#endif
    return bytes;
}

/* 0x80 in each byte that is an ASCII letter. */
static inline uint64_t up_letter_bits(uint64_t bytes) {
    uint64_t small = (bytes | 0x20 * UP_EACH_BYTE) & 0x7F * UP_EACH_BYTE;
    uint64_t not_before_a = small + (0x80 - 'a') * UP_EACH_BYTE;
    uint64_t behind_z = small + (0x7F - 'z') * UP_EACH_BYTE;
    return not_before_a & ~behind_z & ~bytes & 0x80 * UP_EACH_BYTE;
}

/* --- words --- */

enum {
    UP_WORD_SHORT = 16,                /* bytes of a word that the cache can hold */
    UP_WORD_PARTS = UP_WORD_SHORT / 8, /* of eight bytes */
    UP_WORDS_WAITING = 32,
    UP_WORD_SLOT_BYTES = 32,
    UP_WORD_BITS = 17 /* of the number of the cache's slots */
};

typedef struct up_word_slot up_word_slot;
typedef struct up_words {
    const up_vocabulary *vocabulary;
    void *memory;        /* of the slots, which begin at a multiple of their size in it */
    up_word_slot *slots; /* [1 << UP_WORD_BITS] */
} up_words;

/* `vocabulary` must outlive it. Several threads may use one; NULL when memory runs out. */
up_words *up_words_create(const up_vocabulary *vocabulary);
void up_words_free(up_words *words);

typedef struct up_waiting_word {
    uint64_t key[UP_WORD_PARTS];
    size_t size, hash;
} up_waiting_word;

/* Tokens as they come, at most `room` of them, and words whose tokens come next. A word waits while its part
 * of the cache is fetched from memory and others are read. */
typedef struct up_tokens {
    int32_t *ids;
    size_t count, room, waiting;
    up_waiting_word words[UP_WORDS_WAITING];
} up_tokens;

/* Append the tokens of the words that still wait. */
void up_words_finish(const up_words *words, up_tokens *out);

up_status up_words_add_long(const up_words *words, const char *word, size_t size, up_tokens *out);

/* Append the tokens of a word (size >= 1, ASCII capitals taken as small letters) as far as there is room, now
 * or later. UP_WORD_SHORT bytes must be readable at a `word` that is not longer. Its key is its bytes, zeros
 * behind them, as no word holds a NUL. */
static inline up_status up_words_add(const up_words *words, const char *word, size_t size, up_tokens *out) {
    static const unsigned char ones[2 * UP_WORD_SHORT] = {255, 255, 255, 255, 255, 255, 255, 255,
                                                          255, 255, 255, 255, 255, 255, 255, 255};
    static const uint64_t factor = 0x9E3779B97F4A7C15u; /* odd, from the golden ratio */
    if (size > UP_WORD_SHORT) return up_words_add_long(words, word, size, out);
    if (out->waiting == UP_WORDS_WAITING) up_words_finish(words, out);
    up_waiting_word *waiting = &out->words[out->waiting++];
    const char *mask = (const char *)ones + UP_WORD_SHORT - size;
    uint64_t hash = 0;
    for (size_t i = 0; i < UP_WORD_PARTS; i++) {
        uint64_t bytes = up_load_bytes(word + 8 * i);
        bytes |= up_letter_bits(bytes) >> 2; /* 0x20 in each letter: small ones */
        waiting->key[i] = bytes & up_load_bytes(mask + 8 * i);
        hash = (hash ^ waiting->key[i]) * factor;
    }
    waiting->size = size;
    waiting->hash = (hash ^ hash >> 32) * factor >> (64 - UP_WORD_BITS);
    __builtin_prefetch((const char *)words->slots + waiting->hash * UP_WORD_SLOT_BYTES);
    return UP_OK;
}

#endif

/* vocabulary.h - CLIP's byte-pair vocabulary in memory: what each token spells and which pairs merge in which
 * order. */
#ifndef UP_DATA_VOCABULARY_H
#define UP_DATA_VOCABULARY_H

#include "uniperceiver/status.h"
#include <stddef.h>
#include <stdint.h>

enum {
    UP_MERGES = 48894,                 /* of the file's many more */
    UP_PLAIN_TOKENS = 512 + UP_MERGES, /* all but the special ones */
    UP_MERGE_BITS = 17                 /* of the slots of the pair table */
};

typedef struct up_token {
    uint32_t at; /* of its bytes in up_vocabulary.bytes */
    uint16_t length;
    uint16_t ends; /* 1: carries "</w>", the last token of a word */
} up_token;

typedef struct up_pair {
    uint32_t key;  /* left << 16 | right */
    uint32_t rank; /* smaller merges first, into token 512 + rank; UP_MERGES: a free slot */
} up_pair;

typedef struct up_vocabulary {
    char *bytes;
    size_t used, room;
    up_token *tokens;       /* [UP_PLAIN_TOKENS] */
    up_pair *pairs;         /* [1 << UP_MERGE_BITS], open addressing */
    uint16_t byte_ids[256]; /* the token of a byte within a word; 256 more where it ends one */
} up_vocabulary;

/* Load the file, gzip or plain, or with NULL the vocabulary that is compiled in. */
up_status up_vocabulary_load(const char *path, up_vocabulary *out);
void up_vocabulary_free(up_vocabulary *vocabulary);

/* The slot of a pair: its own, or the free one where it would stand. */
static inline up_pair *up_pair_slot(const up_vocabulary *vocabulary, uint32_t left, uint32_t right) {
    uint32_t key = left << 16 | right, mask = (1u << UP_MERGE_BITS) - 1;
    uint32_t slot = (key * 0x9E3779B1u) >> (32 - UP_MERGE_BITS);
    while (vocabulary->pairs[slot].rank != UP_MERGES && vocabulary->pairs[slot].key != key)
        slot = (slot + 1) & mask;
    return &vocabulary->pairs[slot];
}

/* FNV-1a. */
static inline uint64_t up_hash_bytes(const char *bytes, size_t size) {
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t i = 0; i < size; i++) hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001B3u;
    return hash ^ hash >> 29;
}

#endif

/* words.c - words.h. */
#include "data/words.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    CACHE_PROBES = 8, /* slots that a word may lie in, one behind the other */
    SLOT_TOKENS = 6,
    FEW = 64,   /* tokens that are merged without a heap */
    BUSY = 0xFF /* for the count of a slot that is being filled */
};

/* A word and its tokens, one line of the processor's cache. Once `count` says that it is there it never
 * changes, so readers need no lock. */
struct up_word_slot {
    uint64_t key[UP_WORD_PARTS]; /* the word's bytes, zeros behind them */
    uint16_t ids[SLOT_TOKENS];
    _Atomic uint32_t count; /* of tokens; 0: free. Written last */
};
_Static_assert(sizeof(up_word_slot) == UP_WORD_SLOT_BYTES, "two words are a line of the processor's cache");

up_words *up_words_create(const up_vocabulary *vocabulary) {
    up_words *words = malloc(sizeof *words);
    if (!words) return NULL;
    words->vocabulary = vocabulary;
    words->memory =
        calloc(((size_t)1 << UP_WORD_BITS) + 1, sizeof(up_word_slot)); /* pages are taken as words come */
    if (!words->memory) {
        free(words);
        return NULL;
    }
    uintptr_t at = (uintptr_t)words->memory;
    words->slots = (up_word_slot *)((char *)words->memory +
                                    (UP_WORD_SLOT_BYTES - at % UP_WORD_SLOT_BYTES) % UP_WORD_SLOT_BYTES);
    return words;
}

void up_words_free(up_words *words) {
    if (!words) return;
    free(words->memory);
    free(words);
}

/* --- merging one word: a linked list of tokens and a heap of the pairs that could merge --- */

typedef struct merging {
    int32_t *ids; /* [n], -1 = merged into the one before */
    int32_t *previous, *next;
    uint64_t *heap; /* [2n], rank << 32 | position of the left token: the smallest is merged first */
    size_t heap_count;
} merging;

static void heap_push(merging *m, uint64_t item) {
    size_t at = m->heap_count++;
    for (; at > 0 && m->heap[(at - 1) / 2] > item; at = (at - 1) / 2) m->heap[at] = m->heap[(at - 1) / 2];
    m->heap[at] = item;
}

static uint64_t heap_pop(merging *m) {
    uint64_t top = m->heap[0], item = m->heap[--m->heap_count];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < m->heap_count; at = child) {
        if (child + 1 < m->heap_count && m->heap[child + 1] < m->heap[child]) child++;
        if (m->heap[child] >= item) break;
        m->heap[at] = m->heap[child];
    }
    m->heap[at] = item;
    return top;
}

/* The rank of the pair that begins at `left`, UP_MERGES if it does not merge. */
static uint32_t rank_of(const up_vocabulary *v, int32_t left, int32_t right) {
    return up_pair_slot(v, (uint32_t)left, (uint32_t)right)->rank;
}

static uint32_t pair_rank(const up_vocabulary *v, const merging *m, int32_t left) {
    if (left < 0 || m->ids[left] < 0 || m->next[left] < 0) return UP_MERGES;
    return up_pair_slot(v, (uint32_t)m->ids[left], (uint32_t)m->ids[m->next[left]])->rank;
}

static void offer(const up_vocabulary *v, merging *m, int32_t left) {
    uint32_t rank = pair_rank(v, m, left);
    if (rank != UP_MERGES) heap_push(m, (uint64_t)rank << 32 | (uint32_t)left);
}

/* A merge only makes pairs of a higher rank, so taking the lowest pair anywhere, leftmost first, is the same
 * as merging all pairs of one rank at a time. An item whose pair has changed since has another rank now and
 * is dropped. */
static size_t merge_pairs(const up_vocabulary *v, merging *m, size_t n) {
    for (int32_t i = 0; i < (int32_t)n; i++) {
        m->previous[i] = i - 1;
        m->next[i] = i + 1 < (int32_t)n ? i + 1 : -1;
    }
    for (int32_t i = 0; i < (int32_t)n; i++) offer(v, m, i);
    while (m->heap_count) {
        uint64_t item = heap_pop(m);
        int32_t left = (int32_t)(item & 0xFFFFFFFFu), right = m->next[left];
        if (pair_rank(v, m, left) != item >> 32) continue;
        m->ids[left] = 512 + (int32_t)(item >> 32);
        m->ids[right] = -1;
        m->next[left] = m->next[right];
        if (m->next[right] >= 0) m->previous[m->next[right]] = left;
        offer(v, m, m->previous[left]);
        offer(v, m, left);
    }
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        if (m->ids[i] >= 0) m->ids[count++] = m->ids[i];
    return count;
}

/* The same for at most FEW tokens, whose pairs are all looked at for the lowest: less work than a heap. */
static size_t merge_few(const up_vocabulary *v, int32_t *ids, size_t n) {
    uint32_t ranks[FEW]; /* of the pair that begins here */
    for (size_t i = 0; i + 1 < n; i++) ranks[i] = rank_of(v, ids[i], ids[i + 1]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (ranks[i] < ranks[best]) best = i;
        if (ranks[best] == UP_MERGES) break;
        ids[best] = 512 + (int32_t)ranks[best];
        n--;
        for (size_t i = best + 1; i < n; i++) {
            ids[i] = ids[i + 1];
            ranks[i - 1] = ranks[i];
        }
        if (best) ranks[best - 1] = rank_of(v, ids[best - 1], ids[best]);
        if (best + 1 < n) ranks[best] = rank_of(v, ids[best], ids[best + 1]);
    }
    return n;
}

static void append(up_tokens *out, const int32_t *ids, size_t count) {
    if (count > out->room - out->count) count = out->room - out->count;
    memcpy(out->ids + out->count, ids, count * sizeof *ids);
    out->count += count;
}

/* The tokens that a word's merges begin with: its bytes, in lower case, the last one with the word's end. */
static void spell(const up_vocabulary *v, const char *word, size_t size, int32_t *ids) {
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)word[i];
        ids[i] = v->byte_ids[c >= 'A' && c <= 'Z' ? c + 32 : c];
    }
    ids[size - 1] += 256;
}

up_status up_words_add_long(const up_words *words, const char *word, size_t size, up_tokens *out) {
    up_words_finish(words, out);
    if (size <= FEW) {
        int32_t ids[FEW];
        spell(words->vocabulary, word, size, ids);
        append(out, ids, merge_few(words->vocabulary, ids, size));
        return UP_OK;
    }
    merging m = {.ids = malloc(3 * size * sizeof *m.ids), .heap = malloc(2 * size * sizeof *m.heap)};
    int ok = m.ids && m.heap;
    if (ok) {
        m.previous = m.ids + size;
        m.next = m.previous + size;
        spell(words->vocabulary, word, size, m.ids);
        append(out, m.ids, merge_pairs(words->vocabulary, &m, size));
    }
    free(m.ids);
    free(m.heap);
    return ok ? UP_OK : up_fail(UP_ERR_MEMORY, "text", "no memory to encode a word of %zu bytes", size);
}

/* --- the cache --- */

static inline up_word_slot *probe(const up_words *words, size_t hash, size_t i) {
    return &words->slots[(hash + i) & (((size_t)1 << UP_WORD_BITS) - 1)];
}

static inline int same_key(const up_word_slot *s, const uint64_t key[UP_WORD_PARTS]) {
    uint64_t differs = 0;
    for (size_t i = 0; i < UP_WORD_PARTS; i++) differs |= s->key[i] ^ key[i];
    return !differs;
}

/* Keep a word if one of its slots is free. Not a failure when it cannot be kept. */
static void keep(const up_words *words, const uint64_t key[UP_WORD_PARTS], size_t hash, const int32_t *ids,
                 size_t count) {
    if (count > SLOT_TOKENS) return;
    for (size_t i = 0; i < CACHE_PROBES; i++) {
        up_word_slot *s = probe(words, hash, i);
        uint32_t none = 0;
        if (atomic_load_explicit(&s->count, memory_order_relaxed) ||
            !atomic_compare_exchange_strong_explicit(&s->count, &none, BUSY, memory_order_relaxed,
                                                     memory_order_relaxed))
            continue;
        memcpy(s->key, key, sizeof s->key);
        for (size_t n = 0; n < count; n++) s->ids[n] = (uint16_t)ids[n];
        atomic_store_explicit(&s->count, (uint32_t)count, memory_order_release);
        return;
    }
}

/* A short word that is not in the cache. */
static void encode_new(const up_words *words, const up_waiting_word *word, up_tokens *out) {
    char bytes[UP_WORD_SHORT];
    int32_t ids[UP_WORD_SHORT];
    for (size_t i = 0; i < word->size; i++) bytes[i] = (char)(word->key[i / 8] >> 8 * (i % 8));
    spell(words->vocabulary, bytes, word->size, ids);
    size_t n = merge_few(words->vocabulary, ids, word->size);
    append(out, ids, n);
    keep(words, word->key, word->hash, ids, n);
}

/* Most words have at most four tokens: that many are always copied where there is room. */
static inline void append_cached(const uint16_t ids[SLOT_TOKENS], size_t count, up_tokens *out) {
    size_t room = out->room - out->count;
    int32_t *to = out->ids + out->count;
    out->count += count < room ? count : room;
    if (room >= SLOT_TOKENS) {
        for (size_t i = 0; i < 4; i++) to[i] = ids[i];
        for (size_t i = 4; i < count; i++) to[i] = ids[i];
    } else {
        for (size_t i = 0; i < count && i < room; i++) to[i] = ids[i];
    }
}

static void encode_short(const up_words *words, const up_waiting_word *word, up_tokens *out) {
    for (size_t i = 0; i < CACHE_PROBES; i++) {
        const up_word_slot *s = probe(words, word->hash, i);
        uint32_t n = atomic_load_explicit(&s->count, memory_order_acquire);
        if (!n) break;
        if (n == BUSY || !same_key(s, word->key)) continue;
        append_cached(s->ids, n, out);
        return;
    }
    encode_new(words, word, out);
}

/* --- words that wait for their slots to come from memory --- */

void up_words_finish(const up_words *words, up_tokens *out) {
    for (size_t i = 0; i < out->waiting; i++) encode_short(words, &out->words[i], out);
    out->waiting = 0;
}

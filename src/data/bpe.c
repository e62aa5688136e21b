/* bpe.c - the tokenizer: cleaned text is cut into words by the pattern below, each word into the tokens of
 * CLIP's byte-pair encoding (Radford et al. 2021; Sennrich et al. 2016). Words met before come from a cache.
 *
 *   <\|startoftext\|>|<\|endoftext\|>|<\|gen\|>|<\|spe\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+
 */
#include "data/codes.h"
#include "data/vocabulary.h"
#include "uniperceiver/text.h"
#include <stdatomic.h>
#include <utf8proc.h>

enum {
    CACHE_SLOTS = 1 << 16, /* words kept at most; the first ones stay */
    CACHE_PROBES = 8,      /* slots that a word may lie in */
    CACHED_MOST = 48,      /* bytes of a word that is worth keeping */
    SHORT_WORD = 64        /* bytes of a word that is merged without allocating */
};

/* A word and its tokens; never changed or freed while the tokenizer lives, so readers need no lock. */
typedef struct cached_word {
    uint16_t length, count;
    int32_t ids[]; /* [count], then the word's bytes */
} cached_word;

struct up_tokenizer {
    up_vocabulary vocabulary;
    _Atomic(cached_word *) cache[CACHE_SLOTS];
};

/* What the pattern spells out, in its order. */
static const struct {
    const char *form;
    int32_t id; /* -1: a word like others */
} fixed_forms[] = {
    {"<|startoftext|>", UP_TOKEN_START},
    {"<|endoftext|>", UP_TOKEN_END},
    {"<|gen|>", UP_TOKEN_GEN},
    {"<|spe|>", UP_TOKEN_SPE},
    {"'s", -1},
    {"'t", -1},
    {"'re", -1},
    {"'ve", -1},
    {"'m", -1},
    {"'ll", -1},
    {"'d", -1},
};

up_status up_tokenizer_create(const char *vocab_path, up_tokenizer **out) {
    if (!out) return up_fail(UP_ERR_ARGUMENT, "tokenizer", "no place for the result (NULL)");
    *out = NULL;
    up_tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (!tokenizer) return up_fail(UP_ERR_MEMORY, "tokenizer", "no memory for %zu bytes", sizeof *tokenizer);
    for (size_t i = 0; i < CACHE_SLOTS; i++) atomic_init(&tokenizer->cache[i], NULL);
    up_status status = up_vocabulary_load(vocab_path, &tokenizer->vocabulary);
    if (status == UP_OK)
        *out = tokenizer;
    else
        free(tokenizer);
    return status;
}

void up_tokenizer_free(up_tokenizer *tokenizer) {
    if (!tokenizer) return;
    for (size_t i = 0; i < CACHE_SLOTS; i++) free(atomic_load(&tokenizer->cache[i]));
    up_vocabulary_free(&tokenizer->vocabulary);
    free(tokenizer);
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

/* The tokens of a word into `ids` (room for `size`); 0 when memory runs out. */
static size_t encode_word(const up_vocabulary *v, const char *word, size_t size, int32_t *ids) {
    int32_t links[2 * SHORT_WORD];
    uint64_t heap[2 * SHORT_WORD];
    merging m = {.ids = ids, .previous = links, .heap = heap};
    if (size > SHORT_WORD) {
        m.previous = malloc(2 * size * sizeof *m.previous);
        m.heap = malloc(2 * size * sizeof *m.heap);
    }
    size_t count = 0;
    if (m.previous && m.heap) {
        m.next = m.previous + size;
        for (size_t i = 0; i < size; i++) ids[i] = v->byte_ids[(unsigned char)word[i]];
        ids[size - 1] += 256;
        count = merge_pairs(v, &m, size);
    }
    if (size > SHORT_WORD) {
        free(m.previous);
        free(m.heap);
    }
    return count;
}

/* --- the cache: a word is looked for, and later put, in a few slots behind its hash --- */

static const cached_word *find_cached(up_tokenizer *tokenizer, const char *word, size_t size, uint64_t hash) {
    for (size_t i = 0; i < CACHE_PROBES; i++) {
        const cached_word *found =
            atomic_load_explicit(&tokenizer->cache[(hash + i) & (CACHE_SLOTS - 1)], memory_order_acquire);
        if (!found) return NULL;
        if (found->length == size && !memcmp(found->ids + found->count, word, size)) return found;
    }
    return NULL;
}

/* Keep a word if one of its slots is free. Not a failure when it cannot be kept. */
static void keep_cached(up_tokenizer *tokenizer, const char *word, size_t size, uint64_t hash,
                        const int32_t *ids, size_t count) {
    size_t slot = 0;
    while (slot < CACHE_PROBES &&
           atomic_load_explicit(&tokenizer->cache[(hash + slot) & (CACHE_SLOTS - 1)], memory_order_relaxed))
        slot++;
    cached_word *kept = slot < CACHE_PROBES ? malloc(sizeof *kept + count * sizeof *ids + size) : NULL;
    if (!kept) return;
    kept->length = (uint16_t)size;
    kept->count = (uint16_t)count;
    memcpy(kept->ids, ids, count * sizeof *ids);
    memcpy(kept->ids + count, word, size);
    for (; slot < CACHE_PROBES; slot++) {
        cached_word *none = NULL;
        if (atomic_compare_exchange_strong_explicit(&tokenizer->cache[(hash + slot) & (CACHE_SLOTS - 1)],
                                                    &none, kept, memory_order_release, memory_order_relaxed))
            return;
    }
    free(kept);
}

/* --- the pattern --- */

typedef enum kind { LETTER, NUMBER, OTHER, NOTHING } kind;

/* Read one code point of cleaned text and tell its kind. U+0345, a mark whose capital is a letter, matches no
 * part of the case-blind pattern: nothing, like white space. */
static inline kind read_kind(const char *text, size_t size, size_t *used) {
    unsigned char byte = (unsigned char)text[0];
    uint32_t code;
    if (byte < 0x80) {
        *used = 1;
        if ((unsigned)(byte | 32) - 'a' < 26) return LETTER;
        if ((unsigned)byte - '0' < 10) return NUMBER;
        return up_is_space(byte) ? NOTHING : OTHER;
    }
    *used = up_utf8_read(text, size, &code);
    utf8proc_category_t category = utf8proc_category((int32_t)code);
    if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO) return LETTER;
    if (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO) return NUMBER;
    return code == 0x345 || up_is_space(code) ? NOTHING : OTHER;
}

/* How many bytes of `text` spell `form` when case is ignored: the text has no capitals any more, but the long
 * s (U+017F) is an s too. 0 if they do not. */
static size_t match_form(const char *form, const char *text, size_t size) {
    size_t n = 0;
    for (; *form; form++)
        if (n < size && text[n] == *form)
            n++;
        else if (*form == 's' && size - n >= 2 && !memcmp(text + n, "\xC5\xBF", 2))
            n += 2;
        else
            return 0;
    return n;
}

/* Cut the next word off: its bytes, its kind, and in *id the token if it is a special one's name, else -1. */
static size_t next_word(const char *text, size_t size, kind *word_kind, int32_t *id) {
    size_t length = 0, used;
    *id = -1;
    if (*text == '<' || *text == '\'')
        for (size_t i = 0; i < sizeof fixed_forms / sizeof fixed_forms[0]; i++) {
            size_t matched = match_form(fixed_forms[i].form, text, size);
            if (!matched) continue;
            *word_kind = OTHER;
            if (matched == strlen(fixed_forms[i].form)) *id = fixed_forms[i].id;
            return matched;
        }
    *word_kind = read_kind(text, size, &used);
    for (length = used; length < size && *word_kind != NUMBER; length += used)
        if (read_kind(text + length, size - length, &used) != *word_kind) break;
    return length;
}

/* Tokens of one word, at most `room` of them, into `ids`. *count becomes how many. */
static up_status put_word(up_tokenizer *tokenizer, const char *word, size_t size, int32_t *ids, size_t room,
                          size_t *count) {
    uint64_t hash = size <= CACHED_MOST ? up_hash_bytes(word, size) : 0;
    const cached_word *cached = size <= CACHED_MOST ? find_cached(tokenizer, word, size, hash) : NULL;
    if (cached) {
        *count = cached->count < room ? cached->count : room;
        for (size_t i = 0; i < *count; i++) ids[i] = cached->ids[i];
        return UP_OK;
    }
    int32_t few[SHORT_WORD], *made = size <= SHORT_WORD ? few : malloc(size * sizeof *made);
    size_t n = made ? encode_word(&tokenizer->vocabulary, word, size, made) : 0;
    *count = n < room ? n : room;
    for (size_t i = 0; i < *count; i++) ids[i] = made[i];
    if (n && size <= CACHED_MOST) keep_cached(tokenizer, word, size, hash, made, n);
    if (made != few) free(made);
    return n ? UP_OK : up_fail(UP_ERR_MEMORY, "text", "no memory to encode a word of %zu bytes", size);
}

/* Encode cleaned text until it ends or `ids` has `limit` tokens. */
static up_status encode(up_tokenizer *tokenizer, const char *text, size_t size, int32_t *ids, size_t limit,
                        size_t *count) {
    *count = 0;
    for (size_t i = 0; i < size && *count < limit;) {
        kind word_kind;
        int32_t id;
        size_t length = next_word(text + i, size - i, &word_kind, &id), added = 0;
        if (id >= 0) {
            ids[*count] = id;
            added = 1;
        } else if (word_kind != NOTHING)
            UP_TRY(put_word(tokenizer, text + i, length, ids + *count, limit - *count, &added));
        *count += added;
        i += length;
    }
    return UP_OK;
}

/* --- the public functions --- */

up_status up_tokenize(up_tokenizer *tokenizer, const char *text, size_t length, int32_t **ids,
                      size_t *count) {
    if (!tokenizer || !ids || !count) return up_fail(UP_ERR_ARGUMENT, "tokenize", "a pointer is NULL");
    char *cleaned;
    size_t size;
    *ids = NULL;
    *count = 0;
    UP_TRY(up_clean_text(text, length, &cleaned, &size));
    int32_t *made = malloc((size ? size : 1) * sizeof *made); /* a token spells at least one byte */
    up_status status = made ? encode(tokenizer, cleaned, size, made, size, count)
                            : up_fail(UP_ERR_MEMORY, "tokenize", "no memory for %zu tokens", size);
    free(cleaned);
    if (status == UP_OK && *count) *ids = realloc(made, *count * sizeof *made);
    if (!*ids) *ids = made; /* nothing to give back, or realloc kept the larger block */
    if (status == UP_OK) return UP_OK;
    free(made);
    *ids = NULL;
    *count = 0;
    return status;
}

up_status up_tokenize_closed(up_tokenizer *tokenizer, const char *text, size_t length, size_t limit,
                             int32_t *ids, size_t *count) {
    if (!tokenizer || !ids || !count) return up_fail(UP_ERR_ARGUMENT, "tokenize", "a pointer is NULL");
    if (!limit)
        return up_fail(UP_ERR_ARGUMENT, "tokenize", "a limit of 0 tokens leaves no room for the end token");
    char *cleaned;
    size_t size;
    UP_TRY(up_clean_text(text, length, &cleaned, &size));
    up_status status = encode(tokenizer, cleaned, size, ids, limit - 1, count);
    free(cleaned);
    if (status == UP_OK) ids[(*count)++] = UP_TOKEN_END;
    return status;
}

int up_token_ends_word(const up_tokenizer *tokenizer, int32_t id) {
    if (id >= UP_PLAIN_TOKENS && id < UP_VOCAB_SIZE) return 1;
    return id >= 0 && id < UP_PLAIN_TOKENS && tokenizer->vocabulary.tokens[id].ends;
}

/* Append the bytes of one token to `out` if it is not NULL; returns how many. */
static size_t spell(const up_vocabulary *v, int32_t id, char *out) {
    static const char *const special[] = {"<|startoftext|>", "<|endoftext|>", "<|mask|>", "<|gen|>",
                                          "<|spe|>"};
    const char *bytes = id >= UP_PLAIN_TOKENS ? special[id - UP_PLAIN_TOKENS] : v->bytes + v->tokens[id].at;
    size_t length = id >= UP_PLAIN_TOKENS ? strlen(bytes) : v->tokens[id].length;
    int ends = id < UP_PLAIN_TOKENS && v->tokens[id].ends;
    if (out) memcpy(out, bytes, length);
    if (out && ends) out[length] = ' ';
    return length + (size_t)ends;
}

up_status up_detokenize(const up_tokenizer *tokenizer, const int32_t *ids, size_t count, char **text) {
    if (!tokenizer || !text || (!ids && count))
        return up_fail(UP_ERR_ARGUMENT, "detokenize", "a pointer is NULL");
    size_t size = 0, written = 0, at = 0;
    *text = NULL;
    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= UP_VOCAB_SIZE)
            return up_fail(UP_ERR_ARGUMENT, "detokenize", "no token %d, they go from 0 to %d", ids[i],
                           UP_VOCAB_SIZE - 1);
        size += spell(&tokenizer->vocabulary, ids[i], NULL);
    }
    char *bytes = malloc(size + 1), *out = malloc(size * 3 + 1); /* U+FFFD has three bytes */
    if (!bytes || !out) {
        free(bytes);
        free(out);
        return up_fail(UP_ERR_MEMORY, "detokenize", "no memory for %zu bytes", size * 4 + 2);
    }
    for (size_t i = 0; i < count; i++) at += spell(&tokenizer->vocabulary, ids[i], bytes + at);
    while (size && bytes[size - 1] == ' ') size--;
    for (size_t i = 0; i < size;) {
        uint32_t code;
        i += up_utf8_read(bytes + i, size - i, &code);
        written +=
            up_utf8_write(code ? code : UP_REPLACEMENT, out + written); /* a NUL would end the string */
    }
    out[written] = 0;
    free(bytes);
    *text = out;
    return UP_OK;
}

/* bpe.c - the tokenizer: text, cleaned piece by piece (clean.c), is cut into words by the pattern below, each
 * word into the tokens of CLIP's byte-pair encoding (words.c; Radford et al. 2021).
 *
 *   <\|startoftext\|>|<\|endoftext\|>|<\|gen\|>|<\|spe\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+
 */
#include "data/clean.h"
#include "data/words.h"
#include "uniperceiver/text.h"
#include <utf8proc.h>

enum { SPARE = 512 }; /* tokens that a result may have room for beyond its own */

struct up_tokenizer {
    up_vocabulary vocabulary;
    up_words *words;
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
    up_status status = UP_OK;
    UP_GO(up_vocabulary_load(vocab_path, &tokenizer->vocabulary));
    tokenizer->words = up_words_create(&tokenizer->vocabulary);
    if (!tokenizer->words) UP_GO(up_fail(UP_ERR_MEMORY, "tokenizer", "no memory for its words"));
    *out = tokenizer;
done:
    if (status != UP_OK) up_tokenizer_free(tokenizer);
    return status;
}

void up_tokenizer_free(up_tokenizer *tokenizer) {
    if (!tokenizer) return;
    up_words_free(tokenizer->words);
    up_vocabulary_free(&tokenizer->vocabulary);
    free(tokenizer);
}

/* --- the pattern --- */

typedef enum kind { LETTER, NUMBER, OTHER, NOTHING } kind;

static inline int is_ascii_letter(unsigned char byte) {
    return (unsigned)(byte | 32) - 'a' < 26;
}

/* Read one code point of cleaned text and tell its kind. U+0345, a mark whose capital is a letter, matches no
 * part of the case-blind pattern: nothing, like white space. */
static inline kind read_kind(const char *text, size_t size, size_t *used) {
    unsigned char byte = (unsigned char)text[0];
    uint32_t code;
    if (byte < 0x80) {
        *used = 1;
        if (is_ascii_letter(byte)) return LETTER;
        if ((unsigned)byte - '0' < 10) return NUMBER;
        return up_is_space(byte) ? NOTHING : OTHER;
    }
    *used = up_utf8_read(text, size, &code);
    utf8proc_category_t category = utf8proc_category((int32_t)code);
    if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO) return LETTER;
    if (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO) return NUMBER;
    return code == 0x345 || up_is_space(code) ? NOTHING : OTHER;
}

/* How many bytes of `text` spell `form` when case is ignored. The long s (U+017F) is an s too. 0 if they do
 * not. */
static size_t match_form(const char *form, const char *text, size_t size) {
    size_t n = 0;
    for (; *form; form++) {
        char c = n < size ? text[n] : 0;
        if (c == *form || (is_ascii_letter((unsigned char)c) && (c | 32) == *form))
            n++;
        else if (*form == 's' && size - n >= 2 && !memcmp(text + n, "\xC5\xBF", 2))
            n += 2;
        else
            return 0;
    }
    return n;
}

/* A word cut off the text: its bytes, its kind, and the token if it is a special one's name, else -1. */
typedef struct word {
    size_t size;
    kind kind;
    int32_t id;
} word;

static word cut_word(const char *text, size_t size) {
    size_t used;
    if (*text == '<' || *text == '\'')
        for (size_t i = 0; i < sizeof fixed_forms / sizeof fixed_forms[0]; i++) {
            size_t matched = match_form(fixed_forms[i].form, text, size);
            if (!matched) continue;
            int whole = matched == strlen(fixed_forms[i].form);
            return (word){matched, OTHER, whole ? fixed_forms[i].id : -1};
        }
    word cut = {.kind = read_kind(text, size, &used), .id = -1};
    for (cut.size = used; cut.size < size && cut.kind != NUMBER; cut.size += used)
        if (read_kind(text + cut.size, size - cut.size, &used) != cut.kind) break;
    return cut;
}

/* The same word where it is a short one of ASCII letters, size 0 where it is not: most words are, and eight
 * bytes are looked at together. UP_WORD_SHORT bytes can be read. */
static inline size_t ascii_letters(const char *text) {
    for (size_t n = 0; n < UP_WORD_SHORT; n += 8) {
        uint64_t others = ~up_letter_bits(up_load_bytes(text + n)) & 0x80 * UP_EACH_BYTE;
        if (!others) continue;
        n += (size_t)__builtin_ctzll(others) / 8;
        return (unsigned char)text[n] < 0x80 ? n : 0;
    }
    return 0;
}

/* --- encoding --- */

static void start_tokens(up_tokens *out, int32_t *ids, size_t room) {
    out->ids = ids;
    out->count = 0;
    out->room = room;
    out->waiting = 0;
}

static void add_special(up_tokenizer *tokenizer, int32_t id, up_tokens *out) {
    up_words_finish(tokenizer->words, out);
    if (out->count < out->room) out->ids[out->count++] = id;
}

/* Encode the words that begin before `stop`, of a piece with at least UP_WORD_SHORT bytes behind that. *at
 * becomes where the next one begins. */
static up_status encode_until(up_tokenizer *tokenizer, const char *text, size_t size, size_t stop, size_t *at,
                              up_tokens *out) {
    size_t i = *at;
    while (i < stop && out->count < out->room) {
        size_t letters = ascii_letters(text + i);
        if (letters) {
            UP_TRY(up_words_add(tokenizer->words, text + i, letters, out));
            i += letters;
            i += text[i] == ' '; /* what mostly follows */
            continue;
        }
        word cut = cut_word(text + i, size - i);
        if (cut.id >= 0)
            add_special(tokenizer, cut.id, out);
        else if (cut.kind != NOTHING)
            UP_TRY(up_words_add(tokenizer->words, text + i, cut.size, out));
        i += cut.size;
    }
    *at = i;
    return UP_OK;
}

/* Encode a piece of the text. Its end is encoded from a copy that has spaces behind it. */
static up_status encode_piece(up_tokenizer *tokenizer, const char *text, size_t size, up_tokens *out) {
    char end[2 * UP_WORD_SHORT];
    size_t at = 0, from = 0;
    if (size > UP_WORD_SHORT) UP_TRY(encode_until(tokenizer, text, size, size - UP_WORD_SHORT, &at, out));
    if (at < size && out->count < out->room) {
        memset(end, ' ', sizeof end);
        memcpy(end, text + at, size - at);
        UP_TRY(encode_until(tokenizer, end, size - at, size - at, &from, out));
    }
    up_words_finish(tokenizer->words, out);
    return UP_OK;
}

/* --- the public functions --- */

/* Room for a piece, whose tokens spell at least one byte each, and for pieces like it up to the text's end.
 */
static up_status make_room(up_tokens *out, size_t piece, size_t rest) {
    if (out->ids && piece <= out->room - out->count) return UP_OK;
    size_t room = out->count + piece + rest + 1;
    int32_t *grown = realloc(out->ids, room * sizeof *grown);
    if (!grown) return up_fail(UP_ERR_MEMORY, "tokenize", "no memory for %zu tokens", room);
    out->ids = grown;
    out->room = room;
    return UP_OK;
}

static up_status encode_all(up_tokenizer *tokenizer, up_cleaner *cleaner, up_tokens *out) {
    const char *piece;
    size_t size;
    do {
        UP_TRY(up_cleaner_next(cleaner, &piece, &size));
        UP_TRY(make_room(out, size, cleaner->size - cleaner->at));
        UP_TRY(encode_piece(tokenizer, piece, size, out));
    } while (piece);
    return UP_OK;
}

up_status up_tokenize(up_tokenizer *tokenizer, const char *text, size_t length, int32_t **ids,
                      size_t *count) {
    if (!tokenizer || !ids || !count) return up_fail(UP_ERR_ARGUMENT, "tokenize", "a pointer is NULL");
    *ids = NULL;
    *count = 0;
    UP_TRY(up_check_text(text, length));
    up_cleaner cleaner = up_cleaner_make(text, length);
    up_tokens out;
    start_tokens(&out, NULL, 0);
    up_status status = encode_all(tokenizer, &cleaner, &out);
    up_cleaner_free(&cleaner);
    if (status != UP_OK) {
        free(out.ids);
        return status;
    }
    int wasteful = out.room - out.count > SPARE; /* giving back less costs more time than it is worth */
    int32_t *fitting = out.count && wasteful ? realloc(out.ids, out.count * sizeof *fitting) : NULL;
    *ids = fitting ? fitting : out.ids;
    *count = out.count;
    return UP_OK;
}

up_status up_tokenize_closed(up_tokenizer *tokenizer, const char *text, size_t length, size_t limit,
                             int32_t *ids, size_t *count) {
    if (!tokenizer || !ids || !count) return up_fail(UP_ERR_ARGUMENT, "tokenize", "a pointer is NULL");
    if (!limit)
        return up_fail(UP_ERR_ARGUMENT, "tokenize", "a limit of 0 tokens leaves no room for the end token");
    UP_TRY(up_check_text(text, length));
    up_cleaner cleaner = up_cleaner_make(text, length);
    up_tokens out;
    start_tokens(&out, ids, limit - 1);
    const char *piece = text;
    size_t size;
    up_status status = UP_OK;
    while (piece && out.count < out.room) {
        UP_GO(up_cleaner_next(&cleaner, &piece, &size));
        UP_GO(encode_piece(tokenizer, piece, size, &out));
    }
done:
    up_cleaner_free(&cleaner);
    if (status != UP_OK) return status;
    *count = out.count;
    ids[(*count)++] = UP_TOKEN_END;
    return UP_OK;
}

int up_token_ends_word(const up_tokenizer *tokenizer, int32_t id) {
    if (!tokenizer) return 0;
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

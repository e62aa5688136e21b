/* text.h - text <-> token ids: CLIP's byte-pair encoding with the rules of the released models.
 *
 * Ids: 0..255 bytes, 256..511 bytes that end a word ("</w>"), 512.. merges, then the five special tokens
 * below (48,894 merges are used, so the vocabulary has 49,411 entries). Source: Radford et al. 2021 (CLIP);
 * paper appendix A.
 */
#ifndef UNIPERCEIVER_TEXT_H
#define UNIPERCEIVER_TEXT_H

#include "uniperceiver/status.h"
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    UP_TOKEN_START = 49406, /* <|startoftext|> */
    UP_TOKEN_END = 49407,   /* <|endoftext|>: closes every text */
    UP_TOKEN_MASK = 49408,  /* <|mask|>: in the vocabulary, not used by the model */
    UP_TOKEN_GEN = 49409,   /* <|gen|> */
    UP_TOKEN_SPE = 49410,   /* <|spe|>: the paper's <SPE> */
    UP_VOCAB_SIZE = 49411
};

typedef struct up_tokenizer up_tokenizer;

/* Create a tokenizer. `vocab_path`: a gzip or plain file of merges in CLIP's format (one pair a line after a
 * header line), or NULL for the vocabulary that is compiled in. Free with up_tokenizer_free (NULL is fine).
 * One tokenizer may be used by several threads at once. */
UP_API up_status up_tokenizer_create(const char *vocab_path, up_tokenizer **out);
UP_API void up_tokenizer_free(up_tokenizer *tokenizer);

/* Clean `text` (any bytes, `length` of them; invalid UTF-8 becomes U+FFFD) and encode it.
 * No special token is added; the names of special tokens that the pattern knows are recognised in the text.
 * *ids is allocated with malloc and becomes the caller's; *count may be 0 (then *ids may be NULL). */
UP_API up_status up_tokenize(up_tokenizer *tokenizer, const char *text, size_t length, int32_t **ids,
                             size_t *count);

/* As up_tokenize, then close with UP_TOKEN_END: at most `limit` (>= 1) ids in all; a longer text keeps its
 * first limit-1 tokens and the end token. Writes into `ids` (room for `limit`) and sets *count. */
UP_API up_status up_tokenize_closed(up_tokenizer *tokenizer, const char *text, size_t length, size_t limit,
                                    int32_t *ids, size_t *count);

/* For whole-word masking: 1 where the token `id` ends a word ("</w>") or is special, else 0. */
UP_API int up_token_ends_word(const up_tokenizer *tokenizer, int32_t id);

/* Decode ids to text: bytes joined, "</w>" turned into a space, the result NUL-terminated UTF-8 with invalid
 * bytes replaced by U+FFFD and no trailing space. Special tokens print as their names. *text is malloc'ed,
 * the caller's. */
UP_API up_status up_detokenize(const up_tokenizer *tokenizer, const int32_t *ids, size_t count, char **text);

/* The cleaning step alone (character repair, HTML entities twice, white space, lower case); malloc'ed,
 * NUL-terminated. */
UP_API up_status up_clean_text(const char *text, size_t length, char **cleaned, size_t *cleaned_length);

#ifdef __cplusplus
}
#endif
#endif

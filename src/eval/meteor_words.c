/* meteor_words.c - METEOR 1.5's normalisation of English (its option -norm), as far as it changes the words
 * of up_ptb_tokenize: hyphens between letters part words, signs stand alone, "p.m." is "pm", "n't" is "n" and
 * "'t". */
#include "eval/meteor_words.h"

#include <stdlib.h>
#include <string.h>

static int is_digit(char c) {
    return c >= '0' && c <= '9';
}

static int is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c & 0x80);
}

static int is_alnum(char c) {
    return is_letter(c) || is_digit(c);
}

/* u.s. */
static int is_acronym(const char *s, size_t size) {
    if (size < 4 || size % 2) return 0;
    for (size_t i = 0; i < size; i += 2)
        if (!is_letter(s[i]) || s[i + 1] != '.') return 0;
    return 1;
}

/* Where a word is cut around the sign at i. */
typedef struct cuts {
    int before, behind, dropped;
} cuts;

static cuts cuts_at(const char *s, size_t size, size_t i) {
    char last = i ? s[i - 1] : 0, next = i + 1 < size ? s[i + 1] : 0;
    if (is_alnum(s[i]) || s[i] == '.' || s[i] == '`') return (cuts){0, 0, 0};
    if (s[i] == ',') return is_digit(last) && is_digit(next) ? (cuts){0, 0, 0} : (cuts){1, 1, 0};
    if (s[i] == '-') return is_alnum(last) && is_alnum(next) ? (cuts){1, 1, 1} : (cuts){0, 0, 0};
    if (s[i] == '\'') return is_letter(last) && is_letter(next) ? (cuts){1, 0, 0} : (cuts){1, 1, 0};
    return (cuts){1, 1, 0};
}

/* Words that are being put together. */
typedef struct pieces {
    up_corpus *out;
    up_phrase *phrase;
} pieces;

static up_status put(pieces *p, const char *s, size_t size) {
    if (!size || p->phrase->count == UP_CAPTION_WORDS) return UP_OK;
    return up_lexicon_add(&p->out->lexicon, s, size, &p->phrase->words[p->phrase->count++]);
}

static up_status put_acronym(pieces *p, const char *s, size_t size) {
    char *letters = malloc(size);
    if (!letters) return up_fail(UP_ERR_MEMORY, "METEOR", "a word of %zu bytes", size);
    for (size_t i = 0; i < size / 2; i++) letters[i] = s[2 * i];
    up_status status = put(p, letters, size / 2);
    free(letters);
    return status;
}

static up_status put_word(pieces *p, const char *s, int is_last) {
    size_t size = strlen(s), first = 0;
    if (is_acronym(s, size)) return put_acronym(p, s, size);
    int dot = is_last && size > 1 && s[size - 1] == '.';
    size -= (size_t)dot;
    for (size_t i = 0; i < size; i++) {
        cuts c = cuts_at(s, size, i);
        if (c.before) {
            UP_TRY(put(p, s + first, i - first));
            first = i;
        }
        if (c.dropped) first = i + 1;
        if (c.behind && !c.dropped) {
            UP_TRY(put(p, s + first, i + 1 - first));
            first = i + 1;
        }
    }
    UP_TRY(put(p, s + first, size - first));
    return dot ? put(p, ".", 1) : UP_OK;
}

static up_status put_phrase(const up_corpus *c, const up_phrase *from, up_corpus *out, up_phrase *to) {
    *to = (up_phrase){malloc((UP_CAPTION_WORDS + 1) * sizeof *to->words), 0};
    if (!to->words) return up_fail(UP_ERR_MEMORY, "METEOR", "%d words wanted", UP_CAPTION_WORDS);
    pieces p = {out, to};
    for (size_t i = 0; i < from->count; i++)
        UP_TRY(put_word(&p, c->lexicon.words[from->words[i]], i + 1 == from->count));
    int32_t *less = realloc(to->words, (to->count + 1) * sizeof *less);
    if (less) to->words = less;
    return UP_OK;
}

up_status up_meteor_words(const up_corpus *c, up_corpus *out) {
    *out = (up_corpus){0};
    for (size_t i = 0; i < c->count; i++) {
        const up_captioned *from = &c->pictures[i];
        size_t picture;
        UP_TRY(up_corpus_add_picture(out, &picture));
        up_captioned *to = &out->pictures[picture];
        UP_TRY(put_phrase(c, &from->candidate, out, &to->candidate));
        to->references = calloc(from->reference_count + 1, sizeof *to->references);
        if (!to->references) return up_fail(UP_ERR_MEMORY, "METEOR", "%zu references", from->reference_count);
        for (size_t k = 0; k < from->reference_count; k++) {
            to->reference_count++;
            UP_TRY(put_phrase(c, &from->references[k], out, &to->references[k]));
        }
    }
    return UP_OK;
}

/* corpus.c - captions to numbers of words, and their n-grams counted by sorting. */
#include "eval/corpus.h"
#include "eval/ptb.h"

#include <stdlib.h>
#include <string.h>

up_status up_corpus_add_picture(up_corpus *c, size_t *picture) {
    if (c->count == c->room) {
        size_t room = c->room ? 2 * c->room : 64;
        up_captioned *grown = realloc(c->pictures, room * sizeof *grown);
        if (!grown) return up_fail(UP_ERR_MEMORY, "captions", "%zu pictures wanted", room);
        c->pictures = grown;
        c->room = room;
    }
    c->pictures[c->count] = (up_captioned){0};
    *picture = c->count++;
    return UP_OK;
}

/* The words of a text between single spaces; an empty text has none. */
static up_status split(up_corpus *c, const char *text, up_phrase *out) {
    size_t count = *text != 0;
    for (const char *at = text; *at; at++) count += *at == ' ';
    if (count > UP_CAPTION_WORDS)
        return up_fail(UP_ERR_FORMAT, "caption", "%zu words: at most %d are compared", count,
                       UP_CAPTION_WORDS);
    out->words = malloc((count + 1) * sizeof *out->words);
    if (!out->words) return up_fail(UP_ERR_MEMORY, "caption", "%zu words wanted", count);
    for (const char *at = text; out->count < count; out->count++) {
        size_t size = strcspn(at, " ");
        up_status status = up_lexicon_add(&c->lexicon, at, size, &out->words[out->count]);
        if (status != UP_OK) {
            free(out->words);
            *out = (up_phrase){0};
            return status;
        }
        at += size + 1;
    }
    return UP_OK;
}

static up_status phrase_of(up_corpus *c, const char *text, size_t size, up_phrase *out) {
    char *words = NULL;
    *out = (up_phrase){0};
    if (!c->tokenized) UP_TRY(up_ptb_tokenize(text, size, &words));
    if (c->tokenized) words = strndup(text, size);
    if (!words) return up_fail(UP_ERR_MEMORY, "caption", "no memory for %zu bytes", size);
    up_status status = split(c, words, out);
    free(words);
    return status;
}

up_status up_corpus_set_candidate(up_corpus *c, size_t picture, const char *text, size_t size) {
    up_phrase phrase;
    UP_TRY(phrase_of(c, text, size, &phrase));
    free(c->pictures[picture].candidate.words);
    c->pictures[picture].candidate = phrase;
    return UP_OK;
}

up_status up_corpus_add_reference(up_corpus *c, size_t picture, const char *text, size_t size) {
    up_captioned *p = &c->pictures[picture];
    up_phrase phrase;
    up_phrase *grown = realloc(p->references, (p->reference_count + 1) * sizeof *grown);
    if (!grown) return up_fail(UP_ERR_MEMORY, "captions", "%zu references wanted", p->reference_count + 1);
    p->references = grown;
    UP_TRY(phrase_of(c, text, size, &phrase));
    p->references[p->reference_count++] = phrase;
    return UP_OK;
}

void up_corpus_free(up_corpus *c) {
    for (size_t i = 0; i < c->count; i++) {
        up_captioned *p = &c->pictures[i];
        for (size_t k = 0; k < p->reference_count; k++) free(p->references[k].words);
        free(p->references);
        free(p->candidate.words);
    }
    free(c->pictures);
    up_lexicon_free(&c->lexicon);
    *c = (up_corpus){0};
}

int up_ngram_compare(const void *a, const void *b) {
    const up_ngram *x = a, *y = b;
    return memcmp(x->words, y->words, sizeof x->words);
}

up_status up_ngrams_count(const up_phrase *p, up_ngrams *out) {
    up_ngram *list = malloc((p->count * UP_NGRAM + 1) * sizeof *list);
    size_t all = 0;
    *out = (up_ngrams){0};
    if (!list) return up_fail(UP_ERR_MEMORY, "n-grams", "those of %zu words wanted", p->count);
    for (size_t first = 0; first < p->count; first++)
        for (size_t length = 1; length <= UP_NGRAM && first + length <= p->count; length++) {
            up_ngram *own = &list[all++];
            *own = (up_ngram){{-1, -1, -1, -1}, (int32_t)length, 1};
            memcpy(own->words, p->words + first, length * sizeof *p->words);
        }
    qsort(list, all, sizeof *list, up_ngram_compare);
    out->list = list;
    for (size_t i = 0; i < all; i++)
        if (out->count && !up_ngram_compare(&list[out->count - 1], &list[i]))
            list[out->count - 1].times++;
        else
            list[out->count++] = list[i];
    return UP_OK;
}

void up_ngrams_free(up_ngrams *n) {
    free(n->list);
    *n = (up_ngrams){0};
}

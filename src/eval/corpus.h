/* corpus.h - what caption metrics compare: pictures, each with a candidate caption and several references, as
 * numbers of words. */
#ifndef UP_EVAL_CORPUS_H
#define UP_EVAL_CORPUS_H

#include "data/lexicon.h"

enum {
    UP_CAPTION_WORDS = 1024, /* the most of one caption: alignments take the product of two lengths */
    UP_NGRAM = 4             /* the longest sequence of words that is counted */
};

typedef struct up_phrase {
    int32_t *words; /* [count] numbers in the corpus' lexicon */
    size_t count;
} up_phrase;

typedef struct up_captioned {
    up_phrase candidate;
    up_phrase *references;
    size_t reference_count;
} up_captioned;

typedef struct up_corpus {
    int tokenized; /* captions are words between single spaces, taken as they are; otherwise up_ptb_tokenize
                    */
    up_lexicon lexicon;
    up_captioned *pictures;
    size_t count, room;
} up_corpus;

/* A zeroed corpus is empty. A new picture has an empty candidate and no references. */
up_status up_corpus_add_picture(up_corpus *corpus, size_t *picture);
/* A later candidate takes the place of an earlier one. */
up_status up_corpus_set_candidate(up_corpus *corpus, size_t picture, const char *text, size_t size);
up_status up_corpus_add_reference(up_corpus *corpus, size_t picture, const char *text, size_t size);
void up_corpus_free(up_corpus *corpus);

/* How often a caption has a sequence of up to UP_NGRAM words. */
typedef struct up_ngram {
    int32_t words[UP_NGRAM]; /* behind its end: -1 */
    int32_t length, times;
} up_ngram;
typedef struct up_ngrams {
    up_ngram *list; /* in the order of up_ngram_compare, each once */
    size_t count;
} up_ngrams;

int up_ngram_compare(const void *a, const void *b);
up_status up_ngrams_count(const up_phrase *phrase, up_ngrams *out);
void up_ngrams_free(up_ngrams *ngrams);

#endif

/* wordnet.h - Princeton's WordNet 3.0 from its own files (wndb(5WN), Debian: wordnet-base): the senses of a
 * word and its base forms. The files are read once and searched where they lie. */
#ifndef UP_EVAL_WORDNET_H
#define UP_EVAL_WORDNET_H

#include "uniperceiver/status.h"

#include <stddef.h>
#include <stdint.h>

#define UP_WORDNET_FOLDER "/usr/share/wordnet"

typedef enum up_word_class { UP_NOUN, UP_VERB, UP_ADJECTIVE, UP_ADVERB, UP_WORD_CLASSES } up_word_class;

typedef struct up_wordnet {
    struct {
        char *index, *exceptions; /* whole files */
        size_t index_size, exceptions_size;
    } of[UP_WORD_CLASSES];
} up_wordnet;

/* A missing file is an error that names the package. */
up_status up_wordnet_open(const char *folder, up_wordnet *out);
void up_wordnet_close(up_wordnet *wordnet);

/* The senses of a word and of its base forms in one class, or in all: sorted, each once, malloc'ed. A sense
 * is its class and its place in that class' file. Words of an expression are joined by '_'. */
typedef struct up_senses {
    uint64_t *list;
    size_t count;
} up_senses;
up_status up_wordnet_senses(const up_wordnet *wordnet, const char *word, up_senses *out);
up_status up_wordnet_senses_as(const up_wordnet *wordnet, const char *word, up_word_class as, up_senses *out);
int up_senses_meet(const up_senses *a, const up_senses *b);
void up_senses_free(up_senses *senses);

/* The base form of a word in a class: itself, or what its endings and the exceptions lead to ("men": "man");
 * "" where the class does not have it. */
enum { UP_WORD_BYTES = 64 };
void up_wordnet_base(const up_wordnet *wordnet, const char *word, up_word_class as, char out[UP_WORD_BYTES]);

#endif

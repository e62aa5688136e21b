/* meteor_words.h - captions as METEOR cuts them, who normalises the words that a tokenizer has made once
 * more. */
#ifndef UP_EVAL_METEOR_WORDS_H
#define UP_EVAL_METEOR_WORDS_H

#include "eval/corpus.h"

/* The same captions in other words; a caption keeps at most UP_CAPTION_WORDS of them. Free with
 * up_corpus_free, also after a failure. */
up_status up_meteor_words(const up_corpus *corpus, up_corpus *out);

#endif

/* ptb.h - words of a caption as the COCO caption tools see them: the Penn Treebank's rules in the form of the
 * Stanford tokenizer (version 3.4.1, small letters), then their list of punctuation left out. */
#ifndef UP_EVAL_PTB_H
#define UP_EVAL_PTB_H

#include "uniperceiver/status.h"

#include <stddef.h>

/* *words: malloc'ed, words between single spaces. What is not UTF-8 separates words and is dropped. */
up_status up_ptb_tokenize(const char *text, size_t size, char **words);

#endif

/* released.h - the authors' released models: their PyTorch checkpoints become model files of this program,
 * and back. Names and shapes are a table (released.c); docs/file-formats.md shows it. */
#ifndef UP_FILES_RELEASED_H
#define UP_FILES_RELEASED_H

#include "uniperceiver/model.h"

/* From a checkpoint of PyTorch, or from safetensors of the same names where `from` ends so. Sizes are those
 * of the tensors; heads 0: width / 64; image_size 0: the grid that the file has, another one resizes its
 * position table. Tensors that are missing, unexpected or of another shape are named. */
typedef struct up_released_options {
    int image_size, heads;
} up_released_options;
up_status up_released_import(const char *from, const up_released_options *options, const char *to);

/* To a checkpoint of PyTorch, or to safetensors of the same names where `to` ends so. A model whose
 * architecture is not the released one's, prompts and a linear head are refused. */
up_status up_released_export(const char *from, const char *to);

#endif

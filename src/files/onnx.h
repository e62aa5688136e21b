/* onnx.h - a model's encoder as an ONNX graph (opset 17), for other runtimes: one input, features of
 * length 1. */
#ifndef UP_FILES_ONNX_H
#define UP_FILES_ONNX_H

#include "uniperceiver/status.h"

typedef enum up_onnx_input {
    UP_ONNX_TEXT,  /* ids: int64 [batch, tokens], <|endoftext|> at the end of each */
    UP_ONNX_IMAGE, /* pixels: f32 [batch, 3, S, S], normalised as the model wants them */
} up_onnx_input;

/* `from` is a model file, `to` the graph with its weights; its output is features: f32 [batch, D]. Prompts
 * are refused, a linear head is left out. */
up_status up_onnx_export(const char *from, up_onnx_input input, const char *to);

#endif

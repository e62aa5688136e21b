/* onnx_bytes.h - ONNX's messages as bytes: the little of protocol buffers that a graph needs
 * (onnx/onnx.proto has the numbers of the fields). */
#ifndef UP_FILES_ONNX_BYTES_H
#define UP_FILES_ONNX_BYTES_H

#include <stddef.h>
#include <stdint.h>

/* Grows as it is written; after a failed allocation it stays as it is and `failed` is 1. */
typedef struct up_onnx_bytes {
    uint8_t *data;
    size_t used, room;
    int failed;
} up_onnx_bytes;

void up_onnx_number(up_onnx_bytes *b, int field, int64_t value);
void up_onnx_float(up_onnx_bytes *b, int field, float value);
void up_onnx_block(up_onnx_bytes *b, int field, const void *data, size_t size);
void up_onnx_text(up_onnx_bytes *b, int field, const char *text);
/* A message in a message; the inner one is freed. */
void up_onnx_message(up_onnx_bytes *b, int field, up_onnx_bytes *inner);

#endif

/* onnx_bytes.c - fields of protocol buffers: a key (number and wire type), then the value. */
#include "files/onnx_bytes.h"

#include <stdlib.h>
#include <string.h>

enum { VARINT = 0, BLOCK = 2, FIXED32 = 5 };

static void put(up_onnx_bytes *b, const void *data, size_t size) {
    if (b->failed || !size) return;
    if (size > b->room - b->used) {
        size_t room = 2 * b->room > b->used + size ? 2 * b->room : b->used + size;
        uint8_t *grown = realloc(b->data, room);
        if (!grown) {
            b->failed = 1;
            return;
        }
        b->data = grown;
        b->room = room;
    }
    memcpy(b->data + b->used, data, size);
    b->used += size;
}

static void put_varint(up_onnx_bytes *b, uint64_t value) {
    uint8_t out[10];
    size_t n = 0;
    for (; value >= 0x80; value >>= 7) out[n++] = (uint8_t)(value | 0x80);
    out[n++] = (uint8_t)value;
    put(b, out, n);
}

static void put_key(up_onnx_bytes *b, int field, int wire) {
    put_varint(b, (uint64_t)field << 3 | (uint64_t)wire);
}

void up_onnx_number(up_onnx_bytes *b, int field, int64_t value) {
    put_key(b, field, VARINT);
    put_varint(b, (uint64_t)value);
}

void up_onnx_float(up_onnx_bytes *b, int field, float value) {
    put_key(b, field, FIXED32);
    put(b, &value, sizeof value); /* little endian, as this program's files are */
}

void up_onnx_block(up_onnx_bytes *b, int field, const void *data, size_t size) {
    put_key(b, field, BLOCK);
    put_varint(b, size);
    put(b, data, size);
}

void up_onnx_text(up_onnx_bytes *b, int field, const char *text) {
    up_onnx_block(b, field, text, strlen(text));
}

void up_onnx_message(up_onnx_bytes *b, int field, up_onnx_bytes *inner) {
    up_onnx_block(b, field, inner->data, inner->used);
    b->failed |= inner->failed;
    free(inner->data);
    *inner = (up_onnx_bytes){0};
}

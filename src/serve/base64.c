/* base64.c - four letters of 6 bits are three bytes. */
#include "serve/base64.h"

#include <stdint.h>

/* 64: no letter of the alphabet. */
static unsigned value_of(char c) {
    if (c >= 'A' && c <= 'Z') return (unsigned)(c - 'A');
    if (c >= 'a' && c <= 'z') return (unsigned)(c - 'a') + 26;
    if (c >= '0' && c <= '9') return (unsigned)(c - '0') + 52;
    if (c == '+') return 62;
    return c == '/' ? 63 : 64;
}

up_status up_base64_decode(const char *name, const char *text, size_t length, unsigned char *out,
                           size_t *size) {
    uint32_t bits = 0;
    int held = 0; /* bits that are not yet bytes */
    *size = 0;
    size_t end = length;
    if (length % 4 == 0 && end && text[end - 1] == '=') end--;
    if (length % 4 == 0 && end < length && text[end - 1] == '=') end--;
    for (size_t i = 0; i < end; i++) {
        unsigned value = value_of(text[i]);
        if (value > 63) return up_fail(UP_ERR_FORMAT, name, "not base64: letter %zu", i);
        bits = bits << 6 | value;
        held += 6;
        if (held < 8) continue;
        held -= 8;
        out[(*size)++] = (unsigned char)(bits >> held);
        bits &= (1U << held) - 1;
    }
    if (held >= 6 || bits) return up_fail(UP_ERR_FORMAT, name, "not base64: its end is cut off");
    return UP_OK;
}

/* codes.h - a growing array of code points, and the way in and out of UTF-8. */
#ifndef UP_DATA_CODES_H
#define UP_DATA_CODES_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { UP_REPLACEMENT = 0xFFFD };

/* Zero it to begin. When memory runs out, `failed` stays set and further additions do nothing: check once, at
 * the end. */
typedef struct up_codes {
    uint32_t *at;
    size_t count, room;
    int failed;
} up_codes;

/* Room for `more` further code points; 0 when there is none to be had. */
static inline int up_codes_reserve(up_codes *codes, size_t more) {
    if (more <= codes->room - codes->count) return !codes->failed;
    size_t room = codes->count + more < 64 ? 64 : codes->count + more;
    if (room < codes->room * 2) room = codes->room * 2;
    uint32_t *grown = room < SIZE_MAX / sizeof *grown ? realloc(codes->at, room * sizeof *grown) : NULL;
    if (!grown) {
        codes->failed = 1;
        return 0;
    }
    codes->at = grown;
    codes->room = room;
    return !codes->failed;
}

static inline void up_codes_push(up_codes *codes, uint32_t code) {
    if (codes->count < codes->room || up_codes_reserve(codes, 1)) codes->at[codes->count++] = code;
}

static inline void up_codes_append(up_codes *codes, const uint32_t *from, size_t count) {
    if (!count || !up_codes_reserve(codes, count)) return;
    memcpy(codes->at + codes->count, from, count * sizeof *from);
    codes->count += count;
}

/* Read one code point of the `size` >= 1 bytes at `text` into *code; returns the bytes consumed. What is not
 * UTF-8 (overlong forms, surrogates and values over U+10FFFF included) gives U+FFFD for each maximal part of
 * a sequence, the practice that the Unicode standard recommends (section 3.9) and Python follows. */
static inline size_t up_utf8_read(const char *text, size_t size, uint32_t *code) {
    const unsigned char *byte = (const unsigned char *)text;
    unsigned lead = byte[0];
    if (lead < 0x80) return *code = lead, 1;
    size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    unsigned least = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80; /* of the second byte */
    unsigned most = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    *code = UP_REPLACEMENT;
    if (lead < 0xC2 || lead > 0xF4) return 1;
    uint32_t value = lead & (0x7Fu >> length);
    for (size_t i = 1; i < length; i++, least = 0x80, most = 0xBF) {
        if (i >= size || byte[i] < least || byte[i] > most) return i;
        value = value << 6 | (byte[i] & 0x3F);
    }
    *code = value;
    return length;
}

/* Write a code point (a valid one) as UTF-8; returns its 1..4 bytes. */
static inline size_t up_utf8_write(uint32_t code, char *out) {
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t length = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--, code >>= 6) out[i] = (char)(0x80 | (code & 0x3F));
    out[0] = (char)(0xF00u >> length | code);
    return length;
}

/* Append the code points of well-formed or broken UTF-8. */
static inline void up_codes_read(up_codes *codes, const char *text, size_t size) {
    if (!size || !up_codes_reserve(codes, size)) return;
    for (size_t i = 0; i < size;) i += up_utf8_read(text + i, size - i, &codes->at[codes->count++]);
}

/* White space as \s of a pattern and Python's strip see it (property White_Space; U+001C..1F never get this
 * far). */
static inline int up_is_space(uint32_t code) {
    if (code < 0x80) return code == ' ' || (code >= '\t' && code <= '\r');
    return code == 0x85 || code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) ||
           code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

#endif

/* json.c - jansson behind few functions. json_dumps is not used: when memory runs out it may drop words from
 * the middle of its text (its buffer's failures are ignored). */
#include "files/json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* Where an allocation fails while it reads, jansson reports that, reports nothing, or goes on with a word
 * that lacks letters. errno knows, and then the text is read once more. (It may know of an allocation that
 * was tried again with success; so what the second reading gives is taken.) */
up_status up_json_read(const char *what, const char *text, size_t size, size_t flags, json_t **out) {
    json_error_t error = {0};
    *out = NULL;
    for (int attempt = 0; attempt < 2; attempt++) {
        json_decref(*out);
        errno = 0;
        *out = json_loadb(text, size, flags, &error);
        if (errno != ENOMEM) break;
    }
    if (*out) return UP_OK;
    if (errno == ENOMEM || !error.text[0] || json_error_code(&error) == json_error_out_of_memory)
        return up_fail(UP_ERR_MEMORY, what, "no memory for its JSON of %zu bytes", size);
    return up_fail(UP_ERR_FORMAT, what, "not sound JSON: %s", error.text);
}

up_status up_json_write(const char *what, const json_t *value, size_t flags, char **text, size_t *length) {
    *length = value ? json_dumpb(value, NULL, 0, flags) : 0;
    *text = *length ? malloc(*length + 1) : NULL;
    if (!*text || json_dumpb(value, *text, *length, flags) != *length) {
        free(*text);
        *text = NULL;
        *length = 0;
        return up_fail(UP_ERR_MEMORY, what, "no memory for its JSON");
    }
    (*text)[*length] = 0;
    return UP_OK;
}

/* --- names --- */

/* U+FDD0 + 0..31 is three bytes of UTF-8, EF B7 90 + 0..31: the first of a pair is 0..15, the second 16..31.
 */
static char *put_byte(char *out, unsigned char byte) {
    const unsigned halves[] = {byte >> 4, 16 + (byte & 15u)};
    for (int i = 0; i < 2; i++) {
        *out++ = '\xef';
        *out++ = '\xb7';
        *out++ = (char)(0x90 + halves[i]);
    }
    return out;
}

/* How many of the bytes are a character that stands for itself; 0: the first is to be escaped. */
static size_t plain(const char *at) {
    utf8proc_int32_t code;
    utf8proc_ssize_t length = utf8proc_iterate((const utf8proc_uint8_t *)at, -1, &code);
    return length < 1 || (code >= 0xfdd0 && code <= 0xfdef) ? 0 : (size_t)length;
}

json_t *up_json_bytes(const char *name) {
    char *text = malloc(6 * strlen(name) + 1), *out = text;
    if (!text) return NULL;
    while (*name) {
        size_t length = plain(name);
        if (length) {
            memcpy(out, name, length);
            out += length;
            name += length;
        } else {
            out = put_byte(out, (unsigned char)*name++);
        }
    }
    *out = 0;
    json_t *value = json_string_nocheck(text);
    free(text);
    return value;
}

/* A pair and the escape have six bytes each. */
void up_json_restore_bytes(char *text) {
    while ((text = strstr(text, "\xef\xb7"))) {
        unsigned high = (unsigned char)text[2] - 0x90u;
        unsigned low = high < 16 && !memcmp(text + 3, "\xef\xb7", 2) ? (unsigned char)text[5] - 0xa0u : 16;
        if (low < 16) {
            char escape[8];
            snprintf(escape, sizeof escape, "\\udc%x%x", high, low);
            memcpy(text, escape, 6);
        }
        text += low < 16 ? 6 : 3;
    }
}

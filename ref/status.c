/* status.c - the message behind an up_status: one fixed buffer for each thread, so that reporting an error
 * never allocates; what it quotes of files and names cannot steer a terminal. Part of ref/ because the
 * definition must stand alone. */
#include "uniperceiver/status.h"
#include "ref/given.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char last_error[1024];

/* Bytes of the character that begins `text`, 0 where there is no sound UTF-8 or it would steer a terminal. */
static size_t shown(const unsigned char *text, size_t size) {
    unsigned char first = text[0];
    size_t length = first < 0x80   ? 1
                    : first < 0xc2 ? 0
                    : first < 0xe0 ? 2
                    : first < 0xf0 ? 3
                    : first < 0xf5 ? 4
                                   : 0;
    if (!length || length > size || first < 0x20 || first == 0x7f) return 0;
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xc0) != 0x80) return 0;
    unsigned char second = length > 1 ? text[1] : 0;
    if (first == 0xc2 && second < 0xa0) return 0; /* U+0080 to U+009F: controls */
    if ((first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90)) return 0; /* too long a form */
    if ((first == 0xed && second >= 0xa0) || (first == 0xf4 && second >= 0x90)) return 0; /* no character */
    return length;
}

size_t up_printable(const char *text, size_t size, char *out, size_t room) {
    if (!out || !room) return 0;
    if (!text) size = 0;
    static const char digits[] = "0123456789abcdef";
    size_t used = 0;
    for (size_t i = 0; i < size;) {
        const unsigned char *at = (const unsigned char *)text + i;
        int space = *at == '\n' || *at == '\r' || *at == '\t';
        size_t length = space ? 1 : shown(at, size - i);
        if (used + (length ? length : 4) >= room) break;
        const char escaped[4] = {'\\', 'x', digits[*at >> 4], digits[*at & 15]};
        memcpy(out + used, space ? " " : length ? text + i : escaped, length ? length : 4);
        used += length ? length : 4;
        i += length ? length : 1;
    }
    if (room) out[used] = 0;
    return used;
}

up_status up_fail(up_status code, const char *what, const char *why_format, ...) {
    char why[768], line[sizeof last_error];
    va_list args;
    va_start(args, why_format);
    vsnprintf(why, sizeof why, why_format ? why_format : "no reason is given", args);
    va_end(args);
    snprintf(line, sizeof line, "%s: %s", what ? what : "something", why);
    return up_fail_again(code, line);
}

up_status up_fail_again(up_status code, const char *message) {
    if (!message) message = up_status_name(code);
    up_printable(message, strlen(message), last_error, sizeof last_error);
    return code;
}

const char *up_last_error(void) {
    return last_error;
}

const char *up_status_name(up_status code) {
    switch (code) {
    case UP_OK:
        return "ok";
    case UP_ERR_ARGUMENT:
        return "invalid argument";
    case UP_ERR_IO:
        return "input/output error";
    case UP_ERR_FORMAT:
        return "malformed data";
    case UP_ERR_MEMORY:
        return "out of memory";
    case UP_ERR_UNSUPPORTED:
        return "not supported";
    case UP_ERR_NUMERIC:
        return "non-finite value";
    case UP_ERR_INTERRUPTED:
        return "interrupted";
    case UP_ERR_BACKEND:
        return "backend error";
    }
    return "unknown status";
}

up_status up_given(const void *pointer, const char *what) {
    return pointer ? UP_OK : up_fail(UP_ERR_ARGUMENT, what, "is NULL");
}

up_status up_given_list(const void *list, int64_t n, const char *what) {
    if (n < 0) return up_fail(UP_ERR_ARGUMENT, what, "%lld of them; wanted 0 or more", (long long)n);
    return n ? up_given(list, what) : UP_OK;
}

up_status up_options_take(const char *what, const void *given, size_t first, void *out, size_t size) {
    const unsigned char *bytes = given;
    size_t told = first;
    memset(out, 0, size);
    if (!given) return UP_OK;
    memcpy(&told, given, sizeof told);
    if (!told) told = first;
    if (told < first)
        return up_fail(UP_ERR_ARGUMENT, what, "%zu bytes of options; wanted at least %zu", told, first);
    for (size_t i = size; i < told; i++)
        if (bytes[i])
            return up_fail(UP_ERR_UNSUPPORTED, what, "options of %zu bytes; this version knows %zu", told,
                           size);
    memcpy(out, given, told < size ? told : size);
    return UP_OK;
}

up_status up_given_each(const char *names, const void *const *pointers, size_t count) {
    char name[64];
    for (size_t i = 0; i < count; i++) {
        size_t length = strcspn(names, ",");
        if (!pointers[i]) {
            snprintf(name, sizeof name, "%.*s", (int)length, names);
            return up_given(NULL, name);
        }
        names += length;
        names += strspn(names, ", ");
    }
    return UP_OK;
}

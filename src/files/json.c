/* json.c - jansson behind two functions. json_dumps is not used: when memory runs out it may drop words from
 * the middle of its text (its buffer's failures are ignored). */
#include "files/json.h"

#include <errno.h>
#include <stdlib.h>

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

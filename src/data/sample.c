/* sample.c - named values in one growing piece of memory; see sample.h. */
#include "data/sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void up_sample_clear(up_sample *s) {
    s->count = 0;
    s->used = 0;
}

void up_sample_free(up_sample *s) {
    free(s->values);
    free(s->memory);
    *s = (up_sample){0};
}

static up_status put(up_sample *s, const char *text, size_t size, size_t *at) {
    if (s->capacity - s->used < size + 1) {
        size_t room = 2 * (s->used + size + 1);
        char *grown = realloc(s->memory, room);
        if (!grown) return up_fail(UP_ERR_MEMORY, "sample", "%zu bytes wanted", room);
        s->memory = grown;
        s->capacity = room;
    }
    *at = s->used;
    memcpy(s->memory + s->used, text, size);
    s->memory[s->used + size] = 0;
    s->used += size + 1;
    return UP_OK;
}

static up_status add(up_sample *s, const char *name, const char *text, size_t size, up_value value) {
    if (size > UP_VALUE_MOST)
        return up_fail(UP_ERR_FORMAT, name, "has %zu bytes; wanted at most %d", size, UP_VALUE_MOST);
    if (memchr(text, 0, size)) return up_fail(UP_ERR_FORMAT, name, "holds a NUL byte: not a text");
    if (s->count == s->room) {
        size_t room = s->room ? 2 * s->room : 16;
        up_value *grown = realloc(s->values, room * sizeof *grown);
        if (!grown) return up_fail(UP_ERR_MEMORY, "sample", "%zu values wanted", room);
        s->values = grown;
        s->room = room;
    }
    UP_TRY(put(s, name, strlen(name), &value.name));
    UP_TRY(put(s, text, size, &value.text));
    s->values[s->count++] = value;
    return UP_OK;
}

up_status up_sample_text(up_sample *s, const char *name, const char *text, size_t size) {
    return add(s, name, text, size, (up_value){.shard = -1});
}

up_status up_sample_member(up_sample *s, const char *name, const char *member, int shard, uint64_t offset,
                           uint64_t size) {
    return add(s, name, member, strlen(member), (up_value){.shard = shard, .offset = offset, .size = size});
}

static int is_named(const up_sample *s, size_t i, const char *name) {
    return !strcmp(s->memory + s->values[i].name, name);
}

size_t up_sample_count(const up_sample *s, const char *name) {
    size_t n = 0;
    for (size_t i = 0; i < s->count; i++) n += is_named(s, i, name);
    return n;
}

const up_value *up_sample_value(const up_sample *s, const char *name, size_t k) {
    for (size_t i = 0; i < s->count; i++)
        if (is_named(s, i, name) && !k--) return &s->values[i];
    return NULL;
}

void up_sample_names(const up_sample *s, char *out, size_t room) {
    size_t used = 0;
    *out = 0;
    for (size_t i = 0; i < s->count && used < room; i++) {
        const char *name = s->memory + s->values[i].name;
        if (up_sample_value(s, name, 0) != &s->values[i]) continue;
        used += (size_t)snprintf(out + used, room - used, "%s%s", used ? ", " : "", name);
    }
}

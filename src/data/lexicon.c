/* lexicon.c - an open hash table (FNV-1a, linear probing, at most half full) over the list of words. */
#include "data/lexicon.h"

#include <stdlib.h>
#include <string.h>

static uint64_t hash_of(const char *word, size_t size) {
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t i = 0; i < size; i++) hash = (hash ^ (unsigned char)word[i]) * 0x100000001B3u;
    return hash ^ hash >> 32;
}

/* The slot of a word: its own, or the free one where it would be. */
static int32_t *slot_of(const up_lexicon *l, const char *word, size_t size) {
    size_t at = hash_of(word, size) & (l->slot_count - 1);
    while (l->slots[at]) {
        const char *there = l->words[l->slots[at] - 1];
        if (!strncmp(there, word, size) && !there[size]) break;
        at = (at + 1) & (l->slot_count - 1);
    }
    return &l->slots[at];
}

static up_status grow(up_lexicon *l) {
    size_t room = l->room ? 2 * l->room : 256;
    int32_t *slots = room <= INT32_MAX ? calloc(2 * room, sizeof *slots) : NULL;
    char **words = slots ? realloc(l->words, room * sizeof *words) : NULL;
    if (!words) {
        free(slots);
        return up_fail(UP_ERR_MEMORY, "words", "%zu wanted", room);
    }
    free(l->slots);
    l->words = words;
    l->room = room;
    l->slots = slots;
    l->slot_count = 2 * room;
    for (size_t i = 0; i < l->count; i++) *slot_of(l, words[i], strlen(words[i])) = (int32_t)i + 1;
    return UP_OK;
}

int32_t up_lexicon_find(const up_lexicon *l, const char *word, size_t size) {
    return l->slot_count ? *slot_of(l, word, size) - 1 : -1;
}

up_status up_lexicon_add(up_lexicon *l, const char *word, size_t size, int32_t *number) {
    if (l->count == l->room) UP_TRY(grow(l));
    int32_t *slot = slot_of(l, word, size);
    if (!*slot) {
        char *own = strndup(word, size);
        if (!own) return up_fail(UP_ERR_MEMORY, "words", "no memory for one of %zu bytes", size);
        l->words[l->count++] = own;
        *slot = (int32_t)l->count;
    }
    *number = *slot - 1;
    return UP_OK;
}

void up_lexicon_free(up_lexicon *l) {
    for (size_t i = 0; i < l->count; i++) free(l->words[i]);
    free(l->words);
    free(l->slots);
    *l = (up_lexicon){0};
}

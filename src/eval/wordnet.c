/* wordnet.c - binary search in WordNet's index and exception files, and its rules of detachment
 * (morphy(7WN)). */
#include "eval/wordnet.h"
#include "files/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const class_names[UP_WORD_CLASSES] = {"noun", "verb", "adj", "adv"};

/* Endings and what takes their place. */
static const struct {
    up_word_class of;
    const char *ending, *instead;
} detachments[] = {
    {UP_NOUN, "s", ""},        {UP_NOUN, "ses", "s"},      {UP_NOUN, "xes", "x"},
    {UP_NOUN, "zes", "z"},     {UP_NOUN, "ches", "ch"},    {UP_NOUN, "shes", "sh"},
    {UP_NOUN, "men", "man"},   {UP_NOUN, "ies", "y"},      {UP_VERB, "s", ""},
    {UP_VERB, "ies", "y"},     {UP_VERB, "es", "e"},       {UP_VERB, "es", ""},
    {UP_VERB, "ed", "e"},      {UP_VERB, "ed", ""},        {UP_VERB, "ing", "e"},
    {UP_VERB, "ing", ""},      {UP_ADJECTIVE, "er", ""},   {UP_ADJECTIVE, "est", ""},
    {UP_ADJECTIVE, "er", "e"}, {UP_ADJECTIVE, "est", "e"},
};

static up_status read_part(const char *folder, const char *name, char **text, size_t *size) {
    char path[4096];
    void *data;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    up_status status = up_file_read(path, &data, size);
    if (status == UP_ERR_IO)
        return up_fail(UP_ERR_IO, path, "WordNet is not there: install Debian's wordnet-base");
    if (status == UP_OK) *text = data;
    return status;
}

up_status up_wordnet_open(const char *folder, up_wordnet *w) {
    up_status status = UP_OK;
    *w = (up_wordnet){0};
    for (int i = 0; i < UP_WORD_CLASSES; i++) {
        char name[32];
        snprintf(name, sizeof name, "index.%s", class_names[i]);
        UP_GO(read_part(folder, name, &w->of[i].index, &w->of[i].index_size));
        snprintf(name, sizeof name, "%s.exc", class_names[i]);
        UP_GO(read_part(folder, name, &w->of[i].exceptions, &w->of[i].exceptions_size));
    }
done:
    if (status != UP_OK) up_wordnet_close(w);
    return status;
}

void up_wordnet_close(up_wordnet *w) {
    for (int i = 0; i < UP_WORD_CLASSES; i++) {
        free(w->of[i].index);
        free(w->of[i].exceptions);
    }
    *w = (up_wordnet){0};
}

/* What stands behind a word and a space at the begin of a line; NULL: no line begins so. Lines are in order.
 */
static const char *find_line(const char *text, size_t size, const char *word) {
    size_t low = 0, high = size, length = strlen(word);
    while (low < high) {
        size_t start = low + (high - low) / 2;
        while (start > low && text[start - 1] != '\n') start--;
        const char *end = memchr(text + start, '\n', high - start);
        size_t behind = end ? (size_t)(end - text) + 1 : high;
        const char *line = text + start;
        size_t own = strcspn(line, " \n"), least = own < length ? own : length;
        int order = memcmp(line, word, least);
        if (!order) order = (own > length) - (own < length);
        if (!order) return line[own] == ' ' ? line + own + 1 : NULL;
        if (order < 0)
            low = behind;
        else
            high = start;
    }
    return NULL;
}

static const char *index_line(const up_wordnet *w, up_word_class as, const char *word) {
    return find_line(w->of[as].index, w->of[as].index_size, word);
}

void up_senses_free(up_senses *s) {
    free(s->list);
    *s = (up_senses){0};
}

/* Numbers of eight digits at the end of an index line are the senses. */
static up_status add_line(up_senses *s, up_word_class as, const char *line) {
    for (const char *end = line + strcspn(line, "\n"); line < end;) {
        size_t length = strcspn(line, " \n");
        if (length == 8 && strspn(line, "0123456789") == 8) {
            uint64_t *grown = realloc(s->list, (s->count + 1) * sizeof *grown);
            if (!grown) return up_fail(UP_ERR_MEMORY, "WordNet", "%zu senses wanted", s->count + 1);
            s->list = grown;
            s->list[s->count++] = (uint64_t)as << 32 | strtoul(line, NULL, 10);
        }
        line += length + 1;
    }
    return UP_OK;
}

static int by_number(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void sort_once(up_senses *s) {
    size_t kept = 0;
    if (s->count) qsort(s->list, s->count, sizeof *s->list, by_number);
    for (size_t i = 0; i < s->count; i++)
        if (!kept || s->list[kept - 1] != s->list[i]) s->list[kept++] = s->list[i];
    s->count = kept;
}

/* The form that the rule number i makes of a word; 0: it does not fit. */
static int detach(const char *word, size_t i, char out[UP_WORD_BYTES]) {
    size_t length = strlen(word), ending = strlen(detachments[i].ending);
    if (length <= ending || length + 2 > UP_WORD_BYTES) return 0;
    if (strcmp(word + length - ending, detachments[i].ending)) return 0;
    snprintf(out, UP_WORD_BYTES, "%.*s%s", (int)(length - ending), word, detachments[i].instead);
    return 1;
}

enum { DETACHMENTS = sizeof detachments / sizeof *detachments };

/* The first base form among the exceptions. */
static int exception(const up_wordnet *w, const char *word, up_word_class as, char out[UP_WORD_BYTES]) {
    const char *line = find_line(w->of[as].exceptions, w->of[as].exceptions_size, word);
    if (!line) return 0;
    snprintf(out, UP_WORD_BYTES, "%.*s", (int)strcspn(line, " \n"), line);
    return 1;
}

static up_status add_class(const up_wordnet *w, const char *word, up_word_class as, up_senses *out) {
    char form[UP_WORD_BYTES];
    const char *line = index_line(w, as, word);
    if (line) UP_TRY(add_line(out, as, line));
    if (exception(w, word, as, form) && (line = index_line(w, as, form))) UP_TRY(add_line(out, as, line));
    for (size_t i = 0; i < DETACHMENTS; i++) {
        if (detachments[i].of != as || !detach(word, i, form)) continue;
        line = index_line(w, as, form);
        if (line) UP_TRY(add_line(out, as, line));
    }
    return UP_OK;
}

up_status up_wordnet_senses_as(const up_wordnet *w, const char *word, up_word_class as, up_senses *out) {
    *out = (up_senses){0};
    up_status status = add_class(w, word, as, out);
    sort_once(out);
    if (status != UP_OK) up_senses_free(out);
    return status;
}

up_status up_wordnet_senses(const up_wordnet *w, const char *word, up_senses *out) {
    up_status status = UP_OK;
    *out = (up_senses){0};
    for (int as = 0; as < UP_WORD_CLASSES && status == UP_OK; as++)
        status = add_class(w, word, (up_word_class)as, out);
    sort_once(out);
    if (status != UP_OK) up_senses_free(out);
    return status;
}

int up_senses_meet(const up_senses *a, const up_senses *b) {
    for (size_t i = 0, j = 0; i < a->count && j < b->count;) {
        if (a->list[i] == b->list[j]) return 1;
        if (a->list[i] < b->list[j])
            i++;
        else
            j++;
    }
    return 0;
}

void up_wordnet_base(const up_wordnet *w, const char *word, up_word_class as, char out[UP_WORD_BYTES]) {
    if (exception(w, word, as, out)) return;
    if (index_line(w, as, word) && strlen(word) < UP_WORD_BYTES) {
        snprintf(out, UP_WORD_BYTES, "%s", word);
        return;
    }
    for (size_t i = 0; i < DETACHMENTS; i++)
        if (detachments[i].of == as && detach(word, i, out) && index_line(w, as, out)) return;
    *out = 0;
}

/* sets.c - finding a source's target set among those there are, or making it. */
#include "tasks/sets.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH_KEY = 0, WORDS_KEY = 1 };

/* FNV-1a over the tokens and where each text begins; never one of the keys above. */
static uint64_t key_of_classes(const up_source *s) {
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < s->class_count; i++) {
        for (int64_t k = s->class_starts[i]; k < s->class_starts[i + 1]; k++)
            hash = (hash ^ (uint32_t)s->class_ids[k]) * 1099511628211u;
        hash = (hash ^ 0xffffffffu) * 1099511628211u;
    }
    return hash > WORDS_KEY ? hash : hash + WORDS_KEY + 1;
}

static uint64_t key_of(const up_sets *sets, const up_source *s) {
    if (s->task->targets == UP_TARGETS_TEXTS || (sets->training && s->name_starts)) return BATCH_KEY;
    if (s->task->targets == UP_TARGETS_CLASSES) return key_of_classes(s);
    return sets->training && s->settings->sampled_targets ? BATCH_KEY : WORDS_KEY;
}

/* Equal keys of two lists of classes may be chance. */
static int holds(const up_set_entry *e, const up_source *s) {
    if (e->key <= WORDS_KEY) return 1;
    if (e->count != (int64_t)s->class_count) return 0;
    size_t starts = (s->class_count + 1) * sizeof *e->starts;
    size_t ids = (size_t)s->class_starts[s->class_count] * sizeof *e->ids;
    return !memcmp(e->starts, s->class_starts, starts) && !memcmp(e->ids, s->class_ids, ids);
}

static up_status fill(up_set_entry *e, const up_source *s) {
    if (e->key == BATCH_KEY) return UP_OK;
    if (e->key == WORDS_KEY)
        return up_target_set_fill_words(e->set, s->world->vocabulary, s->world->vocabulary_count,
                                        UP_TOKEN_END);
    int64_t count = (int64_t)s->class_count, total = s->class_starts[count];
    e->starts = malloc((size_t)(count + 1) * sizeof *e->starts);
    e->ids = malloc((size_t)(total ? total : 1) * sizeof *e->ids);
    if (!e->starts || !e->ids)
        return up_fail(UP_ERR_MEMORY, s->settings->name, "%lld classes wanted", (long long)count);
    memcpy(e->starts, s->class_starts, (size_t)(count + 1) * sizeof *e->starts);
    memcpy(e->ids, s->class_ids, (size_t)total * sizeof *e->ids);
    e->count = count;
    return up_target_set_fill_texts(e->set, e->ids, e->starts, count);
}

up_status up_sets_bind(up_sets *sets, up_source *s) {
    uint64_t key = key_of(sets, s);
    for (int i = 0; i < sets->count; i++)
        if (sets->list[i].key == key && holds(&sets->list[i], s)) {
            s->set = sets->list[i].set;
            return UP_OK;
        }
    up_set_entry *grown = realloc(sets->list, (size_t)(sets->count + 1) * sizeof *grown);
    if (!grown) return up_fail(UP_ERR_MEMORY, "target sets", "%d wanted", sets->count + 1);
    sets->list = grown;
    up_set_entry *e = &grown[sets->count++];
    *e = (up_set_entry){.key = key};
    UP_TRY(up_target_set_create(sets->model, key, sets->training, &e->set));
    s->set = e->set;
    return fill(e, s);
}

void up_sets_free(up_sets *sets) {
    for (int i = 0; i < sets->count; i++) {
        up_target_set_free(sets->list[i].set);
        free(sets->list[i].ids);
        free(sets->list[i].starts);
    }
    free(sets->list);
    *sets = (up_sets){0};
}

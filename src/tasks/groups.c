/* groups.c - which text targets are equal: what a model sees of them, their tokens, decides, for the loss and
 * for the metrics alike. */
#include "tasks/source.h"

#include <stdlib.h>
#include <string.h>

/* The tokens of a target behind its leading <SPE>: all are text, so that token i lies in row i. */
static const int32_t *tokens_of(const up_batch *targets, int sequence, int *count) {
    const int32_t *q = targets->sequence + (size_t)sequence * UP_SEQ_FIELDS;
    *count = q[UP_SEQ_Q_COUNT] - 1;
    return targets->text_id + q[UP_SEQ_Q_START] + 1;
}

static int equal(const up_batch *targets, int a, int b) {
    int m, n;
    const int32_t *x = tokens_of(targets, a, &m), *y = tokens_of(targets, b, &n);
    return m == n && !memcmp(x, y, (size_t)m * sizeof *x);
}

/* FNV-1a */
static uint64_t hash_of(const up_batch *targets, int sequence) {
    int count;
    const int32_t *ids = tokens_of(targets, sequence, &count);
    uint64_t hash = 14695981039346656037u;
    for (int i = 0; i < count; i++) hash = (hash ^ (uint32_t)ids[i]) * 1099511628211u;
    return hash ^ hash >> 32;
}

/* Open addressing: slots hold the first sequence of a text, + 1. */
up_status up_group_targets(const up_batch *targets, int32_t *groups) {
    size_t room = 16;
    while (room < 2 * (size_t)targets->sequences) room *= 2;
    int *slots = calloc(room, sizeof *slots);
    if (!slots) return up_fail(UP_ERR_MEMORY, "target texts", "%zu slots wanted", room);
    for (int s = 0; s < targets->sequences; s++) {
        size_t slot = hash_of(targets, s) & (room - 1);
        while (slots[slot] && !equal(targets, slots[slot] - 1, s)) slot = (slot + 1) & (room - 1);
        if (!slots[slot]) slots[slot] = s + 1;
        groups[s] = slots[slot] - 1;
    }
    free(slots);
    return UP_OK;
}

static int32_t first_of(int32_t *groups, int32_t i) {
    while (groups[i] != i) {
        groups[i] = groups[groups[i]];
        i = groups[i];
    }
    return i;
}

/* Union-find, in which the first of a group stands for it; slots as above, by picture. */
up_status up_group_pictures(const uint64_t *pictures, int count, int32_t *groups) {
    size_t room = 16;
    while (room < 2 * (size_t)count) room *= 2;
    int *slots = calloc(room, sizeof *slots);
    if (!slots) return up_fail(UP_ERR_MEMORY, "target texts", "%zu slots wanted", room);
    for (int i = 0; i < count; i++) {
        size_t slot = (pictures[i] ^ pictures[i] >> 32) & (room - 1);
        if (!pictures[i]) continue;
        while (slots[slot] && pictures[slots[slot] - 1] != pictures[i]) slot = (slot + 1) & (room - 1);
        if (!slots[slot]) slots[slot] = i + 1;
        int32_t a = first_of(groups, slots[slot] - 1), b = first_of(groups, i);
        groups[a > b ? a : b] = a < b ? a : b;
    }
    for (int i = 0; i < count; i++) groups[i] = first_of(groups, i);
    free(slots);
    return UP_OK;
}

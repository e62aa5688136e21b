/* bulk.c - a ring of decoding threads before one encoder. A batch is packed without padding, so inputs need
 * no sorting by their length: they go in the order of the list. */
#include "cli/bulk.h"
#include "backend_cpu/cpu.h"
#include "cli/commands.h"
#include "cli/inputs.h"
#include "data/loader.h"
#include "files/progress.h"
#include "infer/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 4096, TOKENS = 4 * UP_ENCODE_TOKENS, MESSAGE = 512 };

/* An item as a worker leaves it. */
typedef struct decoded {
    up_prepared ready;
    up_status status;
    char why[MESSAGE];
} decoded;

/* Items that wait for the encoder. */
typedef struct waiting {
    up_prepared *ready;
    up_input *inputs;
    int *places, count, most;
    int64_t tokens;
} waiting;

static up_status decode(up_bulk *b, int64_t place, up_prepared *out) {
    up_cli_parts parts = {0};
    up_status status = UP_OK;
    UP_GO(up_cli_parts_read(&b->items->items[place], 1, &parts));
    if (b->as_is && parts.list[0].kind == UP_PART_TEXT)
        *out = (up_prepared){.part = parts.list[0]};
    else
        UP_GO(up_part_prepare(b->session, &parts.list[0], out));
    if (!out->memory) { /* the part points into what was read */
        out->memory = parts.memory[0];
        parts.memory[0] = NULL;
    }
done:
    up_cli_parts_free(&parts);
    return status;
}

static up_status work(void *context, int64_t place, void *slot) {
    up_bulk *b = context;
    decoded *d = slot;
    if (place >= b->items->count) return UP_OK; /* behind the end */
    d->status = decode(b, place, &d->ready);
    if (d->status == UP_OK) return UP_OK;
    free(d->ready.memory);
    d->ready = (up_prepared){0};
    snprintf(d->why, sizeof d->why, "%s", up_last_error());
    return b->strict || d->status == UP_ERR_MEMORY ? d->status : UP_OK;
}

static int64_t tokens_of(const up_bulk *b, const up_part *part) {
    int cells = up_config_cells(up_model_config(up_session_model(b->session)));
    if (part->kind == UP_PART_TEXT || part->kind == UP_PART_IDS) return (int64_t)part->size + 1;
    return (int64_t)cells * (part->frames ? part->frames : 1) + 1;
}

static void let_go(waiting *w) {
    for (int i = 0; i < w->count; i++) free(w->ready[i].memory);
    w->count = 0;
    w->tokens = 0;
}

static up_status hand_over(up_bulk *b, waiting *w, int next, up_bulk_take take, void *context) {
    for (int i = 0; i < w->count; i++) w->inputs[i] = (up_input){&w->ready[i].part, 1, b->slot};
    up_status status = take(context, w->inputs, w->places, w->count, next);
    let_go(w);
    return status;
}

static void tell_skipped(up_bulk *b, const char *why) {
    b->skipped++;
    fprintf(stderr, "%suniperceiver: %s (left out)\n", up_progress_on_terminal() ? "\r\033[K" : "", why);
}

static void collect(up_bulk *b, decoded *d, int place, waiting *w) {
    if (d->status != UP_OK) {
        tell_skipped(b, d->why);
        return;
    }
    b->cut += d->ready.cut;
    w->tokens += tokens_of(b, &d->ready.part);
    w->places[w->count] = place;
    w->ready[w->count++] = d->ready;
    d->ready = (up_prepared){0};
}

static up_status encode_all(up_bulk *b, up_loader *loader, waiting *w, up_bulk_take take, void *context) {
    int n = b->items->count;
    up_counter counter = up_counter_start(b->what, n - b->first, b->quiet);
    for (int i = b->first; i < n; i++) {
        void *slot;
        UP_TRY(up_loader_next(loader, &slot, NULL));
        collect(b, slot, i, w);
        if (w->count < w->most && w->tokens < TOKENS && i + 1 < n) continue;
        UP_TRY(hand_over(b, w, i + 1, take, context));
        up_counter_show(&counter, i + 1 - b->first);
    }
    return UP_OK;
}

up_status up_bulk_run(up_bulk *b, up_bulk_take take, void *context) {
    up_status status = UP_OK;
    up_loader *loader = NULL;
    int left = b->items->count - b->first, threads = up_cpu_threads(0), count;
    waiting w = {.most = b->most ? b->most : MOST};
    if (threads > left) threads = left ? left : 1;
    count = up_loader_slots(threads) + 8 * threads; /* clips take longer than pictures */
    b->strict |= b->items->count == 1;
    decoded *slots = calloc((size_t)count, sizeof *slots);
    void **pointers = calloc((size_t)count, sizeof *pointers);
    w.ready = calloc((size_t)w.most, sizeof *w.ready);
    w.inputs = calloc((size_t)w.most, sizeof *w.inputs);
    w.places = calloc((size_t)w.most, sizeof *w.places);
    if (!slots || !pointers || !w.ready || !w.inputs || !w.places)
        UP_GO(up_fail(UP_ERR_MEMORY, "inputs", "no memory for %d of them", w.most));
    for (int i = 0; i < count; i++) pointers[i] = &slots[i];
    UP_GO(up_loader_create(work, b, pointers, count, threads, b->first, &loader));
    UP_GO(encode_all(b, loader, &w, take, context));
done:
    up_loader_free(loader);
    for (int i = 0; slots && i < count; i++) free(slots[i].ready.memory);
    let_go(&w);
    free(slots);
    free(pointers);
    free(w.ready);
    free(w.inputs);
    free(w.places);
    return status;
}

int up_bulk_end(const up_bulk *b, up_status status) {
    if (b->cut)
        fprintf(stderr, "uniperceiver: %d texts are longer than the model's limit and were cut\n", b->cut);
    if (status == UP_OK && b->skipped)
        fprintf(stderr, "uniperceiver: %d of %d inputs could not be read and were left out\n", b->skipped,
                b->items->count);
    return up_cli_end(status) || b->skipped;
}

/* --- features --- */

typedef struct gathering {
    up_bulk *bulk;
    up_side side;
    up_bulk_features *out;
} gathering;

static up_status gather(void *context, const up_input *inputs, const int *places, int count, int next) {
    gathering *g = context;
    up_bulk_features *out = g->out;
    size_t width = (size_t)up_session_width(g->bulk->session);
    (void)next;
    UP_TRY(up_encode(g->bulk->session, inputs, count, g->side, out->rows + (size_t)out->count * width));
    for (int i = 0; i < count; i++) out->places[out->count++] = places[i];
    return UP_OK;
}

up_status up_bulk_encode(up_bulk *b, up_side side, up_bulk_features *out) {
    size_t n = (size_t)b->items->count, width = (size_t)up_session_width(b->session);
    gathering g = {b, side, out};
    *out = (up_bulk_features){0};
    out->rows = malloc((n + 1) * width * sizeof *out->rows);
    out->places = malloc((n + 1) * sizeof *out->places);
    if (!out->rows || !out->places) return up_fail(UP_ERR_MEMORY, "inputs", "features of %zu wanted", n);
    UP_TRY(up_bulk_run(b, gather, &g));
    return out->count ? UP_OK : up_fail(UP_ERR_FORMAT, "inputs", "none of %zu could be read", n);
}

void up_bulk_features_free(up_bulk_features *features) {
    free(features->rows);
    free(features->places);
    *features = (up_bulk_features){0};
}

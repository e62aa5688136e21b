/* guard.c - the reference behind locked doors: every buffer is its own mapping, PROT_NONE except while one of
 * the slots runs, followed by a page that is never accessible, and full of NaN when it is new. What reads a
 * buffer from outside, or reads memory that nothing wrote, shows. So does what waits where it may not, and a
 * region that is not closed by its own name. */
#include "tests/guard.h"
#include "uniperceiver/backend_host.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct guarded {
    up_buffer buffer; /* first: the up_buffer that the caller holds */
    unsigned char *map;
    size_t pages; /* bytes of whole pages in use; one more page lies behind them */
    struct guarded *next, **link;
} guarded;

enum { DEEPEST = 16 }; /* regions inside each other */

typedef struct guard {
    up_backend_ops table;
    guarded *first;
    int no_waits;
    unsigned epoch; /* counts the calls that forbade waiting */
    const char *regions[DEEPEST];
    int depth;
} guard;

/* Fails where `what` may not be done now. */
static up_status may_wait(up_backend *b, const char *what) {
    const guard *all = b->state;
    if (!all->no_waits) return UP_OK;
    return up_fail(UP_ERR_BACKEND, "backend guard", "%s in region '%s', where nothing may wait", what,
                   all->depth ? all->regions[all->depth - 1] : "none");
}

static void protect_all(up_backend *b, int protection) {
    for (guarded *g = ((guard *)b->state)->first; g; g = g->next)
        if (mprotect(g->map, g->pages, protection))
            abort(); /* the mapping is ours and whole: it cannot fail */
}

static void unlock(up_backend *b) {
    protect_all(b, PROT_READ | PROT_WRITE);
}
static up_status lock(up_backend *b, up_status status) {
    protect_all(b, PROT_NONE);
    return status;
}

static up_status alloc_guarded(up_backend *b, size_t bytes, up_buffer **out) {
    guard *all = b->state;
    UP_TRY(may_wait(b, "alloc"));
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (bytes > PTRDIFF_MAX - 2 * page)
        return up_fail(UP_ERR_MEMORY, "backend guard", "out of memory: %zu bytes wanted", bytes);
    size_t aligned = (bytes + 63) / 64 * 64, pages = (bytes + page) / page * page;
    guarded *g = calloc(1, sizeof *g);
    void *map = g ? mmap(NULL, pages + page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : MAP_FAILED;
    if (map == MAP_FAILED || mprotect(map, pages, PROT_READ | PROT_WRITE)) {
        if (map != MAP_FAILED) munmap(map, pages + page);
        free(g);
        return up_fail(UP_ERR_MEMORY, "backend guard", "out of memory: %zu bytes wanted", bytes);
    }
    memset(map, 0xff, pages);
    *g = (guarded){{(unsigned char *)map + pages - aligned, bytes}, map, pages, all->first, &all->first};
    if (all->first) all->first->link = &g->next;
    all->first = g;
    *out = &g->buffer;
    return lock(b, UP_OK);
}

static void release_guarded(up_backend *b, up_buffer *buffer) {
    (void)b;
    if (!buffer) return;
    guarded *g = (guarded *)(void *)buffer;
    *g->link = g->next;
    if (g->next) g->next->link = g->link;
    munmap(g->map, g->pages + (size_t)sysconf(_SC_PAGESIZE));
    free(g);
}

static void destroy_guarded(up_backend *b) {
    guard *all = b->state;
    while (all->first) release_guarded(b, &all->first->buffer);
    free(all);
    free(b);
}

static up_status upload_guarded(up_backend *b, up_view dst, const void *src) {
    unlock(b);
    return lock(b, up_ref_ops()->upload(b, dst, src));
}

static up_status download_guarded(up_backend *b, void *dst, up_view src) {
    UP_TRY(may_wait(b, "download"));
    unlock(b);
    return lock(b, up_ref_ops()->download(b, dst, src));
}

static up_status fill_guarded(up_backend *b, up_view dst, double value) {
    unlock(b);
    return lock(b, up_ref_ops()->fill(b, dst, value));
}

static up_status copy_guarded(up_backend *b, up_view dst, up_view src) {
    unlock(b);
    return lock(b, up_ref_ops()->copy(b, dst, src));
}

static up_status sync_guarded(up_backend *b) {
    UP_TRY(may_wait(b, "sync"));
    return up_ref_ops()->sync(b);
}

/* ---- regions ---- */

static up_status begin_guarded(up_backend *b, const char *region) {
    guard *all = b->state;
    if (all->depth == DEEPEST)
        return up_fail(UP_ERR_BACKEND, "backend guard", "region '%s' is inside %d others", region, DEEPEST);
    all->regions[all->depth++] = region;
    return UP_OK;
}

static up_status end_guarded(up_backend *b, const char *region) {
    guard *all = b->state;
    const char *open = all->depth ? all->regions[all->depth - 1] : "none";
    if (!all->depth || strcmp(open, region) != 0)
        return up_fail(UP_ERR_BACKEND, "backend guard", "region '%s' ends, '%s' is open", region, open);
    all->depth--;
    return UP_OK;
}

/* ---- results that are read later ---- */

/* What the caller holds as an up_fetch: the reference's, and when it was begun. */
typedef struct guarded_fetch {
    up_fetch *fetch;
    int begun;
    unsigned epoch;
} guarded_fetch;

static up_status fetch_create_guarded(up_backend *b, size_t bytes, up_fetch **out) {
    UP_TRY(may_wait(b, "fetch_create"));
    guarded_fetch *g = calloc(1, sizeof *g);
    if (!g) return up_fail(UP_ERR_MEMORY, "backend guard", "out of memory: %zu bytes wanted", sizeof *g);
    up_status status = up_ref_ops()->fetch_create(b, bytes, &g->fetch);
    if (status == UP_OK)
        *out = (up_fetch *)(void *)g;
    else
        free(g);
    return status;
}

static void fetch_free_guarded(up_backend *b, up_fetch *fetch) {
    guarded_fetch *g = (guarded_fetch *)(void *)fetch;
    if (g) up_ref_ops()->fetch_free(b, g->fetch);
    free(g);
}

static up_status fetch_begin_guarded(up_backend *b, up_fetch *fetch, up_view src) {
    guarded_fetch *g = (guarded_fetch *)(void *)fetch;
    g->begun = 1;
    g->epoch = ((guard *)b->state)->epoch;
    unlock(b);
    return lock(b, up_ref_ops()->fetch_begin(b, g->fetch, src));
}

static up_status fetch_end_guarded(up_backend *b, up_fetch *fetch, void *dst) {
    guarded_fetch *g = (guarded_fetch *)(void *)fetch;
    if (!g->begun) return up_fail(UP_ERR_BACKEND, "backend guard", "fetch_end of a fetch that was not begun");
    if (g->epoch == ((guard *)b->state)->epoch) UP_TRY(may_wait(b, "fetch_end of a fetch begun there"));
    g->begun = 0;
    return up_ref_ops()->fetch_end(b, g->fetch, dst);
}

/* ---- operations ---- */

/* One slot: open, let the reference work, close. */
#define GUARDED(slot, args)                                                                                  \
    static up_status slot##_guarded(up_backend *b, const args *a) {                                          \
        unlock(b);                                                                                           \
        return lock(b, up_ref_ops()->slot(b, a));                                                            \
    }
GUARDED(embed, up_embed_args)
GUARDED(embed_bwd, up_embed_grad)
GUARDED(patch_embed, up_patch_embed_args)
GUARDED(patch_embed_bwd, up_patch_embed_grad)
GUARDED(linear, up_linear_args)
GUARDED(linear_bwd, up_linear_grad)
GUARDED(layernorm, up_layernorm_args)
GUARDED(layernorm_bwd, up_layernorm_grad)
GUARDED(attention, up_attention_args)
GUARDED(attention_bwd, up_attention_grad)
GUARDED(residual, up_residual_args)
GUARDED(residual_bwd, up_residual_grad)
GUARDED(gather, up_gather_args)
GUARDED(gather_bwd, up_gather_grad)
GUARDED(scatter, up_scatter_args)
GUARDED(l2norm, up_l2norm_args)
GUARDED(l2norm_bwd, up_l2norm_grad)
GUARDED(logits, up_logits_args)
GUARDED(logits_bwd, up_logits_grad)
GUARDED(logits_scale_bwd, up_logits_scale_grad)
GUARDED(xent, up_xent_args)
GUARDED(xent_bwd, up_xent_grad)
GUARDED(sqnorm, up_sqnorm_args)
GUARDED(step, up_step_args)
GUARDED(adamw, up_adamw_args)
GUARDED(cast, up_cast_args)
GUARDED(gelu, up_gelu_args)

static void fill_table(up_backend_ops *t) {
    *t = *up_ref_ops();
    t->wrap = NULL; /* memory that others see is not guarded */
    t->unwrap = NULL;
    t->name = "guard";
    t->destroy = destroy_guarded;
    t->alloc = alloc_guarded;
    t->release = release_guarded;
    t->upload = upload_guarded;
    t->download = download_guarded;
    t->fill = fill_guarded;
    t->copy = copy_guarded;
    t->sync = sync_guarded;
    t->begin = begin_guarded;
    t->end = end_guarded;
    t->fetch_create = fetch_create_guarded;
    t->fetch_free = fetch_free_guarded;
    t->fetch_begin = fetch_begin_guarded;
    t->fetch_end = fetch_end_guarded;
    t->embed = embed_guarded;
    t->embed_bwd = embed_bwd_guarded;
    t->patch_embed = patch_embed_guarded;
    t->patch_embed_bwd = patch_embed_bwd_guarded;
    t->linear = linear_guarded;
    t->linear_bwd = linear_bwd_guarded;
    t->layernorm = layernorm_guarded;
    t->layernorm_bwd = layernorm_bwd_guarded;
    t->attention = attention_guarded;
    t->attention_bwd = attention_bwd_guarded;
    t->residual = residual_guarded;
    t->residual_bwd = residual_bwd_guarded;
    t->gather = gather_guarded;
    t->gather_bwd = gather_bwd_guarded;
    t->scatter = scatter_guarded;
    t->l2norm = l2norm_guarded;
    t->l2norm_bwd = l2norm_bwd_guarded;
    t->logits = logits_guarded;
    t->logits_bwd = logits_bwd_guarded;
    t->logits_scale_bwd = logits_scale_bwd_guarded;
    t->xent = xent_guarded;
    t->xent_bwd = xent_bwd_guarded;
    t->sqnorm = sqnorm_guarded;
    t->step = step_guarded;
    t->adamw = adamw_guarded;
    t->cast = cast_guarded;
    t->gelu = gelu_guarded;
}

up_status up_backend_guard(up_backend **out) {
    up_backend *b = malloc(sizeof *b);
    guard *all = calloc(1, sizeof *all);
    if (!b || !all) {
        free(b);
        free(all);
        return up_fail(UP_ERR_MEMORY, "backend guard", "out of memory: %zu bytes wanted",
                       sizeof *b + sizeof *all);
    }
    fill_table(&all->table);
    *b = (up_backend){&all->table, all};
    *out = b;
    return UP_OK;
}

void up_guard_forbid_waits(up_backend *b, int on) {
    guard *all = b->state;
    all->no_waits = on;
    all->epoch++;
}

void up_guard_static(up_backend *b, int on) {
    guard *all = b->state;
    all->table.static_shapes = on;
}

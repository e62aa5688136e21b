/* backend.c - the reference backend: its table, and memory that is plain host memory. Every host backend
 * starts from a copy of this table (up_ref_ops) and replaces what it does faster. */
#include "ref/ops/ops.h"
#include "ref/given.h"

#include <stdlib.h>
#include <string.h>

static void destroy(up_backend *b) {
    free(b);
}

static up_status alloc_buffer(up_backend *b, size_t bytes, up_buffer **out) {
    (void)b;
    enum { ALIGNMENT = 64 };
    up_buffer *buffer = malloc(sizeof *buffer);
    size_t rounded = bytes < ALIGNMENT ? ALIGNMENT : bytes;
    void *memory = NULL;
    if (!buffer || rounded > PTRDIFF_MAX || posix_memalign(&memory, ALIGNMENT, rounded)) {
        free(buffer);
        return up_fail(UP_ERR_MEMORY, "backend ref", "out of memory: %zu bytes wanted", bytes);
    }
    *buffer = (up_buffer){memory, bytes};
    *out = buffer;
    return UP_OK;
}

static void release(up_backend *b, up_buffer *buffer) {
    (void)b;
    if (buffer) free(buffer->bytes);
    free(buffer);
}

static up_status wrap(up_backend *b, void *memory, size_t bytes, up_buffer **out) {
    (void)b;
    *out = malloc(sizeof **out);
    if (!*out) return up_fail(UP_ERR_MEMORY, "backend ref", "out of memory: %zu bytes wanted", sizeof **out);
    **out = (up_buffer){memory, bytes};
    return UP_OK;
}

static void unwrap(up_backend *b, up_buffer *buffer) {
    (void)b;
    free(buffer);
}

/* Row n of a view of any type, as bytes. */
static unsigned char *row_bytes(up_view v, int64_t n) {
    return v.buffer->bytes + (v.offset + n * v.stride) * (int64_t)up_dtype_size(v.dtype);
}

static size_t row_size(up_view v) {
    return (size_t)v.cols * up_dtype_size(v.dtype);
}

static up_status upload(up_backend *b, up_view dst, const void *src) {
    (void)b;
    for (int64_t n = 0; n < dst.rows; n++)
        memcpy(row_bytes(dst, n), (const unsigned char *)src + (size_t)n * row_size(dst), row_size(dst));
    return UP_OK;
}

static up_status download(up_backend *b, void *dst, up_view src) {
    (void)b;
    for (int64_t n = 0; n < src.rows; n++)
        memcpy((unsigned char *)dst + (size_t)n * row_size(src), row_bytes(src, n), row_size(src));
    return UP_OK;
}

/* One element of `dtype` with this value, at `to`. */
static void encode(void *to, up_dtype dtype, double value) {
    switch (dtype) {
    case UP_F32:
        memcpy(to, &(float){(float)value}, 4);
        break;
    case UP_F16:
    case UP_BF16:
        memcpy(to, &(uint16_t){up_half_nearest(dtype, value)}, 2);
        break;
    case UP_I32:
        memcpy(to, &(int32_t){(int32_t)value}, 4);
        break;
    case UP_U8:
        memcpy(to, &(uint8_t){(uint8_t)value}, 1);
        break;
    }
}

static up_status fill(up_backend *b, up_view dst, double value) {
    (void)b;
    unsigned char element[8];
    size_t size = up_dtype_size(dst.dtype);
    encode(element, dst.dtype, value);
    for (int64_t n = 0; n < dst.rows; n++)
        for (int64_t d = 0; d < dst.cols; d++) memcpy(row_bytes(dst, n) + (size_t)d * size, element, size);
    return UP_OK;
}

static up_status copy(up_backend *b, up_view dst, up_view src) {
    (void)b;
    for (int64_t n = 0; n < dst.rows; n++) memmove(row_bytes(dst, n), row_bytes(src, n), row_size(dst));
    return UP_OK;
}

static up_status sync_nothing(up_backend *b) {
    (void)b;
    return UP_OK;
}

/* A result on its way: here the copy is made at once, so nothing is waited for at the end. */
struct up_fetch {
    size_t capacity, size;
    unsigned char bytes[];
};

static up_status fetch_create(up_backend *b, size_t bytes, up_fetch **out) {
    (void)b;
    up_fetch *fetch = bytes < PTRDIFF_MAX ? malloc(sizeof *fetch + bytes) : NULL;
    if (!fetch) return up_fail(UP_ERR_MEMORY, "backend ref", "out of memory: %zu bytes wanted", bytes);
    fetch->capacity = bytes;
    fetch->size = 0;
    *out = fetch;
    return UP_OK;
}

static void fetch_free(up_backend *b, up_fetch *fetch) {
    (void)b;
    free(fetch);
}

static up_status fetch_begin(up_backend *b, up_fetch *fetch, up_view src) {
    size_t size = (size_t)src.rows * row_size(src);
    if (size > fetch->capacity)
        return up_fail(UP_ERR_ARGUMENT, "backend ref", "a fetch of %zu bytes was made for %zu", size,
                       fetch->capacity);
    fetch->size = size;
    return download(b, fetch->bytes, src);
}

static up_status fetch_end(up_backend *b, up_fetch *fetch, void *dst) {
    (void)b;
    memcpy(dst, fetch->bytes, fetch->size);
    return UP_OK;
}

static int supports(up_backend *b, up_op op, const up_op_dims *dims, const char **why) {
    (void)b;
    const char *reason = NULL;
    if ((unsigned)op >= UP_OP_COUNT)
        reason = "no such operation";
    else if (dims->dtype != UP_F32 && dims->dtype != UP_F16 && dims->dtype != UP_BF16)
        reason = "activations are f32, f16 or bf16";
    else if (op == UP_OP_ATTENTION && dims->heads > 0 && dims->in % dims->heads)
        reason = "the width is no multiple of the heads";
    if (reason && why) *why = reason;
    return !reason;
}

static size_t scratch(up_backend *b, up_op op, const up_op_dims *dims) {
    (void)b;
    if (op == UP_OP_ATTENTION) return up_ref_attention_scratch(dims);
    if (op == UP_OP_EMBED || op == UP_OP_PATCH_EMBED)
        return (size_t)dims->rows * sizeof(int64_t); /* add_by_index */
    return 0;
}

static const up_backend_ops table = {
    .version = UP_BACKEND_VERSION,
    .size = sizeof(up_backend_ops),
    .name = "ref",
    .destroy = destroy,
    .alloc = alloc_buffer,
    .release = release,
    .upload = upload,
    .download = download,
    .fill = fill,
    .copy = copy,
    .sync = sync_nothing,
    .fetch_create = fetch_create,
    .fetch_free = fetch_free,
    .fetch_begin = fetch_begin,
    .fetch_end = fetch_end,
    .supports = supports,
    .scratch = scratch,
    .wrap = wrap,
    .unwrap = unwrap,
    .embed = up_ref_embed,
    .embed_bwd = up_ref_embed_bwd,
    .patch_embed = up_ref_patch_embed,
    .patch_embed_bwd = up_ref_patch_embed_bwd,
    .linear = up_ref_linear,
    .linear_bwd = up_ref_linear_bwd,
    .layernorm = up_ref_layernorm,
    .layernorm_bwd = up_ref_layernorm_bwd,
    .attention = up_ref_attention,
    .attention_bwd = up_ref_attention_bwd,
    .residual = up_ref_residual,
    .residual_bwd = up_ref_residual_bwd,
    .gather = up_ref_gather,
    .gather_bwd = up_ref_gather_bwd,
    .scatter = up_ref_scatter,
    .l2norm = up_ref_l2norm,
    .l2norm_bwd = up_ref_l2norm_bwd,
    .logits = up_ref_logits,
    .logits_bwd = up_ref_logits_bwd,
    .logits_scale_bwd = up_ref_logits_scale_bwd,
    .xent = up_ref_xent,
    .xent_bwd = up_ref_xent_bwd,
    .sqnorm = up_ref_sqnorm,
    .step = up_ref_step,
    .adamw = up_ref_adamw,
    .cast = up_ref_cast,
    .gelu = up_ref_gelu,
};

const up_backend_ops *up_ref_ops(void) {
    return &table;
}

up_status up_backend_ref(up_backend **out) {
    UP_GIVEN(out);
    up_backend *b = malloc(sizeof *b);
    if (!b) return up_fail(UP_ERR_MEMORY, "backend ref", "out of memory: %zu bytes wanted", sizeof *b);
    *b = (up_backend){&table, NULL};
    *out = b;
    return UP_OK;
}

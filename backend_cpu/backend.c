/* backend.c - the CPU backend: the reference's table with faster slots, one pool of threads, memory in large
 * pages. f32; every slot computes what ref/ops defines. */
#include "backend_cpu/cpu.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void destroy(up_backend *b) {
    up_cpu_pool_stop(up_cpu_of(b)->pool);
    free(up_cpu_of(b)->work);
    free(b->state);
    free(b);
}

static up_status alloc_buffer(up_backend *b, size_t bytes, up_buffer **out) {
    enum { LINE = 64, HUGE_PAGE = 2 << 20 };
    size_t align = bytes >= 2 * HUGE_PAGE ? HUGE_PAGE : LINE, rounded = bytes < LINE ? LINE : bytes;
    up_buffer *buffer = malloc(sizeof *buffer);
    void *memory = NULL;
    (void)b;
    if (!buffer || rounded > PTRDIFF_MAX || posix_memalign(&memory, align, rounded)) {
        free(buffer);
        return up_fail(UP_ERR_MEMORY, "backend cpu", "out of memory: %zu bytes wanted", bytes);
    }
#ifdef MADV_HUGEPAGE
    if (align == HUGE_PAGE) madvise(memory, rounded / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE); /* a wish */
#endif
    *buffer = (up_buffer){memory, bytes};
    *out = buffer;
    return UP_OK;
}

static int supports(up_backend *b, up_op op, up_dtype dtype, const up_op_dims *dims, const char **why) {
    (void)b;
    const char *reason = NULL;
    int half = dtype == UP_F16 || dtype == UP_BF16;
    if ((unsigned)op >= UP_OP_COUNT)
        reason = "no such operation";
    else if (dtype != UP_F32 && !(op == UP_OP_CAST && half))
        reason = "the CPU backend computes in f32 only";
    else if (op == UP_OP_ATTENTION && dims->heads > 0 && dims->in % dims->heads)
        reason = "the width is no multiple of the heads";
    if (reason && why) *why = reason;
    return !reason;
}

static size_t scratch(up_backend *b, up_op op, const up_op_dims *dims) {
    size_t parts = UP_CPU_PARTS * sizeof(float);
    switch (op) {
    case UP_OP_ATTENTION:
        return up_cpu_attention_scratch(up_cpu_of(b), dims);
    case UP_OP_LINEAR:
    case UP_OP_PATCH_EMBED:
        return parts * (size_t)dims->out;
    case UP_OP_LAYERNORM:
    case UP_OP_RESIDUAL:
        return 2 * parts * (size_t)up_most(dims->in, dims->out);
    default:
        return 0;
    }
}

static void fill_table(up_backend_ops *ops) {
    *ops = *up_ref_ops();
    ops->name = "cpu";
    ops->destroy = destroy;
    ops->alloc = alloc_buffer;
    ops->supports = supports;
    ops->scratch = scratch;
    up_cpu_fill_linear(ops);
    up_cpu_fill_rows(ops);
    up_cpu_fill_attention(ops);
    up_cpu_fill_loss(ops);
    up_cpu_fill_update(ops);
}

up_status up_backend_cpu(int threads, up_backend **out) {
    up_status status = UP_OK;
    up_backend *b = calloc(1, sizeof *b);
    up_cpu *cpu = calloc(1, sizeof *cpu);
    if (!b || !cpu)
        UP_GO(up_fail(UP_ERR_MEMORY, "backend cpu", "out of memory: %zu bytes wanted", sizeof *cpu));
    if (threads < 0)
        UP_GO(up_fail(UP_ERR_ARGUMENT, "backend cpu", "%d threads; wanted 0 (all cores) or more", threads));
    cpu->threads = up_cpu_threads(threads);
    UP_GO(up_cpu_choose_kernels(&cpu->kernels));
    UP_GO(up_cpu_choose_gemm(cpu));
    size_t bytes = (size_t)(cpu->threads * cpu->kernels.gemm_work) * sizeof(float);
    if (posix_memalign((void **)&cpu->work, 64, bytes))
        UP_GO(up_fail(UP_ERR_MEMORY, "backend cpu", "out of memory: %zu bytes wanted", bytes));
    UP_GO(up_cpu_pool_start(cpu->threads, &cpu->pool));
    fill_table(&cpu->ops);
    *b = (up_backend){&cpu->ops, cpu};
    *out = b;
    return UP_OK;
done:
    if (cpu) free(cpu->work);
    free(cpu);
    free(b);
    return status;
}

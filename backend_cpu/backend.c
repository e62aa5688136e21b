/* backend.c - the CPU backend: the reference's table with faster slots, one pool of threads, memory in large
 * pages. Every slot computes what ref/ops defines. */
#include "backend_cpu/cpu.h"
#include "ref/given.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void destroy(up_backend *b) {
    up_cpu_pool_stop(up_cpu_of(b)->pool);
    free(up_cpu_of(b)->work);
    free(up_cpu_of(b)->spare.bytes);
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

/* What the reference refuses, and rows that do not fit where an operation widens some at a time: of six
 * tensors at most. */
static int supports(up_backend *b, up_op op, const up_op_dims *dims, const char **why) {
    enum { MOST = UP_CPU_SPARE / 6 };
    int by_rows = op == UP_OP_EMBED || op == UP_OP_LAYERNORM || op == UP_OP_RESIDUAL || op == UP_OP_GATHER ||
                  op == UP_OP_GELU;
    if (by_rows && dims->dtype != UP_F32 && up_least(dims->in, dims->out) > MOST) {
        if (why) *why = "rows of 16-bit activations are too long";
        return 0;
    }
    return up_ref_ops()->supports(b, op, dims, why);
}

static size_t scratch(up_backend *b, up_op op, const up_op_dims *dims) {
    const up_cpu *cpu = up_cpu_of(b);
    size_t parts = UP_CPU_PARTS * sizeof(float);
    switch (op) {
    case UP_OP_ATTENTION:
        return up_cpu_attention_scratch(cpu, dims);
    case UP_OP_PATCH_EMBED:
        return up_cpu_patch_embed_scratch(cpu, dims);
    case UP_OP_LINEAR:
        return up_cpu_linear_scratch(cpu, dims);
    case UP_OP_LAYERNORM:
    case UP_OP_RESIDUAL:
        return 3 * parts * (size_t)up_most(dims->in, dims->out); /* of weight, bias and LayerScale */
    default:
        return 0;
    }
}

static size_t prepared_size(up_backend *b, const up_op_dims *dims, int backward) {
    return up_cpu_prepared_size(up_cpu_of(b), dims, backward);
}

static void fill_table(up_backend_ops *ops) {
    *ops = *up_ref_ops();
    ops->name = "cpu";
    ops->destroy = destroy;
    ops->alloc = alloc_buffer;
    ops->supports = supports;
    ops->scratch = scratch;
    ops->prepared_size = prepared_size;
    up_cpu_fill_slots(ops);
}

static up_status reserve(size_t floats, void *out) {
    void *memory = NULL;
    if (posix_memalign(&memory, 64, floats * sizeof(float)))
        return up_fail(UP_ERR_MEMORY, "backend cpu", "out of memory: %zu bytes wanted",
                       floats * sizeof(float));
    memcpy(out, &memory, sizeof memory);
    return UP_OK;
}

static up_status choose_by_environment(int threads, up_cpu *cpu) {
    cpu->threads = up_cpu_threads(threads);
    UP_TRY(up_cpu_choose_kernels(&cpu->kernels));
    return up_cpu_choose_gemm(cpu);
}

/* One thread at a time: what is chosen depends on the environment, which loading OpenBLAS changes for a
 * moment. */
static up_status choose(int threads, up_cpu *cpu) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    up_status status = choose_by_environment(threads, cpu);
    pthread_mutex_unlock(&lock);
    return status;
}

up_status up_backend_cpu(int threads, up_backend **out) {
    UP_GIVEN(out);
    up_status status = UP_OK;
    up_backend *b = calloc(1, sizeof *b);
    up_cpu *cpu = calloc(1, sizeof *cpu);
    if (!b || !cpu)
        UP_GO(up_fail(UP_ERR_MEMORY, "backend cpu", "out of memory: %zu bytes wanted", sizeof *cpu));
    if (threads < 0)
        UP_GO(up_fail(UP_ERR_ARGUMENT, "backend cpu", "%d threads; wanted 0 (all cores) or more", threads));
    UP_GO(choose(threads, cpu));
    UP_GO(reserve((size_t)cpu->threads * (size_t)up_cpu_work_floats(&cpu->kernels), &cpu->work));
    UP_GO(reserve((size_t)cpu->threads * UP_CPU_SPARE, &cpu->spare.bytes));
    cpu->spare.size = (size_t)cpu->threads * UP_CPU_SPARE * sizeof(float);
    UP_GO(up_cpu_pool_start(cpu->threads, &cpu->pool));
    fill_table(&cpu->ops);
    *b = (up_backend){&cpu->ops, cpu};
    *out = b;
    return UP_OK;
done:
    if (cpu) {
        free(cpu->work);
        free(cpu->spare.bytes);
    }
    free(cpu);
    free(b);
    return status;
}

/* backend.cu - the CUDA backend: the device that it takes, what it can do, its table. */
#include "backend_cuda/device.cuh"

#if UP_HOST_PART
#include "backend_cuda/cuda.h"

#include <stdlib.h>

enum { LEAST_CAPABILITY = 70, WIDEST_HEAD = 128 };

static void destroy(up_backend *b) {
    up_cuda *c = up_cuda_of(b);
    if (c->stream) cudaStreamSynchronize(c->stream);
    up_blas_free(c->blas);
    up_staging_free(c->staging);
    if (c->scalars) cudaFree(c->scalars);
    if (c->stream) cudaStreamDestroy(c->stream);
    free(c);
    free(b);
}

/* ---- what it can do ---- */
static int supports(up_backend *b, up_op op, const up_op_dims *d, const char **why) {
    const char *reason = NULL;
    if ((unsigned)op >= UP_OP_COUNT)
        reason = "no such operation";
    else if (d->dtype != UP_F32 && d->dtype != UP_F16 && d->dtype != UP_BF16)
        reason = "activations are f32, f16 or bf16";
    else if (d->dtype == UP_BF16 && up_cuda_of(b)->capability < 80)
        reason = "bf16 wants a GPU of compute capability 8.0; take f16";
    else if (op == UP_OP_ATTENTION && d->heads > 0 && d->in % d->heads)
        reason = "the width is no multiple of the heads";
    else if (op == UP_OP_ATTENTION && d->heads > 0 && d->in / d->heads > WIDEST_HEAD)
        reason = "heads are at most 128 wide";
    else if (d->rows > INT32_MAX || d->in > INT32_MAX || d->out > INT32_MAX)
        reason = "a tensor has at most 2^31 - 1 rows and columns";
    if (reason && why) *why = reason;
    return !reason;
}

static size_t scratch(up_backend *b, up_op op, const up_op_dims *d) {
    (void)b;
    switch (op) {
    case UP_OP_EMBED:
        return up_embed_scratch(d);
    case UP_OP_PATCH_EMBED:
        return up_patch_embed_scratch(d);
    case UP_OP_LINEAR:
        return up_linear_scratch(d);
    case UP_OP_LAYERNORM:
    case UP_OP_RESIDUAL:
        return up_rows_scratch(d);
    case UP_OP_ATTENTION:
        return up_attention_scratch(d);
    case UP_OP_LOGITS:
        return up_loss_scratch(d);
    case UP_OP_SQNORM:
        return up_update_scratch(d);
    default:
        return 0;
    }
}

static const up_backend_ops *table() {
    static up_backend_ops ops;
    ops.version = UP_BACKEND_VERSION;
    ops.size = sizeof ops;
    ops.name = "cuda";
    ops.static_shapes = 1;
    ops.destroy = destroy;
    ops.supports = supports;
    ops.scratch = scratch;
    up_memory_fill_table(&ops);
    up_embed_fill_table(&ops);
    up_patches_fill_table(&ops);
    up_linear_fill_table(&ops);
    up_rows_fill_table(&ops);
    up_norm_fill_table(&ops);
    up_loss_fill_table(&ops);
    up_update_fill_table(&ops);
    up_attention_fill_table(&ops);
    return &ops;
}

/* ---- the device ---- */
static up_status find_device() {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess) {
        cudaGetLastError();
        return up_fail(UP_ERR_UNSUPPORTED, "backend cuda", "no GPU can be used: %s",
                       cudaGetErrorString(error));
    }
    return count > 0 ? UP_OK : up_fail(UP_ERR_UNSUPPORTED, "backend cuda", "there is no GPU");
}

static up_status open_device(up_cuda *c) {
    int device = 0, major = 0, minor = 0;
    UP_TRY(up_cuda_check(cudaGetDevice(&device), "cudaGetDevice"));
    UP_TRY(
        up_cuda_check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "device"));
    UP_TRY(
        up_cuda_check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "device"));
    c->capability = 10 * major + minor;
    if (getenv("UP_CUDA_VOLTA") && c->capability > LEAST_CAPABILITY) c->capability = LEAST_CAPABILITY;
    if (c->capability < LEAST_CAPABILITY)
        return up_fail(UP_ERR_UNSUPPORTED, "backend cuda",
                       "the GPU has compute capability %d.%d; wanted 7.0 or more", major, minor);
    return up_cuda_check(cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking), "cudaStreamCreate");
}

up_status up_backend_cuda(up_backend **out) {
    UP_TRY(find_device());
    up_backend *b = static_cast<up_backend *>(calloc(1, sizeof *b));
    up_cuda *c = static_cast<up_cuda *>(calloc(1, sizeof *c));
    if (!b || !c) {
        free(b);
        free(c);
        return up_fail(UP_ERR_MEMORY, "backend cuda", "out of memory: %zu bytes wanted",
                       sizeof *b + sizeof *c);
    }
    b->ops = table();
    b->state = c;
    void *scalars = NULL;
    up_status status = open_device(c);
    if (status == UP_OK) status = up_blas_create(&c->blas);
    if (status == UP_OK) status = up_staging_create(&c->staging);
    if (status == UP_OK) status = up_cuda_alloc(&scalars, UP_SCALARS * sizeof(float));
    c->scalars = static_cast<float *>(scalars);
    if (status == UP_OK)
        *out = b;
    else
        destroy(b);
    return status;
}
#endif

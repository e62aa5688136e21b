/* product.cu - matrix products by cuBLASLt, the one file that knows it. The choice of an algorithm is asked
 * once for each shape. The library is loaded when a backend is created, so that a program starts without it.
 */
#include "backend_cuda/device.cuh"

#if UP_HOST_PART
#include "backend_cuda/cuda.h"

#include <cublasLt.h>
#ifndef UP_CUDA_HOST
#include <dlfcn.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is called of the library. */
#define UP_BLAS_CALLS(X)                                                                                     \
    X(cublasLtGetStatusString)                                                                               \
    X(cublasLtCreate)                                                                                        \
    X(cublasLtDestroy)                                                                                       \
    X(cublasLtMatrixLayoutCreate)                                                                            \
    X(cublasLtMatrixLayoutDestroy)                                                                           \
    X(cublasLtMatmulDescCreate)                                                                              \
    X(cublasLtMatmulDescDestroy)                                                                             \
    X(cublasLtMatmulDescSetAttribute)                                                                        \
    X(cublasLtMatmulPreferenceCreate)                                                                        \
    X(cublasLtMatmulPreferenceDestroy)                                                                       \
    X(cublasLtMatmulPreferenceSetAttribute)                                                                  \
    X(cublasLtMatmulAlgoGetHeuristic)                                                                        \
    X(cublasLtMatmul)
struct library {
#define UP_BLAS_FIELD(name) decltype(&::name) name;
    UP_BLAS_CALLS(UP_BLAS_FIELD)
#undef UP_BLAS_FIELD
};

/* What decides on an algorithm. */
struct shape {
    int64_t m, n, k, a_stride, b_stride, c_stride;
    int in, out, a_turned, b_turned, add, on_device, biased;
    int a_align, b_align, c_align; /* bytes, at most 16 */
};
struct plan {
    shape of;
    bool made;
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulAlgo_t algorithm;
    size_t workspace;
};
enum { PLANS = 1024, TRIES = 8, WORKSPACE = 32 << 20 };
struct up_blas {
    library call;
    void *loaded;
    cublasLtHandle_t handle;
    void *workspace;
    plan plans[PLANS]; /* by the hash of their shape */
};

static up_status check(const up_blas *blas, cublasStatus_t status, const char *what) {
    if (status == CUBLAS_STATUS_SUCCESS) return UP_OK;
    return up_fail(UP_ERR_BACKEND, "backend cuda", "%s: %s", what,
                   blas->call.cublasLtGetStatusString(status));
}

#ifdef UP_CUDA_HOST
static up_status load(up_blas *blas) {
#define UP_BLAS_TAKE(name) blas->call.name = ::name;
    UP_BLAS_CALLS(UP_BLAS_TAKE)
#undef UP_BLAS_TAKE
    return UP_OK;
}
static void unload(up_blas *blas) {
    (void)blas;
}
#else
static up_status load(up_blas *blas) {
    char name[64];
    snprintf(name, sizeof name, "libcublasLt.so.%d", CUBLAS_VER_MAJOR);
    blas->loaded = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!blas->loaded) return up_fail(UP_ERR_UNSUPPORTED, "backend cuda", "%s", dlerror());
#define UP_BLAS_TAKE(name)                                                                                   \
    blas->call.name = reinterpret_cast<decltype(&::name)>(dlsym(blas->loaded, #name));                       \
    if (!blas->call.name) return up_fail(UP_ERR_UNSUPPORTED, "backend cuda", "libcublasLt has no %s", #name);
    UP_BLAS_CALLS(UP_BLAS_TAKE)
#undef UP_BLAS_TAKE
    return UP_OK;
}
static void unload(up_blas *blas) {
    if (blas->loaded) dlclose(blas->loaded);
}
#endif

static void drop_plan(up_blas *blas, plan *p) {
    if (p->product) blas->call.cublasLtMatmulDescDestroy(p->product);
    if (p->a) blas->call.cublasLtMatrixLayoutDestroy(p->a);
    if (p->b) blas->call.cublasLtMatrixLayoutDestroy(p->b);
    if (p->c) blas->call.cublasLtMatrixLayoutDestroy(p->c);
    memset(p, 0, sizeof *p);
}

void up_blas_free(up_blas *blas) {
    if (!blas) return;
    for (int i = 0; i < PLANS; i++) drop_plan(blas, &blas->plans[i]);
    if (blas->handle) blas->call.cublasLtDestroy(blas->handle);
    if (blas->workspace) cudaFree(blas->workspace);
    unload(blas);
    free(blas);
}

up_status up_blas_create(up_blas **out) {
    up_blas *blas = static_cast<up_blas *>(calloc(1, sizeof *blas));
    if (!blas) return up_fail(UP_ERR_MEMORY, "backend cuda", "out of memory: %zu bytes wanted", sizeof *blas);
    up_status status = load(blas);
    if (status == UP_OK) status = check(blas, blas->call.cublasLtCreate(&blas->handle), "cublasLtCreate");
    if (status == UP_OK) status = up_cuda_alloc(&blas->workspace, WORKSPACE);
    if (status == UP_OK)
        *out = blas;
    else
        up_blas_free(blas);
    return status;
}

/* ---- plans ---- */
static cudaDataType_t type_of(int dtype) {
    return dtype == UP_F16 ? CUDA_R_16F : dtype == UP_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}
static int alignment(const void *at) {
    const uintptr_t lowest = (uintptr_t)at & (0 - (uintptr_t)at);
    return lowest > 16 ? 16 : (int)lowest;
}

static shape shape_of(const up_product &p) {
    shape s;
    memset(&s, 0, sizeof s); /* compared byte by byte */
    s.m = p.m;
    s.n = p.n;
    s.k = p.k;
    s.a_stride = p.a_stride;
    s.b_stride = p.b_stride;
    s.c_stride = p.c_stride;
    s.in = p.in;
    s.out = p.out;
    s.a_turned = p.a_turned;
    s.b_turned = p.b_turned;
    s.add = p.beta != 0;
    s.on_device = p.factors != NULL;
    s.biased = p.bias != NULL;
    s.a_align = alignment(p.a);
    s.b_align = alignment(p.b);
    s.c_align = alignment(p.c);
    return s;
}

static uint64_t hash_of(const shape &s) { /* FNV-1a */
    const unsigned char *bytes = reinterpret_cast<const unsigned char *>(&s);
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < sizeof s; i++) hash = (hash ^ bytes[i]) * 1099511628211u;
    return hash;
}

template <class T>
static up_status set(up_blas *blas, plan *p, cublasLtMatmulDescAttributes_t attribute, T value) {
    return check(blas, blas->call.cublasLtMatmulDescSetAttribute(p->product, attribute, &value, sizeof value),
                 "cublasLtMatmulDescSetAttribute");
}

static up_status layout(up_blas *blas, cublasLtMatrixLayout_t *out, int dtype, int64_t rows, int64_t cols,
                        int64_t stride) {
    return check(
        blas,
        blas->call.cublasLtMatrixLayoutCreate(out, type_of(dtype), (uint64_t)rows, (uint64_t)cols, stride),
        "cublasLtMatrixLayoutCreate");
}

/* cuBLAS counts by columns: a matrix by rows is its own transpose there, so c' [n, m] = b' a'. */
static up_status describe(up_blas *blas, plan *p) {
    const shape &s = p->of;
    UP_TRY(check(blas, blas->call.cublasLtMatmulDescCreate(&p->product, CUBLAS_COMPUTE_32F, CUDA_R_32F),
                 "cublasLtMatmulDescCreate"));
    UP_TRY(set(blas, p, CUBLASLT_MATMUL_DESC_TRANSA, s.b_turned ? CUBLAS_OP_T : CUBLAS_OP_N));
    UP_TRY(set(blas, p, CUBLASLT_MATMUL_DESC_TRANSB, s.a_turned ? CUBLAS_OP_T : CUBLAS_OP_N));
    if (s.on_device) UP_TRY(set(blas, p, CUBLASLT_MATMUL_DESC_POINTER_MODE, CUBLASLT_POINTER_MODE_DEVICE));
    if (s.biased) UP_TRY(set(blas, p, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS));
    UP_TRY(layout(blas, &p->b, s.in, s.b_turned ? s.k : s.n, s.b_turned ? s.n : s.k, s.b_stride));
    UP_TRY(layout(blas, &p->a, s.in, s.a_turned ? s.m : s.k, s.a_turned ? s.k : s.m, s.a_stride));
    return layout(blas, &p->c, s.out, s.n, s.m, s.c_stride);
}

static up_status prefer(up_blas *blas, cublasLtMatmulPreference_t preference, const shape &s) {
    const struct {
        cublasLtMatmulPreferenceAttributes_t attribute;
        int bytes;
    } alignments[] = {{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, s.b_align},
                      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, s.a_align},
                      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, s.c_align},
                      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, s.c_align}};
    const size_t workspace = WORKSPACE;
    UP_TRY(check(blas,
                 blas->call.cublasLtMatmulPreferenceSetAttribute(
                     preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace),
                 "cublasLtMatmulPreferenceSetAttribute"));
    for (const auto &a : alignments) {
        const uint32_t bytes = (uint32_t)a.bytes;
        UP_TRY(check(
            blas,
            blas->call.cublasLtMatmulPreferenceSetAttribute(preference, a.attribute, &bytes, sizeof bytes),
            "cublasLtMatmulPreferenceSetAttribute"));
    }
    return UP_OK;
}

static up_status choose(up_blas *blas, plan *p) {
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t found;
    int count = 0;
    UP_TRY(check(blas, blas->call.cublasLtMatmulPreferenceCreate(&preference),
                 "cublasLtMatmulPreferenceCreate"));
    up_status status = prefer(blas, preference, p->of);
    if (status == UP_OK)
        status = check(blas,
                       blas->call.cublasLtMatmulAlgoGetHeuristic(blas->handle, p->product, p->b, p->a, p->c,
                                                                 p->c, preference, 1, &found, &count),
                       "cublasLtMatmulAlgoGetHeuristic");
    blas->call.cublasLtMatmulPreferenceDestroy(preference);
    UP_TRY(status);
    if (count == 0)
        return up_fail(UP_ERR_BACKEND, "backend cuda",
                       "cuBLASLt has no algorithm for a product of %lld x %lld x %lld", (long long)p->of.m,
                       (long long)p->of.n, (long long)p->of.k);
    p->algorithm = found.algo;
    p->workspace = found.workspaceSize;
    return UP_OK;
}

/* The plan of a shape: where the hash says or a few places behind; a full place is given up. */
static up_status find_plan(up_blas *blas, const shape &s, plan **out) {
    const uint64_t hash = hash_of(s);
    plan *p = NULL;
    for (int i = 0; i < TRIES; i++) {
        p = &blas->plans[(hash + (uint64_t)i) % PLANS];
        if (!p->made) break;
        if (memcmp(&p->of, &s, sizeof s) == 0) {
            *out = p;
            return UP_OK;
        }
    }
    drop_plan(blas, p);
    p->of = s;
    UP_TRY(describe(blas, p));
    UP_TRY(choose(blas, p));
    p->made = true;
    *out = p;
    return UP_OK;
}

up_status up_multiply(up_backend *b, const up_product &p) {
    if (p.m <= 0 || p.n <= 0 || p.k <= 0) return UP_OK;
    up_blas *blas = up_cuda_of(b)->blas;
    plan *q = NULL;
    UP_TRY(find_plan(blas, shape_of(p), &q));
    const float alpha = 1, beta = p.beta;
    if (p.bias) UP_TRY(set(blas, q, CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<const void *>(p.bias)));
    return check(blas,
                 blas->call.cublasLtMatmul(blas->handle, q->product, p.factors ? p.factors : &alpha, p.b,
                                           q->b, p.a, q->a, p.factors ? p.factors + 1 : &beta, p.c, q->c, p.c,
                                           q->c, &q->algorithm, blas->workspace, q->workspace, up_stream(b)),
                 "cublasLtMatmul");
}
#endif

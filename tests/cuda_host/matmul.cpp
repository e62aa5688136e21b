/* matmul.cpp - cuBLASLt's answers: descriptors, what is refused, and the product as an operation of a stream.
 * Inputs are widened to f32, products of 256 terms are summed in f32, these sums again in f32, the result is
 * rounded once. */
#include "cublasLt.h"
#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "executor.h"

struct up_cuda_host_handle {
    int unused;
};
struct up_cuda_host_layout {
    cudaDataType type;
    cublasLtOrder_t order;
    uint64_t rows, cols;
    int64_t ld, stride;
    int batch;
};
struct up_cuda_host_matmul {
    cublasComputeType_t compute;
    cudaDataType_t scale;
    cublasLtPointerMode_t pointers;
    cublasOperation_t trans_a, trans_b;
    cublasLtEpilogue_t epilogue;
    void *bias;
    int bias_type; /* cudaDataType, -1: D's */
};
struct up_cuda_host_preference {
    size_t workspace;
};
static constexpr size_t WORKSPACE = 64 << 10; /* what the heuristic asks for, where it may */

/* ---- descriptors ---- */
const char *cublasLtGetStatusName(cublasStatus_t status) {
    switch (status) {
    case CUBLAS_STATUS_SUCCESS:
        return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
        return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_INVALID_VALUE:
        return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED:
        return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
        return "an error of cuBLAS";
    }
}
const char *cublasLtGetStatusString(cublasStatus_t status) {
    return cublasLtGetStatusName(status);
}
const char *cublasGetStatusString(cublasStatus_t status) {
    return cublasLtGetStatusName(status);
}
size_t cublasLtGetVersion() {
    return 120900;
}

template <class T> static cublasStatus_t destroy(T *object) {
    if (!object) return CUBLAS_STATUS_INVALID_VALUE;
    delete object;
    return CUBLAS_STATUS_SUCCESS;
}

/* Takes a value if it has the size of the field. */
template <class T> static cublasStatus_t take(T *field, const void *value, size_t bytes) {
    if (!value || bytes != sizeof *field) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(field, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
    *handle = new up_cuda_host_handle{0};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    return destroy(handle);
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType type, uint64_t rows,
                                          uint64_t cols, int64_t ld) {
    *layout = new up_cuda_host_layout{type, CUBLASLT_ORDER_COL, rows, cols, ld, 0, 1};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
    return destroy(layout);
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void *value,
                                                size_t bytes) {
    switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE:
        return take(&l->type, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_ORDER:
        return take(&l->order, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_ROWS:
        return take(&l->rows, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_COLS:
        return take(&l->cols, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_LD:
        return take(&l->ld, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
        return take(&l->batch, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
        return take(&l->stride, value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *matmul, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
    *matmul = new up_cuda_host_matmul{compute,     scale,       CUBLASLT_POINTER_MODE_HOST,
                                      CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT,
                                      nullptr,     -1};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t matmul) {
    return destroy(matmul);
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t m,
                                              cublasLtMatmulDescAttributes_t attribute, const void *value,
                                              size_t bytes) {
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_COMPUTE_TYPE:
        return take(&m->compute, value, bytes);
    case CUBLASLT_MATMUL_DESC_SCALE_TYPE:
        return take(&m->scale, value, bytes);
    case CUBLASLT_MATMUL_DESC_POINTER_MODE:
        return take(&m->pointers, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return take(&m->trans_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return take(&m->trans_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return take(&m->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return take(&m->bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
        return take(&m->bias_type, value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference) {
    *preference = new up_cuda_host_preference{0};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
    return destroy(preference);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t bytes) {
    uint32_t other;
    if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
        return take(&preference->workspace, value, bytes);
    return take(&other, value, bytes);
}

/* ---- what is refused ---- */
static size_t size_of(cudaDataType type) {
    return type == CUDA_R_32F ? 4 : 2;
}
static bool is_known(cudaDataType type) {
    return type == CUDA_R_32F || type == CUDA_R_16F ||
           (type == CUDA_R_16BF && up_settings_get().capability >= 80);
}

/* Elements from the first to behind the last one. */
static int64_t extent(const up_cuda_host_layout &l) {
    const int64_t lines = (int64_t)(l.order == CUBLASLT_ORDER_COL ? l.cols : l.rows);
    const int64_t length = (int64_t)(l.order == CUBLASLT_ORDER_COL ? l.rows : l.cols);
    return (l.batch - 1) * l.stride + (lines - 1) * l.ld + length;
}
static bool is_sound(const up_cuda_host_layout *l, int batch) {
    return l && l->rows && l->cols &&
           l->ld >= (int64_t)(l->order == CUBLASLT_ORDER_COL ? l->rows : l->cols) && l->batch == batch;
}

namespace {
struct sizes {
    int64_t m, n, k;
};
} // namespace
static sizes sizes_of(const up_cuda_host_matmul &o, const up_cuda_host_layout &a,
                      const up_cuda_host_layout &d) {
    return {(int64_t)d.rows, (int64_t)d.cols, (int64_t)(o.trans_a == CUBLAS_OP_N ? a.cols : a.rows)};
}

static cublasStatus_t judge(const up_cuda_host_matmul *o, const up_cuda_host_layout *a,
                            const up_cuda_host_layout *b, const up_cuda_host_layout *c,
                            const up_cuda_host_layout *d) {
    if (!o || !is_sound(d, d ? d->batch : 0) || !is_sound(a, d->batch) || !is_sound(b, d->batch) ||
        !is_sound(c, d->batch))
        return CUBLAS_STATUS_INVALID_VALUE;
    const sizes s = sizes_of(*o, *a, *d);
    const int64_t am = (int64_t)(o->trans_a == CUBLAS_OP_N ? a->rows : a->cols);
    const int64_t bk = (int64_t)(o->trans_b == CUBLAS_OP_N ? b->rows : b->cols);
    const int64_t bn = (int64_t)(o->trans_b == CUBLAS_OP_N ? b->cols : b->rows);
    if (am != s.m || bk != s.k || bn != s.n || c->rows != d->rows || c->cols != d->cols)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!is_known(a->type) || a->type != b->type || c->type != d->type ||
        (d->type != a->type && d->type != CUDA_R_32F))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (o->scale != CUDA_R_32F || c->order != d->order) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (o->epilogue == CUBLASLT_EPILOGUE_DEFAULT) return CUBLAS_STATUS_SUCCESS;
    if (o->bias_type != -1 && o->bias_type != (int)d->type) return CUBLAS_STATUS_NOT_SUPPORTED;
    const bool columns =
        a->order == CUBLASLT_ORDER_COL && b->order == CUBLASLT_ORDER_COL && d->order == CUBLASLT_ORDER_COL;
    return columns && d->batch == 1 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t matmul,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t *results, int *found) {
    *found = 0;
    if (wanted < 1 || !results) return CUBLAS_STATUS_INVALID_VALUE;
    const cublasStatus_t status = judge(matmul, a, b, c, d);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    results[0] = cublasLtMatmulHeuristicResult_t{};
    results[0].workspaceSize = preference && preference->workspace < WORKSPACE ? 0 : WORKSPACE;
    results[0].algo.data[0] = results[0].workspaceSize;
    results[0].wavesCount = 1.0f;
    *found = 1;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- elements ---- */
static float element(const void *at, cudaDataType type, int64_t i) {
    if (type == CUDA_R_32F) return static_cast<const float *>(at)[i];
    const unsigned short bits = static_cast<const unsigned short *>(at)[i];
    return type == CUDA_R_16F ? up_cuda_host_from_half(bits) : __uint_as_float((uint32_t)bits << 16);
}
static void set_element(void *at, cudaDataType type, int64_t i, float x) {
    if (type == CUDA_R_32F)
        static_cast<float *>(at)[i] = x;
    else
        static_cast<unsigned short *>(at)[i] =
            type == CUDA_R_16F ? up_cuda_host_to_half(x) : up_cuda_host_to_bf16(x);
}

/* ---- the product: panels of ROWS rows of A and COLS columns of B, as f32, of all K terms ---- */
namespace {
constexpr int64_t ROWS = 6, COLS = 16, TERMS = 256;
typedef float eight __attribute__((vector_size(32), aligned(32)));
struct panel { /* [count / width][k][width], filled up with 0 */
    std::unique_ptr<float[]> room;
    float *at;
    int64_t width, count, k;
};

/* Element (i, term) of the operand lies at i * across + term * along. */
panel pack(const void *from, cudaDataType type, int64_t count, int64_t k, int64_t across, int64_t along,
           int64_t width) {
    const int64_t panels = (count + width - 1) / width;
    panel p = {std::unique_ptr<float[]>(new float[(size_t)(panels * width * k + 8)]), nullptr, width, count,
               k};
    p.at = reinterpret_cast<float *>(((uintptr_t)p.room.get() + 31) & ~(uintptr_t)31);
    for (int64_t i = 0; i < panels * width; i++) {
        float *to = p.at + i / width * width * k + i % width;
        for (int64_t t = 0; t < k; t++)
            to[t * width] = i < count ? element(from, type, i * across + t * along) : 0.0f;
    }
    return p;
}

/* tile [ROWS][COLS] = a panel of A times one of B. */
#define UP_TILE(name, how)                                                                                   \
    how void name(const float *a, const float *b, int64_t k, float *tile) {                                  \
        eight sums[ROWS][2] = {};                                                                            \
        for (int64_t from = 0; from < k; from += TERMS) {                                                    \
            eight part[ROWS][2] = {};                                                                        \
            const int64_t to = from + TERMS < k ? from + TERMS : k;                                          \
            for (int64_t t = from; t < to; t++) {                                                            \
                const eight *row = reinterpret_cast<const eight *>(b + t * COLS);                            \
                const eight left = row[0], right = row[1];                                                   \
                _Pragma("GCC unroll 6") for (int64_t i = 0; i < ROWS; i++) {                                 \
                    part[i][0] += a[t * ROWS + i] * left;                                                    \
                    part[i][1] += a[t * ROWS + i] * right;                                                   \
                }                                                                                            \
            }                                                                                                \
            for (int64_t i = 0; i < ROWS; i++) {                                                             \
                sums[i][0] += part[i][0];                                                                    \
                sums[i][1] += part[i][1];                                                                    \
            }                                                                                                \
        }                                                                                                    \
        memcpy(tile, sums, sizeof sums);                                                                     \
    }
UP_TILE(tile_plain, )
#ifdef __x86_64__
UP_TILE(tile_avx2, __attribute__((target("avx2,fma"))))
#endif

void tile(const float *a, const float *b, int64_t k, float *to) {
#ifdef __x86_64__
    static const bool wide = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (wide) return tile_avx2(a, b, k, to);
#endif
    tile_plain(a, b, k, to);
}

struct product { /* a call, as it stands in a queue */
    up_cuda_host_matmul o;
    up_cuda_host_layout la, lb, lc, ld;
    const char *a, *b, *c;
    char *d;
    const float *alpha_at, *beta_at; /* on the device; NULL: the values below */
    float alpha, beta;
    void *workspace;
    size_t workspace_bytes;
};
} // namespace

static int64_t row_step(const up_cuda_host_layout &l) {
    return l.order == CUBLASLT_ORDER_COL ? 1 : l.ld;
}
static int64_t col_step(const up_cuda_host_layout &l) {
    return l.order == CUBLASLT_ORDER_COL ? l.ld : 1;
}

static void store_tile(const product &p, const float *tile, int64_t batch, int64_t i0, int64_t j0,
                       const sizes &s) {
    const char *c = p.c + batch * p.lc.stride * (int64_t)size_of(p.lc.type);
    char *d = p.d + batch * p.ld.stride * (int64_t)size_of(p.ld.type);
    for (int64_t j = j0; j < j0 + COLS && j < s.n; j++)
        for (int64_t i = i0; i < i0 + ROWS && i < s.m; i++) {
            float x = p.alpha * tile[(i - i0) * COLS + j - j0];
            if (p.beta != 0.0f) x += p.beta * element(c, p.lc.type, i * row_step(p.lc) + j * col_step(p.lc));
            if (p.o.epilogue == CUBLASLT_EPILOGUE_BIAS) x += element(p.o.bias, p.ld.type, i);
            set_element(d, p.ld.type, i * row_step(p.ld) + j * col_step(p.ld), x);
        }
}

/* The sums over all terms of each row of op(A), or column of op(B). */
static void store_sums(const product &p, const panel &from) {
    for (int64_t i = 0; i < from.count; i++) {
        const float *at = from.at + i / from.width * from.width * from.k + i % from.width;
        double sum = 0;
        for (int64_t t = 0; t < from.k; t++) sum += at[t * from.width];
        set_element(p.o.bias, p.ld.type, i, (float)sum);
    }
}

static void multiply_batch(const product &p, int64_t batch) {
    const sizes s = sizes_of(p.o, p.la, p.ld);
    const bool ta = p.o.trans_a != CUBLAS_OP_N, tb = p.o.trans_b != CUBLAS_OP_N;
    const int64_t ra = row_step(p.la), ca = col_step(p.la), rb = row_step(p.lb), cb = col_step(p.lb);
    const panel a = pack(p.a + batch * p.la.stride * (int64_t)size_of(p.la.type), p.la.type, s.m, s.k,
                         ta ? ca : ra, ta ? ra : ca, ROWS);
    const panel b = pack(p.b + batch * p.lb.stride * (int64_t)size_of(p.lb.type), p.lb.type, s.n, s.k,
                         tb ? rb : cb, tb ? cb : rb, COLS);
    alignas(32) float sums[ROWS * COLS];
    for (int64_t j = 0; j < s.n; j += COLS)
        for (int64_t i = 0; i < s.m; i += ROWS) {
            tile(a.at + i * s.k, b.at + j * s.k, s.k, sums);
            store_tile(p, sums, batch, i, j, s);
        }
    if (p.o.epilogue == CUBLASLT_EPILOGUE_BGRADA) store_sums(p, a);
    if (p.o.epilogue == CUBLASLT_EPILOGUE_BGRADB) store_sums(p, b);
}

/* ---- the operation ---- */
/* All of an operand lies in one allocation, or it is reported; the checker hears of it line by line. */
static void touch(const char *name, const void *at, const up_cuda_host_layout &l, up_access access) {
    const size_t size = size_of(l.type), bytes = (size_t)extent(l) * size;
    if (!up_allocation_of(at, bytes))
        up_report("cublasLtMatmul: %s, %zu bytes, is not all inside an allocation: it begins at %s", name,
                  bytes, up_describe_address(at).c_str());
    if ((uintptr_t)at % size) up_report("cublasLtMatmul: %s is not aligned to its elements", name);
    const uint64_t lines = l.order == CUBLASLT_ORDER_COL ? l.cols : l.rows,
                   length = l.order == CUBLASLT_ORDER_COL ? l.rows : l.cols;
    for (int64_t batch = 0; batch < l.batch; batch++)
        for (uint64_t line = 0; line < lines; line++)
            up_check_range(static_cast<const char *>(at) +
                               (batch * l.stride + (int64_t)line * l.ld) * (int64_t)size,
                           length * size, access);
}

static void touch_bias(const product &p) {
    if (p.o.epilogue == CUBLASLT_EPILOGUE_DEFAULT) return;
    const size_t count = p.o.epilogue == CUBLASLT_EPILOGUE_BGRADB ? p.ld.cols : p.ld.rows,
                 bytes = count * size_of(p.ld.type);
    if (!up_allocation_of(p.o.bias, bytes))
        up_report("cublasLtMatmul: the bias, %zu bytes, is not all inside an allocation: it begins at %s",
                  bytes, up_describe_address(p.o.bias).c_str());
    up_check_range(p.o.bias, bytes, p.o.epilogue == CUBLASLT_EPILOGUE_BIAS ? UP_READ : UP_WRITE);
}

static void run_product(product p) {
    if (p.alpha_at) {
        up_check_range(p.alpha_at, 4, UP_READ);
        up_check_range(p.beta_at, 4, UP_READ);
        p.alpha = *p.alpha_at;
        p.beta = *p.beta_at;
    }
    touch("A", p.a, p.la, UP_READ);
    touch("B", p.b, p.lb, UP_READ);
    if (p.beta != 0.0f) touch("C", p.c, p.lc, UP_READ);
    touch_bias(p);
    touch("D", p.d, p.ld, UP_WRITE);
    if (p.workspace_bytes) { /* a real one leaves partial sums there */
        up_check_range(p.workspace, p.workspace_bytes, UP_WRITE);
        up_poison(p.workspace, p.workspace_bytes);
    }
    for (int64_t batch = 0; batch < p.ld.batch; batch++) multiply_batch(p, batch);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t matmul, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
    const auto lock = up_lock();
    if (!handle || !alpha || !beta) return CUBLAS_STATUS_INVALID_VALUE;
    const cublasStatus_t status = judge(matmul, a_layout, b_layout, c_layout, d_layout);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    const size_t used = algo ? (size_t)algo->data[0] : 0;
    if (used > workspace_bytes || (used && !up_allocation_of(workspace, used)))
        return CUBLAS_STATUS_INVALID_VALUE;
    product p = {*matmul,
                 *a_layout,
                 *b_layout,
                 *c_layout,
                 *d_layout,
                 (const char *)a,
                 (const char *)b,
                 (const char *)c,
                 (char *)d,
                 nullptr,
                 nullptr,
                 0,
                 0,
                 workspace,
                 used};
    const bool device = matmul->pointers == CUBLASLT_POINTER_MODE_DEVICE;
    p.alpha_at = device ? static_cast<const float *>(alpha) : nullptr;
    p.beta_at = device ? static_cast<const float *>(beta) : nullptr;
    p.alpha = device ? 0 : *static_cast<const float *>(alpha);
    p.beta = device ? 0 : *static_cast<const float *>(beta);
    up_operation o;
    o.what = "cublasLtMatmul";
    o.run = [p] { run_product(p); };
    return up_enqueue(stream, std::move(o)) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                           : CUBLAS_STATUS_EXECUTION_FAILED;
}

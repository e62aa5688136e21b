/* gemm.c - which matrix product, and the one file that knows oneDNN and OpenBLAS. Ours (product.c) is the
 * default; UP_CPU_GEMM=dnnl|openblas takes a library's for f32, for comparison. 16-bit activations and pixels
 * go through ours always. A library's product is one thread's; the loop over threads is ours (pool.c). */
#include "backend_cpu/cpu.h"
#include "ref/log.h"

/* Where OpenMP cannot be told to leave oneDNN one thread, oneDNN is not used. */
#if defined(UP_WITH_DNNL) && defined(_OPENMP)
#define WITH_DNNL
#include <dnnl.h>
#include <pthread.h>
#include <signal.h>
#endif
#ifdef UP_WITH_OPENBLAS
#include <cblas.h>
#include <dlfcn.h>
#include <pthread.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#ifdef WITH_DNNL
/* dnnl_sgemm is in 2.x and 3.x alike; inside a parallel region, and with one OpenMP thread, it takes one
 * thread. Its generated code uses the stack pointer for other things (seen with 2.6): a signal handler that
 * ran on this thread meanwhile would write its frame into the heap. So signals wait until the product is
 * done. */
static int with_dnnl(int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                     int64_t lda, const float *b, int64_t ldb, int add, float *c, int64_t ldc) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    dnnl_status_t status =
        dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k, alpha, a, lda, b, ldb, add ? 1.0f : 0.0f, c, ldc);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return status != dnnl_success;
}
#endif

static int always(const char **why) {
    (void)why;
    return 1;
}

#ifdef UP_WITH_OPENBLAS
/* OpenBLAS is loaded when it is chosen, not with the program: as it is loaded, it starts a thread for each
 * processor and takes tens of MiB for each, and where there is no memory for them the process hangs or ends
 * without a word. None of them would have work here. OPENBLAS_NUM_THREADS is looked at then and never again;
 * a program whose other threads use the environment creates its first backend before they do. Those that
 * create backends meanwhile wait (backend.c). */
static struct {
    __typeof__(cblas_sgemm) *sgemm;
    char why[200];
} openblas;

/* OpenBLAS takes kernels for the processor it knows best; one that is newer than the library may get those of
 * an old one, at half the speed. */
static void check_core(void *library) {
    static const char *const old[] = {"Prescott",  "Core2",       "Penryn",  "Dunnington", "Nehalem",
                                      "Barcelona", "Sandybridge", "Haswell", "Zen",        "generic"};
    void *corename = dlsym(library, "openblas_get_corename");
    const char *name = corename ? ((__typeof__(openblas_get_corename) *)corename)() : "";
#ifdef UP_X86
    int wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl");
    for (size_t i = 0; wide && i < sizeof old / sizeof *old; i++)
        if (!strcasecmp(name, old[i]))
            up_log(UP_LOG_NOTICE,
                   "OpenBLAS: takes its kernels for %s though the processor has AVX-512; "
                   "OPENBLAS_CORETYPE=SkylakeX chooses those",
                   name);
#endif
}

static void *open_with_one_thread(void) {
    static const char name[] = "OPENBLAS_NUM_THREADS";
    const char *set = getenv(name);
    char *before = set ? strdup(set) : NULL;
    setenv(name, "1", 1);
    void *library = dlopen(UP_OPENBLAS, RTLD_NOW | RTLD_LOCAL); /* where the build found it */
    if (!library) library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    if (before)
        setenv(name, before, 1);
    else
        unsetenv(name);
    free(before);
    return library;
}

static void load_openblas(void) {
    void *library = open_with_one_thread(), *sgemm = library ? dlsym(library, "cblas_sgemm") : NULL;
    void *set_threads = library ? dlsym(library, "openblas_set_num_threads") : NULL;
    if (!sgemm || !set_threads) {
        const char *why = dlerror();
        strncpy(openblas.why, why ? why : "lacks a function", sizeof openblas.why - 1);
        return;
    }
    ((__typeof__(openblas_set_num_threads) *)set_threads)(
        1); /* where the host program had loaded it before */
    openblas.sgemm = (__typeof__(cblas_sgemm) *)sgemm;
    check_core(library);
}

static int has_openblas(const char **why) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load_openblas);
    *why = openblas.why;
    return openblas.sgemm != NULL;
}

static int with_openblas(int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                         int64_t lda, const float *b, int64_t ldb, int add, float *c, int64_t ldc) {
    openblas.sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, (blasint)m,
                   (blasint)n, (blasint)k, alpha, a, (blasint)lda, b, (blasint)ldb, add ? 1.0f : 0.0f, c,
                   (blasint)ldc);
    return 0;
}
#endif

static const struct {
    const char *name;
    up_cpu_gemm_fn run;
    int (*here)(const char **why);
} products[] = {
    {"own", NULL, always}, /* best first */
#ifdef WITH_DNNL
    {"dnnl", with_dnnl, always},
#endif
#ifdef UP_WITH_OPENBLAS
    {"openblas", with_openblas, has_openblas},
#endif
};

up_status up_cpu_choose_gemm(up_cpu *cpu) {
    const char *wanted = getenv("UP_CPU_GEMM"), *why = "";
    for (size_t i = 0; i < sizeof products / sizeof *products; i++) {
        if (wanted && strcmp(wanted, products[i].name)) continue;
        if (products[i].here(&why)) {
            cpu->gemm = products[i].run;
            cpu->gemm_name = products[i].name;
            return UP_OK;
        }
        if (wanted) return up_fail(UP_ERR_UNSUPPORTED, "UP_CPU_GEMM", "%s cannot be loaded: %s", wanted, why);
    }
    return up_fail(UP_ERR_ARGUMENT, "UP_CPU_GEMM",
                   "'%s' is unknown or not built; wanted own, dnnl or openblas", wanted);
}

void up_cpu_product(up_cpu *cpu, int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                    int64_t lda, const float *b, int64_t ldb, int add, up_rows c) {
    if (m <= 0 || n <= 0) return;
    if (k <= 0) { /* an empty sum */
        for (int64_t i = 0; !add && i < m; i++) memset(c.p + i * c.ld, 0, (size_t)n * sizeof *c.p);
        return;
    }
    if (cpu->gemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, add, c.p, c.ld))
        atomic_fetch_add_explicit(&cpu->refused, 1, memory_order_relaxed);
}

up_status up_cpu_finish(up_cpu *cpu) {
    int refused = atomic_exchange(&cpu->refused, 0);
    return refused ? up_fail(UP_ERR_BACKEND, "backend cpu", "%s refused %d products", cpu->gemm_name, refused)
                   : UP_OK;
}

/* ---- one product on all threads ---- */
typedef struct matmul {
    up_cpu *cpu;
    int ta, tb, add;
    float alpha;
    up_view a, b, bias, c;
    int64_t rows, cols, across; /* of a piece, pieces side by side */
} matmul;

static void matmul_piece(const void *context, int64_t piece, int thread) {
    const matmul *t = context;
    (void)thread;
    int64_t i = piece / t->across * t->rows, j = piece % t->across * t->cols;
    int64_t m = up_least(t->rows, t->c.rows - i), n = up_least(t->cols, t->c.cols - j);
    const float *a = up_f32(t->a) + (t->ta ? i : i * t->a.stride),
                *b = up_f32(t->b) + (t->tb ? j * t->b.stride : j);
    up_rows c = up_rows_from(t->c, i);
    c.p += j;
    up_cpu_product(t->cpu, t->ta, t->tb, m, n, t->ta ? t->a.rows : t->a.cols, t->alpha, a, t->a.stride, b,
                   t->b.stride, t->add, c);
    if (up_view_present(t->bias))
        t->cpu->kernels.bias_act(m, n, 0, c, up_f32(t->bias) + j, (up_rows){NULL, 0}, c);
}

static int64_t pieces_of(int64_t n, int64_t size) {
    return (n + size - 1) / size;
}

/* About two pieces a thread, cut where C is longer, no piece narrower than 32. */
static void matmul_by_library(up_cpu *cpu, int ta, int tb, float alpha, up_view a, up_view b, int add,
                              up_view bias, up_view c) {
    matmul t = {cpu, ta, tb, add, alpha, a, b, bias, c, up_most(c.rows, 1), up_most(c.cols, 1), 1};
    int64_t wanted = cpu->threads > 1 ? 2 * cpu->threads : 1;
    while (pieces_of(c.rows, t.rows) * pieces_of(c.cols, t.cols) < wanted && (t.rows > 32 || t.cols > 32)) {
        int64_t *longer = t.rows >= t.cols ? &t.rows : &t.cols;
        *longer = ((*longer + 1) / 2 + 15) / 16 * 16;
    }
    t.across = up_most(1, pieces_of(c.cols, t.cols));
    up_cpu_for(cpu, pieces_of(c.rows, t.rows) * pieces_of(c.cols, t.cols), matmul_piece, &t);
}

void up_cpu_matmul(up_cpu *cpu, int ta, int tb, float alpha, up_view a, up_view b, int add, up_view bias,
                   up_view c) {
    if (cpu->gemm) {
        matmul_by_library(cpu, ta, tb, alpha, a, b, add, bias, c);
        return;
    }
    up_cpu_sums(cpu, &(up_cpu_sum){.m = c.rows,
                                   .n = c.cols,
                                   .k = ta ? a.rows : a.cols,
                                   .a = up_cpu_operand_of(a, ta),
                                   .b = up_cpu_operand_of(b, !tb),
                                   .alpha = alpha,
                                   .add = add,
                                   .bias = up_f32(bias),
                                   .c = up_rows_of(c)});
}

/* test_parity.c - every backend against the reference, operation by operation, over the case table (cases.h).
 * The reference sums in double; a backend may differ from it by twice what an honest computation in f32 does
 * wrong that stores in the activations' type, in the worst element and in the norm, and not at all on
 * integers. One test an operation, each case of a drawn element type (UP_CASE_DTYPE: all of one); first the
 * harness itself is tested. */
#include "tests/cases.h"
#include "tests/guard.h"
#include "tests/support.h"
#include "uniperceiver/backend_host.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

const char *const up_suite_name = "parity";

enum { CASES = 300 }; /* of each operation, on each backend; UP_CASES: another number */

/* ---- the backends under test ---- */

typedef struct tested {
    const char *label, *name; /* NULL: the guard */
    int threads;
    uint64_t every; /* how many cases there are for one of this backend's */
} tested;

#ifdef UP_TEST_CUDA /* the same program for that backend alone */
static const tested backends[] = {{"cuda", "cuda", 0, 1}};
#else
static const tested backends[] = {
    {"cpu with 1 thread", "cpu", 1, 1}, {"cpu with 3 threads", "cpu", 3, 1}, {"guard", NULL, 1, 10}};
#endif

enum { BACKENDS = sizeof backends / sizeof *backends };

/* What a backend may refuse, with its reason; anything else that it does not support is a failure. */
static const struct {
    const char *backend;
    up_op op;
    up_dtype dtype;
    const char *why;
} refusals[] = {
    {NULL, UP_OP_COUNT, UP_F32, NULL}, /* none so far */
};

static int may_refuse(const up_backend *b, const up_case *c, const char *why) {
    for (size_t i = 0; refusals[i].backend; i++)
        if (!strcmp(refusals[i].backend, b->ops->name) && refusals[i].op == c->kind->op &&
            refusals[i].dtype == c->dtype && !strcmp(refusals[i].why, why))
            return 1;
    return 0;
}

#ifndef UP_TEST_CUDA
/* A path of the cpu backend that UP_CPU_ISA or UP_CPU_GEMM ask for and that this processor or this build does
 * not have. What a backend says in any other case is for the tests to judge. */
const char *up_suite_lacks(void) {
    static const struct {
        const char *variable, *value;
        up_status absent; /* from the processor, or from the build */
    } paths[] = {{"UP_CPU_ISA", "avx2", UP_ERR_UNSUPPORTED},   {"UP_CPU_ISA", "avx2", UP_ERR_ARGUMENT},
                 {"UP_CPU_ISA", "avx512", UP_ERR_UNSUPPORTED}, {"UP_CPU_ISA", "avx512", UP_ERR_ARGUMENT},
                 {"UP_CPU_GEMM", "openblas", UP_ERR_ARGUMENT}, {"UP_CPU_GEMM", "dnnl", UP_ERR_ARGUMENT}};
    up_backend *b = NULL;
    up_status status = up_backend_create("cpu", 1, &b);
    up_backend_free(b);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        const char *name = paths[i].variable, *wanted = getenv(name);
        if (status == paths[i].absent && wanted && !strcmp(wanted, paths[i].value) &&
            !strncmp(up_last_error(), name, strlen(name)))
            return up_last_error();
    }
    return NULL;
}
#endif

static up_backend *make_backend(const tested *t) {
    up_backend *b = NULL;
    UP_ASSERT_OK(t->name ? up_backend_create(t->name, t->threads, &b) : up_backend_guard(&b));
    return b;
}

static up_backend *make_ref(void) {
    up_backend *b = NULL;
    UP_ASSERT_OK(up_backend_create("ref", 1, &b));
    return b;
}

/* ---- one case ---- */

/* Runs the case on the reference and solves it: `want` and the numbers of errors are there for every backend.
 */
static void prepare(up_case *c, up_backend *ref, void **want) {
    UP_ASSERT_OK(up_case_run(c, ref, want));
    up_case_solve(c, 0x1p-24);
}

static up_status compare(const up_case *c, void *const *want, up_backend *b) {
    void *got[UP_CASE_TENSORS];
    const char *why = "no reason given";
    if (!b->ops->supports(b, c->kind->op, &c->dims, &why)) {
        if (may_refuse(b, c, why)) return UP_OK;
        return up_fail(UP_ERR_UNSUPPORTED, "refused", "%s", why);
    }
    UP_TRY(up_case_run(c, b, got));
    up_status status = up_case_check(c, got, want, 2);
    up_case_drop(got);
    return status;
}

static uint64_t case_count(void) {
    const char *text = getenv("UP_CASES");
    const int wanted = text ? atoi(text) : 0;
    return wanted > 0 ? (uint64_t)wanted : CASES;
}

static void parity(const char *name) {
    const uint64_t cases = case_count();
    const up_case_kind *kind = up_case_kind_named(name);
    CU_ASSERT_PTR_NOT_NULL_FATAL(kind);
    up_backend *ref = make_ref(), *b[BACKENDS];
    for (int i = 0; i < BACKENDS; i++) b[i] = make_backend(&backends[i]);
    for (uint64_t n = 0; n < cases; n++) {
        up_case *c = up_case_make(kind, up_test_seed() + n, 0, 0);
        void *want[UP_CASE_TENSORS];
        prepare(c, ref, want);
        for (int i = 0; i < BACKENDS; i++) {
            if (n * backends[i].every >= cases) continue;
            up_status status = compare(c, want, b[i]);
            if (status != UP_OK) up_case_report(c, "test_parity", backends[i].label, up_last_error());
            CU_ASSERT_EQUAL(status, UP_OK);
        }
        up_case_drop(want);
        up_case_free(c);
    }
    for (int i = 0; i < BACKENDS; i++) up_backend_free(b[i]);
    up_backend_free(ref);
}

static void test_embed(void) {
    parity("embed");
}
static void test_patch_embed(void) {
    parity("patch_embed");
}
static void test_linear(void) {
    parity("linear");
}
static void test_layernorm(void) {
    parity("layernorm");
}
static void test_attention(void) {
    parity("attention");
}
static void test_residual(void) {
    parity("residual");
}
static void test_add_layernorm(void) {
    parity("add_layernorm");
}
static void test_gather(void) {
    parity("gather");
}
static void test_scatter(void) {
    parity("scatter");
}
static void test_l2norm(void) {
    parity("l2norm");
}
static void test_logits(void) {
    parity("logits");
}
static void test_xent(void) {
    parity("xent");
}
static void test_sqnorm(void) {
    parity("sqnorm");
}
static void test_step(void) {
    parity("step");
}
static void test_adamw(void) {
    parity("adamw");
}
static void test_gelu(void) {
    parity("gelu");
}
static void test_cast(void) {
    parity("cast");
}

/* ---- tables and memory ---- */

static void tables(void) {
    for (int i = 0; i < BACKENDS; i++) {
        up_backend *b = make_backend(&backends[i]);
        const char *fault = up_table_fault(b->ops);
        if (fault) fprintf(stderr, "\ntable of %s: %s\n", backends[i].label, fault);
        CU_ASSERT_PTR_NULL(fault);
        up_backend_free(b);
    }
}

/* Rows of an element type: filled, a part copied onto another, and what a fetch took before it was
 * overwritten. The bytes are compared: 1 and 2 in each type. */
static void memory_of(up_backend *b, up_dtype dtype, const void *one, const void *two) {
    enum { ROWS = 4, COLS = 6, ELEMENTS = ROWS * COLS };
    size_t size = up_dtype_size(dtype);
    unsigned char all[ELEMENTS * 4], part[4 * 4];
    up_buffer *buffer;
    up_fetch *fetch;
    UP_ASSERT_OK(b->ops->alloc(b, ELEMENTS * size, &buffer));
    UP_ASSERT_OK(b->ops->fetch_create(b, sizeof part, &fetch));
    up_view whole = up_view_at(buffer, dtype, 0, ROWS, COLS);
    up_view low = up_view_cols(up_view_rows(whole, 0, 2), 1, 2), high = up_view_cols(low, 2, 2);
    UP_ASSERT_OK(b->ops->fill(b, whole, 1));
    UP_ASSERT_OK(b->ops->fill(b, low, 2));
    UP_ASSERT_OK(b->ops->copy(b, high, low));
    UP_ASSERT_OK(b->ops->fetch_begin(b, fetch, high));
    UP_ASSERT_OK(b->ops->fill(b, high, 1));
    UP_ASSERT_OK(b->ops->download(b, all, whole));
    UP_ASSERT_OK(b->ops->fetch_end(b, fetch, part));
    for (size_t i = 0; i < ELEMENTS; i++) {
        int in_low = i < 2 * COLS && (i % COLS == 1 || i % COLS == 2);
        CU_ASSERT(!memcmp(all + i * size, in_low ? two : one, size));
    }
    for (size_t i = 0; i < 4; i++) CU_ASSERT(!memcmp(part + i * size, two, size));
    b->ops->fetch_free(b, fetch);
    b->ops->release(b, buffer);
}

static void memory(void) {
    for (int i = 0; i < BACKENDS; i++) {
        up_backend *b = make_backend(&backends[i]);
        memory_of(b, UP_F32, &(float){1}, &(float){2});
        memory_of(b, UP_I32, &(int32_t){1}, &(int32_t){2});
        memory_of(b, UP_U8, &(uint8_t){1}, &(uint8_t){2});
        memory_of(b, UP_F16, &(uint16_t){0x3c00}, &(uint16_t){0x4000});
        memory_of(b, UP_BF16, &(uint16_t){0x3f80}, &(uint16_t){0x4000});
        up_backend_free(b);
    }
}

/* ---- the harness notices ---- */

/* Backends that do one thing wrong after the reference has done the forward product right. */
static double element(up_view v, int64_t n, int64_t d) {
    int64_t at = n * v.stride + d;
    return v.dtype == UP_F32 ? up_f32(v)[at] : up_half_value(v.dtype, up_half(v)[at]);
}

static void set_element(up_view v, int64_t n, int64_t d, double x) {
    int64_t at = n * v.stride + d;
    if (v.dtype == UP_F32)
        up_f32(v)[at] = (float)x;
    else
        up_half(v)[at] = up_half_nearest(v.dtype, x);
}

static up_status product_is_off(up_backend *b, const up_linear_args *a) {
    UP_TRY(up_ref_ops()->linear(b, a));
    double off = 1 + 128 * up_type_unit(a->y.dtype);
    for (int64_t n = 0; n < a->y.rows; n++)
        for (int64_t o = 0; o < a->y.cols; o++) set_element(a->y, n, o, off * element(a->y, n, o));
    return UP_OK;
}

static up_status element_is_missing(up_backend *b, const up_linear_args *a) {
    UP_TRY(up_ref_ops()->linear(b, a));
    if (a->y.rows) set_element(a->y, 0, 0, NAN); /* the poison */
    return UP_OK;
}

static up_status writes_beside(up_backend *b, const up_linear_args *a) {
    UP_TRY(up_ref_ops()->linear(b, a));
    if (a->y.rows) set_element(a->y, 0, -1, 1);
    return UP_OK;
}

static up_status writes_an_input(up_backend *b, const up_linear_args *a) {
    UP_TRY(up_ref_ops()->linear(b, a));
    *up_f32(a->weight) += 1;
    return UP_OK;
}

static up_status last_column_is_infinite(up_backend *b, const up_linear_args *a) {
    UP_TRY(up_ref_ops()->linear(b, a));
    if (a->y.rows) set_element(a->y, 0, a->y.cols - 1, INFINITY);
    return UP_OK;
}

static void harness_notices(void) {
    up_status (*const mutants[])(up_backend *, const up_linear_args *) = {
        product_is_off, element_is_missing, writes_beside, writes_an_input, last_column_is_infinite};
    up_backend *ref = make_ref();
    for (size_t i = 0; i < sizeof mutants / sizeof *mutants; i++) {
        up_backend_ops table = *up_ref_ops();
        table.linear = mutants[i];
        up_backend mutant = {&table, NULL};
        int noticed = 0, chances = 0;
        for (uint64_t n = 0; n < 50; n++) {
            up_case *c = up_case_make(up_case_kind_named("linear"), up_test_seed() + n, 0, 0);
            void *want[UP_CASE_TENSORS];
            prepare(c, ref, want);
            CU_ASSERT_EQUAL(compare(c, want, ref), UP_OK);
            int chance =
                c->dims.rows > 0 && c->dims.in <= 16; /* 128 roundings hide in honest errors of long sums */
            chances += chance;
            noticed += chance && compare(c, want, &mutant) != UP_OK;
            up_case_drop(want);
            up_case_free(c);
        }
        CU_ASSERT(chances > 5);
        CU_ASSERT_EQUAL(noticed, chances);
    }
    up_backend_free(ref);
}

/* ---- the guard ---- */

/* How a process of its own ends that reads a fresh buffer: through the table, or straight from memory. */
static int end_of_reader(int through_the_table) {
    up_backend *b;
    up_buffer *buffer;
    float x = 1;
    UP_ASSERT_OK(up_backend_guard(&b));
    UP_ASSERT_OK(b->ops->alloc(b, sizeof x, &buffer));
    UP_ASSERT_OK(b->ops->fill(b, up_view_at(buffer, UP_F32, 0, 1, 1), 3));
    pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        signal(SIGBUS, SIG_DFL);
        if (through_the_table)
            b->ops->download(b, &x, up_view_at(buffer, UP_F32, 0, 1, 1));
        else
            x = *(volatile float *)up_f32(up_view_at(buffer, UP_F32, 0, 1, 1));
        _exit(x == 3 ? 0 : 1);
    }
    int status = -1;
    CU_ASSERT_FATAL(child > 0 && waitpid(child, &status, 0) == child);
    up_backend_free(b); /* and with it the buffer */
    return status;
}

static void guard_is_shut(void) {
    int straight = end_of_reader(0), asked = end_of_reader(1);
    CU_ASSERT(WIFSIGNALED(straight) && WTERMSIG(straight) == SIGSEGV);
    CU_ASSERT(WIFEXITED(asked) && WEXITSTATUS(asked) == 0);
}

static void guard_forbids_waits(void) {
    up_backend *b;
    up_buffer *buffer, *more;
    up_fetch *fetch, *another;
    float x = 0;
    UP_ASSERT_OK(up_backend_guard(&b));
    UP_ASSERT_OK(b->ops->alloc(b, sizeof x, &buffer));
    UP_ASSERT_OK(b->ops->fetch_create(b, sizeof x, &fetch));
    up_view v = up_view_at(buffer, UP_F32, 0, 1, 1);
    UP_ASSERT_OK(b->ops->fill(b, v, 3));
    CU_ASSERT_EQUAL(b->ops->fetch_end(b, fetch, &x), UP_ERR_BACKEND);
    UP_ASSERT_OK(b->ops->fetch_begin(b, fetch, v));
    up_guard_forbid_waits(b, 1);
    UP_ASSERT_OK(b->ops->fetch_end(b, fetch, &x)); /* of the step before */
    CU_ASSERT_EQUAL(x, 3);
    UP_ASSERT_OK(b->ops->begin(b, "step"));
    CU_ASSERT_EQUAL(b->ops->download(b, &x, v), UP_ERR_BACKEND);
    CU_ASSERT_STRING_EQUAL(up_last_error(),
                           "backend guard: download in region 'step', where nothing may wait");
    CU_ASSERT_EQUAL(b->ops->sync(b), UP_ERR_BACKEND);
    CU_ASSERT_EQUAL(b->ops->alloc(b, 4, &more), UP_ERR_BACKEND);
    CU_ASSERT_EQUAL(b->ops->fetch_create(b, 4, &another), UP_ERR_BACKEND);
    UP_ASSERT_OK(b->ops->upload(b, v, &x));
    UP_ASSERT_OK(b->ops->fetch_begin(b, fetch, v));
    UP_ASSERT_OK(b->ops->end(b, "step"));
    CU_ASSERT_EQUAL(b->ops->fetch_end(b, fetch, &x), UP_ERR_BACKEND);
    CU_ASSERT_STRING_EQUAL(
        up_last_error(),
        "backend guard: fetch_end of a fetch begun there in region 'none', where nothing may wait");
    up_guard_forbid_waits(b, 1); /* the next step */
    UP_ASSERT_OK(b->ops->fetch_end(b, fetch, &x));
    up_guard_forbid_waits(b, 0);
    UP_ASSERT_OK(b->ops->download(b, &x, v));
    UP_ASSERT_OK(b->ops->sync(b));
    b->ops->fetch_free(b, fetch);
    up_backend_free(b);
}

static void guard_checks_regions(void) {
    up_backend *b;
    UP_ASSERT_OK(up_backend_guard(&b));
    UP_ASSERT_OK(b->ops->begin(b, "step"));
    UP_ASSERT_OK(b->ops->begin(b, "forward"));
    CU_ASSERT_EQUAL(b->ops->end(b, "step"), UP_ERR_BACKEND);
    CU_ASSERT_STRING_EQUAL(up_last_error(), "backend guard: region 'step' ends, 'forward' is open");
    UP_ASSERT_OK(b->ops->end(b, "forward"));
    UP_ASSERT_OK(b->ops->end(b, "step"));
    CU_ASSERT_EQUAL(b->ops->end(b, "step"), UP_ERR_BACKEND);
    CU_ASSERT_EQUAL(b->ops->static_shapes, 0);
    up_guard_static(b, 1);
    CU_ASSERT_EQUAL(b->ops->static_shapes, 1);
    CU_ASSERT_EQUAL(up_ref_ops()->static_shapes, 0);
    up_backend_free(b);
}

/* ---- names ---- */

static void backends_by_name(void) {
    up_backend *b = NULL;
    up_status cuda = up_backend_create("cuda", 0, &b);
    if (cuda == UP_OK) {
        CU_ASSERT_STRING_EQUAL(b->ops->name, "cuda");
        up_backend_free(b);
    } else { /* not built, no driver, no GPU */
        CU_ASSERT_EQUAL(cuda, UP_ERR_UNSUPPORTED);
        CU_ASSERT(!strncmp(up_last_error(), "backend cuda: ", strlen("backend cuda: ")));
    }
    CU_ASSERT_EQUAL(up_backend_create("gpu", 0, &b), UP_ERR_ARGUMENT);
    CU_ASSERT_STRING_EQUAL(up_last_error(), "backend: 'gpu' is unknown; wanted ref, cpu or cuda");
    UP_ASSERT_OK(up_backend_create("ref", 0, &b));
    CU_ASSERT_STRING_EQUAL(b->ops->name, "ref");
    up_backend_free(b);
    up_backend_free(NULL);
}

const up_test up_tests[] = {
    {"names", backends_by_name},
    {"tables", tables},
    {"memory", memory},
    {"harness", harness_notices},
    {"guard", guard_is_shut},
    {"guard_waits", guard_forbids_waits},
    {"guard_regions", guard_checks_regions},
    {"linear", test_linear},
    {"gelu", test_gelu},
    {"embed", test_embed},
    {"patch_embed", test_patch_embed},
    {"layernorm", test_layernorm},
    {"attention", test_attention},
    {"residual", test_residual},
    {"add_layernorm", test_add_layernorm},
    {"gather", test_gather},
    {"scatter", test_scatter},
    {"l2norm", test_l2norm},
    {"logits", test_logits},
    {"xent", test_xent},
    {"sqnorm", test_sqnorm},
    {"step", test_step},
    {"adamw", test_adamw},
    {"cast", test_cast},
    {NULL, NULL},
};

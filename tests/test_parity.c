/* test_parity.c - every backend against the reference, operation by operation, over the case table (cases.h).
 * The reference sums in double; a backend may differ from it by twice what an honest f32 computation does
 * wrong, in the worst element and in the norm, and not at all on integers. One test an operation; first the
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

enum { CASES = 300 }; /* of each operation, on each backend */

/* ---- the backends under test ---- */

typedef struct tested {
    const char *label, *name; /* NULL: the guard */
    int threads;
    uint64_t cases;
} tested;

static const tested backends[] = {{"cpu with 1 thread", "cpu", 1, CASES},
                                  {"cpu with 3 threads", "cpu", 3, CASES},
                                  {"guard", NULL, 1, CASES / 10}};

enum { BACKENDS = sizeof backends / sizeof *backends };

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
    if (!b->ops->supports(b, c->kind->op, UP_F32, &c->dims, &why))
        return up_fail(UP_ERR_UNSUPPORTED, "refused", "%s", why);
    UP_TRY(up_case_run(c, b, got));
    up_status status = up_case_check(c, got, want, 2);
    up_case_drop(got);
    return status;
}

static void parity(const char *name) {
    const up_case_kind *kind = up_case_kind_named(name);
    CU_ASSERT_PTR_NOT_NULL_FATAL(kind);
    up_backend *ref = make_ref(), *b[BACKENDS];
    for (int i = 0; i < BACKENDS; i++) b[i] = make_backend(&backends[i]);
    for (uint64_t n = 0; n < CASES; n++) {
        up_case *c = up_case_make(kind, up_test_seed() + n, 0, 0);
        void *want[UP_CASE_TENSORS];
        prepare(c, ref, want);
        for (int i = 0; i < BACKENDS; i++) {
            if (n >= backends[i].cases) continue;
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
static void test_adamw(void) {
    parity("adamw");
}
static void test_cast(void) {
    parity("cast");
}

/* ---- the harness notices ---- */

/* Backends that do one thing wrong after the reference has done the forward product right. */
static up_status product_is_off(up_backend *b, const up_linear_args *a) {
    UP_TRY(up_ref_ops()->linear(b, a));
    for (int64_t n = 0; n < a->y.rows; n++)
        for (int64_t o = 0; o < a->y.cols; o++) up_f32(a->y)[n * a->y.stride + o] *= 1 + 0x1p-17f;
    return UP_OK;
}

static up_status element_is_missing(up_backend *b, const up_linear_args *a) {
    float before = a->y.rows ? *up_f32(a->y) : 0; /* the poison */
    UP_TRY(up_ref_ops()->linear(b, a));
    if (a->y.rows) *up_f32(a->y) = before;
    return UP_OK;
}

static up_status writes_beside(up_backend *b, const up_linear_args *a) {
    UP_TRY(up_ref_ops()->linear(b, a));
    if (a->y.rows) up_f32(a->y)[-1] = 1;
    return UP_OK;
}

static up_status writes_an_input(up_backend *b, const up_linear_args *a) {
    UP_TRY(up_ref_ops()->linear(b, a));
    *up_f32(a->weight) += 1;
    return UP_OK;
}

static up_status last_column_is_infinite(up_backend *b, const up_linear_args *a) {
    UP_TRY(up_ref_ops()->linear(b, a));
    if (a->y.rows) up_f32(a->y)[a->y.cols - 1] = INFINITY;
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
            int chance = c->dims.rows > 0 && c->dims.in <= 16; /* 2^-17 hides in honest errors of long sums */
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

/* ---- names ---- */

static void backends_by_name(void) {
    up_backend *b = NULL;
    CU_ASSERT_EQUAL(up_backend_create("cuda", 0, &b), UP_ERR_UNSUPPORTED);
    CU_ASSERT_STRING_EQUAL(up_last_error(), "backend cuda: not built");
    CU_ASSERT_EQUAL(up_backend_create("gpu", 0, &b), UP_ERR_ARGUMENT);
    CU_ASSERT_STRING_EQUAL(up_last_error(), "backend: 'gpu' is unknown; wanted ref, cpu or cuda");
    UP_ASSERT_OK(up_backend_create("ref", 0, &b));
    CU_ASSERT_STRING_EQUAL(b->ops->name, "ref");
    up_backend_free(b);
    up_backend_free(NULL);
}

const up_test up_tests[] = {
    {"names", backends_by_name},   {"harness", harness_notices},  {"guard", guard_is_shut},
    {"linear", test_linear},       {"embed", test_embed},         {"patch_embed", test_patch_embed},
    {"layernorm", test_layernorm}, {"attention", test_attention}, {"residual", test_residual},
    {"gather", test_gather},       {"scatter", test_scatter},     {"l2norm", test_l2norm},
    {"logits", test_logits},       {"xent", test_xent},           {"sqnorm", test_sqnorm},
    {"adamw", test_adamw},         {"cast", test_cast},           {NULL, NULL},
};

/* case_run.c - the life of a case (cases.h): making, placing in buffers with sentinels around, launching,
 * fetching. */
#include "tests/cases.h"
#include "uniperceiver/backend_host.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

double up_num_unit = 0x1p-24;

enum { POISON = 0xff }; /* as bytes of f32, f16 and bf16 a NaN, as i32 -1 */

int64_t up_case_size(up_case *c, int64_t drawn) {
    if (!c->size_count) return drawn;
    c->size_count--;
    return *c->sizes++;
}

static int64_t draw_dim(up_case *c, int64_t least) {
    uint32_t limit = (uint32_t)c->limit;
    switch (up_rng_below(&c->rng, 12)) {
    case 0:
        return least;
    case 1:
        return 1;
    case 2:
    case 3:
    case 4:
        return 1 + up_rng_below(&c->rng, limit < 8 ? limit : 8);
    case 5:
        return limit;
    default:
        return 1 + up_rng_below(&c->rng, limit);
    }
}

int64_t up_case_dim(up_case *c, int64_t least) {
    return up_case_size(c, draw_dim(c, least));
}

int up_case_chance(up_case *c, uint32_t one_in) {
    return up_rng_below(&c->rng, one_in) == 0;
}

static void *reserve(size_t count, size_t size) {
    void *p = calloc(count ? count : 1, size);
    if (!p) {
        fprintf(stderr, "cases: out of memory: %zu x %zu bytes wanted\n", count, size);
        exit(2);
    }
    return p;
}

/* Declares tensor t; a home of its own, at an odd place and with room between the rows now and then. */
static up_case_tensor *declare(up_case *c, int t, const char *name, up_role role, up_dtype dtype,
                               int64_t rows, int64_t cols) {
    int64_t gap = up_case_chance(c, 3) ? up_rng_below(&c->rng, 5) : 0;
    c->t[t] = (up_case_tensor){.name = name,
                               .role = role,
                               .dtype = dtype,
                               .rows = rows,
                               .cols = cols,
                               .home = t,
                               .gap = gap,
                               .margin = 16 + up_rng_below(&c->rng, 2) * up_rng_below(&c->rng, 16),
                               .grad = -1,
                               .upstream = -1};
    if (role != UP_ROLE_OUT) c->t[t].data = reserve((size_t)(rows * cols), up_dtype_size(dtype));
    return &c->t[t];
}

static int is_float(up_dtype dtype) {
    return dtype == UP_F32 || dtype == UP_F16 || dtype == UP_BF16;
}

static void draw(up_case *c, up_case_tensor *t) {
    float *x = t->data;
    for (int64_t i = 0; i < t->rows * t->cols; i++)
        x[i] = c->exact ? (float)up_rng_below(&c->rng, 7) - 3 : (float)up_rng_normal(&c->rng);
}

void up_case_in(up_case *c, int t, const char *name, int64_t rows, int64_t cols) {
    draw(c, declare(c, t, name, UP_ROLE_IN, UP_F32, rows, cols));
}

void up_case_change(up_case *c, int t, const char *name, int64_t rows, int64_t cols) {
    draw(c, declare(c, t, name, UP_ROLE_CHANGE, UP_F32, rows, cols));
}

void up_case_out(up_case *c, int t, const char *name, int64_t rows, int64_t cols) {
    declare(c, t, name, UP_ROLE_OUT, UP_F32, rows, cols);
}

int32_t *up_case_index(up_case *c, int t, const char *name, int64_t rows, int64_t cols, int64_t below) {
    int32_t *x = declare(c, t, name, UP_ROLE_IN, UP_I32, rows, cols)->data;
    for (int64_t i = 0; i < rows * cols && below > 0; i++)
        x[i] = (int32_t)up_rng_below(&c->rng, (uint32_t)below);
    return x;
}

uint8_t *up_case_bytes(up_case *c, int t, const char *name, int64_t rows, int64_t cols) {
    uint8_t *x = declare(c, t, name, UP_ROLE_IN, UP_U8, rows, cols)->data;
    for (int64_t i = 0; i < rows * cols; i++) x[i] = (uint8_t)up_rng_u32(&c->rng);
    return x;
}

float *up_case_floats(up_case *c, int t) {
    return c->t[t].data;
}

double up_case_round(up_dtype dtype, double x) {
    return dtype == UP_F32 ? (float)x : up_half_value(dtype, up_half_nearest(dtype, x));
}

void up_case_retype(up_case *c, int t, up_dtype dtype) {
    up_case_tensor *x = &c->t[t];
    float *values = x->data;
    if (x->role == UP_ROLE_ABSENT) return;
    x->dtype = dtype;
    for (int64_t i = 0; values && i < x->rows * x->cols; i++)
        values[i] = (float)up_case_round(dtype, values[i]);
}

static const char *const type_names[] = {"f32", "f16", "bf16"};

/* Drawn, f32 most often, or what UP_CASE_DTYPE says: the rest of the case is the same either way. */
static up_dtype draw_type(up_case *c) {
    static const up_dtype types[] = {UP_F32, UP_F32, UP_BF16, UP_F16};
    up_dtype drawn = types[up_rng_below(&c->rng, 4)];
    const char *forced = getenv("UP_CASE_DTYPE");
    if (c->smooth) return UP_F32;
    for (int i = 0; forced && i < 3; i++)
        if (!strcmp(forced, type_names[i])) return (up_dtype)i;
    if (forced && *forced) {
        fprintf(stderr, "cases: UP_CASE_DTYPE is '%s'; wanted f32, bf16 or f16\n", forced);
        exit(2);
    }
    return drawn;
}

static up_case *begin_case(const up_case_kind *kind, uint64_t seed) {
    up_case *c = reserve(1, sizeof *c);
    c->kind = kind;
    c->seed = seed;
    c->limit = kind->limit;
    c->rng = up_rng_make(seed, (uint64_t)kind->op, 0, 0);
    return c;
}

static up_case *end_case(up_case *c) {
    c->dtype = draw_type(c);
    c->kind->make(c);
    c->dims.dtype = c->dtype;
    return c;
}

up_case *up_case_make(const up_case_kind *kind, uint64_t seed, int64_t limit, int smooth) {
    up_case *c = begin_case(kind, seed);
    if (limit) c->limit = limit;
    c->smooth = smooth;
    return end_case(c);
}

up_case *up_case_make_sized(const up_case_kind *kind, uint64_t seed, const int64_t *sizes, int count) {
    up_case *c = begin_case(kind, seed);
    c->sizes = sizes;
    c->size_count = count;
    return end_case(c);
}

void up_case_free(up_case *c) {
    for (int t = 0; t < UP_CASE_TENSORS; t++) {
        free(c->t[t].data);
        free(c->t[t].num);
    }
    free(c);
}

void up_case_solve(up_case *c, double unit) {
    for (int i = 0; i < UP_CASE_TENSORS; i++) {
        up_case_tensor *t = &c->t[i];
        if (t->role == UP_ROLE_ABSENT || !is_float(t->dtype)) continue;
        if (!t->num) t->num = reserve((size_t)(t->rows * t->cols), sizeof *t->num);
        const float *x = t->data;
        for (int64_t k = 0; k < t->rows * t->cols; k++) t->num[k] = up_num_exact(x ? x[k] : NAN);
    }
    up_num_unit = unit;
    c->half_weights = unit > 0x1p-53 && c->dtype != UP_F32;
    if (c->kind->oracle) c->kind->oracle(c, 1);
}

/* ---- buffers ---- */

static int64_t home_stride(const up_case *c, int home) {
    int64_t width = 0; /* of everything that lies in this buffer */
    for (int t = 0; t < UP_CASE_TENSORS; t++)
        if (c->t[t].role && c->t[t].home == home && c->t[t].col + c->t[t].cols > width)
            width = c->t[t].col + c->t[t].cols;
    return width + c->t[home].gap;
}

static size_t home_bytes(const up_case *c, int home) {
    const up_case_tensor *t = &c->t[home];
    return (size_t)(2 * t->margin + t->rows * home_stride(c, home)) * up_dtype_size(t->dtype);
}

static up_view view_of(const up_case *c, int t, up_buffer *const *buffer) {
    const up_case_tensor *x = &c->t[t];
    return (up_view){buffer[x->home], c->t[x->home].margin + x->col, x->rows,
                     x->cols,         home_stride(c, x->home),       x->dtype};
}

/* The dense content of a tensor as a backend holds it, and back: halves are floats in the case. */
static void *encoded(const up_case_tensor *t) {
    size_t count = (size_t)(t->rows * t->cols), size = up_dtype_size(t->dtype);
    const float *x = t->data;
    void *bytes = reserve(count, size);
    if (is_float(t->dtype) && t->dtype != UP_F32)
        for (size_t i = 0; i < count; i++) ((uint16_t *)bytes)[i] = up_half_nearest(t->dtype, x[i]);
    else
        memcpy(bytes, t->data, count * size);
    return bytes;
}

static void decode_row(const up_case_tensor *t, int64_t row, const void *bytes, void *result) {
    float *x = (float *)result + row * t->cols;
    if (t->dtype == UP_F32)
        memcpy(x, bytes, (size_t)t->cols * sizeof *x);
    else
        for (int64_t d = 0; d < t->cols; d++) x[d] = up_half_value(t->dtype, ((const uint16_t *)bytes)[d]);
}

static up_status place_home(const up_case *c, int home, up_placed *p) {
    size_t bytes = home_bytes(c, home);
    UP_TRY(p->backend->ops->alloc(p->backend, bytes, &p->buffer[home]));
    unsigned char *poison = reserve(bytes, 1);
    memset(poison, POISON, bytes);
    up_view all = up_view_at(p->buffer[home], UP_U8, 0, 1, (int64_t)bytes);
    up_status status = p->backend->ops->upload(p->backend, all, poison);
    free(poison);
    return status;
}

up_status up_case_place(const up_case *c, up_backend *b, up_placed *p) {
    up_status status = UP_OK;
    *p = (up_placed){.backend = b};
    for (int t = 0; t < UP_CASE_TENSORS; t++)
        if (c->t[t].role && c->t[t].home == t) UP_GO(place_home(c, t, p));
    for (int t = 0; t < UP_CASE_TENSORS; t++) {
        if (!c->t[t].role) continue;
        p->view[t] = view_of(c, t, p->buffer);
        if (!c->t[t].data) continue;
        void *content = encoded(&c->t[t]);
        status = b->ops->upload(b, p->view[t], content);
        free(content);
        if (status != UP_OK) goto done;
    }
    size_t scratch = b->ops->scratch(b, c->kind->op, &c->dims);
    UP_GO(b->ops->alloc(b, scratch, &p->scratch_buffer));
    p->scratch = up_view_at(p->scratch_buffer, UP_U8, 0, 1, (int64_t)scratch);
done:
    if (status != UP_OK) up_case_remove(p);
    return status;
}

up_status up_case_launch(const up_case *c, const up_placed *p) {
    return c->kind->launch(c, p->backend, p->view, p->scratch);
}

/* Puts a tensor where it lies in the copy `to` of its buffer: an input's content from the case, an output's
 * from `after`, which is taken to `result` too. */
static void lay_out(const up_case_tensor *x, up_view v, unsigned char *to, const unsigned char *after,
                    void *result) {
    size_t size = up_dtype_size(x->dtype), width = (size_t)x->cols * size;
    unsigned char *content = x->role == UP_ROLE_IN ? encoded(x) : NULL;
    for (int64_t r = 0; r < x->rows; r++) {
        size_t at = (size_t)(v.offset + r * v.stride) * size;
        memcpy(to + at, content ? content + (size_t)r * width : after + at, width);
        if (!content) decode_row(x, r, after + at, result);
    }
    free(content);
}

/* Checks one buffer: everything that is no output must hold the bytes that were put there. */
static up_status check_home(const up_case *c, int home, const up_placed *p, unsigned char *before,
                            unsigned char *after, void **result) {
    size_t bytes = home_bytes(c, home);
    up_view all = up_view_at(p->buffer[home], UP_U8, 0, 1, (int64_t)bytes);
    UP_TRY(p->backend->ops->download(p->backend, after, all));
    memset(before, POISON, bytes);
    for (int pass = 0; pass < 2; pass++) /* inputs first: an output may lie on one */
        for (int t = 0; t < UP_CASE_TENSORS; t++) {
            const up_case_tensor *x = &c->t[t];
            if (!x->role || x->home != home || (x->role != UP_ROLE_IN) != pass) continue;
            lay_out(x, p->view[t], before, after, result[t]);
        }
    for (size_t i = 0; i < bytes; i++)
        if (before[i] != after[i])
            return up_fail(UP_ERR_BACKEND, c->t[home].name,
                           "byte %zu of its buffer of %zu was written, it is no output", i, bytes);
    return UP_OK;
}

up_status up_case_fetch(const up_case *c, const up_placed *p, void *result[UP_CASE_TENSORS]) {
    up_status status = UP_OK;
    for (int t = 0; t < UP_CASE_TENSORS; t++) {
        const up_case_tensor *x = &c->t[t];
        result[t] = x->role > UP_ROLE_IN ? reserve((size_t)(x->rows * x->cols), sizeof(float)) : NULL;
    }
    for (int t = 0; t < UP_CASE_TENSORS && status == UP_OK; t++) {
        if (!c->t[t].role || c->t[t].home != t) continue;
        unsigned char *before = reserve(home_bytes(c, t), 1), *after = reserve(home_bytes(c, t), 1);
        status = check_home(c, t, p, before, after, result);
        free(before);
        free(after);
    }
    if (status != UP_OK) up_case_drop(result);
    return status;
}

void up_case_remove(up_placed *p) {
    for (int t = 0; t < UP_CASE_TENSORS; t++) p->backend->ops->release(p->backend, p->buffer[t]);
    p->backend->ops->release(p->backend, p->scratch_buffer);
}

void up_case_drop(void *result[UP_CASE_TENSORS]) {
    for (int t = 0; t < UP_CASE_TENSORS; t++) {
        free(result[t]);
        result[t] = NULL;
    }
}

up_status up_case_run(const up_case *c, up_backend *b, void *result[UP_CASE_TENSORS]) {
    up_placed p;
    memset(result, 0, UP_CASE_TENSORS * sizeof *result);
    UP_TRY(up_case_place(c, b, &p));
    up_status status = up_case_launch(c, &p);
    if (status == UP_OK) status = up_case_fetch(c, &p, result);
    up_case_remove(&p);
    return status;
}

/* ---- verdicts ---- */

/* False for a NaN anywhere. */
static int near(double got, double want, double bound) {
    if (isfinite(want)) return fabs(got - want) <= bound;
    return isnan(want) ? isnan(got) : got == want;
}

static up_status check_floats(const up_case *c, const up_case_tensor *t, const float *got, const float *want,
                              double factor) {
    enum { ENOUGH = 16 }; /* elements, for the norm to say more than the worst of them */
    double error = 0, honest = 0;
    int64_t count = t->rows * t->cols;
    for (int64_t i = 0; i < count; i++) {
        double right = want ? want[i] : t->num[i].v, bound = c->exact ? 0 : factor * t->num[i].e;
        if (!near(got[i], right, bound))
            return up_fail(UP_ERR_NUMERIC, t->name,
                           "[%" PRId64 ", %" PRId64 "] is %.9g, wanted %.9g within %.3g", i / t->cols,
                           i % t->cols, got[i], right, bound);
        if (isfinite(right)) {
            error += (got[i] - right) * (got[i] - right);
            honest += t->num[i].s;
        }
    }
    if (want && count >= ENOUGH && !c->exact && !(sqrt(error) <= factor * sqrt(honest)))
        return up_fail(UP_ERR_NUMERIC, t->name, "the norm of the error is %.3g, allowed %.3g", sqrt(error),
                       factor * sqrt(honest));
    return UP_OK;
}

up_status up_case_check(const up_case *c, void *const *got, void *const *want, double factor) {
    for (int i = 0; i < UP_CASE_TENSORS; i++) {
        const up_case_tensor *t = &c->t[i];
        if (t->role <= UP_ROLE_IN) continue;
        if (c->kind->oracle) {
            UP_TRY(check_floats(c, t, got[i], want ? want[i] : NULL, factor));
        } else if (memcmp(got[i], want[i], (size_t)(t->rows * t->cols) * sizeof(float)))
            return up_fail(UP_ERR_NUMERIC, t->name, "the bits differ");
    }
    return UP_OK;
}

void up_case_report(const up_case *c, const char *program, const char *backend, const char *why) {
    const char *type = type_names[c->dtype];
    fprintf(stderr,
            "\n%s on %s, %s, %s, seed %" PRIu64 ": %s\n    again: UP_CASE_DTYPE=%s UP_TEST_SEED=%" PRIu64
            " tests/%s %s\n",
            c->kind->name, backend, type, c->shape, c->seed, why, type, c->seed, program, c->kind->name);
}

/* ---- tables ---- */

/* A slot that may be NULL, by the place where it lies in the table. */
static int is_optional(size_t at) {
    static const size_t optional[] = {
        offsetof(up_backend_ops, begin),         offsetof(up_backend_ops, end),
        offsetof(up_backend_ops, prepared_size), offsetof(up_backend_ops, prepare),
        offsetof(up_backend_ops, wrap),          offsetof(up_backend_ops, unwrap),
        offsetof(up_backend_ops, add_layernorm), offsetof(up_backend_ops, add_layernorm_bwd)};
    for (size_t i = 0; i < sizeof optional / sizeof *optional; i++)
        if (optional[i] == at) return 1;
    return 0;
}

const char *up_table_fault(const up_backend_ops *ops) {
    void (*slot)(void);
    if (ops->version != UP_BACKEND_VERSION) return "the version is another one";
    if (ops->size != sizeof *ops) return "the size is not that of the header's table";
    if (!ops->name || !*ops->name) return "it has no name";
    for (size_t at = offsetof(up_backend_ops, destroy); at < sizeof *ops; at += sizeof slot) {
        memcpy(&slot, (const char *)ops + at, sizeof slot);
        if (!slot && !is_optional(at)) return "a slot that is not optional is empty";
    }
    if (!ops->prepared_size != !ops->prepare) return "prepared_size and prepare come both or not at all";
    if (!ops->wrap != !ops->unwrap) return "wrap and unwrap come both or not at all";
    if (!ops->add_layernorm != !ops->add_layernorm_bwd)
        return "add_layernorm and add_layernorm_bwd come both or not at all";
    return NULL;
}

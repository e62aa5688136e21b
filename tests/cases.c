/* cases.c - the case table: for every operation of backend.h, how its inputs are drawn, how it is launched,
 * and what is right. The oracles are written from the formulas, apart from ref/ops, in running-error numbers
 * (running.h). */
#include "tests/cases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- shorthands ---- */

static up_num *at(up_case *c, int t, int64_t row, int64_t col) {
    return &c->t[t].num[row * c->t[t].cols + col];
}
static int has(const up_case *c, int t) {
    return c->t[t].role != UP_ROLE_ABSENT;
}
static int64_t index_at(const up_case *c, int t, int64_t row) {
    return ((const int32_t *)c->t[t].data)[row];
}
static void add_to(up_num *sum, up_num x) {
    *sum = up_sum(*sum, x);
}
static up_num constant(double v) {
    return up_num_rounded(v, 0, 0, up_num_unit);
} /* not exact in f32 */

/* dL/d(input) is held by `grad`; dL/d(output) by `upstream`. */
static void grad_of(up_case *c, int input, int grad) {
    c->t[input].grad = grad;
}
static void upstream_of(up_case *c, int output, int upstream) {
    c->t[output].upstream = upstream;
}

/* Tensor t lies in the buffer of `home`, from column `col` on. */
static void lay(up_case *c, int t, int home, int64_t col) {
    c->t[t].home = home;
    c->t[t].col = col;
}

static void zero(up_case *c, int t) {
    for (int64_t i = 0; i < c->t[t].rows * c->t[t].cols; i++) c->t[t].num[i] = up_num_exact(0);
}

static void store_all(up_case *c, int t) {
    for (int64_t i = 0; i < c->t[t].rows * c->t[t].cols; i++) c->t[t].num[i] = up_store(c->t[t].num[i]);
}

/* sum[0, d] += x[row, d] */
static void add_row(up_case *c, int sum, int64_t sum_row, int x, int64_t row) {
    for (int64_t d = 0; d < c->t[x].cols; d++) add_to(at(c, sum, sum_row, d), *at(c, x, row, d));
}

/* ---- embed ---- */
enum { E_IDS, E_POSITIONS, E_TOKEN, E_POSITION, E_TYPE, E_Y, E_DY, E_DTOKEN, E_DPOSITION, E_DTYPE };

static void embed_make(up_case *c) {
    int64_t N = up_case_dim(c, 0), D = up_case_dim(c, 1), V = up_case_dim(c, 1), P = up_case_dim(c, 1);
    int typed = !up_case_chance(c, 4);
    c->exact = !c->smooth && up_case_chance(c, 4);
    snprintf(c->shape, sizeof c->shape, "N=%ld D=%ld vocabulary=%ld positions=%ld type=%d", (long)N, (long)D,
             (long)V, (long)P, typed);
    c->dims = (up_op_dims){.rows = N, .in = D, .out = D};
    up_case_index(c, E_IDS, "ids", N, 1, V);
    int32_t *positions = up_case_index(c, E_POSITIONS, "positions", N, 1, P);
    for (int64_t n = 0; n < N; n++)
        if (up_case_chance(c, 5)) positions[n] = -1;
    up_case_in(c, E_TOKEN, "token", V, D);
    up_case_in(c, E_POSITION, "position", P, D);
    if (typed) up_case_in(c, E_TYPE, "type", 1, D);
    up_case_out(c, E_Y, "y", N, D);
    up_case_in(c, E_DY, "dy", N, D);
    if (!up_case_chance(c, 5)) {
        up_case_change(c, E_DTOKEN, "dtoken", V, D);
        grad_of(c, E_TOKEN, E_DTOKEN);
    }
    if (!up_case_chance(c, 5)) {
        up_case_change(c, E_DPOSITION, "dposition", P, D);
        grad_of(c, E_POSITION, E_DPOSITION);
    }
    if (typed && !up_case_chance(c, 5)) {
        up_case_change(c, E_DTYPE, "dtype", 1, D);
        grad_of(c, E_TYPE, E_DTYPE);
    }
    upstream_of(c, E_Y, E_DY);
}

static up_status embed_launch(const up_case *c, up_backend *b, const up_view *v, up_view scratch) {
    (void)c;
    UP_TRY(b->ops->embed(
        b, &(up_embed_args){v[E_IDS], v[E_POSITIONS], v[E_TOKEN], v[E_POSITION], v[E_TYPE], v[E_Y]}));
    return b->ops->embed_bwd(b, &(up_embed_grad){v[E_IDS], v[E_POSITIONS], v[E_DY], v[E_DTOKEN],
                                                 v[E_DPOSITION], v[E_DTYPE], scratch});
}

static void embed_oracle(up_case *c, int backward) {
    zero(c, E_Y);
    for (int64_t n = 0; n < c->t[E_Y].rows; n++) {
        int64_t id = index_at(c, E_IDS, n), position = index_at(c, E_POSITIONS, n);
        for (int64_t d = 0; d < c->t[E_Y].cols; d++) {
            up_num *y = at(c, E_Y, n, d);
            *y = *at(c, E_TOKEN, id, d);
            if (position >= 0) add_to(y, *at(c, E_POSITION, position, d));
            if (position >= 0 && has(c, E_TYPE)) add_to(y, *at(c, E_TYPE, 0, d));
            if (position >= 0) *y = up_store(*y);
        }
        if (backward && has(c, E_DTOKEN)) add_row(c, E_DTOKEN, id, E_DY, n);
        if (backward && has(c, E_DPOSITION) && position >= 0) add_row(c, E_DPOSITION, position, E_DY, n);
        if (backward && has(c, E_DTYPE) && position >= 0) add_row(c, E_DTYPE, 0, E_DY, n);
    }
    for (int t = E_DTOKEN; backward && t <= E_DTYPE; t++)
        if (has(c, t)) store_all(c, t);
}

/* ---- patch_embed ---- */
enum {
    P_PATCHES,
    P_CELLS,
    P_FRAMES,
    P_WEIGHT,
    P_BIAS,
    P_SPACE,
    P_TIME,
    P_TYPE,
    P_Y,
    P_DY,
    P_DWEIGHT,
    P_DBIAS,
    P_DSPACE,
    P_DTIME,
    P_DTYPE
};

static void patch_embed_make(up_case *c) {
    int64_t N = up_case_dim(c, 0), C = 3 * up_case_dim(c, 1), D = up_case_dim(c, 1),
            cells = up_case_dim(c, 1);
    int64_t frames = up_case_chance(c, 2) ? up_case_dim(c, 1) : 0;
    int typed = up_case_chance(c, 2);
    c->exact = !c->smooth && up_case_chance(c, 4);
    snprintf(c->shape, sizeof c->shape, "N=%ld C=%ld D=%ld cells=%ld frames=%ld type=%d", (long)N, (long)C,
             (long)D, (long)cells, (long)frames, typed);
    c->dims = (up_op_dims){.rows = N, .in = C, .out = D};
    up_case_in(c, P_PATCHES, "patches", N, C);
    up_case_index(c, P_CELLS, "cells", N, 1, cells);
    up_case_in(c, P_WEIGHT, "weight", D, C);
    up_case_in(c, P_BIAS, "bias", 1, D);
    up_case_in(c, P_SPACE, "space", cells, D);
    if (frames) {
        up_case_index(c, P_FRAMES, "frames", N, 1, frames);
        up_case_in(c, P_TIME, "time", frames, D);
    }
    if (typed) up_case_in(c, P_TYPE, "type", 1, D);
    up_case_out(c, P_Y, "y", N, D);
    up_case_in(c, P_DY, "dy", N, D);
    upstream_of(c, P_Y, P_DY);
    static const char *const names[] = {"dweight", "dbias", "dspace", "dtime", "dtype"};
    for (int i = 0; i < 5; i++) { /* the parameters and their gradients stand in the same order */
        const up_case_tensor *of = &c->t[P_WEIGHT + i];
        if (!has(c, P_WEIGHT + i) || up_case_chance(c, 6)) continue;
        up_case_change(c, P_DWEIGHT + i, names[i], of->rows, of->cols);
        grad_of(c, P_WEIGHT + i, P_DWEIGHT + i);
    }
}

static up_status patch_embed_launch(const up_case *c, up_backend *b, const up_view *v, up_view scratch) {
    (void)c;
    UP_TRY(
        b->ops->patch_embed(b, &(up_patch_embed_args){v[P_PATCHES], v[P_CELLS], v[P_FRAMES], v[P_WEIGHT],
                                                      v[P_BIAS], v[P_SPACE], v[P_TIME], v[P_TYPE], v[P_Y]}));
    return b->ops->patch_embed_bwd(b, &(up_patch_embed_grad){v[P_PATCHES], v[P_CELLS], v[P_FRAMES], v[P_DY],
                                                             v[P_DWEIGHT], v[P_DBIAS], v[P_DSPACE],
                                                             v[P_DTIME], v[P_DTYPE], scratch});
}

static void patch_embed_oracle(up_case *c, int backward) {
    for (int64_t n = 0; n < c->t[P_Y].rows; n++) {
        int64_t cell = index_at(c, P_CELLS, n), frame = has(c, P_TIME) ? index_at(c, P_FRAMES, n) : 0;
        for (int64_t d = 0; d < c->t[P_Y].cols; d++) {
            up_num places = *at(c, P_SPACE, cell, d), y = *at(c, P_BIAS, 0, d);
            if (has(c, P_TIME)) add_to(&places, *at(c, P_TIME, frame, d));
            if (has(c, P_TYPE)) add_to(&places, *at(c, P_TYPE, 0, d));
            for (int64_t i = 0; i < c->t[P_PATCHES].cols; i++)
                add_to(&y, up_mul(*at(c, P_PATCHES, n, i), *at(c, P_WEIGHT, d, i)));
            *at(c, P_Y, n, d) = up_store(up_add(y, up_store(places)));
            for (int64_t i = 0; backward && has(c, P_DWEIGHT) && i < c->t[P_PATCHES].cols; i++)
                add_to(at(c, P_DWEIGHT, d, i), up_mul(*at(c, P_PATCHES, n, i), *at(c, P_DY, n, d)));
        }
        if (backward && has(c, P_DBIAS)) add_row(c, P_DBIAS, 0, P_DY, n);
        if (backward && has(c, P_DSPACE)) add_row(c, P_DSPACE, cell, P_DY, n);
        if (backward && has(c, P_DTIME)) add_row(c, P_DTIME, frame, P_DY, n);
        if (backward && has(c, P_DTYPE)) add_row(c, P_DTYPE, 0, P_DY, n);
    }
    for (int t = P_DWEIGHT; backward && t <= P_DTYPE; t++)
        if (has(c, t)) store_all(c, t);
}

/* ---- linear ---- */
enum { L_X, L_WEIGHT, L_BIAS, L_PRE, L_Y, L_DY, L_DX, L_DWEIGHT, L_DBIAS };

static void linear_make(up_case *c) {
    int64_t N = up_case_dim(c, 0), I = up_case_dim(c, 1), O = up_case_dim(c, 1);
    int gelu = up_case_chance(c, 2), inference = gelu && !c->smooth && up_case_chance(c, 4);
    c->options[0] = gelu ? UP_ACT_GELU : UP_ACT_NONE;
    c->exact = !gelu && !c->smooth && up_case_chance(c, 3);
    c->dims = (up_op_dims){.rows = N, .in = I, .out = O};
    up_case_in(c, L_X, "x", N, I);
    up_case_in(c, L_WEIGHT, "weight", O, I);
    if (!up_case_chance(c, 4)) up_case_in(c, L_BIAS, "bias", 1, O);
    up_case_out(c, L_Y, "y", N, O);
    if (!inference && (gelu || up_case_chance(c, 4))) up_case_out(c, L_PRE, "pre", N, O);
    snprintf(c->shape, sizeof c->shape, "N=%ld I=%ld O=%ld gelu=%d bias=%d pre=%d", (long)N, (long)I, (long)O,
             gelu, has(c, L_BIAS), has(c, L_PRE));
    if (inference) return;
    up_case_change(c, L_DY, "dy", N, O);
    upstream_of(c, L_Y, L_DY);
    if (!up_case_chance(c, 5)) {
        up_case_out(c, L_DX, "dx", N, I);
        grad_of(c, L_X, L_DX);
    }
    if (!up_case_chance(c, 5)) {
        up_case_change(c, L_DWEIGHT, "dweight", O, I);
        grad_of(c, L_WEIGHT, L_DWEIGHT);
    }
    if (has(c, L_BIAS)) {
        up_case_change(c, L_DBIAS, "dbias", 1, O);
        grad_of(c, L_BIAS, L_DBIAS);
    }
}

static up_status linear_launch(const up_case *c, up_backend *b, const up_view *v, up_view scratch) {
    up_activation activation = (up_activation)c->options[0];
    UP_TRY(
        b->ops->linear(b, &(up_linear_args){v[L_X], v[L_WEIGHT], v[L_BIAS], activation, v[L_PRE], v[L_Y]}));
    if (!up_view_present(v[L_DY])) return UP_OK;
    return b->ops->linear_bwd(b, &(up_linear_grad){v[L_X], v[L_WEIGHT], activation, v[L_PRE], v[L_DY],
                                                   v[L_DX], v[L_DWEIGHT], v[L_DBIAS], scratch});
}

static up_num normal_cdf(up_num v) { /* 0.5 (1 + erf(v / sqrt 2)) */
    return up_mul(up_num_exact(0.5), up_add(up_num_exact(1), up_erf(up_mul(v, constant(sqrt(0.5))))));
}

static up_num gelu_slope(up_num v) {
    up_num density =
        up_mul(constant(1 / sqrt(2 * acos(-1))), up_exp(up_mul(up_num_exact(-0.5), up_mul(v, v))));
    return up_add(normal_cdf(v), up_mul(v, density));
}

static void linear_oracle(up_case *c, int backward) {
    int64_t N = c->t[L_X].rows, I = c->t[L_X].cols, O = c->t[L_Y].cols;
    int gelu = c->options[0] == UP_ACT_GELU, train = backward && has(c, L_DY);
    if (train && has(c, L_DX)) zero(c, L_DX);
    for (int64_t n = 0; n < N; n++)
        for (int64_t o = 0; o < O; o++) {
            up_num v = has(c, L_BIAS) ? *at(c, L_BIAS, 0, o) : up_num_exact(0);
            for (int64_t i = 0; i < I; i++) add_to(&v, up_mul(*at(c, L_X, n, i), *at(c, L_WEIGHT, o, i)));
            v = up_store(v);
            if (has(c, L_PRE)) *at(c, L_PRE, n, o) = v;
            *at(c, L_Y, n, o) = gelu ? up_store(up_mul(v, normal_cdf(v))) : v;
            if (!train) continue;
            up_num *dy = at(c, L_DY, n, o);
            if (gelu) *dy = up_store(up_mul(*dy, gelu_slope(v)));
            for (int64_t i = 0; i < I; i++) {
                if (has(c, L_DX)) add_to(at(c, L_DX, n, i), up_mul(*dy, *at(c, L_WEIGHT, o, i)));
                if (has(c, L_DWEIGHT)) add_to(at(c, L_DWEIGHT, o, i), up_mul(*dy, *at(c, L_X, n, i)));
            }
            if (has(c, L_DBIAS)) add_to(at(c, L_DBIAS, 0, o), *dy);
        }
    for (int t = L_DX; train && t <= L_DBIAS; t++)
        if (has(c, t)) store_all(c, t);
}

/* ---- layernorm ---- */
enum { N_X, N_WEIGHT, N_BIAS, N_Y, N_STATS, N_DY, N_PAST, N_DX, N_DWEIGHT, N_DBIAS };

static void layernorm_make(up_case *c) {
    int64_t N = up_case_dim(c, 0), D = up_case_dim(c, 1);
    int past = !c->smooth && up_case_chance(c, 2), alias = (int)up_rng_below(&c->rng, 3);
    c->numbers[0] = 1e-5f;
    snprintf(c->shape, sizeof c->shape, "N=%ld D=%ld residual=%d dx on=%d", (long)N, (long)D, past, alias);
    c->dims = (up_op_dims){.rows = N, .in = D, .out = D};
    up_case_in(c, N_X, "x", N, D);
    up_case_in(c, N_WEIGHT, "weight", 1, D);
    up_case_in(c, N_BIAS, "bias", 1, D);
    if (up_case_chance(c, 3)) /* a mean far from 0 */
        for (int64_t i = 0; i < N * D; i++) up_case_f32(c, N_X)[i] += 20;
    up_case_out(c, N_Y, "y", N, D);
    up_case_out(c, N_STATS, "stats", N, 2);
    up_case_in(c, N_DY, "dy", N, D);
    upstream_of(c, N_Y, N_DY);
    if (past) up_case_in(c, N_PAST, "residual", N, D);
    up_case_out(c, N_DX, "dx", N, D);
    grad_of(c, N_X, N_DX);
    if (alias == 1) lay(c, N_DX, N_DY, 0);
    if (alias == 2 && past) lay(c, N_DX, N_PAST, 0);
    if (!up_case_chance(c, 5)) {
        up_case_change(c, N_DWEIGHT, "dweight", 1, D);
        grad_of(c, N_WEIGHT, N_DWEIGHT);
    }
    if (!up_case_chance(c, 5)) {
        up_case_change(c, N_DBIAS, "dbias", 1, D);
        grad_of(c, N_BIAS, N_DBIAS);
    }
}

static up_status layernorm_launch(const up_case *c, up_backend *b, const up_view *v, up_view scratch) {
    UP_TRY(b->ops->layernorm(
        b, &(up_layernorm_args){v[N_X], v[N_WEIGHT], v[N_BIAS], (float)c->numbers[0], v[N_Y], v[N_STATS]}));
    return b->ops->layernorm_bwd(b, &(up_layernorm_grad){v[N_X], v[N_WEIGHT], v[N_STATS], v[N_DY], v[N_PAST],
                                                         v[N_DX], v[N_DWEIGHT], v[N_DBIAS], scratch});
}

static void layernorm_row_backward(up_case *c, int64_t n, up_num mean, up_num rstd) {
    int64_t D = c->t[N_X].cols;
    up_num per = constant(1.0 / (double)D), g_mean = up_num_exact(0), gx_mean = up_num_exact(0);
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t d = 0; d < D; d++) {
            up_num xhat = up_mul(up_sub(*at(c, N_X, n, d), mean), rstd), dy = *at(c, N_DY, n, d);
            up_num g = up_mul(dy, *at(c, N_WEIGHT, 0, d));
            if (pass == 0) {
                add_to(&g_mean, g);
                add_to(&gx_mean, up_mul(g, xhat));
                if (has(c, N_DWEIGHT)) add_to(at(c, N_DWEIGHT, 0, d), up_mul(dy, xhat));
                if (has(c, N_DBIAS)) add_to(at(c, N_DBIAS, 0, d), dy);
                continue;
            }
            up_num dx = up_mul(rstd, up_sub(up_sub(g, g_mean), up_mul(xhat, gx_mean)));
            if (has(c, N_PAST)) add_to(&dx, *at(c, N_PAST, n, d));
            *at(c, N_DX, n, d) = up_store(dx);
        }
        if (pass == 0) {
            g_mean = up_mul(g_mean, per);
            gx_mean = up_mul(gx_mean, per);
        }
    }
}

static void layernorm_oracle(up_case *c, int backward) {
    int64_t N = c->t[N_X].rows, D = c->t[N_X].cols;
    for (int64_t n = 0; n < N; n++) {
        up_num per = constant(1.0 / (double)D), mean = up_num_exact(0),
               variance = up_num_exact(c->numbers[0]);
        for (int64_t d = 0; d < D; d++) add_to(&mean, *at(c, N_X, n, d));
        mean = up_mul(mean, per);
        for (int64_t d = 0; d < D; d++) {
            up_num x = up_sub(*at(c, N_X, n, d), mean);
            add_to(&variance, up_mul(up_mul(x, x), per));
        }
        up_num rstd = up_inverse(up_sqrt(variance));
        for (int64_t d = 0; d < D; d++)
            *at(c, N_Y, n, d) =
                up_store(up_add(up_mul(up_mul(up_sub(*at(c, N_X, n, d), mean), rstd), *at(c, N_WEIGHT, 0, d)),
                                *at(c, N_BIAS, 0, d)));
        *at(c, N_STATS, n, 0) = up_store(mean);
        *at(c, N_STATS, n, 1) = up_store(rstd);
        if (backward) layernorm_row_backward(c, n, up_store(mean), up_store(rstd));
    }
    for (int t = N_DWEIGHT; backward && t <= N_DBIAS; t++)
        if (has(c, t)) store_all(c, t);
}

/* ---- attention ---- */
enum { A_SEQ, A_Q, A_K, A_V, A_PK, A_PV, A_OUT, A_LSE, A_DOUT, A_DQ, A_DK, A_DV, A_DPK, A_DPV };
enum { A_HEADS, A_PROMPTS, A_SIDES, A_MAX_KEYS };

/* Draws one sequence; rows of q and k move on. Returns its number of keys. */
static int64_t draw_sequence(up_case *c, int32_t *f, int cached, int64_t *q, int64_t *k) {
    int64_t keys, queries;
    f[UP_SEQ_KIND] = cached ? UP_MASK_CAUSAL : (int32_t)up_rng_below(&c->rng, 3);
    f[UP_SEQ_PREFIX] = f[UP_SEQ_WORDS] = 0;
    if (f[UP_SEQ_KIND] == UP_MASK_DOUBLED) {
        f[UP_SEQ_PREFIX] = (int32_t)up_case_dim(c, 1);
        f[UP_SEQ_WORDS] = (int32_t)up_case_dim(c, 0);
        queries = keys = f[UP_SEQ_PREFIX] + 2 * f[UP_SEQ_WORDS];
    } else {
        queries = keys = up_case_dim(c, 0);
        if (cached && keys) queries = 1 + up_rng_below(&c->rng, (uint32_t)keys);
    }
    int64_t skip = up_case_chance(c, 4) ? up_rng_below(&c->rng, 4) : 0; /* rows of no sequence */
    f[UP_SEQ_Q_START] = (int32_t)(*q + skip);
    f[UP_SEQ_K_START] = (int32_t)(*k + skip);
    f[UP_SEQ_Q_COUNT] = (int32_t)queries;
    f[UP_SEQ_K_COUNT] = (int32_t)keys;
    f[UP_SEQ_SIDE] = (int32_t)up_rng_below(&c->rng, 2);
    *q += skip + queries;
    *k += skip + keys;
    return keys;
}

static void attention_make(up_case *c) {
    int cached = up_case_chance(c, 4), together = !cached && !up_case_chance(c, 4);
    int64_t S = up_rng_below(&c->rng, 5), H = 1 + up_rng_below(&c->rng, 4), d = up_case_dim(c, 1), D = H * d;
    int64_t P = up_case_chance(c, 2) ? up_rng_below(&c->rng, 4) : 0, sides = 1 + up_rng_below(&c->rng, 2);
    int64_t Nq = 0, Nk = 0, most = 0;
    int32_t *fields = up_case_index(c, A_SEQ, "sequences", S, UP_SEQ_FIELDS, 0);
    for (int64_t s = 0; s < S; s++) {
        int64_t keys = draw_sequence(c, fields + s * UP_SEQ_FIELDS, cached, &Nq, &Nk);
        if (keys > most) most = keys;
    }
    if (up_case_chance(c, 4)) {
        Nq += 3;
        Nk += 3;
    }
    c->options[A_HEADS] = H;
    c->options[A_PROMPTS] = P;
    c->options[A_SIDES] = sides;
    c->options[A_MAX_KEYS] = most + P + up_rng_below(&c->rng, 3);
    c->dims = (up_op_dims){
        .rows = Nq, .in = D, .out = D, .keys = c->options[A_MAX_KEYS], .heads = H, .sequences = S};
    snprintf(c->shape, sizeof c->shape, "S=%ld Nq=%ld Nk=%ld D=%ld H=%ld P=%ld sides=%ld cached=%d qkv=%d",
             (long)S, (long)Nq, (long)Nk, (long)D, (long)H, (long)P, (long)sides, cached, together);
    up_case_in(c, A_Q, "q", Nq, D);
    up_case_in(c, A_K, "k", Nk, D);
    up_case_in(c, A_V, "v", Nk, D);
    up_case_out(c, A_OUT, "out", Nq, D);
    up_case_out(c, A_LSE, "lse", Nq, H);
    up_case_in(c, A_DOUT, "dout", Nq, D);
    up_case_out(c, A_DQ, "dq", Nq, D);
    up_case_out(c, A_DK, "dk", Nk, D);
    up_case_out(c, A_DV, "dv", Nk, D);
    if (together) {
        lay(c, A_K, A_Q, D);
        lay(c, A_V, A_Q, 2 * D);
        lay(c, A_DK, A_DQ, D);
        lay(c, A_DV, A_DQ, 2 * D);
    }
    if (P) {
        up_case_in(c, A_PK, "prompt_k", sides * P, D);
        up_case_in(c, A_PV, "prompt_v", sides * P, D);
        up_case_out(c, A_DPK, "dprompt_k", sides * P, D);
        up_case_out(c, A_DPV, "dprompt_v", sides * P, D);
        grad_of(c, A_PK, A_DPK);
        grad_of(c, A_PV, A_DPV);
    }
    grad_of(c, A_Q, A_DQ);
    grad_of(c, A_K, A_DK);
    grad_of(c, A_V, A_DV);
    upstream_of(c, A_OUT, A_DOUT);
}

static up_status attention_launch(const up_case *c, up_backend *b, const up_view *v, up_view scratch) {
    up_attention_args f = {v[A_SEQ],
                           (int)c->options[A_HEADS],
                           (int)c->options[A_PROMPTS],
                           (int)c->options[A_SIDES],
                           (int)c->options[A_MAX_KEYS],
                           v[A_Q],
                           v[A_K],
                           v[A_V],
                           v[A_PK],
                           v[A_PV],
                           v[A_OUT],
                           v[A_LSE],
                           scratch};
    UP_TRY(b->ops->attention(b, &f));
    return b->ops->attention_bwd(
        b, &(up_attention_grad){f, v[A_DOUT], v[A_DQ], v[A_DK], v[A_DV], v[A_DPK], v[A_DPV], scratch});
}

/* Figure 4 in its own words: what a token is, then what it may look at. */
static int paper_sees(const int32_t *f, int64_t i, int64_t j) {
    enum { PREFIX, WORD, SLOT };
    int64_t P = f[UP_SEQ_PREFIX], n = f[UP_SEQ_WORDS];
    if (f[UP_SEQ_KIND] == UP_MASK_FULL) return 1;
    if (f[UP_SEQ_KIND] == UP_MASK_CAUSAL) return j <= i;
    int query = i < P ? PREFIX : i < P + n ? WORD : SLOT, key = j < P ? PREFIX : j < P + n ? WORD : SLOT;
    int64_t query_number = (i - P) % (n ? n : 1) + 1, key_number = (j - P) % (n ? n : 1) + 1; /* from 1 */
    if (key == PREFIX) return 1;
    if (query == PREFIX) return 0;
    if (query == WORD) return key == WORD && key_number <= query_number;
    return key == WORD ? key_number <= query_number - 1 : key_number == query_number;
}

/* The tensor and row of key j (prompts first) of a sequence. */
static up_num *key_at(up_case *c, const int32_t *f, int prompt, int own, int64_t j, int64_t col) {
    int64_t P = c->options[A_PROMPTS], side = c->options[A_SIDES] == 2 ? f[UP_SEQ_SIDE] : 0;
    return j < P ? at(c, prompt, side * P + j, col) : at(c, own, f[UP_SEQ_K_START] + j - P, col);
}

static int key_seen(const up_case *c, const int32_t *f, int64_t i, int64_t j) {
    int64_t P = c->options[A_PROMPTS];
    return j < P || paper_sees(f, i + f[UP_SEQ_K_COUNT] - f[UP_SEQ_Q_COUNT], j - P);
}

static up_num score_of(up_case *c, const int32_t *f, int64_t i, int64_t j, int64_t col, int64_t d) {
    up_num sum = up_num_exact(0);
    for (int64_t e = col; e < col + d; e++)
        add_to(&sum, up_mul(*at(c, A_Q, f[UP_SEQ_Q_START] + i, e), *key_at(c, f, A_PK, A_K, j, e)));
    return up_mul(sum, constant(1 / sqrt((double)d)));
}

/* Query i of one head; returns with out and lse filled. */
static void query_forward(up_case *c, const int32_t *f, int64_t i, int64_t h, int64_t d) {
    int64_t keys = c->options[A_PROMPTS] + f[UP_SEQ_K_COUNT], row = f[UP_SEQ_Q_START] + i;
    up_num largest = up_num_exact(-INFINITY), sum = up_num_exact(0);
    for (int64_t j = 0; j < keys; j++) {
        if (!key_seen(c, f, i, j)) continue;
        up_num score = score_of(c, f, i, j, h * d, d);
        if (score.v > largest.v) largest = score;
    }
    for (int64_t j = 0; j < keys; j++) {
        if (!key_seen(c, f, i, j)) continue;
        up_num p = up_exp(up_sub(score_of(c, f, i, j, h * d, d), largest));
        add_to(&sum, p);
        for (int64_t e = 0; e < d; e++)
            add_to(at(c, A_OUT, row, h * d + e), up_mul(p, *key_at(c, f, A_PV, A_V, j, h * d + e)));
    }
    for (int64_t e = h * d; e < h * d + d; e++)
        *at(c, A_OUT, row, e) = up_store(up_mul(*at(c, A_OUT, row, e), up_inverse(sum)));
    *at(c, A_LSE, row, h) = up_store(up_add(largest, up_log(sum)));
}

static void query_backward(up_case *c, const int32_t *f, int64_t i, int64_t h, int64_t d) {
    int64_t keys = c->options[A_PROMPTS] + f[UP_SEQ_K_COUNT], row = f[UP_SEQ_Q_START] + i;
    up_num average = up_num_exact(0), scale = constant(1 / sqrt((double)d));
    for (int64_t e = h * d; e < h * d + d; e++)
        add_to(&average, up_mul(*at(c, A_DOUT, row, e), *at(c, A_OUT, row, e)));
    for (int64_t j = 0; j < keys; j++) {
        if (!key_seen(c, f, i, j)) continue;
        up_num p = up_exp(up_sub(score_of(c, f, i, j, h * d, d), *at(c, A_LSE, row, h))),
               dp = up_num_exact(0);
        for (int64_t e = h * d; e < h * d + d; e++)
            add_to(&dp, up_mul(*at(c, A_DOUT, row, e), *key_at(c, f, A_PV, A_V, j, e)));
        up_num ds = up_mul(scale, up_mul(p, up_sub(dp, average)));
        for (int64_t e = h * d; e < h * d + d; e++) {
            add_to(key_at(c, f, A_DPV, A_DV, j, e), up_mul(p, *at(c, A_DOUT, row, e)));
            add_to(key_at(c, f, A_DPK, A_DK, j, e), up_mul(ds, *at(c, A_Q, row, e)));
            add_to(at(c, A_DQ, row, e), up_mul(ds, *key_at(c, f, A_PK, A_K, j, e)));
        }
    }
}

static void attention_oracle(up_case *c, int backward) {
    int64_t H = c->options[A_HEADS], d = c->t[A_Q].cols / H;
    zero(c, A_OUT);
    zero(c, A_LSE);
    for (int t = A_DQ; backward && t <= A_DPV; t++)
        if (has(c, t)) zero(c, t);
    for (int64_t s = 0; s < c->t[A_SEQ].rows; s++) {
        const int32_t *f = (const int32_t *)c->t[A_SEQ].data + s * UP_SEQ_FIELDS;
        for (int64_t h = 0; h < H; h++)
            for (int64_t i = 0; i < f[UP_SEQ_Q_COUNT]; i++) {
                query_forward(c, f, i, h, d);
                if (backward) query_backward(c, f, i, h, d);
            }
    }
    for (int t = A_DQ; backward && t <= A_DPV; t++)
        if (has(c, t)) store_all(c, t);
}

/* ---- residual ---- */
enum { R_X, R_BRANCH, R_SCALE, R_DROP, R_Y, R_DY, R_DBRANCH, R_DSCALE };

static void residual_make(up_case *c) {
    int64_t N = up_case_dim(c, 0), D = up_case_dim(c, 1);
    int in_place = !c->smooth && up_case_chance(c, 2), over_branch = up_case_chance(c, 2);
    c->dims = (up_op_dims){.rows = N, .in = D, .out = D};
    up_case_in(c, R_X, "x", N, D);
    up_case_in(c, R_BRANCH, "branch", N, D);
    if (up_case_chance(c, 2)) up_case_in(c, R_SCALE, "scale", 1, D);
    if (up_case_chance(c, 2)) {
        up_case_in(c, R_DROP, "drop", N, 1);
        for (int64_t n = 0; n < N; n++) up_case_f32(c, R_DROP)[n] = up_case_chance(c, 3) ? 0 : 1 / 0.9f;
    }
    up_case_out(c, R_Y, "y", N, D);
    up_case_in(c, R_DY, "dy", N, D);
    upstream_of(c, R_Y, R_DY);
    up_case_out(c, R_DBRANCH, "dbranch", N, D);
    grad_of(c, R_BRANCH, R_DBRANCH);
    if (in_place) lay(c, R_Y, R_X, 0);
    if (over_branch) lay(c, R_DBRANCH, R_BRANCH, 0);
    if (has(c, R_SCALE)) {
        up_case_change(c, R_DSCALE, "dscale", 1, D);
        grad_of(c, R_SCALE, R_DSCALE);
    }
    snprintf(c->shape, sizeof c->shape, "N=%ld D=%ld scale=%d drop=%d in place=%d,%d", (long)N, (long)D,
             has(c, R_SCALE), has(c, R_DROP), in_place, over_branch);
}

static up_status residual_launch(const up_case *c, up_backend *b, const up_view *v, up_view scratch) {
    (void)c;
    UP_TRY(b->ops->residual(b, &(up_residual_args){v[R_X], v[R_BRANCH], v[R_SCALE], v[R_DROP], v[R_Y]}));
    return b->ops->residual_bwd(b, &(up_residual_grad){v[R_BRANCH], v[R_SCALE], v[R_DROP], v[R_DY],
                                                       v[R_DBRANCH], v[R_DSCALE], scratch});
}

static void residual_oracle(up_case *c, int backward) {
    for (int64_t n = 0; n < c->t[R_X].rows; n++)
        for (int64_t d = 0; d < c->t[R_X].cols; d++) {
            up_num scale = has(c, R_SCALE) ? *at(c, R_SCALE, 0, d) : up_num_exact(1),
                   branch = *at(c, R_BRANCH, n, d);
            up_num drop = has(c, R_DROP) ? *at(c, R_DROP, n, 0) : up_num_exact(1), dy = *at(c, R_DY, n, d);
            *at(c, R_Y, n, d) = up_store(up_add(*at(c, R_X, n, d), up_mul(up_mul(drop, scale), branch)));
            if (!backward) continue;
            *at(c, R_DBRANCH, n, d) = up_store(up_mul(up_mul(drop, scale), dy));
            if (has(c, R_DSCALE)) add_to(at(c, R_DSCALE, 0, d), up_mul(up_mul(drop, branch), dy));
        }
    if (backward && has(c, R_DSCALE)) store_all(c, R_DSCALE);
}

/* ---- gather, scatter ---- */
enum { G_X, G_ROWS, G_Y, G_DY, G_DX };

static void gather_make(up_case *c) {
    int64_t N = up_case_dim(c, 1), R = up_case_dim(c, 0), D = up_case_dim(c, 1);
    c->exact = !c->smooth && up_case_chance(c, 3);
    snprintf(c->shape, sizeof c->shape, "N=%ld R=%ld D=%ld", (long)N, (long)R, (long)D);
    c->dims = (up_op_dims){.rows = R, .in = D, .out = D};
    up_case_in(c, G_X, "x", N, D);
    up_case_index(c, G_ROWS, "rows", R, 1, N);
    up_case_out(c, G_Y, "y", R, D);
    up_case_in(c, G_DY, "dy", R, D);
    up_case_out(c, G_DX, "dx", N, D);
    grad_of(c, G_X, G_DX);
    upstream_of(c, G_Y, G_DY);
}

static up_status gather_launch(const up_case *c, up_backend *b, const up_view *v, up_view scratch) {
    (void)c;
    (void)scratch;
    UP_TRY(b->ops->gather(b, &(up_gather_args){v[G_X], v[G_ROWS], v[G_Y]}));
    return b->ops->gather_bwd(b, &(up_gather_grad){v[G_DY], v[G_ROWS], v[G_DX]});
}

static void gather_oracle(up_case *c, int backward) {
    if (backward) zero(c, G_DX);
    for (int64_t i = 0; i < c->t[G_Y].rows; i++)
        for (int64_t d = 0; d < c->t[G_Y].cols; d++) {
            *at(c, G_Y, i, d) = *at(c, G_X, index_at(c, G_ROWS, i), d);
            up_num *dx = at(c, G_DX, index_at(c, G_ROWS, i), d); /* the first of several is a copy */
            if (backward)
                *dx =
                    dx->v == 0 && dx->e == 0 ? *at(c, G_DY, i, d) : up_store(up_add(*dx, *at(c, G_DY, i, d)));
        }
}

enum { S_X, S_ROWS, S_Y };

static void scatter_make(up_case *c) {
    int64_t N = up_case_dim(c, 1), R = up_rng_below(&c->rng, (uint32_t)N + 1), D = up_case_dim(c, 1);
    snprintf(c->shape, sizeof c->shape, "R=%ld N=%ld D=%ld", (long)R, (long)N, (long)D);
    c->dims = (up_op_dims){.rows = R, .in = D, .out = D};
    int32_t *rows = up_case_index(c, S_ROWS, "rows", R, 1, 0);
    for (int64_t i = 0; i < R; i++) rows[i] = (int32_t)up_permute(c->seed, (uint64_t)N, (uint64_t)i);
    up_case_in(c, S_X, "x", R, D);
    up_case_change(c, S_Y, "y", N, D);
}

static up_status scatter_launch(const up_case *c, up_backend *b, const up_view *v, up_view scratch) {
    (void)c;
    (void)scratch;
    return b->ops->scatter(b, &(up_scatter_args){v[S_X], v[S_ROWS], v[S_Y]});
}

static void scatter_oracle(up_case *c, int backward) {
    (void)backward;
    for (int64_t i = 0; i < c->t[S_X].rows; i++)
        for (int64_t d = 0; d < c->t[S_X].cols; d++)
            *at(c, S_Y, index_at(c, S_ROWS, i), d) = *at(c, S_X, i, d);
}

/* ---- l2norm ---- */
enum { U_X, U_Y, U_RNORM, U_DY, U_DX };

static void l2norm_make(up_case *c) {
    int64_t R = up_case_dim(c, 0), D = up_case_dim(c, 1);
    int in_place = up_case_chance(c, 2);
    snprintf(c->shape, sizeof c->shape, "R=%ld D=%ld in place=%d", (long)R, (long)D, in_place);
    c->dims = (up_op_dims){.rows = R, .in = D, .out = D};
    up_case_in(c, U_X, "x", R, D);
    for (int64_t n = 0; n < R && !c->smooth; n++) { /* rows that are nothing, or next to it */
        float factor = up_case_chance(c, 8) ? 0 : up_case_chance(c, 8) ? 1e-20f : 1;
        for (int64_t d = 0; d < D; d++) up_case_f32(c, U_X)[n * D + d] *= factor;
    }
    up_case_out(c, U_Y, "y", R, D);
    up_case_out(c, U_RNORM, "rnorm", R, 1);
    up_case_in(c, U_DY, "dy", R, D);
    up_case_out(c, U_DX, "dx", R, D);
    if (in_place) lay(c, U_DX, U_DY, 0);
    grad_of(c, U_X, U_DX);
    upstream_of(c, U_Y, U_DY);
}

static up_status l2norm_launch(const up_case *c, up_backend *b, const up_view *v, up_view scratch) {
    (void)c;
    (void)scratch;
    UP_TRY(b->ops->l2norm(b, &(up_l2norm_args){v[U_X], v[U_Y], v[U_RNORM]}));
    return b->ops->l2norm_bwd(b, &(up_l2norm_grad){v[U_Y], v[U_RNORM], v[U_DY], v[U_DX]});
}

static void l2norm_oracle(up_case *c, int backward) {
    int64_t D = c->t[U_X].cols;
    for (int64_t n = 0; n < c->t[U_X].rows; n++) {
        up_num square = up_num_exact(0), along = up_num_exact(0), length = up_num_exact(1e-12);
        for (int64_t d = 0; d < D; d++) add_to(&square, up_mul(*at(c, U_X, n, d), *at(c, U_X, n, d)));
        int clamped = sqrt(square.v) < 1e-12;
        up_num rnorm = up_inverse(clamped ? length : up_sqrt(square));
        *at(c, U_RNORM, n, 0) = up_store(rnorm);
        for (int64_t d = 0; d < D; d++) {
            *at(c, U_Y, n, d) = up_store(up_mul(*at(c, U_X, n, d), rnorm));
            if (!clamped) add_to(&along, up_mul(*at(c, U_Y, n, d), *at(c, U_DY, n, d)));
        }
        for (int64_t d = 0; backward && d < D; d++)
            *at(c, U_DX, n, d) = up_store(
                up_mul(up_sub(*at(c, U_DY, n, d), up_mul(along, *at(c, U_Y, n, d))), *at(c, U_RNORM, n, 0)));
    }
}

/* ---- logits ---- */
enum { Z_A, Z_B, Z_LOG_SCALE, Z_Z, Z_DZ, Z_DA, Z_DB, Z_DLOG_SCALE };

static void logits_make(up_case *c) {
    int64_t Q = up_case_dim(c, 0), V = up_case_dim(c, 0), D = up_case_dim(c, 1);
    static const float scales[] = {0, 2.65926f, 4.5f, 4.7f}; /* 1, the start 1 / 0.07, under 100, over 100 */
    float log_scale = scales[up_rng_below(&c->rng, 4)];
    snprintf(c->shape, sizeof c->shape, "Q=%ld V=%ld D=%ld log_scale=%g", (long)Q, (long)V, (long)D,
             log_scale);
    c->dims = (up_op_dims){.rows = Q, .in = D, .out = V};
    up_case_in(c, Z_A, "a", Q, D);
    up_case_in(c, Z_B, "b", V, D);
    up_case_in(c, Z_LOG_SCALE, "log_scale", 1, 1);
    up_case_f32(c, Z_LOG_SCALE)[0] = log_scale;
    up_case_out(c, Z_Z, "z", Q, V);
    up_case_in(c, Z_DZ, "dz", Q, V);
    upstream_of(c, Z_Z, Z_DZ);
    if (!up_case_chance(c, 6)) {
        up_case_out(c, Z_DA, "da", Q, D);
        grad_of(c, Z_A, Z_DA);
    }
    if (!up_case_chance(c, 6)) {
        up_case_out(c, Z_DB, "db", V, D);
        grad_of(c, Z_B, Z_DB);
    }
    if (has(c, Z_DA) && !up_case_chance(c, 6)) {
        up_case_change(c, Z_DLOG_SCALE, "dlog_scale", 1, 1);
        grad_of(c, Z_LOG_SCALE, Z_DLOG_SCALE);
    }
}

static up_status logits_launch(const up_case *c, up_backend *b, const up_view *v, up_view scratch) {
    (void)c;
    UP_TRY(b->ops->logits(b, &(up_logits_args){v[Z_A], v[Z_B], v[Z_LOG_SCALE], v[Z_Z]}));
    return b->ops->logits_bwd(b, &(up_logits_grad){v[Z_A], v[Z_B], v[Z_LOG_SCALE], v[Z_DZ], v[Z_DA], v[Z_DB],
                                                   v[Z_DLOG_SCALE], scratch});
}

static void logits_oracle(up_case *c, int backward) {
    up_num scale = up_exp(*at(c, Z_LOG_SCALE, 0, 0));
    int clamped = scale.v > 100;
    if (clamped) scale = up_num_exact(100);
    for (int t = Z_DA; backward && t <= Z_DB; t++)
        if (has(c, t)) zero(c, t);
    for (int64_t q = 0; q < c->t[Z_Z].rows; q++)
        for (int64_t v = 0; v < c->t[Z_Z].cols; v++) {
            up_num z = up_num_exact(0), scaled = backward ? up_mul(scale, *at(c, Z_DZ, q, v)) : z;
            for (int64_t d = 0; d < c->t[Z_A].cols; d++) {
                up_num a = *at(c, Z_A, q, d), b = *at(c, Z_B, v, d);
                add_to(&z, up_mul(a, b));
                if (backward && has(c, Z_DA)) add_to(at(c, Z_DA, q, d), up_mul(scaled, b));
                if (backward && has(c, Z_DB)) add_to(at(c, Z_DB, v, d), up_mul(scaled, a));
            }
            *at(c, Z_Z, q, v) = up_store(up_mul(scale, z));
        }
    for (int t = Z_DA; backward && t <= Z_DB; t++)
        if (has(c, t)) store_all(c, t);
    if (!backward || !has(c, Z_DLOG_SCALE) || clamped) return;
    for (int64_t i = 0; i < c->t[Z_A].rows * c->t[Z_A].cols; i++)
        add_to(at(c, Z_DLOG_SCALE, 0, 0), up_mul(c->t[Z_DA].num[i], c->t[Z_A].num[i]));
    store_all(c, Z_DLOG_SCALE);
}

/* ---- xent ---- */
enum { X_Z, X_TARGETS, X_SOFT, X_LOSS, X_LSE, X_CORRECT, X_DZ };

static void xent_make(up_case *c) {
    int64_t Q = up_case_dim(c, 0), V = up_case_dim(c, 1);
    int soft = up_case_chance(c, 3), in_place = up_case_chance(c, 2);
    c->numbers[0] = soft || up_case_chance(c, 2) ? 0 : 0.1f;
    c->numbers[1] = 1 / 3.0f;
    c->dims = (up_op_dims){.rows = Q, .in = V, .out = V};
    up_case_in(c, X_Z, "z", Q, V);
    for (int64_t i = 0; i < Q * V; i++) up_case_f32(c, X_Z)[i] *= 5;
    if (!soft) {
        int32_t *targets = up_case_index(c, X_TARGETS, "targets", Q, 1, V);
        for (int64_t q = 0; q < Q; q++)
            if (up_case_chance(c, 5)) targets[q] = -1;
    } else {
        up_case_in(c, X_SOFT, "soft", Q, V);
        for (int64_t q = 0; q < Q; q++) {
            float *p = up_case_f32(c, X_SOFT) + q * V;
            double sum = 0, rest = 1;
            for (int64_t v = 0; v < V; v++) sum += p[v] = fmaxf(p[v], 0) + 0.01f;
            for (int64_t v = 1; v < V; v++) rest -= p[v] = (float)(floor(p[v] / sum * 0x1p16) * 0x1p-16);
            p[0] = (float)rest; /* the sum is exactly 1 */
        }
    }
    up_case_out(c, X_LOSS, "loss", Q, 1);
    up_case_out(c, X_LSE, "lse", Q, 1);
    c->t[X_LOSS].upstream_all = c->numbers[1];
    if (up_case_chance(c, 2)) up_case_out(c, X_CORRECT, "correct", Q, 1);
    up_case_out(c, X_DZ, "dz", Q, V);
    grad_of(c, X_Z, X_DZ);
    if (in_place) lay(c, X_DZ, X_Z, 0);
    snprintf(c->shape, sizeof c->shape, "Q=%ld V=%ld soft=%d smoothing=%g in place=%d", (long)Q, (long)V,
             soft, c->numbers[0], in_place);
}

static up_status xent_launch(const up_case *c, up_backend *b, const up_view *v, up_view scratch) {
    (void)scratch;
    float smoothing = (float)c->numbers[0], weight = (float)c->numbers[1];
    UP_TRY(b->ops->xent(
        b, &(up_xent_args){v[X_Z], v[X_TARGETS], v[X_SOFT], smoothing, v[X_LOSS], v[X_LSE], v[X_CORRECT]}));
    return b->ops->xent_bwd(
        b, &(up_xent_grad){v[X_Z], v[X_TARGETS], v[X_SOFT], v[X_LSE], smoothing, weight, v[X_DZ]});
}

static int64_t argmax(up_case *c, int t, int64_t row) {
    int64_t best = 0;
    for (int64_t v = 1; v < c->t[t].cols; v++)
        if (at(c, t, row, v)->v > at(c, t, row, best)->v) best = v;
    return best;
}

static up_num target_at(up_case *c, int64_t q, int64_t v) {
    double e = c->numbers[0];
    if (has(c, X_SOFT)) return *at(c, X_SOFT, q, v);
    if (e == 0) return up_num_exact(v == index_at(c, X_TARGETS, q));
    return constant((v == index_at(c, X_TARGETS, q) ? 1 - e : 0) + e / (double)c->t[X_Z].cols);
}

static void xent_oracle(up_case *c, int backward) {
    int64_t V = c->t[X_Z].cols;
    for (int64_t q = 0; q < c->t[X_Z].rows; q++) {
        int left_out = has(c, X_TARGETS) && index_at(c, X_TARGETS, q) < 0;
        up_num largest = *at(c, X_Z, q, argmax(c, X_Z, q)), sum = up_num_exact(0), loss = up_num_exact(0);
        for (int64_t v = 0; v < V; v++) add_to(&sum, up_exp(up_sub(*at(c, X_Z, q, v), largest)));
        up_num lse = up_add(largest, up_log(sum)), stored = up_store(lse);
        for (int64_t v = 0; v < V; v++)
            add_to(&loss, up_mul(target_at(c, q, v), up_sub(lse, *at(c, X_Z, q, v))));
        *at(c, X_LOSS, q, 0) = left_out ? up_num_exact(0) : up_store(loss);
        *at(c, X_LSE, q, 0) = stored;
        if (has(c, X_CORRECT)) {
            int64_t wanted = has(c, X_SOFT) ? argmax(c, X_SOFT, q) : index_at(c, X_TARGETS, q);
            *at(c, X_CORRECT, q, 0) = up_num_exact(argmax(c, X_Z, q) == wanted);
        }
        for (int64_t v = 0; backward && v < V; v++) {
            up_num p = up_exp(up_sub(*at(c, X_Z, q, v), stored));
            up_num dz = up_mul(up_num_exact(c->numbers[1]), up_sub(p, target_at(c, q, v)));
            *at(c, X_DZ, q, v) = left_out ? up_num_exact(0) : up_store(dz);
        }
    }
}

/* ---- sqnorm, adamw ---- */
enum { Q_X, Q_OUT };

static void sqnorm_make(up_case *c) {
    int64_t N = up_case_dim(c, 0), D = up_case_dim(c, 1);
    c->exact = !c->smooth && up_case_chance(c, 3);
    snprintf(c->shape, sizeof c->shape, "N=%ld D=%ld", (long)N, (long)D);
    c->dims = (up_op_dims){.rows = N, .in = D, .out = D};
    up_case_in(c, Q_X, "x", N, D);
    up_case_change(c, Q_OUT, "out", 1, 1);
}

static up_status sqnorm_launch(const up_case *c, up_backend *b, const up_view *v, up_view scratch) {
    (void)c;
    return b->ops->sqnorm(b, &(up_sqnorm_args){v[Q_X], v[Q_OUT], scratch});
}

static void sqnorm_oracle(up_case *c, int backward) {
    (void)backward;
    for (int64_t n = 0; n < c->t[Q_X].rows; n++)
        for (int64_t d = 0; d < c->t[Q_X].cols; d++)
            add_to(at(c, Q_OUT, 0, 0), up_mul(*at(c, Q_X, n, d), *at(c, Q_X, n, d)));
    store_all(c, Q_OUT);
}

enum { W_PARAM, W_GRAD, W_M, W_V, W_SQNORM };
enum { W_LR, W_BETA1, W_BETA2, W_EPS, W_DECAY, W_CORRECTION1, W_CORRECTION2, W_MAX_NORM };

static void adamw_make(up_case *c) {
    int64_t N = up_case_dim(c, 0), D = up_case_dim(c, 1);
    double step = 1 + up_rng_below(&c->rng, 100);
    const float values[] = {1e-3f,
                            0.9f,
                            up_case_chance(c, 2) ? 0.999f : 0.95f,
                            1e-6f,
                            up_case_chance(c, 2) ? 0.2f : 0,
                            (float)(1 - pow(0.9, step)),
                            (float)(1 - pow(0.95, step)),
                            up_case_chance(c, 3) ? 0 : 0.1f};
    for (int i = 0; i < 8; i++) c->numbers[i] = values[i];
    c->dims = (up_op_dims){.rows = N, .in = D, .out = D};
    up_case_change(c, W_PARAM, "param", N, D);
    up_case_in(c, W_GRAD, "grad", N, D);
    up_case_change(c, W_M, "m", N, D);
    up_case_change(c, W_V, "v", N, D);
    for (int64_t i = 0; i < N * D; i++) up_case_f32(c, W_V)[i] *= up_case_f32(c, W_V)[i];
    const float squares[] = {2.5f, 1e-4f, 0, INFINITY, NAN};
    if (!up_case_chance(c, 4)) {
        up_case_in(c, W_SQNORM, "sqnorm", 1, 1);
        up_case_f32(c, W_SQNORM)[0] = squares[up_rng_below(&c->rng, 5)];
    }
    snprintf(c->shape, sizeof c->shape, "N=%ld D=%ld step=%g decay=%g max_norm=%g sqnorm=%g", (long)N,
             (long)D, step, c->numbers[W_DECAY], c->numbers[W_MAX_NORM],
             has(c, W_SQNORM) ? up_case_f32(c, W_SQNORM)[0] : -1.0);
}

static up_status adamw_launch(const up_case *c, up_backend *b, const up_view *v, up_view scratch) {
    (void)scratch;
    const double *n = c->numbers;
    up_adamw_args a = {v[W_PARAM],
                       v[W_GRAD],
                       v[W_M],
                       v[W_V],
                       (float)n[W_LR],
                       (float)n[W_BETA1],
                       (float)n[W_BETA2],
                       (float)n[W_EPS],
                       (float)n[W_DECAY],
                       (float)n[W_CORRECTION1],
                       (float)n[W_CORRECTION2],
                       v[W_SQNORM],
                       (float)n[W_MAX_NORM]};
    return b->ops->adamw(b, &a);
}

static void adamw_oracle(up_case *c, int backward) {
    (void)backward;
    up_num clip = up_num_exact(1), number[8];
    for (int i = 0; i < 8; i++) number[i] = up_num_exact(c->numbers[i]);
    if (has(c, W_SQNORM)) {
        up_num square = *at(c, W_SQNORM, 0, 0);
        if (!isfinite(square.v)) return;
        up_num least = up_mul(number[W_MAX_NORM], up_inverse(up_add(up_sqrt(square), constant(1e-6))));
        if (c->numbers[W_MAX_NORM] > 0 && least.v < 1) clip = least;
    }
    for (int64_t i = 0; i < c->t[W_PARAM].rows * c->t[W_PARAM].cols; i++) {
        up_num *param = &c->t[W_PARAM].num[i], *m = &c->t[W_M].num[i], *v = &c->t[W_V].num[i];
        up_num g = up_mul(clip, c->t[W_GRAD].num[i]);
        *m = up_add(up_mul(number[W_BETA1], *m), up_mul(constant(1 - c->numbers[W_BETA1]), g));
        *v = up_add(up_mul(number[W_BETA2], *v), up_mul(constant(1 - c->numbers[W_BETA2]), up_mul(g, g)));
        up_num below = up_add(up_sqrt(up_mul(*v, up_inverse(number[W_CORRECTION2]))), number[W_EPS]);
        up_num step = up_mul(up_mul(*m, up_inverse(number[W_CORRECTION1])), up_inverse(below));
        *param =
            up_store(up_sub(*param, up_mul(number[W_LR], up_add(step, up_mul(number[W_DECAY], *param)))));
        *m = up_store(*m);
        *v = up_store(*v);
    }
}

/* ---- cast: bits, no oracle ---- */
enum { C_X, C_HALF, C_BACK };

static void cast_make(up_case *c) {
    int64_t N = up_case_dim(c, 0), D = up_case_dim(c, 1);
    static const up_dtype types[] = {UP_F32, UP_F16, UP_BF16};
    up_dtype dtype = types[up_rng_below(&c->rng, 3)];
    snprintf(c->shape, sizeof c->shape, "N=%ld D=%ld to=%s", (long)N, (long)D,
             dtype == UP_F32   ? "f32"
             : dtype == UP_F16 ? "f16"
                               : "bf16");
    c->dims = (up_op_dims){.rows = N, .in = D, .out = D};
    up_case_in(c, C_X, "x", N, D);
    for (int64_t i = 0; i < N * D; i++) /* over the whole range of halves: overflow, subnormals, zero */
        up_case_f32(c, C_X)[i] = ldexpf(up_case_f32(c, C_X)[i], (int)up_rng_below(&c->rng, 48) - 30);
    up_case_out(c, C_HALF, "y", N, D);
    c->t[C_HALF].dtype = dtype;
    up_case_out(c, C_BACK, "back", N, D);
}

static up_status cast_launch(const up_case *c, up_backend *b, const up_view *v, up_view scratch) {
    (void)c;
    (void)scratch;
    UP_TRY(b->ops->cast(b, &(up_cast_args){v[C_X], v[C_HALF]}));
    return b->ops->cast(b, &(up_cast_args){v[C_HALF], v[C_BACK]});
}

const up_case_kind up_case_kinds[] = {
    {"embed", UP_OP_EMBED, 40, embed_make, embed_launch, embed_oracle},
    {"patch_embed", UP_OP_PATCH_EMBED, 40, patch_embed_make, patch_embed_launch, patch_embed_oracle},
    {"linear", UP_OP_LINEAR, 110, linear_make, linear_launch, linear_oracle},
    {"layernorm", UP_OP_LAYERNORM, 150, layernorm_make, layernorm_launch, layernorm_oracle},
    {"attention", UP_OP_ATTENTION, 34, attention_make, attention_launch, attention_oracle},
    {"residual", UP_OP_RESIDUAL, 100, residual_make, residual_launch, residual_oracle},
    {"gather", UP_OP_GATHER, 60, gather_make, gather_launch, gather_oracle},
    {"scatter", UP_OP_SCATTER, 60, scatter_make, scatter_launch, scatter_oracle},
    {"l2norm", UP_OP_L2NORM, 150, l2norm_make, l2norm_launch, l2norm_oracle},
    {"logits", UP_OP_LOGITS, 80, logits_make, logits_launch, logits_oracle},
    {"xent", UP_OP_XENT, 150, xent_make, xent_launch, xent_oracle},
    {"sqnorm", UP_OP_SQNORM, 150, sqnorm_make, sqnorm_launch, sqnorm_oracle},
    {"adamw", UP_OP_ADAMW, 100, adamw_make, adamw_launch, adamw_oracle},
    {"cast", UP_OP_CAST, 60, cast_make, cast_launch, NULL},
    {0},
};

const up_case_kind *up_case_kind_named(const char *name) {
    for (const up_case_kind *kind = up_case_kinds; kind->name; kind++)
        if (!strcmp(kind->name, name)) return kind;
    return NULL;
}

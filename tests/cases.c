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

/* A sum begins: from what is there where it is added to, from 0 where it is set. */
static void start(up_case *c, int t) {
    const float *x = c->t[t].role == UP_ROLE_CHANGE ? c->t[t].data : NULL;
    for (int64_t i = 0; i < c->t[t].rows * c->t[t].cols; i++) c->t[t].num[i] = up_num_exact(x ? x[i] : 0);
}

/* Stores in the type of the tensor. */
static void set(up_case *c, int t, int64_t row, int64_t col, up_num x) {
    *at(c, t, row, col) = up_store_as(x, c->t[t].dtype);
}

static void store_all(up_case *c, int t) {
    for (int64_t i = 0; i < c->t[t].rows * c->t[t].cols; i++)
        c->t[t].num[i] = up_store_as(c->t[t].num[i], c->t[t].dtype);
}

/* One element in another type: nothing is lost in the same one or in f32. */
static up_num converted(up_num x, up_dtype from, up_dtype to) {
    return to == UP_F32 || to == from ? x : up_store_as(x, to);
}

/* A weight as it enters a product: a backend may round it to the activations' type first. */
static up_num weight_at(up_case *c, int t, int64_t row, int64_t col) {
    up_num w = *at(c, t, row, col);
    return c->half_weights && !c->exact ? up_store_as(w, c->dtype) : w;
}

/* Tensors first..last are activations. */
static void activations(up_case *c, int first, int last) {
    for (int t = first; t <= last; t++) up_case_retype(c, t, c->dtype);
}

/* sum[0, d] += x[row, d] */
static void add_row(up_case *c, int sum, int64_t sum_row, int x, int64_t row) {
    for (int64_t d = 0; d < c->t[x].cols; d++) add_to(at(c, sum, sum_row, d), *at(c, x, row, d));
}

/* ---- embed ---- */
enum {
    E_IDS,
    E_POSITIONS,
    E_TOKEN,
    E_SPE,
    E_POSITION,
    E_TYPE,
    E_Y,
    E_DY,
    E_DTOKEN,
    E_DSPE,
    E_DPOSITION,
    E_DTYPE
};

static void embed_make(up_case *c) {
    int64_t N = up_case_dim(c, 0), D = up_case_dim(c, 1), V = up_case_dim(c, 1), P = up_case_dim(c, 1);
    int typed = !up_case_chance(c, 4);
    c->exact = !c->smooth && up_case_chance(c, 4);
    snprintf(c->shape, sizeof c->shape, "N=%ld D=%ld vocabulary=%ld positions=%ld type=%d", (long)N, (long)D,
             (long)V, (long)P, typed);
    c->dims = (up_op_dims){.rows = N, .in = D, .out = D};
    int32_t *ids = up_case_index(c, E_IDS, "ids", N, 1, V);
    int32_t *positions = up_case_index(c, E_POSITIONS, "positions", N, 1, P);
    for (int64_t n = 0; n < N; n++) {
        if (up_case_chance(c, 5)) positions[n] = -1;
        if (up_case_chance(c, 4)) ids[n] = UP_ID_SPE; /* with a position: a slot */
        if (!up_case_chance(c, 6)) continue;
        ids[n] = UP_ID_NONE;
        positions[n] = -1;
    }
    up_case_in(c, E_TOKEN, "token", V, D);
    up_case_in(c, E_SPE, "spe", 1, D);
    up_case_in(c, E_POSITION, "position", P, D);
    if (typed) up_case_in(c, E_TYPE, "type", 1, D);
    up_case_out(c, E_Y, "y", N, D);
    up_case_in(c, E_DY, "dy", N, D);
    upstream_of(c, E_Y, E_DY);
    activations(c, E_Y, E_DY);
    static const char *const names[] = {"dtoken", "dspe", "dposition", "dtype"};
    for (int i = 0; i < 4; i++) { /* the parameters and their gradients stand in the same order */
        const up_case_tensor *of = &c->t[E_TOKEN + i];
        if (!has(c, E_TOKEN + i) || up_case_chance(c, 5)) continue;
        up_case_change(c, E_DTOKEN + i, names[i], of->rows, of->cols);
        grad_of(c, E_TOKEN + i, E_DTOKEN + i);
    }
}

static up_status embed_launch(const up_case *c, up_backend *b, const up_view *v, up_view scratch) {
    (void)c;
    up_embed_args a = {.ids = v[E_IDS],
                       .positions = v[E_POSITIONS],
                       .token = v[E_TOKEN],
                       .spe = v[E_SPE],
                       .position = v[E_POSITION],
                       .type = v[E_TYPE],
                       .y = v[E_Y]};
    up_embed_grad g = {.ids = v[E_IDS],
                       .positions = v[E_POSITIONS],
                       .dy = v[E_DY],
                       .dtoken = v[E_DTOKEN],
                       .dspe = v[E_DSPE],
                       .dposition = v[E_DPOSITION],
                       .dtype = v[E_DTYPE],
                       .scratch = scratch};
    UP_TRY(b->ops->embed(b, &a));
    return b->ops->embed_bwd(b, &g);
}

static void embed_oracle(up_case *c, int backward) {
    zero(c, E_Y);
    for (int64_t n = 0; n < c->t[E_Y].rows; n++) {
        int64_t id = index_at(c, E_IDS, n), position = index_at(c, E_POSITIONS, n);
        int spe = id == UP_ID_SPE, table = spe ? E_SPE : E_TOKEN, gradient = spe ? E_DSPE : E_DTOKEN;
        int64_t row = spe ? 0 : id;
        if (id == UP_ID_NONE) continue; /* 0, and no gradient */
        for (int64_t d = 0; d < c->t[E_Y].cols; d++) {
            up_num y = *at(c, table, row, d);
            if (position >= 0) add_to(&y, *at(c, E_POSITION, position, d));
            if (position >= 0 && has(c, E_TYPE)) add_to(&y, *at(c, E_TYPE, 0, d));
            *at(c, E_Y, n, d) = position >= 0 ? up_store_as(y, c->dtype) : converted(y, UP_F32, c->dtype);
        }
        if (backward && has(c, gradient)) add_row(c, gradient, row, E_DY, n);
        if (backward && has(c, E_DPOSITION) && position >= 0) add_row(c, E_DPOSITION, position, E_DY, n);
        if (backward && has(c, E_DTYPE) && position >= 0) add_row(c, E_DTYPE, 0, E_DY, n);
    }
    for (int t = E_DTOKEN; backward && t <= E_DTYPE; t++)
        if (has(c, t)) store_all(c, t);
}

/* ---- patch_embed ---- */
enum {
    P_PATCHES,
    P_LEVELS,
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

/* Bytes with levels, or values: floats, or of the activations' type. */
static const char *draw_patches(up_case *c, int64_t N, int64_t C) {
    if (!up_case_chance(c, 2)) {
        up_case_in(c, P_PATCHES, "patches", N, C);
        if (up_case_chance(c, 2)) return "f32";
        activations(c, P_PATCHES, P_PATCHES);
        return "act";
    }
    up_case_bytes(c, P_PATCHES, "patches", N, C);
    up_case_in(c, P_LEVELS, "levels", 3, 256);
    return "bytes";
}

/* The unused rows: no cell, no frame, a gradient of 0. */
static void leave_out_patches(up_case *c) {
    int64_t D = c->t[P_DY].cols;
    for (int64_t n = 0; n < c->t[P_Y].rows; n++) {
        if (!up_case_chance(c, 6)) continue;
        ((int32_t *)c->t[P_CELLS].data)[n] = -1;
        if (has(c, P_FRAMES)) ((int32_t *)c->t[P_FRAMES].data)[n] = -1;
        for (int64_t d = 0; d < D; d++) up_case_floats(c, P_DY)[n * D + d] = 0;
    }
}

static void patch_embed_make(up_case *c) {
    int64_t N = up_case_dim(c, 0), C = 3 * up_case_dim(c, 1), D = up_case_dim(c, 1),
            cells = up_case_dim(c, 1);
    int64_t frames = up_case_chance(c, 2) ? up_case_dim(c, 1) : 0;
    int typed = up_case_chance(c, 2);
    c->exact = !c->smooth && up_case_chance(c, 4);
    const char *patches = draw_patches(c, N, C);
    snprintf(c->shape, sizeof c->shape, "N=%ld C=%ld D=%ld cells=%ld frames=%ld type=%d patches=%s", (long)N,
             (long)C, (long)D, (long)cells, (long)frames, typed, patches);
    c->dims = (up_op_dims){.rows = N, .in = C, .out = D};
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
    activations(c, P_Y, P_DY);
    leave_out_patches(c);
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
    up_patch_embed_args a = {.patches = v[P_PATCHES],
                             .levels = v[P_LEVELS],
                             .cells = v[P_CELLS],
                             .frames = v[P_FRAMES],
                             .weight = v[P_WEIGHT],
                             .bias = v[P_BIAS],
                             .space = v[P_SPACE],
                             .time = v[P_TIME],
                             .type = v[P_TYPE],
                             .y = v[P_Y],
                             .scratch = scratch};
    up_patch_embed_grad g = {.patches = v[P_PATCHES],
                             .levels = v[P_LEVELS],
                             .cells = v[P_CELLS],
                             .frames = v[P_FRAMES],
                             .dy = v[P_DY],
                             .dweight = v[P_DWEIGHT],
                             .dbias = v[P_DBIAS],
                             .dspace = v[P_DSPACE],
                             .dtime = v[P_DTIME],
                             .dtype = v[P_DTYPE],
                             .scratch = scratch};
    UP_TRY(b->ops->patch_embed(b, &a));
    return b->ops->patch_embed_bwd(b, &g);
}

static up_num pixel_at(up_case *c, int64_t n, int64_t i) {
    if (!has(c, P_LEVELS)) return *at(c, P_PATCHES, n, i);
    int64_t C = c->t[P_PATCHES].cols;
    uint8_t byte = ((const uint8_t *)c->t[P_PATCHES].data)[n * C + i];
    return up_num_exact(up_case_round(c->dtype, at(c, P_LEVELS, i / (C / 3), byte)->v));
}

static void patch_forward(up_case *c, int64_t n, int64_t cell, int64_t frame) {
    for (int64_t d = 0; d < c->t[P_Y].cols; d++) {
        up_num places = *at(c, P_SPACE, cell, d), y = *at(c, P_BIAS, 0, d);
        if (has(c, P_TIME)) add_to(&places, *at(c, P_TIME, frame, d));
        if (has(c, P_TYPE)) add_to(&places, *at(c, P_TYPE, 0, d));
        for (int64_t i = 0; i < c->t[P_PATCHES].cols; i++)
            add_to(&y, up_mul(pixel_at(c, n, i), weight_at(c, P_WEIGHT, d, i)));
        set(c, P_Y, n, d, up_add(y, up_store(places)));
    }
}

static void patch_embed_oracle(up_case *c, int backward) {
    zero(c, P_Y);
    for (int64_t n = 0; n < c->t[P_Y].rows; n++) {
        int64_t cell = index_at(c, P_CELLS, n), frame = has(c, P_TIME) ? index_at(c, P_FRAMES, n) : 0;
        if (cell < 0) continue;
        patch_forward(c, n, cell, frame);
        for (int64_t d = 0; backward && has(c, P_DWEIGHT) && d < c->t[P_Y].cols; d++)
            for (int64_t i = 0; i < c->t[P_PATCHES].cols; i++)
                add_to(at(c, P_DWEIGHT, d, i), up_mul(pixel_at(c, n, i), *at(c, P_DY, n, d)));
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
    c->options[1] = up_case_chance(c, 2); /* with a prepared weight, where the backend has such */
    activations(c, L_X, L_X);
    activations(c, L_PRE, L_Y);
    if (inference) return;
    up_case_change(c, L_DY, "dy", N, O);
    upstream_of(c, L_Y, L_DY);
    if (!up_case_chance(c, 5)) {
        up_case_out(c, L_DX, "dx", N, I);
        grad_of(c, L_X, L_DX);
    }
    activations(c, L_DY, L_DX);
    if (!up_case_chance(c, 5)) {
        up_case_change(c, L_DWEIGHT, "dweight", O, I);
        grad_of(c, L_WEIGHT, L_DWEIGHT);
    }
    if (has(c, L_BIAS)) {
        up_case_change(c, L_DBIAS, "dbias", 1, O);
        grad_of(c, L_BIAS, L_DBIAS);
    }
}

static up_status linear_both(const up_case *c, up_backend *b, const up_view *v, up_view prepared,
                             up_view scratch) {
    up_activation activation = (up_activation)c->options[0];
    up_linear_args a = {.x = v[L_X],
                        .weight = v[L_WEIGHT],
                        .bias = v[L_BIAS],
                        .prepared = prepared,
                        .activation = activation,
                        .pre = v[L_PRE],
                        .y = v[L_Y],
                        .scratch = scratch};
    up_linear_grad g = {.x = v[L_X],
                        .weight = v[L_WEIGHT],
                        .prepared = prepared,
                        .activation = activation,
                        .pre = v[L_PRE],
                        .dy = v[L_DY],
                        .dx = v[L_DX],
                        .dweight = v[L_DWEIGHT],
                        .dbias = v[L_DBIAS],
                        .scratch = scratch};
    UP_TRY(b->ops->linear(b, &a));
    return up_view_present(v[L_DY]) ? b->ops->linear_bwd(b, &g) : UP_OK;
}

static up_status linear_launch(const up_case *c, up_backend *b, const up_view *v, up_view scratch) {
    int backward = up_view_present(v[L_DY]);
    size_t size = c->options[1] && b->ops->prepare ? b->ops->prepared_size(b, &c->dims, backward) : 0;
    if (size == 0) return linear_both(c, b, v, (up_view){0}, scratch);
    up_buffer *buffer = NULL;
    UP_TRY(b->ops->alloc(b, size, &buffer));
    up_view prepared = up_view_at(buffer, UP_U8, 0, 1, (int64_t)size);
    up_status status = b->ops->prepare(b, &(up_prepare_args){v[L_WEIGHT], c->dtype, backward, prepared});
    if (status == UP_OK) status = linear_both(c, b, v, prepared, scratch);
    if (status == UP_OK) status = b->ops->sync(b);
    b->ops->release(b, buffer);
    return status;
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
            for (int64_t i = 0; i < I; i++)
                add_to(&v, up_mul(*at(c, L_X, n, i), weight_at(c, L_WEIGHT, o, i)));
            if (has(c, L_PRE)) set(c, L_PRE, n, o, v);
            set(c, L_Y, n, o, gelu ? up_mul(v, normal_cdf(v)) : v);
            if (!train) continue;
            up_num *dy = at(c, L_DY, n, o);
            if (gelu) set(c, L_DY, n, o, up_mul(*dy, gelu_slope(*at(c, L_PRE, n, o))));
            for (int64_t i = 0; i < I; i++) {
                if (has(c, L_DX)) add_to(at(c, L_DX, n, i), up_mul(*dy, weight_at(c, L_WEIGHT, o, i)));
                if (has(c, L_DWEIGHT)) add_to(at(c, L_DWEIGHT, o, i), up_mul(*dy, *at(c, L_X, n, i)));
            }
            if (has(c, L_DBIAS)) add_to(at(c, L_DBIAS, 0, o), *dy);
        }
    for (int t = L_DX; train && t <= L_DBIAS; t++)
        if (has(c, t)) store_all(c, t);
}

/* ---- gelu ---- */
enum { V_X, V_Y };

static void gelu_make(up_case *c) {
    int64_t N = up_case_dim(c, 0), D = up_case_dim(c, 1);
    int in_place = up_case_chance(c, 3);
    snprintf(c->shape, sizeof c->shape, "N=%ld D=%ld in place=%d", (long)N, (long)D, in_place);
    c->dims = (up_op_dims){.rows = N, .in = D, .out = D};
    up_case_in(c, V_X, "x", N, D);
    if (up_case_chance(c, 2)) /* far into both tails */
        for (int64_t i = 0; i < N * D; i++) up_case_floats(c, V_X)[i] *= 4;
    up_case_out(c, V_Y, "y", N, D);
    if (in_place) lay(c, V_Y, V_X, 0);
    activations(c, V_X, V_Y);
}

static up_status gelu_launch(const up_case *c, up_backend *b, const up_view *v, up_view scratch) {
    (void)c;
    (void)scratch;
    return b->ops->gelu(b, &(up_gelu_args){v[V_X], v[V_Y]});
}

static void gelu_oracle(up_case *c, int backward) {
    (void)backward;
    for (int64_t n = 0; n < c->t[V_X].rows; n++)
        for (int64_t d = 0; d < c->t[V_X].cols; d++) {
            up_num v = *at(c, V_X, n, d);
            set(c, V_Y, n, d, up_mul(v, normal_cdf(v)));
        }
}

/* ---- layernorm ---- */
enum { N_X, N_WEIGHT, N_BIAS, N_Y, N_STATS, N_DY, N_PAST, N_DX, N_DWEIGHT, N_DBIAS };

static void layernorm_make(up_case *c) {
    int64_t N = up_case_dim(c, 0), D = up_case_dim(c, 1);
    int past = !c->smooth && up_case_chance(c, 2), alias = (int)up_rng_below(&c->rng, 3);
    up_dtype outside = up_case_chance(c, 4) ? UP_F32 : c->dtype; /* of x: prompts are parameters */
    c->numbers[0] = 1e-5f;
    c->dims = (up_op_dims){.rows = N, .in = D, .out = D};
    up_case_in(c, N_X, "x", N, D);
    up_case_in(c, N_WEIGHT, "weight", 1, D);
    up_case_in(c, N_BIAS, "bias", 1, D);
    if (up_case_chance(c, 3)) /* a mean far from 0 */
        for (int64_t i = 0; i < N * D; i++) up_case_floats(c, N_X)[i] += 20;
    up_case_out(c, N_Y, "y", N, D);
    up_case_out(c, N_STATS, "stats", N, 2);
    up_case_in(c, N_DY, "dy", N, D);
    upstream_of(c, N_Y, N_DY);
    if (past) up_case_in(c, N_PAST, "residual", N, D);
    if (!up_case_chance(c, 6)) {
        up_case_out(c, N_DX, "dx", N, D);
        grad_of(c, N_X, N_DX);
        if (alias == 1 && outside == c->dtype) lay(c, N_DX, N_DY, 0);
        if (alias == 2 && past) lay(c, N_DX, N_PAST, 0);
    }
    if (!up_case_chance(c, 5)) {
        up_case_change(c, N_DWEIGHT, "dweight", 1, D);
        grad_of(c, N_WEIGHT, N_DWEIGHT);
    }
    if (!up_case_chance(c, 5)) {
        up_case_change(c, N_DBIAS, "dbias", 1, D);
        grad_of(c, N_BIAS, N_DBIAS);
    }
    up_case_retype(c, N_X, outside);
    up_case_retype(c, N_PAST, outside);
    up_case_retype(c, N_DX, outside);
    up_case_retype(c, N_Y, c->dtype);
    up_case_retype(c, N_DY, c->dtype);
    snprintf(c->shape, sizeof c->shape, "N=%ld D=%ld residual=%d dx=%d on=%d x is f32=%d", (long)N, (long)D,
             past, has(c, N_DX), alias, outside == UP_F32);
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
            if (has(c, N_DX)) set(c, N_DX, n, d, dx);
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
            set(c, N_Y, n, d,
                up_add(up_mul(up_mul(up_sub(*at(c, N_X, n, d), mean), rstd), *at(c, N_WEIGHT, 0, d)),
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
    int64_t S = up_case_size(c, up_rng_below(&c->rng, 5));
    int64_t H = up_case_size(c, 1 + up_rng_below(&c->rng, 4)), d = up_case_dim(c, 1), D = H * d;
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
    activations(c, A_Q, A_OUT);
    activations(c, A_DOUT, A_DPV);
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
        set(c, A_OUT, row, e, up_mul(*at(c, A_OUT, row, e), up_inverse(sum)));
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
enum { R_X, R_BRANCH, R_SCALE, R_DROP, R_OWNER, R_Y, R_DY, R_DBRANCH, R_DSCALE };

/* Factors of some sequences, and rows that belong to them or to none. */
static void draw_drop(up_case *c, int64_t N) {
    int64_t S = up_case_dim(c, 1);
    up_case_in(c, R_DROP, "drop", S, 1);
    for (int64_t s = 0; s < S; s++) up_case_floats(c, R_DROP)[s] = up_case_chance(c, 3) ? 0 : 1 / 0.9f;
    int32_t *owner = up_case_index(c, R_OWNER, "owner", N, 1, S);
    for (int64_t n = 0; n < N; n++)
        if (up_case_chance(c, 6)) owner[n] = -1;
}

static void residual_make(up_case *c) {
    int64_t N = up_case_dim(c, 0), D = up_case_dim(c, 1);
    int in_place = !c->smooth && up_case_chance(c, 2), over = (int)up_rng_below(&c->rng, 3);
    c->dims = (up_op_dims){.rows = N, .in = D, .out = D};
    up_case_in(c, R_X, "x", N, D);
    up_case_in(c, R_BRANCH, "branch", N, D);
    if (up_case_chance(c, 2)) up_case_in(c, R_SCALE, "scale", 1, D);
    if (up_case_chance(c, 2)) draw_drop(c, N);
    up_case_out(c, R_Y, "y", N, D);
    up_case_in(c, R_DY, "dy", N, D);
    upstream_of(c, R_Y, R_DY);
    up_case_out(c, R_DBRANCH, "dbranch", N, D);
    grad_of(c, R_BRANCH, R_DBRANCH);
    if (in_place) lay(c, R_Y, R_X, 0);
    if (over == 1) lay(c, R_DBRANCH, R_BRANCH, 0);
    if (over == 2) lay(c, R_DBRANCH, R_DY, 0);
    if (has(c, R_SCALE) && !up_case_chance(c, 4)) {
        up_case_change(c, R_DSCALE, "dscale", 1, D);
        grad_of(c, R_SCALE, R_DSCALE);
    }
    activations(c, R_X, R_BRANCH);
    activations(c, R_Y, R_DBRANCH);
    snprintf(c->shape, sizeof c->shape, "N=%ld D=%ld scale=%d drop=%d in place=%d,%d dscale=%d", (long)N,
             (long)D, has(c, R_SCALE), has(c, R_DROP), in_place, over, has(c, R_DSCALE));
}

static up_status residual_launch(const up_case *c, up_backend *b, const up_view *v, up_view scratch) {
    up_view branch = has(c, R_DSCALE) ? v[R_BRANCH] : (up_view){0};
    UP_TRY(b->ops->residual(
        b, &(up_residual_args){v[R_X], v[R_BRANCH], v[R_SCALE], v[R_DROP], v[R_OWNER], v[R_Y]}));
    return b->ops->residual_bwd(b, &(up_residual_grad){branch, v[R_SCALE], v[R_DROP], v[R_OWNER], v[R_DY],
                                                       v[R_DBRANCH], v[R_DSCALE], scratch});
}

static void residual_oracle(up_case *c, int backward) {
    for (int64_t n = 0; n < c->t[R_X].rows; n++) {
        int64_t owner = has(c, R_DROP) ? index_at(c, R_OWNER, n) : 0;
        up_num drop = up_num_exact(owner >= 0);
        if (has(c, R_DROP) && owner >= 0) drop = *at(c, R_DROP, owner, 0);
        for (int64_t d = 0; d < c->t[R_X].cols; d++) {
            up_num scale = has(c, R_SCALE) ? *at(c, R_SCALE, 0, d) : up_num_exact(1),
                   branch = *at(c, R_BRANCH, n, d), dy = *at(c, R_DY, n, d);
            set(c, R_Y, n, d, up_add(*at(c, R_X, n, d), up_mul(up_mul(drop, scale), branch)));
            if (!backward) continue;
            set(c, R_DBRANCH, n, d, up_mul(up_mul(drop, scale), dy));
            if (has(c, R_DSCALE)) add_to(at(c, R_DSCALE, 0, d), up_mul(up_mul(drop, branch), dy));
        }
    }
    if (backward && has(c, R_DSCALE)) store_all(c, R_DSCALE);
}

/* ---- add_layernorm: the tensors of a residual connection, then those of the norm of its y ---- */
enum {
    B_Y = R_Y,
    B_DX = R_DY, /* the norm's dx, which the connection takes */
    B_WEIGHT = R_DSCALE + 1,
    B_BIAS,
    B_NORMED,
    B_STATS,
    B_DNORMED,
    B_PAST,
    B_DWEIGHT,
    B_DBIAS
};

static void add_layernorm_make(up_case *c) {
    int64_t N = up_case_dim(c, 0), D = up_case_dim(c, 1);
    int in_place = !c->smooth && up_case_chance(c, 2), over = (int)up_rng_below(&c->rng, 3);
    c->numbers[0] = 1e-5f;
    c->dims = (up_op_dims){.rows = N, .in = D, .out = D};
    up_case_in(c, R_X, "x", N, D);
    up_case_in(c, R_BRANCH, "branch", N, D);
    if (up_case_chance(c, 2)) up_case_in(c, R_SCALE, "scale", 1, D);
    if (up_case_chance(c, 2)) draw_drop(c, N);
    up_case_out(c, B_Y, "y", N, D);
    up_case_in(c, B_WEIGHT, "weight", 1, D);
    up_case_in(c, B_BIAS, "bias", 1, D);
    up_case_out(c, B_NORMED, "normed", N, D);
    up_case_out(c, B_STATS, "stats", N, 2);
    up_case_in(c, B_DNORMED, "dnormed", N, D);
    up_case_in(c, B_PAST, "residual", N, D);
    up_case_out(c, B_DX, "dx", N, D);
    up_case_out(c, R_DBRANCH, "dbranch", N, D);
    if (in_place) lay(c, B_Y, R_X, 0);
    if (over == 1) lay(c, R_DBRANCH, B_DNORMED, 0);
    if (over == 2) lay(c, B_DX, B_PAST, 0);
    if (has(c, R_SCALE) && !up_case_chance(c, 4)) up_case_change(c, R_DSCALE, "dscale", 1, D);
    if (!up_case_chance(c, 5)) up_case_change(c, B_DWEIGHT, "dweight", 1, D);
    if (!up_case_chance(c, 5)) up_case_change(c, B_DBIAS, "dbias", 1, D);
    activations(c, R_X, R_BRANCH);
    activations(c, B_Y, R_DBRANCH);
    up_case_retype(c, B_NORMED, c->dtype);
    activations(c, B_DNORMED, B_PAST);
    snprintf(c->shape, sizeof c->shape, "N=%ld D=%ld scale=%d drop=%d in place=%d,%d dscale=%d", (long)N,
             (long)D, has(c, R_SCALE), has(c, R_DROP), in_place, over, has(c, R_DSCALE));
}

static up_status add_layernorm_launch(const up_case *c, up_backend *b, const up_view *v, up_view scratch) {
    up_view branch = has(c, R_DSCALE) ? v[R_BRANCH] : (up_view){0};
    up_add_layernorm_args a = {
        {v[R_X], v[R_BRANCH], v[R_SCALE], v[R_DROP], v[R_OWNER], v[B_Y]},
        {v[B_Y], v[B_WEIGHT], v[B_BIAS], (float)c->numbers[0], v[B_NORMED], v[B_STATS]}};
    up_add_layernorm_grad g = {
        {v[B_Y], v[B_WEIGHT], v[B_STATS], v[B_DNORMED], v[B_PAST], v[B_DX], v[B_DWEIGHT], v[B_DBIAS],
         scratch},
        {branch, v[R_SCALE], v[R_DROP], v[R_OWNER], v[B_DX], v[R_DBRANCH], v[R_DSCALE], scratch}};
    if (b->ops->add_layernorm) {
        UP_TRY(b->ops->add_layernorm(b, &a));
        return b->ops->add_layernorm_bwd(b, &g);
    }
    UP_TRY(b->ops->residual(b, &a.add));
    UP_TRY(b->ops->layernorm(b, &a.norm));
    UP_TRY(b->ops->layernorm_bwd(b, &g.norm));
    return b->ops->residual_bwd(b, &g.add);
}

static up_num drop_of(up_case *c, int64_t n) {
    int64_t owner = has(c, R_DROP) ? index_at(c, R_OWNER, n) : 0;
    return owner < 0 ? up_num_exact(0) : has(c, R_DROP) ? *at(c, R_DROP, owner, 0) : up_num_exact(1);
}

/* mean and rstd of row n of y, as they are stored */
static void norm_row(up_case *c, int64_t n) {
    int64_t D = c->t[B_Y].cols;
    up_num per = constant(1.0 / (double)D), mean = up_num_exact(0), variance = up_num_exact(c->numbers[0]);
    for (int64_t d = 0; d < D; d++) add_to(&mean, *at(c, B_Y, n, d));
    mean = up_mul(mean, per);
    for (int64_t d = 0; d < D; d++) {
        up_num x = up_sub(*at(c, B_Y, n, d), mean);
        add_to(&variance, up_mul(up_mul(x, x), per));
    }
    up_num rstd = up_inverse(up_sqrt(variance));
    for (int64_t d = 0; d < D; d++)
        set(c, B_NORMED, n, d,
            up_add(up_mul(up_mul(up_sub(*at(c, B_Y, n, d), mean), rstd), *at(c, B_WEIGHT, 0, d)),
                   *at(c, B_BIAS, 0, d)));
    *at(c, B_STATS, n, 0) = up_store(mean);
    *at(c, B_STATS, n, 1) = up_store(rstd);
}

static up_num xhat_at(up_case *c, int64_t n, int64_t d) {
    return up_mul(up_sub(*at(c, B_Y, n, d), *at(c, B_STATS, n, 0)), *at(c, B_STATS, n, 1));
}

static void norm_row_backward(up_case *c, int64_t n) {
    int64_t D = c->t[B_Y].cols;
    up_num per = constant(1.0 / (double)D), mean = up_num_exact(0), along = up_num_exact(0);
    for (int64_t d = 0; d < D; d++) {
        up_num dy = *at(c, B_DNORMED, n, d), g = up_mul(dy, *at(c, B_WEIGHT, 0, d));
        add_to(&mean, g);
        add_to(&along, up_mul(g, xhat_at(c, n, d)));
        if (has(c, B_DWEIGHT)) add_to(at(c, B_DWEIGHT, 0, d), up_mul(dy, xhat_at(c, n, d)));
        if (has(c, B_DBIAS)) add_to(at(c, B_DBIAS, 0, d), dy);
    }
    mean = up_mul(mean, per);
    along = up_mul(along, per);
    for (int64_t d = 0; d < D; d++) {
        up_num g = up_mul(*at(c, B_DNORMED, n, d), *at(c, B_WEIGHT, 0, d));
        up_num dx = up_mul(*at(c, B_STATS, n, 1), up_sub(up_sub(g, mean), up_mul(xhat_at(c, n, d), along)));
        set(c, B_DX, n, d, up_add(dx, *at(c, B_PAST, n, d)));
    }
}

/* With dnormed and dbranch in one place the gradient is taken of the numbers that were there before. */
static void add_layernorm_oracle(up_case *c, int backward) {
    for (int64_t n = 0; n < c->t[R_X].rows; n++) {
        up_num drop = drop_of(c, n), one = up_num_exact(1);
        for (int64_t d = 0; d < c->t[R_X].cols; d++) {
            up_num scale = has(c, R_SCALE) ? *at(c, R_SCALE, 0, d) : one;
            set(c, B_Y, n, d, up_add(*at(c, R_X, n, d), up_mul(up_mul(drop, scale), *at(c, R_BRANCH, n, d))));
        }
        norm_row(c, n);
        if (!backward) continue;
        norm_row_backward(c, n);
        for (int64_t d = 0; d < c->t[R_X].cols; d++) {
            up_num scale = has(c, R_SCALE) ? *at(c, R_SCALE, 0, d) : one, dy = *at(c, B_DX, n, d);
            set(c, R_DBRANCH, n, d, up_mul(up_mul(drop, scale), dy));
            if (has(c, R_DSCALE))
                add_to(at(c, R_DSCALE, 0, d), up_mul(up_mul(drop, *at(c, R_BRANCH, n, d)), dy));
        }
    }
    static const int sums[] = {R_DSCALE, B_DWEIGHT, B_DBIAS};
    for (int i = 0; backward && i < 3; i++)
        if (has(c, sums[i])) store_all(c, sums[i]);
}

/* ---- gather, scatter ---- */
enum { G_X, G_ROWS, G_Y, G_DY, G_DX };

static up_dtype draw_act_or_f32(up_case *c) {
    return up_case_chance(c, 3) ? UP_F32 : c->dtype;
}

static void gather_make(up_case *c) {
    int64_t N = up_case_dim(c, 1), R = up_case_dim(c, 0), D = up_case_dim(c, 1);
    up_dtype from = draw_act_or_f32(c), to = draw_act_or_f32(c);
    c->exact = !c->smooth && up_case_chance(c, 3);
    snprintf(c->shape, sizeof c->shape, "N=%ld R=%ld D=%ld f32=%d,%d", (long)N, (long)R, (long)D,
             from == UP_F32, to == UP_F32);
    c->dims = (up_op_dims){.rows = R, .in = D, .out = D};
    up_case_in(c, G_X, "x", N, D);
    int32_t *rows = up_case_index(c, G_ROWS, "rows", R, 1, N);
    for (int64_t i = 0; i < R; i++)
        if (up_case_chance(c, 6)) rows[i] = -1;
    up_case_out(c, G_Y, "y", R, D);
    up_case_in(c, G_DY, "dy", R, D);
    up_case_out(c, G_DX, "dx", N, D);
    grad_of(c, G_X, G_DX);
    upstream_of(c, G_Y, G_DY);
    up_case_retype(c, G_X, from);
    up_case_retype(c, G_DX, from);
    up_case_retype(c, G_Y, to);
    up_case_retype(c, G_DY, to);
}

static up_status gather_launch(const up_case *c, up_backend *b, const up_view *v, up_view scratch) {
    (void)c;
    (void)scratch;
    UP_TRY(b->ops->gather(b, &(up_gather_args){v[G_X], v[G_ROWS], v[G_Y]}));
    return b->ops->gather_bwd(b, &(up_gather_grad){v[G_DY], v[G_ROWS], v[G_DX]});
}

/* dx of one row: the sum of what was read from it; one reader is a copy. */
static void gather_row_backward(up_case *c, int64_t row) {
    up_dtype from = c->t[G_DY].dtype, to = c->t[G_DX].dtype;
    for (int64_t d = 0; d < c->t[G_DX].cols; d++) {
        up_num sum = up_num_exact(0), last = sum;
        int64_t readers = 0;
        for (int64_t i = 0; i < c->t[G_DY].rows; i++) {
            if (index_at(c, G_ROWS, i) != row) continue;
            last = *at(c, G_DY, i, d);
            add_to(&sum, last);
            readers++;
        }
        *at(c, G_DX, row, d) = readers > 1 ? up_store_as(sum, to) : converted(last, from, to);
    }
}

static void gather_oracle(up_case *c, int backward) {
    up_dtype from = c->t[G_X].dtype, to = c->t[G_Y].dtype;
    for (int64_t i = 0; i < c->t[G_Y].rows; i++)
        for (int64_t d = 0; d < c->t[G_Y].cols; d++) {
            int64_t row = index_at(c, G_ROWS, i);
            *at(c, G_Y, i, d) = row < 0 ? up_num_exact(0) : converted(*at(c, G_X, row, d), from, to);
        }
    for (int64_t row = 0; backward && row < c->t[G_X].rows; row++) gather_row_backward(c, row);
}

enum { S_X, S_ROWS, S_Y };

static void scatter_make(up_case *c) {
    int64_t N = up_case_dim(c, 1), R = up_rng_below(&c->rng, (uint32_t)N + 1), D = up_case_dim(c, 1);
    up_dtype from = draw_act_or_f32(c), to = draw_act_or_f32(c);
    snprintf(c->shape, sizeof c->shape, "R=%ld N=%ld D=%ld f32=%d,%d", (long)R, (long)N, (long)D,
             from == UP_F32, to == UP_F32);
    c->dims = (up_op_dims){.rows = R, .in = D, .out = D};
    int32_t *rows = up_case_index(c, S_ROWS, "rows", R, 1, 0);
    for (int64_t i = 0; i < R; i++)
        rows[i] = up_case_chance(c, 6) ? -1 : (int32_t)up_permute(c->seed, (uint64_t)N, (uint64_t)i);
    up_case_in(c, S_X, "x", R, D);
    up_case_change(c, S_Y, "y", N, D);
    up_case_retype(c, S_X, from);
    up_case_retype(c, S_Y, to);
}

static up_status scatter_launch(const up_case *c, up_backend *b, const up_view *v, up_view scratch) {
    (void)c;
    (void)scratch;
    return b->ops->scatter(b, &(up_scatter_args){v[S_X], v[S_ROWS], v[S_Y]});
}

static void scatter_oracle(up_case *c, int backward) {
    (void)backward;
    for (int64_t i = 0; i < c->t[S_X].rows; i++)
        for (int64_t d = 0; d < c->t[S_X].cols && index_at(c, S_ROWS, i) >= 0; d++)
            *at(c, S_Y, index_at(c, S_ROWS, i), d) =
                converted(*at(c, S_X, i, d), c->t[S_X].dtype, c->t[S_Y].dtype);
}

/* ---- l2norm ---- */
enum { U_X, U_Y, U_RNORM, U_DY, U_PAST, U_DX };

static void l2norm_make(up_case *c) {
    int64_t R = up_case_dim(c, 0), D = up_case_dim(c, 1);
    int over = (int)up_rng_below(&c->rng, 3), past = !c->smooth && up_case_chance(c, 2);
    snprintf(c->shape, sizeof c->shape, "R=%ld D=%ld past=%d dx on=%d", (long)R, (long)D, past, over);
    c->dims = (up_op_dims){.rows = R, .in = D, .out = D};
    up_case_in(c, U_X, "x", R, D);
    for (int64_t n = 0; n < R && !c->smooth; n++) { /* rows that are nothing, or next to it */
        float factor = up_case_chance(c, 8) ? 0 : up_case_chance(c, 8) ? 1e-20f : 1;
        for (int64_t d = 0; d < D; d++) up_case_floats(c, U_X)[n * D + d] *= factor;
    }
    up_case_out(c, U_Y, "y", R, D);
    up_case_out(c, U_RNORM, "rnorm", R, 1);
    up_case_in(c, U_DY, "dy", R, D);
    if (past) up_case_in(c, U_PAST, "past", R, D);
    up_case_out(c, U_DX, "dx", R, D);
    if (over == 1) lay(c, U_DX, U_DY, 0);
    if (over == 2 && past) lay(c, U_DX, U_PAST, 0);
    grad_of(c, U_X, U_DX);
    upstream_of(c, U_Y, U_DY);
}

static up_status l2norm_launch(const up_case *c, up_backend *b, const up_view *v, up_view scratch) {
    (void)c;
    (void)scratch;
    UP_TRY(b->ops->l2norm(b, &(up_l2norm_args){v[U_X], v[U_Y], v[U_RNORM]}));
    return b->ops->l2norm_bwd(b, &(up_l2norm_grad){v[U_Y], v[U_RNORM], v[U_DY], v[U_PAST], v[U_DX]});
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
        for (int64_t d = 0; backward && d < D; d++) {
            up_num dx =
                up_mul(up_sub(*at(c, U_DY, n, d), up_mul(along, *at(c, U_Y, n, d))), *at(c, U_RNORM, n, 0));
            if (has(c, U_PAST)) add_to(&dx, *at(c, U_PAST, n, d));
            *at(c, U_DX, n, d) = up_store(dx);
        }
    }
}

/* ---- logits: in one tile of targets or two ---- */
enum { Z_A, Z_B, Z_LOG_SCALE, Z_ALPHA, Z_BIAS, Z_Z, Z_DZ, Z_DA, Z_DB, Z_DLOG_SCALE, Z_DALPHA, Z_SUM };
enum { Z_CUT, Z_ADD, Z_ADD_A, Z_ADD_B, Z_ADD_SUM, Z_OVER /* sum lies on da */ };

/* An output that is set, or added to. Returns whether it is added to. */
static int set_or_add(up_case *c, int t, const char *name, int64_t rows, int64_t cols) {
    int add = up_case_chance(c, 2);
    if (add)
        up_case_change(c, t, name, rows, cols);
    else
        up_case_out(c, t, name, rows, cols);
    return add;
}

static void logits_gradients(up_case *c, int64_t Q, int64_t V, int64_t D) {
    if (!up_case_chance(c, 6)) {
        c->options[Z_ADD_B] = set_or_add(c, Z_DB, "db", V, D);
        grad_of(c, Z_B, Z_DB);
    }
    if (up_case_chance(c, 6)) return;
    if (c->smooth) /* what da holds before would count as a gradient */
        up_case_out(c, Z_DA, "da", Q, D);
    else
        c->options[Z_ADD_A] = set_or_add(c, Z_DA, "da", Q, D);
    if (!up_case_chance(c, 6)) {
        up_case_change(c, Z_DLOG_SCALE, "dlog_scale", 1, 1);
        grad_of(c, Z_LOG_SCALE, Z_DLOG_SCALE);
    }
    if (has(c, Z_ALPHA) && !up_case_chance(c, 6)) {
        up_case_change(c, Z_DALPHA, "dalpha", 1, 1);
        grad_of(c, Z_ALPHA, Z_DALPHA);
    }
    c->options[Z_ADD_SUM] = set_or_add(c, Z_SUM, "sum", Q, D);
    grad_of(c, Z_A, Z_SUM);
    c->options[Z_OVER] = !c->options[Z_ADD_SUM] && up_case_chance(c, 2);
    if (c->options[Z_OVER]) lay(c, Z_SUM, Z_DA, 0);
}

static void logits_make(up_case *c) {
    int64_t Q = up_case_dim(c, 0), V = up_case_dim(c, 0), D = up_case_dim(c, 1);
    static const float scales[] = {0, 2.65926f, 4.5f, 4.7f}; /* 1, the start 1 / 0.07, under 100, over 100 */
    float log_scale = scales[up_rng_below(&c->rng, 4)];
    c->options[Z_CUT] = V > 1 && up_case_chance(c, 2) ? 1 + up_rng_below(&c->rng, (uint32_t)V - 1) : V;
    c->dims = (up_op_dims){.rows = Q, .in = D, .out = V};
    up_case_in(c, Z_A, "a", Q, D);
    up_case_in(c, Z_B, "b", V, D);
    up_case_in(c, Z_LOG_SCALE, "log_scale", 1, 1);
    up_case_floats(c, Z_LOG_SCALE)[0] = log_scale;
    if (up_case_chance(c, 2)) up_case_in(c, Z_ALPHA, "alpha", 1, 1);
    if (up_case_chance(c, 3)) up_case_in(c, Z_BIAS, "bias", 1, V);
    c->options[Z_ADD] = set_or_add(c, Z_Z, "z", Q, V);
    up_case_in(c, Z_DZ, "dz", Q, V);
    upstream_of(c, Z_Z, Z_DZ);
    logits_gradients(c, Q, V, D);
    const int64_t *o = c->options;
    snprintf(c->shape, sizeof c->shape,
             "Q=%ld V=%ld D=%ld log_scale=%g cut=%ld alpha=%d bias=%d add z=%ld a=%ld b=%ld sum=%ld over=%ld",
             (long)Q, (long)V, (long)D, log_scale, (long)o[Z_CUT], has(c, Z_ALPHA), has(c, Z_BIAS),
             (long)o[Z_ADD], (long)o[Z_ADD_A], (long)o[Z_ADD_B], (long)o[Z_ADD_SUM], (long)o[Z_OVER]);
}

/* Columns first..end - 1 of what has a column for each target; the same rows of what has a row for each. */
static up_view columns_of(up_view v, int64_t first, int64_t end) {
    return up_view_present(v) ? up_view_cols(v, first, end - first) : v;
}
static up_view rows_of(up_view v, int64_t first, int64_t end) {
    return up_view_present(v) ? up_view_rows(v, first, end - first) : v;
}

static up_status logits_tile(const up_case *c, up_backend *b, const up_view *v, int64_t first, int64_t end,
                             up_view scratch) {
    up_logits_args a = {.a = v[Z_A],
                        .b = rows_of(v[Z_B], first, end),
                        .log_scale = v[Z_LOG_SCALE],
                        .alpha = v[Z_ALPHA],
                        .bias = columns_of(v[Z_BIAS], first, end),
                        .add = (int)c->options[Z_ADD],
                        .z = columns_of(v[Z_Z], first, end)};
    up_logits_grad g = {.a = v[Z_A],
                        .b = a.b,
                        .log_scale = v[Z_LOG_SCALE],
                        .alpha = v[Z_ALPHA],
                        .dz = columns_of(v[Z_DZ], first, end),
                        .da = v[Z_DA],
                        .db = rows_of(v[Z_DB], first, end),
                        .add_a = first > 0 || c->options[Z_ADD_A],
                        .add_b = (int)c->options[Z_ADD_B],
                        .scratch = scratch};
    UP_TRY(b->ops->logits(b, &a));
    return b->ops->logits_bwd(b, &g);
}

static up_status logits_launch(const up_case *c, up_backend *b, const up_view *v, up_view scratch) {
    int64_t cut = c->options[Z_CUT], V = c->t[Z_Z].cols;
    up_logits_scale_grad g = {.a = v[Z_A],
                              .da = v[Z_DA],
                              .log_scale = v[Z_LOG_SCALE],
                              .alpha = v[Z_ALPHA],
                              .dlog_scale = v[Z_DLOG_SCALE],
                              .dalpha = v[Z_DALPHA],
                              .sum = v[Z_SUM],
                              .add = (int)c->options[Z_ADD_SUM],
                              .scratch = scratch};
    UP_TRY(logits_tile(c, b, v, 0, cut, scratch));
    if (cut < V) UP_TRY(logits_tile(c, b, v, cut, V, scratch));
    return has(c, Z_DA) ? b->ops->logits_scale_bwd(b, &g) : UP_OK;
}

/* s = sum of da a:  dlog_scale += alpha scale s,  dalpha += scale s,  sum (+)= alpha scale da */
static void logits_scale_backward(up_case *c, up_num scale, up_num alpha, int clamped) {
    up_num s = up_num_exact(0), factor = up_mul(alpha, scale);
    for (int64_t i = 0; i < c->t[Z_A].rows * c->t[Z_A].cols; i++) {
        add_to(&s, up_mul(c->t[Z_DA].num[i], c->t[Z_A].num[i]));
        add_to(&c->t[Z_SUM].num[i], up_mul(factor, c->t[Z_DA].num[i]));
    }
    if (has(c, Z_DLOG_SCALE) && !clamped) add_to(at(c, Z_DLOG_SCALE, 0, 0), up_mul(factor, s));
    if (has(c, Z_DALPHA)) add_to(at(c, Z_DALPHA, 0, 0), up_mul(scale, s));
    store_all(c, Z_SUM);
    if (has(c, Z_DLOG_SCALE) && !clamped) store_all(c, Z_DLOG_SCALE);
    if (has(c, Z_DALPHA)) store_all(c, Z_DALPHA);
    for (int64_t i = 0; i < c->t[Z_A].rows * c->t[Z_A].cols && c->options[Z_OVER]; i++)
        c->t[Z_DA].num[i] = c->t[Z_SUM].num[i];
}

static void logits_oracle(up_case *c, int backward) {
    int da = backward && has(c, Z_DA), db = backward && has(c, Z_DB);
    up_num scale = up_exp(*at(c, Z_LOG_SCALE, 0, 0));
    up_num alpha = has(c, Z_ALPHA) ? *at(c, Z_ALPHA, 0, 0) : up_num_exact(1);
    int clamped = scale.v > 100;
    if (clamped) scale = up_num_exact(100);
    up_num factor = up_mul(alpha, scale);
    start(c, Z_Z);
    if (da) start(c, Z_DA);
    if (da) start(c, Z_SUM);
    if (db) start(c, Z_DB);
    for (int64_t v = 0; v < c->t[Z_Z].cols; v++) {
        if (da && v == c->options[Z_CUT]) store_all(c, Z_DA);
        for (int64_t q = 0; q < c->t[Z_Z].rows; q++) {
            up_num product = up_num_exact(0), dz = *at(c, Z_DZ, q, v);
            for (int64_t d = 0; d < c->t[Z_A].cols; d++) {
                up_num a = *at(c, Z_A, q, d), b = *at(c, Z_B, v, d);
                add_to(&product, up_mul(a, b));
                if (da) add_to(at(c, Z_DA, q, d), up_mul(dz, b));
                if (db) add_to(at(c, Z_DB, v, d), up_mul(up_mul(factor, dz), a));
            }
            add_to(at(c, Z_Z, q, v), up_mul(factor, product));
            if (has(c, Z_BIAS)) add_to(at(c, Z_Z, q, v), *at(c, Z_BIAS, 0, v));
        }
    }
    store_all(c, Z_Z);
    if (db) store_all(c, Z_DB);
    if (!da) return;
    store_all(c, Z_DA);
    logits_scale_backward(c, scale, alpha, clamped);
}

/* ---- xent: in tiles of the targets, against the whole ---- */
enum {
    X_Z,
    X_INDEX,
    X_SHARE,
    X_SOFT,
    X_GROUP_X,
    X_GROUP_Y,
    X_COLUMNS,
    X_SCALE,
    X_STATE,
    X_LOSS,
    X_LSE,
    X_CORRECT,
    X_DZ
};
enum { X_SMOOTHING, X_WEIGHT };
enum { X_TILES = 4 }; /* options[k] is where tile k ends */

/* Ends of up to four tiles, none of them empty. */
static void draw_tiles(up_case *c, int64_t V) {
    int64_t end = 0;
    for (int k = 0; k < X_TILES; k++) {
        int64_t rest = V - end;
        if (rest > 0)
            end +=
                k + 1 < X_TILES && !up_case_chance(c, 3) ? 1 + up_rng_below(&c->rng, (uint32_t)rest) : rest;
        c->options[k] = end;
    }
}

/* One true target a row, or two with shares; some rows have none. */
static void draw_index(up_case *c, int64_t Q, int64_t columns, int pairs) {
    int32_t *index = up_case_index(c, X_INDEX, "index", Q, 1 + pairs, columns);
    if (pairs) up_case_in(c, X_SHARE, "share", Q, 2);
    for (int64_t q = 0; q < Q; q++) {
        int32_t *row = index + q * (1 + pairs);
        int alone = pairs && up_case_chance(c, 4);
        float share = alone ? 1 : (float)up_rng_below(&c->rng, 257) / 256;
        if (alone) row[1] = -1;
        if (up_case_chance(c, 5)) row[0] = -1;
        if (!pairs) continue;
        up_case_floats(c, X_SHARE)[2 * q] = share;
        up_case_floats(c, X_SHARE)[2 * q + 1] = 1 - share;
    }
}

/* Rows of probabilities whose sum is exactly 1, over the targets that there are; noise behind them. */
static void draw_soft(up_case *c, int64_t Q, int64_t V, int64_t columns) {
    up_case_in(c, X_SOFT, "soft", Q, V);
    for (int64_t q = 0; q < Q; q++) {
        float *p = up_case_floats(c, X_SOFT) + q * V;
        double sum = 0, rest = 1;
        for (int64_t v = 0; v < columns; v++) sum += p[v] = fmaxf(p[v], 0) + 0.01f;
        for (int64_t v = 1; v < columns; v++) rest -= p[v] = (float)(floor(p[v] / sum * 0x1p16) * 0x1p-16);
        p[0] = (float)rest;
    }
}

/* Few groups, so that many targets fall out; a row that is left out belongs to none. */
static void draw_groups(up_case *c, int64_t Q, int64_t V) {
    int32_t *x = up_case_index(c, X_GROUP_X, "group_x", Q, 1, 4);
    int32_t *y = up_case_index(c, X_GROUP_Y, "group_y", V, 1, 4);
    for (int64_t q = 0; q < Q; q++)
        x[q] = c->t[X_INDEX].data && ((const int32_t *)c->t[X_INDEX].data)[q * c->t[X_INDEX].cols] < 0
                   ? -1
                   : x[q] - 1;
    for (int64_t v = 0; v < V; v++) y[v] -= 1;
}

static void xent_make(up_case *c) {
    int64_t Q = up_case_dim(c, 0), V = up_case_dim(c, 1), columns = V;
    int soft = up_case_chance(c, 3), pairs = up_case_chance(c, 2), in_place = up_case_chance(c, 2);
    int grouped = up_case_chance(c, 2) && !soft;
    c->numbers[X_SMOOTHING] = up_case_chance(c, 2) ? 0 : 0.1f;
    c->numbers[X_WEIGHT] = 1 / 3.0f;
    c->dims = (up_op_dims){.rows = Q, .in = V, .out = V};
    draw_tiles(c, V);
    up_case_in(c, X_Z, "z", Q, V);
    for (int64_t i = 0; i < Q * V; i++) up_case_floats(c, X_Z)[i] *= 5;
    if (up_case_chance(c, 2)) {
        columns = 1 + up_rng_below(&c->rng, (uint32_t)V);
        up_case_index(c, X_COLUMNS, "columns", 1, 1, 0)[0] = (int32_t)columns;
        for (int64_t i = 0; i < Q * V; i++) /* what does not count would be the largest */
            if (i % V >= columns) up_case_floats(c, X_Z)[i] += 200;
    }
    if (soft)
        draw_soft(c, Q, V, columns);
    else
        draw_index(c, Q, columns, pairs);
    if (grouped) draw_groups(c, Q, V);
    up_case_out(c, X_STATE, "state", Q, UP_XENT_FIELDS);
    up_case_out(c, X_LOSS, "loss", Q, 1);
    up_case_out(c, X_LSE, "lse", Q, 1);
    c->t[X_LOSS].upstream_all = c->numbers[X_WEIGHT];
    if (up_case_chance(c, 3)) {
        up_case_in(c, X_SCALE, "scale", 1, 1);
        up_case_floats(c, X_SCALE)[0] = 1024;
        c->t[X_LOSS].upstream_all *= 1024;
    }
    if (up_case_chance(c, 2)) up_case_out(c, X_CORRECT, "correct", Q, 1);
    up_case_out(c, X_DZ, "dz", Q, V);
    grad_of(c, X_Z, X_DZ);
    if (in_place) lay(c, X_DZ, X_Z, 0);
    snprintf(c->shape, sizeof c->shape,
             "Q=%ld V=%ld columns=%ld tiles to %ld,%ld,%ld,%ld soft=%d pairs=%d groups=%d smoothing=%g in "
             "place=%d",
             (long)Q, (long)V, (long)columns, (long)c->options[0], (long)c->options[1], (long)c->options[2],
             (long)c->options[3], soft, !soft && pairs, grouped, c->numbers[X_SMOOTHING], in_place);
}

static up_truth truth_of(const up_case *c, const up_view *v) {
    return (up_truth){.index = v[X_INDEX],
                      .share = v[X_SHARE],
                      .soft = v[X_SOFT],
                      .group_x = v[X_GROUP_X],
                      .group_y = v[X_GROUP_Y],
                      .columns = v[X_COLUMNS],
                      .smoothing = (float)c->numbers[X_SMOOTHING]};
}

/* Where tile k begins; it ends at options[k]. */
static int64_t tile_start(const up_case *c, int k) {
    return k > 0 ? c->options[k - 1] : 0;
}

static up_status xent_tile(const up_case *c, up_backend *b, const up_view *v, int k) {
    int64_t first = tile_start(c, k), end = c->options[k];
    up_xent_args a = {.z = columns_of(v[X_Z], first, end),
                      .first = first,
                      .begin = first == 0,
                      .end = end == c->t[X_Z].cols,
                      .truth = truth_of(c, v),
                      .state = v[X_STATE],
                      .loss = v[X_LOSS],
                      .lse = v[X_LSE],
                      .correct = v[X_CORRECT]};
    return b->ops->xent(b, &a);
}

static up_status xent_tile_backward(const up_case *c, up_backend *b, const up_view *v, int k) {
    int64_t first = tile_start(c, k), end = c->options[k];
    up_xent_grad g = {.z = columns_of(v[X_Z], first, end),
                      .first = first,
                      .truth = truth_of(c, v),
                      .state = v[X_STATE],
                      .weight = (float)c->numbers[X_WEIGHT],
                      .scale = v[X_SCALE],
                      .dz = columns_of(v[X_DZ], first, end)};
    return b->ops->xent_bwd(b, &g);
}

static up_status xent_launch(const up_case *c, up_backend *b, const up_view *v, up_view scratch) {
    (void)scratch;
    for (int k = 0; k < X_TILES; k++)
        if (tile_start(c, k) < c->options[k]) UP_TRY(xent_tile(c, b, v, k));
    for (int k = X_TILES; k-- > 0;) /* each tile by itself: any order will do */
        if (tile_start(c, k) < c->options[k]) UP_TRY(xent_tile_backward(c, b, v, k));
    return UP_OK;
}

/* The indices of a row's true targets, -1 where there is none. */
static int64_t true_at(const up_case *c, int64_t q, int64_t k) {
    int64_t K = has(c, X_INDEX) ? c->t[X_INDEX].cols : 0;
    return k < K ? ((const int32_t *)c->t[X_INDEX].data)[q * K + k] : -1;
}

static int target_counts(const up_case *c, int64_t q, int64_t v) {
    if (has(c, X_COLUMNS) && v >= index_at(c, X_COLUMNS, 0)) return 0;
    if (!has(c, X_GROUP_X) || index_at(c, X_GROUP_X, q) < 0) return 1;
    return index_at(c, X_GROUP_X, q) != index_at(c, X_GROUP_Y, v) || true_at(c, q, 0) == v ||
           true_at(c, q, 1) == v;
}

/* The share of target v before smoothing. */
static up_num share_at(up_case *c, int64_t q, int64_t v) {
    if (has(c, X_SOFT)) return *at(c, X_SOFT, q, v);
    int first = true_at(c, q, 0) == v, second = true_at(c, q, 1) == v;
    if (!has(c, X_SHARE)) return up_num_exact(first);
    if (first && second) return up_num_exact(1); /* the shares of a row are exact and their sum is 1 */
    return first ? *at(c, X_SHARE, q, 0) : second ? *at(c, X_SHARE, q, 1) : up_num_exact(0);
}

/* The first largest among the targets of a row that count. */
static int64_t best_of(up_case *c, int t, int64_t q, int64_t first, int64_t end) {
    int64_t best = -1;
    for (int64_t v = first; v < end; v++)
        if (target_counts(c, q, v) && (best < 0 || at(c, t, q, v)->v > at(c, t, q, best)->v)) best = v;
    return best;
}

/* The state of row q after tile k. */
static void state_after(up_case *c, int64_t q, int k, up_num s[UP_XENT_FIELDS]) {
    int64_t best = best_of(c, X_Z, q, tile_start(c, k), c->options[k]);
    if (best >= 0 && (s[UP_XENT_BEST].v < 0 || at(c, X_Z, q, best)->v > s[UP_XENT_MAX].v)) {
        up_num largest = *at(c, X_Z, q, best);
        if (s[UP_XENT_BEST].v >= 0)
            s[UP_XENT_SUM] = up_mul(s[UP_XENT_SUM], up_exp(up_sub(s[UP_XENT_MAX], largest)));
        s[UP_XENT_MAX] = largest;
        s[UP_XENT_BEST] = up_num_exact((double)best);
    }
    for (int64_t v = tile_start(c, k); v < c->options[k]; v++) {
        if (!target_counts(c, q, v)) continue;
        add_to(&s[UP_XENT_SUM], up_exp(up_sub(*at(c, X_Z, q, v), s[UP_XENT_MAX])));
        add_to(&s[UP_XENT_TRUE], up_mul(share_at(c, q, v), *at(c, X_Z, q, v)));
        add_to(&s[UP_XENT_TOTAL], *at(c, X_Z, q, v));
        s[UP_XENT_COUNT] = up_num_exact(s[UP_XENT_COUNT].v + 1);
    }
    for (int i = UP_XENT_SUM; i <= UP_XENT_TOTAL; i++) s[i] = up_store(s[i]);
}

static void xent_row_backward(up_case *c, int64_t q, up_num certain, up_num smoothed) {
    up_num weight = up_num_exact(c->numbers[X_WEIGHT]);
    if (has(c, X_SCALE)) weight = up_mul(weight, *at(c, X_SCALE, 0, 0));
    for (int64_t v = 0; v < c->t[X_Z].cols; v++) {
        up_num p = up_exp(up_sub(*at(c, X_Z, q, v), *at(c, X_LSE, q, 0)));
        up_num wanted = up_add(up_mul(certain, share_at(c, q, v)), smoothed);
        int zero = !target_counts(c, q, v) || (has(c, X_INDEX) && true_at(c, q, 0) < 0);
        *at(c, X_DZ, q, v) = zero ? up_num_exact(0) : up_store(up_mul(weight, up_sub(p, wanted)));
    }
}

static void xent_oracle(up_case *c, int backward) {
    up_num e = up_num_exact(c->numbers[X_SMOOTHING]), certain = up_sub(up_num_exact(1), e);
    for (int64_t q = 0; q < c->t[X_Z].rows; q++) {
        int left_out = has(c, X_INDEX) && true_at(c, q, 0) < 0;
        up_num *s = at(c, X_STATE, q, 0);
        for (int i = 0; i < UP_XENT_FIELDS; i++) s[i] = up_num_exact(0);
        s[UP_XENT_BEST] = up_num_exact(-1);
        for (int k = 0; k < X_TILES; k++)
            if (tile_start(c, k) < c->options[k]) state_after(c, q, k, s);
        up_num lse = up_add(s[UP_XENT_MAX], up_log(s[UP_XENT_SUM]));
        up_num smoothed = up_mul(e, up_inverse(s[UP_XENT_COUNT]));
        up_num loss =
            up_sub(up_sub(lse, up_mul(certain, s[UP_XENT_TRUE])), up_mul(smoothed, s[UP_XENT_TOTAL]));
        *at(c, X_LSE, q, 0) = up_store(lse);
        *at(c, X_LOSS, q, 0) = left_out ? up_num_exact(0) : up_store(loss);
        if (has(c, X_CORRECT)) {
            int64_t wanted = has(c, X_SOFT) ? best_of(c, X_SOFT, q, 0, c->t[X_Z].cols) : true_at(c, q, 0);
            *at(c, X_CORRECT, q, 0) = up_num_exact(s[UP_XENT_BEST].v == (double)wanted);
        }
        if (backward) xent_row_backward(c, q, certain, smoothed);
    }
}

/* ---- sqnorm, step, adamw ---- */
enum { Q_X, Q_OUT };

static void sqnorm_make(up_case *c) {
    int64_t N = up_case_dim(c, 0), D = up_case_dim(c, 1);
    c->exact = !c->smooth && up_case_chance(c, 3);
    snprintf(c->shape, sizeof c->shape, "N=%ld D=%ld", (long)N, (long)D);
    c->dims = (up_op_dims){.rows = N, .in = D, .out = D};
    up_case_in(c, Q_X, "x", N, D);
    up_case_out(c, Q_OUT, "out", 1, 1);
}

static up_status sqnorm_launch(const up_case *c, up_backend *b, const up_view *v, up_view scratch) {
    (void)c;
    return b->ops->sqnorm(b, &(up_sqnorm_args){v[Q_X], v[Q_OUT], scratch});
}

static void sqnorm_oracle(up_case *c, int backward) {
    (void)backward;
    zero(c, Q_OUT);
    for (int64_t n = 0; n < c->t[Q_X].rows; n++)
        for (int64_t d = 0; d < c->t[Q_X].cols; d++)
            add_to(at(c, Q_OUT, 0, 0), up_mul(*at(c, Q_X, n, d), *at(c, Q_X, n, d)));
    store_all(c, Q_OUT);
}

enum { T_SQNORMS, T_CONTROL };
enum { T_MAX_NORM, T_MIN_SCALE };

static void step_make(up_case *c) {
    int64_t B = up_case_dim(c, 1), good_steps = up_case_chance(c, 2) ? 1 + up_rng_below(&c->rng, 4) : 0;
    double size = up_case_chance(c, 3) ? 1e-3 : 4,
           scale = good_steps ? ldexp(1, (int)up_rng_below(&c->rng, 17)) : 1;
    c->options[0] = good_steps;
    c->numbers[T_MAX_NORM] = up_case_chance(c, 3) ? 0 : 0.5;
    c->numbers[T_MIN_SCALE] = up_case_chance(c, 2) ? 1 : 64;
    c->dims = (up_op_dims){.rows = 1, .in = B, .out = B};
    up_case_in(c, T_SQNORMS, "sqnorms", 1, B);
    float *squares = up_case_floats(c, T_SQNORMS);
    for (int64_t i = 0; i < B; i++) squares[i] = (float)(squares[i] * squares[i] * size * scale * scale);
    const float odd[] = {INFINITY, NAN, 0};
    if (up_case_chance(c, 3)) squares[up_rng_below(&c->rng, (uint32_t)B)] = odd[up_rng_below(&c->rng, 3)];
    up_case_change(c, T_CONTROL, "control", 1, UP_STEP_FIELDS);
    float *control = up_case_floats(c, T_CONTROL);
    control[UP_STEP_SCALE] = (float)scale;
    control[UP_STEP_COUNT] = (float)up_rng_below(&c->rng, 1000);
    control[UP_STEP_GOOD] = good_steps ? (float)up_rng_below(&c->rng, (uint32_t)good_steps) : 7;
    snprintf(c->shape, sizeof c->shape, "B=%ld max_norm=%g good=%g of %ld scale=%g at least %g", (long)B,
             c->numbers[T_MAX_NORM], control[UP_STEP_GOOD], (long)good_steps, scale, c->numbers[T_MIN_SCALE]);
}

static up_status step_launch(const up_case *c, up_backend *b, const up_view *v, up_view scratch) {
    (void)scratch;
    up_step_args a = {.sqnorms = v[T_SQNORMS],
                      .control = v[T_CONTROL],
                      .max_norm = c->numbers[T_MAX_NORM],
                      .good_steps = (int)c->options[0],
                      .min_scale = c->numbers[T_MIN_SCALE]};
    return b->ops->step(b, &a);
}

static void step_oracle(up_case *c, int backward) {
    (void)backward;
    up_num square = up_num_exact(0), *control = at(c, T_CONTROL, 0, 0), one = up_num_exact(1);
    for (int64_t i = 0; i < c->t[T_SQNORMS].cols; i++) add_to(&square, *at(c, T_SQNORMS, 0, i));
    up_num below = up_inverse(control[UP_STEP_SCALE]), norm = up_mul(up_sqrt(square), below);
    int finite = isfinite(norm.v), good = (int)control[UP_STEP_GOOD].v + 1;
    double scale = control[UP_STEP_SCALE].v;
    up_num limit = up_mul(up_num_exact(c->numbers[T_MAX_NORM]), up_inverse(up_add(norm, constant(1e-6))));
    up_num clip = c->numbers[T_MAX_NORM] > 0 && limit.v < 1 ? limit : one;
    if (finite && c->options[0] > 0 && good == c->options[0]) {
        scale *= 2;
        good = 0;
    }
    if (!finite && c->options[0] > 0) scale = fmax(scale / 2, c->numbers[T_MIN_SCALE]);
    control[UP_STEP_NORM] = finite ? up_store(norm) : up_num_exact(norm.v);
    control[UP_STEP_FACTOR] = finite ? up_store(up_mul(clip, below)) : up_num_exact(0);
    control[UP_STEP_SKIPPED] = up_num_exact(!finite);
    control[UP_STEP_COUNT] = up_num_exact(control[UP_STEP_COUNT].v + finite);
    control[UP_STEP_GOOD] = up_num_exact(finite ? good : 0);
    control[UP_STEP_SCALE] = up_num_exact(scale);
}

enum { W_SEGMENTS, W_RATES, W_WEIGHTS, W_GRAD, W_M, W_V, W_CONTROL };
enum { W_BETA1, W_BETA2, W_EPS, W_DECAY };

/* Segments of the state in ascending order, their weights in another one, with room between both; units.
 * Returns how many there are. */
static int64_t draw_segments(up_case *c, int64_t *weights, int64_t *state) {
    int64_t n = up_case_size(c, up_rng_below(&c->rng, 6)), most = c->limit / UP_SEGMENT_UNIT + 1;
    int32_t *f = up_case_index(c, W_SEGMENTS, "segments", n, UP_SEGMENT_FIELDS, 0);
    *weights = 1;
    *state = 1;
    for (int64_t s = 0; s < n; s++, f += UP_SEGMENT_FIELDS) {
        *state += up_case_chance(c, 3) ? up_rng_below(&c->rng, 3) : 0;
        f[UP_SEGMENT_STATE] = (int32_t)*state - 1;
        f[UP_SEGMENT_COUNT] = (int32_t)up_case_size(c, 1 + up_rng_below(&c->rng, (uint32_t)most));
        f[UP_SEGMENT_DECAY] = up_case_chance(c, 2);
        *state += f[UP_SEGMENT_COUNT];
    }
    for (int64_t s = n; s-- > 0;) { /* the last one of the state lies first among the weights */
        f -= UP_SEGMENT_FIELDS;
        *weights += up_case_chance(c, 3) ? up_rng_below(&c->rng, 3) : 0;
        f[UP_SEGMENT_WEIGHT] = (int32_t)*weights - 1;
        *weights += f[UP_SEGMENT_COUNT];
    }
    return n;
}

/* Element `state` is in some segment. */
static int learns(const up_case *c, int64_t state) {
    const int32_t *f = c->t[W_SEGMENTS].data;
    for (int64_t s = 0; s < c->t[W_SEGMENTS].rows; s++, f += UP_SEGMENT_FIELDS) {
        int64_t unit = state / UP_SEGMENT_UNIT - f[UP_SEGMENT_STATE];
        if (unit >= 0 && unit < f[UP_SEGMENT_COUNT]) return 1;
    }
    return 0;
}

static void adamw_make(up_case *c) {
    int64_t weights, state, n = draw_segments(c, &weights, &state);
    const float values[] = {0.9f, up_case_chance(c, 2) ? 0.999f : 0.95f, 1e-6f, 0.2f};
    for (int i = 0; i < 4; i++) c->numbers[i] = values[i];
    weights *= UP_SEGMENT_UNIT;
    state *= UP_SEGMENT_UNIT;
    c->dims = (up_op_dims){.rows = 1, .in = state, .out = weights};
    if (up_case_chance(c, 2)) {
        up_case_in(c, W_RATES, "rates", n, 1);
        for (int64_t s = 0; s < n; s++)
            up_case_floats(c, W_RATES)[s] = 0.25f * (float)up_rng_below(&c->rng, 5);
    }
    up_case_change(c, W_WEIGHTS, "weights", 1, weights);
    up_case_change(c, W_GRAD, "grad", 1, state);
    up_case_change(c, W_M, "m", 1, state);
    up_case_change(c, W_V, "v", 1, state);
    for (int64_t i = 0; i < state; i++) {
        up_case_floats(c, W_V)[i] *= up_case_floats(c, W_V)[i];
        if (!learns(c, i)) up_case_floats(c, W_GRAD)[i] = 0; /* between the segments nothing has a gradient */
    }
    up_case_in(c, W_CONTROL, "control", 1, UP_STEP_FIELDS);
    float *control = up_case_floats(c, W_CONTROL);
    int skipped = up_case_chance(c, 5);
    control[UP_STEP_LR] = 1e-3f;
    control[UP_STEP_COUNT] = (float)(1 + up_rng_below(&c->rng, 100));
    control[UP_STEP_SKIPPED] = (float)skipped;
    control[UP_STEP_FACTOR] = skipped ? 0 : up_case_chance(c, 2) ? 1 : 0.3f;
    if (skipped && n) /* what overflowed */
        up_case_floats(c,
                       W_GRAD)[((const int32_t *)c->t[W_SEGMENTS].data)[UP_SEGMENT_STATE] * UP_SEGMENT_UNIT] =
            INFINITY;
    snprintf(c->shape, sizeof c->shape,
             "segments=%ld weights=%ld state=%ld rates=%d step=%g factor=%g skipped=%d", (long)n,
             (long)weights, (long)state, has(c, W_RATES), control[UP_STEP_COUNT], control[UP_STEP_FACTOR],
             skipped);
}

static up_status adamw_launch(const up_case *c, up_backend *b, const up_view *v, up_view scratch) {
    (void)scratch;
    up_adamw_args a = {.segments = v[W_SEGMENTS],
                       .rates = v[W_RATES],
                       .weights = v[W_WEIGHTS],
                       .grad = v[W_GRAD],
                       .m = v[W_M],
                       .v = v[W_V],
                       .control = v[W_CONTROL],
                       .beta1 = c->numbers[W_BETA1],
                       .beta2 = c->numbers[W_BETA2],
                       .eps = c->numbers[W_EPS],
                       .decay = c->numbers[W_DECAY]};
    return b->ops->adamw(b, &a);
}

/* beta moment + (1 - beta) x */
static up_num averaged(double beta, up_num moment, up_num x) {
    return up_add(up_mul(constant(beta), moment), up_mul(constant(1 - beta), x));
}

static void adamw_element(up_case *c, int64_t weight, int64_t state, up_num rate, int decays) {
    up_num *w = at(c, W_WEIGHTS, 0, weight), *m = at(c, W_M, 0, state), *v = at(c, W_V, 0, state);
    up_num *control = at(c, W_CONTROL, 0, 0), g = up_mul(control[UP_STEP_FACTOR], *at(c, W_GRAD, 0, state));
    double t = control[UP_STEP_COUNT].v, b1 = c->numbers[W_BETA1], b2 = c->numbers[W_BETA2];
    up_num decay = decays ? constant(c->numbers[W_DECAY]) : up_num_exact(0);
    *m = averaged(b1, *m, g);
    *v = averaged(b2, *v, up_mul(g, g));
    up_num root = up_sqrt(up_mul(*v, up_inverse(constant(1 - pow(b2, t)))));
    up_num step = up_mul(up_mul(*m, up_inverse(constant(1 - pow(b1, t)))),
                         up_inverse(up_add(root, constant(c->numbers[W_EPS]))));
    *w = up_store(up_sub(*w, up_mul(rate, up_add(step, up_mul(decay, *w)))));
    *m = up_store(*m);
    *v = up_store(*v);
}

static void adamw_oracle(up_case *c, int backward) {
    (void)backward;
    const int32_t *f = c->t[W_SEGMENTS].data;
    int skipped = at(c, W_CONTROL, 0, UP_STEP_SKIPPED)->v != 0;
    for (int64_t s = 0; s < c->t[W_SEGMENTS].rows && !skipped; s++, f += UP_SEGMENT_FIELDS) {
        up_num rate = *at(c, W_CONTROL, 0, UP_STEP_LR);
        if (has(c, W_RATES)) rate = up_mul(rate, *at(c, W_RATES, s, 0));
        for (int64_t k = 0; k < f[UP_SEGMENT_COUNT] * UP_SEGMENT_UNIT; k++)
            adamw_element(c, f[UP_SEGMENT_WEIGHT] * UP_SEGMENT_UNIT + k,
                          f[UP_SEGMENT_STATE] * UP_SEGMENT_UNIT + k, rate, f[UP_SEGMENT_DECAY]);
    }
    zero(c, W_GRAD);
}

/* ---- cast: bits, no oracle ---- */
enum { C_X, C_Y, C_BACK };

static up_dtype draw_float(up_case *c) {
    static const up_dtype types[] = {UP_F32, UP_F16, UP_BF16};
    return types[up_rng_below(&c->rng, 3)];
}

static void cast_make(up_case *c) {
    int64_t N = up_case_dim(c, 0), D = up_case_dim(c, 1);
    up_dtype from = draw_float(c);
    static const char *const names[] = {"f32", "f16", "bf16"};
    snprintf(c->shape, sizeof c->shape, "N=%ld D=%ld from=%s", (long)N, (long)D, names[from]);
    c->dims = (up_op_dims){.rows = N, .in = D, .out = D};
    up_case_in(c, C_X, "x", N, D);
    for (int64_t i = 0; i < N * D; i++) /* over the whole range of halves: overflow, subnormals, zero */
        up_case_floats(c, C_X)[i] = ldexpf(up_case_floats(c, C_X)[i], (int)up_rng_below(&c->rng, 48) - 30);
    up_case_out(c, C_Y, "y", N, D);
    up_case_out(c, C_BACK, "back", N, D);
    up_case_retype(c, C_X, from);
    up_case_retype(c, C_Y, c->dtype);
}

static up_status cast_launch(const up_case *c, up_backend *b, const up_view *v, up_view scratch) {
    (void)c;
    (void)scratch;
    UP_TRY(b->ops->cast(b, &(up_cast_args){v[C_X], v[C_Y]}));
    return b->ops->cast(b, &(up_cast_args){v[C_Y], v[C_BACK]});
}

const up_case_kind up_case_kinds[] = {
    {"embed", UP_OP_EMBED, 40, embed_make, embed_launch, embed_oracle},
    {"patch_embed", UP_OP_PATCH_EMBED, 40, patch_embed_make, patch_embed_launch, patch_embed_oracle},
    {"linear", UP_OP_LINEAR, 110, linear_make, linear_launch, linear_oracle},
    {"gelu", UP_OP_GELU, 150, gelu_make, gelu_launch, gelu_oracle},
    {"layernorm", UP_OP_LAYERNORM, 150, layernorm_make, layernorm_launch, layernorm_oracle},
    {"attention", UP_OP_ATTENTION, 34, attention_make, attention_launch, attention_oracle},
    {"residual", UP_OP_RESIDUAL, 100, residual_make, residual_launch, residual_oracle},
    {"add_layernorm", UP_OP_LAYERNORM, 100, add_layernorm_make, add_layernorm_launch, add_layernorm_oracle},
    {"gather", UP_OP_GATHER, 60, gather_make, gather_launch, gather_oracle},
    {"scatter", UP_OP_SCATTER, 60, scatter_make, scatter_launch, scatter_oracle},
    {"l2norm", UP_OP_L2NORM, 150, l2norm_make, l2norm_launch, l2norm_oracle},
    {"logits", UP_OP_LOGITS, 80, logits_make, logits_launch, logits_oracle},
    {"xent", UP_OP_XENT, 150, xent_make, xent_launch, xent_oracle},
    {"sqnorm", UP_OP_SQNORM, 150, sqnorm_make, sqnorm_launch, sqnorm_oracle},
    {"step", UP_OP_STEP, 20, step_make, step_launch, step_oracle},
    {"adamw", UP_OP_ADAMW, 100, adamw_make, adamw_launch, adamw_oracle},
    {"cast", UP_OP_CAST, 60, cast_make, cast_launch, NULL},
    {0},
};

const up_case_kind *up_case_kind_named(const char *name) {
    for (const up_case_kind *kind = up_case_kinds; kind->name; kind++)
        if (!strcmp(kind->name, name)) return kind;
    return NULL;
}

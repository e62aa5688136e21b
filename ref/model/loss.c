/* loss.c - equation 3: softmax cross-entropy over cos(f(x), f(y)) / tau, for a target set or, in-batch, in
 * both directions; with a linear head equation 4 (as logits: alpha cos / tau + w'f + b, which agrees with the
 * paper's form where it starts).
 *
 * Logits live in one tile at a time. Forward: every tile of a block of queries carries the online log-sum-exp
 * on. Backward: every tile is computed again, turned into its gradient in place, and multiplied away. */
#include "uniperceiver/loss.h"
#include "ref/given.h"
#include "ref/model/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TILE_ROWS = 512, TILE_COLUMNS = 1024 };

/* A buffer that grows. */
typedef struct room {
    up_buffer *buffer;
    size_t bytes;
} room;

struct up_criterion {
    up_model *model;               /* borrowed */
    const up_gradients *gradients; /* borrowed, or NULL */
    up_view scale;                 /* loss scale, or absent */
    up_buffer *tile;               /* f32 [TILE_ROWS, TILE_COLUMNS], then two [TILE_ROWS, D] */
    up_view z, da, dhead;
    room lists, soft, rows;
    up_buffer *scratch;
    up_view scratch_view;

    up_loss loss; /* the latest; its arrays may be gone */
    int compared; /* 1: it was computed to its end */
    int64_t queries, targets;
    int counted;                      /* rows that count */
    up_view index, shares, soft_view; /* i32 [Q, K], f32 [Q, K], f32 [Q, V] */
    up_view group_x, group_y, bias;   /* i32 [Q, 1], i32 [V, 1], f32 [1, V] */
    up_view results;                  /* f32 [1, 3 Q]: losses, hits, losses of the other direction */
    up_view state, lse;               /* f32 [Q, UP_XENT_FIELDS], [Q, 1] of one direction */
};

/* One direction: queries a against targets b. */
typedef struct direction {
    up_features *a, *b;
    up_truth truth;
    up_view loss, correct; /* f32 [Q, 1]; correct may be absent */
    int head;
} direction;

/* A tile: rows i..i+n-1, columns j..j+m-1. */
typedef struct tile {
    int64_t i, n, j, m;
} tile;

static up_backend *backend_of(const up_criterion *c) {
    return c->model->backend;
}
static up_view weight_of(const up_criterion *c, int param) {
    return up_model_weight(c->model, param);
}
static up_view temperature(const up_criterion *c) {
    return weight_of(c, c->model->params.temperature[c->loss.task]);
}
static up_view alpha_of(const up_criterion *c, const direction *d) {
    return weight_of(c, d->head ? c->model->params.head_alpha : -1);
}

/* ---- life ---- */

static up_status grow(up_backend *b, room *r, size_t bytes) {
    if (bytes <= r->bytes) return UP_OK;
    return up_grow_buffer(b, &r->buffer, &r->bytes, bytes + bytes / 4); /* losses differ: not for each */
}

/* Memory that no loss changes the size of: a tile, and what operations on tiles ask for. */
static up_status make_tile(up_criterion *c) {
    up_backend *b = backend_of(c);
    int64_t width = c->model->config.width, z = (int64_t)TILE_ROWS * TILE_COLUMNS, rows = TILE_ROWS * width;
    const up_op_dims dims = {.rows = TILE_ROWS, .in = width, .out = TILE_COLUMNS};
    static const up_op ops[] = {UP_OP_L2NORM, UP_OP_LOGITS, UP_OP_XENT, UP_OP_LINEAR, UP_OP_RESIDUAL};
    size_t scratch = 0;
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        UP_TRY(up_backend_ask(b, ops[i], &dims, &scratch));
    UP_TRY(b->ops->alloc(b, (size_t)(z + 2 * rows) * sizeof(float), &c->tile));
    UP_TRY(b->ops->alloc(b, scratch, &c->scratch));
    c->z = up_view_at(c->tile, UP_F32, 0, TILE_ROWS, TILE_COLUMNS);
    c->da = up_view_at(c->tile, UP_F32, z, TILE_ROWS, width);
    c->dhead = up_view_at(c->tile, UP_F32, z + rows, TILE_ROWS, width);
    c->scratch_view = up_view_at(c->scratch, UP_U8, 0, 1, (int64_t)scratch);
    return UP_OK;
}

up_status up_criterion_create(up_model *model, const up_gradients *gradients, up_view scale,
                              up_criterion **out) {
    UP_GIVEN(model, out);
    up_criterion *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c) return up_fail(UP_ERR_MEMORY, "loss", "%zu bytes wanted", sizeof *c);
    *c = (up_criterion){.model = model, .gradients = gradients, .scale = scale};
    up_status status = make_tile(c);
    if (status != UP_OK) {
        up_criterion_free(c);
        return status;
    }
    *out = c;
    return UP_OK;
}

void up_criterion_free(up_criterion *c) {
    if (!c) return;
    up_backend *b = backend_of(c);
    up_buffer *buffers[] = {c->tile, c->lists.buffer, c->soft.buffer, c->rows.buffer, c->scratch};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) b->ops->release(b, buffers[i]);
    free(c);
}

/* ---- what is true ---- */

static int choices_of(const up_loss *l) {
    return l->choices > 0 ? l->choices : 1;
}

static up_status check_labels(const up_loss *l, int64_t queries, int64_t targets) {
    int choices = choices_of(l);
    for (int64_t i = 0; l->labels && i < queries * choices; i++) {
        int32_t label = l->labels[i];
        if (l->labels[i - i % choices] == -1) continue; /* left out, whatever else its row says */
        if (label < (i % choices ? 0 : -1) || label >= targets)
            return up_fail(UP_ERR_ARGUMENT, "loss", "label %d of %lld targets", label, (long long)targets);
        if (l->symmetric && label != i)
            return up_fail(UP_ERR_ARGUMENT, "loss", "both directions need the labels 0, 1, 2, ...");
    }
    return UP_OK;
}

static up_status check_loss(const up_criterion *c, const up_loss *l, int64_t queries, int64_t targets) {
    const up_config *config = &c->model->config;
    if (l->task < 0 || l->task >= config->tasks)
        return up_fail(UP_ERR_ARGUMENT, "loss", "task %d, the model has %d", l->task, config->tasks);
    if (!l->labels == !l->soft)
        return up_fail(UP_ERR_ARGUMENT, "loss", "wants either labels or soft targets");
    if (queries < 1 || targets < 1)
        return up_fail(UP_ERR_ARGUMENT, "loss", "nothing to compare: %lld inputs, %lld targets",
                       (long long)queries, (long long)targets);
    if (choices_of(l) > 2 || (choices_of(l) == 2 && !l->shares && !l->soft))
        return up_fail(UP_ERR_ARGUMENT, "loss", "%d labels a row; wanted 1, or 2 with their shares",
                       l->choices);
    if (l->symmetric && (queries != targets || l->soft || choices_of(l) > 1 || l->head || l->bias))
        return up_fail(
            UP_ERR_ARGUMENT, "loss",
            "both directions need as many inputs as targets, one label a row, no bias and no head");
    if (!l->group_x != !l->group_y || (l->group_x && l->soft))
        return up_fail(UP_ERR_ARGUMENT, "loss", "groups need both sides, and labels");
    if (l->head && config->classes != targets)
        return up_fail(UP_ERR_ARGUMENT, "loss", "the model's linear head has %d classes, not %lld",
                       config->classes, (long long)targets);
    return check_labels(l, queries, targets);
}

/* The next `count` 4-byte elements of the lists, or an absent view where there is nothing to put there. */
static up_status put_list(up_criterion *c, int64_t *at, up_dtype dtype, int64_t rows, int64_t cols,
                          const void *values, up_view *view) {
    up_backend *b = backend_of(c);
    *view = (up_view){0};
    if (!values) return UP_OK;
    *view = up_view_at(c->lists.buffer, dtype, *at, rows, cols);
    *at += up_whole_units(rows * cols);
    return b->ops->upload(b, *view, values);
}

static up_status upload_truth(up_criterion *c, const up_loss *l) {
    up_backend *b = backend_of(c);
    int64_t q = c->queries, v = c->targets, k = choices_of(l), at = 0;
    size_t lists = (size_t)(2 * q * k + q + 2 * v + 5 * UP_SEGMENT_UNIT) * sizeof(int32_t);
    UP_TRY(grow(b, &c->lists, lists));
    UP_TRY(put_list(c, &at, UP_I32, q, k, l->labels, &c->index));
    UP_TRY(put_list(c, &at, UP_F32, q, k, l->labels ? l->shares : NULL, &c->shares));
    UP_TRY(put_list(c, &at, UP_I32, q, 1, l->group_x, &c->group_x));
    UP_TRY(put_list(c, &at, UP_I32, v, 1, l->group_y, &c->group_y));
    UP_TRY(put_list(c, &at, UP_F32, 1, v, l->bias, &c->bias));
    c->soft_view = (up_view){0};
    if (!l->soft) return UP_OK;
    UP_TRY(grow(b, &c->soft, (size_t)(q * v) * sizeof(float)));
    c->soft_view = up_view_at(c->soft.buffer, UP_F32, 0, q, v);
    return b->ops->upload(b, c->soft_view, l->soft);
}

static void count_rows(up_criterion *c) {
    c->counted = (int)c->queries;
    for (int64_t i = 0; c->loss.labels && i < c->queries; i++)
        c->counted -= c->loss.labels[i * choices_of(&c->loss)] < 0;
}

/* Everything that depends on the number of queries. */
static up_status make_room(up_criterion *c) {
    up_backend *b = backend_of(c);
    int64_t q = c->queries; /* as many as targets where both directions are compared */
    int64_t state = up_whole_units(3 * q);
    UP_TRY(grow(b, &c->rows, (size_t)(state + q * (UP_XENT_FIELDS + 1)) * sizeof(float)));
    c->results = up_view_at(c->rows.buffer, UP_F32, 0, 1, 3 * q);
    c->state = up_view_at(c->rows.buffer, UP_F32, state, q, UP_XENT_FIELDS);
    c->lse = up_view_at(c->rows.buffer, UP_F32, state + q * UP_XENT_FIELDS, q, 1);
    return UP_OK;
}

/* Results i of three: [Q, 1]. */
static up_view result(const up_criterion *c, int i) {
    return up_view_at(c->rows.buffer, UP_F32, i * c->queries, c->queries, 1);
}

/* ---- tiles ---- */

static up_truth truth_of(const direction *d, const tile *t) {
    up_truth truth = d->truth; /* rows of the tile; columns are counted from the first target */
    if (up_view_present(truth.index)) truth.index = up_view_rows(truth.index, t->i, t->n);
    if (up_view_present(truth.share)) truth.share = up_view_rows(truth.share, t->i, t->n);
    if (up_view_present(truth.soft)) truth.soft = up_view_rows(truth.soft, t->i, t->n);
    if (up_view_present(truth.group_x)) truth.group_x = up_view_rows(truth.group_x, t->i, t->n);
    return truth;
}

static up_view z_of(const up_criterion *c, const tile *t) {
    return up_view_cols(up_view_rows(c->z, 0, t->n), 0, t->m);
}

static up_status tile_logits(up_criterion *c, const direction *d, const tile *t) {
    up_backend *b = backend_of(c);
    const up_params *p = &c->model->params;
    up_view z = z_of(c, t);
    if (d->head)
        UP_TRY(b->ops->linear(
            b, &(up_linear_args){.x = up_view_rows(d->a->raw, t->i, t->n),
                                 .weight = up_view_rows(weight_of(c, p->head_weight), t->j, t->m),
                                 .bias = up_view_cols(weight_of(c, p->head_bias), t->j, t->m),
                                 .y = z,
                                 .scratch = c->scratch_view}));
    return b->ops->logits(
        b,
        &(up_logits_args){.a = up_view_rows(d->a->unit, t->i, t->n),
                          .b = up_view_rows(d->b->unit, t->j, t->m),
                          .log_scale = temperature(c),
                          .alpha = alpha_of(c, d),
                          .bias = up_view_present(c->bias) ? up_view_cols(c->bias, t->j, t->m) : (up_view){0},
                          .add = d->head,
                          .z = z});
}

static up_status tile_loss(up_criterion *c, const direction *d, const tile *t) {
    up_backend *b = backend_of(c);
    up_view correct = d->correct;
    if (up_view_present(correct)) correct = up_view_rows(correct, t->i, t->n);
    return b->ops->xent(b, &(up_xent_args){.z = z_of(c, t),
                                           .first = t->j,
                                           .begin = t->j == 0,
                                           .end = t->j + t->m == d->b->rows,
                                           .truth = truth_of(d, t),
                                           .state = up_view_rows(c->state, t->i, t->n),
                                           .loss = up_view_rows(d->loss, t->i, t->n),
                                           .lse = up_view_rows(c->lse, t->i, t->n),
                                           .correct = correct});
}

/* Undoes the head's part of tile_logits: its parameters, and the features before they were scaled. */
static up_status head_bwd(up_criterion *c, const direction *d, const tile *t) {
    up_backend *b = backend_of(c);
    const up_params *p = &c->model->params;
    up_view dweight = up_gradient(c->gradients, p->head_weight),
            dbias = up_gradient(c->gradients, p->head_bias);
    up_view draw = up_view_present(d->a->draw) ? up_view_rows(d->a->draw, t->i, t->n) : (up_view){0};
    int first = !d->a->has_draw && t->j == 0;
    up_view dx = first ? draw : up_view_rows(c->dhead, 0, t->n);
    if (up_view_present(dweight)) dweight = up_view_rows(dweight, t->j, t->m);
    if (up_view_present(dbias)) dbias = up_view_cols(dbias, t->j, t->m);
    UP_TRY(b->ops->linear_bwd(
        b, &(up_linear_grad){.x = up_view_rows(d->a->raw, t->i, t->n),
                             .weight = up_view_rows(weight_of(c, p->head_weight), t->j, t->m),
                             .dy = z_of(c, t),
                             .dx = up_view_present(draw) ? dx : (up_view){0},
                             .dweight = dweight,
                             .dbias = dbias,
                             .scratch = c->scratch_view}));
    if (first || !up_view_present(draw)) return UP_OK;
    return b->ops->residual(b, &(up_residual_args){.x = draw, .branch = dx, .y = draw});
}

/* The tile's logits become their gradient, and go to both sides. */
static up_status tile_bwd(up_criterion *c, const direction *d, const tile *t, float weight) {
    up_backend *b = backend_of(c);
    up_view z = z_of(c, t), db = d->b->dunit;
    UP_TRY(b->ops->xent_bwd(b, &(up_xent_grad){.z = z,
                                               .first = t->j,
                                               .truth = truth_of(d, t),
                                               .state = up_view_rows(c->state, t->i, t->n),
                                               .weight = weight,
                                               .scale = c->scale,
                                               .dz = z}));
    if (d->head) UP_TRY(head_bwd(c, d, t));
    return b->ops->logits_bwd(
        b, &(up_logits_grad){.a = up_view_rows(d->a->unit, t->i, t->n),
                             .b = up_view_rows(d->b->unit, t->j, t->m),
                             .log_scale = temperature(c),
                             .alpha = alpha_of(c, d),
                             .dz = z,
                             .da = up_view_rows(c->da, 0, t->n),
                             .db = up_view_present(db) ? up_view_rows(db, t->j, t->m) : (up_view){0},
                             .add_a = t->j > 0,
                             .add_b = d->b->has_dunit || t->i > 0,
                             .scratch = c->scratch_view});
}

/* After the last tile of a block of queries: temperature, alpha, and the queries' own gradient. */
static up_status block_bwd(up_criterion *c, const direction *d, const tile *t) {
    up_backend *b = backend_of(c);
    const up_params *p = &c->model->params;
    up_view sum = d->a->dunit;
    return b->ops->logits_scale_bwd(
        b, &(up_logits_scale_grad){.a = up_view_rows(d->a->unit, t->i, t->n),
                                   .da = up_view_rows(c->da, 0, t->n),
                                   .log_scale = temperature(c),
                                   .alpha = alpha_of(c, d),
                                   .dlog_scale = up_gradient(c->gradients, p->temperature[c->loss.task]),
                                   .dalpha = up_gradient(c->gradients, d->head ? p->head_alpha : -1),
                                   .sum = up_view_present(sum) ? up_view_rows(sum, t->i, t->n)
                                                               : up_view_rows(c->da, 0, t->n),
                                   .add = up_view_present(sum) && d->a->has_dunit,
                                   .scratch = c->scratch_view});
}

/* A block of queries against all targets, there and back. The only tile there is needs no second computation.
 */
static up_status block(up_criterion *c, const direction *d, int64_t i, float weight) {
    int64_t n = d->a->rows - i < TILE_ROWS ? d->a->rows - i : TILE_ROWS, targets = d->b->rows;
    tile t = {i, n, 0, 0};
    for (t.j = 0; t.j < targets; t.j += TILE_COLUMNS) {
        t.m = targets - t.j < TILE_COLUMNS ? targets - t.j : TILE_COLUMNS;
        UP_TRY(tile_logits(c, d, &t));
        UP_TRY(tile_loss(c, d, &t));
    }
    if (!c->gradients) return UP_OK;
    for (t.j = 0; t.j < targets; t.j += TILE_COLUMNS) {
        t.m = targets - t.j < TILE_COLUMNS ? targets - t.j : TILE_COLUMNS;
        if (targets > TILE_COLUMNS) UP_TRY(tile_logits(c, d, &t));
        UP_TRY(tile_bwd(c, d, &t, weight));
    }
    return block_bwd(c, d, &t);
}

static up_status compare(up_criterion *c, direction *d) {
    int directions = c->loss.symmetric ? 2 : 1;
    float weight = c->loss.weight / (float)((c->counted ? c->counted : 1) * directions);
    for (int64_t i = 0; i < d->a->rows; i += TILE_ROWS) UP_TRY(block(c, d, i, weight));
    if (!c->gradients) return UP_OK;
    d->a->has_dunit |= up_view_present(d->a->dunit);
    d->b->has_dunit |= up_view_present(d->b->dunit);
    d->a->has_draw |= d->head && up_view_present(d->a->draw);
    return UP_OK;
}

/* Where gradients go: two places, and a third for what a head sends. */
static up_status check_features(const up_criterion *c, const up_features *x, const up_features *y, int head) {
    if (x == y || x->width != c->model->config.width || y->width != x->width)
        return up_fail(UP_ERR_ARGUMENT, "loss",
                       "features of width %lld and %lld; wanted two, of the model's %d", (long long)x->width,
                       (long long)y->width, c->model->config.width);
    if (head && c->gradients && x->with_gradients && !x->with_head)
        return up_fail(UP_ERR_ARGUMENT, "loss", "the inputs' features were made for a model without a head");
    return UP_OK;
}

/* One direction, or both. */
static up_status compare_ways(up_criterion *c, up_features *x, up_features *y, const up_loss *loss) {
    direction there = {.a = x, .b = y, .loss = result(c, 0), .correct = result(c, 1), .head = loss->head};
    there.truth = (up_truth){.index = c->index,
                             .share = c->shares,
                             .soft = c->soft_view,
                             .group_x = c->group_x,
                             .group_y = c->group_y,
                             .smoothing = loss->smoothing};
    UP_TRY(compare(c, &there));
    if (!loss->symmetric) return UP_OK;
    direction back = {.a = y, .b = x, .loss = result(c, 2)};
    back.truth = (up_truth){
        .index = c->index, .group_x = c->group_y, .group_y = c->group_x, .smoothing = loss->smoothing};
    return compare(c, &back);
}

up_status up_criterion_compare(up_criterion *c, up_features *x, up_features *y, const up_loss *loss) {
    UP_GIVEN(c, x, y, loss);
    c->compared = 0;
    UP_TRY(check_loss(c, loss, x->rows, y->rows));
    UP_TRY(check_features(c, x, y, loss->head));
    c->loss = *loss;
    c->queries = x->rows;
    c->targets = y->rows;
    count_rows(c);
    UP_TRY(make_room(c));
    UP_TRY(upload_truth(c, loss));
    UP_TRY(compare_ways(c, x, y, loss));
    c->compared = 1;
    return UP_OK;
}

/* ---- values ---- */

struct up_loss_read {
    up_backend *backend;
    up_fetch *fetch;
    size_t bytes;
    float *values; /* [3 Q] */
    int begun;     /* 1: a value is under way */
    int64_t queries;
    int counted, symmetric;
    double weight;
};

up_status up_loss_read_create(up_model *model, up_loss_read **out) {
    UP_GIVEN(model, out);
    up_loss_read *r = calloc(1, sizeof *r);
    *out = r;
    if (!r) return up_fail(UP_ERR_MEMORY, "loss", "%zu bytes wanted", sizeof *r);
    r->backend = model->backend;
    return UP_OK;
}

void up_loss_read_free(up_loss_read *r) {
    if (!r) return;
    r->backend->ops->fetch_free(r->backend, r->fetch);
    free(r->values);
    free(r);
}

static up_status grow_read(up_loss_read *r, size_t bytes) {
    up_backend *b = r->backend;
    if (bytes <= r->bytes) return UP_OK;
    b->ops->fetch_free(b, r->fetch);
    free(r->values);
    r->fetch = NULL;
    r->bytes = 0;
    r->values = malloc(2 * bytes);
    if (!r->values) return up_fail(UP_ERR_MEMORY, "loss", "%zu bytes wanted", 2 * bytes);
    UP_TRY(b->ops->fetch_create(b, 2 * bytes, &r->fetch));
    r->bytes = 2 * bytes;
    return UP_OK;
}

up_status up_loss_read_begin(up_loss_read *r, const up_criterion *c) {
    UP_GIVEN(r, c);
    r->begun = 0;
    if (!c->compared) return up_fail(UP_ERR_ARGUMENT, "loss", "nothing was compared, or not to its end");
    UP_TRY(grow_read(r, 3 * (size_t)c->queries * sizeof(float)));
    r->queries = c->queries;
    r->counted = c->counted;
    r->symmetric = c->loss.symmetric;
    r->weight = (double)c->loss.weight;
    UP_TRY(r->backend->ops->fetch_begin(r->backend, r->fetch, c->results));
    r->begun = 1;
    return UP_OK;
}

static double sum(const float *x, int64_t n) {
    double total = 0;
    for (int64_t i = 0; i < n; i++) total += (double)x[i];
    return total;
}

up_status up_loss_read_end(up_loss_read *r, up_loss_value *value) {
    UP_GIVEN(r, value);
    int64_t n = r->queries;
    double rows = r->counted ? r->counted : 1;
    if (!r->begun) return up_fail(UP_ERR_ARGUMENT, "loss", "no value is on its way to the host");
    r->begun = 0;
    UP_TRY(r->backend->ops->fetch_end(r->backend, r->fetch, r->values));
    double mean = sum(r->values, n) / rows;
    if (r->symmetric) mean = (mean + sum(r->values + 2 * n, n) / rows) / 2;
    *value = (up_loss_value){
        .loss = r->weight * mean, .accuracy = sum(r->values + n, n) / rows, .rows = r->counted};
    return UP_OK;
}

up_status up_criterion_value(const up_criterion *c, up_loss_value *value) {
    UP_GIVEN(c, value);
    up_loss_read *r = NULL;
    UP_TRY(up_loss_read_create(c->model, &r));
    up_status status = up_loss_read_begin(r, c);
    if (status == UP_OK) status = up_loss_read_end(r, value);
    up_loss_read_free(r);
    return status;
}

up_view up_criterion_rows(const up_criterion *c) {
    if (!c) return (up_view){0};
    return result(c, 0);
}

/* loss.c - equation 3: softmax cross-entropy over cos(f(x), f(y)) / tau, for a shared target set or,
 * in-batch, in both directions. Inputs and targets are the first Q and the next V rows of the unit features.
 */
#include "ref/model/run.h"

#include <math.h>
#include <stdlib.h>

static up_view unit_queries(const up_run *r, up_view rows) {
    return up_view_rows(rows, 0, r->queries);
}
static up_view unit_targets(const up_run *r, up_view rows) {
    return up_view_rows(rows, r->queries, r->targets);
}

static up_view temperature(const up_run *r) {
    return up_weight(r, r->model->params.temperature[r->last_loss.task]);
}

static up_status check_loss(const up_run *r, const up_loss *loss) {
    if (!r->training) return up_fail(UP_ERR_ARGUMENT, "loss", "this run was made for inference");
    if (r->stage < 1) return up_fail(UP_ERR_ARGUMENT, "loss", "no forward pass yet");
    if (loss->task < 0 || loss->task >= r->model->config.tasks)
        return up_fail(UP_ERR_ARGUMENT, "loss", "task %d, the model has %d", loss->task,
                       r->model->config.tasks);
    if (!loss->labels == !loss->soft)
        return up_fail(UP_ERR_ARGUMENT, "loss", "wants either labels or soft targets");
    if (!r->queries || !r->targets)
        return up_fail(UP_ERR_ARGUMENT, "loss", "nothing to compare: %d inputs, %d targets", r->queries,
                       r->targets);
    if (loss->symmetric && (r->queries != r->targets || loss->soft))
        return up_fail(UP_ERR_ARGUMENT, "loss", "both directions need as many inputs as targets, and labels");
    for (int i = 0; loss->labels && i < r->queries; i++) {
        if (loss->labels[i] < -1 || loss->labels[i] >= r->targets)
            return up_fail(UP_ERR_ARGUMENT, "loss", "label %d of %d targets", loss->labels[i], r->targets);
        if (loss->symmetric && loss->labels[i] != i)
            return up_fail(UP_ERR_ARGUMENT, "loss", "both directions need the labels 0, 1, 2, ...");
    }
    return UP_OK;
}

/* Few losses have soft targets, so their [Q, V] lies outside the arena. */
static up_status upload_soft(up_run *r, const float *soft) {
    up_backend *b = r->model->backend;
    size_t bytes = (size_t)r->queries * (size_t)r->targets * sizeof *soft;
    if (bytes > r->soft_bytes) {
        b->ops->release(b, r->soft_targets);
        r->soft_targets = NULL;
        r->soft_bytes = 0;
        UP_TRY(b->ops->alloc(b, bytes, &r->soft_targets));
        r->soft_bytes = bytes;
    }
    r->soft = up_view_at(r->soft_targets, UP_F32, 0, r->queries, r->targets);
    return b->ops->upload(b, r->soft, soft);
}

static up_status upload_targets(up_run *r, const up_loss *loss) {
    up_backend *b = r->model->backend;
    r->counted = r->queries;
    r->soft = (up_view){0};
    if (loss->soft) return upload_soft(r, loss->soft);
    for (int i = 0; i < r->queries; i++) r->counted -= loss->labels[i] < 0;
    return b->ops->upload(b, r->labels, loss->labels);
}

static up_status similarities(up_run *r) {
    up_backend *b = r->model->backend;
    up_view x = unit_queries(r, r->unit), y = unit_targets(r, r->unit);
    UP_TRY(b->ops->logits(b, &(up_logits_args){.a = x, .b = y, .log_scale = temperature(r), .z = r->logits}));
    if (!r->last_loss.symmetric) return UP_OK;
    return b->ops->logits(
        b, &(up_logits_args){.a = y, .b = x, .log_scale = temperature(r), .z = r->back_logits});
}

static up_status cross_entropy(up_run *r) {
    up_backend *b = r->model->backend;
    const up_loss *loss = &r->last_loss;
    up_view labels = loss->labels ? r->labels : (up_view){0};
    UP_TRY(b->ops->xent(b, &(up_xent_args){.z = r->logits,
                                           .targets = labels,
                                           .soft = r->soft,
                                           .smoothing = loss->smoothing,
                                           .loss = r->loss,
                                           .lse = r->lse,
                                           .correct = r->correct}));
    if (!loss->symmetric) return UP_OK;
    return b->ops->xent(b, &(up_xent_args){.z = r->back_logits,
                                           .targets = labels,
                                           .smoothing = loss->smoothing,
                                           .loss = r->back_loss,
                                           .lse = r->back_lse});
}

static up_status sum_column(up_run *r, up_view column, double *sum) {
    up_backend *b = r->model->backend;
    float *values = malloc((size_t)column.rows * sizeof *values);
    if (!values) return up_fail(UP_ERR_MEMORY, "loss", "%lld values wanted", (long long)column.rows);
    up_status status = b->ops->download(b, values, column);
    *sum = 0;
    for (int64_t i = 0; i < column.rows; i++) *sum += values[i];
    free(values);
    return status;
}

static up_status read_value(up_run *r, up_loss_value *value) {
    double forward = 0, back = 0, correct = 0;
    UP_TRY(sum_column(r, r->loss, &forward));
    UP_TRY(sum_column(r, r->correct, &correct));
    if (r->last_loss.symmetric) UP_TRY(sum_column(r, r->back_loss, &back));
    double rows = r->counted ? r->counted : 1;
    double mean = r->last_loss.symmetric ? (forward + back) / (2 * rows) : forward / rows;
    *value =
        (up_loss_value){.loss = r->last_loss.weight * mean, .accuracy = correct / rows, .rows = r->counted};
    if (!isfinite(value->loss)) r->bad_loss = 1;
    return UP_OK;
}

up_status up_run_loss(up_run *r, const up_loss *loss, up_loss_value *value) {
    UP_TRY(check_loss(r, loss));
    r->last_loss = *loss;
    UP_TRY(upload_targets(r, loss));
    UP_TRY(similarities(r));
    UP_TRY(cross_entropy(r));
    r->stage = 2;
    return value ? read_value(r, value) : UP_OK;
}

/* One direction: logits z of queries a against targets b; sets da and db. z is overwritten by its gradient.
 */
static up_status direction_bwd(up_run *r, up_view z, up_view lse, up_view a, up_view b_rows, float weight,
                               up_view da, up_view db) {
    up_backend *b = r->model->backend;
    const up_loss *loss = &r->last_loss;
    up_view labels = loss->labels ? r->labels : (up_view){0};
    UP_TRY(b->ops->xent_bwd(b, &(up_xent_grad){.z = z,
                                               .targets = labels,
                                               .soft = r->soft,
                                               .lse = lse,
                                               .smoothing = loss->smoothing,
                                               .weight = weight,
                                               .dz = z}));
    return b->ops->logits_bwd(
        b, &(up_logits_grad){.a = a,
                             .b = b_rows,
                             .log_scale = temperature(r),
                             .dz = z,
                             .da = da,
                             .db = db,
                             .dlog_scale = up_grad(r, r->model->params.temperature[loss->task]),
                             .scratch = r->scratch});
}

/* dL/d(unit features) into r->grad_unit. L = weight * mean over rows, halved for each of two directions. */
static up_status loss_bwd(up_run *r) {
    up_backend *b = r->model->backend;
    const up_loss *loss = &r->last_loss;
    float weight = loss->weight / (float)(r->counted ? r->counted : 1) * (loss->symmetric ? 0.5f : 1.0f);
    up_view x = unit_queries(r, r->unit), y = unit_targets(r, r->unit);
    UP_TRY(direction_bwd(r, r->logits, r->lse, x, y, weight, unit_queries(r, r->grad_unit),
                         unit_targets(r, r->grad_unit)));
    if (!loss->symmetric) return UP_OK;
    UP_TRY(direction_bwd(r, r->back_logits, r->back_lse, y, x, weight, unit_targets(r, r->grad_back),
                         unit_queries(r, r->grad_back)));
    return b->ops->residual(
        b, &(up_residual_args){.x = r->grad_unit, .branch = r->grad_back, .y = r->grad_unit});
}

up_status up_run_backward(up_run *r, up_layer_done layer_done, void *context) {
    if (r->stage < 2) return up_fail(UP_ERR_ARGUMENT, "backward", "no loss yet");
    r->stage = 0; /* the logits are overwritten: a second backward pass needs a new forward pass */
    UP_TRY(loss_bwd(r));
    UP_TRY(up_similarity_backward(r));
    UP_TRY(up_encoder_backward(r, layer_done, context));
    UP_TRY(up_embed_backward(r));
    if (layer_done) layer_done(context, -1);
    return UP_OK;
}

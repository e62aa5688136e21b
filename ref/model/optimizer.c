/* optimizer.c - one AdamW step over what learns (paper section 4.2: AdamW, weight decay, clipping by the
 * global norm). What steers it stays on the device; the host reads it afterwards, for metrics and
 * checkpoints. */
#include "uniperceiver/optimizer.h"
#include "ref/given.h"
#include "ref/model/model.h"

#include <math.h>
#include <stdlib.h>

/* Numbers of a step on their way to the host; the latest and the one before it. */
enum { READS = 2 };

struct up_optimizer {
    up_gradients *gradients; /* borrowed */
    up_model *model;         /* of the gradients */
    up_adamw adamw;
    up_buffer *moments; /* f32 [2, total] */
    up_buffer *segments;
    int64_t segment_count;
    up_buffer *rates;   /* f32 [segment_count]; NULL: 1 for all */
    up_buffer *control; /* f32 [UP_STEP_FIELDS], then a squared norm for each bucket */
    up_buffer *scratch;
    up_view scratch_view;
    unsigned char *normed; /* [buckets] 1: its norm was taken since the last step */
    up_fetch *reads[READS];
    int64_t steps; /* taken, skipped ones counted: which of the reads are there */
};

static up_backend *backend_of(const up_optimizer *o) {
    return o->model->backend;
}
static up_view control_of(const up_optimizer *o) {
    return up_view_at(o->control, UP_F32, 0, 1, UP_STEP_FIELDS);
}
static up_view norms_of(const up_optimizer *o) {
    return up_view_at(o->control, UP_F32, UP_SEGMENT_UNIT, 1, up_gradients_buckets(o->gradients));
}

/* ---- what learns, as runs of neighbours with one decay, and one rate ---- */

static int decays_by_layer(const up_optimizer *o) {
    return o->adamw.layer_decay > 0 && o->adamw.layer_decay != 1;
}

/* The bucket that an element of the state lies in: as many steps down from what lies behind the encoder. */
static int bucket_at(const up_optimizer *o, int64_t place) {
    int bucket = 0;
    for (; bucket + 1 < up_gradients_buckets(o->gradients); bucket++) {
        up_view next = up_gradients_bucket(o->gradients, bucket + 1);
        if (place < next.offset) break;
    }
    return bucket;
}

static int same_rate(const up_optimizer *o, const int32_t *run, const int32_t *next) {
    if (!decays_by_layer(o)) return 1;
    return bucket_at(o, (int64_t)run[UP_SEGMENT_STATE] * UP_SEGMENT_UNIT) ==
           bucket_at(o, (int64_t)next[UP_SEGMENT_STATE] * UP_SEGMENT_UNIT);
}

static int joins(const up_optimizer *o, const int32_t *run, const int32_t *next) {
    return same_rate(o, run, next) &&
           run[UP_SEGMENT_WEIGHT] + run[UP_SEGMENT_COUNT] == next[UP_SEGMENT_WEIGHT] &&
           run[UP_SEGMENT_STATE] + run[UP_SEGMENT_COUNT] == next[UP_SEGMENT_STATE] &&
           run[UP_SEGMENT_DECAY] == next[UP_SEGMENT_DECAY];
}

static int by_state(const void *a, const void *b) {
    const int32_t *x = a, *y = b;
    return (x[UP_SEGMENT_STATE] > y[UP_SEGMENT_STATE]) - (x[UP_SEGMENT_STATE] < y[UP_SEGMENT_STATE]);
}

static int64_t list_segments(const up_optimizer *o, int32_t (*list)[UP_SEGMENT_FIELDS]) {
    const up_params *p = &o->model->params;
    int64_t found = 0, count = 0;
    for (int i = 0; i < p->count; i++) {
        int64_t place = up_gradients_place(o->gradients, i), unit = UP_SEGMENT_UNIT;
        if (place < 0) continue;
        int32_t *s = list[found++];
        s[UP_SEGMENT_WEIGHT] = (int32_t)(p->list[i].offset / unit);
        s[UP_SEGMENT_STATE] = (int32_t)(place / unit);
        s[UP_SEGMENT_COUNT] = (int32_t)(up_whole_units(p->list[i].rows * p->list[i].cols) / unit);
        s[UP_SEGMENT_DECAY] = p->list[i].decay;
    }
    qsort(list, (size_t)found, sizeof *list, by_state);
    for (int64_t i = 0; i < found; i++) {
        if (count && joins(o, list[count - 1], list[i])) {
            list[count - 1][UP_SEGMENT_COUNT] += list[i][UP_SEGMENT_COUNT];
            continue;
        }
        for (int f = 0; f < UP_SEGMENT_FIELDS; f++) list[count][f] = list[i][f];
        count++;
    }
    return count;
}

/* What the rate of each segment is multiplied by. */
static up_status make_rates(up_optimizer *o, const int32_t (*list)[UP_SEGMENT_FIELDS]) {
    up_backend *b = backend_of(o);
    if (!decays_by_layer(o)) return UP_OK;
    float *rates = malloc((size_t)o->segment_count * sizeof *rates);
    if (!rates) return up_fail(UP_ERR_MEMORY, "optimizer", "%lld rates wanted", (long long)o->segment_count);
    for (int64_t i = 0; i < o->segment_count; i++) {
        int bucket = bucket_at(o, (int64_t)list[i][UP_SEGMENT_STATE] * UP_SEGMENT_UNIT);
        rates[i] = (float)pow(o->adamw.layer_decay, bucket);
    }
    up_status status = b->ops->alloc(b, (size_t)o->segment_count * sizeof *rates, &o->rates);
    if (status == UP_OK)
        status = b->ops->upload(b, up_view_at(o->rates, UP_F32, 0, o->segment_count, 1), rates);
    free(rates);
    return status;
}

static up_status make_segments(up_optimizer *o) {
    up_backend *b = backend_of(o);
    int32_t(*list)[UP_SEGMENT_FIELDS] = malloc((size_t)o->model->params.count * sizeof *list);
    if (!list) return up_fail(UP_ERR_MEMORY, "optimizer", "%d tensors to list", o->model->params.count);
    o->segment_count = list_segments(o, list);
    up_status status = b->ops->alloc(b, (size_t)o->segment_count * sizeof *list, &o->segments);
    if (status == UP_OK)
        status =
            b->ops->upload(b, up_view_at(o->segments, UP_I32, 0, o->segment_count, UP_SEGMENT_FIELDS), list);
    if (status == UP_OK) status = make_rates(o, (const int32_t(*)[UP_SEGMENT_FIELDS])list);
    free(list);
    return status;
}

/* ---- life ---- */

static up_status make_state(up_optimizer *o) {
    up_backend *b = backend_of(o);
    int64_t total = up_gradients_all(o->gradients).cols;
    int buckets = up_gradients_buckets(o->gradients);
    up_op_dims dims = {.rows = 1, .in = total, .out = total};
    size_t scratch = 0, none = 0;
    UP_TRY(up_backend_ask(b, UP_OP_SQNORM, &dims, &scratch));
    UP_TRY(up_backend_ask(b, UP_OP_STEP, &dims, &none));
    UP_TRY(up_backend_ask(b, UP_OP_ADAMW, &dims, &none));
    o->normed = calloc((size_t)buckets, 1);
    if (!o->normed) return up_fail(UP_ERR_MEMORY, "optimizer", "%d buckets wanted", buckets);
    UP_TRY(b->ops->alloc(b, 2 * (size_t)total * sizeof(float), &o->moments));
    UP_TRY(b->ops->fill(b, up_view_at(o->moments, UP_F32, 0, 2, total), 0));
    UP_TRY(b->ops->alloc(b, (UP_SEGMENT_UNIT + (size_t)buckets) * sizeof(float), &o->control));
    UP_TRY(b->ops->alloc(b, scratch, &o->scratch));
    o->scratch_view = up_view_at(o->scratch, UP_U8, 0, 1, (int64_t)scratch);
    for (int i = 0; i < READS; i++)
        UP_TRY(b->ops->fetch_create(b, UP_STEP_FIELDS * sizeof(float), &o->reads[i]));
    return make_segments(o);
}

up_status up_optimizer_create(up_gradients *gradients, const up_adamw *adamw, up_optimizer **out) {
    UP_GIVEN(gradients, adamw, out);
    up_status status = UP_OK;
    up_optimizer *o = calloc(1, sizeof *o);
    *out = NULL;
    if (!o) return up_fail(UP_ERR_MEMORY, "optimizer", "%zu bytes wanted", sizeof *o);
    o->gradients = gradients;
    o->model = up_gradients_model(gradients);
    o->adamw = *adamw;
    if (o->model->let_go)
        UP_GO(up_fail(UP_ERR_ARGUMENT, "optimizer", "the model's weights lie in memory that is not its own"));
    UP_GO(make_state(o));
    UP_GO(up_optimizer_set(
        o, &(up_optimizer_state){.loss_scale = adamw->loss_scale > 0 ? adamw->loss_scale : 1}));
    *out = o;
    o = NULL;
done:
    up_optimizer_free(o);
    return status;
}

void up_optimizer_free(up_optimizer *o) {
    if (!o) return;
    up_backend *b = backend_of(o);
    up_buffer *buffers[] = {o->moments, o->segments, o->rates, o->control, o->scratch};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) b->ops->release(b, buffers[i]);
    for (int i = 0; i < READS; i++) b->ops->fetch_free(b, o->reads[i]);
    free(o->normed);
    free(o);
}

/* ---- a step ---- */

up_view up_optimizer_scale(const up_optimizer *o) {
    if (!o) return (up_view){0};
    return up_view_cols(control_of(o), UP_STEP_SCALE, 1);
}

up_status up_optimizer_bucket_done(void *optimizer, int bucket) {
    UP_GIVEN(optimizer);
    up_optimizer *o = optimizer;
    if (bucket < 0 || bucket >= up_gradients_buckets(o->gradients))
        return up_fail(UP_ERR_ARGUMENT, "optimizer", "no bucket %d", bucket);
    up_backend *b = backend_of(o);
    up_view x = up_gradients_bucket(o->gradients, bucket), out = up_view_cols(norms_of(o), bucket, 1);
    o->normed[bucket] = 0;
    if (x.cols)
        UP_TRY(b->ops->sqnorm(b, &(up_sqnorm_args){.x = x, .out = out, .scratch = o->scratch_view}));
    else
        UP_TRY(b->ops->fill(b, out, 0));
    o->normed[bucket] = 1;
    return UP_OK;
}

static up_status set_rate(up_optimizer *o, double lr) {
    up_backend *b = backend_of(o);
    float value = (float)lr;
    return b->ops->upload(b, up_view_cols(control_of(o), UP_STEP_LR, 1), &value);
}

up_status up_optimizer_step(up_optimizer *o, double lr) {
    UP_GIVEN(o);
    up_backend *b = backend_of(o);
    const up_adamw *a = &o->adamw;
    UP_TRY(set_rate(o, lr));
    for (int i = 0; i < up_gradients_buckets(o->gradients); i++) {
        if (!o->normed[i]) UP_TRY(up_optimizer_bucket_done(o, i));
        o->normed[i] = 0;
    }
    UP_TRY(b->ops->step(b, &(up_step_args){.sqnorms = norms_of(o),
                                           .control = control_of(o),
                                           .max_norm = a->max_norm,
                                           .good_steps = a->good_steps,
                                           .min_scale = a->min_scale}));
    UP_TRY(b->ops->adamw(
        b, &(up_adamw_args){
               .segments = up_view_at(o->segments, UP_I32, 0, o->segment_count, UP_SEGMENT_FIELDS),
               .rates = o->rates ? up_view_at(o->rates, UP_F32, 0, o->segment_count, 1) : (up_view){0},
               .weights = up_view_at(o->model->weights, UP_F32, 0, 1, o->model->own),
               .grad = up_gradients_all(o->gradients),
               .m = up_optimizer_moments(o, 1),
               .v = up_optimizer_moments(o, 2),
               .control = control_of(o),
               .beta1 = a->beta1,
               .beta2 = a->beta2,
               .eps = a->eps,
               .decay = a->decay}));
    up_model_changed(o->model);
    UP_TRY(b->ops->fetch_begin(b, o->reads[o->steps % READS], control_of(o)));
    o->steps++;
    return UP_OK;
}

up_status up_optimizer_value(up_optimizer *o, int late, up_step_value *value, int *known) {
    UP_GIVEN(o, value, known);
    up_backend *b = backend_of(o);
    float control[UP_STEP_FIELDS];
    int64_t step = o->steps - 1 - (late ? 1 : 0);
    *value = (up_step_value){0};
    *known = step >= 0;
    if (!*known) return UP_OK;
    UP_TRY(b->ops->fetch_end(b, o->reads[step % READS], control));
    value->gradient_norm = (double)control[UP_STEP_NORM];
    value->loss_scale = (double)control[UP_STEP_SCALE];
    value->steps = (int64_t)control[UP_STEP_COUNT];
    value->skipped = control[UP_STEP_SKIPPED] != 0;
    return UP_OK;
}

/* ---- state ---- */

up_view up_optimizer_moments(const up_optimizer *o, int order) {
    if (!o || order < 1 || order > 2) return (up_view){0};
    int64_t total = up_gradients_all(o->gradients).cols;
    return up_view_at(o->moments, UP_F32, (order - 1) * total, 1, total);
}

up_view up_optimizer_moment(const up_optimizer *o, int order, int param) {
    if (!o) return (up_view){0};
    int64_t place = up_gradients_place(o->gradients, param);
    if (place < 0 || order < 1 || order > 2) return (up_view){0};
    const up_param *p = &o->model->params.list[param];
    up_view all = up_optimizer_moments(o, order);
    return up_view_at(o->moments, UP_F32, all.offset + place, p->rows, p->cols);
}

up_status up_optimizer_get(up_optimizer *o, up_optimizer_state *state) {
    UP_GIVEN(o, state);
    up_backend *b = backend_of(o);
    float control[UP_STEP_FIELDS];
    UP_TRY(b->ops->download(b, control, control_of(o)));
    state->steps = (int64_t)control[UP_STEP_COUNT];
    state->loss_scale = (double)control[UP_STEP_SCALE];
    state->good_steps = (int64_t)control[UP_STEP_GOOD];
    return UP_OK;
}

up_status up_optimizer_set(up_optimizer *o, const up_optimizer_state *state) {
    UP_GIVEN(o, state);
    up_backend *b = backend_of(o);
    float control[UP_STEP_FIELDS] = {0};
    control[UP_STEP_COUNT] = (float)state->steps;
    control[UP_STEP_SCALE] = (float)state->loss_scale;
    control[UP_STEP_GOOD] = (float)state->good_steps;
    return b->ops->upload(b, control_of(o), control);
}

int64_t up_optimizer_count(const up_optimizer *o, int64_t counts[UP_GROUP_COUNT]) {
    if (!o) return 0;
    return up_gradients_count(o->gradients, counts);
}

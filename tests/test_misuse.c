/* test_misuse.c - what a wrong or failed call leaves behind: the next one is refused or right, never UP_OK
 * with what the last one was at. Operations and memory fail on purpose, by a table of slots around the
 * reference's or the guard's. */
#include "ref/model/model.h"
#include "tests/guard.h"
#include "tests/support.h"
#include "uniperceiver/decoder.h"
#include "uniperceiver/loss.h"
#include "uniperceiver/optimizer.h"
#include "uniperceiver/target_set.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const up_suite_name = "misuse";

/* ---- a small model on a backend that fails when it is told to ---- */

typedef struct world {
    up_backend *backend;
    const up_backend_ops *own; /* of the backend; `failing` stands before it */
    up_config config;
    up_model *model;
    up_encoder *encoder;
    up_features x;
    up_batch batch;
} world;

static up_backend_ops failing;
static const up_backend_ops *behind;
static int fail_after = -1; /* so many calls succeed, then one fails; negative: all succeed */

static int fails(void) {
    return fail_after >= 0 && fail_after-- == 0;
}
static up_status attention_or_not(up_backend *b, const up_attention_args *a) {
    return fails() ? up_fail(UP_ERR_BACKEND, "attention", "told to fail") : behind->attention(b, a);
}
static up_status sqnorm_or_not(up_backend *b, const up_sqnorm_args *a) {
    return fails() ? up_fail(UP_ERR_BACKEND, "sqnorm", "told to fail") : behind->sqnorm(b, a);
}
static up_status xent_or_not(up_backend *b, const up_xent_args *a) {
    return fails() ? up_fail(UP_ERR_BACKEND, "xent", "told to fail") : behind->xent(b, a);
}
static up_status alloc_or_not(up_backend *b, size_t bytes, up_buffer **out) {
    return fails() ? up_fail(UP_ERR_MEMORY, "alloc", "told to fail") : behind->alloc(b, bytes, out);
}

static void small_config(up_config *c) {
    UP_ASSERT_OK(up_config_preset("base", c));
    c->layers = 2;
    c->width = 16;
    c->heads = 2;
    c->ffn = 24;
    c->vocabulary = 40;
    c->text_positions = 12;
    c->image_size = 8;
    c->patch = 4;
    c->frames = 2;
}

static void put_texts(up_batch *b, const up_config *config, int count) {
    UP_ASSERT_OK(up_batch_begin(b, config));
    for (int i = 0; i < count; i++) {
        const int32_t ids[] = {i, 20 - i, 3};
        UP_ASSERT_OK(up_batch_open(b, UP_SIDE_INPUT, 1));
        UP_ASSERT_OK(up_batch_text(b, ids, 3, 0, NULL));
        UP_ASSERT_OK(up_batch_close(b));
    }
}

/* `backend` becomes the world's. `classes`: of a linear head. */
static void open_world(world *w, up_backend *backend, int classes) {
    *w = (world){.backend = backend, .own = backend->ops};
    fail_after = -1;
    small_config(&w->config);
    w->config.classes = classes;
    UP_ASSERT_OK(up_model_create(backend, &w->config, 3, &w->model));
    UP_ASSERT_OK(up_encoder_create(w->model, NULL, &w->encoder));
    UP_ASSERT_OK(up_features_create(w->model, 0, &w->x));
    put_texts(&w->batch, &w->config, 4);
}

static void close_world(world *w) {
    up_batch_free(&w->batch);
    up_features_free(&w->x);
    up_encoder_free(w->encoder);
    up_model_destroy(w->model);
    w->backend->ops = w->own;
    up_backend_free(w->backend);
}

static up_backend *ref(void) {
    up_backend *b = NULL;
    UP_ASSERT_OK(up_backend_ref(&b));
    return b;
}

/* From here on a slot fails when fail_after has run out. */
static void let_fail(world *w) {
    behind = w->own;
    failing = *w->own;
    w->backend->ops = &failing;
}

static up_status encode(world *w, up_encoder *e, up_features *x) {
    UP_TRY(up_encoder_stage(e, &w->batch, NULL));
    UP_TRY(up_features_resize(x, w->batch.readouts));
    UP_TRY(up_encoder_forward(e, x->raw));
    return up_features_normalize(x);
}

static float *download(const world *w, up_view v) {
    float *out = malloc((size_t)(v.rows * v.cols + 1) * sizeof *out);
    UP_ASSERT_OK(w->backend->ops->download(w->backend, out, v));
    return out;
}

/* Equal to the bit; `wanted` is freed with the download. */
static int same(const world *w, up_view v, float *wanted) {
    float *got = download(w, v);
    int equal = !memcmp(got, wanted, (size_t)(v.rows * v.cols) * sizeof *got);
    free(got);
    free(wanted);
    return equal;
}

/* ---- passes ---- */

/* Many failures in a row: a region that stayed open would lie around the next one, and the guard has room for
 * sixteen. */
static void failed_passes_close_their_regions(void) {
    world w;
    up_backend *guard = NULL;
    UP_ASSERT_OK(up_backend_guard(&guard));
    open_world(&w, guard, 0);
    UP_ASSERT_OK(encode(&w, w.encoder, &w.x));
    float *wanted = download(&w, w.x.unit);
    let_fail(&w);
    failing.attention = attention_or_not;
    for (int i = 0; i < 20; i++) {
        fail_after = i % 2; /* in either layer */
        CU_ASSERT_EQUAL(encode(&w, w.encoder, &w.x), UP_ERR_BACKEND);
        CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), "told to fail"));
        CU_ASSERT_EQUAL(up_encoder_pass(w.encoder), 0);
    }
    fail_after = -1;
    UP_ASSERT_OK(encode(&w, w.encoder, &w.x));
    CU_ASSERT(same(&w, w.x.unit, wanted));
    close_world(&w);
}

static up_status no_bucket(void *context, int bucket) {
    int *calls = context;
    return ++*calls > 1 ? up_fail(UP_ERR_BACKEND, "bucket", "%d is refused", bucket) : UP_OK;
}

static void failed_ways_back_close_their_regions(void) {
    world w;
    up_backend *guard = NULL;
    up_gradients *g = NULL;
    up_encoder *e = NULL;
    up_features x;
    UP_ASSERT_OK(up_backend_guard(&guard));
    open_world(&w, guard, 0);
    UP_ASSERT_OK(up_gradients_create(w.model, 0, &g));
    UP_ASSERT_OK(up_encoder_create(w.model, &(up_encoder_options){.gradients = g}, &e));
    UP_ASSERT_OK(up_features_create(w.model, 1, &x));
    for (int i = 0; i < 20; i++) {
        int calls = 0;
        UP_ASSERT_OK(encode(&w, e, &x));
        UP_ASSERT_OK(up_features_back(&x));
        CU_ASSERT_EQUAL(up_encoder_backward(e, x.draw, no_bucket, &calls), UP_ERR_BACKEND);
        CU_ASSERT_EQUAL(calls, 2);
        CU_ASSERT_EQUAL(up_encoder_backward(e, x.draw, NULL, NULL), UP_ERR_ARGUMENT); /* once a pass */
    }
    UP_ASSERT_OK(encode(&w, e, &x));
    up_features_free(&x);
    up_encoder_free(e);
    up_gradients_free(g);
    close_world(&w);
}

/* ---- batches ---- */

static void cached_batches_belong_to_a_decoder(void) {
    world w;
    up_batch b = {0};
    up_decoder *d = NULL;
    const int32_t ids[] = {1, 2};
    open_world(&w, ref(), 0);
    UP_ASSERT_OK(up_batch_begin(&b, &w.config));
    UP_ASSERT_OK(up_batch_continue(&b, UP_SIDE_INPUT, 1000, 50));
    UP_ASSERT_OK(up_batch_text(&b, ids, 2, 0, NULL));
    UP_ASSERT_OK(up_batch_close(&b));
    UP_ASSERT_OK(up_encoder_stage(w.encoder, &w.batch, NULL));
    CU_ASSERT_EQUAL(up_encoder_stage(w.encoder, &b, NULL), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_encoder_forward(w.encoder, w.x.raw), UP_ERR_ARGUMENT); /* nor what was staged before */
    UP_ASSERT_OK(up_decoder_create(w.encoder, &d));
    CU_ASSERT_EQUAL(up_decoder_begin(d, &b, 1, 4), UP_ERR_ARGUMENT);
    put_texts(&b, &w.config, 1);
    b.readouts = 0;
    CU_ASSERT_EQUAL(up_decoder_begin(d, &b, 1, INT32_MAX), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_decoder_step(d, 1, (int[]){0}, (int[]){1}, ids, w.x.raw), UP_ERR_ARGUMENT);
    up_decoder_free(d);
    up_batch_free(&b);
    close_world(&w);
}

static void clips_have_frames(void) {
    world w;
    up_batch b = {0};
    uint8_t pixels[2 * 4 * 48] = {0};
    open_world(&w, ref(), 0);
    UP_ASSERT_OK(up_batch_begin(&b, &w.config));
    UP_ASSERT_OK(up_batch_open(&b, UP_SIDE_INPUT, 1));
    UP_ASSERT_OK(up_batch_video(&b, pixels, 2, 4, 0));
    UP_ASSERT_OK(up_batch_close(&b));
    UP_ASSERT_OK(up_encoder_stage(w.encoder, &b, NULL));
    for (int i = 0; i < b.video.count; i++) b.video.frame[i] = -1; /* no row of the temporal table */
    CU_ASSERT_EQUAL(up_encoder_stage(w.encoder, &b, NULL), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_batch_append(&b, &b, 0, 1), UP_ERR_ARGUMENT);
    up_batch_free(&b);
    close_world(&w);
}

/* Gradient of the patch projection, of a picture that came as values. */
static float *patch_gradient(world *w) {
    up_gradients *g = NULL;
    up_encoder *e = NULL;
    up_features x;
    float pixels[4 * 48];
    for (int i = 0; i < 4 * 48; i++) pixels[i] = (float)(i % 11) - 5;
    UP_ASSERT_OK(up_batch_begin(&w->batch, &w->config));
    UP_ASSERT_OK(up_batch_open(&w->batch, UP_SIDE_INPUT, 1));
    UP_ASSERT_OK(up_batch_image_values(&w->batch, pixels, 4));
    UP_ASSERT_OK(up_batch_close(&w->batch));
    UP_ASSERT_OK(up_gradients_create(w->model, 0, &g));
    UP_ASSERT_OK(up_encoder_create(w->model, &(up_encoder_options){.gradients = g}, &e));
    UP_ASSERT_OK(up_features_create(w->model, 1, &x));
    UP_ASSERT_OK(encode(w, e, &x));
    UP_ASSERT_OK(w->backend->ops->fill(w->backend, x.draw, 1));
    UP_ASSERT_OK(up_encoder_backward(e, x.draw, NULL, NULL));
    float *out = download(w, up_gradient(g, up_model_params(w->model)->patch_weight));
    up_features_free(&x);
    up_encoder_free(e);
    up_gradients_free(g);
    return out;
}

/* The guard's new memory is NaN: rows of values that no picture filled must not reach a gradient. */
static void unused_values_are_inert(void) {
    world w;
    up_backend *guard = NULL;
    UP_ASSERT_OK(up_backend_guard(&guard));
    open_world(&w, guard, 0);
    float *wanted = patch_gradient(&w);
    up_guard_static(guard, 1);
    float *got = patch_gradient(&w);
    CU_ASSERT_EQUAL(memcmp(got, wanted, 16 * 48 * sizeof *got), 0);
    CU_ASSERT(isfinite(got[0]));
    free(wanted);
    free(got);
    close_world(&w);
}

/* ---- decoding ---- */

static void a_failed_step_ends_a_decoder(void) {
    world w;
    up_batch prefix = {0};
    up_decoder *d = NULL;
    up_features x;
    const int first[] = {0, 0, 0}, crossed[] = {1, 0}, one[] = {1, 1, 1};
    const int32_t words[] = {5, 6, 7}, wrong[] = {7, 4000};
    open_world(&w, ref(), 0);
    put_texts(&prefix, &w.config, 1);
    prefix.readouts = 0;
    UP_ASSERT_OK(up_features_create(w.model, 0, &x));
    UP_ASSERT_OK(up_features_resize(&x, 2));
    UP_ASSERT_OK(up_decoder_create(w.encoder, &d));
    UP_ASSERT_OK(up_decoder_begin(d, &prefix, 2, 4));
    UP_ASSERT_OK(up_decoder_step(d, 2, first, one, words, x.raw));
    CU_ASSERT_EQUAL(up_decoder_step(d, 3, first, one, words, x.raw), UP_ERR_ARGUMENT); /* refused: no harm */
    UP_ASSERT_OK(up_decoder_step(d, 2, crossed, one, words, x.raw));
    CU_ASSERT_EQUAL(up_decoder_step(d, 2, crossed, one, wrong, x.raw),
                    UP_ERR_ARGUMENT); /* beams have moved */
    CU_ASSERT_EQUAL(up_decoder_step(d, 2, crossed, one, words, x.raw), UP_ERR_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), "failed"));
    UP_ASSERT_OK(up_decoder_begin(d, &prefix, 2, 4)); /* it can be begun anew */
    UP_ASSERT_OK(up_decoder_step(d, 2, first, one, words, x.raw));
    up_decoder_free(d);
    up_features_free(&x);
    up_batch_free(&prefix);
    close_world(&w);
}

/* ---- losses ---- */

static void a_failed_loss_has_no_value(void) {
    world w;
    up_criterion *c = NULL;
    up_features y;
    up_loss_read *read = NULL;
    up_loss_value value;
    const int32_t labels[] = {0, 1, 2, 3};
    up_loss loss = {.labels = labels, .weight = 1};
    open_world(&w, ref(), 0);
    UP_ASSERT_OK(up_features_create(w.model, 0, &y));
    UP_ASSERT_OK(encode(&w, w.encoder, &w.x));
    UP_ASSERT_OK(encode(&w, w.encoder, &y));
    UP_ASSERT_OK(up_criterion_create(w.model, NULL, (up_view){0}, &c));
    UP_ASSERT_OK(up_loss_read_create(w.model, &read));
    CU_ASSERT_EQUAL(up_criterion_value(c, &value), UP_ERR_ARGUMENT); /* nothing was compared */
    CU_ASSERT_EQUAL(up_loss_read_end(read, &value), UP_ERR_ARGUMENT);
    UP_ASSERT_OK(up_criterion_compare(c, &w.x, &y, &loss));
    UP_ASSERT_OK(up_criterion_value(c, &value));
    UP_ASSERT_OK(up_loss_read_begin(read, c));
    UP_ASSERT_OK(up_loss_read_end(read, &value));
    CU_ASSERT_EQUAL(up_loss_read_end(read, &value), UP_ERR_ARGUMENT); /* each value once */
    loss.task = 99;
    CU_ASSERT_EQUAL(up_criterion_compare(c, &w.x, &y, &loss), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_criterion_value(c, &value), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_loss_read_begin(read, c), UP_ERR_ARGUMENT);
    loss.task = 0;
    let_fail(&w);
    failing.xent = xent_or_not;
    fail_after = 0;
    CU_ASSERT_EQUAL(up_criterion_compare(c, &w.x, &y, &loss), UP_ERR_BACKEND);
    CU_ASSERT_EQUAL(up_criterion_value(c, &value), UP_ERR_ARGUMENT);
    UP_ASSERT_OK(up_criterion_compare(c, &w.x, &y, &loss));
    UP_ASSERT_OK(up_criterion_value(c, &value));
    CU_ASSERT_EQUAL(up_criterion_compare(c, &w.x, &w.x, &loss), UP_ERR_ARGUMENT); /* one for two */
    up_loss_read_free(read);
    up_criterion_free(c);
    up_features_free(&y);
    close_world(&w);
}

/* Features of a model without a head have one place for what a head and a cosine send back. */
static void a_head_wants_features_of_its_model(void) {
    world w, headless;
    up_gradients *g = NULL;
    up_criterion *c = NULL;
    up_features x, y;
    const int32_t labels[] = {0, 1, 2, 3};
    const up_loss loss = {.labels = labels, .weight = 1, .head = 1};
    open_world(&w, ref(), 4);
    open_world(&headless, ref(), 0);
    UP_ASSERT_OK(up_gradients_create(w.model, 0, &g));
    UP_ASSERT_OK(up_criterion_create(w.model, g, (up_view){0}, &c));
    UP_ASSERT_OK(up_features_create(headless.model, 1, &x));
    UP_ASSERT_OK(up_features_create(w.model, 1, &y));
    UP_ASSERT_OK(encode(&headless, headless.encoder, &x));
    UP_ASSERT_OK(encode(&w, w.encoder, &y));
    CU_ASSERT_EQUAL(up_criterion_compare(c, &x, &y, &loss), UP_ERR_ARGUMENT);
    UP_ASSERT_OK(up_criterion_compare(c, &y, &x, &loss));
    up_features_free(&x);
    up_features_free(&y);
    up_criterion_free(c);
    up_gradients_free(g);
    close_world(&headless);
    close_world(&w);
}

/* ---- target sets ---- */

typedef struct set_world {
    world w;
    up_gradients *gradients;
    up_encoder *keeping;
    up_target_set *set;
    up_set_encoders how; /* in chunks, with drop path */
} set_world;

static void open_set(set_world *s) {
    const int32_t ids[] = {3, 4, 9, 11, 12};
    open_world(&s->w, ref(), 0);
    UP_ASSERT_OK(up_gradients_create(s->w.model, 0, &s->gradients));
    UP_ASSERT_OK(
        up_encoder_create(s->w.model, &(up_encoder_options){.gradients = s->gradients}, &s->keeping));
    UP_ASSERT_OK(up_target_set_create(s->w.model, 1, 1, &s->set));
    UP_ASSERT_OK(up_target_set_fill_words(s->set, ids, 5, 10));
    s->how = (up_set_encoders){
        .chunk = s->keeping, .scout = s->w.encoder, .tokens = 6, .drop_path = 0.5, .seed = 1, .step = 1};
}

static void close_set(set_world *s) {
    up_target_set_free(s->set);
    up_encoder_free(s->keeping);
    up_gradients_free(s->gradients);
    close_world(&s->w);
}

static float *unit_of(set_world *s) {
    return download(&s->w, up_target_set_features(s->set)->unit);
}

static void features_with_other_draws_are_stale(void) {
    set_world s;
    open_set(&s);
    up_set_encoders plain = s.how, other = s.how;
    plain.drop_path = 0;
    other.seed = 2;
    UP_ASSERT_OK(up_target_set_encode(s.set, &plain));
    float *wanted = unit_of(&s);
    UP_ASSERT_OK(up_target_set_encode(s.set, &s.how));
    float *dropped = unit_of(&s);
    CU_ASSERT_NOT_EQUAL(memcmp(wanted, dropped, 5 * 16 * sizeof *wanted), 0);
    UP_ASSERT_OK(up_target_set_encode(s.set, &s.how));
    CU_ASSERT_EQUAL(up_target_set_encoded(s.set), 2 * 15); /* the same draws */
    UP_ASSERT_OK(up_target_set_encode(s.set, &other));
    CU_ASSERT_EQUAL(up_target_set_encoded(s.set), 3 * 15);
    UP_ASSERT_OK(up_target_set_encode(s.set, &s.how));
    CU_ASSERT(same(&s.w, up_target_set_features(s.set)->unit, dropped));
    UP_ASSERT_OK(up_target_set_encode(s.set, &plain)); /* as an evaluation after a step does */
    CU_ASSERT(same(&s.w, up_target_set_features(s.set)->unit, wanted));
    close_set(&s);
}

/* As a loss does. */
static void send(set_world *s) {
    up_features *y = up_target_set_features(s->set);
    UP_ASSERT_OK(s->w.backend->ops->fill(s->w.backend, y->dunit, 1));
    y->has_dunit = 1;
}

static void gradients_wait_for_the_right_way_back(void) {
    set_world s;
    open_set(&s);
    up_set_encoders other = s.how, none = s.how;
    other.step = 2;
    none.chunk = NULL;
    UP_ASSERT_OK(up_target_set_encode(s.set, &s.how));
    send(&s);
    CU_ASSERT_EQUAL(up_target_set_encode(s.set, &other), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_target_set_backward(s.set, &other, NULL, NULL), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_target_set_backward(s.set, &none, NULL, NULL), UP_ERR_ARGUMENT);
    CU_ASSERT(up_target_set_owes(s.set));
    UP_ASSERT_OK(up_target_set_backward(s.set, &s.how, NULL, NULL));
    CU_ASSERT_FALSE(up_target_set_owes(s.set));
    close_set(&s);
}

/* A set that is kept whole goes back through the pass that encoded it, and through no other one: here another
 * encoder lies where the first one was, with as many passes behind it. */
static void a_pass_is_not_taken_for_another(void) {
    set_world s;
    up_encoder *whole = NULL;
    up_encoder_options keep;
    open_set(&s);
    s.how.tokens = 100;
    keep = (up_encoder_options){.gradients = s.gradients};
    UP_ASSERT_OK(up_encoder_create(s.w.model, &keep, &whole));
    s.how.whole = whole;
    UP_ASSERT_OK(up_target_set_encode(s.set, &s.how));
    uint64_t first = up_encoder_pass(whole);
    send(&s);
    up_encoder_free(whole);
    UP_ASSERT_OK(up_encoder_create(s.w.model, &keep, &whole));
    s.how.whole = whole;
    UP_ASSERT_OK(encode(&s.w, whole, &s.w.x));
    CU_ASSERT_NOT_EQUAL(up_encoder_pass(whole), first);
    UP_ASSERT_OK(up_target_set_backward(s.set, &s.how, NULL, NULL));
    CU_ASSERT_EQUAL(up_target_set_encoded(s.set), 2 * 15); /* encoded again for the way back */
    up_encoder_free(whole);
    close_set(&s);
}

static void sets_know_their_model(void) {
    set_world s;
    world other;
    const int32_t wrong[] = {3, 4000};
    const int64_t starts[] = {0, 1, 2};
    open_set(&s);
    open_world(&other, ref(), 0);
    up_set_encoders how = s.how;
    how.scout = other.encoder;
    CU_ASSERT_EQUAL(up_target_set_encode(s.set, &how), UP_ERR_ARGUMENT);
    UP_ASSERT_OK(up_target_set_encode(s.set, &s.how));
    CU_ASSERT_EQUAL(up_target_set_fill_words(s.set, wrong, 2, 10), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_target_set_count(s.set), 0); /* not half full */
    CU_ASSERT_EQUAL(up_target_set_encode(s.set, &s.how), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_target_set_fill_texts(s.set, wrong, starts, 2), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_target_set_count(s.set), 0);
    UP_ASSERT_OK(up_target_set_fill_texts(s.set, wrong, starts, 1));
    UP_ASSERT_OK(up_target_set_encode(s.set, &s.how));
    close_world(&other);
    close_set(&s);
}

/* ---- models, optimiser ---- */

static size_t size_of_copy(up_backend *b, const up_op_dims *dims, int backward) {
    (void)b;
    (void)backward;
    return (size_t)(dims->in * dims->out) * sizeof(float);
}
static up_status copy_weight(up_backend *b, const up_prepare_args *a) {
    up_view to =
        up_view_at(a->prepared.buffer, UP_F32, a->prepared.offset / 4, a->weight.rows, a->weight.cols);
    return b->ops->copy(b, to, a->weight);
}

/* Without memory for a prepared form there is no encoder; the next one asks again. */
static void prepared_weights_without_memory(void) {
    world w;
    int failures = 0;
    open_world(&w, ref(), 0);
    UP_ASSERT_OK(encode(&w, w.encoder, &w.x));
    float *wanted = download(&w, w.x.unit);
    let_fail(&w);
    failing.prepared_size = size_of_copy;
    failing.prepare = copy_weight;
    failing.alloc = alloc_or_not;
    for (int after = 1;; after++) { /* the first allocation is the encoder's own */
        up_encoder *e = NULL;
        fail_after = after;
        up_status status = up_encoder_create(w.model, NULL, &e);
        fail_after = -1;
        up_encoder_free(e);
        if (status == UP_OK) break;
        CU_ASSERT_EQUAL(status, UP_ERR_MEMORY);
        UP_ASSERT_OK(up_model_prepare(w.model));
        failures++;
    }
    CU_ASSERT(failures > 1);
    CU_ASSERT(up_model_prepared_bytes(w.model) > 0);
    UP_ASSERT_OK(encode(&w, w.encoder, &w.x));
    CU_ASSERT(same(&w, w.x.unit, wanted));
    close_world(&w);
}

static void targets_are_a_list(void) {
    world w;
    int count = 5;
    const int32_t ids[] = {1, 4};
    open_world(&w, ref(), 0);
    UP_ASSERT_OK(up_model_set_targets(w.model, ids, 2));
    CU_ASSERT_EQUAL(up_model_set_targets(w.model, NULL, 2), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_model_set_targets(w.model, ids, -1), UP_ERR_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(up_model_targets(w.model, &count));
    CU_ASSERT_EQUAL(count, 2);
    UP_ASSERT_OK(up_model_set_targets(w.model, NULL, 0));
    CU_ASSERT_PTR_NULL(up_model_targets(w.model, &count));
    close_world(&w);
}

/* Each field of the table at its bounds and beyond them; what is no number is no size either. */
static void fields_have_bounds(void) {
    for (const up_config_field *f = up_config_fields; f->name; f++) {
        up_config c;
        small_config(&c);
        void *at = (char *)&c + f->offset;
        CU_ASSERT_PTR_EQUAL(up_config_field_named(f->name), f);
        UP_ASSERT_OK(up_config_check(&c));
        if (f->type == UP_FIELD_NAME) continue;
        for (int beyond = 0; beyond < 2; beyond++) {
            if (f->type == UP_FIELD_WHOLE)
                *(int *)at = beyond ? (int)f->high + 1 : (int)f->low - 1;
            else
                *(double *)at = beyond ? INFINITY : NAN;
            CU_ASSERT_EQUAL(up_config_check(&c), UP_ERR_ARGUMENT);
            CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), f->name));
        }
    }
    up_config c;
    small_config(&c);
    c.video_resize = c.image_size - 1;
    CU_ASSERT_EQUAL(up_config_check(&c), UP_ERR_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), "video_resize"));
    CU_ASSERT_PTR_NULL(up_config_field_named("nothing"));
}

/* As many classes as the base's head has are other classes all the same. */
static void an_overlay_has_a_head_of_its_own(void) {
    world w;
    up_model *tuned = NULL, *over = NULL;
    open_world(&w, ref(), 4);
    int head = up_model_params(w.model)->head_weight;
    UP_ASSERT_OK(w.backend->ops->fill(w.backend, up_model_weight(w.model, head), 3));
    UP_ASSERT_OK(up_overlay_create(w.model, 0, 2, 4, 1, &tuned));
    float *values = download(&w, up_model_weight(tuned, up_model_params(tuned)->head_weight));
    for (int i = 0; i < 4 * 16; i++) CU_ASSERT_EQUAL(values[i], 0);
    CU_ASSERT_EQUAL(up_overlay_create(tuned, 0, 2, 4, 1, &over), UP_ERR_ARGUMENT); /* none over an overlay */
    free(values);
    up_model_destroy(tuned);
    close_world(&w);
}

/* A norm that could not be taken is not one that was. */
static void a_failed_norm_is_taken_again(void) {
    world w;
    up_gradients *g = NULL;
    up_optimizer *o = NULL;
    up_step_value value;
    int known;
    const up_adamw adamw = {.beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8};
    open_world(&w, ref(), 0);
    UP_ASSERT_OK(up_gradients_create(w.model, 0, &g));
    UP_ASSERT_OK(up_optimizer_create(g, &adamw, &o));
    int64_t counts[UP_GROUP_COUNT], total = up_gradients_count(g, counts);
    UP_ASSERT_OK(w.backend->ops->fill(w.backend, up_gradients_all(g), 0));
    for (int i = 0; i < up_model_params(w.model)->count; i++)
        if (up_learns(g, i)) UP_ASSERT_OK(w.backend->ops->fill(w.backend, up_gradient(g, i), 0.5));
    let_fail(&w);
    failing.sqnorm = sqnorm_or_not;
    for (int bucket = 0; bucket < up_gradients_buckets(g); bucket++) {
        fail_after = 0;
        CU_ASSERT_EQUAL(up_optimizer_bucket_done(o, bucket), UP_ERR_BACKEND);
    }
    UP_ASSERT_OK(up_optimizer_step(o, 1e-3));
    UP_ASSERT_OK(up_optimizer_value(o, 0, &value, &known));
    CU_ASSERT(known && fabs(value.gradient_norm / (0.5 * sqrt((double)total)) - 1) < 1e-6);
    up_optimizer_free(o);
    up_gradients_free(g);
    close_world(&w);
}

const up_test up_tests[] = {
    {"failed passes close their regions", failed_passes_close_their_regions},
    {"failed ways back close their regions", failed_ways_back_close_their_regions},
    {"cached batches belong to a decoder", cached_batches_belong_to_a_decoder},
    {"clips have frames", clips_have_frames},
    {"unused values are inert", unused_values_are_inert},
    {"a failed step ends a decoder", a_failed_step_ends_a_decoder},
    {"a failed loss has no value", a_failed_loss_has_no_value},
    {"a head wants features of its model", a_head_wants_features_of_its_model},
    {"features with other draws are stale", features_with_other_draws_are_stale},
    {"gradients wait for the right way back", gradients_wait_for_the_right_way_back},
    {"a pass is not taken for another", a_pass_is_not_taken_for_another},
    {"sets know their model", sets_know_their_model},
    {"prepared weights without memory", prepared_weights_without_memory},
    {"targets are a list", targets_are_a_list},
    {"fields have bounds", fields_have_bounds},
    {"an overlay has a head of its own", an_overlay_has_a_head_of_its_own},
    {"a failed norm is taken again", a_failed_norm_is_taken_again},
    {NULL, NULL},
};

/* test_encoder.c - the middle of the program: encoder, target sets, losses, gradients and overlays on small
 * random models. What must not matter does not: chunks, tiles, unused rows, the order of passes, what else
 * learns. */
#include "ref/model/activations.h"
#include "ref/model/arithmetic.h"
#include "tests/lab.h"
#include "tests/support.h"
#include "uniperceiver/loss.h"
#include "uniperceiver/optimizer.h"
#include "uniperceiver/random.h"
#include "uniperceiver/target_set.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const up_suite_name = "encoder";

#ifdef UP_TEST_CUDA
static const char *const backends[] = {"ref", "cuda"};
#else
static const char *const backends[] = {"ref", "cpu"};
#endif
static const up_dtype dtypes[] = {UP_F32, UP_BF16, UP_F16};

/* ---- a small model and random batches ---- */

typedef struct world {
    up_backend *backend;
    up_config config;
    up_model *model;
    up_rng rng;
} world;

static up_config small_config(uint64_t flags) {
    up_config c;
    UP_ASSERT_OK(up_config_preset(flags & 1 ? "released-base" : "base", &c));
    c.layers = 3;
    c.width = 32;
    c.heads = 2;
    c.ffn = 48;
    c.vocabulary = 60;
    c.text_positions = 12;
    c.image_size = 8;
    c.patch = 4;
    c.frames = 2;
    c.layer_scale_init = 0.5;
    c.patch_position_init = 0.5;
    if (flags & 2) c.prompts = 3;
    if (flags & 4) c.classes = 7;
    return c;
}

static world open_world(const char *backend, uint64_t flags, uint64_t seed) {
    world w = {.config = small_config(flags), .rng = up_rng_make(seed, flags, 0, 0)};
    UP_ASSERT_OK(up_backend_create(backend, 2, &w.backend));
    UP_ASSERT_OK(up_model_create(w.backend, &w.config, seed, &w.model));
    return w;
}

static void close_world(world *w) {
    up_model_destroy(w->model);
    up_backend_free(w->backend);
}

static int below(world *w, int n) {
    return (int)up_rng_below(&w->rng, (uint32_t)n);
}

static void put_picture(world *w, up_batch *b, int frames) {
    int cells = up_config_cells(&w->config), size = 3 * w->config.patch * w->config.patch;
    uint8_t *bytes = malloc((size_t)(2 * cells * size));
    for (int i = 0; i < 2 * cells * size; i++) bytes[i] = (uint8_t)below(w, 256);
    if (frames)
        UP_ASSERT_OK(up_batch_video(b, bytes, frames, cells, below(w, w->config.frames - frames + 1)));
    else
        UP_ASSERT_OK(up_batch_image(b, bytes, cells));
    free(bytes);
}

/* One sequence of a random kind; `slots` 1: words with slots may come. */
static void put_sequence(world *w, up_batch *b, up_side side, int slots) {
    int32_t ids[8];
    int kind = below(w, 4), words = 1 + below(w, 5);
    for (int i = 0; i < words; i++) ids[i] = below(w, w->config.vocabulary - 1);
    int doubled = slots && below(w, 3) == 0;
    UP_ASSERT_OK(up_batch_open(b, side, !doubled));
    if (kind == 1) put_picture(w, b, 0);
    if (kind == 2) put_picture(w, b, 1 + below(w, 2));
    if (doubled)
        UP_ASSERT_OK(up_batch_words_and_slots(b, ids, words));
    else if (kind != 2)
        UP_ASSERT_OK(up_batch_text(b, ids, words, 0, NULL));
    UP_ASSERT_OK(up_batch_close(b));
}

static void random_batch(world *w, up_batch *b, int sequences, up_side side, int slots) {
    UP_ASSERT_OK(up_batch_begin(b, &w->config));
    for (int i = 0; i < sequences; i++) put_sequence(w, b, side, slots);
}

static float *download(world *w, up_view v) {
    float *out = malloc((size_t)(v.rows * v.cols + 1) * sizeof *out);
    UP_ASSERT_OK(w->backend->ops->download(w->backend, out, v));
    return out;
}

static double norm_of(const float *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    return sqrt(sum);
}

/* How far a is from b, tensor by tensor of a gradient layout, against the tensor's own size and `floor` times
 * all. NaN gives infinity. */
static double gradient_distance(const up_gradients *g, const float *a, const float *b, double floor) {
    const up_params *p = up_model_params(up_gradients_model(g));
    double worst = 0, all = norm_of(b, up_gradients_all(g).cols);
    for (int i = 0; i < p->count; i++) {
        int64_t place = up_gradients_place(g, i), n = p->list[i].rows * p->list[i].cols;
        if (place < 0) continue;
        double square = 0;
        for (int64_t k = 0; k < n; k++) square += pow((double)a[place + k] - b[place + k], 2);
        double distance = sqrt(square) / (norm_of(b + place, n) + floor * all);
        if (!(distance <= worst)) worst = isfinite(distance) ? distance : INFINITY;
    }
    return worst;
}

/* ---- one step's gradients, by the road that training takes ---- */

typedef struct road {
    up_dtype dtype;
    int tokens;      /* budget of target sets */
    int uses;        /* how many batches of inputs use the set before it goes back */
    unsigned groups; /* that learn */
    double drop_path;
    int static_shapes;
} road;

static void send_inputs(world *w, const road *r, const up_batch *inputs, up_encoder *encoder, up_features *x,
                        up_target_set *set, up_criterion *criterion, const up_loss *loss) {
    float *drop = malloc(2 * (size_t)w->config.layers * (size_t)inputs->sequences * sizeof *drop);
    up_drop_path(r->drop_path, w->config.layers, 1, 1, inputs, drop);
    UP_ASSERT_OK(up_encoder_stage(encoder, inputs, r->drop_path > 0 ? drop : NULL));
    UP_ASSERT_OK(up_features_resize(x, inputs->readouts));
    UP_ASSERT_OK(up_encoder_forward(encoder, x->raw));
    UP_ASSERT_OK(up_features_normalize(x));
    UP_ASSERT_OK(up_criterion_compare(criterion, x, up_target_set_features(set), loss));
    UP_ASSERT_OK(up_features_back(x));
    UP_ASSERT_OK(up_encoder_backward(encoder, x->draw, NULL, NULL));
    free(drop);
}

/* Gradients of `inputs` (several batches) against `targets`, on the host. The losses' mean is in *value. */
static float *gradients_by(world *w, const road *r, const up_batch *inputs, const up_batch *targets,
                           up_gradients **layout, double *value) {
    up_gradients *g = NULL;
    up_encoder *encoder = NULL, *whole = NULL, *scout = NULL;
    up_criterion *criterion = NULL;
    up_target_set *set = NULL;
    up_features x;
    up_batch copy = {0};
    if (r->static_shapes) ((up_backend_ops *)w->backend->ops)->static_shapes = 1;
    UP_ASSERT_OK(up_gradients_create(w->model, r->groups, &g));
    up_encoder_options keep = {.dtype = r->dtype, .gradients = g}, none = {.dtype = r->dtype};
    UP_ASSERT_OK(up_encoder_create(w->model, &keep, &encoder));
    UP_ASSERT_OK(up_encoder_create(w->model, &keep, &whole));
    UP_ASSERT_OK(up_encoder_create(w->model, &none, &scout));
    UP_ASSERT_OK(up_criterion_create(w->model, g, (up_view){0}, &criterion));
    UP_ASSERT_OK(up_target_set_create(w->model, 5, 1, &set));
    UP_ASSERT_OK(up_features_create(w->model, 1, &x));
    UP_ASSERT_OK(up_batch_begin(&copy, &w->config));
    UP_ASSERT_OK(up_batch_append(&copy, targets, 0, targets->sequences));
    UP_ASSERT_OK(up_target_set_fill(set, &copy));
    up_set_encoders how = {.whole = whole,
                           .chunk = encoder,
                           .scout = scout,
                           .tokens = r->tokens,
                           .drop_path = r->drop_path,
                           .seed = 1,
                           .step = 1};
    *value = 0;
    for (int u = 0; u < r->uses; u++) {
        int32_t *labels = malloc((size_t)inputs[u].readouts * sizeof *labels);
        up_loss_value one;
        for (int i = 0; i < inputs[u].readouts; i++) labels[i] = (i * 7 + u) % targets->sequences;
        up_loss loss = {.task = u % 2, .labels = labels, .smoothing = 0.1f, .weight = 1};
        UP_ASSERT_OK(up_target_set_encode(set, &how));
        send_inputs(w, r, &inputs[u], encoder, &x, set, criterion, &loss);
        UP_ASSERT_OK(up_criterion_value(criterion, &one));
        *value += one.loss / r->uses;
        free(labels);
    }
    int64_t encoded = up_target_set_encoded(set);
    CU_ASSERT_EQUAL(encoded, up_target_set_tokens(set)); /* once, however many uses */
    UP_ASSERT_OK(up_target_set_backward(set, &how, NULL, NULL));
    CU_ASSERT_EQUAL(up_target_set_encoded(set), encoded * (r->tokens < up_target_set_tokens(set) ? 2 : 1));
    CU_ASSERT_FALSE(up_target_set_owes(set));
    float *out = download(w, up_gradients_all(g));
    if (r->static_shapes) ((up_backend_ops *)w->backend->ops)->static_shapes = 0;
    up_features_free(&x);
    up_target_set_free(set);
    up_criterion_free(criterion);
    up_encoder_free(scout);
    up_encoder_free(whole);
    up_encoder_free(encoder);
    *layout = g;
    return out;
}

/* Two roads to the same gradients. */
static void compare_roads(const char *backend, uint64_t flags, uint64_t seed, const road *a, const road *b,
                          double bound) {
    world w = open_world(backend, flags, seed);
    up_batch inputs[2] = {{0}, {0}}, targets = {0};
    up_gradients *ga = NULL, *gb = NULL;
    double va, vb;
    for (int i = 0; i < 2; i++) random_batch(&w, &inputs[i], 2 + below(&w, 4), UP_SIDE_INPUT, 1);
    random_batch(&w, &targets, 3 + below(&w, 12), UP_SIDE_TARGET, 0);
    float *x = gradients_by(&w, a, inputs, &targets, &ga, &va);
    float *y = gradients_by(&w, b, inputs, &targets, &gb, &vb);
    double distance = gradient_distance(ga, x, y, strcmp(backend, "ref") ? 1 : 1e-3);
    if (!(distance <= bound && fabs(va - vb) <= bound * (1 + fabs(vb))))
        fprintf(stderr,
                "%s flags %d seed %llu type %d: gradients differ by %.3g, losses %.9g %.9g; bound %.3g\n",
                backend, (int)flags, (unsigned long long)seed, a->dtype, distance, va, vb, bound);
    CU_ASSERT(distance <= bound);
    CU_ASSERT(fabs(va - vb) <= bound * (1 + fabs(vb)));
    free(x);
    free(y);
    up_gradients_free(ga);
    up_gradients_free(gb);
    for (int i = 0; i < 2; i++) up_batch_free(&inputs[i]);
    up_batch_free(&targets);
    close_world(&w);
}

/* Weight gradients are f32 sums of terms that are the same on both roads (on `cpu` but for the last bits of
 * products that are cut elsewhere): a few roundings for each of at most a dozen chunks. The gradient of a
 * prompt's keys and values is a sum over the sequences of a pass, stored as an activation. */
static double sum_bound(const char *backend, up_dtype dtype, int prompts) {
    double unit = dtype == UP_F32 ? 0x1p-24 : dtype == UP_F16 ? 0x1p-11 : 0x1p-8;
    return strcmp(backend, "ref") || prompts ? 64 * unit : 64 * 0x1p-24;
}

static void chunks_change_nothing(void) {
    for (int b = 0; b < 2; b++)
        for (int t = 0; t < 3; t++)
            for (uint64_t seed = 0; seed < 8; seed++) {
                road whole = {
                    .dtype = dtypes[t], .tokens = 100000, .uses = 2, .drop_path = seed & 1 ? 0.4 : 0};
                road chunks = whole;
                chunks.tokens = 1 + (int)(seed * 5 % 23);
                compare_roads(backends[b], seed & 3, up_test_seed() + seed, &chunks, &whole,
                              sum_bound(backends[b], dtypes[t], seed & 2));
            }
}

static void unused_rows_change_nothing(void) {
    for (int t = 0; t < 3; t++)
        for (uint64_t seed = 0; seed < 6; seed++) {
            world probe = open_world("ref", 0, 1);
            int mine = probe.backend->ops != up_ref_ops();
            close_world(&probe);
            const char *backend = mine ? "ref" : "cpu"; /* a table of its own, which the test may change */
            road dynamic = {.dtype = dtypes[t], .tokens = 20, .uses = 2, .drop_path = 0.3};
            road fixed = dynamic;
            fixed.static_shapes = 1;
            compare_roads(backend, seed & 3, up_test_seed() + seed, &fixed, &dynamic,
                          sum_bound(backend, dtypes[t], seed & 2));
        }
}

/* ---- what learns ---- */

static const unsigned table9 = 1u << UP_GROUP_SPE | 1u << UP_GROUP_NORM | 1u << UP_GROUP_PROMPT;

static void frozen_groups_change_no_gradient(void) {
    for (uint64_t seed = 0; seed < 4; seed++) {
        world w = open_world("ref", 2, up_test_seed() + seed);
        up_batch inputs = {0}, targets = {0};
        up_gradients *all = NULL, *some = NULL;
        double va, vb;
        random_batch(&w, &inputs, 4, UP_SIDE_INPUT, 1);
        random_batch(&w, &targets, 5, UP_SIDE_TARGET, 0);
        road r = {.tokens = 1000, .uses = 1};
        float *x = gradients_by(&w, &r, &inputs, &targets, &all, &va);
        r.groups = table9;
        float *y = gradients_by(&w, &r, &inputs, &targets, &some, &vb);
        CU_ASSERT_EQUAL(va, vb);
        for (int i = 0; i < w.model->params.count; i++) {
            int64_t n = w.model->params.list[i].rows * w.model->params.list[i].cols;
            CU_ASSERT_EQUAL(up_learns(some, i), (table9 >> w.model->params.list[i].group) & 1);
            if (up_learns(some, i))
                CU_ASSERT_EQUAL(memcmp(x + up_gradients_place(all, i), y + up_gradients_place(some, i),
                                       (size_t)n * sizeof *x),
                                0);
        }
        free(x);
        free(y);
        up_gradients_free(all);
        up_gradients_free(some);
        up_batch_free(&inputs);
        up_batch_free(&targets);
        close_world(&w);
    }
}

typedef struct buckets {
    int seen[16], count;
} buckets;

static up_status note_bucket(void *context, int bucket) {
    buckets *b = context;
    b->seen[b->count++] = bucket;
    return UP_OK;
}

/* The way back ends at the lowest layer where something learns, and still reports every bucket in order. */
static void backward_ends_where_nothing_learns(void) {
    static const struct {
        unsigned groups;
        int lowest;
    } cases[] = {{1u << UP_GROUP_TEMPERATURE, 3},
                 {1u << UP_GROUP_PROMPT, 0},
                 {1u << UP_GROUP_ENCODER, 0},
                 {1u << UP_GROUP_EMBEDDING, -1},
                 {0, -1}};
    world w = open_world("ref", 2, 3);
    up_batch inputs = {0};
    random_batch(&w, &inputs, 3, UP_SIDE_INPUT, 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        up_gradients *g = NULL;
        up_encoder *e = NULL;
        up_features x;
        buckets b = {.count = 0};
        UP_ASSERT_OK(up_gradients_create(w.model, cases[i].groups, &g));
        CU_ASSERT_EQUAL(up_gradients_lowest(g), cases[i].lowest);
        UP_ASSERT_OK(up_encoder_create(w.model, &(up_encoder_options){.gradients = g}, &e));
        UP_ASSERT_OK(up_features_create(w.model, 1, &x));
        UP_ASSERT_OK(up_features_resize(&x, inputs.readouts));
        UP_ASSERT_OK(up_encoder_stage(e, &inputs, NULL));
        UP_ASSERT_OK(up_encoder_forward(e, x.raw));
        UP_ASSERT_OK(w.backend->ops->fill(w.backend, x.dunit, 0.5));
        UP_ASSERT_OK(up_encoder_backward(e, x.dunit, note_bucket, &b));
        CU_ASSERT_EQUAL(b.count, up_gradients_buckets(g));
        for (int k = 0; k < b.count; k++) CU_ASSERT_EQUAL(b.seen[k], k);
        up_features_free(&x);
        up_encoder_free(e);
        up_gradients_free(g);
    }
    up_batch_free(&inputs);
    close_world(&w);
}

/* ---- losses ---- */

typedef struct truth {
    int32_t labels[64];
    float shares[64], soft[40 * 3000], bias[3000];
    int32_t group_x[40], group_y[3000];
} truth;

/* Logits, losses and the gradient of the logits as the formulas of loss.h say, in double. Returns the sum of
 * the losses. */
static double brute_force(const up_loss *l, const double *z, int q, int v, double *dz, int *counted) {
    int k = l->choices ? l->choices : 1;
    double total = 0;
    *counted = 0;
    for (int i = 0; i < q; i++) {
        const double *row = z + (size_t)i * (size_t)v;
        double *out = dz + (size_t)i * (size_t)v, sum = 0, count = 0;
        for (int j = 0; j < v; j++) out[j] = 0;
        if (l->labels && l->labels[i * k] < 0) continue;
        *counted += 1;
        double *share = calloc((size_t)v, sizeof *share);
        for (int j = 0; j < v && l->soft; j++) share[j] = (double)l->soft[(size_t)i * (size_t)v + (size_t)j];
        for (int c = 0; c < k && l->labels; c++)
            share[l->labels[i * k + c]] += l->shares ? (double)l->shares[i * k + c] : 1;
        for (int j = 0; j < v; j++) {
            int is_true = 0;
            for (int c = 0; c < k && l->labels; c++) is_true |= l->labels[i * k + c] == j;
            int counts = !(l->group_x && l->group_x[i] >= 0 && l->group_x[i] == l->group_y[j] && !is_true);
            out[j] = counts;
            count += counts;
            sum += counts ? exp(row[j]) : 0;
        }
        double lse = log(sum);
        for (int j = 0; j < v; j++) {
            double e = (double)l->smoothing, right = out[j] != 0 ? (1 - e) * share[j] + e / count : 0;
            total += right != 0 ? right * (lse - row[j]) : 0;
            out[j] = out[j] != 0 ? exp(row[j] - lse) - right : 0;
        }
        free(share);
    }
    return total;
}

static void random_truth(world *w, truth *t, up_loss *l, int q, int v) {
    int kind = below(w, 4); /* labels, pairs, probabilities, groups */
    *l = (up_loss){.task = below(w, w->config.tasks), .weight = 0.7f, .smoothing = below(w, 2) ? 0.1f : 0};
    l->choices = kind == 1 ? 2 : 1;
    for (int i = 0; i < q * l->choices; i++) {
        t->labels[i] = below(w, v);
        t->shares[i] = i % 2 ? 0.25f : 0.75f;
    }
    if (kind != 2 && below(w, 2)) t->labels[0] = -1;
    for (int i = 0; i < q && kind == 2; i++) {
        double sum = 0;
        for (int j = 0; j < v; j++) sum += (double)(t->soft[i * v + j] = (float)up_rng_uniform(&w->rng));
        for (int j = 0; j < v; j++) t->soft[i * v + j] = (float)((double)t->soft[i * v + j] / sum);
    }
    for (int i = 0; i < q; i++) t->group_x[i] = below(w, 6) - 1;
    for (int j = 0; j < v; j++) t->group_y[j] = below(w, 6) - 1;
    for (int j = 0; j < v; j++) t->bias[j] = (float)up_rng_uniform(&w->rng);
    if (kind == 2)
        l->soft = t->soft;
    else
        l->labels = t->labels;
    if (kind == 1) l->shares = t->shares;
    if (kind == 3) l->group_x = t->group_x;
    if (kind == 3) l->group_y = t->group_y;
    if (below(w, 2)) l->bias = t->bias;
}

static void fill_features(world *w, up_features *f, int rows) {
    float *x = malloc((size_t)rows * (size_t)w->config.width * sizeof *x);
    UP_ASSERT_OK(up_features_create(w->model, 1, f));
    UP_ASSERT_OK(up_features_resize(f, rows));
    for (int i = 0; i < rows * w->config.width; i++) x[i] = (float)up_rng_normal(&w->rng);
    UP_ASSERT_OK(w->backend->ops->upload(w->backend, f->raw, x));
    UP_ASSERT_OK(up_features_normalize(f));
    free(x);
}

/* Relative distance, in the norm, of n floats from doubles that are sums of terms of about that size. */
static double apart(const float *a, const double *b, int64_t n, double size_of_terms) {
    double square = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        square += pow((double)a[i] - b[i], 2);
        size += b[i] * b[i];
    }
    return isfinite(square) ? sqrt(square) / (sqrt(size) + size_of_terms) : INFINITY;
}

/* A loss by tiles against the formula over all logits at once; 3,000 targets are three tiles. */
static void compare_with_stored_logits(const char *backend, int q, int v, uint64_t seed) {
    world w = open_world(backend, 0, seed);
    truth *t = calloc(1, sizeof *t);
    up_loss l;
    up_gradients *g = NULL;
    up_criterion *c = NULL;
    up_features x, y;
    up_loss_value value;
    int d = w.config.width, counted;
    random_truth(&w, t, &l, q, v);
    UP_ASSERT_OK(up_gradients_create(w.model, 0, &g));
    UP_ASSERT_OK(up_criterion_create(w.model, g, (up_view){0}, &c));
    fill_features(&w, &x, q);
    fill_features(&w, &y, v);
    UP_ASSERT_OK(up_criterion_compare(c, &x, &y, &l));
    UP_ASSERT_OK(up_criterion_value(c, &value));
    float *ux = download(&w, x.unit), *uy = download(&w, y.unit), *dx = download(&w, x.dunit);
    float *dy = download(&w, y.dunit);
    float log_scale, dlog_scale;
    int temperature = w.model->params.temperature[l.task];
    UP_ASSERT_OK(w.backend->ops->download(w.backend, &log_scale, up_model_weight(w.model, temperature)));
    UP_ASSERT_OK(w.backend->ops->download(w.backend, &dlog_scale, up_gradient(g, temperature)));
    double scale = exp((double)log_scale), slope = 0;
    double *z = calloc((size_t)(q * v), sizeof *z), *dz = calloc((size_t)(q * v), sizeof *dz);
    double *want_x = calloc((size_t)(q * d), sizeof *want_x),
           *want_y = calloc((size_t)(v * d), sizeof *want_y);
    for (int i = 0; i < q; i++)
        for (int j = 0; j < v; j++) {
            double cosine = 0;
            for (int k = 0; k < d; k++) cosine += (double)ux[i * d + k] * (double)uy[j * d + k];
            z[i * v + j] = scale * cosine + (l.bias ? (double)l.bias[j] : 0);
        }
    double loss = brute_force(&l, z, q, v, dz, &counted), rows = counted ? counted : 1;
    for (int i = 0; i < q; i++)
        for (int j = 0; j < v; j++) {
            double to = dz[i * v + j] * (double)l.weight / rows;
            for (int k = 0; k < d; k++) {
                want_x[i * d + k] += scale * to * (double)uy[j * d + k];
                want_y[j * d + k] += scale * to * (double)ux[i * d + k];
            }
            slope += to * (z[i * v + j] - (l.bias ? (double)l.bias[j] : 0));
        }
    CU_ASSERT_EQUAL(value.rows, counted);
    CU_ASSERT(fabs(value.loss - (double)l.weight * loss / rows) <= 1e-5 * (1 + fabs(value.loss)));
    CU_ASSERT(apart(dx, want_x, q * d, 0.1 * scale) <= 1e-5);
    CU_ASSERT(apart(dy, want_y, v * d, 0.1 * scale) <= 1e-5);
    CU_ASSERT(fabs((double)dlog_scale - slope) <= 1e-4 * (fabs(slope) + 0.01));
    free(z);
    free(dz);
    free(want_x);
    free(want_y);
    free(ux);
    free(uy);
    free(dx);
    free(dy);
    up_features_free(&x);
    up_features_free(&y);
    up_criterion_free(c);
    up_gradients_free(g);
    free(t);
    close_world(&w);
}

static void tiles_are_stored_logits(void) {
    static const int targets[] = {1, 2, 17, 1023, 1024, 1025, 3000};
    for (int b = 0; b < 2; b++)
        for (uint64_t seed = 0; seed < 28; seed++)
            compare_with_stored_logits(backends[b], 1 + (int)(seed * 5 % 23), targets[seed % 7],
                                       up_test_seed() + seed);
}

/* ---- batches that do not fit, and calls in the wrong order ---- */

static void another_models_batch_is_refused(void) {
    world w = open_world("ref", 0, 1);
    up_config base;
    up_batch b = {0};
    up_encoder *e = NULL;
    int32_t id = 50000;
    UP_ASSERT_OK(up_config_preset("base", &base));
    UP_ASSERT_OK(up_encoder_create(w.model, NULL, &e));
    UP_ASSERT_OK(up_batch_begin(&b, &base));
    UP_ASSERT_OK(up_batch_open(&b, UP_SIDE_INPUT, 1));
    uint8_t *pixels = calloc(224 * 224, 3);
    UP_ASSERT_OK(up_batch_image(&b, pixels, up_config_cells(&base)));
    UP_ASSERT_OK(up_batch_close(&b));
    CU_ASSERT_EQUAL(up_encoder_stage(e, &b, NULL), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_encoder_forward(e, (up_view){0}), UP_ERR_ARGUMENT); /* nothing staged */
    UP_ASSERT_OK(up_batch_begin(&b, &w.config));
    UP_ASSERT_OK(up_batch_open(&b, UP_SIDE_INPUT, 1));
    UP_ASSERT_OK(up_batch_text(&b, &id, 1, 0, NULL));
    UP_ASSERT_OK(up_batch_close(&b));
    CU_ASSERT_EQUAL(up_encoder_stage(e, &b, NULL), UP_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(up_encoder_backward(e, (up_view){0}, NULL, NULL), UP_ERR_ARGUMENT);
    free(pixels);
    up_encoder_free(e);
    up_batch_free(&b);
    close_world(&w);
}

/* Whatever is written into a batch, it is refused or computed inside its tensors (the sanitizers watch). */
static void broken_batches_do_no_harm(void) {
    world w = open_world("ref", 1, 1);
    up_encoder *e = NULL;
    up_features x;
    int refused = 0;
    UP_ASSERT_OK(up_encoder_create(w.model, NULL, &e));
    UP_ASSERT_OK(up_features_create(w.model, 0, &x));
    for (int round = 0; round < 600; round++) {
        up_batch b = {0};
        random_batch(&w, &b, 1 + below(&w, 3), UP_SIDE_INPUT, 1);
        int32_t *arrays[] = {b.sequence,    b.text_id,     b.text_position, b.text_row,
                             b.image.cell,  b.image.frame, b.image.row,     b.video.cell,
                             b.video.frame, b.video.row,   b.readout_row};
        int sizes[] = {b.sequences * UP_SEQ_FIELDS,
                       b.text_count,
                       b.text_count,
                       b.text_count,
                       b.image.count,
                       b.image.count,
                       b.image.count,
                       b.video.count,
                       b.video.count,
                       b.video.count,
                       b.readouts};
        int which = below(&w, 11);
        static const int32_t values[] = {-3, -2, -1, 0, 1, 2, 7, 100, INT32_MAX, INT32_MIN};
        if (sizes[which]) arrays[which][below(&w, sizes[which])] = values[below(&w, 10)];
        UP_ASSERT_OK(up_features_resize(&x, b.readouts));
        up_status status = up_encoder_stage(e, &b, NULL);
        if (status == UP_OK) UP_ASSERT_OK(up_encoder_forward(e, x.raw));
        refused += status != UP_OK;
        up_batch_free(&b);
    }
    CU_ASSERT(refused > 200);
    up_features_free(&x);
    up_encoder_free(e);
    close_world(&w);
}

/* ---- places, overlays, prepared weights ---- */

/* The arena is the same for batches of about one size; with static shapes every place in it is, too. */
static void check_places(int static_shapes) {
    world w = open_world("ref", 0, 1);
    up_backend_ops table = *w.backend->ops;
    const up_backend_ops *own = w.backend->ops;
    table.static_shapes = static_shapes;
    w.backend->ops = &table;
    up_gradients *g = NULL;
    up_encoder *e = NULL;
    up_features x;
    up_view place = {0};
    UP_ASSERT_OK(up_gradients_create(w.model, 0, &g));
    UP_ASSERT_OK(up_encoder_create(w.model, &(up_encoder_options){.gradients = g}, &e));
    UP_ASSERT_OK(up_features_create(w.model, 1, &x));
    for (int words = 5; words <= 7; words++) { /* 12 sequences of 6 to 8 tokens, .., all up to 96 */
        up_batch b = {0};
        int32_t ids[7] = {1, 2, 3, 4, 5, 6, 7};
        UP_ASSERT_OK(up_batch_begin(&b, &w.config));
        for (int i = 0; i < 12; i++) {
            UP_ASSERT_OK(up_batch_open(&b, UP_SIDE_INPUT, 1));
            UP_ASSERT_OK(up_batch_text(&b, ids, i < 4 ? words : 7, 0, NULL));
            UP_ASSERT_OK(up_batch_close(&b));
        }
        UP_ASSERT_OK(up_features_resize(&x, b.readouts));
        UP_ASSERT_OK(up_encoder_stage(e, &b, NULL));
        UP_ASSERT_OK(up_encoder_forward(e, x.raw));
        up_view y = up_encoder_view(e, UP_ENCODER_LAYER, 2);
        if (place.buffer && static_shapes) CU_ASSERT_EQUAL(y.offset, place.offset);
        if (place.buffer) CU_ASSERT_PTR_EQUAL(y.buffer, place.buffer);
        place = y;
        up_batch_free(&b);
    }
    up_features_free(&x);
    up_encoder_free(e);
    up_gradients_free(g);
    w.backend->ops = own;
    close_world(&w);
}

static void batches_of_one_size_have_one_place(void) {
    CU_ASSERT_EQUAL(up_ladder(1), 8);
    CU_ASSERT_EQUAL(up_ladder(9), 10);
    CU_ASSERT_EQUAL(up_ladder(17), 20);
    for (int n = 1; n < 100000; n += 1 + n / 50) {
        CU_ASSERT(up_ladder(n) >= n && (n < 8 || up_ladder(n) <= n + n / 4 + 1));
        CU_ASSERT_EQUAL(up_ladder(up_ladder(n)), up_ladder(n));
    }
    check_places(0);
    check_places(1);
}

static float *encode(world *w, up_model *model, const up_batch *b) {
    float *out = malloc((size_t)b->readouts * (size_t)w->config.width * sizeof *out);
    up_lab_encode(model, b, out);
    return out;
}

/* Training an overlay leaves the base and its neighbour alone; without prompts it begins as the base. */
static void overlays_share_one_base(void) {
    world w = open_world("ref", 0, 2);
    up_model *plain = NULL, *tuned = NULL;
    up_gradients *g = NULL;
    up_optimizer *o = NULL;
    up_batch b = {0};
    int64_t counts[UP_GROUP_COUNT];
    random_batch(&w, &b, 3, UP_SIDE_INPUT, 1);
    size_t bytes = (size_t)b.readouts * (size_t)w.config.width * sizeof(float);
    UP_ASSERT_OK(up_overlay_create(w.model, 0, 2, 0, 1, &plain));
    UP_ASSERT_OK(up_overlay_create(w.model, 4, 2, 5, 1, &tuned));
    CU_ASSERT_EQUAL(up_model_config(tuned)->prompts, 4);
    CU_ASSERT_EQUAL(up_model_config(w.model)->prompts, 0);
    float *base = encode(&w, w.model, &b), *same = encode(&w, plain, &b), *before = encode(&w, tuned, &b);
    CU_ASSERT_EQUAL(memcmp(base, same, bytes), 0);
    CU_ASSERT_NOT_EQUAL(memcmp(base, before, bytes), 0);
    UP_ASSERT_OK(up_gradients_create(tuned, 0, &g));
    up_adamw adamw = {.beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8};
    UP_ASSERT_OK(up_optimizer_create(g, &adamw, &o));
    UP_ASSERT_OK(w.backend->ops->fill(w.backend, up_gradients_all(g), 1));
    uint64_t version = up_model_version(tuned);
    UP_ASSERT_OK(up_optimizer_step(o, 0.1));
    CU_ASSERT(up_model_version(tuned) > version);
    up_optimizer_count(o, counts);
    CU_ASSERT_EQUAL(counts[UP_GROUP_SPE], 32);
    CU_ASSERT_EQUAL(counts[UP_GROUP_PROMPT], 3 * 2 * 4 * 32);
    CU_ASSERT_EQUAL(counts[UP_GROUP_ENCODER] + counts[UP_GROUP_EMBEDDING], 0);
    float *base_after = encode(&w, w.model, &b), *same_after = encode(&w, plain, &b),
          *after = encode(&w, tuned, &b);
    CU_ASSERT_EQUAL(memcmp(base, base_after, bytes), 0);
    CU_ASSERT_EQUAL(memcmp(same, same_after, bytes), 0);
    CU_ASSERT_NOT_EQUAL(memcmp(before, after, bytes), 0);
    float *all[] = {base, same, before, base_after, same_after, after};
    for (int i = 0; i < 6; i++) free(all[i]);
    up_optimizer_free(o);
    up_gradients_free(g);
    up_model_destroy(tuned);
    up_model_destroy(plain);
    up_batch_free(&b);
    close_world(&w);
}

/* A backend that packs: its prepared form is the weight's bytes; it counts how often it makes them. */
static int prepared_made;
static size_t copy_size(up_backend *b, const up_op_dims *dims, int backward) {
    (void)b;
    (void)backward;
    return (size_t)(dims->in * dims->out) * sizeof(float);
}
static up_status copy_prepare(up_backend *b, const up_prepare_args *a) {
    up_view to =
        up_view_at(a->prepared.buffer, UP_F32, a->prepared.offset / 4, a->weight.rows, a->weight.cols);
    prepared_made++;
    return b->ops->copy(b, to, a->weight);
}
static up_status linear_prepared(up_backend *b, const up_linear_args *a) {
    up_linear_args plain = *a;
    if (up_view_present(a->prepared))
        plain.weight =
            up_view_at(a->prepared.buffer, UP_F32, a->prepared.offset / 4, a->weight.rows, a->weight.cols);
    return up_ref_ops()->linear(b, &plain);
}

static void prepared_weights_follow_the_weights(void) {
    world w = open_world("ref", 0, 2);
    up_backend_ops table = *w.backend->ops;
    const up_backend_ops *own = w.backend->ops;
    up_batch b = {0};
    random_batch(&w, &b, 3, UP_SIDE_INPUT, 1);
    size_t bytes = (size_t)b.readouts * (size_t)w.config.width * sizeof(float);
    float *want = encode(&w, w.model, &b);
    table.prepared_size = copy_size;
    table.prepare = copy_prepare;
    table.linear = linear_prepared;
    w.backend->ops = &table;
    float *got = encode(&w, w.model, &b), *again = encode(&w, w.model, &b);
    int made = prepared_made;
    CU_ASSERT_EQUAL(made, 3 * 4 + 2); /* qkv, out, up, down of each layer; q and kv of the narrow one; once */
    CU_ASSERT_EQUAL(up_model_prepared_bytes(w.model),
                    3 * 4 * (size_t)(3 * 32 * 32 + 32 * 32 + 2 * 32 * 48) + 4 * (size_t)(3 * 32 * 32));
    CU_ASSERT_EQUAL(memcmp(want, got, bytes), 0);
    CU_ASSERT_EQUAL(memcmp(want, again, bytes), 0);
    up_view up = up_model_weight(w.model, w.model->params.layers[1].up_weight);
    UP_ASSERT_OK(w.backend->ops->fill(w.backend, up, 0.25));
    up_model_changed(w.model);
    float *changed = encode(&w, w.model, &b);
    CU_ASSERT_EQUAL(prepared_made, 2 * made);
    w.backend->ops = own;
    float *plain = encode(&w, w.model, &b);
    CU_ASSERT_EQUAL(memcmp(changed, plain, bytes), 0);
    CU_ASSERT_NOT_EQUAL(memcmp(changed, want, bytes), 0);
    float *all[] = {want, got, again, changed, plain};
    for (int i = 0; i < 5; i++) free(all[i]);
    up_batch_free(&b);
    close_world(&w);
}

static void other_tables_are_refused(void) {
    world w = open_world("ref", 0, 2);
    up_backend_ops table = *w.backend->ops;
    up_backend other = {&table, w.backend->state};
    up_model *m = NULL;
    table.version++;
    CU_ASSERT_EQUAL(up_model_create(&other, &w.config, 1, &m), UP_ERR_UNSUPPORTED);
    table.version--;
    table.size -= 8;
    CU_ASSERT_EQUAL(up_model_create(&other, &w.config, 1, &m), UP_ERR_UNSUPPORTED);
    CU_ASSERT_PTR_NULL(m);
    close_world(&w);
}

/* ---- stale sets ---- */

static void a_set_is_encoded_once_for_each_state_of_the_weights(void) {
    world w = open_world("ref", 0, 2);
    up_encoder *e = NULL;
    up_target_set *s = NULL;
    int32_t ids[] = {3, 4, 9};
    UP_ASSERT_OK(up_encoder_create(w.model, NULL, &e));
    UP_ASSERT_OK(up_target_set_create(w.model, 1, 0, &s));
    up_set_encoders how = {.scout = e, .tokens = 4};
    CU_ASSERT_EQUAL(up_target_set_encode(s, &how), UP_ERR_ARGUMENT); /* empty */
    UP_ASSERT_OK(up_target_set_fill_words(s, ids, 3, 10));
    for (int i = 0; i < 3; i++) UP_ASSERT_OK(up_target_set_encode(s, &how));
    CU_ASSERT_EQUAL(up_target_set_encoded(s), 9);
    CU_ASSERT_EQUAL(up_encoder_tokens(e), 9);
    up_model_changed(w.model);
    UP_ASSERT_OK(up_target_set_encode(s, &how));
    CU_ASSERT_EQUAL(up_target_set_encoded(s), 18);
    CU_ASSERT_EQUAL(up_target_set_backward(s, &how, NULL, NULL),
                    UP_ERR_ARGUMENT); /* made without gradients */
    up_target_set_free(s);
    up_encoder_free(e);
    close_world(&w);
}

/* ---- needed arithmetic, written out for the small model: D = 32, F = 48, three layers ---- */

enum {
    MAP = 2 * 32 * 32,         /* a row through D x D */
    FFN = 2 * 2 * 32 * 48,     /* a row through both maps */
    ROW = 4 * MAP + FFN,       /* a row of a whole layer: queries, keys, values, projection, FFN */
    KEYS = 2 * MAP,            /* keys and values alone */
    READ = ROW - KEYS,         /* what the last layer adds at rows that are read out */
    PAIR = 2 * 2 * 32,         /* a score, and a weighted value */
    PATCH = 2 * 3 * 4 * 4 * 32 /* 4 x 4 pixels of three colours to D */
};

/* [<SPE> a b c] of which <SPE> is read, and [<SPE> 4 cells | 2 words | 2 slots] of which the slots are. */
static void put_counted(world *w, up_batch *b) {
    UP_ASSERT_OK(up_batch_begin(b, &w->config));
    UP_ASSERT_OK(up_batch_open(b, UP_SIDE_INPUT, 1));
    UP_ASSERT_OK(up_batch_text(b, (int32_t[]){1, 2, 3}, 3, 0, NULL));
    UP_ASSERT_OK(up_batch_close(b));
    UP_ASSERT_OK(up_batch_open(b, UP_SIDE_INPUT, 0));
    put_picture(w, b, 0);
    UP_ASSERT_OK(up_batch_words_and_slots(b, (int32_t[]){4, 5}, 2));
    UP_ASSERT_OK(up_batch_close(b));
}

static void arithmetic_of_a_batch(void) {
    enum { TOKENS = 4 + 9, READOUTS = 1 + 2 };
    enum { PAIRS = 4 * 4 + 5 * 5 + 6 + 7 + 6 + 7, READ_PAIRS = 4 + 6 + 7 };
    enum { LINEAR = 2 * TOKENS * ROW + TOKENS * KEYS + READOUTS * READ };
    enum { ATTENTION = (2 * PAIRS + READ_PAIRS) * PAIR, PATCHES = 4 * PATCH };
    world w = open_world("ref", 0, 3);
    up_gradients *all = NULL, *norms = NULL, *temperature = NULL;
    up_batch b = {0};
    put_counted(&w, &b);
    UP_ASSERT_OK(up_gradients_create(w.model, 0, &all));
    UP_ASSERT_OK(up_gradients_create(w.model, 1u << UP_GROUP_NORM, &norms));
    UP_ASSERT_OK(up_gradients_create(w.model, 1u << UP_GROUP_TEMPERATURE, &temperature));
    up_arithmetic a = up_arithmetic_needed(w.model, &b, NULL);
    CU_ASSERT_EQUAL(a.forward, LINEAR + ATTENTION + PATCHES);
    CU_ASSERT_EQUAL(a.forward, 488320);
    CU_ASSERT_EQUAL(a.backward, 0);
    a = up_arithmetic_needed(w.model, &b, all);
    CU_ASSERT_EQUAL(a.backward, 2 * LINEAR + 2 * ATTENTION + PATCHES);
    a = up_arithmetic_needed(w.model, &b, norms); /* towards inputs alone */
    CU_ASSERT_EQUAL(a.backward, LINEAR + 2 * ATTENTION);
    a = up_arithmetic_needed(w.model, &b, temperature); /* nothing below the features */
    CU_ASSERT_EQUAL(a.backward, 0);
    a = up_arithmetic_cosines(&w.config, 3, 5);
    CU_ASSERT(a.forward == 2 * 3 * 5 * 32 && a.backward == 2 * a.forward);
    up_batch_free(&b);
    up_gradients_free(temperature);
    up_gradients_free(norms);
    up_gradients_free(all);
    close_world(&w);
}

/* Each query sees as many keys as up_mask_sees says, prompts besides. */
static void arithmetic_of_masks(void) {
    static const int32_t sequences[][UP_SEQ_FIELDS] = {
        {0, 5, 0, 5, UP_MASK_FULL, 0, 0, 0},
        {0, 9, 0, 9, UP_MASK_DOUBLED, 3, 3, 0},
        {0, 8, 0, 8, UP_MASK_DOUBLED, 0, 4, 0},
        {0, 3, 0, 7, UP_MASK_CAUSAL, 0, 0, 0},
    };
    world w = open_world("ref", 2, 3);
    for (int s = 0; s < 4; s++) {
        int32_t f[UP_SEQ_FIELDS];
        memcpy(f, sequences[s], sizeof f);
        int queries = f[UP_SEQ_Q_COUNT], keys = f[UP_SEQ_K_COUNT], pairs = queries * w.config.prompts;
        for (int i = 0; i < queries; i++)
            for (int j = 0; j < keys; j++)
                pairs +=
                    up_mask_sees(f[UP_SEQ_KIND], f[UP_SEQ_PREFIX], f[UP_SEQ_WORDS], i + keys - queries, j);
        up_batch b = {.tokens = queries, .sequences = 1, .sequence = f};
        double prompts = (double)w.config.prompts * w.config.prompt_sides;
        double linear = queries * (2.0 * ROW + KEYS) + 3 * prompts * KEYS;
        CU_ASSERT_EQUAL(up_arithmetic_needed(w.model, &b, NULL).forward, linear + 2.0 * pairs * PAIR);
    }
    close_world(&w);
}

/* Forth and back once, in chunks, which are encoded twice. */
static void arithmetic_of_a_set(void) {
    enum { ENTRY = 2 * (3 * ROW + 9 * PAIR) + 3 * KEYS + READ + 3 * PAIR };
    world w = open_world("ref", 0, 2);
    up_gradients *all = NULL;
    up_encoder *scout = NULL, *chunk = NULL;
    up_target_set *s = NULL;
    int32_t ids[] = {3, 4, 9};
    UP_ASSERT_OK(up_gradients_create(w.model, 0, &all));
    UP_ASSERT_OK(up_encoder_create(w.model, NULL, &scout));
    UP_ASSERT_OK(up_encoder_create(w.model, &(up_encoder_options){.gradients = all}, &chunk));
    UP_ASSERT_OK(up_target_set_create(w.model, 1, 1, &s));
    UP_ASSERT_OK(up_target_set_fill_words(s, ids, 3, 10));
    up_set_encoders how = {.scout = scout, .chunk = chunk, .tokens = 4};
    for (int i = 0; i < 2; i++) UP_ASSERT_OK(up_target_set_encode(s, &how));
    CU_ASSERT_EQUAL(up_target_set_needed(s), 3 * ENTRY);
    up_features *y = up_target_set_features(s);
    UP_ASSERT_OK(w.backend->ops->fill(w.backend, y->dunit, 1));
    y->has_dunit = 1;
    UP_ASSERT_OK(up_target_set_backward(s, &how, NULL, NULL));
    CU_ASSERT_EQUAL(up_target_set_encoded(s), 2 * 9);
    CU_ASSERT_EQUAL(up_target_set_needed(s), 3 * 3 * ENTRY);
    up_target_set_free(s);
    up_encoder_free(chunk);
    up_encoder_free(scout);
    up_gradients_free(all);
    close_world(&w);
}

const up_test up_tests[] = {
    {"arithmetic of a batch", arithmetic_of_a_batch},
    {"arithmetic of masks", arithmetic_of_masks},
    {"arithmetic of a set", arithmetic_of_a_set},
    {"chunks change nothing", chunks_change_nothing},
    {"unused rows change nothing", unused_rows_change_nothing},
    {"frozen groups change no gradient", frozen_groups_change_no_gradient},
    {"the way back ends where nothing learns", backward_ends_where_nothing_learns},
    {"tiles are stored logits", tiles_are_stored_logits},
    {"another model's batch is refused", another_models_batch_is_refused},
    {"broken batches do no harm", broken_batches_do_no_harm},
    {"batches of one size have one place", batches_of_one_size_have_one_place},
    {"overlays share one base", overlays_share_one_base},
    {"prepared weights follow the weights", prepared_weights_follow_the_weights},
    {"other tables are refused", other_tables_are_refused},
    {"a set is encoded once for each state of the weights",
     a_set_is_encoded_once_for_each_state_of_the_weights},
    {NULL, NULL},
};

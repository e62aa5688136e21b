/* test_step.c - the step taken apart: gradients against differences, in chunks against whole, accumulated
 * against one pass; backends against each other; what is not finite, what does not learn, the order of
 * buckets. */
#include "tests/guard.h"
#include "tests/lab.h"
#include "tests/support.h"
#include "uniperceiver/random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const up_suite_name = "step";

static uint32_t below(uint32_t n) { /* of the tests' own random choices */
    static uint64_t calls;
    up_rng rng = up_rng_make(up_test_seed(), 17, calls++, 0);
    return up_rng_below(&rng, n);
}

/* ---- what is not finite ---- */

/* Bytes of weights and moments before and after. */
typedef struct state {
    float *part[3];
} state;
static const up_lab_state parts[] = {UP_LAB_WEIGHTS, UP_LAB_MEANS, UP_LAB_SQUARES};

static state state_of(up_lab *lab) {
    state s;
    for (int i = 0; i < 3; i++) s.part[i] = up_lab_download(lab, parts[i]);
    return s;
}
static int same_state(up_lab *lab, const state *before) {
    size_t bytes = (size_t)up_model_params(lab->model)->total * sizeof(float);
    int same = 1;
    for (int i = 0; i < 3; i++) {
        float *now = up_lab_download(lab, parts[i]);
        same = same && !memcmp(now, before->part[i], bytes);
        free(now);
    }
    return same;
}
static void state_free(state *s) {
    for (int i = 0; i < 3; i++) free(s->part[i]);
}

/* The backend that is compared with the reference. */
#ifdef UP_TEST_CUDA
#define UNDER_TEST "cuda"
#else
#define UNDER_TEST "cpu"
#endif

static up_backend *backend_of(const char *name) {
    up_backend *b = NULL;
    UP_ASSERT_OK(!strcmp(name, "guard") ? up_backend_guard(&b) : up_backend_create(name, 2, &b));
    return b;
}

static void not_finite_is_skipped(const char *backend) {
    static const float bad[] = {NAN, INFINITY, -INFINITY, 3e38f};
    up_lab lab;
    up_lab_open(&lab, backend_of(backend), NULL, 0);
    up_lab_step(&lab);
    up_lab_step(&lab);
    const up_params *p = up_model_params(lab.model);
    int param = p->layers[1].qkv_weight;
    int64_t at =
        p->list[param].offset + (int64_t)below((uint32_t)(p->list[param].rows * p->list[param].cols));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        float *weights = up_lab_download(&lab, UP_LAB_WEIGHTS), good = weights[at];
        weights[at] = bad[i];
        up_lab_upload_weights(&lab, weights);
        state before = state_of(&lab);
        int64_t updates = up_lab_updates(&lab), place = lab.step;
        up_step_value value = up_lab_step(&lab);
        /* a huge weight may or may not overflow; what is not skipped must be finite */
        if (i < 3) CU_ASSERT(value.skipped);
        CU_ASSERT(value.skipped || isfinite(value.gradient_norm));
        if (value.skipped) {
            CU_ASSERT(same_state(&lab, &before));
            CU_ASSERT_EQUAL(up_lab_updates(&lab), updates);
        }
        state_free(&before);
        weights[at] = good;
        up_lab_upload_weights(&lab, weights);
        free(weights);
        lab.step = place;
        value = up_lab_step(&lab);
        CU_ASSERT(!value.skipped && isfinite(value.gradient_norm) && value.gradient_norm > 0);
    }
    /* the loss is finite, the squares of its gradient are not */
    state before = state_of(&lab);
    int64_t updates = up_lab_updates(&lab);
    up_step_value value;
    int known;
    up_lab_build(&lab, 0);
    up_stepper_begin(&lab.stepper, lab.step);
    CU_ASSERT(isfinite(up_lab_iterate(&lab, 1e30).loss));
    UP_ASSERT_OK(up_stepper_finish(&lab.stepper, 1e-3));
    UP_ASSERT_OK(up_optimizer_value(lab.stepper.optimizer, 0, &value, &known));
    CU_ASSERT(known && value.skipped && same_state(&lab, &before));
    CU_ASSERT_EQUAL(up_lab_updates(&lab), updates);
    state_free(&before);
    CU_ASSERT(!up_lab_step(&lab).skipped);
    up_lab_close(&lab);
}

static void test_not_finite_ref(void) {
    not_finite_is_skipped("ref");
}
static void test_not_finite_under_test(void) {
    not_finite_is_skipped(UNDER_TEST);
}

/* The work of rows of a source, in lab->work; their samples are first, first + 1, ... */
static void build_rows(up_lab *lab, const up_source *source, const size_t *rows, int count, uint64_t first) {
    const up_build_options options = {.training = 1, .seed = 5, .first = first};
    UP_ASSERT_OK(up_source_build(source, &options, rows, count, &lab->work));
}

static const size_t six_rows[6] = {0, 1, 2, 3, 4, 5};

/* ---- one backend against another ---- */

/* Steps of two backends that must have the same bits. */
static void expect_same_steps(up_lab *a, up_lab *b, int steps) {
    int different = 0;
    for (int i = 0; i < steps; i++) {
        up_step_value x = up_lab_step(a), y = up_lab_step(b);
        different += x.gradient_norm != y.gradient_norm || a->losses[0] != b->losses[0] ||
                     a->losses[1] != b->losses[1];
    }
    CU_ASSERT_EQUAL(different, 0);
    state want = state_of(a);
    CU_ASSERT(same_state(b, &want));
    state_free(&want);
}

static void behind_guard(int static_shapes, const char *const *more, size_t count) {
    up_lab ref, guard;
    up_backend *b = backend_of("guard");
    up_guard_static(b, static_shapes);
    up_lab_open(&ref, backend_of("ref"), more, count);
    up_lab_open(&guard, b, more, count);
    expect_same_steps(&ref, &guard, 3);
    up_lab_close(&ref);
    up_lab_close(&guard);
}

/* Chunks and whole sets both: the vocabulary is larger than the budget, the lists of classes are not. */
static void test_whole_steps_behind_guard(void) {
    static const char *const more[] = {"set_tokens=60", "set_memory=0"};
    behind_guard(0, more, 2);
}

/* Tensors up to the batch's capacity: the rows that nobody uses change no bit. */
static void test_static_shapes(void) {
    static const char *const more[] = {"precision=f16", "set_tokens=60", "set_memory=0",
                                       "optimizer.loss_scale=64"};
    behind_guard(1, more, 4);
}

/* One step as the loop makes it, task after task; losses go into reads [accumulate]. */
static void step_without_reading(up_lab *lab, int64_t step, up_loss_read *const *reads) {
    up_stepper_begin(&lab->stepper, step);
    for (int64_t i = 0; i < lab->settings.accumulate; i++) {
        size_t task = (size_t)(step * lab->settings.accumulate + i) % lab->settings.task_count;
        build_rows(lab, &lab->sources[task], six_rows, 3, 0);
        UP_ASSERT_OK(up_stepper_iterate(&lab->stepper, &lab->work, 0.5));
        UP_ASSERT_OK(up_loss_read_begin(reads[i], lab->stepper.criterion));
    }
    UP_ASSERT_OK(up_stepper_finish(&lab->stepper, 1e-3));
}

static int allocations; /* of a backend whose table is `counted` */
static up_backend_ops counted;
static up_status (*alloc_of_guard)(up_backend *, size_t, up_buffer **);

static up_status count_alloc(up_backend *b, size_t bytes, up_buffer **out) {
    allocations++;
    return alloc_of_guard(b, bytes, out);
}

static up_backend *counting_guard(void) {
    up_backend *b = backend_of("guard");
    counted = *b->ops;
    alloc_of_guard = counted.alloc;
    counted.alloc = count_alloc;
    b->ops = &counted;
    return b;
}

/* Four steps over all tasks, reading one step late. *step goes on. */
static void round_of_steps(up_lab *lab, int64_t *step, int forbid, up_loss_read *const reads[2][2]) {
    up_loss_value value;
    up_step_value norm;
    int known;
    for (int64_t end = *step + 4; *step < end; ++*step) {
        if (forbid) up_guard_forbid_waits(lab->backend, 1);
        step_without_reading(lab, *step, reads[*step & 1]);
        UP_ASSERT_OK(up_optimizer_value(lab->stepper.optimizer, 1, &norm, &known));
        CU_ASSERT_EQUAL(known, *step > 0);
        CU_ASSERT(!known || (norm.steps == *step && norm.gradient_norm > 0));
        for (int i = 0; *step && i < 2; i++) {
            UP_ASSERT_OK(up_loss_read_end(reads[~*step & 1][i], &value));
            CU_ASSERT(isfinite(value.loss) && value.rows > 0);
        }
    }
    up_guard_forbid_waits(lab->backend, 0);
}

/* When every tensor has found its place, a step neither waits nor allocates; its numbers are read during the
 * next one. Encoders have two input regions that take turns, so that two rounds in a row without an
 * allocation show that there will be no more. */
static void never_waits(const char *const *more, size_t count) {
    up_lab lab;
    up_loss_read *reads[2][2];
    int64_t step = 0;
    int still = 0, rounds = 0;
    up_lab_open(&lab, counting_guard(), more, count);
    CU_ASSERT_EQUAL_FATAL(lab.settings.accumulate, 2);
    for (int i = 0; i < 4; i++) UP_ASSERT_OK(up_loss_read_create(lab.model, &reads[i / 2][i % 2]));
    for (; still < 2 && rounds < 12; rounds++) {
        int before = allocations;
        round_of_steps(&lab, &step, 0, reads);
        still = allocations == before ? still + 1 : 0;
    }
    CU_ASSERT_EQUAL(still, 2);
    round_of_steps(&lab, &step, 1, reads);
    printf("[%d rounds] ", rounds);
    for (int i = 0; i < 4; i++) up_loss_read_free(reads[i / 2][i % 2]);
    up_lab_close(&lab);
}

static void test_steps_never_wait(void) {
    static const char *const more[] = {"set_tokens=100", "set_memory=0", "precision=bf16"};
    never_waits(more, 3);
}

/* What one rounding of every operand does to training: f32 sums of up to n = 512 terms (tokens of a batch,
 * values of a patch) are off by about sqrt(n) 2^-24 of their operands, like weights that are off by as much.
 */
static void shake(up_lab *lab, uint64_t key) {
    const up_params *p = up_model_params(lab->model);
    float *weights = up_lab_download(lab, UP_LAB_WEIGHTS);
    double amplitude = sqrt(512) * 0x1p-24;
    up_rng rng = up_rng_make(up_test_seed(), key, (uint64_t)lab->step, 3);
    for (int64_t i = p->list[p->token].rows * p->list[p->token].cols; i < p->total; i++)
        weights[i] = (float)(weights[i] * (1 + amplitude * (2 * up_rng_uniform(&rng) - 1)));
    up_lab_upload_weights(lab, weights);
    free(weights);
}

static void test_follows_ref(void) {
    enum { N = 20, SHAKEN = 3, LABS = 2 + SHAKEN };
    static const char *const more[] = {"steps=20"};
    up_lab labs[LABS]; /* ref, the other, ref shaken */
    double spread = 0, furthest = 0, furthest_share = 0;
    int outside = 0;
    for (int i = 0; i < LABS; i++) up_lab_open(&labs[i], backend_of(i == 1 ? UNDER_TEST : "ref"), more, 1);
    CU_ASSERT_EQUAL(up_model_params(labs[0].model)->token,
                    0); /* shake leaves it out: its rows are only read */
    for (int step = 0; step < N; step++) {
        for (int i = 2; i < LABS; i++) shake(&labs[i], (uint64_t)i);
        for (int i = 0; i < LABS; i++) CU_ASSERT(!up_lab_step(&labs[i]).skipped);
        for (int k = 0; k < 2; k++) {
            for (int i = 2; i < LABS; i++) spread = fmax(spread, fabs(labs[i].losses[k] - labs[0].losses[k]));
            double off = fabs(labs[1].losses[k] - labs[0].losses[k]);
            outside += !(off <= 2 * spread);
            furthest = fmax(furthest, off);
            furthest_share = fmax(furthest_share, off / spread);
        }
    }
    printf("[seed %llu: off by %.1e, %.2f of an honest spread] ", (unsigned long long)up_test_seed(),
           furthest, furthest_share);
    CU_ASSERT_EQUAL(outside, 0);
    for (int i = 0; i < LABS; i++) up_lab_close(&labs[i]);
}

/* ---- gradients ---- */

/* Away from the start, where all features are alike. */
static void disturb(up_lab *lab) {
    const up_params *p = up_model_params(lab->model);
    float *w = up_lab_download(lab, UP_LAB_WEIGHTS);
    up_rng rng = up_rng_make(up_test_seed(), 3, 3, 3);
    for (int i = 0; i < p->count; i++)
        for (int64_t k = 0; p->list[i].group != UP_GROUP_TEMPERATURE && k < p->list[i].rows * p->list[i].cols;
             k++)
            w[p->list[i].offset + k] += (float)(0.2 * up_rng_normal(&rng));
    up_lab_upload_weights(lab, w);
    free(w);
}

static double loss_at(up_lab *lab, const up_source *source, const float *weights) {
    up_lab_upload_weights(lab, weights);
    build_rows(lab, source, six_rows, 3, 0); /* anew: a batch's own targets were taken */
    return up_lab_gradients(lab, 1).loss;
}

/* (f(w + h d) - f(w - h d)) against g . ((w + h d) - (w - h d)), both over 2 h: the weights are rounded to
 * f32, the difference that was really taken is used. */
static void central(up_lab *lab, const up_source *source, const float *w, const double *d, const float *g,
                    double h, double *slope, double *expected) {
    size_t n = (size_t)up_model_params(lab->model)->total;
    float *up = malloc(n * sizeof *up), *down = malloc(n * sizeof *down);
    *expected = 0;
    for (size_t i = 0; i < n; i++) {
        up[i] = (float)(w[i] + h * d[i]);
        down[i] = (float)(w[i] - h * d[i]);
        *expected += (double)g[i] * ((double)up[i] - down[i]) / (2 * h);
    }
    *slope = (loss_at(lab, source, up) - loss_at(lab, source, down)) / (2 * h);
    free(up);
    free(down);
}

/* Each tensor's part: its gradient scaled to a random length of either sign, and as much of random direction.
 * So a gradient that is wrong in any tensor, in size or direction, changes the product. *scale: the tensors'
 * parts of the product without their signs. */
static double *direction(const up_params *p, const float *g, uint64_t key, double *scale) {
    double *d = calloc((size_t)p->total, sizeof *d);
    up_rng rng = up_rng_make(up_test_seed(), key, 5, 5);
    *scale = 0;
    for (int i = 0; i < p->count; i++) {
        const up_param *q = &p->list[i];
        int64_t n = q->rows * q->cols;
        double norm = 0, length = 0.5 + up_rng_uniform(&rng);
        if (up_rng_u32(&rng) & 1) length = -length;
        for (int64_t k = q->offset; k < q->offset + n; k++) norm += (double)g[k] * g[k];
        norm = sqrt(norm);
        *scale += fabs(length) * norm;
        for (int64_t k = q->offset; norm > 0 && k < q->offset + n; k++)
            if (g[k] != 0 || i != p->token)
                d[k] = length * g[k] / norm + 0.5 * up_rng_normal(&rng) / sqrt((double)n);
    }
    return d;
}

static void test_gradient_is_the_slope(void) {
    static const char *const more[] = {"model.drop_path=0", "model.layer_scale=true"};
    up_lab lab;
    double worst = 0;
    up_lab_open(&lab, backend_of("ref"), more, 2);
    const up_params *p = up_model_params(lab.model);
    disturb(&lab);
    float *w = up_lab_download(&lab, UP_LAB_WEIGHTS);
    for (size_t s = 0; s < lab.settings.task_count; s++) {
        build_rows(&lab, &lab.sources[s], six_rows, 3, 0);
        up_lab_upload_weights(&lab, w);
        up_lab_zero(&lab);
        up_lab_gradients(&lab, 1);
        float *g = up_lab_download(&lab, UP_LAB_GRADIENTS);
        for (uint64_t key = 0; key < 2; key++) {
            double scale, *d = direction(p, g, 2 * s + key, &scale), h = 1e-2, wide, narrow, expected;
            central(&lab, &lab.sources[s], w, d, g, h, &wide, &expected);
            central(&lab, &lab.sources[s], w, d, g, h / 2, &narrow, &expected);
            /* f's own rounding: logits up to 1 / tau = 14.3, behind them a chain of 2 layers with 9
             * operations, 3 of the embedding and 3 of the loss, each storing f32: sqrt(24) 2^-24 of them on
             * average, at either end of the narrow step, whose length is h. The third derivative's part falls
             * by 4 when h is halved: what the narrow one has left is (wide - narrow) / 3. Twice their sum. */
            double noise = M_SQRT2 * sqrt(24) * 0x1p-24 * 14.3 / h, truncation = fabs(wide - narrow) / 3;
            double bound = 2 * (noise + truncation), off = fabs(narrow - expected);
            if (!(off <= bound) || !(bound < 0.05 * scale))
                fprintf(stderr, "%s: slope %.8g, gradient %.8g, off %.2e, bound %.2e (UP_TEST_SEED=%llu)\n",
                        lab.sources[s].task->name, narrow, expected, off, bound,
                        (unsigned long long)up_test_seed());
            CU_ASSERT(off <= bound);
            CU_ASSERT(bound < 0.05 * scale); /* else it would say nothing */
            worst = fmax(worst, off / scale);
            free(d);
        }
        free(g);
    }
    printf("[seed %llu: worst relative difference %.1e] ", (unsigned long long)up_test_seed(), worst);
    free(w);
    up_lab_close(&lab);
}

/* ||a - b|| of n values, and the norms' sum of the parts that they were made of. */
static double distance(const float *a, const float *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sqrt(sum);
}
static double norm(const float *a, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)a[i] * a[i];
    return sqrt(sum);
}

/* Accumulated against one pass, with random crops and drop path: the draws belong to the samples. */
static void test_halves_make_the_whole(void) {
    static const char *const more[] = {"model.drop_path=0.3"};
    up_lab lab;
    up_lab_open(&lab, backend_of("ref"), more, 1);
    up_source *s = up_lab_source(&lab, "image_classification");
    int64_t n = up_model_params(lab.model)->total;
    float *g[3]; /* whole, first half, both halves */
    double losses[3];
    build_rows(&lab, s, six_rows, 6, 20);
    losses[0] = up_lab_gradients(&lab, 1).loss;
    g[0] = up_lab_download(&lab, UP_LAB_GRADIENTS);
    up_lab_zero(&lab);
    up_stepper_begin(&lab.stepper, lab.step);
    for (int half = 0; half < 2; half++) {
        build_rows(&lab, s, six_rows + 3 * half, 3, 20 + 3 * (uint64_t)half);
        losses[1 + half] = up_lab_iterate(&lab, 0.5).loss;
        CU_ASSERT(up_target_set_owes(s->set)); /* it goes back once, at the end */
        g[1 + half] = up_lab_download(&lab, UP_LAB_GRADIENTS);
    }
    free(g[2]);
    UP_ASSERT_OK(up_stepper_gather(&lab.stepper));
    CU_ASSERT(!up_target_set_owes(s->set));
    g[2] = up_lab_download(&lab, UP_LAB_GRADIENTS);
    double size = norm(g[1], n) + distance(g[2], g[1], n);
    /* both ways store about 50 tensors on the way down and up: 50 roundings of at most 2^-24 each way, of the
     * parts */
    CU_ASSERT(size > 0 && distance(g[2], g[0], n) <= 2 * 50 * 0x1p-24 * size);
    CU_ASSERT(fabs(losses[1] + losses[2] - losses[0]) <= 50 * 0x1p-24 * 14.3);
    for (int i = 0; i < 3; i++) free(g[i]);
    up_lab_close(&lab);
}

/* Target sets in chunks, each encoded a second time on the way back, against whole ones: the same numbers go
 * through the same operations row by row, and the same draws of drop path; only the order differs in which
 * the f32 gradients of the parameters are added up. */
static void chunks_make_the_whole(const char *precision) {
    const char *whole_more[] = {precision, "model.drop_path=0.3", "set_tokens=1000000",
                                "optimizer.loss_scale=1"};
    const char *chunk_more[] = {precision, "model.drop_path=0.3", "set_tokens=9", "optimizer.loss_scale=1",
                                "set_memory=0"};
    up_lab whole, chunk;
    double worst = 0;
    up_lab_open(&whole, backend_of("ref"), whole_more, 4);
    up_lab_open(&chunk, backend_of("ref"), chunk_more, 5);
    disturb(&whole);
    disturb(&chunk);
    int64_t n = up_model_params(whole.model)->total;
    for (size_t i = 0; i < whole.settings.task_count; i++) {
        float *g[2];
        up_lab *labs[2] = {&whole, &chunk};
        double losses[2];
        for (int k = 0; k < 2; k++) {
            build_rows(labs[k], &labs[k]->sources[i], six_rows, 3, 40);
            up_lab_zero(labs[k]);
            losses[k] = up_lab_gradients(labs[k], 1).loss;
            g[k] = up_lab_download(labs[k], UP_LAB_GRADIENTS);
        }
        CU_ASSERT(isfinite(losses[0]) && losses[0] > 0);
        CU_ASSERT_EQUAL(losses[0], losses[1]);
        /* 60 chunks at most add to each gradient: a rounding each, of what the parts are in sum */
        double off = distance(g[0], g[1], n), size = norm(g[0], n);
        if (!(off <= 60 * 0x1p-24 * size))
            fprintf(stderr, "%s: off %.2e of %.2e\n", whole.sources[i].task->name, off, size);
        CU_ASSERT(size > 0 && off <= 60 * 0x1p-24 * size);
        worst = fmax(worst, off / size);
        free(g[0]);
        free(g[1]);
    }
    CU_ASSERT(up_stepper_set_tokens(&chunk.stepper) > up_stepper_set_tokens(&whole.stepper));
    printf("[worst %.1e] ", worst);
    up_lab_close(&whole);
    up_lab_close(&chunk);
}

static void test_chunks_f32(void) {
    chunks_make_the_whole("precision=f32");
}
static void test_chunks_bf16(void) {
    chunks_make_the_whole("precision=bf16");
}
static void test_chunks_f16(void) {
    chunks_make_the_whole("precision=f16");
}

/* Equal target texts are no negatives of each other: where all are equal there is nothing to learn. */
static void test_equal_texts(void) {
    char data[600];
    up_lab lab;
    up_lab_config(); /* makes the folder */
    snprintf(data, sizeof data, "tasks.%d.data=%s", up_lab_clips() ? 7 : 6,
             up_lab_text("same.tsv", "text\tword\na cat\tyes\na dog\tyes\na tree\tyes\na house\tYES\n"));
    const char *more[] = {data};
    up_lab_open(&lab, backend_of("ref"), more, 1);
    up_source *s = up_lab_source(&lab, "text_retrieval");
    build_rows(&lab, s, six_rows, 4, 0);
    up_loss_value value = up_lab_gradients(&lab, 1);
    float *g = up_lab_download(&lab, UP_LAB_GRADIENTS);
    CU_ASSERT(fabs(value.loss) < 1e-6 && value.rows == 4 && value.accuracy == 1);
    CU_ASSERT(norm(g, up_model_params(lab.model)->total) < 1e-5);
    free(g);
    up_lab_close(&lab);
}

/* A sample as large as the vocabulary is the vocabulary. */
static void test_sampled_targets(void) {
    char all[64], few[64];
    int task = up_lab_clips() ? 2 : 1;
    snprintf(all, sizeof all, "tasks.%d.sampled_targets=1000000", task);
    snprintf(few, sizeof few, "tasks.%d.sampled_targets=7", task);
    const char *more[3] = {"seed=11", all, few};
    up_loss_value values[3];
    for (int i = 0; i < 3; i++) {
        up_lab lab;
        const char *const overrides[] = {more[i], "model.drop_path=0"}; /* the sets draw for themselves */
        up_lab_open(&lab, backend_of("ref"), overrides, 2);
        up_source *s = up_lab_source(&lab, "mlm");
        disturb(&lab);
        build_rows(&lab, s, six_rows, 3, 0);
        int own = lab.work.batch.readouts;
        values[i] = up_lab_gradients(&lab, 1);
        int64_t targets = up_target_set_count(s->set);
        if (i < 2) CU_ASSERT_EQUAL(targets, lab.world.vocabulary_count);
        if (i == 2) CU_ASSERT(targets > 7 && targets <= 7 + own);
        CU_ASSERT(values[i].rows > 0 && values[i].loss > 0);
        up_lab_close(&lab);
    }
    CU_ASSERT_EQUAL(values[0].loss, values[1].loss);
    CU_ASSERT_NOT_EQUAL(values[0].loss, values[2].loss);
}

static double logit_gradient(up_lab *lab, const up_source *source, float log_scale, double *loss) {
    float gradient;
    up_backend *b = lab->backend;
    int param = up_model_params(lab->model)->temperature[source->temperature];
    UP_ASSERT_OK(b->ops->upload(b, up_model_weight(lab->model, param), &log_scale));
    up_model_changed(lab->model);
    up_lab_zero(lab);
    build_rows(lab, source, six_rows, 3, 1);
    *loss = up_lab_gradients(lab, 1).loss;
    UP_ASSERT_OK(b->ops->download(b, &gradient, up_gradient(lab->stepper.gradients, param)));
    return gradient;
}

static void temperature_is_clamped(const char *backend) {
    up_lab lab;
    double at, above, below_it, far;
    up_lab_open(&lab, backend_of(backend), NULL, 0);
    for (int i = 0; i < 4; i++) up_lab_step(&lab);
    up_source *s = up_lab_source(&lab, "image_text_retrieval");
    float limit = (float)log(UP_MAX_LOGIT_SCALE);
    CU_ASSERT(logit_gradient(&lab, s, limit - 0.01f, &below_it) != 0);
    logit_gradient(&lab, s, limit, &at);
    CU_ASSERT_EQUAL(logit_gradient(&lab, s, limit + 0.01f, &above), 0);
    CU_ASSERT_EQUAL(logit_gradient(&lab, s, 80, &far), 0);
    CU_ASSERT_EQUAL(above, far);
    CU_ASSERT(fabs(at - above) <= 1e-5 * fabs(at)); /* exp((float)ln 100) is 100 within 2^-22 */
    CU_ASSERT(below_it != above);
    up_lab_close(&lab);
}

static void test_temperature_clamp(void) {
    temperature_is_clamped("ref");
    temperature_is_clamped(UNDER_TEST);
}

/* Factors of drop path: 0 with probability p, else 1 / (1 - p); those of a sequence in a larger batch, alone
 * and at another place. */
static void test_drop_path(void) {
    enum { SEQUENCES = 6, LAYERS = 2, FACTORS = 2 * LAYERS, STEPS = 1000 };
    static const double p = 0.25;
    up_config config;
    up_batch all = {0}, one = {0};
    float many[FACTORS * SEQUENCES], alone[FACTORS], before[FACTORS * SEQUENCES] = {0};
    int64_t dropped = 0, other = 0, moved = 0, repeated = 0;
    UP_ASSERT_OK(up_config_preset("tiny", &config));
    UP_ASSERT_OK(up_batch_begin(&all, &config));
    for (uint64_t i = 0; i < SEQUENCES; i++) {
        UP_ASSERT_OK(up_batch_open(&all, UP_SIDE_INPUT, 1));
        UP_ASSERT_OK(up_batch_close_as(&all, 1000 + i));
    }
    UP_ASSERT_OK(up_batch_begin(&one, &config));
    UP_ASSERT_OK(up_batch_append(&one, &all, 4, 1));
    for (uint64_t step = 0; step < STEPS; step++) {
        up_drop_path(p, LAYERS, up_test_seed(), step, &all, many);
        up_drop_path(p, LAYERS, up_test_seed(), step, &one, alone);
        for (int i = 0; i < FACTORS * SEQUENCES; i++) {
            dropped += many[i] == 0;
            other += many[i] != 0 && many[i] != (float)(1 / (1 - p));
        }
        for (int i = 0; i < FACTORS; i++) moved += alone[i] != many[i * SEQUENCES + 4];
        repeated += !memcmp(many, before, sizeof many);
        memcpy(before, many, sizeof many);
    }
    double n = (double)FACTORS * SEQUENCES * STEPS, off = ((double)dropped - n * p) / sqrt(n * p * (1 - p));
    CU_ASSERT(other == 0 && moved == 0 && repeated == 0);
    CU_ASSERT(fabs(off) < 4.9); /* more once in a million seeds */
    up_batch_free(&all);
    up_batch_free(&one);
}

/* ---- what learns ---- */

/* Steps with the groups of the paper's Table 9: every other weight keeps its bits, and has no moments. */
static void test_groups_that_learn(void) {
    static const char *const more[] = {"learn=[spe, norm, prompt, head]", "model.prompts=2",
                                       "model.prompt_sides=2"};
    const unsigned groups =
        1u << UP_GROUP_SPE | 1u << UP_GROUP_NORM | 1u << UP_GROUP_PROMPT | 1u << UP_GROUP_LINEAR_HEAD;
    up_lab lab;
    int moved = 0, kept = 0;
    int64_t wanted[UP_GROUP_COUNT] = {0}, counts[UP_GROUP_COUNT];
    up_lab_open(&lab, backend_of("ref"), more, 3);
    const up_params *p = up_model_params(lab.model);
    float *before = up_lab_download(&lab, UP_LAB_WEIGHTS);
    for (int i = 0; i < 3; i++) CU_ASSERT(!up_lab_step(&lab).skipped);
    float *after = up_lab_download(&lab, UP_LAB_WEIGHTS);
    for (int i = 0; i < p->count; i++) {
        const up_param *q = &p->list[i];
        int64_t n = q->rows * q->cols;
        int same = !memcmp(before + q->offset, after + q->offset, (size_t)n * sizeof *after);
        int learns = (groups >> q->group & 1) != 0;
        CU_ASSERT_EQUAL(up_learns(lab.stepper.gradients, i), learns);
        for (int order = 1; order <= 2; order++)
            CU_ASSERT_EQUAL(up_view_present(up_optimizer_moment(lab.stepper.optimizer, order, i)), learns);
        if (learns) wanted[q->group] += n;
        moved += learns && !same;
        kept += !learns && same;
        CU_ASSERT(learns || same);
    }
    CU_ASSERT(moved >= 1 + 2 * 2 * 2 + 2 && kept > 10); /* <SPE>, norms of 2 layers, their prompts */
    up_optimizer_count(lab.stepper.optimizer, counts);
    for (int g = 0; g < UP_GROUP_COUNT; g++) CU_ASSERT_EQUAL(counts[g], wanted[g]);
    free(before);
    free(after);
    up_lab_close(&lab);
    static const char *const nothing[] = {"learn=[head]"}; /* which this model does not have */
    up_lab_config();
    up_settings settings;
    up_stepper stepper;
    up_backend *b = backend_of("ref");
    up_config config;
    up_model *model;
    up_comm *comm;
    UP_ASSERT_OK(up_settings_read(up_lab_config(), nothing, 1, &settings));
    UP_ASSERT_OK(up_settings_model(&settings, &config));
    UP_ASSERT_OK(up_model_create(b, &config, 1, &model));
    UP_ASSERT_OK(up_comm_none(&comm));
    CU_ASSERT_EQUAL(up_stepper_open(&settings, model, comm, &stepper), UP_ERR_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(up_last_error(), "learn"));
    up_comm_free(comm);
    up_model_destroy(model);
    up_backend_free(b);
    up_settings_free(&settings);
}

static void test_two_runs_on_one_backend(void) {
    static const char *const other[] = {"seed=12", "set_tokens=20", "set_memory=0"};
    up_lab alone, a, b;
    up_lab_open(&alone, backend_of("cpu"), NULL, 0);
    up_lab_open(&a, backend_of("cpu"), NULL, 0);
    up_lab_open(&b, a.backend, other, 3);
    b.shared = 1;
    for (int i = 0; i < 4; i++) {
        up_lab_step(&alone);
        up_lab_step(&a);
        up_lab_step(&b);
    }
    state want = state_of(&alone);
    CU_ASSERT(same_state(&a, &want));
    CU_ASSERT(!same_state(&b, &want));
    state_free(&want);
    up_lab_close(&alone);
    up_lab_close(&b);
    up_lab_close(&a);
}

/* ---- buckets and communicators ---- */

/* A communicator that writes down what it is given; of two ranks that have the same gradients where `twice`.
 */
typedef struct recorder {
    up_comm comm;
    up_comm_ops ops;
    up_lab *lab;
    int next; /* the lowest bucket that may come now */
    int calls, wrong, waits;
    float *seen; /* what each bucket held when it came */
} recorder;

static up_status record(up_comm *comm, up_backend *backend, up_view gradients) {
    recorder *r = comm->state;
    const up_gradients *all = r->lab->stepper.gradients;
    int bucket = r->next;
    while (bucket < up_gradients_buckets(all) && !up_gradients_bucket(all, bucket).cols) bucket++;
    up_view wanted = up_gradients_bucket(all, bucket < up_gradients_buckets(all) ? bucket : 0);
    r->wrong += bucket == up_gradients_buckets(all) || wanted.offset != gradients.offset ||
                wanted.cols != gradients.cols;
    r->next = bucket + 1;
    r->calls++;
    float *values = r->seen + (gradients.offset - up_gradients_all(all).offset);
    UP_TRY(backend->ops->download(backend, values, gradients));
    if (comm->ranks == 1) return UP_OK;
    for (int64_t i = 0; i < gradients.cols; i++) values[i] *= 2;
    return backend->ops->upload(backend, gradients, values);
}

static up_status count_wait(up_comm *comm) {
    recorder *r = comm->state;
    r->waits++;
    return UP_OK;
}

static void keep(up_comm *comm) {
    (void)comm;
}

static void recorder_open(recorder *r, up_lab *lab, int ranks) {
    *r = (recorder){.lab = lab, .ops = *lab->comm->ops};
    r->ops.allreduce = record;
    r->ops.wait = count_wait;
    r->ops.destroy = keep;
    r->comm = (up_comm){.ops = &r->ops, .ranks = ranks, .state = r};
    r->seen = calloc((size_t)up_gradients_all(lab->stepper.gradients).cols, sizeof *r->seen);
    up_comm_free(lab->comm);
    lab->comm = lab->stepper.comm = &r->comm;
}

static void buckets_are_complete(const char *const *more, size_t count) {
    up_lab lab;
    recorder r;
    up_lab_open(&lab, backend_of("ref"), more, count);
    recorder_open(&r, &lab, 1);
    up_view all = up_gradients_all(lab.stepper.gradients);
    float *now = calloc((size_t)all.cols, sizeof *now);
    for (int step = 0; step < 3; step++) {
        r.next = r.calls = r.waits = 0;
        up_stepper_begin(&lab.stepper, step);
        for (int i = 0; i < 2; i++) {
            up_lab_build(&lab, 2 * step + i);
            up_lab_iterate(&lab, 0.5);
            CU_ASSERT_EQUAL(r.calls, 0); /* nothing is final before the last pass of the step */
        }
        UP_ASSERT_OK(up_stepper_gather(&lab.stepper));
        int buckets = 0;
        for (int b = 0; b < up_gradients_buckets(lab.stepper.gradients); b++)
            buckets += up_gradients_bucket(lab.stepper.gradients, b).cols > 0;
        CU_ASSERT(r.calls == buckets && r.wrong == 0 && r.waits == 1);
        UP_ASSERT_OK(lab.backend->ops->download(lab.backend, now, all));
        CU_ASSERT(!memcmp(now, r.seen, (size_t)all.cols * sizeof *now)); /* nothing came after the report */
        UP_ASSERT_OK(up_optimizer_step(lab.stepper.optimizer, 1e-3));
    }
    free(now);
    free(r.seen);
    up_lab_close(&lab);
}

static void test_buckets(void) {
    static const char *const chunked[] = {"set_tokens=9", "set_memory=0"},
                             *const frozen[] = {"learn=[spe, norm]"},
                             *const deep[] = {"learn=[temperature, output]"};
    buckets_are_complete(NULL, 0);
    buckets_are_complete(chunked, 2);
    buckets_are_complete(frozen, 1);
    buckets_are_complete(deep, 1);
}

/* Two ranks of the same samples are one rank: halves and doubles are exact. */
static void test_two_ranks(void) {
    up_lab one, two;
    recorder r;
    up_lab_open(&one, backend_of("ref"), NULL, 0);
    up_lab_open(&two, backend_of("ref"), NULL, 0);
    recorder_open(&r, &two, 2);
    for (int i = 0; i < 3; i++) {
        r.next = 0;
        up_step_value a = up_lab_step(&one), b = up_lab_step(&two);
        CU_ASSERT(a.gradient_norm > 0 && a.gradient_norm == b.gradient_norm);
        CU_ASSERT(one.losses[0] == two.losses[0] && one.losses[1] == two.losses[1]);
    }
    state want = state_of(&one);
    CU_ASSERT(same_state(&two, &want));
    state_free(&want);
    free(r.seen);
    up_lab_close(&one);
    up_lab_close(&two);
}

/* ---- the loss scale ---- */

/* Halved at each overflow down to the floor, doubled after three good steps. */
static void scale_moves(const char *floor_text, double floor, int *skipped, int *doubled) {
    const char *more[] = {"precision=f16", "optimizer.loss_scale=1099511627776", "optimizer.scale_steps=3",
                          floor_text, "steps=60"};
    up_lab lab;
    double scale = 0x1p40;
    int good = 0;
    *skipped = *doubled = 0;
    up_lab_open(&lab, backend_of("ref"), more, 5);
    for (int i = 0; i < 40; i++) {
        state before = state_of(&lab);
        up_step_value value = up_lab_step(&lab);
        good = value.skipped ? 0 : good + 1;
        if (value.skipped) {
            CU_ASSERT(same_state(&lab, &before));
            scale = fmax(scale / 2, floor);
            ++*skipped;
        }
        if (good == 3) {
            scale *= 2;
            good = 0;
            ++*doubled;
        }
        CU_ASSERT(value.skipped || (isfinite(value.gradient_norm) && value.gradient_norm < 1e4));
        CU_ASSERT_EQUAL(value.loss_scale, scale);
        state_free(&before);
    }
    up_lab_close(&lab);
}

static void test_loss_scale(void) {
    int skipped, doubled;
    scale_moves("optimizer.min_scale=2048", 2048, &skipped, &doubled);
    printf("[%d skipped, %d times doubled] ", skipped, doubled);
    CU_ASSERT(skipped > 5 && doubled > 1);
    scale_moves("optimizer.min_scale=68719476736", 0x1p36, &skipped, &doubled);
    CU_ASSERT(skipped == 40 && doubled == 0);
    /* what the settings say of a scale, by precision */
    up_settings s = {.optimizer = {.scale_steps = 200, .min_scale = 2048}};
    up_adamw a = up_settings_adamw(&s);
    CU_ASSERT(a.loss_scale == 0 && a.good_steps == 0);
    s.precision = 1;
    CU_ASSERT_EQUAL(up_settings_dtype(&s), UP_BF16);
    a = up_settings_adamw(&s);
    CU_ASSERT(a.loss_scale == 0 && a.good_steps == 0);
    s.precision = 2;
    CU_ASSERT_EQUAL(up_settings_dtype(&s), UP_F16);
    a = up_settings_adamw(&s);
    CU_ASSERT(a.loss_scale == 65536 && a.good_steps == 200 && a.min_scale == 2048);
}

/* ---- layer-wise rates ---- */

/* By hand, from a tensor's name: what lies behind the encoder at the full rate, the last layer at d of it,
 * one factor more for each layer below, and one for the embeddings. */
static double rate_of(const char *name, int layers, double d) {
    int layer;
    if (sscanf(name, "layers.%d.", &layer) == 1) return pow(d, layers - layer);
    if (!strncmp(name, "logit_scale.", 12) || !strncmp(name, "head.", 5) || !strncmp(name, "output.", 7))
        return 1;
    return pow(d, layers + 1);
}

/* One step from weights of 0 without decay moves each weight by its rate times what it moves by at a rate of
 * 1: the same gradients, so the same quotient of moments. */
static void check_layer_decay(const char *backend, double d) {
    const up_adamw plain = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8},
                   decayed = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .layer_decay = d};
    up_lab lab;
    up_backend *b = NULL;
    float *moved[2];
    UP_ASSERT_OK(up_backend_create(backend, 2, &b));
    up_lab_open(&lab, b, NULL, 0);
    const up_params *p = up_model_params(lab.model);
    for (int run = 0; run < 2; run++) {
        up_optimizer *o = NULL;
        UP_ASSERT_OK(up_optimizer_create(lab.stepper.gradients, run ? &decayed : &plain, &o));
        for (int i = 0; i < p->count; i++) UP_ASSERT_OK(b->ops->fill(b, up_model_weight(lab.model, i), 0));
        UP_ASSERT_OK(b->ops->fill(b, up_gradients_all(lab.stepper.gradients), 0.25));
        UP_ASSERT_OK(up_optimizer_step(o, 1e-3));
        moved[run] = up_lab_download(&lab, UP_LAB_WEIGHTS);
        up_optimizer_free(o);
    }
    for (int i = 0; i < p->count; i++) {
        double rate = rate_of(p->list[i].name, lab.config.layers, d);
        for (int64_t k = p->list[i].offset; k < p->list[i].offset + p->list[i].rows * p->list[i].cols; k++) {
            double want = rate * (double)moved[0][k];
            CU_ASSERT(moved[0][k] != 0);
            CU_ASSERT(fabs((double)moved[1][k] - want) <=
                      4 * 0x1p-24 * fabs(want)); /* rate, product, store */
        }
    }
    free(moved[0]);
    free(moved[1]);
    up_lab_close(&lab);
}

static void test_layer_decay(void) {
    check_layer_decay("ref", 0.5);
    check_layer_decay("cpu", 0.65);
}

const up_test up_tests[] = {
    {"gradient is the slope", test_gradient_is_the_slope},
    {"halves make the whole", test_halves_make_the_whole},
    {"temperature clamp", test_temperature_clamp},
    {"whole steps behind guard", test_whole_steps_behind_guard},
    {"static shapes", test_static_shapes},
    {"steps never wait", test_steps_never_wait},
    {"follows ref", test_follows_ref},
    {"not finite: ref", test_not_finite_ref},
    {"not finite", test_not_finite_under_test},
    {"chunks make the whole: f32", test_chunks_f32},
    {"chunks make the whole: bf16", test_chunks_bf16},
    {"chunks make the whole: f16", test_chunks_f16},
    {"drop path", test_drop_path},
    {"equal texts", test_equal_texts},
    {"sampled targets", test_sampled_targets},
    {"groups that learn", test_groups_that_learn},
    {"two runs on one backend", test_two_runs_on_one_backend},
    {"buckets", test_buckets},
    {"two ranks", test_two_ranks},
    {"loss scale", test_loss_scale},
    {"layer decay", test_layer_decay},
    {NULL, NULL},
};

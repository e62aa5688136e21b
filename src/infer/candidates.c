/* candidates.c - target sets that the caller keeps, and the one formula of the paper (equations 1 and 2):
 *     P(x, y) ~ exp(cos(f(x), f(y)) / tau), normalised over the candidates y,
 * with the linear head of equation 4 where it is asked for. */
#include "infer/session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct up_candidates {
    up_session *session;
    up_target_set *set; /* NULL: the features are all there is */
    up_features given;
    int count, head;
};

/* --- making them --- */

static up_status begin(up_session *s, const void *list, int n, const char *what, up_candidates **out) {
    UP_TRY(up_given(out, what));
    *out = NULL;
    UP_TRY(up_given(s, "session"));
    if (n < 1) return up_fail(UP_ERR_ARGUMENT, "candidates", "%d of them; wanted at least 1", n);
    UP_TRY(up_given(list, what));
    *out = calloc(1, sizeof **out);
    if (!*out) return up_fail(UP_ERR_MEMORY, "candidates", "%zu bytes wanted", sizeof **out);
    **out = (up_candidates){.session = s, .count = n};
    return UP_OK;
}

static up_status fill(up_candidates *c, const up_input *inputs) {
    up_session *s = c->session;
    up_batch batch = {0};
    up_status status = UP_OK;
    UP_GO(up_target_set_create(s->model, 0, 0, &c->set));
    UP_GO(up_batch_begin(&batch, up_model_config(s->model)));
    for (int i = 0; i < c->count; i++) UP_GO(up_input_pack(s, &inputs[i], UP_SIDE_TARGET, &batch));
    UP_GO(up_target_set_fill(c->set, &batch));
done:
    up_batch_free(&batch);
    return status;
}

up_status up_candidates_create(up_session *s, const up_input *inputs, int n, up_candidates **out) {
    up_candidates *c = NULL;
    UP_TRY(begin(s, inputs, n, "candidates", out));
    c = *out;
    up_status status = fill(c, inputs);
    if (status == UP_OK) return UP_OK;
    *out = NULL;
    up_candidates_free(c);
    return status;
}

up_status up_candidates_create_texts(up_session *s, const char *const *texts, int n, up_candidates **out) {
    up_status status = UP_OK;
    UP_TRY(begin(s, texts, n, "texts", out));
    up_candidates *c = *out;
    *out = NULL;
    up_part *parts = calloc((size_t)n, sizeof *parts);
    up_input *inputs = calloc((size_t)n, sizeof *inputs);
    if (!parts || !inputs) UP_GO(up_fail(UP_ERR_MEMORY, "texts", "no memory for %d", n));
    for (int i = 0; i < n; i++) {
        if (!texts[i]) UP_GO(up_fail(UP_ERR_ARGUMENT, "texts", "number %d is NULL", i));
        parts[i] =
            (up_part){.kind = UP_PART_TEXT, .data = texts[i], .size = strlen(texts[i]), .name = "label"};
        inputs[i] = (up_input){&parts[i], 1, 0};
    }
    UP_GO(fill(c, inputs));
    *out = c;
    c = NULL;
done:
    up_candidates_free(c);
    free(parts);
    free(inputs);
    return status;
}

up_status up_candidates_create_features(up_session *s, const float *features, int n, up_candidates **out) {
    up_status status = UP_OK;
    UP_TRY(begin(s, features, n, "features", out));
    up_candidates *c = *out;
    *out = NULL;
    for (size_t i = 0; i < (size_t)n * (size_t)up_session_width(s); i++)
        if (!isfinite(features[i])) UP_GO(up_fail(UP_ERR_NUMERIC, "features", "value %zu is not finite", i));
    UP_GO(up_features_create(s->model, 0, &c->given));
    UP_GO(up_features_resize(&c->given, n));
    UP_GO(s->backend->ops->upload(s->backend, c->given.raw, features));
    UP_GO(up_features_normalize(&c->given));
    *out = c;
    c = NULL;
done:
    up_candidates_free(c);
    return status;
}

void up_candidates_free(up_candidates *c) {
    if (!c) return;
    up_target_set_free(c->set);
    up_features_free(&c->given);
    free(c);
}

int up_candidates_count(const up_candidates *c) {
    return c ? c->count : 0;
}

up_status up_candidates_use_head(up_candidates *c, int use) {
    UP_TRY(up_given(c, "candidates"));
    int classes = up_model_config(c->session->model)->classes;
    if (use && classes != c->count)
        return up_fail(UP_ERR_ARGUMENT, "candidates", "%d of them; the model's linear head has %d classes",
                       c->count, classes);
    c->head = use;
    return UP_OK;
}

/* --- comparing --- */

up_status up_log_softmax(double *z, int n) {
    double largest = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++) {
        if (!isfinite(z[i]))
            return up_fail(UP_ERR_NUMERIC, "feature", "not finite: check the model and the input");
        largest = fmax(largest, z[i]);
    }
    for (int i = 0; i < n; i++) sum += exp(z[i] - largest);
    for (int i = 0; i < n; i++) z[i] -= largest + log(sum);
    return UP_OK;
}

/* Equation 4: alpha cos / tau + w f(x) + b. */
typedef struct head {
    float alpha, *bias; /* [count] */
    float *products;    /* [count] w f(x) of one input */
} head;

typedef struct comparison {
    up_candidates *candidates;
    const char *task;
    const up_input *inputs;
    up_features *targets;
    head head;
    double *z; /* [count] */
    float *out;
} comparison;

static up_status head_begin(comparison *k) {
    up_session *s = k->candidates->session;
    const up_params *p = up_model_params(s->model);
    size_t n = (size_t)k->candidates->count;
    k->head.bias = malloc(n * sizeof(float));
    k->head.products = malloc(n * sizeof(float));
    if (!k->head.bias || !k->head.products)
        return up_fail(UP_ERR_MEMORY, "candidates", "no memory for a head of %zu classes", n);
    UP_TRY(s->backend->ops->download(s->backend, &k->head.alpha, up_model_weight(s->model, p->head_alpha)));
    return s->backend->ops->download(s->backend, k->head.bias, up_model_weight(s->model, p->head_bias));
}

/* z [count] of row `row` from its cosines. */
static up_status logits_of(comparison *k, int row, double scale, const float *cosines) {
    up_session *s = k->candidates->session;
    int n = k->candidates->count;
    for (int i = 0; i < n; i++) k->z[i] = scale * (double)cosines[i];
    if (!k->candidates->head) return UP_OK;
    up_view weight = up_model_weight(s->model, up_model_params(s->model)->head_weight);
    UP_TRY(up_cosines_read(s->cosines, up_view_rows(s->features.raw, row, 1), weight, k->head.products));
    for (int i = 0; i < n; i++)
        k->z[i] = (double)k->head.alpha * k->z[i] + (double)k->head.products[i] + (double)k->head.bias[i];
    return UP_OK;
}

static up_status compare_rows(void *context, int first, int rows) {
    enum { AT_ONCE = 1 << 22 }; /* cosines in a tile */
    comparison *k = context;
    up_session *s = k->candidates->session;
    int n = k->candidates->count, step = n < AT_ONCE ? AT_ONCE / n : 1;
    for (int row = 0; row < rows; row += step) {
        int some = rows - row < step ? rows - row : step;
        float *out = k->out + (size_t)(first + row) * (size_t)n;
        UP_TRY(up_cosines_read(s->cosines, up_view_rows(s->features.unit, row, some), k->targets->unit, out));
        for (int i = 0; i < some; i++, out += n) {
            const char *task = k->task ? k->task : up_input_kind(&k->inputs[first + row + i]);
            double scale;
            UP_TRY(up_task_scale(s, task, &scale));
            UP_TRY(logits_of(k, row + i, scale, out));
            UP_TRY(up_log_softmax(k->z, n));
            for (int j = 0; j < n; j++) out[j] = (float)exp(k->z[j]);
        }
    }
    return UP_OK;
}

up_status up_candidates_compare(up_candidates *c, const char *task, const up_input *inputs, int n,
                                float *probabilities) {
    up_status status = UP_OK;
    double scale;
    UP_TRY(up_given(c, "candidates"));
    UP_TRY(up_given_list(inputs, n, "inputs"));
    UP_TRY(up_given_list(probabilities, n, "probabilities"));
    if (task) UP_TRY(up_task_scale(c->session, task, &scale)); /* a wrong name before any work */
    comparison k = {.candidates = c, .task = task, .inputs = inputs, .out = probabilities};
    k.z = malloc((size_t)c->count * sizeof *k.z);
    if (!k.z) UP_GO(up_fail(UP_ERR_MEMORY, "candidates", "no memory for %d", c->count));
    if (c->head) UP_GO(head_begin(&k));
    if (c->set) UP_GO(up_session_encode_set(c->session, c->set));
    k.targets = c->set ? up_target_set_features(c->set) : &c->given;
    UP_GO(up_encode_each(c->session, inputs, n, UP_SIDE_INPUT, compare_rows, &k));
done:
    free(k.z);
    free(k.head.bias);
    free(k.head.products);
    return status;
}

/* --- the short ways --- */

/* Requests that go to the same candidates, with the same task. */
static int goes_with(const up_request *a, const up_request *b) {
    if (a->candidates != b->candidates || !a->task != !b->task) return 0;
    return !a->task || !strcmp(a->task, b->task);
}

/* All requests from `first` on that go with it, in one call. */
static up_status answer_group(const up_request *requests, int n, int first, char *done, up_input *inputs) {
    const up_request *r = &requests[first];
    size_t width = (size_t)up_candidates_count(r->candidates);
    int count = 0;
    for (int i = first; i < n; i++)
        if (goes_with(&requests[i], r)) inputs[count++] = requests[i].input;
    float *out = malloc((size_t)count * width * sizeof *out);
    if (!out) return up_fail(UP_ERR_MEMORY, "requests", "no memory for %d answers", count);
    up_status status = up_candidates_compare(r->candidates, r->task, inputs, count, out);
    for (int i = first, k = 0; status == UP_OK && i < n; i++) {
        if (!goes_with(&requests[i], r)) continue;
        memcpy(requests[i].probabilities, out + (size_t)k++ * width, width * sizeof *out);
        done[i] = 1;
    }
    free(out);
    return status;
}

up_status up_compare_requests(const up_request *requests, int n) {
    up_status status = UP_OK;
    UP_TRY(up_given_list(requests, n, "requests"));
    char *done = calloc((size_t)n + 1, 1);
    up_input *inputs = calloc((size_t)n + 1, sizeof *inputs);
    if (!done || !inputs) UP_GO(up_fail(UP_ERR_MEMORY, "requests", "no memory for %d", n));
    for (int i = 0; i < n; i++) {
        UP_GO(up_given(requests[i].candidates, "candidates"));
        UP_GO(up_given(requests[i].probabilities, "probabilities"));
    }
    for (int i = 0; i < n; i++)
        if (!done[i]) UP_GO(answer_group(requests, n, i, done, inputs));
done:
    free(done);
    free(inputs);
    return status;
}

up_status up_compare(up_session *s, const char *task, const up_input *input, const up_input *candidates,
                     int n, float *probabilities) {
    up_candidates *c = NULL;
    UP_TRY(up_given(input, "input"));
    UP_TRY(up_given(probabilities, "probabilities"));
    up_status status = up_candidates_create(s, candidates, n, &c);
    if (status == UP_OK) status = up_candidates_compare(c, task, input, 1, probabilities);
    up_candidates_free(c);
    return status;
}

up_status up_classify(up_session *s, const up_input *input, const char *const *labels, int n,
                      float *probabilities) {
    up_candidates *c = NULL;
    UP_TRY(up_given(input, "input"));
    UP_TRY(up_given(probabilities, "probabilities"));
    up_status status = up_candidates_create_texts(s, labels, n, &c);
    if (status == UP_OK) status = up_candidates_compare(c, NULL, input, 1, probabilities);
    up_candidates_free(c);
    return status;
}

/* ---- the best first ---- */

typedef struct ranked {
    float probability;
    int place;
} ranked;

static int by_probability(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->probability != y->probability) return x->probability < y->probability ? 1 : -1;
    return (x->place > y->place) - (x->place < y->place);
}

up_status up_order_by_probability(const float *probabilities, int n, int *order) {
    ranked *list = malloc(((size_t)n + 1) * sizeof *list);
    if (!list) return up_fail(UP_ERR_MEMORY, "ranking", "no memory for %d candidates", n);
    for (int i = 0; i < n; i++) list[i] = (ranked){probabilities[i], i};
    qsort(list, (size_t)n, sizeof *list, by_probability);
    for (int i = 0; i < n; i++) order[i] = list[i].place;
    free(list);
    return UP_OK;
}

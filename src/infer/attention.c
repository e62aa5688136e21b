/* attention.c - the attention of a read-out in the last layer, from the queries and keys of a forward pass
 * (the formula of ref/ops/attention.c, in double). An encoder for inference overwrites them; one that could
 * go back keeps them, and learning norms makes it keep those of every layer. */
#include "infer/attention.h"
#include "uniperceiver/features.h"

#include <math.h>
#include <stdlib.h>

struct up_attention {
    up_model *model; /* borrowed */
    up_gradients *gradients;
    up_encoder *encoder;
    up_features features;
};

up_status up_attention_create(up_model *model, up_attention **out) {
    up_status status = UP_OK;
    *out = NULL;
    up_attention *a = calloc(1, sizeof *a);
    if (!a) return up_fail(UP_ERR_MEMORY, "attention", "%zu bytes wanted", sizeof *a);
    a->model = model;
    UP_GO(up_gradients_create(model, 1u << UP_GROUP_NORM, &a->gradients));
    const up_encoder_options options = {.gradients = a->gradients, .all_rows = 1};
    UP_GO(up_encoder_create(model, &options, &a->encoder));
    UP_GO(up_features_create(model, 0, &a->features));
    *out = a;
    a = NULL;
done:
    up_attention_free(a);
    return status;
}

void up_attention_free(up_attention *a) {
    if (!a) return;
    up_features_free(&a->features);
    up_encoder_free(a->encoder);
    up_gradients_free(a->gradients);
    free(a);
}

/* One read-out before its keys: those of the prompts, then those of its own sequence. */
typedef struct looking {
    const int32_t *sequence; /* [UP_SEQ_FIELDS] */
    int row, prompts, keys;  /* row: in the sequence; keys: all */
    int width, heads;
    float *query, *key; /* [D], [keys, D] */
    double *p;          /* [keys] */
} looking;

static int sees(const looking *l, int j) {
    const int32_t *s = l->sequence;
    return j < l->prompts ||
           up_mask_sees(s[UP_SEQ_KIND], s[UP_SEQ_PREFIX], s[UP_SEQ_WORDS], l->row, j - l->prompts);
}

/* p [keys] of one head: softmax over the keys that are seen. */
static void probabilities(const looking *l, int head) {
    int d = l->width / l->heads;
    double largest = -INFINITY, sum = 0;
    for (int j = 0; j < l->keys; j++) {
        const float *q = l->query + head * d, *k = l->key + (size_t)j * (size_t)l->width + head * d;
        double dot = 0;
        for (int i = 0; i < d; i++) dot += (double)q[i] * (double)k[i];
        l->p[j] = sees(l, j) ? dot / sqrt((double)d) : -INFINITY;
        largest = fmax(largest, l->p[j]);
    }
    for (int j = 0; j < l->keys; j++) {
        l->p[j] = exp(l->p[j] - largest);
        sum += l->p[j];
    }
    for (int j = 0; j < l->keys; j++) l->p[j] /= sum;
}

static up_status download_keys(const up_attention *a, const looking *l) {
    up_backend *b = up_model_backend(a->model);
    const up_config *c = up_model_config(a->model);
    const int32_t *s = l->sequence;
    int last = c->layers - 1, side = c->prompt_sides > 1 ? s[UP_SEQ_SIDE] : 0;
    up_view queries = up_encoder_view(a->encoder, UP_ENCODER_QUERIES, last);
    up_view keys = up_encoder_view(a->encoder, UP_ENCODER_KEYS, last);
    up_view prompts = up_encoder_view(a->encoder, UP_ENCODER_PROMPT_KEYS, last);
    UP_TRY(b->ops->download(b, l->query, up_view_rows(queries, s[UP_SEQ_Q_START] + l->row, 1)));
    if (l->prompts)
        UP_TRY(b->ops->download(b, l->key, up_view_rows(prompts, (int64_t)side * l->prompts, l->prompts)));
    return b->ops->download(b, l->key + (size_t)l->prompts * (size_t)l->width,
                            up_view_rows(keys, s[UP_SEQ_K_START], s[UP_SEQ_K_COUNT]));
}

static const int32_t *sequence_of(const up_batch *batch, int row) {
    const int32_t *s = batch->sequence;
    while (row >= s[UP_SEQ_Q_START] + s[UP_SEQ_Q_COUNT]) s += UP_SEQ_FIELDS;
    return s;
}

static up_status look(const up_attention *a, looking *l, float *out) {
    int own = l->keys - l->prompts;
    size_t width = (size_t)l->width;
    up_status status = UP_OK;
    l->query = malloc(width * sizeof *l->query);
    l->key = malloc((size_t)l->keys * width * sizeof *l->key);
    l->p = malloc((size_t)l->keys * sizeof *l->p);
    if (!l->query || !l->key || !l->p) UP_GO(up_fail(UP_ERR_MEMORY, "attention", "%d keys wanted", l->keys));
    UP_GO(download_keys(a, l));
    for (int j = 0; j < own; j++) out[j] = 0;
    for (int h = 0; h < l->heads; h++) {
        probabilities(l, h);
        for (int j = 0; j < own; j++) out[j] += (float)(l->p[l->prompts + j] / l->heads);
    }
done:
    free(l->query);
    free(l->key);
    free(l->p);
    return status;
}

up_status up_attention_read(up_attention *a, const up_batch *batch, float *out) {
    const up_config *c = up_model_config(a->model);
    if (!batch->readouts) return up_fail(UP_ERR_ARGUMENT, "attention", "the batch reads nothing out");
    UP_TRY(up_encoder_stage(a->encoder, batch, NULL));
    UP_TRY(up_features_resize(&a->features, batch->readouts));
    UP_TRY(up_encoder_forward(a->encoder, a->features.raw));
    const int32_t *s = sequence_of(batch, batch->readout_row[0]);
    looking l = {.sequence = s,
                 .row = batch->readout_row[0] - s[UP_SEQ_Q_START],
                 .prompts = c->prompts,
                 .keys = c->prompts + s[UP_SEQ_K_COUNT],
                 .width = c->width,
                 .heads = c->heads};
    return look(a, &l, out);
}

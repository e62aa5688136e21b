/* arithmetic.c - the count of needed floating-point operations. Sizes: paper section 4.2; the narrow last
 * layer: ref/model/layers.c. */
#include "ref/model/arithmetic.h"

typedef struct counter {
    const up_config *config;
    const up_params *params;
    const up_gradients *gradients; /* NULL: no backward */
    int lowest;                    /* layer that a backward pass reaches */
    up_arithmetic sum;
} counter;

/* Rows through a map of in x out. */
static void add_linear(counter *c, int layer, int weight, double rows, double in, double out) {
    double product = 2 * rows * in * out;
    c->sum.forward += product;
    if (!c->gradients || layer < c->lowest) return;
    c->sum.backward += product;
    if (up_learns(c->gradients, weight)) c->sum.backward += product;
}

/* Scores and sums of values for so many pairs of query and key. */
static void add_attention(counter *c, int layer, double pairs) {
    double products = 4 * pairs * c->config->width;
    c->sum.forward += products;
    if (c->gradients && layer >= c->lowest) c->sum.backward += 2 * products;
}

/* How many keys up_mask_sees lets query i of a sequence attend to. */
static int count_keys(const int32_t *f, int i) {
    int place = i + f[UP_SEQ_K_COUNT] - f[UP_SEQ_Q_COUNT];
    if (f[UP_SEQ_KIND] == UP_MASK_FULL) return f[UP_SEQ_K_COUNT];
    if (f[UP_SEQ_KIND] == UP_MASK_CAUSAL) return place + 1;
    if (place < f[UP_SEQ_PREFIX]) return f[UP_SEQ_PREFIX];
    int slot = place >= f[UP_SEQ_PREFIX] + f[UP_SEQ_WORDS]; /* sees as many as its word */
    return place + 1 - (slot ? f[UP_SEQ_WORDS] : 0);
}

/* Pairs that the masks allow: of all queries, or of those that are read out. */
static double count_pairs(const up_config *config, const up_batch *batch, int read_only) {
    double pairs = 0;
    int next = 0;
    for (int s = 0; s < batch->sequences; s++) {
        const int32_t *f = batch->sequence + (int64_t)s * UP_SEQ_FIELDS;
        for (int i = 0; i < f[UP_SEQ_Q_COUNT]; i++) {
            int read = next < batch->readouts && batch->readout_row[next] == f[UP_SEQ_Q_START] + i;
            next += read;
            if (read_only && !read) continue;
            pairs += config->prompts + count_keys(f, i);
        }
    }
    return pairs;
}

static void add_layer(counter *c, const up_batch *batch, int layer, double all_pairs, double read_pairs) {
    const up_layer_index *p = &c->params->layers[layer];
    double d = c->config->width, ffn = c->config->ffn, tokens = batch->tokens;
    int last = layer == c->config->layers - 1;
    double rows = last ? batch->readouts : tokens;
    add_linear(c, layer, p->qkv_weight, rows, d, d);
    add_linear(c, layer, p->qkv_weight, tokens, d, 2 * d);
    if (c->config->prompts)
        add_linear(c, layer, p->qkv_weight, (double)c->config->prompts * c->config->prompt_sides, d, 2 * d);
    add_attention(c, layer, last ? read_pairs : all_pairs);
    add_linear(c, layer, p->out_weight, rows, d, d);
    add_linear(c, layer, p->up_weight, rows, d, ffn);
    add_linear(c, layer, p->down_weight, rows, ffn, d);
}

/* Towards the weight alone: pixels have no gradient. */
static void add_patches(counter *c, const up_batch *batch) {
    double width = 3.0 * c->config->patch * c->config->patch;
    double product = 2.0 * (batch->image.count + batch->video.count) * width * c->config->width;
    c->sum.forward += product;
    if (c->gradients && up_learns(c->gradients, c->params->patch_weight)) c->sum.backward += product;
}

up_arithmetic up_arithmetic_needed(const up_model *model, const up_batch *batch,
                                   const up_gradients *gradients) {
    const up_config *config = up_model_config(model);
    const up_params *params = up_model_params(model);
    counter c = {.config = config, .params = params, .gradients = gradients};
    if (gradients) c.lowest = up_gradients_lowest(gradients);
    double all_pairs = count_pairs(config, batch, 0), read_pairs = count_pairs(config, batch, 1);
    for (int layer = 0; layer < config->layers; layer++) add_layer(&c, batch, layer, all_pairs, read_pairs);
    add_patches(&c, batch);
    if (config->output_head)
        add_linear(&c, config->layers, params->output_weight, batch->readouts, config->width, config->width);
    return c.sum;
}

up_arithmetic up_arithmetic_cosines(const up_config *config, double queries, double targets) {
    double product = 2 * queries * targets * config->width;
    return (up_arithmetic){product, 2 * product};
}

/* params.c - the table of parameters: names, shapes, initial values, weight decay, and the groups of the
 * paper's Table 9. The file order is the order here. */
#include "ref/model/model.h"
#include "ref/given.h"
#include "uniperceiver/random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PARAMS_PER_LAYER = 15 };

typedef struct builder {
    up_params *params;
    const char *prefix; /* of the tensors of one layer */
} builder;

static int add(builder *b, const char *name, up_param_group group, int64_t rows, int64_t cols, up_init init,
               double value) {
    up_params *p = b->params;
    up_param *t = &p->list[p->count];
    memset(t, 0, sizeof *t);
    snprintf(t->name, sizeof t->name, "%s%s", b->prefix, name);
    t->group = group;
    t->rows = rows;
    t->cols = cols;
    t->offset = p->total;
    t->init = init;
    t->init_value = value;
    t->init_blocks = 1;
    t->decay = init == UP_INIT_XAVIER; /* matrices of linear layers decay, nothing else */
    t->trainable = init != UP_INIT_SINCOS_SPACE;
    p->total += up_whole_units(rows * cols);
    return p->count++;
}

static int add_vector(builder *b, const char *name, up_param_group group, int64_t n, up_init init,
                      double value) {
    return add(b, name, group, 1, n, init, value);
}

static void add_norm(builder *b, const char *name, up_param_group group, int64_t width, int *weight,
                     int *bias) {
    char full[UP_TENSOR_NAME_SIZE];
    snprintf(full, sizeof full, "%s.weight", name);
    *weight = add_vector(b, full, group, width, UP_INIT_ONE, 0);
    snprintf(full, sizeof full, "%s.bias", name);
    *bias = add_vector(b, full, group, width, UP_INIT_ZERO, 0);
}

static void add_linear(builder *b, const char *name, up_param_group group, int64_t out, int64_t in,
                       int blocks, int *weight, int *bias) {
    char full[UP_TENSOR_NAME_SIZE];
    snprintf(full, sizeof full, "%s.weight", name);
    *weight = add(b, full, group, out, in, UP_INIT_XAVIER, 1);
    b->params->list[*weight].init_blocks = blocks;
    snprintf(full, sizeof full, "%s.bias", name);
    *bias = add_vector(b, full, group, out, UP_INIT_ZERO, 0);
}

static void add_embeddings(builder *b, const up_config *c) {
    up_params *p = b->params;
    int64_t width = c->width;
    p->token =
        add(b, "text.token.weight", UP_GROUP_EMBEDDING, c->vocabulary - 1, width, UP_INIT_NORMAL, 0.02);
    p->spe = add_vector(b, "text.spe.weight", UP_GROUP_SPE, width, UP_INIT_NORMAL, 0.02);
    p->text_position =
        add(b, "text.position.weight", UP_GROUP_EMBEDDING, c->text_positions, width, UP_INIT_NORMAL, 0.02);
    p->text_type = add(b, "text.type.weight", UP_GROUP_EMBEDDING, 1, width, UP_INIT_NORMAL, 0.02);
    add_linear(b, "patch", UP_GROUP_EMBEDDING, width, 3 * c->patch * c->patch, 1, &p->patch_weight,
               &p->patch_bias);
    double std = c->patch_position_init;
    p->space = add(b, "patch.space.weight", UP_GROUP_EMBEDDING, up_config_cells(c), width,
                   c->fixed_space ? UP_INIT_SINCOS_SPACE : UP_INIT_NORMAL, std);
    p->time = add(b, "patch.time.weight", UP_GROUP_EMBEDDING, c->frames, width, UP_INIT_NORMAL, std);
    p->visual_type =
        c->visual_type ? add(b, "patch.type.weight", UP_GROUP_EMBEDDING, 1, width, UP_INIT_NORMAL, std) : -1;
    if (c->shared_norm) {
        add_norm(b, "embed.norm", UP_GROUP_NORM, width, &p->text_norm_weight, &p->text_norm_bias);
        p->image_norm_weight = p->video_norm_weight = p->text_norm_weight;
        p->image_norm_bias = p->video_norm_bias = p->text_norm_bias;
    } else {
        add_norm(b, "text.norm", UP_GROUP_NORM, width, &p->text_norm_weight, &p->text_norm_bias);
        add_norm(b, "image.norm", UP_GROUP_NORM, width, &p->image_norm_weight, &p->image_norm_bias);
        add_norm(b, "video.norm", UP_GROUP_NORM, width, &p->video_norm_weight, &p->video_norm_bias);
    }
}

static void add_layer(builder *b, const up_config *c, up_layer_index *l) {
    int64_t width = c->width;
    add_norm(b, "norm1", UP_GROUP_NORM, width, &l->norm1_weight, &l->norm1_bias);
    add_linear(b, "attention.qkv", UP_GROUP_ENCODER, 3 * width, width, 3, &l->qkv_weight, &l->qkv_bias);
    add_linear(b, "attention.out", UP_GROUP_ENCODER, width, width, 1, &l->out_weight, &l->out_bias);
    add_norm(b, "norm2", UP_GROUP_NORM, width, &l->norm2_weight, &l->norm2_bias);
    add_linear(b, "ffn.up", UP_GROUP_ENCODER, c->ffn, width, 1, &l->up_weight, &l->up_bias);
    add_linear(b, "ffn.down", UP_GROUP_ENCODER, width, c->ffn, 1, &l->down_weight, &l->down_bias);
    b->params->list[l->out_weight].init_value = c->branch_init;
    b->params->list[l->down_weight].init_value = c->branch_init;
    l->scale1 = l->scale2 = l->prompt = -1;
    if (c->layer_scale) {
        l->scale1 = add_vector(b, "scale1", UP_GROUP_ENCODER, width, UP_INIT_CONSTANT, c->layer_scale_init);
        l->scale2 = add_vector(b, "scale2", UP_GROUP_ENCODER, width, UP_INIT_CONSTANT, c->layer_scale_init);
    }
    if (c->prompts)
        l->prompt = add(b, "prompts", UP_GROUP_PROMPT, (int64_t)c->prompt_sides * c->prompts, width,
                        UP_INIT_NORMAL, 0.02);
}

static void add_outputs(builder *b, const up_config *c) {
    up_params *p = b->params;
    p->output_norm_weight = p->output_norm_bias = p->output_weight = p->output_bias = -1;
    p->head_weight = p->head_bias = p->head_alpha = -1;
    if (c->output_head) {
        add_norm(b, "output.norm", UP_GROUP_OUTPUT, c->width, &p->output_norm_weight, &p->output_norm_bias);
        add_linear(b, "output.proj", UP_GROUP_OUTPUT, c->width, c->width, 1, &p->output_weight,
                   &p->output_bias);
    }
    if (c->classes) { /* equation 4: w and b start at 0, alpha at 1 */
        p->head_weight = add(b, "head.weight", UP_GROUP_LINEAR_HEAD, c->classes, c->width, UP_INIT_ZERO, 0);
        p->list[p->head_weight].decay = 1; /* a matrix of a linear layer, though it starts at 0 */
        p->head_bias = add_vector(b, "head.bias", UP_GROUP_LINEAR_HEAD, c->classes, UP_INIT_ZERO, 0);
        p->head_alpha = add_vector(b, "head.alpha", UP_GROUP_LINEAR_HEAD, 1,
                                   c->head_only ? UP_INIT_ZERO : UP_INIT_ONE, 0);
        p->list[p->head_alpha].trainable = !c->head_only;
    }
    for (int i = 0; i < c->tasks; i++) {
        char name[UP_TENSOR_NAME_SIZE];
        snprintf(name, sizeof name, "logit_scale.%s", c->task_names[i]);
        p->temperature[i] =
            add_vector(b, name, UP_GROUP_TEMPERATURE, 1, UP_INIT_CONSTANT, -log(c->initial_temperature));
    }
}

up_status up_params_build(const up_config *c, up_params *p) {
    UP_GIVEN(c, p);
    memset(p, 0, sizeof *p);
    UP_TRY(up_config_check(c));
    size_t room = 32 + (size_t)c->layers * PARAMS_PER_LAYER + UP_MAX_TASKS;
    p->list = calloc(room, sizeof *p->list);
    p->layers = calloc((size_t)c->layers, sizeof *p->layers);
    if (!p->list || !p->layers) {
        up_params_free(p);
        return up_fail(UP_ERR_MEMORY, "parameter table", "%zu entries wanted", room);
    }
    builder b = {p, ""};
    add_embeddings(&b, c);
    for (int l = 0; l < c->layers; l++) {
        char prefix[32];
        snprintf(prefix, sizeof prefix, "layers.%d.", l);
        b.prefix = prefix;
        add_layer(&b, c, &p->layers[l]);
    }
    b.prefix = "";
    add_outputs(&b, c);
    return UP_OK;
}

void up_params_free(up_params *p) {
    if (!p) return;
    free(p->list);
    free(p->layers);
    memset(p, 0, sizeof *p);
}

int up_params_find(const up_params *p, const char *name) {
    if (!p || !name) return -1;
    for (int i = 0; i < p->count; i++)
        if (!strcmp(p->list[i].name, name)) return i;
    return -1;
}

/* Table 9 counts w alone as the linear head (768 x classes); its bias and alpha are left to the reader there.
 */
void up_params_count(const up_params *p, int64_t counts[UP_GROUP_COUNT]) {
    if (!p || !counts) return;
    memset(counts, 0, sizeof counts[0] * UP_GROUP_COUNT);
    for (int i = 0; i < p->count; i++)
        if (i != p->head_bias && i != p->head_alpha)
            counts[p->list[i].group] += p->list[i].rows * p->list[i].cols;
}

const char *up_param_group_name(up_param_group group) {
    if ((int)group < 0 || group >= UP_GROUP_COUNT) return "none";
    static const char *const names[UP_GROUP_COUNT] = {
        "<SPE>", "layer norm", "prompt", "linear head", "embedding", "encoder", "output head", "temperature"};
    return names[group];
}

/* Fixed 2-D sine-cosine table: the first half of a row encodes the column x, the second the row y, each as
 * [sin(w_k t) | cos(w_k t)], w_k = 10000^(-k / (D / 4)). */
static void init_sincos(float *out, int64_t cells, int64_t width) {
    int64_t grid = (int64_t)llround(sqrt((double)cells)), quarter = width / 4;
    for (int64_t cell = 0; cell < cells; cell++)
        for (int64_t k = 0; k < quarter; k++) {
            double w = pow(10000.0, -(double)k / (double)quarter);
            double x = (double)(cell % grid) * w, y = (double)(cell / grid) * w;
            float *row = out + cell * width;
            row[k] = (float)sin(x);
            row[quarter + k] = (float)cos(x);
            row[2 * quarter + k] = (float)sin(y);
            row[3 * quarter + k] = (float)cos(y);
        }
}

/* FNV-1a: a tensor's stream depends on its name, not on its place. */
static uint64_t hash_name(const char *name) {
    uint64_t h = 1469598103934665603u;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 1099511628211u;
    return h;
}

void up_param_init(const up_param *t, uint64_t seed, float *out) {
    int64_t n = t->rows * t->cols;
    up_rng rng = up_rng_make(seed, hash_name(t->name), 0, 0);
    double bound = t->init_value * sqrt(6.0 / (double)(t->rows / t->init_blocks + t->cols));
    switch (t->init) {
    case UP_INIT_SINCOS_SPACE:
        init_sincos(out, t->rows, t->cols);
        return;
    case UP_INIT_ZERO:
        memset(out, 0, (size_t)n * sizeof *out);
        return;
    case UP_INIT_ONE:
        for (int64_t i = 0; i < n; i++) out[i] = 1;
        return;
    case UP_INIT_CONSTANT:
        for (int64_t i = 0; i < n; i++) out[i] = (float)t->init_value;
        return;
    case UP_INIT_NORMAL:
        for (int64_t i = 0; i < n; i++) out[i] = (float)(t->init_value * up_rng_normal(&rng));
        return;
    case UP_INIT_XAVIER:
        for (int64_t i = 0; i < n; i++) out[i] = (float)(bound * (2 * up_rng_uniform(&rng) - 1));
        return;
    }
}

up_status up_params_init(const up_config *c, const up_params *p, uint64_t seed, float *weights) {
    UP_GIVEN(c, p, weights);
    UP_TRY(up_config_check(c));
    memset(weights, 0, (size_t)p->total * sizeof *weights);
    for (int i = 0; i < p->count; i++) up_param_init(&p->list[i], seed, weights + p->list[i].offset);
    return UP_OK;
}

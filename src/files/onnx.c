/* onnx.c - the encoder as a graph: embedding, layers and read-out as docs/numerics.md has them, over [batch,
 * tokens, D]. A value has the name of what made it; weights keep their names. */
#include "files/onnx.h"
#include "files/file.h"
#include "files/onnx_bytes.h"
#include "files/weights.h"

#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IR_VERSION = 8, OPSET = 17, FLOAT = 1, INT64 = 7 }; /* types of elements */
enum { MODEL_IR = 1, MODEL_PRODUCER = 2, MODEL_GRAPH = 7, MODEL_OPSET = 8, OPSET_VERSION = 2 };
enum { GRAPH_NODE = 1, GRAPH_NAME = 2, GRAPH_TENSOR = 5, GRAPH_INPUT = 11, GRAPH_OUTPUT = 12 };
enum { NODE_INPUT = 1, NODE_OUTPUT = 2, NODE_NAME = 3, NODE_OP = 4, NODE_ATTRIBUTE = 5 };
enum { ATTRIBUTE_NAME = 1, ATTRIBUTE_F = 2, ATTRIBUTE_I = 3, ATTRIBUTE_INTS = 8, ATTRIBUTE_TYPE = 20 };
enum { TYPE_F = 1, TYPE_I = 2, TYPE_INTS = 7 };
enum { TENSOR_DIMS = 1, TENSOR_TYPE = 2, TENSOR_NAME = 8, TENSOR_DATA = 9 };

typedef struct graph {
    up_onnx_bytes bytes;
    const up_config *config;
    const up_params *params;
    up_weights_image *weights;
    int layer;
    char names[8][2 * UP_TENSOR_NAME_SIZE]; /* the latest that were made; a formula needs no more at a time */
    int next;
} graph;

/* ---- names, weights, constants ---- */

/* `format` behind the layer's number, as the name of a value. */
static const char *named(graph *g, const char *name) {
    char *out = g->names[g->next++ % 8];
    snprintf(out, sizeof g->names[0], g->layer < 0 ? "%.0d%s" : "%d.%s", g->layer < 0 ? 0 : g->layer, name);
    return out;
}

static void put_tensor(graph *g, const char *name, int type, const int64_t *dims, int ndim, const void *data,
                       size_t size) {
    up_onnx_bytes t = {0};
    for (int i = 0; i < ndim; i++) up_onnx_number(&t, TENSOR_DIMS, dims[i]);
    up_onnx_number(&t, TENSOR_TYPE, type);
    up_onnx_text(&t, TENSOR_NAME, name);
    up_onnx_block(&t, TENSOR_DATA, data, size);
    up_onnx_message(&g->bytes, GRAPH_TENSOR, &t);
}

/* A parameter under its own name, vectors as [n]; each is asked for once. */
static const char *weight(graph *g, int index) {
    const up_param *p = &g->params->list[index];
    const int64_t dims[2] = {p->rows, p->cols};
    int flat = p->rows == 1;
    put_tensor(g, p->name, FLOAT, dims + flat, 2 - flat, up_weights_taken(g->weights, index),
               (size_t)(p->rows * p->cols) * sizeof(float));
    return p->name;
}

static const char *whole(graph *g, const char *name, const int64_t *values, int64_t count) {
    const char *out = named(g, name);
    put_tensor(g, out, INT64, &count, 1, values, (size_t)count * sizeof *values);
    return out;
}
#define WHOLE(g, name, ...)                                                                                  \
    whole(g, name, (const int64_t[]){__VA_ARGS__},                                                           \
          (int64_t)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)))

static const char *real(graph *g, const char *name, double value) {
    const char *out = named(g, name);
    float single = (float)value;
    put_tensor(g, out, FLOAT, NULL, 0, &single, sizeof single);
    return out;
}

static const char *index_of_first(graph *g, const char *name) {
    const char *out = named(g, name);
    put_tensor(g, out, INT64, NULL, 0, &(int64_t){0}, sizeof(int64_t));
    return out;
}

/* ---- nodes ---- */

typedef struct attribute {
    const char *name;
    int type;
    double real;
    int64_t whole[6];
    int count; /* of TYPE_INTS */
} attribute;

static void put_attribute(up_onnx_bytes *node, const attribute *a) {
    up_onnx_bytes b = {0};
    up_onnx_text(&b, ATTRIBUTE_NAME, a->name);
    if (a->type == TYPE_F) up_onnx_float(&b, ATTRIBUTE_F, (float)a->real);
    if (a->type == TYPE_I) up_onnx_number(&b, ATTRIBUTE_I, a->whole[0]);
    for (int i = 0; i < a->count; i++) up_onnx_number(&b, ATTRIBUTE_INTS, a->whole[i]);
    up_onnx_number(&b, ATTRIBUTE_TYPE, a->type);
    up_onnx_message(node, NODE_ATTRIBUTE, &b);
}

/* One node of up to four inputs, the rest NULL, and one attribute, or NULL; gives the name of its output. */
static const char *node(graph *g, const char *op, const char *name, const attribute *a,
                        const char *const input[4]) {
    up_onnx_bytes n = {0};
    const char *out = named(g, name);
    for (int i = 0; i < 4 && input[i]; i++) up_onnx_text(&n, NODE_INPUT, input[i]);
    up_onnx_text(&n, NODE_OUTPUT, out);
    up_onnx_text(&n, NODE_NAME, out);
    up_onnx_text(&n, NODE_OP, op);
    for (; a && a->name; a++) put_attribute(&n, a);
    up_onnx_message(&g->bytes, GRAPH_NODE, &n);
    return out;
}
#define NODE(g, op, name, a, ...) node(g, op, name, a, (const char *const[4]){__VA_ARGS__})

static const char *transpose(graph *g, const char *name, const char *x, const int64_t *order, int count) {
    attribute a[2] = {{.name = "perm", .type = TYPE_INTS, .count = count}};
    memcpy(a[0].whole, order, (size_t)count * sizeof *order);
    return NODE(g, "Transpose", name, a, x);
}

static const char *norm(graph *g, const char *name, const char *x, int scale, int bias) {
    const attribute a[] = {{.name = "axis", .type = TYPE_I, .whole = {-1}},
                           {.name = "epsilon", .type = TYPE_F, .real = 1e-5},
                           {0}};
    return NODE(g, "LayerNormalization", name, a, x, weight(g, scale), weight(g, bias));
}

/* x W' + b */
static const char *linear(graph *g, const char *name, const char *x, int w, int bias) {
    char turned[UP_TENSOR_NAME_SIZE], product[UP_TENSOR_NAME_SIZE];
    snprintf(turned, sizeof turned, "%s.turned", name);
    snprintf(product, sizeof product, "%s.product", name);
    const char *t = transpose(g, turned, weight(g, w), (const int64_t[]){1, 0}, 2);
    return NODE(g, "Add", name, NULL, NODE(g, "MatMul", product, NULL, x, t), weight(g, bias));
}

/* ---- a layer ---- */

/* Third `part` of qkv as [batch, heads, tokens, D / heads], or with the order that is given. */
static const char *head_of(graph *g, const char *name, const char *qkv, int64_t part, const int64_t *order) {
    char cut[32], shaped[32], shape[32], from[32], to[32], axis[32];
    int64_t d = g->config->width, heads = g->config->heads;
    snprintf(cut, sizeof cut, "%s.cut", name);
    snprintf(shaped, sizeof shaped, "%s.heads", name);
    snprintf(shape, sizeof shape, "%s.shape", name);
    snprintf(from, sizeof from, "%s.from", name);
    snprintf(to, sizeof to, "%s.to", name);
    snprintf(axis, sizeof axis, "%s.axis", name);
    const char *x = NODE(g, "Slice", cut, NULL, qkv, WHOLE(g, from, part * d), WHOLE(g, to, (part + 1) * d),
                         WHOLE(g, axis, 2));
    x = NODE(g, "Reshape", shaped, NULL, x, WHOLE(g, shape, 0, 0, heads, d / heads));
    return transpose(g, name, x, order, 4);
}

static const char *attention(graph *g, const char *x, const up_layer_index *l) {
    const int64_t rows[4] = {0, 2, 1, 3}, turned[4] = {0, 2, 3, 1};
    const attribute last[] = {{.name = "axis", .type = TYPE_I, .whole = {-1}}, {0}};
    char qkv[UP_TENSOR_NAME_SIZE * 2], scores[UP_TENSOR_NAME_SIZE * 2];
    double scale = 1 / sqrt((double)g->config->width / g->config->heads);
    const char *normed = norm(g, "norm1", x, l->norm1_weight, l->norm1_bias);
    strcpy(qkv, linear(g, "qkv", normed, l->qkv_weight, l->qkv_bias));
    const char *q = head_of(g, "q", qkv, 0, rows);
    strcpy(scores, NODE(g, "Mul", "q.scaled", NULL, q, real(g, "q.scale", scale)));
    const char *k = head_of(g, "k", qkv, 1, turned);
    strcpy(scores, NODE(g, "MatMul", "scores", NULL, scores, k));
    strcpy(scores, NODE(g, "Softmax", "shares", last, scores));
    const char *v = head_of(g, "v", qkv, 2, rows);
    const char *mixed = NODE(g, "MatMul", "mixed", NULL, scores, v);
    mixed = transpose(g, "mixed.rows", mixed, rows, 4);
    mixed = NODE(g, "Reshape", "mixed.joined", NULL, mixed, WHOLE(g, "mixed.shape", 0, 0, g->config->width));
    return linear(g, "attention", mixed, l->out_weight, l->out_bias);
}

/* The exact GELU, 0.5 v (1 + erf(v / sqrt 2)). */
static const char *gelu(graph *g, const char *v) {
    const char *e = NODE(g, "Div", "gelu.over", NULL, v, real(g, "gelu.root", sqrt(2)));
    e = NODE(g, "Erf", "gelu.erf", NULL, e);
    e = NODE(g, "Add", "gelu.one", NULL, e, real(g, "gelu.1", 1));
    e = NODE(g, "Mul", "gelu.half", NULL, e, real(g, "gelu.0.5", 0.5));
    return NODE(g, "Mul", "gelu", NULL, v, e);
}

static const char *ffn(graph *g, const char *x, const up_layer_index *l) {
    char up[UP_TENSOR_NAME_SIZE * 2];
    const char *normed = norm(g, "norm2", x, l->norm2_weight, l->norm2_bias);
    strcpy(up, linear(g, "up", normed, l->up_weight, l->up_bias));
    return linear(g, "down", gelu(g, up), l->down_weight, l->down_bias);
}

static const char *add_branch(graph *g, const char *name, const char *x, const char *branch, int scale) {
    char scaled[32];
    snprintf(scaled, sizeof scaled, "%s.scaled", name);
    if (scale >= 0) branch = NODE(g, "Mul", scaled, NULL, branch, weight(g, scale));
    return NODE(g, "Add", name, NULL, x, branch);
}

static void put_layers(graph *g, char *x) {
    for (g->layer = 0; g->layer < g->config->layers; g->layer++) {
        const up_layer_index *l = &g->params->layers[g->layer];
        strcpy(x, add_branch(g, "seen", x, attention(g, x, l), l->scale1));
        strcpy(x, add_branch(g, "out", x, ffn(g, x, l), l->scale2));
    }
    g->layer = -1;
}

/* ---- embedding and read-out ---- */

static const char *add(graph *g, const char *name, const char *x, const char *y) {
    return NODE(g, "Add", name, NULL, x, y);
}

/* [batch, tokens, D] of ids. */
static const char *embed_text(graph *g) {
    const up_params *p = g->params;
    const attribute tokens[] = {{.name = "start", .type = TYPE_I, .whole = {1}}, {0}};
    const char *count = NODE(g, "Shape", "text.count", tokens, "ids");
    const char *at = NODE(g, "Slice", "text.positions", NULL, weight(g, p->text_position),
                          WHOLE(g, "text.from", 0), count, WHOLE(g, "text.axis", 0));
    const char *x = NODE(g, "Gather", "text.tokens", NULL, weight(g, p->token), "ids");
    x = add(g, "text.placed", x, at);
    if (p->text_type >= 0) x = add(g, "text.typed", x, weight(g, p->text_type));
    return norm(g, "text.normed", x, p->text_norm_weight, p->text_norm_bias);
}

/* [batch, cells, D] of pixels: a patch is channel, row, column. */
static const char *embed_image(graph *g) {
    const up_params *p = g->params;
    const up_config *c = g->config;
    int64_t side = c->image_size / c->patch, size = c->patch;
    const char *x = NODE(g, "Reshape", "image.grid", NULL, "pixels",
                         WHOLE(g, "image.grid.shape", 0, 3, side, size, side, size));
    x = transpose(g, "image.cells", x, (const int64_t[]){0, 2, 4, 1, 3, 5}, 6);
    x = NODE(g, "Reshape", "image.patches", NULL, x,
             WHOLE(g, "image.patches.shape", 0, side * side, 3 * size * size));
    x = linear(g, "image.tokens", x, p->patch_weight, p->patch_bias);
    x = add(g, "image.placed", x, weight(g, p->space));
    if (c->image_time) {
        const char *first = index_of_first(g, "image.frame");
        x = add(g, "image.timed", x, NODE(g, "Gather", "image.time", NULL, weight(g, p->time), first));
    }
    if (p->visual_type >= 0) x = add(g, "image.typed", x, weight(g, p->visual_type));
    if (!c->shared_norm) return norm(g, "image.normed", x, p->image_norm_weight, p->image_norm_bias);
    return norm(g, "image.normed", x, p->text_norm_weight, p->text_norm_bias);
}

/* The bare <SPE> before every sequence: [batch, 1 + tokens, D]. Its norm is that of texts. */
static const char *lead(graph *g, const char *x, int is_text) {
    const up_params *p = g->params;
    const char *scale = p->list[p->text_norm_weight].name, *bias = p->list[p->text_norm_bias].name;
    const attribute batch[] = {{.name = "end", .type = TYPE_I, .whole = {1}}, {0}};
    const attribute join[] = {{.name = "axis", .type = TYPE_I, .whole = {0}}, {0}};
    const attribute before[] = {{.name = "axis", .type = TYPE_I, .whole = {1}}, {0}};
    const attribute eps[] = {{.name = "epsilon", .type = TYPE_F, .real = 1e-5}, {0}};
    if (!is_text && !g->config->shared_norm) { /* not in the graph yet */
        weight(g, p->text_norm_weight);
        weight(g, p->text_norm_bias);
    }
    const char *spe = NODE(g, "LayerNormalization", "spe", eps, weight(g, p->spe), scale, bias);
    const char *count = NODE(g, "Shape", "batch", batch, x);
    const char *shape =
        NODE(g, "Concat", "spe.shape", join, count, WHOLE(g, "spe.one", 1, (int64_t)g->config->width));
    return NODE(g, "Concat", "sequence", before, NODE(g, "Expand", "spe.rows", NULL, spe, shape), x);
}

/* features [batch, D] of the first row, of length 1. */
static void read_out(graph *g, const char *x) {
    const up_params *p = g->params;
    const attribute of_rows[] = {{.name = "axis", .type = TYPE_I, .whole = {1}}, {0}};
    const attribute each[] = {{.name = "axes", .type = TYPE_INTS, .whole = {-1}, .count = 1}, {0}};
    char f[2 * UP_TENSOR_NAME_SIZE];
    strcpy(f, NODE(g, "Gather", "read", of_rows, x, index_of_first(g, "read.row")));
    if (g->config->output_head) {
        const char *normed = norm(g, "output.normed", f, p->output_norm_weight, p->output_norm_bias);
        strcpy(f, linear(g, "output", normed, p->output_weight, p->output_bias));
    }
    const char *length = NODE(g, "ReduceL2", "length", each, f);
    length = NODE(g, "Max", "length.least", NULL, length, real(g, "least", 1e-12));
    NODE(g, "Div", "features", NULL, f, length);
}

/* ---- the file ---- */

/* Dimensions below 0 are any number: of inputs, -1, or of tokens, -2. */
static void put_value(graph *g, int field, const char *name, int type, const int64_t *dims, int count) {
    static const char *const any[] = {"batch", "tokens"};
    up_onnx_bytes value = {0}, kind = {0}, tensor = {0}, shape = {0};
    for (int i = 0; i < count; i++) {
        up_onnx_bytes dim = {0};
        if (dims[i] < 0)
            up_onnx_text(&dim, 2, any[-1 - dims[i]]);
        else
            up_onnx_number(&dim, 1, dims[i]);
        up_onnx_message(&shape, 1, &dim);
    }
    up_onnx_number(&tensor, 1, type);
    up_onnx_message(&tensor, 2, &shape);
    up_onnx_message(&kind, 1, &tensor);
    up_onnx_text(&value, 1, name);
    up_onnx_message(&value, 2, &kind);
    up_onnx_message(&g->bytes, field, &value);
}

static void put_graph(graph *g, up_onnx_input input) {
    const int64_t size = g->config->image_size;
    char x[2 * UP_TENSOR_NAME_SIZE];
    int is_text = input == UP_ONNX_TEXT;
    g->layer = -1;
    up_onnx_text(&g->bytes, GRAPH_NAME, "uniperceiver");
    strcpy(x, is_text ? embed_text(g) : embed_image(g));
    strcpy(x, lead(g, x, is_text));
    put_layers(g, x);
    read_out(g, x);
    if (is_text)
        put_value(g, GRAPH_INPUT, "ids", INT64, (const int64_t[]){-1, -2}, 2);
    else
        put_value(g, GRAPH_INPUT, "pixels", FLOAT, (const int64_t[]){-1, 3, size, size}, 4);
    put_value(g, GRAPH_OUTPUT, "features", FLOAT, (const int64_t[]){-1, g->config->width}, 2);
}

static up_status write_model(graph *g, const char *to) {
    up_onnx_bytes model = {0}, opset = {0};
    up_status status = UP_OK;
    up_onnx_number(&model, MODEL_IR, IR_VERSION);
    up_onnx_text(&model, MODEL_PRODUCER, "uniperceiver");
    up_onnx_number(&opset, OPSET_VERSION, OPSET);
    up_onnx_message(&model, MODEL_OPSET, &opset);
    up_onnx_message(&model, MODEL_GRAPH, &g->bytes);
    if (model.failed) UP_GO(up_fail(UP_ERR_MEMORY, to, "no memory for the graph"));
    if (model.used > INT_MAX)
        UP_GO(up_fail(UP_ERR_UNSUPPORTED, to, "%zu bytes, an ONNX file has at most %d", model.used, INT_MAX));
    UP_GO(up_file_write(to, model.data, model.used));
done:
    free(model.data);
    return status;
}

up_status up_onnx_export(const char *from, up_onnx_input input, const char *to) {
    up_status status = UP_OK;
    graph g = {0};
    up_backend *backend = NULL;
    up_model *model = NULL;
    UP_GO(up_backend_create("ref", 1, &backend));
    UP_GO(up_model_read(backend, from, &model));
    g.config = up_model_config(model);
    g.params = up_model_params(model);
    if (g.config->prompts)
        UP_GO(up_fail(UP_ERR_UNSUPPORTED, from, "has prompts, which a graph does not have"));
    UP_GO(up_weights_take(model, from, &g.weights));
    put_graph(&g, input);
    UP_GO(write_model(&g, to));
done:
    free(g.bytes.data);
    up_weights_image_free(g.weights);
    up_model_destroy(model);
    up_backend_free(backend);
    return status;
}

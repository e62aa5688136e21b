/* gradients.c - which parameters learn, and where their gradients lie: bucket after bucket, in the order in
 * which a backward pass completes them. */
#include "uniperceiver/gradients.h"
#include "ref/given.h"

#include <stdlib.h>
#include <string.h>

struct up_gradients {
    up_model *model; /* borrowed */
    int64_t *place;  /* [params.count] first element, -1: does not learn */
    int64_t *bounds; /* [buckets + 1] */
    up_buffer *buffer;
};

/* Bucket of a parameter: 0 behind the encoder, 1 for layer L - 1, .., L for layer 0, L + 1 for the
 * embeddings. */
static int bucket_of(const up_model *model, int param) {
    const up_params *p = up_model_params(model);
    int layers = up_model_config(model)->layers;
    const char *name = p->list[param].name;
    if (!strncmp(name, "layers.", 7)) return layers - atoi(name + 7);
    switch (p->list[param].group) {
    case UP_GROUP_OUTPUT:
    case UP_GROUP_LINEAR_HEAD:
    case UP_GROUP_TEMPERATURE:
        return 0;
    default:
        return layers + 1;
    }
}

static int can_learn(const up_model *model, unsigned groups, int param) {
    const up_param *p = &up_model_params(model)->list[param];
    return p->trainable && up_model_owns(model, param) && (!groups || (groups >> p->group & 1));
}

static void lay_out(up_gradients *g, unsigned groups) {
    const up_params *p = up_model_params(g->model);
    int64_t at = 0;
    for (int i = 0; i < p->count; i++) g->place[i] = -1;
    for (int bucket = 0; bucket < up_gradients_buckets(g); bucket++) {
        g->bounds[bucket] = at;
        for (int i = 0; i < p->count; i++) {
            if (bucket_of(g->model, i) != bucket || !can_learn(g->model, groups, i)) continue;
            g->place[i] = at;
            at += up_whole_units(p->list[i].rows * p->list[i].cols);
        }
    }
    g->bounds[up_gradients_buckets(g)] = at;
}

up_status up_gradients_create(up_model *model, unsigned groups, up_gradients **out) {
    UP_GIVEN(model, out);
    up_status status = UP_OK;
    up_backend *b = up_model_backend(model);
    up_gradients *g = calloc(1, sizeof *g);
    *out = NULL;
    if (!g) return up_fail(UP_ERR_MEMORY, "gradients", "%zu bytes wanted", sizeof *g);
    g->model = model;
    g->place = malloc((size_t)up_model_params(model)->count * sizeof *g->place);
    g->bounds = malloc(((size_t)up_gradients_buckets(g) + 1) * sizeof *g->bounds);
    if (!g->place || !g->bounds) UP_GO(up_fail(UP_ERR_MEMORY, "gradients", "no memory for their table"));
    lay_out(g, groups);
    if (!up_gradients_all(g).cols)
        UP_GO(up_fail(UP_ERR_ARGUMENT, "gradients", "none of the model's parameters learns"));
    UP_GO(b->ops->alloc(b, (size_t)up_gradients_all(g).cols * sizeof(float), &g->buffer));
    UP_GO(b->ops->fill(b, up_gradients_all(g), 0));
    *out = g;
    g = NULL;
done:
    up_gradients_free(g);
    return status;
}

void up_gradients_free(up_gradients *g) {
    if (!g) return;
    up_backend *b = up_model_backend(g->model);
    b->ops->release(b, g->buffer);
    free(g->place);
    free(g->bounds);
    free(g);
}

int up_learns(const up_gradients *g, int param) {
    return g && param >= 0 && param < up_model_params(g->model)->count && g->place[param] >= 0;
}

up_view up_gradient(const up_gradients *g, int param) {
    if (!up_learns(g, param)) return (up_view){0};
    const up_param *p = &up_model_params(g->model)->list[param];
    return up_view_at(g->buffer, UP_F32, g->place[param], p->rows, p->cols);
}

up_view up_gradients_all(const up_gradients *g) {
    if (!g) return (up_view){0};
    return up_view_at(g->buffer, UP_F32, 0, 1, g->bounds[up_gradients_buckets(g)]);
}

int64_t up_gradients_count(const up_gradients *g, int64_t counts[UP_GROUP_COUNT]) {
    if (!g || !counts) return 0;
    const up_params *p = up_model_params(g->model);
    int64_t total = 0;
    memset(counts, 0, UP_GROUP_COUNT * sizeof *counts);
    for (int i = 0; i < p->count; i++) {
        if (!up_learns(g, i)) continue;
        counts[p->list[i].group] += p->list[i].rows * p->list[i].cols;
        total += p->list[i].rows * p->list[i].cols;
    }
    return total;
}

int64_t up_gradients_place(const up_gradients *g, int param) {
    return up_learns(g, param) ? g->place[param] : -1;
}

int up_gradients_buckets(const up_gradients *g) {
    if (!g) return 0;
    return up_model_config(g->model)->layers + 2;
}

up_view up_gradients_bucket(const up_gradients *g, int bucket) {
    if (bucket < 0 || bucket >= up_gradients_buckets(g)) return (up_view){0};
    int64_t first = g->bounds[bucket];
    return up_view_at(g->buffer, UP_F32, first, 1, g->bounds[bucket + 1] - first);
}

int up_gradients_lowest(const up_gradients *g) {
    if (!g) return 0;
    int layers = up_model_config(g->model)->layers;
    for (int bucket = layers + 1; bucket >= 1; bucket--)
        if (g->bounds[bucket + 1] > g->bounds[bucket]) return layers - bucket;
    return layers;
}

up_model *up_gradients_model(const up_gradients *g) {
    if (!g) return NULL;
    return g->model;
}

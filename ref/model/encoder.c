/* encoder.c - the life of an encoder and its passes: embed.c, layers.c, readout.c one after the other, and
 * back. */
#include "ref/model/activations.h"
#include "ref/given.h"

#include <stdlib.h>

static up_status make_levels(up_encoder *e) {
    up_backend *b = up_backend_of(e);
    float levels[2 * 3 * 256];
    for (int video = 0; video < 2; video++)
        up_pixel_levels(up_config_pixel_norm(&e->model->config, video), levels + video * 3 * 256);
    UP_TRY(b->ops->alloc(b, sizeof levels, &e->levels));
    return b->ops->upload(b, up_view_at(e->levels, UP_F32, 0, 6, 256), levels);
}

up_status up_encoder_create(up_model *model, const up_encoder_options *options, up_encoder **out) {
    UP_GIVEN(model, out);
    static const up_encoder_options defaults = {0};
    const up_encoder_options *o = options ? options : &defaults;
    up_status status = UP_OK;
    *out = NULL;
    if (o->dtype != UP_F32 && o->dtype != UP_BF16 && o->dtype != UP_F16)
        return up_fail(UP_ERR_ARGUMENT, "encoder", "element type %d is none of f32, bf16 and f16", o->dtype);
    if (o->gradients && up_gradients_model(o->gradients) != model)
        return up_fail(UP_ERR_ARGUMENT, "encoder", "the gradients are another model's");
    up_encoder *e = calloc(1, sizeof *e);
    if (!e) return up_fail(UP_ERR_MEMORY, "encoder", "%zu bytes wanted", sizeof *e);
    e->model = model;
    e->gradients = o->gradients;
    e->dtype = o->dtype;
    e->all_rows = o->all_rows;
    e->lowest = o->gradients ? up_gradients_lowest(o->gradients) : model->config.layers;
    if (e->lowest < 0) e->lowest = 0;
    e->layers = calloc((size_t)model->config.layers, sizeof *e->layers);
    if (!e->layers)
        UP_GO(up_fail(UP_ERR_MEMORY, "encoder", "state of %d layers wanted", model->config.layers));
    UP_GO(make_levels(e));
    UP_GO(up_layers_want_prepared(e));
    *out = e;
    e = NULL;
done:
    up_encoder_free(e);
    return status;
}

void up_encoder_free(up_encoder *e) {
    if (!e) return;
    up_backend *b = up_backend_of(e);
    for (int i = 0; i < 2; i++) {
        b->ops->release(b, e->regions[i].buffer);
        b->ops->release(b, e->regions[i].pixels[0]);
        b->ops->release(b, e->regions[i].pixels[1]);
    }
    b->ops->release(b, e->levels);
    b->ops->release(b, e->arena);
    free(e->layers);
    free(e->host);
    free(e->draws);
    free(e);
}

static up_status begin(up_encoder *e, const char *region) {
    up_backend *b = up_backend_of(e);
    return b->ops->begin ? b->ops->begin(b, region) : UP_OK;
}
/* A region is closed whatever became of what it holds: the next one must not lie inside it. */
static up_status end(up_encoder *e, const char *region, up_status inside) {
    up_backend *b = up_backend_of(e);
    up_status status = b->ops->end ? b->ops->end(b, region) : UP_OK;
    return inside != UP_OK ? inside : status;
}

static up_status check_rows(const up_encoder *e, up_view features) {
    if (features.rows >= e->in->sizes.readouts && features.cols == e->model->config.width) return UP_OK;
    return up_fail(UP_ERR_ARGUMENT, "features", "room for %lld x %lld, the batch has %d x %d",
                   (long long)features.rows, (long long)features.cols, e->in->sizes.readouts,
                   e->model->config.width);
}

static up_status pass_forward(up_encoder *e, up_view features) {
    UP_TRY(up_embed_forward(e));
    UP_TRY(up_layers_forward(e));
    return up_readout_forward(e, up_view_rows(features, 0, e->in->sizes.readouts));
}

/* Passes of all encoders are counted together: a number stands for one pass alone. */
static uint64_t next_pass(void) {
    static _Atomic uint64_t passes;
    return ++passes;
}

up_status up_encoder_forward(up_encoder *e, up_view features) {
    UP_GIVEN(e);
    static const char region[] = "encoder forward";
    if (!e->staged) return up_fail(UP_ERR_ARGUMENT, "encoder", "no batch was staged");
    e->in = &e->regions[e->next];
    e->next = 1 - e->next;
    e->staged = e->forwarded = 0;
    UP_TRY(check_rows(e, features));
    UP_TRY(up_plan_activations(e));
    UP_TRY(up_model_prepare(e->model));
    UP_TRY(begin(e, region));
    UP_TRY(end(e, region, pass_forward(e, features)));
    e->forwarded = 1;
    e->pass = next_pass();
    e->encoded += e->in->sizes.tokens;
    return UP_OK;
}

static up_status pass_backward(up_encoder *e, up_view dfeatures, up_bucket_done done, void *context) {
    int embeddings = e->model->config.layers + 1;
    UP_TRY(up_readout_backward(e, up_view_rows(dfeatures, 0, e->in->sizes.readouts)));
    if (done) UP_TRY(done(context, 0));
    UP_TRY(up_layers_backward(e, done, context));
    if (up_gradients_lowest(e->gradients) < 0) UP_TRY(up_embed_backward(e));
    for (int bucket = e->model->config.layers - e->lowest + 1; done && bucket <= embeddings; bucket++)
        UP_TRY(done(context, bucket));
    return UP_OK;
}

up_status up_encoder_backward(up_encoder *e, up_view dfeatures, up_bucket_done done, void *context) {
    UP_GIVEN(e);
    static const char region[] = "encoder backward";
    if (!e->gradients) return up_fail(UP_ERR_ARGUMENT, "encoder", "it was made for inference");
    if (!e->forwarded) return up_fail(UP_ERR_ARGUMENT, "encoder", "no forward pass to go back through");
    UP_TRY(check_rows(e, dfeatures));
    e->forwarded = 0; /* gradients of activations take their place: once for each forward pass */
    UP_TRY(begin(e, region));
    return end(e, region, pass_backward(e, dfeatures, done, context));
}

int up_encoder_readouts(const up_encoder *e) {
    if (!e) return 0;
    return e->regions[e->staged ? e->next : 1 - e->next].sizes.readouts;
}
int64_t up_encoder_tokens(const up_encoder *e) {
    if (!e) return 0;
    return e->encoded;
}
uint64_t up_encoder_pass(const up_encoder *e) {
    if (!e) return 0;
    return e->forwarded ? e->pass : 0;
}
up_model *up_encoder_model(const up_encoder *e) {
    if (!e) return NULL;
    return e->model;
}

size_t up_encoder_bytes(const up_encoder *e) {
    if (!e) return 0;
    size_t bytes = e->arena_bytes;
    for (int i = 0; i < 2; i++)
        bytes += e->regions[i].bytes + e->regions[i].pixel_bytes[0] + e->regions[i].pixel_bytes[1];
    return bytes;
}

size_t up_encoder_token_bytes(const up_encoder *e) {
    if (!e) return 0;
    const up_config *c = &e->model->config;
    size_t width = (size_t)c->width, ffn = (size_t)c->ffn, layers = (size_t)(c->layers - e->lowest);
    size_t kept = layers * (6 * width + ffn), passing = 9 * width + ffn; /* plan.c */
    return (kept + passing) * up_dtype_size(e->dtype);
}

up_view up_encoder_view(const up_encoder *e, up_encoder_tensor tensor, int index) {
    if (!e || !e->layers || index < 0 || index >= e->model->config.layers) return (up_view){0};
    const up_layer_state *s = &e->layers[index];
    switch (tensor) {
    case UP_ENCODER_LAYER:
        return s->y;
    case UP_ENCODER_QUERIES:
        return s->q;
    case UP_ENCODER_KEYS:
        return s->k;
    case UP_ENCODER_PROMPT_KEYS:
        return up_view_present(s->prompt_kv) ? up_view_cols(s->prompt_kv, 0, e->model->config.width)
                                             : (up_view){0};
    default:
        return e->layers[0].x;
    }
}

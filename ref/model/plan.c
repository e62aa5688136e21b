/* plan.c - where every tensor of an encoder lies. Activations share one arena, which is taken for the next
 * larger sizes of a small ladder, so that it seldom grows. With static shapes these are also the sizes that
 * tensors have, so batches of about one size have theirs in the same places; otherwise tensors lie close, and
 * what is not used of the arena is never touched.
 *
 * Memory is reused in four ways, all of them here. What a layer's backward pass cannot cheaply make again is
 * kept (place_kept); what passes by (tokens, the other tensors of a layer, gradients of activations) lies in
 * one place, one after the other (`overlay`); without a backward pass the residual stream is updated in
 * place; a narrow layer's dkv lies where dqkv does. */
#include "ref/model/activations.h"

enum { LINE = 64 /* bytes: tensors start on cache lines */ };

typedef struct layout {
    up_buffer *buffer;
    size_t bytes;
    int dense; /* 1: no more space than rows */
} layout;

/* A tensor of `rows` rows with space for `room`. */
static up_view place(layout *l, up_dtype dtype, int64_t rows, int64_t room, int64_t cols) {
    size_t size = up_dtype_size(dtype);
    if (l->dense) room = rows;
    up_view v = up_view_at(l->buffer, dtype, (int64_t)(l->bytes / size), rows, cols);
    l->bytes += ((size_t)(room * cols) * size + LINE - 1) / LINE * LINE;
    return v;
}

int up_ladder(int n) {
    int step = 2;
    while (8 * (int64_t)step < n) step *= 2; /* in the octave (4 step, 8 step] rungs are `step` apart */
    int64_t rung = ((int64_t)n + step - 1) / step * step;
    return n < 8 ? 8 : rung > INT32_MAX ? n : (int)rung;
}

/* A pass of attention is to the products of a layer as keys are to 6 D: at 256 keys some 5% of a forward pass
 * and 2% of a step at Base, for one width of ten. */
int up_attends_again(const up_encoder *e) {
    enum { MOST_KEYS = 256 };
    return e->in->room.max_keys <= MOST_KEYS;
}

/* ---- inputs ---- */

typedef struct input_layout {
    layout at;
    const up_encoder *encoder;
} input_layout;

static up_view list(input_layout *l, int rows, int room, int cols) {
    return place(&l->at, UP_I32, up_rows_used(l->encoder, rows, room), room, cols);
}

static void place_patches(input_layout *l, up_patch_input *p, up_input_region *r, int video) {
    const up_config *c = &l->encoder->model->config;
    int rows = video ? r->sizes.video : r->sizes.image, room = video ? r->room.video : r->room.image;
    int values = video ? r->sizes.video_values : r->sizes.image_values;
    int timed = video || r->sizes.timed_image;
    p->cells = list(l, rows, room, 1);
    p->frames = timed ? list(l, rows, room, 1) : (up_view){0};
    p->pixels = up_view_at(r->pixels[video], values ? UP_F32 : UP_U8, 0, up_rows_used(l->encoder, rows, room),
                           3 * (int64_t)c->patch * c->patch);
    p->levels = values ? (up_view){0} : up_view_at(l->encoder->levels, UP_F32, video * 3 * 256, 3, 256);
}

size_t up_plan_inputs(const up_encoder *e, up_input_region *r) {
    input_layout l = {{r->buffer, 0, 0}, e};
    const up_sizes *n = &r->sizes, *room = &r->room;
    r->sequence = list(&l, n->sequences, room->sequences, UP_SEQ_FIELDS);
    r->narrow_sequence = list(&l, n->sequences, room->sequences, UP_SEQ_FIELDS);
    r->ids = list(&l, n->text, room->text, 1);
    r->positions = list(&l, n->text, room->text, 1);
    place_patches(&l, &r->image, r, 0);
    place_patches(&l, &r->video, r, 1);
    r->order = list(&l, n->tokens, room->tokens, 1);
    r->text_rows = list(&l, n->text, room->text, 1);
    r->image_rows = list(&l, n->image, room->image, 1);
    r->video_rows = list(&l, n->video, room->video, 1);
    r->owner = list(&l, n->tokens, room->tokens, 1);
    r->narrow_owner = list(&l, n->readouts, room->readouts, 1);
    r->readout = list(&l, n->readouts, room->readouts, 1);
    r->places = list(&l, n->readouts, room->readouts, 1);
    r->cached_rows = list(&l, n->tokens, room->tokens, 1);
    int64_t factors = 2 * (int64_t)e->model->config.layers * room->sequences;
    r->drop = place(&l.at, UP_F32, factors, factors, 1);
    return l.at.bytes;
}

/* ---- activations ---- */

typedef struct planner {
    layout at;
    up_encoder *e;
    int tokens, tokens_room, readouts, readouts_room; /* N, R and the room for them */
    int64_t width, ffn, heads, prompts;               /* D, F, H, sides P */
} planner;

static planner begin(up_encoder *e, int dense) {
    const up_config *c = &e->model->config;
    const up_input_region *in = e->in;
    return (planner){.at = {e->arena, 0, dense},
                     .e = e,
                     .tokens = up_rows_used(e, in->sizes.tokens, in->room.tokens),
                     .tokens_room = in->room.tokens,
                     .readouts = up_rows_used(e, in->sizes.readouts, in->room.readouts),
                     .readouts_room = in->room.readouts,
                     .width = c->width,
                     .ffn = c->ffn,
                     .heads = c->heads,
                     .prompts = (int64_t)c->prompts * c->prompt_sides};
}

/* Activations [N, cols], activations [R, cols], statistics [N, cols], .. */
static up_view rows_act(planner *p, int64_t cols) {
    return place(&p->at, p->e->dtype, p->tokens, p->tokens_room, cols);
}
static up_view read_act(planner *p, int64_t cols) {
    return place(&p->at, p->e->dtype, p->readouts, p->readouts_room, cols);
}
static up_view read_f32(planner *p, int64_t cols) {
    return place(&p->at, UP_F32, p->readouts, p->readouts_room, cols);
}
/* [M, cols] of a layer. */
static up_view layer_act(planner *p, const up_layer_state *s, int64_t cols) {
    return s->narrow ? read_act(p, cols) : rows_act(p, cols);
}
static up_view layer_f32(planner *p, const up_layer_state *s, int64_t cols) {
    if (s->narrow) return read_f32(p, cols);
    return place(&p->at, UP_F32, p->tokens, p->tokens_room, cols);
}
static up_view prompt_act(planner *p, int64_t cols) {
    return place(&p->at, p->e->dtype, p->prompts, p->prompts, cols);
}

/* Tensors that are never needed at the same time lie in one place: place one group, `or_else`, the next. */
typedef struct overlay {
    size_t first, most;
} overlay;

static overlay begin_overlay(const planner *p) {
    return (overlay){p->at.bytes, p->at.bytes};
}
static void or_else(planner *p, overlay *o) {
    if (p->at.bytes > o->most) o->most = p->at.bytes;
    p->at.bytes = o->first;
}
static void end_overlay(planner *p, overlay *o) {
    or_else(p, o);
    p->at.bytes = o->most;
}

/* T tokens: each modality dense, with room behind it. */
static void place_tokens(planner *p) {
    up_encoder *e = p->e;
    const up_sizes *n = &e->in->sizes, *room = &e->in->room;
    int text = up_rows_used(e, n->text, room->text), image = up_rows_used(e, n->image, room->image);
    int video = up_rows_used(e, n->video, room->video), all = room->text + room->image + room->video;
    e->tokens = place(&p->at, e->dtype, all, all, p->width);
    e->text = up_view_rows(e->tokens, 0, text);
    e->image = up_view_rows(e->tokens, room->text, image);
    e->video = up_view_rows(e->tokens, room->text + room->image, video);
}

/* The same before the tokenizers' norms. */
static void place_summed(planner *p) {
    up_encoder *e = p->e;
    const up_sizes *room = &e->in->room;
    int text = e->in->text_rows.rows, image = e->in->image_rows.rows, video = e->in->video_rows.rows;
    e->text_summed = place(&p->at, e->dtype, text, room->text, p->width);
    e->image_summed = place(&p->at, e->dtype, image, room->image, p->width);
    e->video_summed = place(&p->at, e->dtype, video, room->video, p->width);
    e->text_stats = place(&p->at, UP_F32, text, room->text, 2);
    e->image_stats = place(&p->at, UP_F32, image, room->image, 2);
    e->video_stats = place(&p->at, UP_F32, video, room->video, 2);
}

/* Tensors of a layer that its backward pass reads; the others come later, from `place_passing`. Inputs of
 * maps are made again from these: normed1 and normed2 by the norm, hidden by the GELU of pre. */
static void place_kept(planner *p, up_layer_state *s, const up_layer_index *i) {
    s->stats1 = place(&p->at, UP_F32, p->tokens, p->tokens_room, 2);
    s->qkv = rows_act(p, (s->narrow ? 2 : 3) * p->width);
    s->q = s->narrow ? read_act(p, p->width) : (up_view){0};
    s->prompt_stats = place(&p->at, UP_F32, p->prompts, p->prompts, 2);
    s->prompt_normed = prompt_act(p, p->width);
    s->prompt_kv = prompt_act(p, 2 * p->width);
    if (!up_attends_again(p->e)) s->attended = layer_act(p, s, p->width);
    s->lse = layer_f32(p, s, p->heads);
    s->mid = layer_act(p, s, p->width);
    s->stats2 = layer_f32(p, s, 2);
    s->pre = layer_act(p, s, p->ffn);
    s->y = layer_act(p, s, p->width);
    if (up_learns(p->e->gradients, i->scale1)) s->branch1 = layer_act(p, s, p->width);
    if (up_learns(p->e->gradients, i->scale2)) s->branch2 = layer_act(p, s, p->width);
}

/* Everything of a layer that is not placed yet: where all layers have it. */
static void place_passing(planner *p, up_layer_state *s, int kept) {
    up_layer_state own = *s;
    own.normed1 = rows_act(p, p->width);
    if (!kept) {
        own.stats1 = place(&p->at, UP_F32, p->tokens, p->tokens_room, 2);
        own.qkv = rows_act(p, (s->narrow ? 2 : 3) * p->width);
        own.q = s->narrow ? read_act(p, p->width) : (up_view){0};
        own.prompt_stats = place(&p->at, UP_F32, p->prompts, p->prompts, 2);
        own.prompt_normed = prompt_act(p, p->width);
        own.prompt_kv = prompt_act(p, 2 * p->width);
        own.lse = layer_f32(p, s, p->heads);
        own.stats2 = layer_f32(p, s, 2);
    }
    if (!up_view_present(s->attended)) own.attended = layer_act(p, s, p->width);
    if (s->narrow) own.read_x = read_act(p, p->width);
    if (s->narrow) own.read_normed1 = read_act(p, p->width);
    if (!up_view_present(s->branch1)) own.branch1 = layer_act(p, s, p->width);
    own.normed2 = layer_act(p, s, p->width);
    own.hidden = layer_act(p, s, p->ffn);
    if (!up_view_present(s->branch2)) own.branch2 = layer_act(p, s, p->width);
    if (!kept) own.mid = own.y = s->narrow ? own.read_x : s->x; /* in place */
    *s = own;
}

static void name_parts(up_layer_state *s, int64_t width) {
    if (!s->narrow) s->q = up_view_cols(s->qkv, 0, width);
    s->k = up_view_cols(s->qkv, s->narrow ? 0 : width, width);
    s->v = up_view_cols(s->qkv, s->narrow ? width : 2 * width, width);
}

static void place_kept_layers(planner *p) {
    up_encoder *e = p->e;
    int layers = e->model->config.layers;
    up_view x = rows_act(p, p->width);
    for (int l = 0; l < layers; l++) {
        up_layer_state *s = &e->layers[l];
        *s = (up_layer_state){.narrow = l == layers - 1 && e->in->narrow, .x = x};
        if (l >= e->lowest) place_kept(p, s, &e->model->params.layers[l]);
        x = l >= e->lowest ? s->y : x;
    }
}

/* Features are as many as there are, whatever shapes the layers have. */
static void place_head(planner *p) {
    up_encoder *e = p->e;
    int rows = e->in->sizes.readouts, room = p->readouts_room;
    if (!e->model->config.output_head) return;
    e->gathered = place(&p->at, UP_F32, rows, room, p->width);
    e->head_stats = place(&p->at, UP_F32, rows, room, 2);
    e->head_normed = place(&p->at, UP_F32, rows, room, p->width);
    if (e->gradients) e->grad.head = place(&p->at, UP_F32, rows, room, p->width);
}

/* Of the attention and its maps. */
static void place_attention_gradients(planner *p, up_grad_state *g) {
    up_dtype t = p->e->dtype;
    g->attended = rows_act(p, p->width);
    g->qkv = rows_act(p, 3 * p->width);
    g->kv = up_view_at(g->qkv.buffer, t, g->qkv.offset, p->tokens, 2 * p->width);
    g->spread = g->kv; /* of the three widths there the third */
    g->spread.offset += 2 * p->width * p->tokens;
    g->spread.cols = g->spread.stride = p->width;
    g->q = read_act(p, p->width);
    g->read_normed1 = read_act(p, p->width);
    g->prompt_kv = prompt_act(p, 2 * p->width);
    g->prompts = prompt_act(p, p->width);
}

static void place_gradients(planner *p) {
    up_encoder *e = p->e;
    up_grad_state *g = &e->grad;
    const up_sizes *room = &e->in->room;
    g->stream = rows_act(p, p->width);
    g->branch = rows_act(p, p->width);
    g->normed = rows_act(p, p->width);
    g->read_normed = read_act(p, p->width);
    overlay o = begin_overlay(p);
    g->wide = rows_act(p, p->ffn);
    or_else(p, &o);
    place_attention_gradients(p, g);
    or_else(p, &o);
    g->text = place(&p->at, e->dtype, e->text.rows, room->text, p->width);
    g->image = place(&p->at, e->dtype, e->image.rows, room->image, p->width);
    g->video = place(&p->at, e->dtype, e->video.rows, room->video, p->width);
    end_overlay(p, &o);
}

/* Every operation of a pass at its largest: what the backend is asked for support and scratch with. */
typedef struct use {
    up_op op;
    up_op_dims dims;
} use;

enum { USES = 16 };

static int list_uses(const up_encoder *e, use uses[USES]) {
    const up_config *c = &e->model->config;
    const up_sizes *room = &e->in->room;
    int64_t prompts = (int64_t)c->prompts * c->prompt_sides,
            n = room->tokens > prompts ? room->tokens : prompts;
    int64_t d = c->width, patches = room->image > room->video ? room->image : room->video;
    int64_t cached = e->cache ? e->cache->kept.rows / c->layers : 0, keys = n > cached ? n : cached;
    up_dtype t = e->dtype;
    const use all[] = {
        {UP_OP_EMBED, {.dtype = t, .rows = room->text, .in = c->vocabulary, .out = d}},
        {UP_OP_PATCH_EMBED, {.dtype = t, .rows = patches, .in = 3 * (int64_t)c->patch * c->patch, .out = d}},
        {UP_OP_LINEAR, {.dtype = t, .rows = n, .in = d, .out = 3 * d}},
        {UP_OP_LINEAR, {.dtype = t, .rows = n, .in = d, .out = c->ffn}},
        {UP_OP_LINEAR, {.dtype = t, .rows = n, .in = c->ffn, .out = d}},
        {UP_OP_GELU, {.dtype = t, .rows = n, .in = c->ffn, .out = c->ffn}},
        {UP_OP_LINEAR, {.dtype = UP_F32, .rows = room->readouts, .in = d, .out = d}},
        {UP_OP_LAYERNORM, {.dtype = t, .rows = n, .in = d, .out = d}},
        {UP_OP_LAYERNORM, {.dtype = UP_F32, .rows = room->readouts, .in = d, .out = d}},
        {UP_OP_ATTENTION,
         {.dtype = t,
          .rows = keys,
          .in = d,
          .out = d,
          .keys = room->max_keys + c->prompts,
          .heads = c->heads,
          .sequences = room->sequences}},
        {UP_OP_RESIDUAL, {.dtype = t, .rows = n, .in = d, .out = d}},
        {UP_OP_GATHER, {.dtype = t, .rows = n, .in = d, .out = d}},
        {UP_OP_SCATTER, {.dtype = t, .rows = n, .in = d, .out = d}},
    };
    int count = (int)(sizeof all / sizeof all[0]);
    for (int i = 0; i < count; i++) uses[i] = all[i];
    return count;
}

static up_status check_uses(const up_encoder *e, const use *uses, int count, size_t *scratch) {
    up_backend *b = up_backend_of(e);
    for (int i = 0; i < count; i++) UP_TRY(up_backend_ask(b, uses[i].op, &uses[i].dims, scratch));
    return UP_OK;
}

/* Lays everything out for the rows there are or, where not dense, for the room. */
static size_t lay_out(up_encoder *e, size_t scratch, int dense) {
    planner p = begin(e, dense);
    int embeddings = e->gradients && up_gradients_lowest(e->gradients) < 0; /* go back, too */
    if (embeddings) place_summed(&p);
    place_kept_layers(&p);
    place_head(&p);
    overlay o = begin_overlay(&p);
    place_tokens(&p);
    if (!embeddings) place_summed(&p);
    for (int l = 0; l < e->model->config.layers; l++) {
        or_else(&p, &o);
        place_passing(&p, &e->layers[l], l >= e->lowest);
        name_parts(&e->layers[l], p.width);
    }
    or_else(&p, &o);
    if (e->gradients) place_gradients(&p);
    end_overlay(&p, &o);
    e->scratch = place(&p.at, UP_U8, 1, 1, (int64_t)scratch);
    return p.at.bytes;
}

up_status up_plan_activations(up_encoder *e) {
    use uses[USES];
    size_t scratch = 0;
    UP_TRY(check_uses(e, uses, list_uses(e, uses), &scratch));
    size_t bytes = lay_out(e, scratch, 0);
    UP_TRY(up_grow_buffer(up_backend_of(e), &e->arena, &e->arena_bytes, bytes));
    lay_out(e, scratch, 1);
    return UP_OK;
}

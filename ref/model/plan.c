/* plan.c - where every tensor of a run lies. All activations share one arena; for each batch they are laid
 * out anew with its exact sizes, and the arena grows only between batches. */
#include "ref/model/run.h"

#include <stdlib.h>
#include <string.h>

enum { LINE = 64 /* bytes: tensors start on cache lines */ };

typedef struct layout {
    up_buffer *arena;
    size_t bytes;
} layout;

static up_view place_as(layout *l, up_dtype dtype, int64_t rows, int64_t cols) {
    up_view v = up_view_at(l->arena, dtype, (int64_t)(l->bytes / up_dtype_size(dtype)), rows, cols);
    l->bytes += ((size_t)(rows * cols) * up_dtype_size(dtype) + LINE - 1) / LINE * LINE;
    return v;
}
static up_view place(layout *l, int64_t rows, int64_t cols) {
    return place_as(l, UP_F32, rows, cols);
}
static up_view place_ids(layout *l, int64_t rows, int64_t cols) {
    return place_as(l, UP_I32, rows, cols);
}

static void place_patches(layout *l, up_patch_state *s, const up_patch_rows *p, int values, int width) {
    s->pixels = place(l, p->count, values);
    s->cells = place_ids(l, p->count, 1);
    s->rows = place_ids(l, p->count, 1);
    s->frames = p->count && p->frame[0] >= 0 ? place_ids(l, p->count, 1) : (up_view){0};
    s->summed = place(l, p->count, width);
    s->stats = place(l, p->count, 2);
    s->normed = place(l, p->count, width);
}

static void place_inputs(layout *l, up_run *r, const up_batch *b) {
    int width = r->model->config.width;
    r->sequence = place_ids(l, b->sequences, UP_SEQ_FIELDS);
    r->text.ids = place_ids(l, b->text_count, 1);
    r->text.positions = place_ids(l, b->text_count, 1);
    r->text.rows = place_ids(l, b->text_count, 1);
    r->text.summed = place(l, b->text_count, width);
    r->text.stats = place(l, b->text_count, 2);
    r->text.normed = place(l, b->text_count, width);
    place_patches(l, &r->image, &b->image, b->patch_values, width);
    place_patches(l, &r->video, &b->video, b->patch_values, width);
    r->drop = r->training ? place(l, 2 * (int64_t)r->model->config.layers * b->tokens, 1) : (up_view){0};
    r->kept_rows = place_ids(l, r->kept, 1);
    r->kept_sequence = place_ids(l, r->kept ? b->sequences : 0, UP_SEQ_FIELDS);
}

/* One layer's tensors. `x` is the output of the layer before; `kept` > 0 makes the layer narrow. In inference
 * the residual stream is updated in place. */
static void place_layer(layout *l, up_run *r, up_layer_state *s, up_view x, int kept) {
    const up_config *c = &r->model->config;
    int64_t all = r->tokens, n = kept ? kept : all, width = c->width,
            prompts = (int64_t)c->prompts * c->prompt_sides;
    s->x = x;
    s->rows = (int)n;
    s->stats1 = place(l, all, 2);
    s->normed1 = place(l, all, width);
    s->qkv = place(l, all, (kept ? 2 : 3) * width);
    s->kept_x = place(l, kept, width);
    s->kept_normed1 = place(l, kept, width);
    s->kept_q = place(l, kept, width);
    if (kept) x = s->kept_x;
    s->prompt_stats = place(l, prompts, 2);
    s->prompt_normed = place(l, prompts, width);
    s->prompt_qkv = place(l, prompts, 3 * width);
    s->attended = place(l, n, width);
    s->lse = place(l, n, c->heads);
    s->branch1 = place(l, n, width);
    s->mid = r->training ? place(l, n, width) : x;
    s->stats2 = place(l, n, 2);
    s->normed2 = place(l, n, width);
    s->pre = r->training ? place(l, n, c->ffn) : (up_view){0};
    s->hidden = place(l, n, c->ffn);
    s->branch2 = place(l, n, width);
    s->y = r->training ? place(l, n, width) : x;
}

static void place_layers(layout *l, up_run *r) {
    up_view x = place(l, r->tokens, r->model->config.width);
    int last = r->model->config.layers - 1;
    for (int i = 0; i <= last; i++) {
        if (i == 0 || r->training || (i == last && r->kept))
            place_layer(l, r, &r->layers[i], x, i == last ? r->kept : 0);
        else
            r->layers[i] = r->layers[0];
        x = r->layers[i].y;
    }
}

static void place_readout(layout *l, up_run *r) {
    int64_t q = r->queries, v = r->targets, rows = q + v, width = r->model->config.width;
    r->readout = place_ids(l, rows, 1);
    r->feature_in = place(l, rows, width);
    r->features = r->feature_in;
    r->head_stats = r->head_normed = (up_view){0};
    if (r->model->config.output_head) {
        r->head_stats = place(l, rows, 2);
        r->head_normed = place(l, rows, width);
        r->features = place(l, rows, width);
    }
    r->unit = place(l, rows, width);
    r->rnorm = place(l, rows, 1);
    if (!r->training) q = v = 0; /* no loss: no logits */
    int64_t back = q == v ? q : 0;
    r->labels = place_ids(l, q, 1);
    r->logits = place(l, q, v);
    r->loss = place(l, q, 1);
    r->lse = place(l, q, 1);
    r->correct = place(l, q, 1);
    r->back_logits = place(l, back, back);
    r->back_loss = place(l, back, 1);
    r->back_lse = place(l, back, 1);
}

static void place_gradients(layout *l, up_run *r) {
    const up_config *c = &r->model->config;
    int64_t n = r->tokens, rows = r->queries + r->targets, width = c->width;
    int64_t prompts = (int64_t)c->prompts * c->prompt_sides;
    r->grad = place(l, n, width);
    r->grad_branch = place(l, n, width);
    r->grad_wide = place(l, n, c->ffn);
    r->grad_qkv = place(l, n, 3 * width);
    r->grad_q = place(l, r->kept, width);
    r->grad_spread = place(l, r->kept ? n : 0, width);
    r->grad_prompt_qkv = place(l, prompts, 3 * width);
    r->grad_prompt = place(l, prompts, width);
    r->grad_unit = place(l, rows, width);
    r->grad_back = place(l, rows, width);
    r->grad_feature = place(l, rows, width);
    r->grad_text = place(l, r->text.ids.rows, width);
    r->grad_image = place(l, r->image.cells.rows, width);
    r->grad_video = place(l, r->video.cells.rows, width);
}

/* The most scratch that any operation of this batch asks for. */
static size_t scratch_bytes(const up_run *r) {
    const up_config *c = &r->model->config;
    int64_t prompts = (int64_t)c->prompts * c->prompt_sides, n = r->tokens > prompts ? r->tokens : prompts;
    int64_t width = c->width, rows = r->queries + r->targets;
    int64_t patches = r->image.cells.rows > r->video.cells.rows ? r->image.cells.rows : r->video.cells.rows;
    const struct {
        up_op op;
        up_op_dims dims;
    } uses[] = {
        {UP_OP_EMBED, {.rows = r->text.ids.rows, .in = c->vocabulary, .out = width}},
        {UP_OP_PATCH_EMBED, {.rows = patches, .in = 3 * (int64_t)c->patch * c->patch, .out = width}},
        {UP_OP_LINEAR, {.rows = n, .in = width, .out = 3 * width}},
        {UP_OP_LINEAR, {.rows = n, .in = width, .out = c->ffn}},
        {UP_OP_LINEAR, {.rows = n, .in = c->ffn, .out = width}},
        {UP_OP_LINEAR, {.rows = rows, .in = width, .out = width}},
        {UP_OP_LAYERNORM, {.rows = n > rows ? n : rows, .in = width, .out = width}},
        {UP_OP_ATTENTION,
         {.rows = n,
          .in = width,
          .out = width,
          .keys = r->max_keys + c->prompts,
          .heads = c->heads,
          .sequences = r->sequences}},
        {UP_OP_RESIDUAL, {.rows = n, .in = width, .out = width}},
        {UP_OP_LOGITS, {.rows = r->queries, .in = width, .out = r->targets}},
        {UP_OP_LOGITS, {.rows = r->targets, .in = width, .out = r->queries}},
        {UP_OP_SQNORM, {.rows = 1, .in = r->model->params.total, .out = r->model->params.total}},
    };
    up_backend *b = r->model->backend;
    size_t most = 0;
    for (size_t i = 0; i < sizeof uses / sizeof uses[0]; i++) {
        size_t bytes = b->ops->scratch(b, uses[i].op, &uses[i].dims);
        if (bytes > most) most = bytes;
    }
    return most;
}

static size_t lay_out(up_run *r, const up_batch *b) {
    layout l = {r->arena, 0};
    place_inputs(&l, r, b);
    place_layers(&l, r);
    place_readout(&l, r);
    if (r->training) place_gradients(&l, r);
    r->scratch = place(&l, 1, (int64_t)((scratch_bytes(r) + 3) / 4));
    return l.bytes;
}

static up_status upload_patches(up_backend *be, const up_patch_state *s, const up_patch_rows *p) {
    UP_TRY(be->ops->upload(be, s->pixels, p->pixels));
    UP_TRY(be->ops->upload(be, s->cells, p->cell));
    UP_TRY(be->ops->upload(be, s->rows, p->row));
    return up_view_present(s->frames) ? be->ops->upload(be, s->frames, p->frame) : UP_OK;
}

/* Token ids as the model numbers them: -1 stands for its <SPE>, the last row of the table. */
static up_status upload_ids(up_run *r, const up_batch *b) {
    const up_config *c = &r->model->config;
    int32_t *ids = malloc((size_t)b->text_count * sizeof *ids);
    if (!ids) return up_fail(UP_ERR_MEMORY, "packed batch", "%d token ids wanted", b->text_count);
    up_status status = UP_OK;
    for (int i = 0; i < b->text_count && status == UP_OK; i++) {
        ids[i] = b->text_id[i] < 0 ? c->vocabulary - 1 : b->text_id[i];
        if (ids[i] >= c->vocabulary)
            status = up_fail(UP_ERR_ARGUMENT, "text", "token id %d, the model's vocabulary has %d", ids[i],
                             c->vocabulary);
        if (b->text_position[i] >= c->text_positions)
            status = up_fail(UP_ERR_ARGUMENT, "text", "position %d, the model has positions 0..%d",
                             b->text_position[i], c->text_positions - 1);
    }
    up_backend *be = r->model->backend;
    if (status == UP_OK) status = be->ops->upload(be, r->text.ids, ids);
    free(ids);
    return status;
}

static up_status upload_batch(up_run *r, const up_batch *b) {
    up_backend *be = r->model->backend;
    UP_TRY(be->ops->upload(be, r->sequence, b->sequence));
    UP_TRY(upload_ids(r, b));
    UP_TRY(be->ops->upload(be, r->text.positions, b->text_position));
    UP_TRY(be->ops->upload(be, r->text.rows, b->text_row));
    UP_TRY(upload_patches(be, &r->image, &b->image));
    UP_TRY(upload_patches(be, &r->video, &b->video));
    if (r->kept) return up_upload_narrow(r, b);
    UP_TRY(be->ops->upload(be, up_view_rows(r->readout, 0, b->queries), b->query_row));
    return be->ops->upload(be, up_view_rows(r->readout, b->queries, b->targets), b->target_row);
}

up_status up_plan(up_run *r, const up_batch *b) {
    up_backend *be = r->model->backend;
    if (b->open) return up_fail(UP_ERR_ARGUMENT, "packed batch", "a sequence is still open");
    if (!b->tokens) return up_fail(UP_ERR_ARGUMENT, "packed batch", "empty");
    r->tokens = b->tokens;
    r->sequences = b->sequences;
    r->max_keys = b->max_keys;
    r->queries = b->queries;
    r->targets = b->targets;
    r->stage = 0;
    UP_TRY(up_plan_narrow(r, b));
    size_t bytes = lay_out(r, b);
    if (bytes > r->arena_bytes) {
        be->ops->release(be, r->arena);
        r->arena = NULL;
        r->arena_bytes = 0;
        r->unit = (up_view){0}; /* no features, should the larger arena not be had */
        size_t room =
            r->training ? bytes + bytes / 4 : bytes; /* batches differ in size: do not grow for each */
        UP_TRY(be->ops->alloc(be, room, &r->arena));
        r->arena_bytes = room;
        lay_out(r, b);
    }
    return upload_batch(r, b);
}

/* Spread the factors of sequences, [2L, S], over their tokens: for each branch a row of M factors. */
up_status up_plan_drop(up_run *r, const up_batch *b, const float *drop) {
    if (!drop) {
        r->drop = (up_view){0};
        return UP_OK;
    }
    if (!r->training) return up_fail(UP_ERR_ARGUMENT, "drop path", "this run was made for inference");
    int layers = r->model->config.layers;
    float *spread = calloc(2 * (size_t)layers * (size_t)b->tokens, sizeof *spread), *row = spread;
    if (!spread) return up_fail(UP_ERR_MEMORY, "drop path", "%d x %d factors wanted", 2 * layers, b->tokens);
    for (int i = 0; i < 2 * layers; i++) {
        int narrow = i / 2 == layers - 1 && r->kept;
        for (int s = 0; s < b->sequences; s++) {
            const int32_t *q = b->sequence + (size_t)s * UP_SEQ_FIELDS;
            for (int t = q[UP_SEQ_Q_START]; t < q[UP_SEQ_Q_START] + q[UP_SEQ_Q_COUNT]; t++) {
                int place = narrow ? r->keep_index[t] : t;
                if (place >= 0) row[place] = drop[(size_t)i * (size_t)b->sequences + (size_t)s];
            }
        }
        row += r->layers[i / 2].rows;
    }
    up_backend *be = r->model->backend;
    up_status status = be->ops->upload(be, r->drop, spread);
    free(spread);
    return status;
}

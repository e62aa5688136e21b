/* activations.h - what an encoder holds: a batch on the device, and every tensor between its tokens and its
 * features. stage.c fills the inputs, plan.c says where the tensors lie, embed.c, encoder.c and readout.c
 * compute them in this order.
 *
 * Letters: N rows of the batch, T tokens (text, pictures and clips side by side, before they are put in
 * order), M rows that a layer computes behind its keys and values: N, or in the narrow last layer the R that
 * are read out. */
#ifndef UP_REF_MODEL_ACTIVATIONS_H
#define UP_REF_MODEL_ACTIVATIONS_H

#include "ref/model/model.h"
#include "uniperceiver/encoder.h"

/* Sizes of a batch, or of the room for one. */
typedef struct up_sizes {
    int tokens, sequences, readouts;
    int text, image, video;
    int image_values, video_values; /* 1: normalised values, 0: bytes */
    int timed_image;                /* 1: pictures have temporal rows */
    int max_keys;
} up_sizes;

/* Patches of one modality. */
typedef struct up_patch_input {
    up_view pixels;        /* u8 or f32 [Ni, C] */
    up_view cells, frames; /* i32 [Ni, 1]; frames absent where no patch has one */
    up_view levels;        /* f32 [3, 256] */
} up_patch_input;

/* One input region: a staged batch. Views have the batch's rows, or its room's where shapes are static. */
typedef struct up_input_region {
    up_sizes sizes, room;
    up_buffer *buffer; /* lists and drop factors */
    size_t bytes;
    up_buffer *pixels[2]; /* of pictures, of clips */
    size_t pixel_bytes[2];
    int narrow;              /* 1: the last layer computes the rows that are read out */
    int drops;               /* 1: drop path */
    up_view sequence;        /* i32 [S, UP_SEQ_FIELDS] */
    up_view narrow_sequence; /* the same with queries counted over the rows read out */
    up_view ids, positions;  /* i32 [Nt, 1] */
    up_patch_input image, video;
    up_view order;                             /* i32 [N, 1] which of the T tokens stands in a row */
    up_view text_rows, image_rows, video_rows; /* i32 [Nt, 1], ..: the row of a token */
    up_view owner, narrow_owner;               /* i32 [N, 1], [R, 1] the sequence of a row */
    up_view readout;                           /* i32 [R, 1] rows that are read out */
    up_view places;                            /* i32 [R, 1] where they are in the last layer's output */
    up_view drop;                              /* f32 [2 L * S, 1] */
    up_view cached_rows;                       /* i32 [N, 1] rows of a cache; absent but in decoding */
} up_input_region;

/* One layer. Tensors that only the forward pass reads share one place among all layers; plan.c says which. */
typedef struct up_layer_state {
    int narrow;
    up_view x;               /* [N, D] input */
    up_view stats1, normed1; /* f32 [N, 2], [N, D] */
    up_view q, k, v; /* [M, D], [N, D], [N, D]: columns of qkv, or of its two parts in a narrow layer */
    up_view qkv;     /* [N, 3 D]; of a narrow layer the keys and values, [N, 2 D] */
    up_view read_x, read_normed1;                   /* [M, D] the rows of a narrow layer that are read out */
    up_view prompt_stats, prompt_normed, prompt_kv; /* f32 [sides P, 2], [sides P, D], [sides P, 2 D] */
    up_view attended, lse, branch1, mid;            /* [M, D], f32 [M, H], [M, D], [M, D] */
    up_view stats2, normed2, pre, hidden;           /* f32 [M, 2], [M, D], [M, F], [M, F] */
    up_view branch2, y;                             /* [M, D], [M, D] output */
} up_layer_state;

/* Gradients of activations: of one layer at a time. */
typedef struct up_grad_state {
    up_view stream; /* [N, D] dL/d(residual stream), from layer to layer; its first M rows count */
    up_view branch; /* [N, D] of what a branch gave, then of what its norm gave */
    up_view normed, read_normed; /* [N, D], [R, D] inputs of maps, made again */
    up_view wide;                /* [N, F] the hidden layer, made again, then its gradient */
    up_view attended;            /* [N, D] */
    up_view qkv, kv;             /* [N, 3 D]; in a narrow layer [N, 2 D], in the same place */
    up_view q, read_normed1;     /* [R, D] of a narrow layer */
    up_view spread;              /* [N, D] rows that were read out, back in their places */
    up_view prompt_kv, prompts;  /* [sides P, 2 D], [sides P, D] */
    up_view text, image, video;  /* [Nt, D], [Ni, D], [Nv, D] */
    up_view head;                /* f32 [R, D] before the output head */
} up_grad_state;

/* Where a pass puts keys and values that later passes will see (decoder.c). */
typedef struct up_cache {
    up_view kept; /* [L * rows, 2 D]: keys in columns 0..D-1, values behind them */
    int copies;   /* blocks of a layer's rows that each take the pass' keys: rows are counted in a block */
    int behind;   /* 1: the pass' sequences stand behind keys of the cache */
} up_cache;

struct up_encoder {
    up_model *model;               /* borrowed */
    const up_gradients *gradients; /* borrowed, NULL: inference */
    up_dtype dtype;
    int all_rows, lowest; /* lowest: first layer whose activations are kept; L without gradients */

    up_input_region regions[2];
    const up_input_region *in; /* of the latest pass */
    int next;                  /* region to stage into */
    int staged;                /* 1: a batch waits for its pass */
    int forwarded;             /* 1: a pass waits for its way back */
    unsigned char *host;       /* lists on their way to the device */
    size_t host_bytes;
    float *draws; /* [2 L, S] factors of drop path, drawn for a batch */
    size_t draws_room;
    up_buffer *levels; /* f32 [2, 3, 256]: bytes of pictures, of clips */

    up_buffer *arena;
    size_t arena_bytes;
    up_view text_summed, text_stats;   /* [Nt, D], f32 [Nt, 2] before the tokenizer's norm */
    up_view image_summed, image_stats; /* likewise */
    up_view video_summed, video_stats;
    up_view tokens;                            /* [T, D] tokens, modality after modality */
    up_view text, image, video;                /* parts of it */
    up_layer_state *layers;                    /* [L] */
    up_view gathered, head_stats, head_normed; /* f32 [R, D], [R, 2], [R, D]: only with an output head */
    up_grad_state grad;
    up_view scratch;

    const up_cache *cache; /* NULL but in decoding */
    uint64_t pass;
    int64_t encoded;
};

#define UP_LAYERNORM_EPS 1e-5f

/* plan.c: lay out the activations of region `in`. */
up_status up_plan_activations(up_encoder *encoder);
/* 1: the backward pass makes what attention gave again, it is not kept. */
int up_attends_again(const up_encoder *encoder);
/* Views of an input region for its sizes; NULL buffer: only its bytes count. */
size_t up_plan_inputs(const up_encoder *encoder, up_input_region *region);
/* Smallest capacity of the ladder (4, 5, 6 or 7 times a power of two) that holds n. */
int up_ladder(int n);

up_status up_embed_forward(up_encoder *encoder); /* embed.c */
up_status up_embed_backward(up_encoder *encoder);
up_status up_layers_forward(up_encoder *encoder); /* layers.c */
up_status up_layers_backward(up_encoder *encoder, up_bucket_done done, void *context);
up_status
up_layers_want_prepared(up_encoder *encoder); /* the forms of weights that the layers will ask for */
up_status up_readout_forward(up_encoder *encoder, up_view features); /* readout.c */
up_status up_readout_backward(up_encoder *encoder, up_view dfeatures);
up_status up_cache_keys(up_encoder *encoder, int layer, up_attention_args *attention); /* decoder.c */
/* Stage a batch of which keys and values go to rows `cached_rows` [N] of a cache. */
up_status up_stage_cached(up_encoder *encoder, const up_batch *batch, const int32_t *cached_rows);

/* blocks.c: a linear map with a model's own weight and bias, or a part of it. */
typedef struct up_linear_use {
    int weight, bias;     /* parameters */
    int64_t first, count; /* outputs */
    up_activation activation;
} up_linear_use;
up_linear_use up_whole_linear(const up_encoder *encoder, int weight, int bias);
/* y = act(W x + b); `pre` present: the value before a GELU is kept there. dy becomes the gradient before the
 * GELU. */
up_status up_block_linear(up_encoder *encoder, up_linear_use use, up_view x, up_view pre, up_view y);
up_status up_block_linear_bwd(up_encoder *encoder, up_linear_use use, up_view x, up_view pre, up_view dy,
                              up_view dx);
/* The same in two calls, for a dx that takes the place of x: first this one, for the parameters alone. */
up_status up_block_linear_bwd_params(up_encoder *encoder, up_linear_use use, up_view x, up_view dy);
up_status up_block_linear_bwd_input(up_encoder *encoder, up_linear_use use, up_view dy, up_view dx);
/* y = LN(x);  dx = residual + the gradient through it. */
up_status up_block_norm(up_encoder *encoder, up_view x, int weight, int bias, up_view y, up_view stats);
up_status up_block_norm_bwd(up_encoder *encoder, up_view x, int weight, int bias, up_view stats, up_view dy,
                            up_view residual, up_view dx);
/* A residual connection with the norm of its y, and both undone, the norm first: in one pass where the
 * backend has one. norm: a norm's parameters; `add` as its slot wants it. */
typedef struct up_norm_use {
    int weight, bias; /* parameters */
    up_view stats;
} up_norm_use;
up_status up_block_add_norm(up_encoder *encoder, const up_residual_args *add, up_norm_use norm, up_view y);
up_status up_block_add_norm_bwd(up_encoder *encoder, up_norm_use norm, up_view x, up_view dy,
                                up_view residual, const up_residual_grad *add);

/* What the files of an encoder call operations with: a weight, its gradient (absent where it does not learn).
 */
static inline up_view up_weight_of(const up_encoder *e, int param) {
    return up_model_weight(e->model, param);
}
static inline up_view up_grad_of(const up_encoder *e, int param) {
    return up_gradient(e->gradients, param);
}
static inline up_backend *up_backend_of(const up_encoder *e) {
    return e->model->backend;
}
/* Rows to pass to an operation: those there are, or the room's where the backend wants static shapes. */
static inline int up_rows_used(const up_encoder *e, int rows, int room) {
    return e->model->backend->ops->static_shapes ? room : rows;
}

#endif

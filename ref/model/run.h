/* run.h - what the files of ref/model share: a model, a run, and how tensors are laid out in one arena.
 * The public face is include/uniperceiver/run.h; read embed.c, encoder.c, similarity.c, loss.c in this order.
 */
#ifndef UP_REF_MODEL_RUN_H
#define UP_REF_MODEL_RUN_H

#include "uniperceiver/run.h"

struct up_model {
    up_backend *backend; /* borrowed */
    up_config config;
    up_params params;
    up_buffer *weights; /* f32 [params.total] */
    int32_t *targets;   /* vocabulary entries of language tasks; NULL: all */
    int target_count;
};

/* A tokenizer's part of a batch on the device: tokens of one modality, dense, before they are scattered to
 * their rows. */
typedef struct up_text_state {
    up_view ids, positions, rows;  /* i32 [Nt, 1] */
    up_view summed, stats, normed; /* [Nt, D], f32 [Nt, 2], [Nt, D] */
} up_text_state;
typedef struct up_patch_state {
    up_view pixels;                /* [Ni, C] */
    up_view cells, frames, rows;   /* i32 [Ni, 1]; frames absent where no token has one */
    up_view summed, stats, normed; /* [Ni, D], f32 [Ni, 2], [Ni, D] */
} up_patch_state;

/* What one layer keeps for its backward pass; in inference all layers share one. */
typedef struct up_layer_state {
    int rows;  /* M: rows computed behind the keys and values: N, or in a narrow layer the K kept */
    up_view x; /* [N, D] input */
    up_view stats1, normed1, qkv; /* f32 [N, 2], [N, D], [N, 3D] or, narrow, [N, 2D] of keys and values */
    up_view kept_x, kept_normed1, kept_q; /* [K, D] in a narrow layer: what the kept rows need of it */
    up_view prompt_stats, prompt_normed, prompt_qkv; /* of sides * P prompt rows */
    up_view attended, lse, branch1, mid;             /* [M, D], f32 [M, H], [M, D], [M, D] */
    up_view stats2, normed2, pre, hidden;            /* f32 [M, 2], [M, D], [M, F], [M, F] */
    up_view branch2, y;                              /* [M, D], [M, D] output */
} up_layer_state;

struct up_run {
    up_model *model;
    int training;

    up_buffer *arena; /* activations, laid out anew for each batch */
    size_t arena_bytes;
    up_buffer *gradients, *moment1, *moment2; /* f32 [params.total], training only */
    up_buffer *scalars;                       /* f32 [1]: squared gradient norm */
    up_buffer *soft_targets;                  /* f32 [Q, V] of the losses that have them */
    size_t soft_bytes;
    int64_t steps;

    int tokens, sequences, queries, targets, max_keys; /* of the last batch: N, S, Q, V */
    up_view sequence;                                  /* i32 [S, UP_SEQ_FIELDS] */
    up_text_state text;
    up_patch_state image, video;
    up_layer_state *layers; /* [L] */
    struct up_cache *cache; /* decoding: where keys and values are kept (decode.h); NULL otherwise */
    up_view drop;           /* f32, a row of M factors for each branch of each layer, or absent */

    int keep_all;        /* the user's wish */
    int kept;            /* K: rows of the narrow last layer; 0 when it is as wide as the others */
    int32_t *keep_index; /* host [N]: place of a token among the kept rows, or -1 */
    int keep_room;
    up_view kept_rows;     /* i32 [K, 1], ascending */
    up_view kept_sequence; /* i32 [S, UP_SEQ_FIELDS], queries counted over the kept rows */

    up_view readout;                             /* i32 [R, 1] */
    up_view feature_in, head_stats, head_normed; /* [R, D]; the last two with output_head */
    up_view features, unit, rnorm;               /* [R, D], [R, D], f32 [R, 1] */
    up_view labels, soft;                        /* i32 [Q, 1], f32 [Q, V] */
    up_view logits, loss, lse, correct;          /* f32 [Q, V], [Q, 1] x 3 */
    up_view back_logits, back_loss, back_lse;    /* the target -> input direction: f32 [V, Q], [V, 1] x 2 */
    up_loss last_loss;
    int counted;  /* rows of the last loss that count */
    int stage;    /* 0 nothing, 1 forward done, 2 loss done */
    int bad_loss; /* a loss since the last step was not finite: the step will be skipped */

    /* backward scratch */
    up_view grad, grad_branch, grad_wide, grad_qkv; /* [N, D], [N, D], [N, F], [N, 3D] */
    up_view grad_q, grad_spread;                    /* [K, D], [N, D] of a narrow layer */
    up_view grad_prompt_qkv, grad_prompt;           /* [sides * P, 3D], [sides * P, D] */
    up_view grad_unit, grad_back, grad_feature;     /* [R, D] x 3 */
    up_view grad_text, grad_image, grad_video;      /* [Nt, D], [Ni, D], [Nv, D] */
    up_view scratch;
};

/* A parameter's weights, and its gradient (absent where frozen or not training). -1 gives an absent view. */
up_view up_weight(const up_run *run, int param);
up_view up_grad(const up_run *run, int param);

up_status up_plan(up_run *run, const up_batch *batch);        /* plan.c: lay out and upload */
up_status up_plan_narrow(up_run *run, const up_batch *batch); /* narrow.c: which rows the last layer keeps */
up_status up_upload_narrow(up_run *run, const up_batch *batch);
up_status up_plan_drop(up_run *run, const up_batch *batch, const float *drop);
up_status up_embed_forward(up_run *run); /* embed.c */
up_status up_embed_backward(up_run *run);
up_status up_encoder_forward(up_run *run); /* encoder.c */
up_status up_encoder_backward(up_run *run, up_layer_done layer_done, void *context);
up_status up_similarity_forward(up_run *run); /* similarity.c */
up_status up_similarity_backward(up_run *run);

#define UP_LAYERNORM_EPS 1e-5f

#endif

/* backend.h - the table of operations that a backend fills. The model (ref/model) is written once over this
 * table; ref/ops defines what every slot computes, the other backends compute the same faster.
 *
 * The contract:
 *  1. Memory. Buffers are opaque and belong to the backend; nothing outside it may read them. The driver
 * plans all of them once; an operation never allocates and never waits. Scratch space is asked for ahead
 * (`scratch`) and passed in.
 *  2. Order. Operations run in the order of the calls. `download` and `sync` are the only ones that wait. The
 * driver may wrap a region in begin / end, so that a device can record and replay it. Inputs of `upload` may
 * be reused on return.
 *  3. Precision. The element type is in the view. Parameters, gradients, statistics (mean, rstd, lse) and the
 * optimiser's state are f32; activations may be f32, f16 or bf16. `ref` has f32 only, and accumulates in
 * double.
 *  4. Accumulation. Gradients of PARAMETERS are added to (+=), gradients of ACTIVATIONS are set (=). Each
 * field says which. A gradient that is absent is not wanted (a frozen parameter).
 *  5. Errors. UP_OK or a message. Shapes are the driver's duty; a backend does not check them.
 *  6. Capability. `supports` gives a reason with every refusal; nothing falls back silently.
 *  7. The table carries its version and size. Slots marked (optional) may be NULL: then the driver composes
 * the others.
 *
 * Aliasing: outputs may alias inputs only where a field says so. Empty tensors (0 rows) are legal everywhere.
 */
#ifndef UNIPERCEIVER_BACKEND_H
#define UNIPERCEIVER_BACKEND_H

#include "uniperceiver/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { UP_BACKEND_VERSION = 1 };

typedef struct up_backend up_backend;

/* ---- sequences of a packed batch: an i32 matrix [S, UP_SEQ_FIELDS], one row a sequence ---- */
enum {
    UP_SEQ_Q_START, /* first query row */
    UP_SEQ_Q_COUNT,
    UP_SEQ_K_START, /* first key row; equals Q_START except in decoding with a cache */
    UP_SEQ_K_COUNT,
    UP_SEQ_KIND,   /* up_mask_kind */
    UP_SEQ_PREFIX, /* UP_MASK_DOUBLED: tokens of the prefix */
    UP_SEQ_WORDS,  /* UP_MASK_DOUBLED: n words, then n slots: K_COUNT = PREFIX + 2 WORDS */
    UP_SEQ_SIDE,   /* 0 input x, 1 target y: chooses the prompts where the sides have their own */
    UP_SEQ_FIELDS
};

/* Who sees whom (paper appendix B, figure 4). i = query index, j = key index, both counted inside the
 * sequence; a query stands at key index i + (K_COUNT - Q_COUNT). Prompts are seen by every query. */
typedef enum up_mask_kind {
    UP_MASK_FULL,    /* every j */
    UP_MASK_DOUBLED, /* [prefix | w1..wn | s1..sn]: prefix sees the prefix; word i the prefix and words 1..i;
                        slot i the prefix, words 1..i-1 and itself */
    UP_MASK_CAUSAL   /* j <= i + (K_COUNT - Q_COUNT): one decoding step behind cached keys */
} up_mask_kind;

/* 1 if the query at KEY index `i` may attend to key index `j`. The one definition of the masks. */
static inline int up_mask_sees(int kind, int prefix, int words, int i, int j) {
    if (kind == UP_MASK_FULL) return 1;
    if (kind == UP_MASK_CAUSAL) return j <= i;
    if (i < prefix) return j < prefix;
    if (i < prefix + words) return j <= i;
    return j < i - words || j == i; /* slot i - words sees what stands before its word, and itself */
}

/* ---- arguments, one struct a slot; shapes in brackets ---- */

/* y = E[id] + P[position] + T; a token of position -1 is bare: y = E[id]  (design: the leading <SPE>). */
typedef struct up_embed_args {
    up_view ids, positions;        /* i32 [N, 1] */
    up_view token, position, type; /* [vocabulary, D], [positions, D], [1, D] (may be absent) */
    up_view y;                     /* [N, D] */
} up_embed_args;
typedef struct up_embed_grad {
    up_view ids, positions, dy;
    up_view dtoken, dposition, dtype; /* += */
    up_view scratch;
} up_embed_grad;

/* y = W patch + b + P_space[cell] + P_time[frame] + V. */
typedef struct up_patch_embed_args {
    up_view patches;           /* [N, C], C = 3 * patch * patch */
    up_view cells, frames;     /* i32 [N, 1] */
    up_view weight, bias;      /* [D, C], [1, D] */
    up_view space, time, type; /* [cells, D]; [frames, D] and [1, D] may be absent */
    up_view y;                 /* [N, D] */
} up_patch_embed_args;
typedef struct up_patch_embed_grad {
    up_view patches, cells, frames, dy;
    up_view dweight, dbias, dspace, dtime, dtype; /* += */
    up_view scratch;
} up_patch_embed_grad;

/* y = act(x W' + b), W as in PyTorch [out, in]; act is none or the exact GELU, 0.5 v (1 + erf(v / sqrt 2)).
 */
typedef enum up_activation { UP_ACT_NONE, UP_ACT_GELU } up_activation;
typedef struct up_linear_args {
    up_view x, weight, bias; /* [N, I], [O, I], [1, O] (bias may be absent) */
    up_activation activation;
    up_view pre; /* [N, O] the value before GELU, wanted by the backward pass; absent in inference */
    up_view y;   /* [N, O]; may alias pre only when that is absent */
} up_linear_args;
typedef struct up_linear_grad {
    up_view x, weight;
    up_activation activation;
    up_view pre;
    up_view dy;             /* [N, O]; with GELU it is overwritten by the gradient before the activation */
    up_view dx;             /* =, may be absent */
    up_view dweight, dbias; /* += */
    up_view scratch;
} up_linear_grad;

/* y = (x - mean) * rstd * weight + bias over each row, rstd = 1 / sqrt(variance + eps). */
typedef struct up_layernorm_args {
    up_view x, weight, bias; /* [N, D], [1, D], [1, D] */
    float eps;
    up_view y;     /* [N, D] */
    up_view stats; /* f32 [N, 2] mean, rstd */
} up_layernorm_args;
typedef struct up_layernorm_grad {
    up_view x, weight, stats, dy;
    up_view residual;       /* [N, D] added to dx: the gradient that came past the branch; may be absent */
    up_view dx;             /* =, may alias residual or dy */
    up_view dweight, dbias; /* += */
    up_view scratch;
} up_layernorm_grad;

/* Multi-head attention of packed sequences, scale 1 / sqrt(D / H). q, k, v are often columns of one [N, 3D]
 * tensor. Prompt keys and values stand before the sequence's own: rows side * P .. side * P + P - 1. Rows
 * that belong to no sequence (the unused end of a packed batch) become 0 in every output and gradient. */
typedef struct up_attention_args {
    up_view sequences; /* i32 [S, UP_SEQ_FIELDS] */
    int heads;
    int prompts, prompt_sides;  /* P and 1 or 2; P = 0: none */
    int max_keys;               /* an upper bound of K_COUNT + P over the sequences */
    up_view q, k, v;            /* [Nq, D], [Nk, D], [Nk, D] */
    up_view prompt_k, prompt_v; /* [sides * P, D] */
    up_view out;                /* [Nq, D] */
    up_view lse;                /* f32 [Nq, H] log-sum-exp of the scaled scores */
    up_view scratch;
} up_attention_args;
typedef struct up_attention_grad {
    up_attention_args forward; /* the same views, `out` and `lse` filled */
    up_view dout;
    up_view dq, dk, dv;           /* = */
    up_view dprompt_k, dprompt_v; /* = */
    up_view scratch;
} up_attention_grad;

/* y = x + drop[n] * scale[d] * branch: residual connection with LayerScale and drop path. */
typedef struct up_residual_args {
    up_view x, branch; /* [N, D] */
    up_view scale;     /* [1, D] LayerScale; may be absent (1) */
    up_view drop; /* f32 [N, 1]: 0 or 1 / (1 - p), the same for all tokens of a sequence; may be absent (1) */
    up_view y;    /* [N, D]; may alias x */
} up_residual_args;
typedef struct up_residual_grad { /* the gradient towards x is dy itself */
    up_view branch, scale, drop, dy;
    up_view dbranch; /* =; may alias branch */
    up_view dscale;  /* += */
    up_view scratch;
} up_residual_grad;

/* y[i] = x[rows[i]]; backward: dx = 0, then dx[rows[i]] += dy[i] (rows may repeat). */
typedef struct up_gather_args {
    up_view x, rows; /* [N, D], i32 [R, 1] */
    up_view y;       /* [R, D] */
} up_gather_args;
typedef struct up_gather_grad {
    up_view dy, rows;
    up_view dx; /* = */
} up_gather_grad;

/* y[rows[i]] = x[i], other rows untouched; rows do not repeat. Its backward pass is gather. */
typedef struct up_scatter_args {
    up_view x, rows; /* [R, D], i32 [R, 1] */
    up_view y;       /* [N, D] */
} up_scatter_args;

/* y = x / max(|x|, 1e-12) over each row. */
typedef struct up_l2norm_args {
    up_view x, y;  /* [R, D] */
    up_view rnorm; /* f32 [R, 1]: 1 / max(|x|, 1e-12) */
} up_l2norm_args;
typedef struct up_l2norm_grad {
    up_view y, rnorm, dy;
    up_view dx; /* =, may alias dy */
} up_l2norm_grad;

/* z = min(exp(log_scale), 100) * a b'  (paper eq. 2: cosine over temperature, scale = 1 / tau). */
#define UP_MAX_LOGIT_SCALE 100.0
typedef struct up_logits_args {
    up_view a, b, log_scale; /* [Q, D], [V, D], f32 [1, 1] */
    up_view z;               /* f32 [Q, V] */
} up_logits_args;
typedef struct up_logits_grad {
    up_view a, b, log_scale;
    up_view dz;         /* [Q, V] */
    up_view da, db;     /* = */
    up_view dlog_scale; /* +=: sum of dz z = sum of da a (wants da); nothing while the scale is clamped */
    up_view scratch;
} up_logits_grad;

/* Softmax cross-entropy of each row (paper eq. 3). Target: an index with label smoothing e, (1 - e) onehot +
 * e / V, or a row of probabilities. A target of -1 leaves the row out: loss 0, gradient 0. */
typedef struct up_xent_args {
    up_view z;       /* f32 [Q, V] */
    up_view targets; /* i32 [Q, 1], or absent */
    up_view soft;    /* f32 [Q, V], or absent */
    float smoothing;
    up_view loss, lse; /* f32 [Q, 1] */
    up_view correct;   /* f32 [Q, 1]: 1 where the first largest logit is the target; may be absent */
} up_xent_args;
typedef struct up_xent_grad {
    up_view z, targets, soft, lse;
    float smoothing;
    float weight; /* dL/dloss of every row, e.g. loss weight / Q */
    up_view dz;   /* =, may alias z */
} up_xent_grad;

/* out[0] += sum of squares of x. */
typedef struct up_sqnorm_args {
    up_view x, out; /* any; f32 [1, 1] */
    up_view scratch;
} up_sqnorm_args;

/* AdamW with decoupled decay (Loshchilov and Hutter 2019), after scaling the gradient by
 * min(1, max_norm / (sqrt(sqnorm) + 1e-6)). Where sqnorm is not finite nothing is written: the step is
 * skipped. */
typedef struct up_adamw_args {
    up_view param, grad, m, v; /* f32, same shape */
    double lr, beta1, beta2, eps, decay;
    double correction1, correction2; /* 1 - beta^t */
    up_view sqnorm;                  /* f32 [1, 1] of the whole gradient; may be absent (no clipping) */
    double max_norm;                 /* 0: no clipping */
} up_adamw_args;

/* y = x in y's element type. */
typedef struct up_cast_args {
    up_view x, y;
} up_cast_args;

typedef enum up_op {
    UP_OP_EMBED,
    UP_OP_PATCH_EMBED,
    UP_OP_LINEAR,
    UP_OP_LAYERNORM,
    UP_OP_ATTENTION,
    UP_OP_RESIDUAL,
    UP_OP_GATHER,
    UP_OP_SCATTER,
    UP_OP_L2NORM,
    UP_OP_LOGITS,
    UP_OP_XENT,
    UP_OP_SQNORM,
    UP_OP_ADAMW,
    UP_OP_CAST,
    UP_OP_COUNT
} up_op;

/* The largest sizes an operation will see: what `supports` and `scratch` are asked with. Unused fields are 0.
 */
typedef struct up_op_dims {
    int64_t rows;    /* N, Q or R */
    int64_t in, out; /* I and O; D; D and V of logits; C and D of patches */
    int64_t keys;    /* max_keys of attention */
    int64_t heads;
    int64_t sequences;
} up_op_dims;

typedef struct up_backend_ops {
    uint32_t version, size; /* UP_BACKEND_VERSION, sizeof(up_backend_ops) */
    const char *name;

    void (*destroy)(up_backend *b);
    up_status (*alloc)(up_backend *b, size_t bytes,
                       up_buffer **out);               /* content undefined; 0 bytes is legal */
    void (*release)(up_backend *b, up_buffer *buffer); /* NULL is fine */
    up_status (*upload)(up_backend *b, up_view dst, const void *src); /* dense rows * cols elements */
    up_status (*download)(up_backend *b, void *dst, up_view src);     /* waits; dense */
    up_status (*fill)(up_backend *b, up_view dst, double value);
    up_status (*copy)(up_backend *b, up_view dst, up_view src); /* same shape and type */
    up_status (*sync)(up_backend *b);
    up_status (*begin)(up_backend *b, const char *region); /* (optional) */
    up_status (*end)(up_backend *b, const char *region);   /* (optional) */
    /* 1, or 0 and *why = a constant reason. */
    int (*supports)(up_backend *b, up_op op, up_dtype dtype, const up_op_dims *dims, const char **why);
    /* Bytes of scratch that forward and backward of `op` need at these dims. */
    size_t (*scratch)(up_backend *b, up_op op, const up_op_dims *dims);

    up_status (*embed)(up_backend *b, const up_embed_args *a);
    up_status (*embed_bwd)(up_backend *b, const up_embed_grad *a);
    up_status (*patch_embed)(up_backend *b, const up_patch_embed_args *a);
    up_status (*patch_embed_bwd)(up_backend *b, const up_patch_embed_grad *a);
    up_status (*linear)(up_backend *b, const up_linear_args *a);
    up_status (*linear_bwd)(up_backend *b, const up_linear_grad *a);
    up_status (*layernorm)(up_backend *b, const up_layernorm_args *a);
    up_status (*layernorm_bwd)(up_backend *b, const up_layernorm_grad *a);
    up_status (*attention)(up_backend *b, const up_attention_args *a);
    up_status (*attention_bwd)(up_backend *b, const up_attention_grad *a);
    up_status (*residual)(up_backend *b, const up_residual_args *a);
    up_status (*residual_bwd)(up_backend *b, const up_residual_grad *a);
    up_status (*gather)(up_backend *b, const up_gather_args *a);
    up_status (*gather_bwd)(up_backend *b, const up_gather_grad *a);
    up_status (*scatter)(up_backend *b, const up_scatter_args *a);
    up_status (*l2norm)(up_backend *b, const up_l2norm_args *a);
    up_status (*l2norm_bwd)(up_backend *b, const up_l2norm_grad *a);
    up_status (*logits)(up_backend *b, const up_logits_args *a);
    up_status (*logits_bwd)(up_backend *b, const up_logits_grad *a);
    up_status (*xent)(up_backend *b, const up_xent_args *a);
    up_status (*xent_bwd)(up_backend *b, const up_xent_grad *a);
    up_status (*sqnorm)(up_backend *b, const up_sqnorm_args *a);
    up_status (*adamw)(up_backend *b, const up_adamw_args *a);
    up_status (*cast)(up_backend *b, const up_cast_args *a);
} up_backend_ops;

struct up_backend {
    const up_backend_ops *ops;
    void *state;
};

/* The reference: plain C, one thread, double accumulation. Its table is the start of every host backend's. */
UP_API up_status up_backend_ref(up_backend **out);
UP_API const up_backend_ops *up_ref_ops(void);

/* The CPU backend: the reference's table with faster slots. `threads` 0 = all cores. */
UP_API up_status up_backend_cpu(int threads, up_backend **out);

/* By name: "ref", "cpu" or "cuda"; a backend that is not built is UP_ERR_UNSUPPORTED and says so. */
UP_API up_status up_backend_create(const char *name, int threads, up_backend **out);
UP_API void up_backend_free(up_backend *backend);

#ifdef __cplusplus
}
#endif
#endif

/* backend.h - the table of operations that a backend fills. The model (ref/model) is written once over this
 * table; ref/ops defines what every slot computes, the other backends compute the same faster.
 *
 * The contract:
 *  1. Memory. Buffers are opaque and belong to the backend; nothing outside it may read them. The driver
 * plans all of them once; an operation never allocates and never waits. Scratch space is asked for ahead
 * (`scratch`) and passed in.
 *  2. Order. Operations run in the order of the calls. `download`, `sync` and `fetch_end` are the only ones
 * that wait; a training step has none of them but the `fetch_end` of what the step before began. The driver
 * wraps regions in begin / end, so that a device can record and replay them. Inputs of `upload` may be reused
 * on return.
 *  3. Precision. The element type is in the view. "act" marks activations and their gradients: f32, bf16 or
 * f16, one type for all of a call unless a field says otherwise. Everything else is f32: parameters and their
 * gradients, statistics (mean, rstd, lse), features, logits, loss, the optimiser's state. `ref` sums in
 * double and rounds once, at the store. Other backends sum in f32 at least, and may round weights to the
 * call's activation type first.
 *  4. Accumulation. Gradients of PARAMETERS are added to (+=), gradients of ACTIVATIONS are set (=). Each
 * field says which. A gradient that is absent is not wanted (a frozen parameter).
 *  5. Errors. UP_OK or a message. Shapes are the driver's duty; a backend does not check them.
 *  6. Capability. `supports` gives a reason with every refusal; nothing falls back silently.
 *  7. The table carries its version and size. Slots marked (optional) may be NULL: then the driver composes
 * the others.
 *  8. Unused rows. A batch may be laid out for more rows than it has. Indices of unused rows are -1 (ids:
 * UP_ID_NONE): they read as 0 and are not written, so that such rows stay finite and add nothing to any
 * gradient.
 *
 * Aliasing: outputs may alias inputs only where a field says so. Empty tensors (0 rows) are legal everywhere.
 */
#ifndef UNIPERCEIVER_BACKEND_H
#define UNIPERCEIVER_BACKEND_H

#include "uniperceiver/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { UP_BACKEND_VERSION = 3 };

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
enum { UP_ID_SPE = -1 /* E is the <SPE> embedding */, UP_ID_NONE = -2 /* an unused row: y = 0 */ };
typedef struct up_embed_args {
    up_view ids, positions; /* i32 [N, 1] */
    up_view token, spe, position,
        type;  /* [vocabulary - 1, D], [1, D], [positions, D], [1, D] (may be absent) */
    up_view y; /* act [N, D] */
} up_embed_args;
typedef struct up_embed_grad {
    up_view ids, positions, dy;             /* dy: act */
    up_view dtoken, dspe, dposition, dtype; /* += */
    up_view scratch;
} up_embed_grad;

/* y = W patch + b + P_space[cell] + P_time[frame] + V. */
typedef struct up_patch_embed_args {
    up_view patches; /* [N, C], C = 3 * patch * patch: u8, or values of any float type */
    up_view
        levels; /* f32 [3, 256]: the value of each byte by channel, rounded to y's type; absent with values */
    up_view cells, frames;     /* i32 [N, 1]; a cell of -1 is an unused row: y = 0 */
    up_view weight, bias;      /* [D, C], [1, D] */
    up_view space, time, type; /* [cells, D]; [frames, D] and [1, D] may be absent */
    up_view y;                 /* act [N, D] */
    up_view scratch;
} up_patch_embed_args;
typedef struct up_patch_embed_grad {
    up_view patches, levels, cells, frames, dy;   /* dy: act; its unused rows are 0 */
    up_view dweight, dbias, dspace, dtime, dtype; /* += */
    up_view scratch;
} up_patch_embed_grad;

/* y = act(x W' + b), W as in PyTorch [out, in]; act is none or the exact GELU, 0.5 v (1 + erf(v / sqrt 2)).
 */
typedef enum up_activation { UP_ACT_NONE, UP_ACT_GELU } up_activation;
typedef struct up_linear_args {
    up_view x, weight, bias; /* act [N, I], [O, I], [1, O] (bias may be absent) */
    up_view prepared;        /* what `prepare` made of the weight, or absent */
    up_activation activation;
    up_view pre; /* act [N, O] the value before GELU, wanted by the backward pass; absent in inference */
    up_view y;   /* act [N, O], of the value before rounding to pre; may alias pre only when that is absent */
    up_view scratch;
} up_linear_args;
typedef struct up_linear_grad {
    up_view x; /* read for dweight alone: without it, dx may lie there */
    up_view weight, prepared;
    up_activation activation;
    up_view pre;
    up_view dy; /* act [N, O]; with GELU it is overwritten by the gradient before the activation */
    up_view dx; /* act, =, may be absent */
    up_view dweight, dbias; /* += */
    up_view scratch;
} up_linear_grad;

/* Prepared weights: a linear layer's weight in the form that a backend likes (packed, of the activations'
 * type), made again after every change of the weight. */
typedef struct up_prepare_args {
    up_view weight;   /* f32 [O, I] */
    up_dtype dtype;   /* of the activations that it will meet */
    int backward;     /* 1: for dx too */
    up_view prepared; /* u8 [1, prepared_size] */
} up_prepare_args;

/* y = (x - mean) * rstd * weight + bias over each row, rstd = 1 / sqrt(variance + eps). x may be f32
 * (prompts, which are parameters) whatever y is; then dx and residual are f32 too. */
typedef struct up_layernorm_args {
    up_view x, weight, bias; /* act [N, D], [1, D], [1, D] */
    float eps;
    up_view y;     /* act [N, D] */
    up_view stats; /* f32 [N, 2] mean, rstd */
} up_layernorm_args;
typedef struct up_layernorm_grad {
    up_view x, weight, stats, dy;
    up_view residual;       /* [N, D] added to dx: the gradient that came past the branch; may be absent */
    up_view dx;             /* =, may alias residual or dy; may be absent */
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

/* y = x + drop[owner[n]] * scale[d] * branch: residual connection with LayerScale and drop path. */
typedef struct up_residual_args {
    up_view x, branch; /* act [N, D] */
    up_view scale;     /* [1, D] LayerScale; may be absent (1) */
    up_view drop;      /* f32 [S, 1] of each sequence: 0 or 1 / (1 - p); may be absent (1) */
    up_view owner;     /* i32 [N, 1] the sequence of each row, -1: none, its factor is 0; only with drop */
    up_view y;         /* act [N, D]; may alias x */
} up_residual_args;
typedef struct up_residual_grad { /* the gradient towards x is dy itself */
    up_view branch;               /* wanted for dscale alone, absent without */
    up_view scale, drop, owner, dy;
    up_view dbranch; /* act, =; may alias branch or dy */
    up_view dscale;  /* += */
    up_view scratch;
} up_residual_grad;

/* A residual connection and the layer norm of what it gave, as it is stored: one pass over memory for two.
 * norm.x is add.y; everything else as in the two slots, one after the other. */
typedef struct up_add_layernorm_args {
    up_residual_args add;
    up_layernorm_args norm;
} up_add_layernorm_args;
/* The way back, through the norm first: add.dy is norm.dx, which is present; add.dbranch may alias norm.dy
 * too. Both scratch views are one, of what `layernorm` and `residual` ask for, whichever is more. */
typedef struct up_add_layernorm_grad {
    up_layernorm_grad norm;
    up_residual_grad add;
} up_add_layernorm_grad;

/* y[i] = x[rows[i]], 0 where that is -1; backward: dx = 0, then dx[rows[i]] += dy[i] (rows may repeat). x and
 * y may have different float types. */
typedef struct up_gather_args {
    up_view x, rows; /* [N, D], i32 [R, 1] */
    up_view y;       /* [R, D] */
} up_gather_args;
typedef struct up_gather_grad {
    up_view dy, rows;
    up_view dx; /* = */
} up_gather_grad;

/* y[rows[i]] = x[i], other rows untouched, -1 left out; other rows do not repeat. Its backward pass is
 * gather. */
typedef struct up_scatter_args {
    up_view x, rows; /* [R, D], i32 [R, 1] */
    up_view y;       /* [N, D] */
} up_scatter_args;

/* y = x / max(|x|, 1e-12) over each row. */
typedef struct up_l2norm_args {
    up_view x, y;  /* f32 [R, D] */
    up_view rnorm; /* f32 [R, 1]: 1 / max(|x|, 1e-12) */
} up_l2norm_args;
typedef struct up_l2norm_grad {
    up_view y, rnorm, dy;
    up_view past; /* f32 [R, D] added to dx: a gradient that reached x another way; may be absent */
    up_view dx;   /* =, may alias dy or past */
} up_l2norm_grad;

/* z = alpha min(exp(log_scale), 100) a b' (+ z)  (paper eq. 2: cosine over temperature, scale = 1 / tau; eq.
 * 4: alpha, and the linear head's part that z holds before). b is a tile of the targets, z their columns. */
#define UP_MAX_LOGIT_SCALE 100.0
typedef struct up_logits_args {
    up_view a, b, log_scale; /* f32 [Q, D], [V, D], [1, 1] */
    up_view alpha;           /* f32 [1, 1]; absent: 1 */
    up_view bias;            /* f32 [1, V] added to every row; may be absent */
    int add;                 /* 1: += */
    up_view z;               /* f32 [Q, V] */
} up_logits_args;
typedef struct up_logits_grad {
    up_view a, b, log_scale, alpha;
    up_view dz; /* f32 [Q, V] */
    up_view da; /* f32 [Q, D] = dz b, += where add_a: the factor is left to `logits_scale_bwd` */
    up_view db; /* f32 [V, D] = alpha scale dz' a, += where add_b */
    int add_a, add_b;
    up_view scratch;
} up_logits_grad;
/* After the last tile, with s = sum over all of da a:  dlog_scale += alpha scale s (nothing while the scale
 * is clamped), dalpha += scale s,  sum (+)= alpha scale da. */
typedef struct up_logits_scale_grad {
    up_view a, da, log_scale, alpha;
    up_view dlog_scale, dalpha; /* += */
    up_view sum;                /* f32 [Q, D], += where add, else =; may alias da where not add */
    int add;
    up_view scratch;
} up_logits_scale_grad;

/* What is true for each of Q queries among V targets. Row i's share of target j is
 *     q[i, j] = (1 - e) * (share of j among row i's true targets, or soft[i, j]) + e / C[i]
 * where C[i] counts the targets that count in row i: j < columns, and not of the query's own group unless j
 * is a true target of the row (equal texts, other captions of one picture: they are no negatives). Targets
 * that do not count have P = q = 0. A row whose first index is -1 (with `index`) is left out: loss 0,
 * gradient 0. */
typedef struct up_truth {
    up_view index;            /* i32 [Q, K], K = 1 or 2: true targets; absent with soft */
    up_view share;            /* f32 [Q, K] their shares, sum 1 (mixup); absent: K is 1 */
    up_view soft;             /* f32 [Q, V] probabilities, or absent */
    up_view group_x, group_y; /* i32 [Q, 1], [V, 1], -1: no group; absent: no groups. Not with soft */
    up_view columns;          /* i32 [1, 1] how many targets there are; absent: all V */
    float smoothing;          /* e */
} up_truth;

/* Softmax cross-entropy of each row (paper eq. 3) over targets that come in tiles of columns:
 *     loss[i] = lse(z[i]) - sum over j of q[i, j] z[i, j]
 * The state carries on from tile to tile (online log-sum-exp, Milakov and Gimelshein 2018). */
enum {
    UP_XENT_MAX,   /* largest z so far */
    UP_XENT_SUM,   /* sum of exp(z - max) */
    UP_XENT_TRUE,  /* sum of the shares times z */
    UP_XENT_TOTAL, /* sum of z over targets that count */
    UP_XENT_COUNT, /* C[i] so far */
    UP_XENT_BEST,  /* the first target of the largest z */
    UP_XENT_FIELDS
};
typedef struct up_xent_args {
    up_view z; /* f32 [Q, Vt]: columns first..first + Vt - 1 of V */
    int64_t first;
    int begin, end; /* 1: the first tile, which sets the state; the last one, which gives the results */
    up_truth truth;
    up_view state;     /* f32 [Q, UP_XENT_FIELDS] */
    up_view loss, lse; /* f32 [Q, 1] set at the end */
    up_view correct; /* f32 [Q, 1] set at the end: 1 where the first largest logit is the (first) true target
                        or, with soft, the first largest probability; may be absent */
} up_xent_args;
typedef struct up_xent_grad {
    up_view z; /* the tile's logits again */
    int64_t first;
    up_truth truth;
    up_view state; /* as the forward pass left it */
    float weight;  /* dL/dloss of every row, e.g. loss weight / rows */
    up_view scale; /* f32 [1, 1] loss scale, multiplies weight; absent: 1 */
    up_view dz;    /* =, may alias z */
} up_xent_grad;

/* out[0] = sum of squares of x. */
typedef struct up_sqnorm_args {
    up_view x, out; /* f32 any; f32 [1, 1] */
    up_view scratch;
} up_sqnorm_args;

/* What a step is steered by, all on the device, so that no step waits for the host: f32 [1, UP_STEP_FIELDS].
 */
enum {
    UP_STEP_LR,      /* set by the driver before each step */
    UP_STEP_SCALE,   /* loss scale: gradients are that many times too large */
    UP_STEP_COUNT,   /* t: steps that were done, skipped ones not counted */
    UP_STEP_GOOD,    /* steps done since the scale last changed */
    UP_STEP_NORM,    /* of the gradient, unscaled, before clipping */
    UP_STEP_SKIPPED, /* 1: the norm was not finite */
    UP_STEP_FACTOR,  /* what multiplies the gradient: clipping over scale; 0 when skipped */
    UP_STEP_FIELDS
};
/* Opens a step: norm = sqrt(sum of sqnorms) / scale.
 *     finite:  skipped = 0, count += 1, good += 1, factor = min(1, max_norm / (norm + 1e-6)) / scale;
 *              when good reaches `good_steps` (> 0): scale *= 2, good = 0
 *     not:     skipped = 1, factor = 0, good = 0; with good_steps > 0: scale = max(scale / 2, min_scale)   */
typedef struct up_step_args {
    up_view sqnorms; /* f32 [1, B] */
    up_view control; /* f32 [1, UP_STEP_FIELDS] */
    double max_norm; /* 0: no clipping */
    int good_steps;  /* 0: the scale is fixed */
    double min_scale;
} up_step_args;

/* AdamW with decoupled decay (Loshchilov and Hutter 2019) over everything that learns, in one call:
 *     g = factor grad,  m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2,
 *     w = w - lr (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + decay w),   t = count of `control`
 * Where control says skipped, weights and moments keep every bit. In both cases the gradient is 0 afterwards.
 */
enum { UP_SEGMENT_WEIGHT, UP_SEGMENT_STATE, UP_SEGMENT_COUNT, UP_SEGMENT_DECAY, UP_SEGMENT_FIELDS };
enum { UP_SEGMENT_UNIT = 16 }; /* elements: the unit of the first three fields */
/* Elements that n of them take where everything starts on a unit. */
static inline int64_t up_whole_units(int64_t n) {
    return (n + UP_SEGMENT_UNIT - 1) / UP_SEGMENT_UNIT * UP_SEGMENT_UNIT;
}
typedef struct up_adamw_args {
    up_view
        segments;       /* i32 [n, UP_SEGMENT_FIELDS]: a run of weights, where it lies in `weights` and in the
                           state, how long it is,   1 where it decays. Ascending in the state, no two overlap. */
    up_view rates;      /* f32 [n, 1] multiplies the rate of each segment; absent: 1 */
    up_view weights;    /* f32 [1, all weights] */
    up_view grad, m, v; /* f32 [1, what learns] */
    up_view control;
    double beta1, beta2, eps, decay;
} up_adamw_args;

/* y = x in y's element type. */
typedef struct up_cast_args {
    up_view x, y;
} up_cast_args;

/* y = gelu(x), element by element, as in `linear`: a backward pass makes again what it needs of a layer from
 * the value before its GELU. That value was rounded when it was stored; in bf16 and f16 y is therefore the
 * GELU of the rounded one, and differs from the forward pass's, made of the unrounded one, by a rounding. */
typedef struct up_gelu_args {
    up_view x; /* act [N, O] */
    up_view y; /* act [N, O], may alias x */
} up_gelu_args;

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
    UP_OP_STEP,
    UP_OP_ADAMW,
    UP_OP_CAST,
    UP_OP_GELU,
    UP_OP_COUNT
} up_op;

/* The largest sizes an operation will see: what `supports` and `scratch` are asked with. Unused fields are 0.
 */
typedef struct up_op_dims {
    up_dtype dtype;  /* of the activations */
    int64_t rows;    /* N, Q or R */
    int64_t in, out; /* I and O; D; D and V of logits; C and D of patches; vocabulary and D of embed */
    int64_t keys;    /* max_keys of attention */
    int64_t heads;
    int64_t sequences;
} up_op_dims;

typedef struct up_fetch up_fetch; /* a small result on its way to the host; opaque, owned by its backend */

typedef struct up_backend_ops {
    uint32_t version, size; /* UP_BACKEND_VERSION, sizeof(up_backend_ops) */
    const char *name;
    int static_shapes; /* 1: the driver passes rows up to the batch's capacity, so that shapes repeat from
                          call to call */

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
    /* Results that are read later: `begin` copies src as it stands at this place of the order and does not
     * wait, `end` waits for that copy and hands it over, dense. */
    up_status (*fetch_create)(up_backend *b, size_t bytes, up_fetch **out);
    void (*fetch_free)(up_backend *b, up_fetch *fetch); /* NULL is fine */
    up_status (*fetch_begin)(up_backend *b, up_fetch *fetch, up_view src);
    up_status (*fetch_end)(up_backend *b, up_fetch *fetch, void *dst);
    /* 1, or 0 and *why = a constant reason. */
    int (*supports)(up_backend *b, up_op op, const up_op_dims *dims, const char **why);
    /* Bytes of scratch that forward and backward of `op` need at these dims. */
    size_t (*scratch)(up_backend *b, up_op op, const up_op_dims *dims);
    /* (optional, both or none) Bytes that a weight [out, in] takes in prepared form, 0: it is used as it
     * lies. */
    size_t (*prepared_size)(up_backend *b, const up_op_dims *dims, int backward);
    up_status (*prepare)(up_backend *b, const up_prepare_args *a);
    /* (optional, both or none) A buffer over host memory that stays the caller's, for a backend whose
     * operations can work on it in place; tensors in it may stand at any multiple of their elements. `unwrap`
     * ends the buffer and leaves the memory (NULL is fine). */
    up_status (*wrap)(up_backend *b, void *memory, size_t bytes, up_buffer **out);
    void (*unwrap)(up_backend *b, up_buffer *buffer);

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
    up_status (*logits_scale_bwd)(up_backend *b, const up_logits_scale_grad *a);
    up_status (*xent)(up_backend *b, const up_xent_args *a);
    up_status (*xent_bwd)(up_backend *b, const up_xent_grad *a);
    up_status (*sqnorm)(up_backend *b, const up_sqnorm_args *a);
    up_status (*step)(up_backend *b, const up_step_args *a);
    up_status (*adamw)(up_backend *b, const up_adamw_args *a);
    up_status (*cast)(up_backend *b, const up_cast_args *a);
    up_status (*gelu)(up_backend *b, const up_gelu_args *a);
    /* (optional, both or none) */
    up_status (*add_layernorm)(up_backend *b, const up_add_layernorm_args *a);
    up_status (*add_layernorm_bwd)(up_backend *b, const up_add_layernorm_grad *a);
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

/* The CUDA backend: the first device that the process sees. Only in builds with it, so it is not exported:
 * programs ask by name. */
up_status up_backend_cuda(up_backend **out);

/* By name: "ref", "cpu" or "cuda"; a backend that is not built is UP_ERR_UNSUPPORTED and says so. */
UP_API up_status up_backend_create(const char *name, int threads, up_backend **out);
UP_API void up_backend_free(up_backend *backend);

#ifdef __cplusplus
}
#endif
#endif

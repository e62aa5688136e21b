/* run.h - one model at work: packed batch -> features -> similarities -> loss -> gradients -> step.
 *
 * A run owns the activations of one model on its backend. Inputs and targets of a task lie in the same packed
 * batch: one forward pass encodes both (the paper's siamese f), the loss compares their read-out rows.
 */
#ifndef UNIPERCEIVER_RUN_H
#define UNIPERCEIVER_RUN_H

#include "uniperceiver/batch.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct up_run up_run;

/* `training` 1: activations of all layers are kept and gradients exist; 0: features only. The model is
 * borrowed. Buffers are planned for the batches seen and grow between calls, never inside one. */
UP_API up_status up_run_create(up_model *model, int training, up_run **out);
UP_API void up_run_free(up_run *run);

/* The last layer's feed-forward network, queries and projection are needed at read-out rows alone; by default
 * only those are computed. `all` 1: every row, for those who look at the last layer's whole output. Counts
 * from the next forward pass. */
UP_API void up_run_keep_all_rows(up_run *run, int all);

/* Upload a batch and encode it. `drop`: drop-path factors [2 * layers, S], row 2l for the attention branch
 * and 2l + 1 for the FFN branch of layer l, each 0 or 1 / (1 - p); NULL: nothing is dropped. Only a training
 * run drops: `drop` must be NULL otherwise. The batch may be reused on return. */
UP_API up_status up_run_forward(up_run *run, const up_batch *batch, const float *drop);

/* What a loss compares: features of the Q queries with those of the V targets of the last forward pass. */
typedef struct up_loss {
    int task;              /* whose temperature */
    const int32_t *labels; /* [Q] index of the true target, -1: row left out; or NULL with soft */
    const float *soft;     /* [Q, V] probabilities, or NULL */
    int symmetric;   /* 1: in-batch retrieval, the mean of both directions; needs Q == V, labels i -> i */
    float smoothing; /* label smoothing e: (1 - e) onehot + e / V */
    float weight;    /* of the whole loss */
} up_loss;

typedef struct up_loss_value {
    double loss;     /* weight times the mean over the rows that count */
    double accuracy; /* share of those rows whose first best target is the true one */
    int rows;
} up_loss_value;

/* Similarities and loss of the last forward pass. Waits for the result. `value` may be NULL (nothing is
 * waited for). */
UP_API up_status up_run_loss(up_run *run, const up_loss *loss, up_loss_value *value);

/* Gradients of the last loss, ADDED to the run's gradient buffer. `layer_done` (may be NULL) is called when
 * the gradients of layer l are complete, from the last layer to 0, then once with -1 for the rest: the place
 * to start exchanging them. */
typedef void (*up_layer_done)(void *context, int layer);
UP_API up_status up_run_backward(up_run *run, up_layer_done layer_done, void *context);
UP_API up_status up_run_zero_gradients(up_run *run);

/* Read-out features [R, D] of the last forward pass, queries first, then targets: on the host, scaled to
 * length 1. */
UP_API up_status up_run_features(up_run *run, float *out);

/* ---- optimiser ---- */
typedef struct up_adamw {
    double lr, beta1, beta2, eps, decay;
    double max_norm; /* clip the global gradient norm; 0: do not */
} up_adamw;

typedef struct up_step_value {
    double gradient_norm; /* before clipping */
    int skipped;          /* 1: a loss or gradient was not finite; weights and state are untouched */
} up_step_value;

/* One AdamW step over all trainable parameters from the gradient buffer, then nothing is zeroed. Step numbers
 * t = 1, 2, ... count successful steps. Waits for the norm. */
UP_API up_status up_run_step(up_run *run, const up_adamw *optimizer, up_step_value *value);
UP_API int64_t up_run_steps(const up_run *run);
UP_API void up_run_set_steps(up_run *run, int64_t steps);

/* ---- looking inside, for tests, checkpoints and communicators ---- */
typedef enum up_run_tensor {
    UP_RUN_EMBEDDING, /* [N, D] the encoder's input */
    UP_RUN_LAYER,     /* [N, D] output of layer `index` (training runs keep all; others only the last); of the
                         last layer only     the rows read out, ascending, unless all are kept */
    UP_RUN_FEATURES,  /* [R, D] read-out features before scaling to length 1 */
    UP_RUN_UNIT,      /* [R, D] after it */
    UP_RUN_LOGITS,    /* [Q, V] cosine / tau */
    UP_RUN_LOSS       /* [Q, 1] per row, input -> target direction */
} up_run_tensor;
UP_API up_view up_run_view(up_run *run, up_run_tensor tensor, int index);
UP_API up_view up_run_gradient(up_run *run, int param);          /* absent for frozen parameters */
UP_API up_view up_run_moment(up_run *run, int order, int param); /* order 1: m, 2: v */
/* All gradients as one f32 view [1, params->total], padding zero: what a communicator sums. */
UP_API up_view up_run_gradients(up_run *run);

#ifdef __cplusplus
}
#endif
#endif

/* encoder.h - the encoder f: packed batch -> features, and gradient of the features -> gradients of the
 * parameters. It knows neither target sets nor losses. Paper section 3.1;
 * ref/model/{embed,encoder,readout}.c.
 *
 * An encoder owns the activations of one batch at a time, laid out for a capacity that grows by a ladder, so
 * that tensors keep their places from batch to batch.
 */
#ifndef UNIPERCEIVER_ENCODER_H
#define UNIPERCEIVER_ENCODER_H

#include "uniperceiver/batch.h"
#include "uniperceiver/gradients.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct up_encoder up_encoder;

typedef struct up_encoder_options {
    up_dtype dtype; /* of the activations: UP_F32 (0), UP_BF16 or UP_F16 */
    const up_gradients
        *gradients; /* not NULL: keep what the backward pass towards these needs. NULL: inference */
    int all_rows;   /* 1: the last layer computes every row; 0: behind its keys and values those that are read
                       out (exact) */
} up_encoder_options;

/* The model and the gradients are borrowed. options NULL: inference at f32. */
UP_API up_status up_encoder_create(up_model *model, const up_encoder_options *options, up_encoder **out);
UP_API void up_encoder_free(up_encoder *encoder); /* NULL is fine */

/* Check a batch against the model, lay it out and upload it into the input region that no pass is using; the
 * batch may be reused on return. The next forward pass encodes it. `drop`: factors of drop path [2 L, S], row
 * 2l for the attention branch and 2l + 1 for the FFN branch of layer l, each 0 or 1 / (1 - p); NULL: nothing
 * is dropped. */
UP_API up_status up_encoder_stage(up_encoder *encoder, const up_batch *batch, const float *drop);

/* The same with the draws of up_drop_path for a probability, a seed and a step; probability 0: none. */
UP_API up_status up_encoder_stage_drawn(up_encoder *encoder, const up_batch *batch, double drop_path,
                                        uint64_t seed, uint64_t step);

/* Encode what was staged: features [R, D] f32, one row for each read-out, in their order: f(x), not scaled to
 * length 1. */
UP_API up_status up_encoder_forward(up_encoder *encoder, up_view features);

/* Called when the gradients of a bucket (gradients.h) have received all that this pass gives them, in the
 * buckets' order: the place to take norms and to start exchanging them. An error ends the pass and is
 * returned by it. */
typedef up_status (*up_bucket_done)(void *context, int bucket);

/* From dfeatures [R, D] f32 to the parameters: ADDED to the gradients. Once for each forward pass, of an
 * encoder made with gradients. Ends where nothing below learns. `done` may be NULL. */
UP_API up_status up_encoder_backward(up_encoder *encoder, up_view dfeatures, up_bucket_done done,
                                     void *context);

/* What it holds and has done. */
UP_API int up_encoder_readouts(const up_encoder *encoder); /* R of the batch staged last */
UP_API int64_t
up_encoder_tokens(const up_encoder *encoder);              /* encoded since it was made, every pass counted */
UP_API size_t up_encoder_bytes(const up_encoder *encoder); /* of activations and scratch */
/* About what a token takes of them in a pass whose activations are kept. */
UP_API size_t up_encoder_token_bytes(const up_encoder *encoder);
/* Number of the forward pass whose activations it holds, unlike that of any other pass of any encoder; 0:
 * none (yet, or it failed, or has gone back). */
UP_API uint64_t up_encoder_pass(const up_encoder *encoder);
UP_API up_model *up_encoder_model(const up_encoder *encoder);

/* Factors of drop path [2 L, S] for a batch into `out`: 0 with probability p, else 1 / (1 - p); a function of
 * (seed, step, key of the sequence, branch) alone, so that chunks, order and ranks change no draw. */
UP_API void up_drop_path(double p, int layers, uint64_t seed, uint64_t step, const up_batch *batch,
                         float *out);

/* Looking inside: of the latest forward pass. What no backward pass will read is overwritten on
 * the way: in inference everything but the output of the last layer. */
typedef enum up_encoder_tensor {
    UP_ENCODER_EMBEDDING,  /* act [N, D] the first layer's input */
    UP_ENCODER_LAYER,      /* act [N, D] output of layer `index`; of the last layer only the rows read out,
                              ascending, unless all_rows */
    UP_ENCODER_QUERIES,    /* act [N, D] of layer `index`; of the last layer as above */
    UP_ENCODER_KEYS,       /* act [N, D] */
    UP_ENCODER_PROMPT_KEYS /* act [sides P, D]; absent without prompts */
} up_encoder_tensor;
UP_API up_view up_encoder_view(const up_encoder *encoder, up_encoder_tensor tensor, int index);

#ifdef __cplusplus
}
#endif
#endif

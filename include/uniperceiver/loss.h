/* loss.h - equation 3: features of inputs x and of targets y, and what is true -> loss and both gradients.
 *
 * Logits of queries x targets are never stored: they are computed in fixed tiles of columns, once forward
 * with an online log-sum-exp and once more backward. To add a loss: its shares q in up_truth (backend.h), or
 * a function beside up_criterion_compare.
 */
#ifndef UNIPERCEIVER_LOSS_H
#define UNIPERCEIVER_LOSS_H

#include "uniperceiver/features.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Host arrays, which may be reused on return. */
typedef struct up_loss {
    int task;              /* whose temperature */
    int choices;           /* K: true targets of a query, 1 or 2; 0 counts as 1 */
    const int32_t *labels; /* [Q, K] indices of them; labels[i, 0] = -1: row left out. NULL with soft */
    const float *shares;   /* [Q, K] their shares (mixup); NULL: 1 */
    const float *soft;     /* [Q, V] probabilities, or NULL */
    /* Targets of the query's own group count only where they are true: equal texts, other captions of one
     * picture are no negatives. [Q] and [V]; -1: no group; NULL: none. */
    const int32_t *group_x, *group_y;
    const float *bias; /* [V] added to the logits, e.g. -log of how likely a sampled target was to be drawn;
                          NULL: none */
    int symmetric;     /* 1: in-batch retrieval, the mean of both directions; needs Q == V, labels i -> i */
    int head;          /* 1: the model's linear head takes part (equation 4); targets are its classes */
    float smoothing;   /* label smoothing e: (1 - e) shares + e / (targets that count) */
    float weight;      /* of the whole loss */
} up_loss;

typedef struct up_loss_value {
    double loss;     /* weight times the mean over the rows that count */
    double accuracy; /* share of those rows whose first best target is the true one */
    int rows;        /* that count */
} up_loss_value;

/* Working memory for losses of one model. `gradients` as in up_encoder_options: NULL, values only. `scale`:
 * f32 [1, 1] loss scale on the device (optimizer.h), or absent. All borrowed. */
typedef struct up_criterion up_criterion;
UP_API up_status up_criterion_create(up_model *model, const up_gradients *gradients, up_view scale,
                                     up_criterion **out);
UP_API void up_criterion_free(up_criterion *criterion); /* NULL is fine */

/* Loss of x against y (both normalised, two of them) and, with gradients, its gradient: added to x->dunit and
 * y->dunit (and x->draw by a head), to the temperature's and the head's gradients. Waits for nothing. A
 * failure leaves no value; what it added to gradients stays. */
UP_API up_status up_criterion_compare(up_criterion *criterion, up_features *x, up_features *y,
                                      const up_loss *loss);

/* The value of the latest comparison, on its way to the host; reading it later does not hold up the device.
 * One object for each value that is to be under way at a time; each is read once. */
typedef struct up_loss_read up_loss_read;
UP_API up_status up_loss_read_create(up_model *model, up_loss_read **out);
UP_API void up_loss_read_free(up_loss_read *read); /* NULL is fine */
UP_API up_status up_loss_read_begin(up_loss_read *read, const up_criterion *criterion);
UP_API up_status up_loss_read_end(up_loss_read *read, up_loss_value *value); /* waits */
/* Both at once; waits. */
UP_API up_status up_criterion_value(const up_criterion *criterion, up_loss_value *value);

/* Looking inside, for tests: losses of the rows, f32 [Q, 1], of the first direction. */
UP_API up_view up_criterion_rows(const up_criterion *criterion);

#ifdef __cplusplus
}
#endif
#endif

/* xent.c - cross-entropy of the softmax over the target set (paper equation 3), with label smoothing (Szegedy
 * et al. 2016) or a row of target probabilities. */
#include "ref/ops/ops.h"

#include <math.h>

/* What a row is compared with: an index (soft = NULL), a row of probabilities, or nothing (index -1 and soft
 * = NULL). */
typedef struct target {
    int64_t index;
    const float *soft; /* [V] */
} target;

static int64_t first_largest(const float *x, int64_t count) {
    int64_t best = 0;
    for (int64_t i = 1; i < count; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

static target target_of(up_view targets, up_view soft, int64_t q) {
    target t = {-1, NULL};
    if (up_view_present(targets)) {
        t.index = up_index(targets, q);
        if (t.index < 0) return t;
    }
    if (up_view_present(soft)) {
        t.soft = up_row(soft, q);
        if (!up_view_present(targets)) t.index = first_largest(t.soft, soft.cols);
    }
    return t;
}

/* Target probability of entry v: (1 - e) onehot + e / V. */
static double probability(target t, int64_t v, int64_t V, double smoothing) {
    if (t.soft) return t.soft[v];
    return (v == t.index ? 1 - smoothing : 0) + smoothing / (double)V;
}

static double log_sum_exp(const float *z, int64_t V) {
    double largest = -INFINITY, sum = 0;
    for (int64_t v = 0; v < V; v++) largest = fmax(largest, z[v]);
    if (largest == -INFINITY) return largest;
    for (int64_t v = 0; v < V; v++) sum += exp(z[v] - largest);
    return largest + log(sum);
}

up_status up_ref_xent(up_backend *b, const up_xent_args *a) {
    (void)b;
    int64_t V = a->z.cols;
    for (int64_t q = 0; q < a->z.rows; q++) {
        const float *z = up_row(a->z, q);
        target t = target_of(a->targets, a->soft, q);
        double lse = log_sum_exp(z, V), loss = 0;
        for (int64_t v = 0; v < V && t.index >= 0; v++) {
            double p = probability(t, v, V, a->smoothing);
            if (p != 0) loss += p * (lse - z[v]); /* an impossible entry may have a logit of -infinity */
        }
        up_row(a->loss, q)[0] = (float)loss;
        up_row(a->lse, q)[0] = (float)lse;
        if (up_view_present(a->correct))
            up_row(a->correct, q)[0] = t.index >= 0 && first_largest(z, V) == t.index;
    }
    return UP_OK;
}

/* loss = sum over v of t_v (lse - z_v): dz_v = weight * (softmax(z)_v - t_v), softmax(z)_v = exp(z_v - lse).
 */
up_status up_ref_xent_bwd(up_backend *b, const up_xent_grad *a) {
    (void)b;
    int64_t V = a->z.cols;
    for (int64_t q = 0; q < a->z.rows; q++) {
        const float *z = up_row(a->z, q);
        target t = target_of(a->targets, a->soft, q);
        double lse = up_row(a->lse, q)[0];
        float *dz = up_row(a->dz, q);
        for (int64_t v = 0; v < V; v++)
            dz[v] =
                t.index < 0 ? 0 : (float)(a->weight * (exp(z[v] - lse) - probability(t, v, V, a->smoothing)));
    }
    return UP_OK;
}

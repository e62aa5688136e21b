/* xent.c - cross-entropy of the softmax over the target set (paper equation 3), tile by tile of the targets:
 * the log-sum-exp goes on from tile to tile (Milakov and Gimelshein 2018). What is true may be one target or
 * two with shares (mixup, cutmix), or a row of probabilities, smoothed (Szegedy et al. 2016). */
#include "ref/ops/ops.h"

#include <math.h>

/* Row q of what is true, for targets 0..columns - 1. */
typedef struct truth {
    const int32_t *index; /* [K], or NULL */
    const float *share;   /* [K], or NULL: 1 */
    const float *soft;    /* [V], or NULL */
    int64_t K, columns;
    int32_t group; /* of the query; -1: none */
    up_view group_y;
    double smoothing;
} truth;

static truth truth_of(const up_truth *t, int64_t q) {
    int grouped = up_view_present(t->group_x) && up_view_present(t->group_y);
    return (truth){.index = up_view_present(t->index) ? up_i32(t->index) + q * t->index.stride : NULL,
                   .share = up_view_present(t->share) ? up_row(t->share, q) : NULL,
                   .soft = up_view_present(t->soft) ? up_row(t->soft, q) : NULL,
                   .K = t->index.cols,
                   .columns = up_view_present(t->columns) ? up_i32(t->columns)[0] : INT64_MAX,
                   .group = grouped ? (int32_t)up_index(t->group_x, q) : -1,
                   .group_y = t->group_y,
                   .smoothing = t->smoothing};
}

static int left_out(const truth *t) {
    return t->index && t->index[0] < 0;
}

/* The share of target j before smoothing; *named: j is among the row's true targets. */
static double share_of(const truth *t, int64_t j, int *named) {
    double share = 0;
    *named = 0;
    if (t->soft) return t->soft[j];
    for (int64_t k = 0; k < t->K; k++) {
        if (t->index[k] != j) continue;
        share += t->share ? t->share[k] : 1;
        *named = 1;
    }
    return share;
}

/* Whether target j counts in this row, and its share. */
static int counts(const truth *t, int64_t j, double *share) {
    int named;
    if (j >= t->columns) return 0;
    *share = share_of(t, j, &named);
    return named || t->group < 0 || up_index(t->group_y, j) != t->group;
}

/* One tile of one row: the running sums in double, the state as it is kept between tiles. */
static void add_tile(const up_xent_args *a, const truth *t, int64_t q, float *state) {
    const float *z = up_row(a->z, q);
    double share, largest = state[UP_XENT_MAX], sum = state[UP_XENT_SUM], right = state[UP_XENT_TRUE],
                  total = state[UP_XENT_TOTAL];
    for (int64_t v = 0; v < a->z.cols; v++) {
        if (!counts(t, a->first + v, &share)) continue;
        if (z[v] > largest || state[UP_XENT_BEST] < 0) state[UP_XENT_BEST] = (float)(a->first + v);
        largest = fmax(largest, z[v]);
        if (share != 0) right += share * z[v]; /* an impossible target may have a logit of -infinity */
        total += z[v];
        state[UP_XENT_COUNT] += 1;
    }
    if (largest > -INFINITY) sum *= exp(state[UP_XENT_MAX] - largest);
    for (int64_t v = 0; v < a->z.cols; v++)
        if (counts(t, a->first + v, &share) && !(z[v] == -INFINITY)) sum += exp(z[v] - largest);
    state[UP_XENT_MAX] = (float)largest;
    state[UP_XENT_SUM] = (float)sum;
    state[UP_XENT_TRUE] = (float)right;
    state[UP_XENT_TOTAL] = (float)total;
}

static int64_t first_largest(const truth *t, int64_t V) {
    int64_t best = 0;
    for (int64_t j = 1; j < V && j < t->columns; j++)
        if (t->soft[j] > t->soft[best]) best = j;
    return best;
}

/* loss = lse - sum over j of ((1 - e) share[j] + e / C) z[j] */
static void finish(const up_xent_args *a, const truth *t, int64_t q, const float *state) {
    double lse = state[UP_XENT_MAX] + log(state[UP_XENT_SUM]), e = t->smoothing;
    double loss = lse - (1 - e) * state[UP_XENT_TRUE];
    if (e != 0) loss -= e / state[UP_XENT_COUNT] * state[UP_XENT_TOTAL];
    up_row(a->loss, q)[0] = left_out(t) ? 0 : (float)loss;
    up_row(a->lse, q)[0] = (float)lse;
    if (!up_view_present(a->correct)) return;
    int64_t wanted = t->soft ? first_largest(t, a->truth.soft.cols) : t->index[0];
    up_row(a->correct, q)[0] = !left_out(t) && state[UP_XENT_BEST] == (float)wanted;
}

up_status up_ref_xent(up_backend *b, const up_xent_args *a) {
    (void)b;
    static const float start[UP_XENT_FIELDS] = {[UP_XENT_MAX] = -INFINITY, [UP_XENT_BEST] = -1};
    for (int64_t q = 0; q < a->z.rows; q++) {
        truth t = truth_of(&a->truth, q);
        float *state = up_row(a->state, q);
        for (int i = 0; i < UP_XENT_FIELDS && a->begin; i++) state[i] = start[i];
        add_tile(a, &t, q, state);
        if (a->end) finish(a, &t, q, state);
    }
    return UP_OK;
}

/* loss = lse - sum over j of q_j z_j: dz_j = weight * (P_j - q_j), P_j = exp(z_j - lse). The log-sum-exp is
 * taken from the state: rounded to f32, as it is kept, it would shift every P_j of a row by what it lost. */
up_status up_ref_xent_bwd(up_backend *b, const up_xent_grad *a) {
    (void)b;
    double weight = a->weight * (up_view_present(a->scale) ? (double)up_f32(a->scale)[0] : 1);
    for (int64_t q = 0; q < a->z.rows; q++) {
        truth t = truth_of(&a->truth, q);
        const float *state = up_row(a->state, q);
        double lse = state[UP_XENT_MAX] + log(state[UP_XENT_SUM]), e = t.smoothing, share;
        double everywhere = e != 0 ? e / state[UP_XENT_COUNT] : 0;
        for (int64_t v = 0; v < a->z.cols; v++) {
            float *dz = &up_row(a->dz, q)[v];
            if (left_out(&t) || !counts(&t, a->first + v, &share))
                *dz = 0;
            else
                *dz = (float)(weight * (exp(up_row(a->z, q)[v] - lse) - ((1 - e) * share + everywhere)));
        }
    }
    return UP_OK;
}

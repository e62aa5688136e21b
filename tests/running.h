/* running.h - numbers that carry the rounding error which a plain computation at some precision would have
 * made by now (running error analysis: Wilkinson 1986; Higham, Accuracy and Stability of Numerical
 * Algorithms, section 3.3).
 *
 * v is the value, computed in double. e bounds the error in the worst case: every rounding at its maximum,
 * all of one sign. s is the sum of the squares of the same contributions: sqrt(s) is the size that
 * independent roundings reach. */
#ifndef UP_TESTS_RUNNING_H
#define UP_TESTS_RUNNING_H

#include <math.h>

typedef struct up_num {
    double v, e, s;
    double m; /* of a sum: its terms without their signs */
} up_num;

/* Half the spacing of numbers at 1 of the arithmetic that is modelled: 2^-24 for f32, 2^-53 for double sums.
 */
extern double up_num_unit;

static inline up_num up_num_rounded(double v, double e, double s, double unit) {
    double r = unit * fabs(v);
    return (up_num){v, e + r, s + r * r, fabs(v)};
}

static inline up_num up_num_exact(double v) {
    return (up_num){v, 0, 0, fabs(v)};
}

/* Stored as f32: the reference does this too. 2^-150 is the rounding among the subnormals. */
static inline up_num up_store(up_num a) {
    up_num r = up_num_rounded(a.v, a.e + 0x1p-150, a.s, 0x1p-24);
    return r;
}

static inline up_num up_add(up_num a, up_num b) {
    return up_num_rounded(a.v + b.v, a.e + b.e, a.s + b.s, up_num_unit);
}

/* One more term of a sum. In what order a sum is taken is nobody's promise, so the worst case is that of all
 * orders: a partial sum may be as large as the terms without their signs. */
static inline up_num up_sum(up_num sum, up_num x) {
    double v = sum.v + x.v, m = sum.m + fabs(x.v), r = up_num_unit * fabs(v);
    return (up_num){v, sum.e + x.e + up_num_unit * m, sum.s + x.s + r * r, m};
}

static inline up_num up_neg(up_num a) {
    return (up_num){-a.v, a.e, a.s, a.m};
}

static inline up_num up_sub(up_num a, up_num b) {
    return up_add(a, up_neg(b));
}

static inline up_num up_mul(up_num a, up_num b) {
    return up_num_rounded(a.v * b.v, fabs(a.v) * b.e + fabs(b.v) * a.e + a.e * b.e,
                          a.v * a.v * b.s + b.v * b.v * a.s, up_num_unit);
}

/* A function of the mathematical library: f(a) with slope f'(a), correct to one unit in the last place. */
static inline up_num up_apply(up_num a, double f, double slope) {
    return up_num_rounded(f, fabs(slope) * a.e, slope * slope * a.s, 2 * up_num_unit);
}

static inline up_num up_inverse(up_num a) {
    return up_apply(a, 1 / a.v, 1 / (a.v * a.v));
}
static inline up_num up_sqrt(up_num a) {
    return up_apply(a, sqrt(a.v), a.v > 0 ? 0.5 / sqrt(a.v) : 0);
}
static inline up_num up_exp(up_num a) {
    return up_apply(a, exp(a.v), exp(a.v));
}
static inline up_num up_log(up_num a) {
    return up_apply(a, log(a.v), 1 / a.v);
}
static inline up_num up_erf(up_num a) {
    return up_apply(a, erf(a.v), 1.1283791670955126 * exp(-a.v * a.v));
}

#endif

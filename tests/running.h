/* running.h - numbers that carry the rounding error which a plain computation at some precision would have
 * made by now (running error analysis: Wilkinson 1986; Higham, Accuracy and Stability of Numerical
 * Algorithms, section 3.3).
 *
 * v is the value, computed in double. e bounds the error in the worst case: every rounding at its maximum,
 * all of one sign. s is the sum of the squares of the same contributions: sqrt(s) is the size that
 * independent roundings reach. */
#ifndef UP_TESTS_RUNNING_H
#define UP_TESTS_RUNNING_H

#include "uniperceiver/tensor.h"

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

/* Half the spacing of a type's numbers at 1, and among its subnormals. */
static inline double up_type_unit(up_dtype dtype) {
    return dtype == UP_F32 ? 0x1p-24 : dtype == UP_F16 ? 0x1p-11 : 0x1p-8;
}
static inline double up_type_tiny(up_dtype dtype) {
    return dtype == UP_F32 ? 0x1p-150 : dtype == UP_F16 ? 0x1p-25 : 0x1p-134;
}

/* Stored in a type: the reference does this too. */
static inline up_num up_store_as(up_num a, up_dtype dtype) {
    double r = fmax(up_type_unit(dtype) * (fabs(a.v) + a.e), up_type_tiny(dtype));
    return (up_num){a.v, a.e + r, a.s + r * r, fabs(a.v)};
}

static inline up_num up_store(up_num a) {
    return up_store_as(a, UP_F32);
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

/* A function of the mathematical library, monotonous and correct to one unit in the last place; `slope` is
 * its derivative at a. An error may be large enough to leave the tangent, so the ends count too. */
static inline up_num up_apply(up_num a, double (*f)(double), double slope) {
    double v = f(a.v), e = fabs(slope) * a.e;
    if (a.e > 0) e = fmax(e, fmax(fabs(f(a.v + a.e) - v), fabs(f(a.v - a.e) - v)));
    return up_num_rounded(v, e, slope * slope * a.s, 2 * up_num_unit);
}

static inline double up_reciprocal(double x) {
    return 1 / x;
}
static inline up_num up_inverse(up_num a) {
    return up_apply(a, up_reciprocal, 1 / (a.v * a.v));
}
static inline up_num up_sqrt(up_num a) {
    return up_apply(a, sqrt, a.v > 0 ? 0.5 / sqrt(a.v) : 0);
}
static inline up_num up_exp(up_num a) {
    return up_apply(a, exp, exp(a.v));
}
static inline up_num up_log(up_num a) {
    return up_apply(a, log, 1 / a.v);
}
static inline up_num up_erf(up_num a) {
    return up_apply(a, erf, 1.1283791670955126 * exp(-a.v * a.v));
}

#endif

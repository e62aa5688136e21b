/* rows.c - what is done row by row between the products: bias, GELU, embeddings, layer norm, residual, l2
 * norm. The formulas stand in include/uniperceiver/backend.h; ref/ops defines them. */
#include "backend_cpu/kernels/vector.h"
#include "uniperceiver/backend.h"

UP_INLINE int32_t at(up_numbers x, int64_t i) {
    return x.p ? x.p[i * x.ld] : 0;
}
UP_INLINE float *row(up_rows x, int64_t i) {
    return x.p ? x.p + i * x.ld : NULL;
}

/* ---- linear's epilogue ---- */
static void bias_gelu_row(int64_t d, const float *x, const float *bias, float *pre, float *y) {
    if (bias && pre) {
#pragma omp simd
        for (int64_t j = 0; j < d; j++) {
            float density, v = x[j] + bias[j];
            pre[j] = v;
            y[j] = v * up_phi(v, &density);
        }
        return;
    }
    for (int64_t j = 0; bias && j < d; j++) y[j] = x[j] + bias[j];
    const float *from = bias ? y : x;
    if (pre && pre != from) memcpy(pre, from, (size_t)d * sizeof *x);
#pragma omp simd
    for (int64_t j = 0; j < d; j++) {
        float density, v = from[j];
        y[j] = v * up_phi(v, &density);
    }
}

static void bias_act(int64_t n, int64_t d, int gelu, up_rows x, const float *bias, up_rows pre, up_rows y) {
    for (int64_t i = 0; i < n; i++) {
        float *to = row(y, i), *keep = row(pre, i);
        const float *from = row(x, i);
        if (gelu) {
            bias_gelu_row(d, from, bias, keep, to);
            continue;
        }
        for (int64_t j = 0; bias && j < d; j++) to[j] = from[j] + bias[j];
        if (!bias && to != from) memcpy(to, from, (size_t)d * sizeof *to);
        if (keep && keep != to) memcpy(keep, to, (size_t)d * sizeof *to);
    }
}

static void gelu(int64_t n, int64_t d, up_rows x, up_rows y) {
    for (int64_t i = 0; i < n; i++) {
        const float *from = row(x, i);
        float *to = row(y, i);
#pragma omp simd
        for (int64_t j = 0; j < d; j++) {
            float density, v = from[j];
            to[j] = v * up_phi(v, &density);
        }
    }
}

/* y = v Phi(v): dv = dy (Phi(v) + v phi(v)) */
static void gelu_bwd(int64_t n, int64_t d, up_rows pre, up_rows dy) {
    for (int64_t i = 0; i < n; i++) {
        const float *v = row(pre, i);
        float *g = row(dy, i);
#pragma omp simd
        for (int64_t j = 0; j < d; j++) {
            float density, phi = up_phi(v[j], &density);
            g[j] *= phi + v[j] * density;
        }
    }
}

/* ---- embeddings ---- */
static void embed(int64_t n, int64_t d, up_numbers ids, up_numbers positions, up_rows token, const float *spe,
                  up_rows position, const float *type, up_rows y) {
    for (int64_t i = 0; i < n; i++) {
        int32_t id = at(ids, i), where = at(positions, i);
        const float *e = id == UP_ID_SPE ? spe : row(token, id);
        float *to = row(y, i);
        if (id == UP_ID_NONE) {
            memset(to, 0, (size_t)d * sizeof *to);
            continue;
        }
        if (where < 0) {
            memcpy(to, e, (size_t)d * sizeof *to);
            continue;
        }
        const float *p = row(position, where);
        for (int64_t j = 0; j < d; j++) to[j] = e[j] + p[j];
        for (int64_t j = 0; type && j < d; j++) to[j] += type[j];
    }
}

enum { AHEAD = 8 }; /* rows: a table is larger than the caches and its rows come in any order */

static void add_row(int64_t d, const float *x, float *to) {
    for (int64_t j = 0; j < d; j++) to[j] += x[j];
}

/* y = E[id] + P[position] + T. What all rows add to is summed by blocks of rows first, so that rounding
 * errors grow with the number of blocks only. */
static void embed_bwd(int64_t n, int64_t d, up_numbers ids, up_numbers positions, up_rows dy,
                      up_cpu_tables out) {
    for (int64_t i0 = 0; i0 < n; i0 += UP_CPU_EMBED_ROWS) {
        float spe[UP_CPU_COLUMNS] = {0}, type[UP_CPU_COLUMNS] = {0};
        for (int64_t i = i0; i < n && i < i0 + UP_CPU_EMBED_ROWS; i++) {
            int32_t id = at(ids, i), where = at(positions, i);
            if (id == UP_ID_NONE) continue;
            if (out.token.p && i + AHEAD < n && at(ids, i + AHEAD) >= 0)
                __builtin_prefetch(row(out.token, at(ids, i + AHEAD)), 1);
            if (id == UP_ID_SPE)
                add_row(d, row(dy, i), spe);
            else if (out.token.p)
                add_row(d, row(dy, i), row(out.token, id));
            if (where < 0) continue;
            if (out.position.p) add_row(d, row(dy, i), row(out.position, where));
            if (out.type.p) add_row(d, row(dy, i), type);
        }
        if (out.spe.p) add_row(d, spe, out.spe.p);
        if (out.type.p) add_row(d, type, out.type.p);
    }
}

static void look_up(int64_t n, int64_t d, const uint8_t *bytes, int64_t ld, up_rows levels, float *y) {
    enum { CHANNELS = 3 };
    int64_t each = d / CHANNELS;
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < CHANNELS; c++) {
            const uint8_t *from = bytes + i * ld + c * each;
            const float *level = row(levels, c);
            float *to = y + i * d + c * each;
            for (int64_t j = 0; j < each; j++) to[j] = level[from[j]];
        }
}

static void place(int64_t n, int64_t d, up_numbers cells, up_numbers frames, up_rows space, up_rows time,
                  const float *type, const float *bias, up_rows y) {
    for (int64_t i = 0; i < n; i++) {
        float *to = row(y, i);
        if (at(cells, i) < 0) {
            memset(to, 0, (size_t)d * sizeof *to);
            continue;
        }
        const float *s = row(space, at(cells, i)), *t = row(time, at(frames, i));
        for (int64_t j = 0; bias && j < d; j++) to[j] += bias[j];
        for (int64_t j = 0; j < d; j++) to[j] += s[j] + (t ? t[j] : 0.0f) + (type ? type[j] : 0.0f);
    }
}

static void scatter_add(int64_t n, int64_t d, up_numbers ids, up_rows x, up_rows out) {
    for (int64_t i = 0; i < n; i++) {
        int32_t id = at(ids, i);
        const float *from = row(x, i);
        float *to = id < 0 ? NULL : row(out, id);
        if (i + AHEAD < n && at(ids, i + AHEAD) >= 0) __builtin_prefetch(row(out, at(ids, i + AHEAD)), 1);
        for (int64_t j = 0; to && j < d; j++) to[j] += from[j];
    }
}

/* By blocks of rows and columns: the partial sums stay in the first cache and the rounding error grows with
 * the number of blocks only. The first block begins with what is there. */
static void column_sums(int64_t n, int64_t d, up_rows x, float *out) {
    enum { ROWS = 64, COLS = 128 };
    for (int64_t j0 = 0; j0 < d; j0 += COLS) {
        int64_t width = d - j0 < COLS ? d - j0 : COLS;
        for (int64_t i0 = 0; i0 < n; i0 += ROWS) {
            float sum[COLS] = {0};
            if (i0 == 0) memcpy(sum, out + j0, (size_t)width * sizeof *sum);
            for (int64_t i = i0; i < n && i < i0 + ROWS; i++) {
                const float *from = row(x, i) + j0;
                for (int64_t j = 0; j < width; j++) sum[j] += from[j];
            }
            for (int64_t j = 0; j < width; j++) out[j0 + j] = i0 ? out[j0 + j] + sum[j] : sum[j];
        }
    }
}

/* ---- layer norm ---- */

/* A sum over a row in several vectors, so that one addition need not wait for the last; the order is the same
 * whatever the row's place. */
enum { LANES = 4 * UP_VW };

UP_INLINE float sum_of_lanes(const float *lanes) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int k = 0; k < UP_VW; k++)
        sum += (lanes[k] + lanes[k + UP_VW]) + (lanes[k + 2 * UP_VW] + lanes[k + 3 * UP_VW]);
    return sum;
}

UP_INLINE float row_sum(int64_t d, const float *x) {
    float lanes[LANES] = {0}, rest = 0;
    int64_t j = 0;
    for (; j + LANES <= d; j += LANES)
        for (int k = 0; k < LANES; k++) lanes[k] += x[j + k];
    for (; j < d; j++) rest += x[j];
    return sum_of_lanes(lanes) + rest;
}

/* sum of (x - mean)^2 */
UP_INLINE float row_spread(int64_t d, const float *x, float mean) {
    float lanes[LANES] = {0}, rest = 0;
    int64_t j = 0;
    for (; j + LANES <= d; j += LANES)
        for (int k = 0; k < LANES; k++) lanes[k] += (x[j + k] - mean) * (x[j + k] - mean);
    for (; j < d; j++) rest += (x[j] - mean) * (x[j] - mean);
    return sum_of_lanes(lanes) + rest;
}

static void layernorm(int64_t n, int64_t d, up_rows x, const float *weight, const float *bias, float eps,
                      up_rows y, up_rows stats) {
    for (int64_t i = 0; i < n; i++) {
        const float *from = row(x, i);
        float *to = row(y, i), mean = row_sum(d, from) / (float)d;
        float rstd = 1.0f / sqrtf(row_spread(d, from, mean) / (float)d + eps);
#pragma omp simd
        for (int64_t j = 0; j < d; j++) to[j] = (from[j] - mean) * rstd * weight[j] + bias[j];
        row(stats, i)[0] = mean;
        row(stats, i)[1] = rstd;
    }
}

/* y = xhat w + b: with g = dy w, dx = rstd (g - mean(g) - xhat mean(g xhat)) + residual; dw += dy xhat; db +=
 * dy */
static void layernorm_bwd(int64_t n, int64_t d, up_rows x, const float *weight, up_rows stats, up_rows dy,
                          up_rows residual, up_rows dx, float *dweight, float *dbias) {
    for (int64_t i = 0; i < n; i++) {
        const float *v = row(x, i), *g = row(dy, i), *past = row(residual, i);
        float mean = row(stats, i)[0], rstd = row(stats, i)[1], sum = 0, dot = 0;
#pragma omp simd reduction(+ : sum, dot)
        for (int64_t j = 0; j < d; j++) {
            float t = g[j] * weight[j];
            sum += t;
            dot += t * ((v[j] - mean) * rstd);
        }
        if (dweight) {
#pragma omp simd
            for (int64_t j = 0; j < d; j++) dweight[j] += g[j] * ((v[j] - mean) * rstd);
        }
        if (dbias) {
#pragma omp simd
            for (int64_t j = 0; j < d; j++) dbias[j] += g[j];
        }
        float *to = row(dx, i), a = sum / (float)d, b = dot / (float)d;
        if (!to) continue;
        if (past) {
#pragma omp simd
            for (int64_t j = 0; j < d; j++)
                to[j] = past[j] + rstd * (g[j] * weight[j] - a - ((v[j] - mean) * rstd) * b);
        } else {
#pragma omp simd
            for (int64_t j = 0; j < d; j++)
                to[j] = rstd * (g[j] * weight[j] - a - ((v[j] - mean) * rstd) * b);
        }
    }
}

/* ---- residual ---- */
static float factor_of(up_rows drop, up_numbers owner, int64_t i) {
    int32_t sequence = at(owner, i);
    if (!drop.p) return 1;
    return sequence < 0 ? 0 : *row(drop, sequence);
}

static void residual(int64_t n, int64_t d, up_rows x, up_rows branch, const float *scale, up_rows drop,
                     up_numbers owner, up_rows y) {
    for (int64_t i = 0; i < n; i++) {
        const float *from = row(x, i), *b = row(branch, i);
        float *to = row(y, i), factor = factor_of(drop, owner, i);
        if (scale) {
#pragma omp simd
            for (int64_t j = 0; j < d; j++) to[j] = from[j] + factor * scale[j] * b[j];
        } else {
#pragma omp simd
            for (int64_t j = 0; j < d; j++) to[j] = from[j] + factor * b[j];
        }
    }
}

static void residual_bwd(int64_t n, int64_t d, up_rows branch, const float *scale, up_rows drop,
                         up_numbers owner, up_rows dy, up_rows dbranch, float *dscale) {
    for (int64_t i = 0; i < n; i++) {
        const float *g = row(dy, i), *b = row(branch, i);
        float *to = row(dbranch, i), factor = factor_of(drop, owner, i);
        if (dscale) { /* before dbranch, which may lie over branch */
#pragma omp simd
            for (int64_t j = 0; j < d; j++) dscale[j] += factor * g[j] * b[j];
        }
        if (!to) continue;
        if (scale) {
#pragma omp simd
            for (int64_t j = 0; j < d; j++) to[j] = factor * scale[j] * g[j];
        } else {
#pragma omp simd
            for (int64_t j = 0; j < d; j++) to[j] = factor * g[j];
        }
    }
}

/* ---- l2 norm ---- */
static void l2norm(int64_t n, int64_t d, up_rows x, up_rows y, up_rows rnorm) {
    for (int64_t i = 0; i < n; i++) {
        const float *from = row(x, i);
        float *to = row(y, i);
        double square = 0; /* the squares of small values must not underflow */
#pragma omp simd reduction(+ : square)
        for (int64_t j = 0; j < d; j++) square += (double)from[j] * from[j];
        double norm = sqrt(square);
        float r = (float)(1.0 / (norm > 1e-12 ? norm : 1e-12));
#pragma omp simd
        for (int64_t j = 0; j < d; j++) to[j] = from[j] * r;
        *row(rnorm, i) = r;
    }
}

/* y = x r: dx = r (dy - y (y . dy)) + past; where the norm is clamped, r is a constant: dx = r dy + past */
static void l2norm_bwd(int64_t n, int64_t d, up_rows y, up_rows rnorm, up_rows dy, up_rows past, up_rows dx) {
    for (int64_t i = 0; i < n; i++) {
        const float *v = row(y, i), *g = row(dy, i), *other = row(past, i);
        float *to = row(dx, i), r = *row(rnorm, i), dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t j = 0; j < d; j++) dot += v[j] * g[j];
        if (r >= 1e12f) dot = 0;
        if (other) {
#pragma omp simd
            for (int64_t j = 0; j < d; j++) to[j] = other[j] + r * (g[j] - v[j] * dot);
        } else {
#pragma omp simd
            for (int64_t j = 0; j < d; j++) to[j] = r * (g[j] - v[j] * dot);
        }
    }
}

void UP_K(fill_rows)(up_cpu_kernels *k) {
    k->bias_act = bias_act;
    k->gelu = gelu;
    k->gelu_bwd = gelu_bwd;
    k->embed = embed;
    k->embed_bwd = embed_bwd;
    k->look_up = look_up;
    k->place = place;
    k->scatter_add = scatter_add;
    k->column_sums = column_sums;
    k->layernorm = layernorm;
    k->layernorm_bwd = layernorm_bwd;
    k->residual = residual;
    k->residual_bwd = residual_bwd;
    k->l2norm = l2norm;
    k->l2norm_bwd = l2norm_bwd;
}

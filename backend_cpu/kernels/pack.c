/* pack.c - operands of the matrix product into the panels that product.c reads, from every element type, and
 * tiles of C whose rows are columns of the result back out of them. */
#include "backend_cpu/kernels/vector.h"
#include "uniperceiver/tensor.h"

/* Words of one line, or of a group of lines, that are worked on at one time. */
enum { PART = 128 };

typedef uint32_t words __attribute__((vector_size(4 * UP_VW), aligned(1), may_alias));

/* ---- transposition of a square of words ---- */
#define EVERY4(f, n)  f(n), f(n + 1), f(n + 2), f(n + 3)
#define EVERY8(f, n)  EVERY4(f, n), EVERY4(f, n + 4)
#define EVERY16(f, n) EVERY8(f, n), EVERY8(f, n + 8)
#define LOW(j)        ((j) / 2 + (j) % 2 * UP_VW)
#define HIGH(j)       (LOW(j) + UP_VW / 2)
#if defined(__AVX512F__)
#define EVERY(f) EVERY16(f, 0)
enum { STEPS = 4 };
#elif defined(__AVX2__)
#define EVERY(f) EVERY8(f, 0)
enum { STEPS = 3 };
#else
#define EVERY(f) EVERY4(f, 0)
enum { STEPS = 2 };
#endif

/* Interleaving vector i with vector i + VW / 2, log2 VW times, transposes the square. */
UP_INLINE void transpose(words x[UP_VW]) {
    UP_UNROLL
    for (int step = 0; step < STEPS; step++) {
        words y[UP_VW];
        UP_UNROLL
        for (int i = 0; i < UP_VW / 2; i++) {
            y[2 * i] = __builtin_shufflevector(x[i], x[i + UP_VW / 2], EVERY(LOW));
            y[2 * i + 1] = __builtin_shufflevector(x[i], x[i + UP_VW / 2], EVERY(HIGH));
        }
        UP_UNROLL
        for (int i = 0; i < UP_VW; i++) x[i] = y[i];
    }
}

/* ---- elements of a line as f32, or bf16 with pairs ---- */
static int64_t size_of(int dtype) {
    return dtype == UP_F32 ? 4 : dtype == UP_U8 ? 1 : 2;
}

static void look_up(const up_cpu_lines *x, const uint8_t *from, int64_t first, int64_t count, float *to) {
    for (int64_t i = 0; i < count;) {
        int64_t channel = (first + i) / x->third, end = (channel + 1) * x->third - first;
        const float *level = x->levels + 256 * channel;
        for (end = end < count ? end : count; i < end; i++) to[i] = level[from[i]];
    }
}

/* Where they lie, or in space: at most 2 PART of them. */
static const void *elements(const up_cpu_lines *x, int64_t line, int64_t first, int64_t count, int pairs,
                            float *space) {
    const void *from = (const char *)x->p + (line * x->ld + first) * size_of(x->dtype);
    float values[2 * PART], *wide = pairs ? values : space;
    if (x->dtype == (pairs ? UP_BF16 : UP_F32)) return from;
    if (x->dtype == UP_U8)
        look_up(x, from, first, count, wide);
    else if (x->dtype != UP_F32)
        UP_K(widen)(count, x->dtype, from, wide);
    if (pairs) UP_K(narrow)(count, UP_BF16, x->dtype == UP_F32 ? from : wide, (uint16_t *)(void *)space);
    return space;
}

static int64_t words_of(const up_cpu_panels *p) {
    return p->pairs ? (p->k + 1) / 2 : p->k;
}

/* ---- places are lines ---- */

/* VW lines from place `at` on, or fewer, `count` words of k from word `w` on, to one panel. */
static void pack_group(const up_cpu_panels *p, int64_t at, int lines, int64_t w, int64_t count, float *to) {
    float space[UP_VW][PART + UP_VW];
    const char *line[UP_VW];
    int64_t each = p->pairs ? 2 : 1, size = p->pairs ? 2 : 4;
    int64_t first = w * each, n = p->k - first < count * each ? p->k - first : count * each;
    int whole = count % UP_VW == 0 && n == count * each;
    for (int i = 0; i < UP_VW; i++) {
        int64_t number = p->first + at + (i < lines ? i : 0);
        line[i] = elements(&p->from, number, p->start + first, n, p->pairs, space[i]);
        for (int64_t next = 0; next < n * size; next += 64) __builtin_prefetch(line[i] + n * size + next);
        if (whole) continue;
        memmove(space[i], line[i], (size_t)(n * size));
        memset((char *)space[i] + n * size, 0, UP_VW * 4);
        line[i] = (const char *)space[i];
    }
    for (int64_t k = 0; k < count; k += UP_VW) {
        words x[UP_VW];
        UP_UNROLL
        for (int i = 0; i < UP_VW; i++) x[i] = *(const words *)(const void *)(line[i] + 4 * k);
        transpose(x);
        for (int64_t i = 0; i < UP_VW && i < count - k; i++, to += p->width) *(words *)(void *)to = x[i];
    }
}

/* A group's vectors may reach beyond their panel's width: what they overwrite is written after them. */
static void pack_lines(const up_cpu_panels *p) {
    int64_t all = words_of(p);
    for (int64_t place = 0; place < p->count; place += p->width) {
        int64_t places = p->count - place < p->width ? p->count - place : p->width;
        for (int64_t w = 0; w < all; w += PART)
            for (int64_t at = 0; at < places; at += UP_VW)
                pack_group(p, place + at, places - at < UP_VW ? (int)(places - at) : UP_VW, w,
                           all - w < PART ? all - w : PART, p->to + place * all + w * p->width + at);
    }
}

/* ---- places are elements ---- */
UP_INLINE void put_words(int64_t n, const float *x, float *to) {
    memcpy(to, x, (size_t)n * sizeof *to);
}

UP_INLINE void put_pairs(int64_t n, const uint16_t *low, const uint16_t *high, float *to) {
    uint32_t word[2 * UP_VW];
#pragma omp simd
    for (int64_t i = 0; i < n; i++) word[i] = low[i] | (uint32_t)high[i] << 16;
    memcpy(to, word, (size_t)n * sizeof *word);
}

UP_INLINE void put(int64_t n, int pairs, const void *low, const void *high, float *to) {
    if (pairs)
        put_pairs(n, low, high, to);
    else
        put_words(n, low, to);
}

/* One word of k of some places, to a panel each `width` of them. Whole vectors are written where what lies
 * behind is written later or belongs to none. */
UP_INLINE void spread(const int width, int pairs, int last, int64_t count, const void *low, const void *high,
                      int64_t step, float *to) {
    const int whole = (width + UP_VW - 1) / UP_VW * UP_VW, size = pairs ? 2 : 4;
    for (; count > 0; count -= width, to += step) {
        if (!last && count >= whole)
            put(whole, pairs, low, high, to);
        else if (count >= width)
            put(width, pairs, low, high, to);
        else
            put(count, pairs, low, high, to);
        low = (const char *)low + width * size;
        high = (const char *)high + width * size;
    }
}

/* Places at..at+count-1, whole panels: line by line, so that memory is read as it lies. */
UP_INLINE void pack_columns(const int width, const up_cpu_panels *p, int64_t at, int64_t count) {
    enum { AHEAD = 6 }; /* lines */
    static const uint16_t zeros[2 * PART];
    float space[2][2 * PART];
    int64_t step = words_of(p) * width, bytes = size_of(p->from.dtype), each = p->pairs ? 2 : 1;
    float *to = p->to + at * words_of(p);
    for (int64_t k = 0; k < p->k; k += each, to += width) {
        const void *low = elements(&p->from, p->start + k, p->first + at, count, p->pairs, space[0]),
                   *high = zeros;
        if (p->pairs && k + 1 < p->k)
            high = elements(&p->from, p->start + k + 1, p->first + at, count, 1, space[1]);
        if (k + AHEAD * each < p->k)
            for (int64_t line = 0; line < each; line++) {
                const char *next = p->from.p;
                next += ((p->start + k + AHEAD * each + line) * p->from.ld + p->first + at) * bytes;
                for (int64_t i = 0; i < count * bytes; i += 64) __builtin_prefetch(next + i);
            }
        spread(width, p->pairs, k + each >= p->k, count, low, high, step, to);
    }
}

static void pack_elements(const up_cpu_panels *p) {
    int64_t each = 2 * PART / p->width * p->width;
    for (int64_t at = 0; at < p->count; at += each) {
        int64_t count = p->count - at < each ? p->count - at : each;
        if (p->width == 2 * UP_VW)
            pack_columns(2 * UP_VW, p, at, count);
        else
            pack_columns(UP_TILE_HEIGHT, p, at, count);
    }
}

/* ---- out of a tile ---- */
static void turn(int64_t n, int64_t d, int dtype, up_rows x, up_cells y) {
    for (int64_t i0 = 0; i0 < n; i0 += UP_VW)
        for (int64_t j0 = 0; j0 < d; j0 += UP_VW) {
            words square[UP_VW];
            int64_t rows = n - i0 < UP_VW ? n - i0 : UP_VW, cols = d - j0 < UP_VW ? d - j0 : UP_VW;
            UP_UNROLL
            for (int j = 0; j < UP_VW; j++)
                square[j] = *(const words *)(const void *)(x.p + (j0 + (j < cols ? j : 0)) * x.ld + i0);
            transpose(square);
            for (int64_t i = 0; i < rows; i++) {
                char *to = (char *)y.p + ((i0 + i) * y.ld + j0) * size_of(dtype);
                float values[UP_VW];
                memcpy(values, &square[i], sizeof values);
                if (dtype != UP_F32)
                    UP_K(narrow)(cols, dtype, values, (uint16_t *)(void *)to);
                else if (cols == UP_VW)
                    memcpy(to, values, sizeof values);
                else
                    memcpy(to, values, (size_t)cols * sizeof *values);
            }
        }
}

void UP_K(fill_pack)(up_cpu_kernels *k) {
    k->pack_lines = pack_lines;
    k->pack_elements = pack_elements;
    k->turn = turn;
}

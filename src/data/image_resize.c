/* image_resize.c - bicubic (a = -0.5) antialiased resize of 8-bit RGB in two passes, across then down, each
 * with weights of 22 fractional bits and a result rounded to 8 bits: the arithmetic of Pillow's Image.resize,
 * bit for bit. Also the short-side rule, crops and squares of torchvision. */
#include "data/image_passes.h"
#include "ref/given.h"
#include "data/pixels.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static double cubic(double x) {
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

static void taps_free(up_resize_taps *k) {
    free(k->first);
    free(k->count);
    free(k->weights);
}

/* Weights of one output pixel whose middle lies at `centre` of the input; `scale` = input pixels an output
 * pixel. */
static void fill_taps(up_resize_taps *k, int i, int in_size, double centre, double scale, double *taps) {
    double wider = scale < 1 ? 1 : scale, support = 2 * wider, sum = 0;
    int first = (int)fmax(centre - support + 0.5, 0), end = (int)fmin(centre + support + 0.5, in_size);
    int count = end - first;
    for (int t = 0; t < count; t++) sum += taps[t] = cubic((t + first - centre + 0.5) * (1 / wider));
    for (int t = 0; t < count; t++) {
        double weight = (sum != 0 ? taps[t] / sum : taps[t]) * (1 << UP_RESIZE_FRACTION);
        k->weights[(size_t)i * (size_t)k->taps + (size_t)t] =
            (int32_t)(weight < 0 ? weight - 0.5 : weight + 0.5);
    }
    k->first[i] = first;
    k->count[i] = count;
}

/* The taps of the output pixels start .. start + n - 1 when the input's from..to becomes out_size pixels.
 * Single precision ends of the box are part of Pillow's arithmetic. */
static up_status taps_make(up_resize_taps *k, int in_size, float from, float to, int out_size, int start,
                           int n) {
    double scale = (double)(to - from) / out_size, most = ceil(2 * (scale < 1 ? 1 : scale)) * 2 + 1;
    k->n = n;
    k->taps = up_resize_groups((int)fmin(most, in_size)) * UP_RESIZE_GROUP;
    k->first = malloc((size_t)n * sizeof *k->first);
    k->count = malloc((size_t)n * sizeof *k->count);
    k->weights = calloc((size_t)n * (size_t)k->taps, sizeof *k->weights);
    double *taps = malloc((size_t)k->taps * sizeof *taps);
    up_status status = UP_OK;
    if (k->first && k->count && k->weights && taps)
        for (int i = 0; i < n; i++) fill_taps(k, i, in_size, from + (start + i + 0.5) * scale, scale, taps);
    else
        status = up_fail(UP_ERR_MEMORY, "resize", "no memory for %d x %d weights", n, k->taps);
    free(taps);
    return status;
}

static void taps_pack(const up_image_passes *passes, up_resize_taps *k) {
    int32_t *end = k->weights + (size_t)k->n * (size_t)k->taps;
    if (passes->pack)
        for (int32_t *group = k->weights; group < end; group += UP_RESIZE_GROUP) passes->pack(group);
}

/* Rows on their way across. */
typedef struct middle {
    const up_image *in;
    const up_resize_taps *taps;
    int next;       /* row of the input that goes across next */
    int top, end;   /* rows that are wanted */
    size_t stride;  /* of `rows`, whole vectors of 64 bytes */
    uint8_t *rows;  /* [end - top + UP_RESIZE_ROWS, stride] */
    uint8_t *tails; /* [UP_RESIZE_ROWS, in->width * 3 + UP_RESIZE_MARGIN] */
} middle;

static up_status middle_make(middle *m, const up_image *in, const up_resize_taps *h,
                             const up_resize_taps *v) {
    enum { VECTOR = 64 };
    int last = v->n - 1;
    size_t tail = (size_t)in->width * 3 + UP_RESIZE_MARGIN;
    *m = (middle){.in = in, .taps = h, .next = v->first[0], .top = v->first[0]};
    m->end = v->first[last] + v->count[last];
    m->stride = ((size_t)h->n * 3 + UP_RESIZE_MARGIN + VECTOR - 1) / VECTOR * VECTOR;
    m->rows = malloc((size_t)(m->end - m->top + UP_RESIZE_ROWS) * m->stride);
    m->tails = malloc(UP_RESIZE_ROWS * tail);
    if (m->rows && m->tails) return UP_OK;
    return up_fail(UP_ERR_MEMORY, "resize", "no memory for %d rows of %zu bytes", m->end - m->top, m->stride);
}

/* Row y of the input with a readable margin: in place where enough of the picture follows. */
static const uint8_t *row_with_margin(const middle *m, int y, int slot) {
    size_t length = (size_t)m->in->width * 3, following = (size_t)(m->in->height - 1 - y) * length;
    const uint8_t *row = m->in->data + (size_t)y * length;
    if (following >= UP_RESIZE_MARGIN) return row;
    uint8_t *copy = m->tails + (size_t)slot * (length + UP_RESIZE_MARGIN);
    memcpy(copy, row, length);
    memset(copy + length, 0, UP_RESIZE_MARGIN);
    return copy;
}

/* Bring the rows before `end` across, and up to three more. */
static void bring_across(const up_image_passes *passes, middle *m, int end) {
    while (m->next < end) {
        const uint8_t *in[UP_RESIZE_ROWS];
        uint8_t *out[UP_RESIZE_ROWS];
        for (int i = 0; i < UP_RESIZE_ROWS; i++) {
            int y = m->next + i;
            in[i] = row_with_margin(m, y < m->end ? y : m->end - 1, i);
            out[i] = m->rows + (size_t)(y - m->top) * m->stride;
        }
        passes->across(m->taps, in, out);
        m->next += UP_RESIZE_ROWS;
    }
}

/* Both passes; only the rows that the second pass reads go through the first, shortly before they are read.
 */
static up_status two_passes(const up_image_passes *passes, const up_image *in, up_resize_taps *h,
                            up_resize_taps *v, up_image *out) {
    middle m;
    size_t n = (size_t)h->n * 3;
    up_status status = UP_OK;
    UP_GO(middle_make(&m, in, h, v));
    taps_pack(passes, h);
    taps_pack(passes, v);
    for (int y = 0; y < v->n; y++) {
        bring_across(passes, &m, v->first[y] + v->count[y]);
        passes->down(v, y, m.rows + (size_t)(v->first[y] - m.top) * m.stride, m.stride, n,
                     out->data + (size_t)y * n);
    }
done:
    free(m.rows);
    free(m.tails);
    return status;
}

up_status up_image_resize_window(const up_image_passes *passes, const up_image *in, const double box[4],
                                 int full_width, int full_height, int x, int y, int width, int height,
                                 up_image *out) {
    up_resize_taps h = {0}, v = {0};
    up_image made = {0};
    *out = made;
    if (!(box[0] >= 0 && box[1] >= 0 && box[2] <= in->width && box[3] <= in->height &&
          (float)box[0] < (float)box[2] && (float)box[1] < (float)box[3]))
        return up_fail(UP_ERR_ARGUMENT, "resize", "box %g %g %g %g is no part of a picture of %d x %d",
                       box[0], box[1], box[2], box[3], in->width, in->height);
    up_status status = up_image_alloc(width, height, 3, "resize", NULL, &made);
    if (status != UP_OK) return status;
    UP_GO(taps_make(&h, in->width, (float)box[0], (float)box[2], full_width, x, width));
    UP_GO(taps_make(&v, in->height, (float)box[1], (float)box[3], full_height, y, height));
    UP_GO(two_passes(passes, in, &h, &v, &made));
    *out = made;
    made.data = NULL;
done:
    taps_free(&h);
    taps_free(&v);
    up_image_free(&made);
    return status;
}

up_status up_image_resize(const up_image *in, double x0, double y0, double x1, double y1, int width,
                          int height, up_image *out) {
    UP_GIVEN(in, out);
    UP_GIVEN(in->data);
    if (width < 1 || height < 1)
        return up_fail(UP_ERR_ARGUMENT, "resize", "to %d x %d: both must be 1 or more", width, height);
    return up_image_resize_window(up_image_passes_here(), in, (double[]){x0, y0, x1, y1}, width, height, 0, 0,
                                  width, height, out);
}

/* The size that `side` for the short side gives. */
static up_status short_side_size(up_whole in, int side, up_whole *out) {
    int low = in.width < in.height ? in.width : in.height, high = in.width < in.height ? in.height : in.width;
    if (low < 1 || side < 1)
        return up_fail(UP_ERR_ARGUMENT, "resize", "short side %d to %d: both must be 1 or more", low, side);
    int64_t other = (int64_t)side * high / low;
    if (other > INT_MAX)
        return up_fail(UP_ERR_FORMAT, "resize", "a picture of %d x %d is too long for a short side of %d",
                       in.width, in.height, side);
    out->width = in.width < in.height ? side : (int)other;
    out->height = in.width < in.height ? (int)other : side;
    return UP_OK;
}

up_status up_image_resize_short(const up_image *in, int short_side, up_image *out) {
    UP_GIVEN(in, out);
    UP_GIVEN(in->data);
    up_whole full = {0};
    *out = (up_image){0};
    UP_TRY(short_side_size(up_image_whole(in), short_side, &full));
    return up_image_resize(in, 0, 0, in->width, in->height, full.width, full.height, out);
}

up_status up_image_crop(const up_image *in, int x, int y, int width, int height, up_image *out) {
    UP_GIVEN(in, out);
    UP_GIVEN(in->data);
    *out = (up_image){0};
    if (x < 0 || y < 0 || width < 1 || height < 1 || width > in->width - x || height > in->height - y)
        return up_fail(UP_ERR_ARGUMENT, "crop", "%d x %d at (%d, %d) is no part of a picture of %d x %d",
                       width, height, x, y, in->width, in->height);
    UP_TRY(up_image_alloc(width, height, 3, "crop", &up_image_unlimited, out));
    for (size_t row = 0; row < (size_t)height; row++)
        memcpy(out->data + row * (size_t)width * 3,
               in->data + ((row + (size_t)y) * (size_t)in->width + (size_t)x) * 3, (size_t)width * 3);
    return UP_OK;
}

/* Where the cut begins in `room` free pixels; rint rounds halves to even, as Python's round does. */
static int offset(int room, double fraction) {
    double at = fraction == 0.5 ? rint(room / 2.0) : floor(fraction * ((double)room + 1));
    return (int)fmin(at, room);
}

up_status up_image_square_of(const up_image *in, up_whole whole, int resize, int size, double fx, double fy,
                             up_image *out) {
    up_whole full = {0};
    *out = (up_image){0};
    if (size < 1 || resize < size || !(fx >= 0 && fx <= 1 && fy >= 0 && fy <= 1))
        return up_fail(UP_ERR_ARGUMENT, "square",
                       "size %d of short side %d at fractions %g, %g: size <= short side and 0..1 "
                       "are wanted",
                       size, resize, fx, fy);
    UP_TRY(short_side_size(whole, resize, &full));
    const double times = whole.times, box[4] = {whole.left, whole.top, whole.left + whole.width / times,
                                                whole.top + whole.height / times};
    return up_image_resize_window(up_image_passes_here(), in, box, full.width, full.height,
                                  offset(full.width - size, fx), offset(full.height - size, fy), size, size,
                                  out);
}

up_status up_image_square(const up_image *in, int resize, int size, double fx, double fy, up_image *out) {
    UP_GIVEN(in, out);
    UP_GIVEN(in->data);
    return up_image_square_of(in, up_image_whole(in), resize, size, fx, fy, out);
}

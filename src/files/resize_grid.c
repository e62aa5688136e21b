/* resize_grid.c - a table of patches' positions, resized bilinearly. */
#include "files/resize_grid.h"

#include <math.h>

void up_resize_grid(const float *in, int from, float *out, int to, int64_t width) {
    for (int cell = 0; cell < to * to; cell++) {
        double at[2] = {cell / to, cell % to}, share[2];
        int64_t low[2], high[2];
        for (int k = 0; k < 2; k++) {
            double place = fmax(0, (at[k] + 0.5) * from / to - 0.5);
            low[k] = (int64_t)place;
            high[k] = low[k] + 1 < from ? low[k] + 1 : from - 1;
            share[k] = place - (double)low[k];
        }
        const float *a = in + (low[0] * from + low[1]) * width, *b = in + (low[0] * from + high[1]) * width;
        const float *c = in + (high[0] * from + low[1]) * width, *d = in + (high[0] * from + high[1]) * width;
        for (int64_t i = 0; i < width; i++) {
            double upper = (1 - share[1]) * a[i] + share[1] * b[i];
            double lower = (1 - share[1]) * c[i] + share[1] * d[i];
            out[cell * width + i] = (float)((1 - share[0]) * upper + share[0] * lower);
        }
    }
}

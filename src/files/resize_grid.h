/* resize_grid.h - a table of patches' positions for pictures of another size: of a released model that is
 * imported, and of a run that begins with a model for other pictures. */
#ifndef UP_FILES_RESIZE_GRID_H
#define UP_FILES_RESIZE_GRID_H

#include <stdint.h>

/* Bilinear between the centres of cells, edges repeated: [from, from, width] -> [to, to, width], row by row.
 * The two do not overlap. */
void up_resize_grid(const float *in, int from, float *out, int to, int64_t width);

#endif

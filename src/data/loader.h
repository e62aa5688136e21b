/* loader.h - prefetching by worker threads in an order that depends on nothing but the iteration number. */
#ifndef UP_DATA_LOADER_H
#define UP_DATA_LOADER_H

#include "uniperceiver/status.h"
#include <stdint.h>

/* Fill `slot` with the work of one iteration. Called from several threads at once, each with its own slot;
 * must be a pure function of (context, iteration). */
typedef up_status (*up_loader_build)(void *context, int64_t iteration, void *slot);

typedef struct up_loader up_loader;

/* Slots that `threads` workers need: one in the hands of each and one in the consumer's, and a few ahead. */
enum { UP_LOADER_AHEAD = 4 };
static inline int up_loader_slots(int threads) {
    return threads + 1 + UP_LOADER_AHEAD;
}

/* Workers build iterations first, first + 1, ... ahead into `count` slots that the caller owns (slots[i] are
 * handed to build). threads >= 1; count > threads lets them run ahead. */
up_status up_loader_create(up_loader_build build, void *context, void *const *slots, int count, int threads,
                           int64_t first, up_loader **out);

/* Wait for the next iteration's slot; the slot handed out before it goes back to the workers. A failure of
 * the worker is returned here with its message. *waited (may be NULL) adds the seconds spent waiting. */
up_status up_loader_next(up_loader *loader, void **slot, double *waited);

/* Stop the workers and free; NULL is fine. The slots remain the caller's. */
void up_loader_free(up_loader *loader);

#endif

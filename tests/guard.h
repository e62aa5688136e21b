/* guard.h - a test backend: the reference with buffers that nobody can read outside its operations. It checks
 * that regions nest (begin / end), and has modes for what a driver promises. */
#ifndef UP_TESTS_GUARD_H
#define UP_TESTS_GUARD_H

#include "uniperceiver/backend.h"

/* Freed by up_backend_free; buffers that are still held then are freed with it. */
up_status up_backend_guard(up_backend **out);

/* From now on, whatever waits or allocates fails: download, sync, alloc, fetch_create, and fetch_end of a
 * fetch that was begun since. Called with `on` again before each step, it lets a step end the fetches of the
 * step before. */
void up_guard_forbid_waits(up_backend *b, int on);

/* Sets static_shapes in its table: the driver then passes rows up to the batch's capacity. */
void up_guard_static(up_backend *b, int on);

#endif

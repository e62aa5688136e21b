/* guard.h - a test backend: the reference with buffers that nobody can read outside its operations. */
#ifndef UP_TESTS_GUARD_H
#define UP_TESTS_GUARD_H

#include "uniperceiver/backend.h"

/* Freed by up_backend_free; buffers that are still held then are freed with it. */
up_status up_backend_guard(up_backend **out);

#endif

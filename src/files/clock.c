/* clock.c - seconds that never go back, whatever happens to the time of day. */
#include "files/clock.h"

#include <time.h>

double up_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

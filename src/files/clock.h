/* clock.h - the one clock of measurements. */
#ifndef UP_FILES_CLOCK_H
#define UP_FILES_CLOCK_H

/* Seconds of a monotonic clock. */
double up_now(void);

#endif

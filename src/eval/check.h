/* check.h - every sample of a configuration read once: what training would pass over and an evaluation would
 * stop at, found beforehand. */
#ifndef UP_EVAL_CHECK_H
#define UP_EVAL_CHECK_H

#include "uniperceiver/status.h"

#include <signal.h>
#include <stddef.h>

typedef struct up_check_options {
    int threads;                 /* 0: one for each core; each has a decoder process */
    int quiet;                   /* 1: no progress on stderr */
    int json;                    /* 1: the report is one object of JSON */
    const char *out;             /* file of all broken samples as JSON lines; NULL: none */
    volatile sig_atomic_t *stop; /* set: what was found so far is reported. May be NULL */
} up_check_options;

/* Report on stdout, by dataset and then by sample whatever the threads. *broken: samples that cannot be read,
 * and datasets that cannot be opened. UP_ERR_INTERRUPTED, behind the report, where it was stopped. */
up_status up_check(const char *config_path, const char *const *overrides, size_t count,
                   const up_check_options *options, size_t *broken);

#endif

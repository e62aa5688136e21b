/* status.c - the message behind an up_status: one fixed buffer for each thread, so that reporting an error
 * never allocates. Part of ref/ because the definition must stand alone. */
#include "uniperceiver/status.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local char last_error[1024];

up_status up_fail(up_status code, const char *what, const char *why_format, ...) {
    char why[768];
    va_list args;
    va_start(args, why_format);
    vsnprintf(why, sizeof why, why_format, args);
    va_end(args);
    snprintf(last_error, sizeof last_error, "%s: %s", what, why);
    for (char *c = last_error; *c; c++) /* one failure is one line, whatever a file name holds */
        if (*c == '\n' || *c == '\r') *c = ' ';
    return code;
}

const char *up_last_error(void) {
    return last_error;
}

const char *up_status_name(up_status code) {
    switch (code) {
    case UP_OK:
        return "ok";
    case UP_ERR_ARGUMENT:
        return "invalid argument";
    case UP_ERR_IO:
        return "input/output error";
    case UP_ERR_FORMAT:
        return "malformed data";
    case UP_ERR_MEMORY:
        return "out of memory";
    case UP_ERR_UNSUPPORTED:
        return "not supported";
    case UP_ERR_NUMERIC:
        return "non-finite value";
    case UP_ERR_INTERRUPTED:
        return "interrupted";
    case UP_ERR_BACKEND:
        return "backend error";
    }
    return "unknown status";
}

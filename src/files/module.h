/* module.h - parts of the library that are loaded when they are first used, so that a program starts and
 * runs without the libraries behind them. */
#ifndef UP_FILES_MODULE_H
#define UP_FILES_MODULE_H

#include "uniperceiver/status.h"

typedef struct up_module {
    const char *what;     /* for messages, e.g. "MPI" */
    const char *file;     /* name of the shared object */
    const char *named_by; /* the environment variable that names another file */
    const char *entry;    /* its one function */
    const char *option;   /* the build option without which there is none */
    int global;           /* 1: its libraries' symbols are for their own plug-ins to find */
} up_module;

/* The module's entry; it stays loaded. Looked for beside this program or library, as they lie after a build
 * or an installation. UP_ERR_UNSUPPORTED says why there is none. */
up_status up_module_load(const up_module *module, void **entry);

/* Path of a program that is looked for in the same places, malloc'ed; NULL: it is not there. */
char *up_module_find(const char *file, const char *named_by);

#endif

/* comm_module.h - what the library and a communicator that is loaded at run time say to each other. The
 * module uses nothing of the library but what it is given here, so that a program runs where there is no MPI,
 * and a module can be built for each MPI. */
#ifndef UP_TRAIN_COMM_MODULE_H
#define UP_TRAIN_COMM_MODULE_H

#include "uniperceiver/comm.h"

typedef struct up_comm_request {
    uint32_t version, size; /* UP_COMM_VERSION, sizeof(up_comm_request) */
    double deadline;
    int launched; /* ranks that the launcher's environment speaks of; 0: it says nothing */
    up_status (*fail)(up_status code, const char *what, const char *why_format, ...) UP_PRINTF(3, 4);
} up_comm_request;

typedef up_status (*up_comm_entry)(const up_comm_request *request, up_comm **out);

/* The one function of uniperceiver_mpi.so (comm_mpi.c). */
#define UP_COMM_ENTRY "up_comm_mpi_open"
UP_API up_status up_comm_mpi_open(const up_comm_request *request, up_comm **out);

#endif

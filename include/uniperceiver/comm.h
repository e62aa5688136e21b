/* comm.h - the communicator table: what data-parallel training needs from MPI or NCCL. A communicator of one
 * rank is built in ("none"); others fill the same table. */
#ifndef UNIPERCEIVER_COMM_H
#define UNIPERCEIVER_COMM_H

#include "uniperceiver/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { UP_COMM_VERSION = 1 };

typedef struct up_comm up_comm;

/* Every rank makes the same calls in the same order. Views belong to `backend`; a communicator that cannot
 * read its buffers stages them through download and upload. Calls may return before the exchange is over;
 * `wait` ends all of them. */
typedef struct up_comm_ops {
    uint32_t version, size; /* UP_COMM_VERSION, sizeof(up_comm_ops) */
    const char *name;
    void (*destroy)(up_comm *c);
    up_status (*allreduce)(up_comm *c, up_backend *backend, up_view sum_inout); /* f32, sum over ranks */
    up_status (*allgather)(up_comm *c, up_backend *backend, up_view mine,
                           up_view all); /* all: [ranks * rows, cols] */
    up_status (*reduce_scatter)(up_comm *c, up_backend *backend, up_view all,
                                up_view mine); /* sum, then my rows */
    up_status (*barrier)(up_comm *c);
    up_status (*wait)(up_comm *c);
} up_comm_ops;

struct up_comm {
    const up_comm_ops *ops;
    int rank, ranks;
    void *state;
};

/* One rank: allreduce leaves the value, gather and scatter copy. Never fails but for memory. */
UP_API up_status up_comm_none(up_comm **out);
UP_API void up_comm_free(up_comm *comm);

#ifdef __cplusplus
}
#endif
#endif

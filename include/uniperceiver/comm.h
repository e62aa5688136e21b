/* comm.h - the communicator table: what data-parallel training needs from MPI or NCCL. A communicator of one
 * rank is built in ("none"); others fill the same table.
 *
 * Every rank makes the same calls in the same order, with the same shapes. A failure ends the run: what other
 * ranks wait for does not come any more, so that the one that failed calls `abandon`.
 */
#ifndef UNIPERCEIVER_COMM_H
#define UNIPERCEIVER_COMM_H

#include "uniperceiver/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { UP_COMM_VERSION = 2 };

typedef struct up_comm up_comm;

/* Values on the device are f32 views of `backend`; a communicator that cannot read its buffers stages them
 * through download and upload. Such calls may return before the exchange is over: what they are given must
 * stay, and what they give is there after `wait`, which ends all of them and returns the first error. Sums
 * have a fixed order at a number of ranks and are the same bits on every rank. */
typedef struct up_comm_ops {
    uint32_t version, size; /* UP_COMM_VERSION, sizeof(up_comm_ops) */
    const char *name;
    void (*destroy)(up_comm *c);
    up_status (*allreduce)(up_comm *c, up_backend *backend, up_view sum_inout); /* sum over ranks */
    /* `mine` [rows[rank], cols] of each rank, one after the other, into `all` [sum of rows, cols]. Ranks may
     * have no row. `mine` may be its own place in `all`, here and below. */
    up_status (*allgather)(up_comm *c, up_backend *backend, up_view mine, up_view all, const int64_t *rows);
    /* The sum over ranks of `all`, of which each keeps its rows; the others are not defined afterwards. */
    up_status (*reduce_scatter)(up_comm *c, up_backend *backend, up_view all, up_view mine,
                                const int64_t *rows);
    up_status (*broadcast)(up_comm *c, up_backend *backend, up_view inout, int root);
    up_status (*wait)(up_comm *c);
    /* Few bytes on the host: those of each rank, one after the other. Over on return, as all before it. */
    up_status (*share)(up_comm *c, const void *mine, void *all, size_t bytes);
    /* Tell why, and end the processes of all ranks, this one too. Alone: does nothing. */
    void (*abandon)(up_comm *c, const char *why);
} up_comm_ops;

struct up_comm {
    const up_comm_ops *ops;
    int rank, ranks;
    int neighbours; /* ranks that have the same processors as this one, itself counted */
    uint64_t bytes; /* of device values that this rank has sent so far, as a ring sends them */
    void *state;
};

/* One rank: allreduce leaves the value, gather and scatter copy. Never fails but for memory. */
UP_API up_status up_comm_none(up_comm **out);
/* `kind`: "none"; "mpi", whose module is loaded here; "auto": mpi where mpirun or srun has started this
 * process as one of several. `deadline`: seconds after which a rank that does not answer, or does not come to
 * an exchange, ends the job. */
UP_API up_status up_comm_open(const char *kind, double deadline, up_comm **out);
UP_API void up_comm_free(up_comm *comm); /* NULL is fine */

/* Sums and maxima over the ranks of a few values on the host, the same on every rank. */
UP_API up_status up_comm_sum(up_comm *comm, double *values, int count);
UP_API up_status up_comm_max(up_comm *comm, int64_t *values, int count);
/* The bytes of one rank to everyone. */
UP_API up_status up_comm_tell(up_comm *comm, void *bytes, size_t count, int root);

#ifdef __cplusplus
}
#endif
#endif

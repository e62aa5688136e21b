/* comm_none.c - the communicator of a single rank. */
#include "uniperceiver/comm.h"

#include <stdlib.h>

static void destroy(up_comm *c) {
    free(c);
}

static up_status allreduce(up_comm *c, up_backend *backend, up_view sum_inout) {
    (void)c;
    (void)backend;
    (void)sum_inout; /* the sum over one rank */
    return UP_OK;
}

static up_status gather_or_scatter(up_comm *c, up_backend *backend, up_view from, up_view to) {
    (void)c;
    return backend->ops->copy(backend, to, from);
}

static up_status nothing(up_comm *c) {
    (void)c;
    return UP_OK;
}

static const up_comm_ops ops = {
    .version = UP_COMM_VERSION,
    .size = sizeof(up_comm_ops),
    .name = "none",
    .destroy = destroy,
    .allreduce = allreduce,
    .allgather = gather_or_scatter,
    .reduce_scatter = gather_or_scatter,
    .barrier = nothing,
    .wait = nothing,
};

up_status up_comm_none(up_comm **out) {
    *out = calloc(1, sizeof **out);
    if (!*out) return up_fail(UP_ERR_MEMORY, "communicator", "%zu bytes wanted", sizeof **out);
    **out = (up_comm){.ops = &ops, .rank = 0, .ranks = 1};
    return UP_OK;
}

void up_comm_free(up_comm *c) {
    if (c) c->ops->destroy(c);
}

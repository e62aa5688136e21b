/* comm_none.c - the communicator of a single rank. */
#include "uniperceiver/comm.h"
#include "ref/given.h"

#include <stdlib.h>
#include <string.h>

static void destroy(up_comm *c) {
    free(c);
}

static up_status allreduce(up_comm *c, up_backend *backend, up_view sum_inout) {
    (void)c;
    (void)backend;
    (void)sum_inout; /* the sum over one rank */
    return UP_OK;
}

static up_status gather_or_scatter(up_comm *c, up_backend *backend, up_view from, up_view to,
                                   const int64_t *rows) {
    (void)c;
    (void)rows;
    if (from.buffer == to.buffer && from.offset == to.offset) return UP_OK;
    return backend->ops->copy(backend, to, from);
}

static up_status broadcast(up_comm *c, up_backend *backend, up_view inout, int root) {
    (void)root;
    return allreduce(c, backend, inout);
}

static up_status nothing(up_comm *c) {
    (void)c;
    return UP_OK;
}

static up_status share(up_comm *c, const void *mine, void *all, size_t bytes) {
    (void)c;
    if (bytes) memmove(all, mine, bytes); /* nothing to share may be NULL */
    return UP_OK;
}

static void abandon(up_comm *c, const char *why) {
    (void)c;
    (void)why; /* the caller returns its error */
}

static const up_comm_ops ops = {
    .version = UP_COMM_VERSION,
    .size = sizeof(up_comm_ops),
    .name = "none",
    .destroy = destroy,
    .allreduce = allreduce,
    .allgather = gather_or_scatter,
    .reduce_scatter = gather_or_scatter,
    .broadcast = broadcast,
    .wait = nothing,
    .share = share,
    .abandon = abandon,
};

up_status up_comm_none(up_comm **out) {
    UP_GIVEN(out);
    *out = calloc(1, sizeof **out);
    if (!*out) return up_fail(UP_ERR_MEMORY, "communicator", "%zu bytes wanted", sizeof **out);
    **out = (up_comm){.ops = &ops, .rank = 0, .ranks = 1, .neighbours = 1};
    return UP_OK;
}

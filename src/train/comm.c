/* comm.c - which communicator a run has: its own, or that of the launcher that started it, whose module is
 * loaded; and sums of host values over any of them. */
#include "train/comm_module.h"
#include "files/module.h"
#include "ref/given.h"

#include <stdlib.h>
#include <string.h>

/* ---- who started this process ---- */

static int number_of(const char *name) {
    const char *text = getenv(name);
    return text ? atoi(text) : 0;
}

/* Ranks that the environment speaks of; 0: nobody has started several. A batch script under Slurm has
 * SLURM_NTASKS, too: only what srun starts is a step. */
static int launched_ranks(void) {
    int open_mpi = number_of("OMPI_COMM_WORLD_SIZE"), pmi = number_of("PMI_SIZE");
    if (open_mpi) return open_mpi;
    if (pmi) return pmi;
    return getenv("SLURM_STEP_ID") && getenv("SLURM_PROCID") ? number_of("SLURM_NTASKS") : 0;
}

/* ---- the module ---- */

static up_status open_mpi(double deadline, up_comm **out) {
    up_comm_request request = {.version = UP_COMM_VERSION,
                               .size = sizeof request,
                               .deadline = deadline,
                               .launched = launched_ranks(),
                               .fail = up_fail};
    /* Open MPI's own plug-ins look for its symbols among the global ones. */
    static const up_module module = {.what = "MPI",
                                     .file = "uniperceiver_mpi.so",
                                     .named_by = "UP_MPI_MODULE",
                                     .entry = UP_COMM_ENTRY,
                                     .option = "UP_MPI",
                                     .global = 1};
    up_comm_entry entry;
    void *symbol;
    UP_TRY(up_module_load(&module, &symbol));
    memcpy(&entry, &symbol, sizeof entry);
    return entry(&request, out);
}

up_status up_comm_open(const char *kind, double deadline, up_comm **out) {
    UP_GIVEN(kind, out);
    *out = NULL;
    if (!strcmp(kind, "none") || (!strcmp(kind, "auto") && launched_ranks() < 2)) return up_comm_none(out);
    if (strcmp(kind, "auto") && strcmp(kind, "mpi"))
        return up_fail(UP_ERR_ARGUMENT, "communicator", "\"%s\"; wanted none, auto or mpi", kind);
    return open_mpi(deadline, out);
}

void up_comm_free(up_comm *c) {
    if (c) c->ops->destroy(c);
}

/* ---- host values ---- */

static up_status share_all(up_comm *c, const void *mine, size_t bytes, void **all) {
    *all = malloc((size_t)c->ranks * bytes + 1);
    if (!*all) return up_fail(UP_ERR_MEMORY, "communicator", "%d times %zu bytes wanted", c->ranks, bytes);
    return c->ops->share(c, mine, *all, bytes);
}

up_status up_comm_sum(up_comm *c, double *values, int count) {
    void *shared;
    UP_GIVEN(c);
    UP_TRY(up_given_list(values, count, "values"));
    up_status status = share_all(c, values, (size_t)count * sizeof *values, &shared);
    const double *all = shared;
    for (int i = 0; i < count && status == UP_OK; i++) {
        values[i] = 0;
        for (int r = 0; r < c->ranks; r++) values[i] += all[(size_t)r * (size_t)count + (size_t)i];
    }
    free(shared);
    return status;
}

up_status up_comm_max(up_comm *c, int64_t *values, int count) {
    void *shared;
    UP_GIVEN(c);
    UP_TRY(up_given_list(values, count, "values"));
    up_status status = share_all(c, values, (size_t)count * sizeof *values, &shared);
    const int64_t *all = shared;
    for (size_t i = 0; status == UP_OK && i < (size_t)c->ranks * (size_t)count; i++)
        if (all[i] > values[i % (size_t)count]) values[i % (size_t)count] = all[i];
    free(shared);
    return status;
}

up_status up_comm_tell(up_comm *c, void *bytes, size_t count, int root) {
    void *all;
    UP_GIVEN(c, bytes);
    if (root < 0 || root >= c->ranks)
        return up_fail(UP_ERR_ARGUMENT, "communicator", "no rank %d of %d", root, c->ranks);
    up_status status = share_all(c, bytes, count, &all);
    if (status == UP_OK) memcpy(bytes, (const char *)all + (size_t)root * count, count);
    free(all);
    return status;
}

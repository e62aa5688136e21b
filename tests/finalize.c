/* finalize.c - preloaded by test_ranks.c: a rank that is stopped or dies in MPI_Finalize. UP_AT_THE_END is
 * "RANK SIGNAL". */
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

int MPI_Finalize(void);

static int rank_here(void) {
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    if (!rank) rank = getenv("PMI_RANK");
    return rank ? atoi(rank) : -1;
}

__attribute__((visibility("default"))) int MPI_Finalize(void) {
    const char *wish = getenv("UP_AT_THE_END");
    int rank, signal;
    if (wish && sscanf(wish, "%d %d", &rank, &signal) == 2 && rank == rank_here()) raise(signal);
    int (*finalize)(void);
    *(void **)&finalize = dlsym(RTLD_DEFAULT, "PMPI_Finalize");
    return finalize ? finalize() : 1;
}

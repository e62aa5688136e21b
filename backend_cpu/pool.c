/* pool.c - the one loop over threads, and how sums over rows are cut. */
#include "backend_cpu/cpu.h"

#include <sched.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

/* 0: as many as OpenMP would take, but no more than the cores that this process may use. */
int up_cpu_threads(int wanted) {
#ifdef _OPENMP
    enum { MOST = 1024 };
    cpu_set_t set;
    int cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : omp_get_num_procs();
    if (wanted == 0) wanted = omp_get_max_threads() < cores ? omp_get_max_threads() : cores;
    return wanted < MOST ? wanted : MOST;
#else
    (void)wanted;
    return 1;
#endif
}

void up_cpu_for(const up_cpu *cpu, int64_t pieces, up_cpu_body body, const void *context) {
#ifdef _OPENMP
    if (pieces > 1 && cpu->threads > 1) {
#pragma omp parallel for num_threads(cpu->threads) schedule(dynamic, 1)
        for (int64_t piece = 0; piece < pieces; piece++) body(context, piece, omp_get_thread_num());
        return;
    }
#endif
    (void)cpu;
    for (int64_t piece = 0; piece < pieces; piece++) body(context, piece, 0);
}

/* Four pieces a thread even out what else runs on the machine; at least a few rows each, at most what a cache
 * holds. */
int64_t up_cpu_piece_rows(const up_cpu *cpu, int64_t rows) {
    int64_t even = (rows + 4 * cpu->threads - 1) / (4 * cpu->threads);
    return up_least(256, up_most(16, (even + 15) / 16 * 16));
}

int64_t up_cpu_part_rows(int64_t rows) {
    return up_most(32, (rows + UP_CPU_PARTS - 1) / UP_CPU_PARTS);
}

void up_cpu_begin_part(int64_t part, int64_t width, const float *gradient, float *sums) {
    if (part == 0)
        memcpy(sums, gradient, (size_t)width * sizeof *sums);
    else
        memset(sums, 0, (size_t)width * sizeof *sums);
}

void up_cpu_sum_parts(const float *parts, int64_t count, int64_t ld, int64_t width, float *gradient) {
    enum { COLS = 256 };
    for (int64_t j0 = 0; count > 0 && j0 < width; j0 += COLS) {
        int64_t n = up_least(COLS, width - j0);
        double sum[COLS] = {0};
        for (int64_t i = 0; i < count; i++)
            for (int64_t j = 0; j < n; j++) sum[j] += (double)parts[i * ld + j0 + j];
        for (int64_t j = 0; j < n; j++) gradient[j0 + j] = (float)sum[j];
    }
}

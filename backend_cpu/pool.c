/* pool.c - the backend's threads, and how work is cut for them.
 *
 * Why not an OpenMP region: its threads meet at a barrier, and when another thread of the machine takes one
 * core (a data loader, say) all wait for the one that lost it, 4 ms or more for an operation of 0.1 ms. Here
 * nobody waits for a thread that has begun nothing: the pieces go to those who run, the caller among them. */
#include "backend_cpu/cpu.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

enum { SPINS = 2000 }; /* looks at the clock of work before sleeping: some 20 us */

typedef struct job {
    up_cpu_body body;
    const void *context;
    uint32_t pieces;
} job;

struct up_cpu_pool {
    pthread_mutex_t lock; /* of job and closing, and for sleeping */
    pthread_cond_t begun, finished;
    job job;
    int closing;
    _Atomic uint64_t next;     /* number of the job << 32 | its next piece */
    atomic_uint_fast32_t done; /* pieces of the job */
    int workers;
    struct up_cpu_worker {
        up_cpu_pool *pool;
        pthread_t thread;
        int number; /* from 1; the caller is 0 */
    } worker[];
};

static void pause_a_little(void) {
#ifdef UP_X86
    __builtin_ia32_pause();
#endif
}

/* Takes pieces of job `number` until none is left. A thread that comes late finds another number and takes
 * nothing. */
static void take_pieces(up_cpu_pool *pool, job job, uint32_t number, int thread) {
    uint64_t next = atomic_load(&pool->next);
    while (next >> 32 == number && (uint32_t)next < job.pieces) {
        if (!atomic_compare_exchange_weak(&pool->next, &next, next + 1)) continue;
        job.body(job.context, (uint32_t)next, thread);
        if (atomic_fetch_add(&pool->done, 1) + 1 == job.pieces) {
            pthread_mutex_lock(&pool->lock);
            pthread_cond_signal(&pool->finished);
            pthread_mutex_unlock(&pool->lock);
        }
        next = atomic_load(&pool->next);
    }
}

static void *work(void *argument) {
    struct up_cpu_worker *self = argument;
    up_cpu_pool *pool = self->pool;
    uint32_t number = 0; /* of the last job seen */
    up_cpu_enter();      /* a thread of the pool does nothing but operations */
#ifdef _OPENMP
    omp_set_num_threads(1); /* of this thread: the product's library starts none of its own */
#endif
    for (;;) {
        for (int i = 0; i < SPINS && atomic_load(&pool->next) >> 32 == number; i++) pause_a_little();
        pthread_mutex_lock(&pool->lock);
        while (!pool->closing && atomic_load(&pool->next) >> 32 == number)
            pthread_cond_wait(&pool->begun, &pool->lock);
        int closing = pool->closing;
        job job = pool->job;
        number = (uint32_t)(atomic_load(&pool->next) >> 32);
        pthread_mutex_unlock(&pool->lock);
        if (closing) return NULL;
        take_pieces(pool, job, number, self->number);
    }
}

static void run(up_cpu_pool *pool, job job) {
    pthread_mutex_lock(&pool->lock);
    uint32_t number = (uint32_t)(atomic_load(&pool->next) >> 32) + 1;
    pool->job = job;
    atomic_store(&pool->done, 0);
    atomic_store(&pool->next, (uint64_t)number << 32);
    pthread_cond_broadcast(&pool->begun);
    pthread_mutex_unlock(&pool->lock);
    take_pieces(pool, job, number, 0);
    for (int i = 0; i < SPINS && atomic_load(&pool->done) < job.pieces; i++) pause_a_little();
    if (atomic_load(&pool->done) == job.pieces) return;
    pthread_mutex_lock(&pool->lock);
    while (atomic_load(&pool->done) < job.pieces) pthread_cond_wait(&pool->finished, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

up_status up_cpu_pool_start(int threads, up_cpu_pool **out) {
    up_cpu_pool *pool = calloc(1, sizeof *pool + (size_t)(threads - 1) * sizeof *pool->worker);
    if (!pool) return up_fail(UP_ERR_MEMORY, "backend cpu", "out of memory for %d threads", threads);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->begun, NULL);
    pthread_cond_init(&pool->finished, NULL);
    for (; pool->workers < threads - 1; pool->workers++) {
        struct up_cpu_worker *w = &pool->worker[pool->workers];
        *w = (struct up_cpu_worker){.pool = pool, .number = pool->workers + 1};
        int error = pthread_create(&w->thread, NULL, work, w);
        if (!error) continue;
        int number = w->number;
        up_cpu_pool_stop(pool);
        return up_fail(UP_ERR_MEMORY, "backend cpu", "cannot start thread %d of %d: %s", number, threads,
                       strerror(error));
    }
    *out = pool;
    return UP_OK;
}

void up_cpu_pool_stop(up_cpu_pool *pool) {
    if (!pool) return;
    pthread_mutex_lock(&pool->lock);
    pool->closing = 1;
    pthread_cond_broadcast(&pool->begun);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->workers; i++) pthread_join(pool->worker[i].thread, NULL);
    pthread_cond_destroy(&pool->begun);
    pthread_cond_destroy(&pool->finished);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

void up_cpu_for(const up_cpu *cpu, int64_t pieces, up_cpu_body body, const void *context) {
#ifdef _OPENMP
    int before = omp_get_max_threads();
    omp_set_num_threads(1);
#endif
    if (pieces > 1 && pieces <= UINT32_MAX && cpu->threads > 1)
        run(cpu->pool, (job){body, context, (uint32_t)pieces});
    else
        for (int64_t piece = 0; piece < pieces; piece++) body(context, piece, 0);
#ifdef _OPENMP
    omp_set_num_threads(before);
#endif
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

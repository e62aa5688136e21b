/* comm_mpi.c - the communicator over MPI, a module of its own (comm_module.h). One thread makes all calls of
 * MPI: it begins what the trainer asks for without blocking, moves it on while the trainer computes, and
 * watches the time. What a backend holds is staged in host memory.
 *
 * Each rank tells rank 0 several times in a deadline how many exchanges it has come to, and rank 0 tells all
 * others. So when an exchange does not end in time, rank 0 knows who is silent and who is behind. */
#include "train/comm_module.h"

#include <errno.h>
#include <limits.h>
#include <mpi.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { HOST_SIZE = 64, WHY_SIZE = 400, BEAT_TAG = 1 };

typedef enum exchange_kind { ALLREDUCE, ALLGATHER, REDUCE_SCATTER, BROADCAST, SHARE } exchange_kind;

typedef struct exchange {
    exchange_kind kind;
    char *memory; /* kept from step to step */
    size_t room;
    int *counts, *displacements; /* [ranks] elements of each rank */
    void *send, *receive;
    int count, root;
    up_backend *backend; /* where `receive` goes after it; NULL: stays */
    up_view to;
    MPI_Request request;
    int done;
} exchange;

/* Who a rank is, for messages. */
typedef struct rank_name {
    char host[HOST_SIZE];
    int process;
    uint64_t processors; /* digest of the set that it may run on */
} rank_name;

/* What is known of another rank, and the message to it. */
typedef struct peer {
    double heard;
    int64_t come, telling; /* exchanges that it has come to; what this rank tells it */
    MPI_Request sending;
} peer;

typedef struct mpi {
    up_comm comm;
    up_comm_request request;
    pthread_t thread;
    pthread_mutex_t lock; /* of what stands until `status` */
    pthread_cond_t changed;
    exchange **list; /* of this wait: count asked for, of which `done` are over */
    int room, count, done, begun;
    int opened, closing, closed;
    const char *abandoned; /* why */
    up_status status;
    char why[WHY_SIZE];

    MPI_Comm exchanges, beats; /* of the thread alone, as all that follows */
    rank_name *names;
    peer *peers;
    double asked, told;
    int64_t come;
    int ours; /* 1: MPI was begun here, and ends here */
} mpi;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void rest(double seconds) {
    nanosleep(&(struct timespec){.tv_nsec = (long)(seconds * 1e9)}, NULL);
}

/* ---- the thread: exchanges ---- */

static void failed(mpi *m, up_status status, const char *what, int code) {
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    if (code != MPI_SUCCESS) MPI_Error_string(code, text, &length);
    pthread_mutex_lock(&m->lock);
    if (m->status == UP_OK) {
        m->status = status;
        snprintf(m->why, sizeof m->why, "%s%s%s", what, length ? ": " : "", text);
    }
    pthread_mutex_unlock(&m->lock);
}

static int begin(mpi *m, exchange *e) {
    MPI_Comm comm = m->exchanges;
    switch (e->kind) {
    case ALLREDUCE:
        return MPI_Iallreduce(MPI_IN_PLACE, e->receive, e->count, MPI_FLOAT, MPI_SUM, comm, &e->request);
    case ALLGATHER:
        return MPI_Iallgatherv(e->send, e->count, MPI_FLOAT, e->receive, e->counts, e->displacements,
                               MPI_FLOAT, comm, &e->request);
    case REDUCE_SCATTER:
        return MPI_Ireduce_scatter(e->send, e->receive, e->counts, MPI_FLOAT, MPI_SUM, comm, &e->request);
    case BROADCAST:
        return MPI_Ibcast(e->receive, e->count, MPI_FLOAT, e->root, comm, &e->request);
    default:
        return MPI_Iallgather(e->send, e->count, MPI_BYTE, e->receive, e->count, MPI_BYTE, comm, &e->request);
    }
}

/* 1 where an exchange is under way. What is over is told to the trainer. */
static int move_on(mpi *m) {
    pthread_mutex_lock(&m->lock);
    int count = m->count, done = m->done, begun = m->begun;
    exchange **list = m->list;
    pthread_mutex_unlock(&m->lock);
    if (done == begun && begun < count) m->asked = now();
    for (; begun < count; begun++) {
        int code = begin(m, list[begun]);
        m->come++;
        if (code != MPI_SUCCESS) failed(m, UP_ERR_BACKEND, "an exchange cannot begin", code);
    }
    int over = 0;
    for (int i = 0; i < count; i++) {
        int flag = 0,
            code = list[i]->done ? MPI_SUCCESS : MPI_Test(&list[i]->request, &flag, MPI_STATUS_IGNORE);
        if (code != MPI_SUCCESS) failed(m, UP_ERR_BACKEND, "an exchange has failed", code);
        if (flag || code != MPI_SUCCESS) list[i]->done = 1;
        over += list[i]->done;
    }
    if (over > done) m->asked = now();
    pthread_mutex_lock(&m->lock);
    m->begun = begun;
    m->done = over;
    if (over > done) pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    return over < count;
}

/* ---- the thread: who is alive ---- */

static double beat_every(const mpi *m) {
    double seconds = m->request.deadline / 20;
    return seconds < 1 ? seconds : 1;
}

static void hear(mpi *m) {
    for (;;) {
        int there = 0;
        int64_t come;
        MPI_Status from;
        if (MPI_Iprobe(MPI_ANY_SOURCE, BEAT_TAG, m->beats, &there, &from) != MPI_SUCCESS || !there) return;
        if (MPI_Recv(&come, 1, MPI_INT64_T, from.MPI_SOURCE, BEAT_TAG, m->beats, MPI_STATUS_IGNORE)) return;
        m->peers[from.MPI_SOURCE].heard = now();
        m->peers[from.MPI_SOURCE].come = come;
    }
}

static void tell(mpi *m) {
    if (now() - m->told < beat_every(m)) return;
    m->told = now();
    for (int r = 0; r < m->comm.ranks; r++) {
        int sent = 1;
        if (r == m->comm.rank || (m->comm.rank && r)) continue; /* a star around rank 0 */
        peer *p = &m->peers[r];
        if (p->sending != MPI_REQUEST_NULL) MPI_Test(&p->sending, &sent, MPI_STATUS_IGNORE);
        if (!sent) continue; /* who does not take the last one gets no other */
        p->telling = m->come;
        if (MPI_Isend(&p->telling, 1, MPI_INT64_T, r, BEAT_TAG, m->beats, &p->sending) != MPI_SUCCESS)
            p->sending = MPI_REQUEST_NULL;
    }
}

static void end_job(mpi *m, const char *why) {
    fprintf(stderr, "uniperceiver: rank %d: %s\n", m->comm.rank, why);
    fflush(stderr);
    rest(0.2); /* launchers pass on what was written, unless the end comes at once */
    MPI_Abort(MPI_COMM_WORLD, 1);
    _exit(1); /* should MPI come back */
}

/* The ranks that others wait for, as rank 0 knows them. */
static void name_missing(const mpi *m, char *out, size_t room) {
    size_t used = 0;
    out[0] = 0;
    for (int r = 0; r < m->comm.ranks && used < room; r++) {
        const peer *p = &m->peers[r];
        double quiet = now() - p->heard;
        int silent = quiet > 5 * beat_every(m), behind = p->come < m->come;
        if (r == m->comm.rank || !(silent || behind)) continue;
        used += (size_t)snprintf(out + used, room - used, "%srank %d (process %d on %s) %s", used ? ", " : "",
                                 r, m->names[r].process, m->names[r].host,
                                 silent ? "does not answer" : "answers, but does not come to the exchange");
    }
    if (!used) snprintf(out, room, "no rank is missing: the network does not carry it");
}

/* Rank 0 judges; the others wait a little longer, unless rank 0 is the one. */
static void watch(mpi *m) {
    double waited = now() - m->asked, deadline = m->request.deadline;
    char who[WHY_SIZE], why[WHY_SIZE + 100];
    const peer *root = &m->peers[0];
    if (waited < deadline) return;
    if (!m->comm.rank) {
        name_missing(m, who, sizeof who);
    } else {
        int silent = now() - root->heard > 5 * beat_every(m);
        if (!silent && root->come >= m->come && waited < 1.25 * deadline + 2) return;
        snprintf(who, sizeof who, "rank 0 (process %d on %s) %s", m->names[0].process, m->names[0].host,
                 silent ? "does not answer" : "answers, but the exchange does not end");
    }
    snprintf(why, sizeof why, "an exchange has not ended for %.0f s (comm_deadline): %s", waited, who);
    end_job(m, why);
}

/* ---- the thread: life ---- */

static uint64_t digest_of_processors(void) {
    cpu_set_t set;
    uint64_t digest = 14695981039346656037u;
    CPU_ZERO(&set);
    sched_getaffinity(getpid(), sizeof set, &set);
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &set)) digest = (digest ^ (uint64_t)i) * 1099511628211u;
    return digest;
}

static int exchange_names(mpi *m) {
    rank_name mine = {.process = (int)getpid(), .processors = digest_of_processors()};
    gethostname(mine.host, HOST_SIZE - 1);
    int code = MPI_Allgather(&mine, sizeof mine, MPI_BYTE, m->names, sizeof mine, MPI_BYTE, m->exchanges);
    for (int r = 0; r < m->comm.ranks; r++)
        m->comm.neighbours +=
            m->names[r].processors == mine.processors && !strcmp(m->names[r].host, mine.host);
    return code;
}

static up_status make_peers(mpi *m) {
    m->names = calloc((size_t)m->comm.ranks, sizeof *m->names);
    m->peers = calloc((size_t)m->comm.ranks, sizeof *m->peers);
    if (!m->names || !m->peers) return UP_ERR_MEMORY;
    for (int r = 0; r < m->comm.ranks; r++) {
        m->peers[r].sending = MPI_REQUEST_NULL;
        m->peers[r].heard = now();
    }
    return UP_OK;
}

/* MPI begins in the thread that uses it, unless the program that this library is in has begun it. */
static int begin_mpi(mpi *m) {
    int there = 0, level = MPI_THREAD_SINGLE, code = MPI_Initialized(&there);
    if (code != MPI_SUCCESS) return code;
    if (there) {
        MPI_Query_thread(&level);
        if (level < MPI_THREAD_MULTIPLE)
            failed(m, UP_ERR_UNSUPPORTED, "was begun by the program without MPI_THREAD_MULTIPLE",
                   MPI_SUCCESS);
        return MPI_SUCCESS;
    }
    code = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level);
    m->ours = code == MPI_SUCCESS;
    if (m->ours && level < MPI_THREAD_FUNNELED)
        failed(m, UP_ERR_UNSUPPORTED, "cannot be used in a program with threads", MPI_SUCCESS);
    return code;
}

static void open_ranks(mpi *m) {
    char why[WHY_SIZE];
    int code = begin_mpi(m);
    if (code == MPI_SUCCESS) code = MPI_Comm_dup(MPI_COMM_WORLD, &m->exchanges);
    if (code == MPI_SUCCESS) code = MPI_Comm_dup(MPI_COMM_WORLD, &m->beats);
    if (code == MPI_SUCCESS) code = MPI_Comm_set_errhandler(m->exchanges, MPI_ERRORS_RETURN);
    if (code == MPI_SUCCESS) code = MPI_Comm_set_errhandler(m->beats, MPI_ERRORS_RETURN);
    if (code == MPI_SUCCESS) code = MPI_Comm_rank(m->exchanges, &m->comm.rank);
    if (code == MPI_SUCCESS) code = MPI_Comm_size(m->exchanges, &m->comm.ranks);
    if (code == MPI_SUCCESS && make_peers(m) != UP_OK)
        failed(m, UP_ERR_MEMORY, "no memory for the table of ranks", MPI_SUCCESS);
    else if (code == MPI_SUCCESS)
        code = exchange_names(m);
    if (code != MPI_SUCCESS) failed(m, UP_ERR_BACKEND, "cannot begin", code);
    if (m->request.launched < 2 || m->comm.ranks > 1) return;
    snprintf(why, sizeof why,
             "this process was started as one of %d, but finds itself alone: the launcher belongs to another "
             "MPI than %s was built with",
             m->request.launched, "uniperceiver_mpi.so");
    failed(m, UP_ERR_UNSUPPORTED, why, MPI_SUCCESS);
}

/* Asked for nothing: sleeps until it is, or until the next beat. */
static void wait_for_work(mpi *m) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(0.5e9 * beat_every(m));
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&m->lock);
    if (m->done == m->count && !m->closing && !m->abandoned)
        pthread_cond_timedwait(&m->changed, &m->lock, &until);
    pthread_mutex_unlock(&m->lock);
}

static int closing(mpi *m) {
    pthread_mutex_lock(&m->lock);
    int end = m->closing;
    const char *why = m->abandoned;
    pthread_mutex_unlock(&m->lock);
    if (why) end_job(m, why);
    return end;
}

static void close_ranks(mpi *m) {
    for (int r = 0; m->peers && r < m->comm.ranks; r++)
        if (m->peers[r].sending != MPI_REQUEST_NULL) MPI_Request_free(&m->peers[r].sending);
    if (m->ours) MPI_Finalize();
}

static void *serve(void *argument) {
    mpi *m = argument;
    open_ranks(m);
    pthread_mutex_lock(&m->lock);
    m->opened = 1;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    while (!closing(m)) {
        int busy = move_on(m);
        hear(m);
        tell(m);
        if (busy) watch(m);
        if (busy)
            rest(20e-6);
        else
            wait_for_work(m);
    }
    close_ranks(m);
    pthread_mutex_lock(&m->lock);
    m->closed = 1;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

/* ---- the trainer's side ---- */

/* The next entry of the list, with room for that many bytes; not seen by the thread until `post`. */
static up_status next_entry(mpi *m, exchange_kind kind, size_t bytes, exchange **out) {
    if (m->count == m->room)
        return m->request.fail(UP_ERR_ARGUMENT, "MPI", "more than %d exchanges", m->room);
    if (!m->list[m->count]) m->list[m->count] = calloc(1, sizeof(exchange));
    exchange *e = m->list[m->count];
    if (e && !e->counts) e->counts = malloc(2 * (size_t)m->comm.ranks * sizeof *e->counts);
    if (e && bytes > e->room) {
        free(e->memory);
        e->memory = malloc(bytes);
        e->room = e->memory ? bytes : 0;
    }
    if (!e || !e->counts || bytes > e->room)
        return m->request.fail(UP_ERR_MEMORY, "MPI", "%zu bytes wanted to stage an exchange", bytes);
    e->displacements = e->counts + m->comm.ranks;
    e->kind = kind;
    e->send = e->receive = e->memory;
    e->backend = NULL;
    e->done = 0;
    e->request = MPI_REQUEST_NULL;
    *out = e;
    return UP_OK;
}

static void post(mpi *m) {
    pthread_mutex_lock(&m->lock);
    m->count++;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
}

static up_status check_count(const mpi *m, int64_t elements) {
    if (elements <= INT_MAX) return UP_OK;
    return m->request.fail(UP_ERR_UNSUPPORTED, "MPI", "%lld numbers in one exchange; at most %d",
                           (long long)elements, INT_MAX);
}

static int64_t size_of(up_view v) {
    return v.rows * v.cols;
}

static up_status stage(exchange *e, up_backend *b, up_view from, up_view to) {
    e->backend = size_of(to) ? b : NULL;
    e->to = to;
    return size_of(from) ? b->ops->download(b, e->send, from) : UP_OK;
}

static up_status allreduce(up_comm *c, up_backend *b, up_view sum) {
    mpi *m = c->state;
    exchange *e;
    up_status status = check_count(m, size_of(sum));
    if (status == UP_OK) status = next_entry(m, ALLREDUCE, (size_t)size_of(sum) * sizeof(float), &e);
    if (status == UP_OK) status = stage(e, b, sum, sum);
    if (status != UP_OK) return status;
    e->count = (int)size_of(sum);
    c->bytes += 2 * (uint64_t)size_of(sum) * sizeof(float) * (uint64_t)(c->ranks - 1) / (uint64_t)c->ranks;
    post(m);
    return UP_OK;
}

/* Of each rank's rows, in numbers; `send` and `receive` side by side. */
static up_status uneven(mpi *m, exchange_kind kind, const int64_t *rows, int64_t cols, exchange **out) {
    int64_t total = 0;
    for (int r = 0; r < m->comm.ranks; r++) total += rows[r] * cols;
    int64_t mine = rows[m->comm.rank] * cols, sent = kind == ALLGATHER ? mine : total;
    up_status status = check_count(m, total);
    if (status == UP_OK) status = next_entry(m, kind, (size_t)(total + mine) * sizeof(float), out);
    if (status != UP_OK) return status;
    exchange *e = *out;
    e->count = (int)mine;
    e->receive = (float *)e->send + sent;
    for (int r = 0, at = 0; r < m->comm.ranks; r++) {
        e->counts[r] = (int)(rows[r] * cols);
        e->displacements[r] = at;
        at += e->counts[r];
    }
    return UP_OK;
}

static up_status gather_or_scatter(up_comm *c, exchange_kind kind, up_backend *b, up_view from, up_view to,
                                   const int64_t *rows) {
    mpi *m = c->state;
    exchange *e;
    up_status status = uneven(m, kind, rows, from.cols, &e);
    if (status == UP_OK) status = stage(e, b, from, to);
    if (status != UP_OK) return status;
    uint64_t all = (uint64_t)(kind == ALLGATHER ? size_of(to) : size_of(from));
    c->bytes += (all - (uint64_t)e->count) * sizeof(float); /* a ring passes every block on but one */
    post(m);
    return UP_OK;
}

static up_status allgather(up_comm *c, up_backend *b, up_view mine, up_view all, const int64_t *rows) {
    return gather_or_scatter(c, ALLGATHER, b, mine, all, rows);
}

static up_status reduce_scatter(up_comm *c, up_backend *b, up_view all, up_view mine, const int64_t *rows) {
    return gather_or_scatter(c, REDUCE_SCATTER, b, all, mine, rows);
}

static up_status broadcast(up_comm *c, up_backend *b, up_view inout, int root) {
    mpi *m = c->state;
    exchange *e;
    int sends = c->rank == root;
    up_status status = check_count(m, size_of(inout));
    if (status == UP_OK) status = next_entry(m, BROADCAST, (size_t)size_of(inout) * sizeof(float), &e);
    if (status == UP_OK) status = stage(e, b, sends ? inout : (up_view){0}, sends ? (up_view){0} : inout);
    if (status != UP_OK) return status;
    e->count = (int)size_of(inout);
    e->root = root;
    if (sends) c->bytes += (uint64_t)size_of(inout) * sizeof(float);
    post(m);
    return UP_OK;
}

static struct timespec time_in(double seconds) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)seconds + 1;
    return until;
}

/* Nothing of MPI can be asked any more. */
static void give_up(const mpi *m, const char *what, double seconds) {
    fprintf(stderr, "uniperceiver: rank %d: %s for %.0f s\n", m->comm.rank, what, seconds);
    _exit(1);
}

/* The thread watches the ranks; should MPI itself not come back to it, this process is the one that hangs. */
static void wait_done(mpi *m) {
    double limit = 1.5 * m->request.deadline + 10;
    struct timespec until;
    int done = -1;
    pthread_mutex_lock(&m->lock);
    while (m->done < m->count) {
        if (m->done > done) {
            until = time_in(limit);
            done = m->done;
        }
        if (pthread_cond_timedwait(&m->changed, &m->lock, &until) == ETIMEDOUT)
            give_up(m, "MPI has not come back", limit);
    }
    pthread_mutex_unlock(&m->lock);
}

static up_status wait(up_comm *c) {
    mpi *m = c->state;
    wait_done(m);
    pthread_mutex_lock(&m->lock);
    up_status status = m->status;
    int count = m->count;
    pthread_mutex_unlock(&m->lock);
    if (status != UP_OK) return m->request.fail(status, "MPI", "%s", m->why);
    for (int i = 0; i < count && status == UP_OK; i++) {
        exchange *e = m->list[i];
        if (e->backend) status = e->backend->ops->upload(e->backend, e->to, e->receive);
        if (e->kind != BROADCAST) continue; /* weights and moments, once in a run */
        free(e->memory);
        e->memory = NULL;
        e->room = 0;
    }
    pthread_mutex_lock(&m->lock);
    m->count = m->begun = m->done = 0;
    pthread_mutex_unlock(&m->lock);
    return status;
}

static up_status share(up_comm *c, const void *mine, void *all, size_t bytes) {
    mpi *m = c->state;
    exchange *e;
    up_status status = check_count(m, (int64_t)bytes);
    if (status == UP_OK) status = next_entry(m, SHARE, bytes * ((size_t)c->ranks + 1), &e);
    if (status != UP_OK) return status;
    int place = m->count;
    memcpy(e->send, mine, bytes);
    e->receive = e->memory + bytes;
    e->count = (int)bytes;
    post(m);
    status = wait(c);
    if (status == UP_OK) memcpy(all, m->list[place]->receive, bytes * (size_t)c->ranks);
    return status;
}

static void abandon(up_comm *c, const char *why) {
    mpi *m = c->state;
    pthread_mutex_lock(&m->lock);
    m->abandoned = why;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    for (double begin = now(); now() - begin < 30;) rest(0.1); /* the thread ends this process */
    _exit(1);
}

static void release(mpi *m) {
    for (int i = 0; m->list && i < m->room; i++) {
        if (!m->list[i]) continue;
        free(m->list[i]->memory);
        free(m->list[i]->counts);
        free(m->list[i]);
    }
    free(m->list);
    free(m->names);
    free(m->peers);
    pthread_cond_destroy(&m->changed);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

/* In MPI_Finalize ranks wait for each other, and say nothing of who is missing. So they meet before it, where
 * that is known; who hangs or dies behind this point costs the others the deadline once more. */
static void meet(mpi *m) {
    char here = 0, *all = malloc((size_t)m->comm.ranks + 1);
    if (all && m->status == UP_OK) share(&m->comm, &here, all, sizeof here);
    free(all);
}

static void wait_closed(mpi *m) {
    struct timespec until = time_in(m->request.deadline);
    pthread_mutex_lock(&m->lock);
    m->closing = 1;
    pthread_cond_broadcast(&m->changed);
    while (!m->closed)
        if (pthread_cond_timedwait(&m->changed, &m->lock, &until) == ETIMEDOUT)
            give_up(
                m,
                "another rank has died or hangs at its end: MPI_Finalize has not come back (comm_deadline)",
                m->request.deadline);
    pthread_mutex_unlock(&m->lock);
}

static void destroy(up_comm *c) {
    mpi *m = c->state;
    meet(m);
    wait_closed(m);
    pthread_join(m->thread, NULL);
    release(m);
}

static const up_comm_ops ops = {
    .version = UP_COMM_VERSION,
    .size = sizeof(up_comm_ops),
    .name = "mpi",
    .destroy = destroy,
    .allreduce = allreduce,
    .allgather = allgather,
    .reduce_scatter = reduce_scatter,
    .broadcast = broadcast,
    .wait = wait,
    .share = share,
    .abandon = abandon,
};

/* Signals are the trainer's: the thread takes none. */
static int start_thread(mpi *m) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&m->thread, NULL, serve, m);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code) return code;
    pthread_mutex_lock(&m->lock);
    while (!m->opened) pthread_cond_wait(&m->changed, &m->lock);
    pthread_mutex_unlock(&m->lock);
    return 0;
}

up_status up_comm_mpi_open(const up_comm_request *request, up_comm **out) {
    enum { EXCHANGES = 4096 }; /* between two waits: buckets of a step, tensors of a checkpoint */
    pthread_condattr_t monotonic;
    *out = NULL;
    if (request->version != UP_COMM_VERSION || request->size != sizeof *request)
        return request->fail(UP_ERR_UNSUPPORTED, "MPI", "the module is of another version: %u, wanted %u",
                             UP_COMM_VERSION, request->version);
    mpi *m = calloc(1, sizeof *m);
    if (m) m->list = calloc(EXCHANGES, sizeof *m->list);
    if (!m || !m->list) {
        free(m);
        return request->fail(UP_ERR_MEMORY, "MPI", "no memory for its lists");
    }
    m->room = EXCHANGES;
    m->request = *request;
    m->comm = (up_comm){.ops = &ops, .state = m};
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (start_thread(m)) {
        release(m);
        return request->fail(UP_ERR_MEMORY, "MPI", "the system gave no thread");
    }
    if (m->status != UP_OK) {
        up_status status = request->fail(m->status, "MPI", "%s", m->why);
        destroy(&m->comm);
        return status;
    }
    *out = &m->comm;
    return UP_OK;
}

/* worker.c - measurements in processes of their own. */
#include "bench/worker.h"
#include "bench/common.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* All of it; 0 where the other end is gone. */
static int read_all(int file, void *to, size_t size) {
    char *at = to;
    while (size) {
        ssize_t got = read(file, at, size);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return 0;
        at += got;
        size -= (size_t)got;
    }
    return 1;
}

static void write_all(int file, const void *from, size_t size) {
    const char *at = from;
    while (size) {
        ssize_t put = write(file, at, size);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) up_bench_die("a worker is gone");
        at += put;
        size -= (size_t)put;
    }
}

static up_turn take_turn(const up_measure *measure, void *state) {
    if (measure->prepare) measure->prepare(state);
    double start = up_bench_now(), work = up_bench_processor();
    measure->run(state);
    return (up_turn){up_bench_now() - start, up_bench_processor() - work};
}

static up_report finish(const up_measure *measure, void *state) {
    up_report report = {0};
    measure->report(state, &report);
    measure->close(state);
    report.peak_mib = up_bench_peak_mib();
    return report;
}

enum { ASK_TURN = 't', ASK_REPORT = 'r' };

/* The worker's side: a byte asks for a turn or, at last, for the report. */
static void obey(const up_measure *measure, const void *options, int in, int out) {
    void *state = measure->open(options);
    char asked;
    while (read_all(in, &asked, 1) && asked == ASK_TURN) {
        up_turn turn = take_turn(measure, state);
        write_all(out, &turn, sizeof turn);
    }
    up_report report = finish(measure, state);
    write_all(out, &report, sizeof report);
}

void up_worker_start(up_worker *worker, const up_measure *measure, const void *options) {
    int to[2], from[2];
    signal(SIGPIPE, SIG_IGN);
    if (pipe(to) || pipe(from)) up_bench_die("no pipe for a worker");
    fflush(NULL);
    worker->process = fork();
    if (worker->process < 0) up_bench_die("no process for a worker");
    if (worker->process == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* later workers hold this one's pipe open, too */
        close(to[1]);
        close(from[0]);
        obey(measure, options, to[0], from[1]);
        exit(0);
    }
    close(to[0]);
    close(from[1]);
    worker->to = to[1];
    worker->from = from[0];
}

void up_worker_turn(up_worker *worker, up_turn *turn) {
    const char ask = ASK_TURN;
    write_all(worker->to, &ask, 1);
    if (!read_all(worker->from, turn, sizeof *turn)) up_bench_die("a worker ended; its message stands above");
}

void up_worker_end(up_worker *worker, up_report *report) {
    const char ask = ASK_REPORT;
    write_all(worker->to, &ask, 1);
    if (!read_all(worker->from, report, sizeof *report))
        up_bench_die("a worker ended; its message stands above");
    close(worker->to);
    close(worker->from);
    waitpid(worker->process, NULL, 0);
}

void up_worker_serve(const up_measure *measure, const void *options) {
    char line[64];
    void *state = measure->open(options);
    printf("{\"ready\": 1}\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        up_turn turn = take_turn(measure, state);
        printf("{\"seconds\": %.9f, \"processor\": %.9f}\n", turn.seconds, turn.processor);
        fflush(stdout);
    }
    up_report r = finish(measure, state);
    printf("{\"samples\": %.0f, \"tokens\": %.0f, \"needed\": %.6g, \"executed\": %.6g, \"activations_mib\": "
           "%.1f, "
           "\"peak_mib\": %.1f, \"learns\": %.0f}\n",
           r.samples, r.tokens, r.needed, r.executed, r.activations_mib, r.peak_mib, r.learns);
}

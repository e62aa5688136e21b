/* ranks.c - several processes as one run: who they are, what they know of each other, and that they have the
 * same weights. All of it is an exchange that every rank takes part in. */
#include "backend_cpu/cpu.h"
#include "files/digest.h"
#include "train/trainer.h"
#include "ref/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Without a wish, ranks on the same processors share them. */
static int threads_of(const up_trainer *t) {
    if (t->options.threads || t->comm->neighbours < 2) return t->options.threads;
    int threads = up_cpu_threads(0) / t->comm->neighbours;
    return threads > 1 ? threads : 1;
}

up_status up_ranks_open(up_trainer *t) {
    const char *backend = t->options.backend ? t->options.backend : "cpu";
    UP_TRY(up_comm_open(up_comm_kinds[t->settings.comm], t->settings.comm_deadline, &t->comm));
    int threads = threads_of(t);
    if (!up_leads(t)) t->options.quiet = 1;
    if (t->comm->ranks > 1 && !t->options.quiet)
        up_log(UP_LOG_NOTICE, "%d ranks over %s, %d on the same processors", t->comm->ranks,
               t->comm->ops->name, t->comm->neighbours);
    return up_backend_create(backend, threads, &t->backend);
}

void up_ranks_tell_sets(const up_trainer *t) {
    const up_sets *sets = &t->stepper.sets;
    if (t->comm->ranks == 1 || t->options.quiet) return;
    for (int i = 0; i < sets->count; i++) {
        int64_t count = up_target_set_count(sets->list[i].set);
        if (!count) continue; /* filled anew for each batch */
        up_log(UP_LOG_NOTICE, "target set of %lld entries: %s", (long long)count,
               up_target_set_divided(sets->list[i].set)
                   ? "divided over the ranks, features gathered"
                   : "fewer than ranks, encoded by each that compares with it");
    }
}

void up_ranks_abandon(const up_trainer *t) {
    if (t->comm) t->comm->ops->abandon(t->comm, up_last_error());
}

/* ---- what was restored ---- */

enum { COUNTS = 3 };

static up_status tell_counts(up_trainer *t) {
    int64_t counts[COUNTS] = {t->step, t->skipped, t->iterations};
    UP_TRY(up_comm_tell(t->comm, counts, sizeof counts, 0));
    t->step = counts[0];
    t->skipped = counts[1];
    t->iterations = counts[2];
    UP_TRY(up_comm_tell(t->comm, t->bad.count, t->settings.task_count * sizeof *t->bad.count, 0));
    return up_comm_tell(t->comm, t->taken, t->settings.task_count * sizeof *t->taken, 0);
}

static up_status tell_optimizer(up_trainer *t) {
    up_optimizer_state state;
    UP_TRY(up_optimizer_get(t->stepper.optimizer, &state));
    UP_TRY(up_comm_tell(t->comm, &state, sizeof state, 0));
    UP_TRY(up_optimizer_set(t->stepper.optimizer, &state));
    for (int order = 1; order <= 2; order++)
        UP_TRY(t->comm->ops->broadcast(t->comm, t->backend, up_optimizer_moments(t->stepper.optimizer, order),
                                       0));
    return t->comm->ops->wait(t->comm);
}

static up_status tell_weights(up_trainer *t) {
    for (int i = 0; i < up_model_params(t->model)->count; i++)
        UP_TRY(t->comm->ops->broadcast(t->comm, t->backend, up_model_weight(t->model, i), 0));
    UP_TRY(t->comm->ops->wait(t->comm));
    up_model_changed(t->model);
    return UP_OK;
}

up_status up_ranks_restored(up_trainer *t, int *found) {
    if (t->comm->ranks == 1) return UP_OK;
    UP_TRY(up_ranks_agree(t, found, 1));
    if (!*found) return UP_OK;
    UP_TRY(tell_counts(t));
    UP_TRY(tell_weights(t));
    return tell_optimizer(t);
}

/* ---- what all must know ---- */

up_status up_ranks_agree(up_trainer *t, int *flags, int count) {
    int64_t values[UP_FLAGS_MOST];
    if (t->comm->ranks == 1) return UP_OK;
    for (int i = 0; i < count; i++) values[i] = flags[i];
    UP_TRY(up_comm_max(t->comm, values, count));
    for (int i = 0; i < count; i++) flags[i] = values[i] != 0;
    return UP_OK;
}

/* What the ranks have measured since the last metrics line, besides the sums of the tasks. */
enum { OF_LINE = 5 };

static void take_line(const up_trainer *t, double *line) {
    line[0] = (double)(t->stepper.input_tokens - t->line_inputs);
    line[1] = (double)(up_stepper_set_tokens(&t->stepper) - t->line_sets);
    line[2] = (double)(t->comm->bytes - t->line_bytes);
    line[3] = t->waited / t->comm->ranks;
    line[4] = up_stepper_needed(&t->stepper) - t->line_needed;
}

static void set_line(up_trainer *t, const double *line) {
    t->line_inputs = t->stepper.input_tokens - (int64_t)line[0];
    t->line_sets = up_stepper_set_tokens(&t->stepper) - (int64_t)line[1];
    t->line_bytes = t->comm->bytes - (uint64_t)line[2];
    t->waited = line[3];
    t->line_needed = up_stepper_needed(&t->stepper) - line[4];
}

up_status up_ranks_gather(up_trainer *t) {
    enum { FIELDS = 3 };
    int tasks = (int)t->settings.task_count, total = FIELDS * tasks + OF_LINE;
    if (t->comm->ranks == 1) return UP_OK;
    double *values = malloc((size_t)total * sizeof *values);
    if (!values) return up_fail(UP_ERR_MEMORY, "metrics", "%d sums wanted", total);
    for (int i = 0; i < tasks; i++) {
        values[FIELDS * i] = t->sums[i].loss;
        values[FIELDS * i + 1] = t->sums[i].accuracy;
        values[FIELDS * i + 2] = (double)t->sums[i].iterations;
    }
    take_line(t, values + FIELDS * tasks);
    up_status status = up_comm_sum(t->comm, values, total);
    if (!up_leads(t)) memset(values, 0, (size_t)total * sizeof *values);
    for (int i = 0; i < tasks && status == UP_OK; i++)
        t->sums[i] =
            (up_task_sums){values[FIELDS * i], values[FIELDS * i + 1], (int64_t)values[FIELDS * i + 2]};
    if (status == UP_OK) set_line(t, values + FIELDS * tasks);
    free(values);
    return status;
}

/* ---- the same weights ---- */

static up_status digest_weights(const up_trainer *t, uint64_t *digest) {
    const up_params *p = up_model_params(t->model);
    up_status status = UP_OK;
    int64_t most = 0;
    for (int i = 0; i < p->count; i++)
        if (p->list[i].rows * p->list[i].cols > most) most = p->list[i].rows * p->list[i].cols;
    float *values = malloc((size_t)most * sizeof *values);
    if (!values) return up_fail(UP_ERR_MEMORY, "ranks", "%lld weights to compare", (long long)most);
    *digest = 0;
    for (int i = 0; i < p->count; i++) {
        size_t bytes = (size_t)(p->list[i].rows * p->list[i].cols) * sizeof *values;
        UP_GO(t->backend->ops->download(t->backend, values, up_model_weight(t->model, i)));
        *digest = up_digest(*digest, values, bytes);
    }
done:
    free(values);
    return status;
}

up_status up_ranks_check(up_trainer *t) {
    uint64_t mine, *all;
    up_status status = UP_OK;
    if (t->comm->ranks == 1) return UP_OK;
    UP_TRY(digest_weights(t, &mine));
    all = malloc((size_t)t->comm->ranks * sizeof *all);
    if (!all) return up_fail(UP_ERR_MEMORY, "ranks", "%d digests wanted", t->comm->ranks);
    UP_GO(t->comm->ops->share(t->comm, &mine, all, sizeof mine));
    for (int r = 1; r < t->comm->ranks; r++)
        if (all[r] != all[0])
            UP_GO(up_fail(UP_ERR_NUMERIC, "ranks", "after step %lld rank %d has other weights than rank 0",
                          (long long)t->step, r));
done:
    free(all);
    return status;
}

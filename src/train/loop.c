/* loop.c - training: take prefetched work, step; read what was measured, log, save, stop when asked to. */
#include "train/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* The work of the next iteration, prefetched. */
static up_status next_work(up_trainer *t, up_work **out) {
    void *slot = NULL;
    UP_TRY(up_loader_next(t->loader, &slot, &t->waited));
    *out = slot;
    for (int rank = 0; rank < t->comm->ranks; rank++) {
        int source = up_order_task(&t->settings, &t->rounds, t->iterations);
        t->taken[source] += t->settings.tasks[source].batch;
        t->iterations++;
    }
    return UP_OK;
}

/* The target sets that any rank compares with in this step, known to all of them. */
static up_status share_sets(up_trainer *t) {
    int64_t count =
        t->comm->ranks > 1 ? t->settings.accumulate * t->comm->ranks : 0; /* alone: each in time */
    for (int64_t i = 0; i < count; i++) {
        int source = up_order_task(&t->settings, &t->rounds, t->iterations + i);
        up_stepper_uses(&t->stepper, t->sources[source].set);
    }
    return up_stepper_encode_sets(&t->stepper);
}

/* Where iteration i of a step, counted from 0, keeps its loss until it is read. */
static up_loss_pending *pending_at(const up_trainer *t, int64_t step, int64_t i) {
    return &t->pending[(step & 1) * t->settings.accumulate + i];
}

static up_status send_loss(up_trainer *t, const up_work *work, int64_t i) {
    up_loss_pending *p = pending_at(t, t->step, i);
    p->source = work->batch.readouts ? (int32_t)(work->source - t->sources) : -1;
    return p->source < 0 ? UP_OK : up_loss_read_begin(p->read, t->stepper.criterion);
}

/* Every rank and every iteration has the same share in a step. */
static double share_of(const up_trainer *t) {
    return 1 / ((double)t->settings.accumulate * t->comm->ranks);
}

static up_status take_losses(up_trainer *t, int64_t step) {
    for (int64_t i = 0; i < t->settings.accumulate; i++) {
        up_loss_pending *p = pending_at(t, step, i);
        up_loss_value value;
        if (p->source < 0) continue;
        UP_TRY(up_loss_read_end(p->read, &value));
        up_task_sums *sums = &t->sums[p->source];
        sums->loss += value.loss / share_of(t);
        sums->accuracy += value.accuracy;
        sums->iterations++;
    }
    return UP_OK;
}

/* Read losses and norm up to step `count`, the latest or the one before it: the latter's numbers are on the
 * host already. */
static up_status settle(up_trainer *t, int64_t count) {
    int known;
    if (count <= t->settled) return UP_OK;
    UP_TRY(up_optimizer_value(t->stepper.optimizer, count < t->step, &t->value, &known));
    UP_TRY(take_losses(t, count - 1));
    t->settled = count;
    if (!t->value.skipped) return UP_OK;
    t->skipped++;
    if (!up_leads(t)) return UP_OK;
    fprintf(stderr,
            "uniperceiver: step %lld: loss or gradient is not finite: step skipped, weights untouched",
            (long long)count);
    if (t->value.loss_scale != 1) fprintf(stderr, ", loss scale now %g", t->value.loss_scale);
    fprintf(stderr, "\n");
    return UP_OK;
}

static up_status one_step(up_trainer *t) {
    up_work *work;
    t->lr = up_learning_rate(&t->settings.optimizer, t->step, t->settings.steps);
    up_stepper_begin(&t->stepper, t->step);
    UP_TRY(share_sets(t));
    for (int64_t i = 0; i < t->settings.accumulate; i++) {
        UP_TRY(next_work(t, &work));
        UP_TRY(up_stepper_iterate(&t->stepper, work, share_of(t)));
        UP_TRY(send_loss(t, work, i));
    }
    UP_TRY(up_stepper_finish(&t->stepper, t->lr));
    t->step++;
    return settle(t, t->step - 1); /* nothing waits for the step that has just been asked for */
}

/* Means of the tasks that were drawn since the last line; the sums begin anew. */
static json_t *task_means(up_trainer *t) {
    json_t *tasks = json_object();
    for (size_t i = 0; tasks && i < t->settings.task_count; i++) {
        up_task_sums *s = &t->sums[i];
        if (!s->iterations) continue;
        double n = (double)s->iterations;
        json_t *entry =
            json_pack("{s:f, s:I}", "accuracy", s->accuracy / n, "iterations", (json_int_t)s->iterations);
        int failed = isfinite(s->loss) && json_object_set_new(entry, "loss", json_real(s->loss / n));
        if (failed) json_decref(entry);
        if (failed || json_object_set_new(tasks, t->settings.tasks[i].name, entry)) {
            json_decref(tasks);
            return NULL;
        }
        t->latest[i] = *s;
        *s = (up_task_sums){0};
    }
    return tasks;
}

/* One line of metrics.jsonl: means since the last one. */
static up_status log_metrics(up_trainer *t) {
    double now = up_now(), seconds = now - t->last_line;
    double of_ranks[] = {(double)(t->stepper.input_tokens - t->line_inputs),
                         (double)(up_stepper_set_tokens(&t->stepper) - t->line_sets),
                         (double)(t->comm->bytes - t->line_bytes), t->waited / t->comm->ranks};
    t->line_inputs = t->stepper.input_tokens;
    t->line_sets = up_stepper_set_tokens(&t->stepper);
    t->line_bytes = t->comm->bytes;
    UP_TRY(up_ranks_sum(t, of_ranks, sizeof of_ranks / sizeof of_ranks[0]));
    int64_t inputs = (int64_t)of_ranks[0], sets = (int64_t)of_ranks[1];
    json_t *tasks = task_means(t);
    json_t *line = json_pack("{s:I, s:f, s:I, s:f, s:I, s:I, s:f, s:f, s:o}", "step", (json_int_t)t->step,
                             "lr", t->lr, "skipped", (json_int_t)t->skipped, "seconds", now - t->started,
                             "input_tokens", (json_int_t)inputs, "target_tokens", (json_int_t)sets,
                             "tokens_per_second", seconds > 0 ? (double)(inputs + sets) / seconds : 0.0,
                             "data_wait_seconds", of_ranks[3], "tasks", tasks);
    int failed = !line;
    if (!failed && t->comm->ranks > 1)
        failed = json_object_set_new(line, "ranks", json_integer(t->comm->ranks)) ||
                 json_object_set_new(line, "sent_bytes", json_integer((json_int_t)of_ranks[2]));
    if (!failed && !t->value.skipped)
        failed = json_object_set_new(line, "gradient_norm", json_real(t->value.gradient_norm));
    if (!failed && t->value.loss_scale != 1)
        failed = json_object_set_new(line, "loss_scale", json_real(t->value.loss_scale));
    t->last_line = now;
    t->waited = 0;
    up_status status = failed ? up_fail(UP_ERR_MEMORY, "metrics", "no memory for a line") : UP_OK;
    if (status == UP_OK && up_leads(t)) status = up_jsonl_append(&t->metrics, line);
    json_decref(line);
    return status;
}

static up_status loop(up_trainer *t) {
    while (t->step < t->settings.steps) {
        UP_TRY(one_step(t));
        int last = t->step == t->settings.steps, stop = up_asked_to_stop(&t->options);
        UP_TRY(up_ranks_agree(t, &stop));
        int end = last || stop;
        int line = end || t->step % t->settings.log_every == 0;
        int save = end || t->step % t->settings.checkpoint_every == 0;
        if (line || save) UP_TRY(settle(t, t->step));
        if (line) UP_TRY(log_metrics(t));
        if (up_leads(t)) up_progress(t, end);
        if (end || (t->settings.check_ranks_every && t->step % t->settings.check_ranks_every == 0))
            UP_TRY(up_ranks_check(t));
        if (save && up_leads(t)) UP_TRY(up_checkpoint_save(t));
        if (stop && !last)
            return up_fail(UP_ERR_INTERRUPTED, t->settings.run,
                           "stopped after step %lld of %lld; continue with --resume", (long long)t->step,
                           (long long)t->settings.steps);
    }
    return UP_OK;
}

up_status up_train(const char *config_path, const char *const *overrides, size_t count,
                   const up_train_options *options) {
    char path[4096];
    if (!config_path) return up_fail(UP_ERR_ARGUMENT, "configuration", "its path is NULL");
    if (count && !overrides) return up_fail(UP_ERR_ARGUMENT, "overrides", "%zu of them and no list", count);
    up_trainer *t = malloc(sizeof *t);
    if (!t) return up_fail(UP_ERR_MEMORY, "training", "%zu bytes wanted", sizeof *t);
    up_status status = up_trainer_open(config_path, overrides, count, options, t);
    if (status != UP_OK) {
        free(t);
        return status;
    }
    UP_GO(loop(t));
    UP_GO(up_settings_result_path(&t->settings, path, sizeof path));
    if (up_leads(t)) UP_GO(up_model_write(t->model, path));
done:
    if (status != UP_OK && status != UP_ERR_INTERRUPTED) up_ranks_abandon(t); /* all stop alike */
    up_trainer_close(t);
    free(t);
    return status;
}

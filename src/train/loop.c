/* loop.c - training: take prefetched work, forward, loss, backward, step; log, save, stop when asked to. */
#include "train/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static up_status iterate(up_trainer *t) {
    void *slot = NULL;
    up_loss_value value;
    UP_TRY(up_loader_next(t->loader, &slot, &t->waited));
    up_work *w = slot;
    if (!w->batch.queries) return UP_OK; /* nothing to predict, e.g. texts without a word */
    UP_TRY(up_run_forward(t->run, &w->batch, w->dropping ? w->drop : NULL));
    w->loss.weight /= (float)t->settings.accumulate;
    UP_TRY(up_run_loss(t->run, &w->loss, &value));
    UP_TRY(up_run_backward(t->run, NULL, NULL));
    up_task_sums *sums = &t->sums[w->source - t->sources];
    sums->loss += value.loss * (double)t->settings.accumulate;
    sums->accuracy += value.accuracy;
    sums->iterations++;
    t->tokens += w->batch.tokens;
    t->all_tokens += w->batch.tokens;
    return UP_OK;
}

static up_status one_step(up_trainer *t, up_step_value *value, double *lr) {
    const up_optimizer_settings *o = &t->settings.optimizer;
    UP_TRY(up_run_zero_gradients(t->run));
    for (int64_t i = 0; i < t->settings.accumulate; i++) UP_TRY(iterate(t));
    UP_TRY(t->comm->ops->allreduce(t->comm, t->backend, up_run_gradients(t->run)));
    UP_TRY(t->comm->ops->wait(t->comm));
    *lr = up_learning_rate(o, t->step, t->settings.steps);
    up_adamw adamw = {*lr, o->beta1, o->beta2, o->eps, o->decay, o->clip};
    UP_TRY(up_run_step(t->run, &adamw, value));
    t->step++;
    if (value->skipped) {
        t->skipped++;
        fprintf(stderr,
                "uniperceiver: step %lld: loss or gradient is not finite: step skipped, weights untouched\n",
                (long long)t->step);
    }
    return UP_OK;
}

/* One line of metrics.jsonl: means since the last one. */
static up_status log_metrics(up_trainer *t, const up_step_value *value, double lr) {
    double now = up_now(), seconds = now - t->last_line;
    json_t *tasks = json_object();
    json_t *line =
        json_pack("{s:I, s:f, s:I, s:f, s:f, s:f}", "step", (json_int_t)t->step, "lr", lr, "skipped",
                  (json_int_t)t->skipped, "seconds", now - t->started, "tokens_per_second",
                  seconds > 0 ? (double)t->tokens / seconds : 0.0, "data_wait_seconds", t->waited);
    if (line && !value->skipped) json_object_set_new(line, "gradient_norm", json_real(value->gradient_norm));
    for (size_t i = 0; i < t->settings.task_count; i++) {
        up_task_sums *s = &t->sums[i];
        if (!s->iterations) continue;
        double n = (double)s->iterations;
        json_t *entry =
            json_pack("{s:f, s:I}", "accuracy", s->accuracy / n, "iterations", (json_int_t)s->iterations);
        if (isfinite(s->loss)) json_object_set_new(entry, "loss", json_real(s->loss / n));
        json_object_set_new(tasks, t->settings.tasks[i].name, entry);
        t->latest[i] = *s;
        *s = (up_task_sums){0};
    }
    t->last_line = now;
    t->tokens = 0;
    t->waited = 0;
    if (!line || json_object_set_new(line, "tasks", tasks)) {
        json_decref(line);
        return up_fail(UP_ERR_MEMORY, "metrics", "no memory for a line");
    }
    up_status status = up_jsonl_append(&t->metrics, line);
    json_decref(line);
    return status;
}

static int asked_to_stop(const up_trainer *t) {
    return t->options.stop && *t->options.stop;
}

static up_status loop(up_trainer *t) {
    up_step_value value = {0};
    double lr = 0;
    while (t->step < t->settings.steps) {
        UP_TRY(one_step(t, &value, &lr));
        int last = t->step == t->settings.steps, stop = asked_to_stop(t);
        if (last || stop || t->step % t->settings.log_every == 0) UP_TRY(log_metrics(t, &value, lr));
        up_progress(t, &value, lr, last || stop);
        if (last || stop || t->step % t->settings.checkpoint_every == 0) UP_TRY(up_checkpoint_save(t));
        if (stop && !last)
            return up_fail(UP_ERR_INTERRUPTED, t->settings.run,
                           "stopped after step %lld of %lld; continue with --resume", (long long)t->step,
                           (long long)t->settings.steps);
    }
    return UP_OK;
}

up_status up_train(const char *config_path, const char *const *overrides, size_t count,
                   const up_train_options *options) {
    up_trainer *t = malloc(sizeof *t);
    char path[4096];
    if (!t) return up_fail(UP_ERR_MEMORY, "training", "%zu bytes wanted", sizeof *t);
    up_status status = up_trainer_open(config_path, overrides, count, options, t);
    if (status != UP_OK) {
        free(t);
        return status;
    }
    UP_GO(loop(t));
    snprintf(path, sizeof path, "%s/model.safetensors", t->settings.run);
    UP_GO(up_model_write(t->model, path));
done:
    up_trainer_close(t);
    free(t);
    return status;
}

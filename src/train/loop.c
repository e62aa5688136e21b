/* loop.c - training: take prefetched work, step; read what was measured; have it logged, validated and saved;
 * stop when asked to, when time is over, and after a failure, each with a checkpoint. */
#include "train/trainer.h"
#include "ref/given.h"
#include "ref/log.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The work of the next iteration, prefetched. */
static up_status next_work(up_trainer *t, up_work **out) {
    void *slot = NULL;
    up_status status = up_loader_next(t->loader, &slot, &t->waited);
    *out = slot;
    UP_TRY(up_bad_samples_note(t, *out));
    UP_TRY(status);
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
    up_log_line line = {.used = 0};
    if (t->value.loss_scale != 1) up_log_add(&line, ", loss scale now %g", t->value.loss_scale);
    up_log(UP_LOG_NOTICE, "step %lld: loss or gradient is not finite: step skipped, weights untouched%s",
           (long long)count, line.text);
    return UP_OK;
}

/* The step is whole: this is what a checkpoint will say, if the next one fails. */
static void mark_whole(up_trainer *t) {
    t->whole_iterations = t->iterations;
    t->whole_inputs = t->stepper.input_tokens;
    t->whole_sets = up_stepper_set_tokens(&t->stepper);
    t->whole_needed = up_stepper_needed(&t->stepper);
    memcpy(t->whole_taken, t->taken, t->settings.task_count * sizeof *t->taken);
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
    t->updating = 1;
    UP_TRY(up_stepper_finish(&t->stepper, t->lr));
    t->updating = 0;
    t->step++;
    mark_whole(t);
    UP_TRY(up_average_update(&t->average, t->step));
    return settle(t, t->step - 1); /* nothing waits for the step that has just been asked for */
}

/* Why the run ends before its last step, into `why`; 0: it goes on. With a limit of time, one more step and
 * the checkpoint behind it must fit. */
static int ends_early(const up_trainer *t, char *why, size_t room) {
    double limit = t->options.time_limit > 0 ? t->options.time_limit : t->settings.time_limit;
    *why = 0;
    if (up_asked_to_stop(&t->options)) return 1;
    if (!(limit > 0) || up_now() - t->opened + t->slowest_step + t->slowest_save < limit) return 0;
    snprintf(why, room, "time limit of %g s: ", limit);
    return 1;
}

static int due(int64_t step, int64_t every) {
    return every && step % every == 0;
}

/* Scores, and a checkpoint where it is time for one or they are the best so far: by one rank for all. */
static up_status keep(up_trainer *t, int validate, int checkpoint) {
    int better = 0;
    if (!up_leads(t)) return UP_OK;
    if (validate) UP_TRY(up_validation_run(t, &better));
    if (checkpoint || better) return up_checkpoint_begin(t, checkpoint, better);
    return up_checkpoint_poll(t); /* one that could not be written ends the run now, not at the next */
}

/* What follows a step: a line, scores, a checkpoint. */
static up_status finish_step(up_trainer *t, int early) {
    const up_settings *s = &t->settings;
    int last = t->step == s->steps;
    int line = last || due(t->step, s->log_every);
    int checkpoint = last || early || due(t->step, s->checkpoint_every) || due(t->step, s->keep_every);
    int validate = !early && up_validation_due(t);
    if (line || checkpoint || validate) {
        UP_TRY(settle(t, t->step));
        UP_TRY(up_ranks_gather(t));
    }
    if (last || early || due(t->step, s->check_ranks_every)) UP_TRY(up_ranks_check(t));
    if (line && up_leads(t)) UP_TRY(up_metrics_log(t));
    if (up_leads(t)) up_progress(t, line, last || early);
    return keep(t, validate, checkpoint);
}

static up_status wait_for_checkpoint(up_trainer *t) {
    return up_leads(t) ? up_checkpoint_wait(t) : UP_OK;
}

/* All ranks end now, each with this answer and rank 0 with a checkpoint. */
static up_status stop(up_trainer *t, const char *why, up_status answer) {
    char message[1024];
    snprintf(message, sizeof message, "%s", up_last_error());
    UP_TRY(wait_for_checkpoint(t));
    t->stopped = 1;
    if (answer != UP_OK) return up_fail_again(answer, message);
    return up_fail(UP_ERR_INTERRUPTED, t->settings.run,
                   "%sstopped after step %lld of %lld; continue with --resume", why, (long long)t->step,
                   (long long)t->settings.steps);
}

static up_status loop(up_trainer *t) {
    char why[64];
    mark_whole(t);
    if (t->step && up_validation_due(t)) UP_TRY(keep(t, 1, 0)); /* the run ended before it */
    while (t->step < t->settings.steps) {
        double begun = up_now();
        UP_TRY(one_step(t));
        t->slowest_step = fmax(t->slowest_step, up_now() - begun);
        int flags[] = {ends_early(t, why, sizeof why), t->bad.noted > 0};
        UP_TRY(up_ranks_agree(t, flags, 2));
        if (flags[1]) UP_TRY(up_bad_samples_take(t));
        up_status bad = up_bad_samples_check(t);
        int early = (flags[0] || bad != UP_OK) && t->step < t->settings.steps;
        UP_TRY(finish_step(t, early));
        if (early) return stop(t, why, bad);
    }
    return wait_for_checkpoint(t);
}

/* A run that fails still has its checkpoint: of the last whole step. The failure stays the answer. */
static up_status rescue(up_trainer *t, up_status failure) {
    char message[1024];
    snprintf(message, sizeof message, "%s", up_last_error());
    if (t->stopped) return failure;
    up_status status = up_checkpoint_wait(t);
    up_bad_samples_list(t); /* of the step that failed: perhaps they are why */
    if (t->updating || t->step == t->started_step) return up_fail_again(failure, message);
    t->iterations = t->whole_iterations;
    memcpy(t->taken, t->whole_taken, t->settings.task_count * sizeof *t->taken);
    status = settle(t, t->step);
    if (status == UP_OK) status = up_checkpoint_save(t);
    if (status != UP_OK)
        up_log(UP_LOG_NOTICE, "no checkpoint of step %lld: %s", (long long)t->step, up_last_error());
    else if (!t->options.quiet)
        up_log(UP_LOG_NOTICE, "%s: a checkpoint of step %lld is there", t->settings.run, (long long)t->step);
    return up_fail_again(failure, message);
}

static up_status write_model(up_trainer *t) {
    char path[4096];
    UP_TRY(up_settings_result_path(&t->settings, path, sizeof path));
    UP_TRY(up_model_write(t->model, path));
    if (!t->average.values) return UP_OK;
    snprintf(path, sizeof path, "%s/model-ema.safetensors", t->settings.run);
    UP_TRY(up_average_swap(&t->average));
    up_status status = up_model_write(t->model, path);
    UP_TRY(up_average_swap(&t->average));
    return status;
}

up_status up_train_run(const char *config_path, const char *const *overrides, size_t count,
                       const up_train_options *options, up_validator validator) {
    up_train_options known;
    if (!config_path) return up_fail(UP_ERR_ARGUMENT, "configuration", "its path is NULL");
    if (count && !overrides) return up_fail(UP_ERR_ARGUMENT, "overrides", "%zu of them and no list", count);
    UP_TRY(up_options_take("options", options, UP_BYTES_TO(up_train_options, cache), &known, sizeof known));
    up_trainer *t = malloc(sizeof *t);
    if (!t) return up_fail(UP_ERR_MEMORY, "training", "%zu bytes wanted", sizeof *t);
    up_status status = up_trainer_open(config_path, overrides, count, &known, t);
    if (status != UP_OK) {
        free(t);
        return status;
    }
    t->validator = validator;
    status = loop(t);
    if (status != UP_OK && up_leads(t)) UP_GO(rescue(t, status));
    UP_GO(status);
    if (!up_leads(t)) goto done;
    UP_GO(write_model(t));
    up_progress_summary(t);
done:
    if (status != UP_OK && !t->stopped) up_ranks_abandon(t);
    up_trainer_close(t);
    free(t);
    return status;
}

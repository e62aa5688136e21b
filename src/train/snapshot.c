/* snapshot.c - what a checkpoint's files hold, copied to the host at the end of a step, so that they can be
 * written while training goes on. */
#include "train/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>

const char *const up_checkpoint_files[UP_CHECKPOINT_FILES] = {"model.safetensors", "optimizer.safetensors",
                                                              "model-ema.safetensors"};

static int64_t count_learning(const up_trainer *t, size_t *tensors) {
    const up_params *p = up_model_params(t->model);
    int64_t numbers = 0;
    *tensors = 0;
    for (int i = 0; i < p->count; i++) {
        if (!up_learns(t->stepper.gradients, i)) continue;
        numbers += p->list[i].rows * p->list[i].cols;
        (*tensors)++;
    }
    return numbers;
}

/* m.<name> and v.<name> of every tensor that learns. */
static up_status take_moments(up_trainer *t, up_snapshot *s) {
    const up_params *p = up_model_params(t->model);
    size_t tensors;
    int64_t numbers = 2 * count_learning(t, &tensors);
    s->moments = calloc(2 * tensors, sizeof *s->moments);
    s->names = calloc(2 * tensors, sizeof *s->names);
    s->values = malloc((size_t)numbers * sizeof *s->values);
    if (!s->moments || !s->names || !s->values)
        return up_fail(UP_ERR_MEMORY, t->settings.run, "no memory for a copy of %lld moments",
                       (long long)numbers);
    float *to = s->values;
    for (int order = 1; order <= 2; order++)
        for (int i = 0; i < p->count; i++) {
            const up_param *q = &p->list[i];
            if (!up_learns(t->stepper.gradients, i)) continue;
            UP_TRY(t->backend->ops->download(t->backend, to,
                                             up_optimizer_moment(t->stepper.optimizer, order, i)));
            char *name = s->names[s->moment_count];
            snprintf(name, sizeof s->names[0], "%c.%s", order == 1 ? 'm' : 'v', q->name);
            s->moments[s->moment_count++] = (up_safetensor){.name = name,
                                                            .type = UP_ST_F32,
                                                            .ndim = 2,
                                                            .shape = {q->rows, q->cols},
                                                            .bytes = (size_t)(q->rows * q->cols) * sizeof *to,
                                                            .data = to};
            to += q->rows * q->cols;
        }
    return UP_OK;
}

up_status up_snapshot_take(up_trainer *t, int moments, up_snapshot *s) {
    *s = (up_snapshot){0};
    UP_TRY(up_weights_take(t->model, t->settings.run, &s->model));
    if (t->average.values) {
        UP_TRY(up_weights_take(t->model, t->settings.run, &s->average));
        up_average_put(&t->average, s->average);
    }
    return moments ? take_moments(t, s) : UP_OK;
}

void up_snapshot_free(up_snapshot *s) {
    up_weights_image_free(s->model);
    up_weights_image_free(s->average);
    free(s->moments);
    free(s->names);
    free(s->values);
    *s = (up_snapshot){0};
}

static up_status write_moments(const up_snapshot *s, const char *path) {
    up_safetensors_writer *writer = NULL;
    up_status status = UP_OK;
    UP_GO(up_safetensors_begin(path, NULL, 0, s->moments, s->moment_count, &writer));
    for (size_t i = 0; i < s->moment_count; i++)
        UP_GO(up_safetensors_put(writer, s->moments[i].data, s->moments[i].bytes));
    status = up_safetensors_commit(writer);
    writer = NULL;
done:
    up_safetensors_abort(writer);
    return status;
}

up_status up_snapshot_write(up_snapshot *s, const char *folder) {
    char path[UP_PATH_SIZE];
    UP_TRY(up_checkpoint_path(path, folder, up_checkpoint_files[UP_CHECKPOINT_MODEL]));
    UP_TRY(up_weights_put(s->model, path));
    UP_TRY(up_checkpoint_path(path, folder, up_checkpoint_files[UP_CHECKPOINT_OPTIMIZER]));
    UP_TRY(write_moments(s, path));
    if (!s->average) return UP_OK;
    UP_TRY(up_checkpoint_path(path, folder, up_checkpoint_files[UP_CHECKPOINT_AVERAGE]));
    return up_weights_put(s->average, path);
}

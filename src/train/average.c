/* average.c - an exponential moving average of the weights that learn (`ema`). It lies on the host and takes
 * the weights in every `ema_every` steps, by the decay of so many steps at once: so it needs no operation
 * and no memory of a backend, and at the default of 10 its pass over the weights is lost among the steps
 * between. In the first steps the decay is smaller, (1 + step) / (10 + step), so that the initial weights
 * are soon forgotten. */
#include "files/safetensors.h"
#include "train/checkpoint.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int64_t numbers_of(const up_average *a, int i) {
    const up_param *p = &up_model_params(a->model)->list[i];
    return p->rows * p->cols;
}

static float *values_of(const up_average *a, int i) {
    return a->values + up_model_params(a->model)->list[i].offset;
}

/* The average begins as the weights that are. */
static up_status begin(up_average *a) {
    up_backend *b = up_model_backend(a->model);
    for (int i = 0; i < up_model_params(a->model)->count; i++)
        if (up_learns(a->gradients, i))
            UP_TRY(b->ops->download(b, values_of(a, i), up_model_weight(a->model, i)));
    return UP_OK;
}

up_status up_average_open(const up_settings *settings, up_model *model, const up_gradients *gradients,
                          up_average *a) {
    *a = (up_average){
        .model = model, .gradients = gradients, .decay = settings->ema, .every = settings->ema_every};
    if (!settings->ema) return UP_OK;
    const up_params *params = up_model_params(model);
    int64_t most = 0;
    for (int i = 0; i < params->count; i++)
        if (numbers_of(a, i) > most) most = numbers_of(a, i);
    a->values = malloc((size_t)params->total * sizeof *a->values);
    a->room = malloc((size_t)most * sizeof *a->room);
    if (!a->values || !a->room)
        return up_fail(UP_ERR_MEMORY, "ema", "no memory for %lld weights", (long long)params->total);
    return begin(a);
}

void up_average_close(up_average *a) {
    free(a->values);
    free(a->room);
    *a = (up_average){0};
}

up_status up_average_update(up_average *a, int64_t step) {
    up_backend *b = a->model ? up_model_backend(a->model) : NULL;
    if (!a->values || step % a->every) return UP_OK;
    double decay = fmin(a->decay, (double)(1 + step) / (double)(10 + step));
    float share = (float)(1 - pow(decay, (double)a->every));
    for (int i = 0; i < up_model_params(a->model)->count; i++) {
        if (!up_learns(a->gradients, i)) continue;
        float *average = values_of(a, i);
        UP_TRY(b->ops->download(b, a->room, up_model_weight(a->model, i)));
        for (int64_t j = 0; j < numbers_of(a, i); j++) average[j] += share * (a->room[j] - average[j]);
    }
    return UP_OK;
}

up_status up_average_swap(up_average *a) {
    up_backend *b = a->model ? up_model_backend(a->model) : NULL;
    up_status status = UP_OK;
    if (!a->values) return UP_OK;
    for (int i = 0; i < up_model_params(a->model)->count; i++) {
        if (!up_learns(a->gradients, i)) continue;
        up_view weight = up_model_weight(a->model, i);
        UP_GO(b->ops->download(b, a->room, weight));
        UP_GO(b->ops->upload(b, weight, values_of(a, i)));
        memcpy(values_of(a, i), a->room, (size_t)numbers_of(a, i) * sizeof *a->room);
    }
done:
    up_model_changed(a->model);
    return status;
}

void up_average_put(const up_average *a, up_weights_image *image) {
    for (int i = 0; i < up_model_params(a->model)->count; i++)
        if (up_learns(a->gradients, i))
            memcpy(up_weights_taken(image, i), values_of(a, i), (size_t)numbers_of(a, i) * sizeof(float));
}

static up_status read_tensor(up_average *a, const up_safetensors *file, const char *path, int i) {
    const char *name = up_model_params(a->model)->list[i].name;
    const up_safetensor *tensor = up_safetensors_find(file, name);
    if (!tensor || tensor->count != numbers_of(a, i))
        return up_fail(UP_ERR_FORMAT, path, "tensor %s is missing or has another size", name);
    return up_safetensor_to_f32(tensor, values_of(a, i));
}

up_status up_average_read(up_average *a, const char *path, int *found) {
    up_safetensors *file;
    up_status status = UP_OK;
    *found = access(path, F_OK) == 0 || errno != ENOENT;
    if (!*found) return begin(a);
    UP_TRY(up_safetensors_open(path, &file));
    for (int i = 0; i < up_model_params(a->model)->count && status == UP_OK; i++)
        if (up_learns(a->gradients, i)) status = read_tensor(a, file, path, i);
    up_safetensors_close(file);
    return status;
}

/* settings.c - the schema of a training configuration, and what follows from it. */
#include "train/settings.h"
#include "tasks/source.h"
#include "tasks/tasks.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char *const switches[] = {"preset", "false", "true", NULL};
#define SWITCH(field) UP_CONFIG_AT(up_model_settings, field), .choices = switches, .fallback = "preset"
#define MODEL(field)  UP_CONFIG_AT(up_model_settings, field), .fallback = "0", .min = 0, .max = 1 << 24
static const up_config_row model_rows[] = {
    {"preset", UP_CONFIG_STRING, UP_CONFIG_AT(up_model_settings, preset), .fallback = "tiny",
     .help = "where it starts"},
    {"layers", UP_CONFIG_INT, MODEL(layers), .help = "0 = the preset's, as for all below"},
    {"width", UP_CONFIG_INT, MODEL(width), .help = "embedding dimension"},
    {"heads", UP_CONFIG_INT, MODEL(heads), .help = "attention heads"},
    {"ffn", UP_CONFIG_INT, MODEL(ffn), .help = "hidden width of the feed-forward network"},
    {"text_positions", UP_CONFIG_INT, MODEL(text_positions), .help = "longest text in tokens"},
    {"image_size", UP_CONFIG_INT, MODEL(image_size), .help = "pixels a side"},
    {"image_resize", UP_CONFIG_INT, MODEL(image_resize), .help = "short side before the crop"},
    {"video_resize", UP_CONFIG_INT, MODEL(video_resize), .help = "short side of frames before the crop"},
    {"patch", UP_CONFIG_INT, MODEL(patch), .help = "pixels a side of a patch"},
    {"frames", UP_CONFIG_INT, MODEL(frames), .help = "frames of a clip"},
    {"video_stride", UP_CONFIG_INT, MODEL(video_stride), .help = "every n-th frame is taken"},
    {"prompts", UP_CONFIG_INT, MODEL(prompts), .help = "prompt tokens a layer and side"},
    {"prompt_sides", UP_CONFIG_INT, UP_CONFIG_AT(up_model_settings, prompt_sides), .fallback = "0", .min = 0,
     .max = 2, .help = "2: inputs and targets have their own prompts, 1: one set for both"},
    {"layer_scale", UP_CONFIG_CHOICE, SWITCH(layer_scale), .help = "a learned factor per channel and branch"},
    {"shared_norm", UP_CONFIG_CHOICE, SWITCH(shared_norm),
     .help = "one embedding norm for text, pictures and video"},
    {"image_time", UP_CONFIG_CHOICE, SWITCH(image_time), .help = "a picture is a clip of one frame"},
    {"drop_path", UP_CONFIG_REAL, UP_CONFIG_AT(up_model_settings, drop_path), .fallback = "-1", .min = -1,
     .max = 0.99, .help = "probability; -1 = the preset's"},
    {"patch_position_init", UP_CONFIG_REAL, UP_CONFIG_AT(up_model_settings, patch_position_init),
     .fallback = "-1", .min = -1, .max = 10,
     .help = "standard deviation of patch positions at the start; -1 = the preset's"},
    {"branch_init", UP_CONFIG_REAL, UP_CONFIG_AT(up_model_settings, branch_init), .fallback = "-1", .min = -1,
     .max = 10, .help = "factor on the last matrix of each residual branch at the start; -1 = the preset's"},
    {"temperature", UP_CONFIG_REAL, UP_CONFIG_AT(up_model_settings, temperature), .fallback = "-1", .min = -1,
     .max = 10, .help = "tau at the start; -1 = the preset's"},
    {.key = NULL},
};
static const up_config_schema model_schema = {model_rows, sizeof(up_model_settings)};

#define OPTIMIZER(field) UP_CONFIG_AT(up_optimizer_settings, field)
static const up_config_row optimizer_rows[] = {
    /* defaults: paper section 4.2 */
    {"lr", UP_CONFIG_REAL, OPTIMIZER(lr), .fallback = "2e-4", .min = 0, .max = 10,
     .help = "peak learning rate"},
    {"min_lr", UP_CONFIG_REAL, OPTIMIZER(min_lr), .fallback = "0", .min = 0, .max = 10,
     .help = "at the last step"},
    {"layer_decay", UP_CONFIG_REAL, OPTIMIZER(layer_decay), .fallback = "1", .min = 1e-6, .max = 1,
     .help =
         "layer-wise decay d of the rate: layer l of L learns at d^(L - l) of it, embeddings at d^(L + 1)"},
    {"warmup", UP_CONFIG_INT, OPTIMIZER(warmup), .fallback = "0", .min = 0, .max = 1e12,
     .help = "steps of linear rise"},
    {"beta1", UP_CONFIG_REAL, OPTIMIZER(beta1), .fallback = "0.9", .min = 0, .max = 0.999999,
     .help = "AdamW"},
    {"beta2", UP_CONFIG_REAL, OPTIMIZER(beta2), .fallback = "0.999", .min = 0, .max = 0.999999,
     .help = "AdamW"},
    {"eps", UP_CONFIG_REAL, OPTIMIZER(eps), .fallback = "1e-8", .min = 1e-20, .max = 1, .help = "AdamW"},
    {"decay", UP_CONFIG_REAL, OPTIMIZER(decay), .fallback = "0.05", .min = 0, .max = 10,
     .help = "weight decay"},
    {"clip", UP_CONFIG_REAL, OPTIMIZER(clip), .fallback = "5.0", .min = 0, .max = 1e9,
     .help = "largest global gradient norm; 0: no clipping"},
    {"loss_scale", UP_CONFIG_REAL, OPTIMIZER(loss_scale), .fallback = "0", .min = 0, .max = 0x1p100,
     .help = "at the start; halved when a gradient overflows. 0: 65536 at f16, else no scale at all"},
    {"scale_steps", UP_CONFIG_INT, OPTIMIZER(scale_steps), .fallback = "200", .min = 0, .max = 1e9,
     .help = "the loss scale is doubled after so many good steps; 0: it stays as it is"},
    {"min_scale", UP_CONFIG_REAL, OPTIMIZER(min_scale), .fallback = "2048", .min = 0x1p-100, .max = 0x1p100,
     .help = "the loss scale never falls below"},
    {.key = NULL},
};
static const up_config_schema optimizer_schema = {optimizer_rows, sizeof(up_optimizer_settings)};

const up_precision up_precisions[] = {{"f32", UP_F32}, {"bf16", UP_BF16}, {"f16", UP_F16}, {NULL, UP_F32}};

const up_learn_group up_learn_groups[] = {
    {"all", 0},
    {"spe", 1u << UP_GROUP_SPE},
    {"norm", 1u << UP_GROUP_NORM},
    {"prompt", 1u << UP_GROUP_PROMPT},
    {"head", 1u << UP_GROUP_LINEAR_HEAD},
    {"embedding", 1u << UP_GROUP_EMBEDDING},
    {"encoder", 1u << UP_GROUP_ENCODER},
    {"output", 1u << UP_GROUP_OUTPUT},
    {"temperature", 1u << UP_GROUP_TEMPERATURE},
    {NULL, 0},
};

const char *const up_comm_kinds[] = {"auto", "none", "mpi", NULL};
static const char *const isolations[] = {"auto", "on", "off", NULL}; /* up_isolate */
static const char *const tunings[] = {"all", "prompts", "head", NULL};

/* The paper's Table 9. */
enum {
    TUNED_GROUPS = 1 << UP_GROUP_SPE | 1 << UP_GROUP_NORM | 1 << UP_GROUP_PROMPT | 1 << UP_GROUP_LINEAR_HEAD
};
enum { TUNED_PROMPTS = 10 }; /* a layer and side (appendix C) */

#define TOP(field) UP_CONFIG_AT(up_settings, field)
static const up_config_row top_rows[] = {
    {"name", UP_CONFIG_STRING, TOP(name), .fallback = "run", .help = "of the experiment"},
    {"run", UP_CONFIG_STRING, TOP(run), .required = true,
     .help = "folder of checkpoints, metrics and the model"},
    {"seed", UP_CONFIG_INT, TOP(seed), .fallback = "1", .min = 0, .max = 9e15,
     .help = "of everything random"},
    {"steps", UP_CONFIG_INT, TOP(steps), .required = true, .min = 1, .max = 0x1p24,
     .help = "optimiser steps; a backend counts them in f32"},
    {"accumulate", UP_CONFIG_INT, TOP(accumulate), .fallback = "1", .min = 1, .max = 4096,
     .help = "iterations (a task each) a step"},
    {"precision", UP_CONFIG_CHOICE, TOP(precision), .choices = &up_precisions[0].name,
     .choice_stride = sizeof(up_precision), .fallback = "f32", .help = "of the activations"},
    {"init_from", UP_CONFIG_STRING, TOP(init_from),
     .help = "model to begin with: a file, or the folder of a run or checkpoint; default: fresh weights"},
    {"tuned", UP_CONFIG_STRING, TOP(tuned), .help = "file of a tuned task over `init_from`, to begin with"},
    {"tune", UP_CONFIG_CHOICE, TOP(tune), .choices = tunings, .fallback = "all",
     .help = "all: a model of its own; prompts, head: a tuned task that shares the weights of `init_from`"},
    {"learn", UP_CONFIG_CHOICE, UP_CONFIG_LIST(up_settings, learn, learn_count),
     .choices = &up_learn_groups[0].name, .choice_stride = sizeof(up_learn_group), .fallback = "[all]",
     .at_least = 1, .help = "groups of parameters that learn"},
    {"vocabulary", UP_CONFIG_CHOICE, TOP(vocabulary), .choices = up_vocabulary_names, .fallback = "auto",
     .help =
         "what language tasks compare with: the ids of their texts (corpus), or all; auto: all where data is "
         "too large to be read at the start"},
    {"set_memory", UP_CONFIG_INT, TOP(set_memory), .fallback = "512", .min = 0, .max = 1e9,
     .help = "MiB of activations up to which a target set is kept whole; larger ones go in chunks"},
    {"set_tokens", UP_CONFIG_INT, TOP(set_tokens), .fallback = "0", .min = 0, .max = 1e9,
     .help = "tokens of a chunk; 0: 1536"},
    {"mixed", UP_CONFIG_BOOL, TOP(mixed), .fallback = "true",
     .help = "each iteration of each rank draws a task, as in the paper; false: each step draws one for all"},
    {"comm", UP_CONFIG_CHOICE, TOP(comm), .choices = up_comm_kinds, .fallback = "auto",
     .help = "between processes; auto: mpi where mpirun or srun has started several"},
    {"comm_deadline", UP_CONFIG_REAL, TOP(comm_deadline), .fallback = "600", .min = 1, .max = 1e6,
     .help = "seconds after which a rank that is missing ends the job; longer than a checkpoint takes"},
    {"check_ranks_every", UP_CONFIG_INT, TOP(check_ranks_every), .fallback = "1000", .min = 0, .max = 1e9,
     .help = "steps after which all ranks must have the same weights; 0: not checked"},
    {"log_every", UP_CONFIG_INT, TOP(log_every), .fallback = "10", .min = 1, .max = 1e9,
     .help = "steps a metrics line"},
    {"checkpoint_every", UP_CONFIG_INT, TOP(checkpoint_every), .fallback = "1000", .min = 1, .max = 1e12,
     .help = "steps between checkpoints"},
    {"keep_last", UP_CONFIG_INT, TOP(keep_last), .fallback = "2", .min = 1, .max = 1000,
     .help = "newest checkpoints kept"},
    {"keep_every", UP_CONFIG_INT, TOP(keep_every), .fallback = "0", .min = 0, .max = 1e12,
     .help = "checkpoints of every so many steps are kept for good; 0: none"},
    {"time_limit", UP_CONFIG_REAL, TOP(time_limit), .fallback = "0", .min = 0, .max = 1e9,
     .help = "seconds within which the run ends with a checkpoint; 0: none"},
    {"peak", UP_CONFIG_REAL, TOP(peak), .fallback = "0", .min = 0, .max = 1e15,
     .help = "GFLOP/s that the processors of all ranks reach at most, as bench_peak prints it, for "
             "`peak_share` of the metrics; 0: not known"},
    {"ema", UP_CONFIG_REAL, TOP(ema), .fallback = "0", .min = 0, .max = 0.9999999,
     .help = "decay a step of an average of the weights, e.g. 0.9999; 0: none"},
    {"ema_every", UP_CONFIG_INT, TOP(ema_every), .fallback = "10", .min = 1, .max = 1e6,
     .help = "steps between two updates of that average"},
    {"validate_every", UP_CONFIG_INT, TOP(validate_every), .fallback = "0", .min = 0, .max = 1e12,
     .help = "steps between validations; 0: none"},
    {"validate", UP_CONFIG_STRING, UP_CONFIG_LIST(up_settings, validate, validate_count), .fallback = "[]",
     .help = "names of the evaluations that validate; []: all of them"},
    {"best", UP_CONFIG_STRING, TOP(best),
     .help = "EVALUATION/METRIC whose best model is kept as best.safetensors; default: none"},
    {"events", UP_CONFIG_BOOL, TOP(events), .fallback = "true", .help = "write TensorBoard's event files"},
    {"workers", UP_CONFIG_INT, TOP(workers), .fallback = "1", .min = 1, .max = 256, .help = "loader threads"},
    {"max_pixels", UP_CONFIG_INT, TOP(max_pixels), .fallback = "0", .min = 0, .max = 1e15,
     .help = "a larger picture or frame is an error; 0: 178,956,970"},
    {"isolate", UP_CONFIG_CHOICE, TOP(isolate), .choices = isolations, .fallback = "auto",
     .help = "training decodes pictures and clips in processes of their own; auto: where their program is"},
    {"decode_seconds", UP_CONFIG_REAL, TOP(decode_seconds), .fallback = "60", .min = 0.1, .max = 1e6,
     .help = "processor time of a sample there, after which it counts as one that cannot be read"},
    {"bad_samples", UP_CONFIG_REAL, TOP(bad_samples), .fallback = "0.01", .min = 0, .max = 1,
     .help = "samples that cannot be read are replaced by others; a larger share of a task's ends the run"},
    {"model", UP_CONFIG_MAP, TOP(model), .map = &model_schema, .help = "architecture"},
    {"optimizer", UP_CONFIG_MAP, TOP(optimizer), .map = &optimizer_schema, .help = "AdamW and schedule"},
    {"tasks", UP_CONFIG_MAP, UP_CONFIG_LIST(up_settings, tasks, task_count), .map = &up_task_schema,
     .required = true, .at_least = 1, .at_most = 256, .help = "what is trained"},
    {"evaluations", UP_CONFIG_MAP, UP_CONFIG_LIST(up_settings, evaluations, evaluation_count),
     .map = &up_task_schema, .help = "what `eval` measures"},
    {.key = NULL},
};
const up_config_schema up_settings_schema = {top_rows, sizeof(up_settings)};

static up_status check_tuning(const char *path, const up_settings *s) {
    unsigned groups = up_settings_learn(s);
    if (!s->init_from && s->tuned) return up_fail(UP_ERR_ARGUMENT, path, "tuned: wants init_from, its model");
    if (s->tune == UP_TUNE_ALL) return UP_OK;
    if (!s->init_from)
        return up_fail(UP_ERR_ARGUMENT, path, "tune: %s wants init_from, the model to tune",
                       tunings[s->tune]);
    if (groups & ~(TUNED_GROUPS | 1u << UP_GROUP_TEMPERATURE))
        return up_fail(UP_ERR_ARGUMENT, path,
                       "tune: %s shares all but spe, norm, prompt, head and temperature: "
                       "no other group can learn",
                       tunings[s->tune]);
    return UP_OK;
}

up_status up_settings_read(const char *path, const char *const *overrides, size_t count, up_settings *s) {
    up_status status = UP_OK;
    double weight = 0;
    UP_GO(up_config_read(path, &up_settings_schema, overrides, count, s));
    for (size_t i = 0; i < s->task_count; i++) {
        UP_GO(up_task_settings_resolve(&s->tasks[i], path));
        UP_GO(up_task_settings_fill(&s->tasks[i]));
        weight += s->tasks[i].weight;
        if (s->tasks[i].template_count)
            UP_GO(up_fail(UP_ERR_ARGUMENT, path,
                          "task %s: templates are averaged in evaluations; training takes "
                          "one template",
                          s->tasks[i].name));
    }
    UP_GO(check_tuning(path, s));
    for (size_t i = 0; i < s->evaluation_count; i++) {
        UP_GO(up_task_settings_resolve(&s->evaluations[i], path));
        UP_GO(up_task_settings_fill(&s->evaluations[i]));
    }
    if (!(weight > 0)) UP_GO(up_fail(UP_ERR_ARGUMENT, path, "the weights of the tasks add up to 0"));
done:
    if (status != UP_OK) up_settings_free(s);
    return status;
}

void up_settings_free(up_settings *s) {
    up_config_free(&up_settings_schema, s);
}

/* A field of the model by the row of its name, unless that says "as the preset has it". */
static void override(const up_model_settings *m, const up_config_row *row, up_config *c) {
    const up_config_field *field = up_config_field_named(row->key);
    const void *from = (const char *)m + row->offset;
    void *to = field ? (char *)c + field->offset : NULL;
    if (!field) return;
    if (row->type == UP_CONFIG_INT && *(const int64_t *)from) *(int *)to = (int)*(const int64_t *)from;
    if (row->type == UP_CONFIG_CHOICE && *(const int *)from) *(int *)to = *(const int *)from == UP_ON;
    if (row->type == UP_CONFIG_REAL && *(const double *)from >= 0) *(double *)to = *(const double *)from;
}

/* What the settings say of the model beside the preset. */
static void override_all(const up_settings *s, up_config *c) {
    const up_model_settings *m = &s->model;
    for (const up_config_row *row = model_rows; row->key; row++) override(m, row, c);
    if (m->temperature >= 0) c->initial_temperature = m->temperature;
    if (m->image_size && !m->image_resize) c->image_resize = c->image_size;
    if (m->image_size && !m->video_resize) c->video_resize = c->image_size;
}

/* One temperature for each kind that is trained. */
static up_status add_temperatures(const up_settings *s, up_config *c) {
    for (size_t i = 0; i < s->task_count; i++) {
        const char *kind = up_tasks_table[s->tasks[i].kind].name;
        if (up_config_task(c, kind) >= 0) continue;
        if (c->tasks == UP_MAX_TASKS)
            return up_fail(UP_ERR_ARGUMENT, "tasks", "more than %d kinds", UP_MAX_TASKS);
        snprintf(c->task_names[c->tasks++], UP_NAME_SIZE, "%s", kind);
    }
    return UP_OK;
}

up_status up_settings_model(const up_settings *s, up_config *c) {
    UP_TRY(up_config_preset(s->model.preset, c));
    override_all(s, c);
    c->tasks = 0;
    UP_TRY(add_temperatures(s, c));
    return up_config_check(c);
}

/* Weights of one shape are no start for another; a model of its own has its table of positions resized
 * (start.c). */
static up_status check_shapes(const up_settings *s, const up_config *from, const up_config *c) {
    static const char *const free_fields[] = {"prompts",      "prompt_sides", "drop_path",
                                              "image_resize", "video_resize", "video_stride"};
    for (const up_config_field *f = up_config_fields; f->name; f++) {
        int free_field = s->tune == UP_TUNE_ALL && !strcmp(f->name, "image_size");
        for (size_t i = 0; i < sizeof free_fields / sizeof *free_fields; i++)
            free_field |= !strcmp(f->name, free_fields[i]);
        const void *a = (const char *)from + f->offset, *b = (const char *)c + f->offset;
        if (free_field || f->type != UP_FIELD_WHOLE || *(const int *)a == *(const int *)b) continue;
        return up_fail(UP_ERR_ARGUMENT, s->init_from, "its %s is %d, the configuration's %d", f->name,
                       *(const int *)a, *(const int *)b);
    }
    return UP_OK;
}

up_status up_settings_model_over(const up_settings *s, const up_config *from, up_config *c) {
    *c = *from;
    override_all(s, c);
    UP_TRY(check_shapes(s, from, c));
    if (s->tune == UP_TUNE_ALL) {
        UP_TRY(add_temperatures(s, c));
        return up_config_check(c);
    }
    up_config own = *c;
    *c = *from; /* an overlay has the configuration of what it shares */
    c->prompts = own.prompts;
    c->prompt_sides = own.prompt_sides;
    if (s->tune == UP_TUNE_PROMPTS && !c->prompts) c->prompts = TUNED_PROMPTS;
    return up_config_check(c);
}

static up_status put_path(const char *folder, const char *name, char *path, size_t size) {
    int length = snprintf(path, size, "%s%s%s", folder, *name ? "/" : "", name);
    return length >= 0 && (size_t)length < size ? UP_OK : up_fail(UP_ERR_ARGUMENT, folder, "path too long");
}

up_status up_settings_init_path(const up_settings *s, char *path, size_t size) {
    struct stat about;
    int folder = !stat(s->init_from, &about) && S_ISDIR(about.st_mode);
    return put_path(s->init_from, folder ? "model.safetensors" : "", path, size);
}

up_status up_settings_result_path(const up_settings *s, char *path, size_t size) {
    return put_path(s->run, s->tune == UP_TUNE_ALL ? "model.safetensors" : "tuned.safetensors", path, size);
}

up_dtype up_settings_dtype(const up_settings *s) {
    return up_precisions[s->precision].dtype;
}

unsigned up_settings_learn(const up_settings *s) {
    unsigned groups = 0;
    unsigned all = s->tune == UP_TUNE_PROMPTS ? TUNED_GROUPS
                   : s->tune == UP_TUNE_HEAD  ? 1u << UP_GROUP_LINEAR_HEAD
                                              : 0;
    for (size_t i = 0; i < s->learn_count; i++) {
        if (!up_learn_groups[s->learn[i]].bits) return all;
        groups |= up_learn_groups[s->learn[i]].bits;
    }
    return groups;
}

up_adamw up_settings_adamw(const up_settings *s) {
    const up_optimizer_settings *o = &s->optimizer;
    up_adamw a = {.beta1 = o->beta1,
                  .beta2 = o->beta2,
                  .eps = o->eps,
                  .decay = o->decay,
                  .max_norm = o->clip,
                  .layer_decay = o->layer_decay};
    a.loss_scale = o->loss_scale;
    if (!a.loss_scale && up_settings_dtype(s) == UP_F16) a.loss_scale = 65536;
    if (a.loss_scale) a.good_steps = (int)o->scale_steps;
    a.min_scale =
        o->min_scale < a.loss_scale ? o->min_scale : a.loss_scale; /* an overflow must not raise it */
    return a;
}

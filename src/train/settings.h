/* settings.h - a training configuration: the struct behind a file of configs/, and its schema.
 * docs/file-formats.md describes the keys; `help` texts of the schema are their source. */
#ifndef UP_TRAIN_SETTINGS_H
#define UP_TRAIN_SETTINGS_H

#include "tasks/settings.h"
#include "uniperceiver/model.h"
#include "uniperceiver/optimizer.h"
#include "uniperceiver/train.h"

#include <stdbool.h>

/* What a run makes of the model that it begins with (paper section 3.3). */
typedef enum up_tune {
    UP_TUNE_ALL,     /* a model of its own: fine-tuning; also the run that begins with fresh weights */
    UP_TUNE_PROMPTS, /* an overlay, of which the four groups of Table 9 learn */
    UP_TUNE_HEAD     /* an overlay, of which the linear head learns */
} up_tune;

/* Where training decodes pictures and clips: in processes of their own, or in its own. */
typedef enum up_isolate { UP_ISOLATE_AUTO, UP_ISOLATE_ON, UP_ISOLATE_OFF } up_isolate;

typedef enum up_switch { UP_AS_PRESET, UP_OFF, UP_ON } up_switch;

typedef struct up_model_settings {
    char *preset;
    int64_t layers, width, heads, ffn, text_positions, image_size, patch, frames, video_stride;
    int64_t image_resize, video_resize;                 /* 0 = the preset's, here and above */
    int64_t prompts, prompt_sides;                      /* 0 = the preset's */
    int layer_scale, shared_norm, image_time;           /* up_switch */
    double drop_path, temperature, patch_position_init; /* < 0 = the preset's, here and below */
    double branch_init;
} up_model_settings;

typedef struct up_optimizer_settings {
    double lr, beta1, beta2, eps, decay, clip, min_lr;
    double layer_decay;
    int64_t warmup;
    double loss_scale, min_scale; /* loss_scale 0: 65536 at f16, else none */
    int64_t scale_steps;
} up_optimizer_settings;

typedef struct up_settings {
    char *name, *run; /* run: folder of checkpoints and metrics */
    int64_t seed, steps, accumulate;
    int precision;      /* index into up_precisions */
    int vocabulary;     /* an up_vocabulary_choice */
    int64_t set_tokens; /* of a chunk of a target set; 0: target_set.h's default */
    int64_t set_memory; /* MiB; larger sets go in chunks */
    char *init_from;    /* file or folder of the model to begin with; NULL: fresh weights */
    char *tuned;        /* file of a tuned task over it, to begin with; NULL: none */
    int tune;           /* up_tune */
    int *learn;         /* indices into up_learn_groups */
    size_t learn_count;
    int comm; /* index into up_comm_kinds */
    double comm_deadline;
    int64_t check_ranks_every; /* 0: never */
    bool mixed;                /* each iteration of each rank draws a task; else each step */
    int64_t log_every, checkpoint_every, keep_last, keep_every, workers, max_pixels;
    int isolate;           /* up_isolate */
    double decode_seconds; /* of processor time, of a sample that is isolated */
    double bad_samples;    /* largest share of a task's samples that cannot be read */
    double time_limit;     /* seconds; 0: none */
    double peak;           /* GFLOP/s of what all ranks run on; 0: not known */
    double ema;            /* decay a step of the weights' average; 0: none */
    int64_t ema_every;     /* steps */
    int64_t validate_every;
    char **validate; /* names of evaluations; none: all */
    size_t validate_count;
    char *best; /* "EVALUATION/METRIC"; NULL: none */
    bool events;
    up_model_settings model;
    up_optimizer_settings optimizer;
    up_task_settings *tasks, *evaluations;
    size_t task_count, evaluation_count;
} up_settings;

extern const up_config_schema up_settings_schema;

extern const char *const up_comm_kinds[]; /* as up_comm_open has them, ended by NULL */

/* Element types of the activations, by the names of `precision`; ended by a row without a name. */
typedef struct up_precision {
    const char *name;
    up_dtype dtype;
} up_precision;
extern const up_precision up_precisions[];

/* Names of parameter groups in `learn`; bits 0 of "all" are what up_gradients_create takes for everything. */
typedef struct up_learn_group {
    const char *name;
    unsigned bits;
} up_learn_group;
extern const up_learn_group up_learn_groups[];

/* Read and check; fills what one key implies of another. Free with up_settings_free. */
up_status up_settings_read(const char *path, const char *const *overrides, size_t count, up_settings *out);
void up_settings_free(up_settings *settings);

/* The model that the settings describe: preset, overrides, one temperature for each kind of task that is
 * trained. */
up_status up_settings_model(const up_settings *settings, up_config *out);
/* The same for a run that begins with a model: its own configuration, with what a run may change of it. A
 * linear head, which depends on the samples, is left to the caller. */
up_status up_settings_model_over(const up_settings *settings, const up_config *from, up_config *out);
/* Where init_from's weights are: the file itself, or model.safetensors of the folder (a run, a checkpoint).
 */
up_status up_settings_init_path(const up_settings *settings, char *path, size_t size);
/* The file that a run ends with, in its folder. */
up_status up_settings_result_path(const up_settings *settings, char *path, size_t size);
/* What follows for the step: the activations' type, the groups that learn (up_gradients_create), the
 * optimiser with its loss scale. */
up_dtype up_settings_dtype(const up_settings *settings);
unsigned up_settings_learn(const up_settings *settings);
up_adamw up_settings_adamw(const up_settings *settings);

/* 1: a signal handler, or another thread, wants training or evaluation to end. */
static inline int up_asked_to_stop(const up_train_options *options) {
    return options->stop && __atomic_load_n(options->stop, __ATOMIC_RELAXED);
}

#endif

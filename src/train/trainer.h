/* trainer.h - the parts of a training run and what each file of src/train does with them:
 * trainer.c opens and closes, order.c says which task and which samples an iteration has, loop.c steps,
 * checkpoint.c saves and restores, progress.c tells. */
#ifndef UP_TRAIN_TRAINER_H
#define UP_TRAIN_TRAINER_H

#include "data/loader.h"
#include "files/clock.h"
#include "files/jsonl.h"
#include "tasks/source.h"
#include "train/settings.h"
#include "uniperceiver/comm.h"
#include "uniperceiver/run.h"
#include "uniperceiver/train.h"

/* What iteration i works on: fixed by the seed before training starts. */
typedef struct up_order_entry {
    int32_t source;
    int64_t first; /* samples of this source before this iteration */
} up_order_entry;

/* Sums since the last metrics line, one a task. */
typedef struct up_task_sums {
    double loss, accuracy;
    int64_t iterations;
} up_task_sums;

typedef struct up_trainer {
    up_settings settings;
    up_train_options options;
    up_config config;
    up_backend *backend;
    up_comm *comm;
    up_model *model;
    up_run *run;
    up_world world;
    up_source *sources;    /* [settings.task_count] */
    up_order_entry *order; /* [steps * accumulate] */
    up_loader *loader;
    up_work *work; /* [slots] */
    int slots;
    up_jsonl metrics;
    int metrics_open;

    int64_t step;         /* optimiser steps done, skipped ones included */
    int64_t skipped;      /* of those, not finite */
    up_task_sums *sums;   /* [settings.task_count] */
    up_task_sums *latest; /* [settings.task_count] of the last metrics line, for the progress line */
    int64_t tokens;       /* since the last metrics line */
    int64_t all_tokens;   /* since the start of this process */
    int folder;           /* descriptor that holds the lock of the run's folder; 0 = none */
    double started, last_line, waited;
    int64_t started_step;
} up_trainer;

up_status up_trainer_open(const char *config_path, const char *const *overrides, size_t count,
                          const up_train_options *options, up_trainer *t);
void up_trainer_close(up_trainer *t);

/* The order of the whole run: tasks drawn by weight, each with a running count of its samples. */
up_status up_order_make(const up_settings *settings, up_order_entry **out);
/* The sample-th sample of a source, counted over all epochs: a shuffled row. */
size_t up_order_row(uint64_t seed, int source, size_t rows, int64_t sample);

/* Linear warm-up, then cosine to min_lr; step counts from 0. */
double up_learning_rate(const up_optimizer_settings *optimizer, int64_t step, int64_t steps);

/* Save into <run>/checkpoint-NNNNNNNN (aside, synced, renamed), keep the newest `settings.keep`. */
up_status up_checkpoint_save(up_trainer *t);
/* Restore the newest checkpoint that is whole; *found 0 when there is none. A broken one is said on stderr
 * and passed over. */
up_status up_checkpoint_load(up_trainer *t, int *found);
/* A fresh run must not be mixed with an older one: an error when the folder holds checkpoints. */
up_status up_checkpoint_refuse_existing(const up_trainer *t);

void up_progress(up_trainer *t, const up_step_value *step, double lr, int last);

#endif

/* trainer.h - the parts of a training run and what each file of src/train does with them: trainer.c opens and
 * closes, order.c says which task and which samples an iteration has, step.c steps, loop.c repeats, ranks.c
 * keeps several processes together, metrics.c measures, validate.c asks for scores, start.c begins with a
 * model, checkpoint*.c (checkpoint.h) save and restore with state.c and
 * changes.c, bad_samples.c counts what could not be read, progress.c tells. */
#ifndef UP_TRAIN_TRAINER_H
#define UP_TRAIN_TRAINER_H

#include "data/loader.h"
#include "files/clock.h"
#include "files/events.h"
#include "files/jsonl.h"
#include "files/weights.h"
#include "tasks/source.h"
#include "train/settings.h"
#include "train/step.h"
#include "uniperceiver/comm.h"
#include "uniperceiver/train.h"

/* What an iteration works on: fixed by the seed before training starts. */
typedef struct up_order_entry {
    int32_t source;
    int64_t first; /* samples of this source before this iteration */
} up_order_entry;

/* Iterations are counted over all ranks: from `first` on, which step `step` begins with, rank r of each round
 * has the r-th. */
typedef struct up_rounds {
    int64_t first, step;
    int rank, ranks;
} up_rounds;

/* Sums since the last metrics line, one a task. */
typedef struct up_task_sums {
    double loss, accuracy;
    int64_t iterations;
} up_task_sums;

/* Mean losses of a task's first and latest metrics line, for the end. */
typedef struct up_task_losses {
    double first, last;
    int known; /* 1: there was a line with this task */
} up_task_losses;

/* What this process and its ranks have done until the last metrics line. */
typedef struct up_done {
    double tokens, needed, waited; /* encoded; FLOP (up_stepper_needed); seconds for data */
} up_done;

/* An exponential moving average of what learns (average.c). */
typedef struct up_average {
    up_model *model; /* borrowed, as the gradients */
    const up_gradients *gradients;
    float *values, *room; /* values [params.total]; NULL: no average is kept */
    double decay;
    int64_t every;
} up_average;

/* A checkpoint that is being written (checkpoint_save.c). */
typedef struct up_save up_save;

/* The loss of an iteration on its way to the host. */
typedef struct up_loss_pending {
    up_loss_read *read;
    int32_t source; /* -1: the iteration had nothing to predict */
} up_loss_pending;

/* Samples that could not be read (bad_samples.c). */
typedef struct up_bad_event up_bad_event;
typedef struct up_bad_samples {
    int64_t *count;                 /* [settings.task_count] in the whole run; a checkpoint holds it */
    int64_t *before, *taken_before; /* [settings.task_count] when this process began */
    up_bad_event *events;           /* [noted] of the step at hand, of this rank */
    int noted, capacity;
    void *listed; /* which are in the list */
    up_jsonl list;
    int opened; /* 1: the list is */
    int told;   /* lines on stderr */
} up_bad_samples;

typedef struct up_trainer up_trainer;

/* What measures the evaluations of `validate` on the model as it is: *scores becomes {evaluation: {metric:
 * value}}. src/eval gives it; this folder knows no metric. */
typedef up_status (*up_validator)(up_trainer *t, json_t **scores);

struct up_trainer {
    up_settings settings;
    up_train_options options;
    up_config config;
    up_backend *backend;
    up_comm *comm;
    up_model *start; /* what the run begins with, until it has begun; an overlay on `base`, or NULL */
    up_model *base;  /* under `model`, where that is an overlay; else NULL */
    up_model *model; /* what learns */
    up_stepper stepper;
    up_world world;
    up_source *sources;    /* [settings.task_count] */
    up_rounds rounds;      /* since this process began */
    up_order_entry *order; /* of this rank, to the end */
    up_loader *loader;
    up_work *work; /* [slots] */
    int slots;
    up_jsonl metrics;
    int metrics_open;
    up_events events;
    up_validator validator;
    up_average average;
    up_save *save; /* NULL: none is being written */

    /* what a checkpoint holds beside weights and moments */
    int64_t step;           /* optimiser steps done, skipped ones included */
    int64_t skipped;        /* of those that were settled, not finite */
    int64_t iterations;     /* done, by all ranks together */
    int64_t *taken;         /* [settings.task_count] samples that each source has given */
    up_task_sums *sums;     /* [settings.task_count] */
    up_task_losses *losses; /* [settings.task_count] */
    up_bad_samples bad;
    int64_t validated; /* step of the latest validation; 0: none */
    int64_t best_step; /* 0: none, */
    double best;       /* the score of `best` then */

    /* where the latest whole step began the next one: what is saved when a step fails */
    int64_t whole_iterations;
    int64_t *whole_taken;             /* [settings.task_count] */
    int64_t whole_inputs, whole_sets; /* tokens encoded by then */
    double whole_needed;
    int updating; /* 1: AdamW is at work, and the weights are of no step */
    int stopped;  /* 1: all ranks end at the same step, with a checkpoint */

    /* what the device measured is read one step later, or before it is told (loop.c) */
    int64_t settled;          /* steps whose losses and norm were read */
    up_loss_pending *pending; /* [2, accumulate]: of even steps and of odd ones */
    up_step_value value;      /* of step `settled` */
    double lr;                /* of the latest step */

    up_task_sums *latest; /* [settings.task_count] of the last metrics line, for the progress line */
    double *temperatures; /* [settings.task_count] of the last metrics line that had the task */
    int64_t line_inputs, line_sets; /* tokens encoded until the last metrics line */
    double line_needed;
    up_done done;
    int folder; /* descriptor that holds the lock of the run's folder; 0 = none */
    double opened, started, last_line, waited;
    double carried;                    /* seconds of the line at hand that passed before the checkpoint */
    double slowest_step, slowest_save; /* seconds, of this process */
    int64_t line_samples;              /* given until the last metrics line */
    int64_t lines;                     /* of metrics, of this process */
    double watched, starved;           /* seconds behind the first line, and those of them waited for data */
    int starving_told;
    int64_t started_step, started_samples; /* of this process */
    uint64_t line_bytes;                   /* sent until the last metrics line */
};

up_status up_trainer_open(const char *config_path, const char *const *overrides, size_t count,
                          const up_train_options *options, up_trainer *t);
void up_trainer_close(up_trainer *t);

/* start.c: a run that begins with a model. Read it, and what the run's configuration is; where a task has the
 * linear head, size it by its classes; make the run's model of it; name the head's classes. */
up_status up_start_read(up_trainer *t);
up_status up_start_head(up_trainer *t);
up_status up_start_model(up_trainer *t);
up_status up_start_name_classes(up_trainer *t);

/* The order of a rank's iterations in `count` rounds: tasks drawn by weight, each with a running count of its
 * samples over all ranks, which goes on from taken [task_count]; NULL: from 0. */
up_status up_order_make(const up_settings *settings, const up_rounds *rounds, int64_t count,
                        const int64_t *taken, up_order_entry **out);
/* The task of an iteration of any rank. */
int up_order_task(const up_settings *settings, const up_rounds *rounds, int64_t iteration);
/* The sample-th sample of a source, counted over all epochs: a shuffled row. */
size_t up_order_row(uint64_t seed, int source, const up_dataset *data, int64_t sample);

/* ranks.c. The communicator and the backend's threads, of which ranks on the same processors have their part
 * each. */
up_status up_ranks_open(up_trainer *t);
static inline int up_leads(const up_trainer *t) { /* the rank that writes */
    return t->comm->rank == 0;
}
/* Say how each target set that stands for the whole run is encoded. */
void up_ranks_tell_sets(const up_trainer *t);
/* After an error that the other ranks do not know: it ends them, and this process. */
void up_ranks_abandon(const up_trainer *t);
/* What rank 0 has restored, to all: counts, weights, moments. `found` 0: it was nothing. */
up_status up_ranks_restored(up_trainer *t, int *found);
/* Each of some flags 1 to all where it is 1 on any rank. */
enum { UP_FLAGS_MOST = 4 };
up_status up_ranks_agree(up_trainer *t, int *flags, int count);
/* What the ranks have measured since the last metrics line, the tasks' sums among it: rank 0 has all of it
 * from now on, for its line or checkpoint, the others begin anew. */
up_status up_ranks_gather(up_trainer *t);
/* An error where a rank has other weights than rank 0. */
up_status up_ranks_check(up_trainer *t);

/* Linear warm-up, then cosine to min_lr; step counts from 0. */
double up_learning_rate(const up_optimizer_settings *optimizer, int64_t step, int64_t steps);

/* up_train with what validates. */
up_status up_train_run(const char *config_path, const char *const *overrides, size_t count,
                       const up_train_options *options, up_validator validator);

/* Copy what <run>/checkpoint-NNNNNNNN holds (with `best`, also best.safetensors) and let a thread write it,
 * once what is being written is done. A failure of the thread is returned by the next of these calls. */
up_status up_checkpoint_begin(up_trainer *t, int checkpoint, int best);
up_status up_checkpoint_poll(up_trainer *t); /* waits for nothing */
up_status up_checkpoint_wait(up_trainer *t); /* until all is written */
/* Begin and wait. */
up_status up_checkpoint_save(up_trainer *t);
/* Restore the newest checkpoint that is whole; *found 0 when there is none. A broken one is said on stderr
 * and passed over. */
up_status up_checkpoint_load(up_trainer *t, int *found);
/* A fresh run must not be mixed with an older one: an error when the folder holds checkpoints. */
up_status up_checkpoint_refuse_existing(const up_trainer *t);

/* The counts and the loss scale into state.json's object, and back. */
up_status up_state_put(const up_trainer *t, const up_optimizer_state *optimizer, json_t *state);
up_status up_state_check(const char *path, const json_t *state); /* its format */
/* 1, and the count, where an object has a sound one under this key. */
int up_state_count(const json_t *object, const char *key, int64_t *out);
up_status up_state_take(up_trainer *t, const char *path, const json_t *state);
/* Say on stderr each line in which the settings of a checkpoint differ from those of now. */
up_status up_changes_tell(const char *folder, const char *then, const char *now);

/* bad_samples.c. The list of a run that begins or goes on; close also after a failure. */
up_status up_bad_samples_open(up_trainer *t);
void up_bad_samples_close(up_trainer *t);
/* Keep what an iteration's work says of them, until the step is whole; then every rank takes up those of all
 * where any has some: listed and counted. Or list this rank's, after a failure. */
up_status up_bad_samples_note(up_trainer *t, const up_work *work);
up_status up_bad_samples_take(up_trainer *t);
up_status up_bad_samples_list(up_trainer *t);
int64_t up_bad_samples_count(const up_trainer *t); /* of the run, all tasks together */
/* An error where a task has a larger share of them than the settings allow: on all ranks alike. */
up_status up_bad_samples_check(const up_trainer *t);

int64_t up_metrics_samples(const up_trainer *t); /* given to training so far, in all processes */
double up_metrics_waiting(const up_trainer *t);  /* share of the time that training waited for data */
double up_metrics_memory(void);                  /* MiB, resident, at the peak of this process */
/* A line of metrics.jsonl and of the events: means since the last one, which begin anew. */
up_status up_metrics_log(up_trainer *t);
/* An object with its step into both files. */
up_status up_metrics_write(up_trainer *t, const json_t *line);
/* The sums since the last line into a checkpoint's state, and back. */
json_t *up_metrics_state(const up_trainer *t);
up_status up_metrics_restore(up_trainer *t, const json_t *state);

/* Whether the settings' names of evaluations are sound. */
up_status up_validation_check(const up_settings *settings);
int up_validation_due(const up_trainer *t);
/* Measure, log, and say whether `best` has improved. */
up_status up_validation_run(up_trainer *t, int *better);

up_status up_average_open(const up_settings *settings, up_model *model, const up_gradients *gradients,
                          up_average *out); /* no average asked for: no values; close also after a failure */
void up_average_close(up_average *average);
up_status up_average_update(up_average *average, int64_t step); /* after each step */
/* Exchange the model's weights and their average; twice, and all is as it was, bit for bit. */
up_status up_average_swap(up_average *average);

/* `line`: metrics were logged; `last`: nothing follows. */
void up_progress(const up_trainer *t, int line, int last);
/* What a run that is over has reached, and where its files are. */
void up_progress_summary(const up_trainer *t);

#endif

/* checkpoint.h - what the files around a checkpoint share: checkpoint.c restores, checkpoint_save.c writes in
 * the background, checkpoint_folder.c knows the names in a run's folder, snapshot.c copies what is saved,
 * average.c has the average of the weights. */
#ifndef UP_TRAIN_CHECKPOINT_H
#define UP_TRAIN_CHECKPOINT_H

#include "train/trainer.h"

enum { UP_PATH_SIZE = 4096 };

/* Of a checkpoint beside state.json, in the order in which they are written; the last one only where the run
 * averages its weights. */
enum { UP_CHECKPOINT_MODEL, UP_CHECKPOINT_OPTIMIZER, UP_CHECKPOINT_AVERAGE, UP_CHECKPOINT_FILES };
extern const char *const up_checkpoint_files[UP_CHECKPOINT_FILES];

/* "<folder>/<name>". */
up_status up_checkpoint_path(char out[UP_PATH_SIZE], const char *folder, const char *name);
/* "<run>/checkpoint-NNNNNNNN<ending>". */
up_status up_checkpoint_folder(const up_trainer *t, int64_t step, const char *ending, char out[UP_PATH_SIZE]);
/* Steps of the run's checkpoints (kind 1) or of those left half written (kind 2), newest first; *count of
 * them. */
up_status up_checkpoint_list(const char *run, int kind, int64_t **steps, size_t *count);
/* The run's newest checkpoint, "" where there is none. */
up_status up_checkpoint_newest(const char *run, char out[UP_PATH_SIZE]);
void up_checkpoint_remove(const char *folder);
/* Remove all but the newest `keep_last` and those that `keep_every` keeps. */
up_status up_checkpoint_prune(const up_trainer *t);
/* Remove what a run that was killed while it saved has left. */
up_status up_checkpoint_remove_partial(const up_trainer *t);
/* Bytes of a file and their CRC-32. */
up_status up_checkpoint_sum(const char *path, json_int_t *size, json_int_t *crc);

/* Copies on the host of what a checkpoint's files hold: 4 bytes a weight, 8 a number that learns, and 4 more
 * a weight where the run averages. */
typedef struct up_snapshot {
    up_weights_image *model, *average; /* average: NULL without */
    up_safetensor *moments;            /* [moment_count] with their data */
    char (*names)[UP_TENSOR_NAME_SIZE + 2];
    float *values;
    size_t moment_count;
} up_snapshot;

/* With or without the optimiser's moments. Waits for the device. Free also after a failure. */
up_status up_snapshot_take(up_trainer *t, int moments, up_snapshot *out);
void up_snapshot_free(up_snapshot *snapshot);
/* Write the files that the snapshot has into a folder. */
up_status up_snapshot_write(up_snapshot *snapshot, const char *folder);

/* An average from a model file; *found 0: there is no such file. */
up_status up_average_read(up_average *average, const char *path, int *found);
/* In an image of the model, put the average in the weights' place. */
void up_average_put(const up_average *average, up_weights_image *image);

#endif

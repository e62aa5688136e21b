/* lab.h - what the tests of training and of the data path share: a temporary folder with small lists over the
 * golden pictures and clips, the configuration of a tiny model that trains every kind of task on them, and a
 * run of it taken apart, so that a test can use any backend and touch every tensor between two steps. */
#ifndef UP_TESTS_LAB_H
#define UP_TESTS_LAB_H

#include "train/trainer.h"

/* "<temporary folder>/<name>", valid to the end; the folder is removed when the program ends. */
const char *up_lab_path(const char *name);
/* A file in it; returns its path. */
const char *up_lab_file(const char *name, const void *bytes, size_t size);
const char *up_lab_text(const char *name, const char *text);
/* golden/<kind>/<name> as a path that is true from any folder; valid until the next call. */
const char *up_lab_golden(const char *kind, const char *name);
void up_lab_remove(const char *path); /* a file, or a folder with all that is in it */

/* The lists, pictures.tsv (image, label, name), clips.tsv (video, label) and texts.tsv (text, word), and the
 * configuration over them, train.yaml: every kind of task that can be trained, each once. Returns its path.
 */
const char *up_lab_config(void);
int up_lab_clips(void); /* 0: built without FFmpeg, the task of clips is left out */

/* Features [R, D] of length 1 of a batch, by an encoder of its own. */
void up_lab_encode(up_model *model, const up_batch *batch, float *unit);

/* src/train's parts in the hands of a test. */
typedef struct up_lab {
    up_settings settings;
    up_config config;
    up_world world;
    up_source *sources; /* [settings.task_count] */
    up_order_entry *order;
    up_backend *backend;
    int shared; /* 1: the backend is another's too, and stays */
    up_comm *comm;
    up_model *model;
    up_stepper stepper;
    up_work work;
    int64_t step;
    double losses[64]; /* of the iterations of the last step, as the metrics count them */
} up_lab;

/* `backend` becomes the lab's own, unless lab->shared is set before it is closed. */
void up_lab_open(up_lab *lab, up_backend *backend, const char *const *overrides, size_t count);
void up_lab_close(up_lab *lab);
up_source *up_lab_source(up_lab *lab, const char *kind);

/* The work of iteration i, as the loader makes it, in lab->work. */
void up_lab_build(up_lab *lab, int64_t iteration);
/* Forward, loss and backward of lab->work, up to and without its target set; `share` multiplies the loss. */
up_loss_value up_lab_iterate(up_lab *lab, double share);
/* The same and back through the target sets: all gradients, in addition to what there was. */
up_loss_value up_lab_gradients(up_lab *lab, double share);
void up_lab_zero(up_lab *lab); /* all gradients */
/* One whole optimiser step. */
up_step_value up_lab_step(up_lab *lab);
int64_t up_lab_updates(up_lab *lab); /* steps that changed the weights */

/* All weights, all gradients or one of the moments on the host: [params.total], malloc'ed, 0 in the padding
 * and where a tensor does not learn. */
typedef enum up_lab_state { UP_LAB_WEIGHTS, UP_LAB_GRADIENTS, UP_LAB_MEANS, UP_LAB_SQUARES } up_lab_state;
float *up_lab_download(up_lab *lab, up_lab_state state);
void up_lab_upload_weights(up_lab *lab, const float *weights);

#endif

/* steps_own.h - what the files of steps share: a model with what learns of it, and the batch of a turn. */
#ifndef UP_BENCH_STEPS_OWN_H
#define UP_BENCH_STEPS_OWN_H

#include "bench/common.h"
#include "bench/steps.h"
#include "ref/model/arithmetic.h"
#include "uniperceiver/random.h"
#include "uniperceiver/uniperceiver.h"

typedef struct up_step {
    const up_step_options *o;
    up_config config;
    up_backend *backend;
    up_model *model;
    up_gradients *gradients; /* NULL: nothing learns */
    up_optimizer *optimizer;
    up_encoder *encoder;
    up_criterion *criterion;
    up_features x, y; /* of inputs; what they are compared with */
    up_batch batch;
    int32_t *labels; /* [readouts] */
    up_loss loss;
    up_report report;
} up_step;

enum { UP_STEP_ENCODES = 0, UP_STEP_LEARNS = 1 };

/* A model of the options' preset and, where something learns, gradients (`groups`, 0: all), optimiser, loss.
 */
void up_step_open(up_step *s, const up_step_options *o, int learns, unsigned groups, int prompts);
void up_step_close(up_step *s);
/* Pixels of one picture of the model's size, as patches: malloc'ed. */
uint8_t *up_step_pixels(const up_step *s, uint64_t seed);

/* Measurements of the other files. */
extern const up_measure up_measure_vocabulary, up_measure_beam, up_measure_beam_whole;

#endif

/* step.h - one optimiser step over a model as a text: encode the inputs, make their target set fresh,
 * compare, back through the inputs; after the last iteration back through the target sets, and AdamW. It
 * waits for nothing; what it measured is read later. Tests and measurements step by the same functions. */
#ifndef UP_TRAIN_STEP_H
#define UP_TRAIN_STEP_H

#include "tasks/sets.h"
#include "train/settings.h"
#include "uniperceiver/comm.h"
#include "uniperceiver/encoder.h"
#include "uniperceiver/features.h"
#include "uniperceiver/optimizer.h"

typedef struct up_stepper {
    up_model *model; /* borrowed, as the communicator */
    up_comm *comm;
    up_gradients *gradients;
    up_optimizer *optimizer;
    up_encoder *inputs, *whole, *scout; /* inputs, and chunks on the way back; whole sets; chunks forth */
    up_set_encoders how;                /* the same three; drop path's seed and step */
    up_criterion *criterion;
    up_features x; /* of the inputs */
    up_sets sets;
    int reported;         /* buckets of this step whose gradients are complete */
    int64_t input_tokens; /* encoded so far */
    double needed;        /* FLOP so far of inputs and of comparing (ref/model/arithmetic.h) */
} up_stepper;

/* Encoders, loss and optimiser as the settings say. */
up_status up_stepper_open(const up_settings *settings, up_model *model, up_comm *comm, up_stepper *out);
void up_stepper_close(up_stepper *stepper); /* fine on a zeroed struct */

/* The step that the following calls belong to: drop path's draws depend on it. */
void up_stepper_begin(up_stepper *stepper, int64_t step);
/* A set that some rank compares with in this step: told by every rank, whichever compares. Then, told all of
 * them, those are encoded that are divided over the ranks. */
void up_stepper_uses(up_stepper *stepper, const up_target_set *set);
up_status up_stepper_encode_sets(up_stepper *stepper);
/* One iteration: loss of the work, multiplied by `share`, and its gradients up to the target set. The work's
 * own targets are taken. Its loss is the criterion's latest. Work without a read-out does nothing. */
up_status up_stepper_iterate(up_stepper *stepper, up_work *work, double share);
/* Back through each target set that owes gradients; every bucket is reported and summed over the ranks. */
up_status up_stepper_gather(up_stepper *stepper);
/* Gather, then AdamW. */
up_status up_stepper_finish(up_stepper *stepper, double lr);

/* Where there are several ranks: each set that stands for the whole run is divided over them, unless it has
 * fewer entries than there are ranks: then each that compares with it encodes it. */
void up_stepper_divide(up_stepper *stepper);

/* Tokens that went through the encoders for target sets so far, on every way. */
int64_t up_stepper_set_tokens(const up_stepper *stepper);
/* FLOP that the steps so far needed, of this rank: inputs, target sets, cosines, forth and back. */
double up_stepper_needed(const up_stepper *stepper);

#endif

/* temperature.h - whose temperature a use of the model takes (paper equation 2 has one a task): the one place
 * that knows it, for training, evaluation, the C interface and the command line. */
#ifndef UP_TASKS_TEMPERATURE_H
#define UP_TASKS_TEMPERATURE_H

#include "uniperceiver/model.h"

/* Index among the model's temperatures for a task by name: the model's own of that name; else, where `name`
 * is a kind of task, that of the nearest kind that the model has (the released models have names of their
 * own), its first one where none is near. -1: an unknown name. */
int up_task_temperature(const up_config *config, const char *name);

#endif

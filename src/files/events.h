/* events.h - TensorBoard's event files, scalars alone: records of TFRecord, each an Event of
 * tensorflow/core/util/event.proto. */
#ifndef UP_FILES_EVENTS_H
#define UP_FILES_EVENTS_H

#include "uniperceiver/status.h"
#include <jansson.h>
#include <stdint.h>

typedef struct up_events {
    int file; /* only where path is not NULL */
    char *path;
} up_events;

/* A new file "<folder>/events.out.tfevents.<time>.<host>.<process>". Readers forget what other files of the
 * folder say of step `first` and later ones: what a process wrote that ended behind its last checkpoint. */
up_status up_events_open(const char *folder, int64_t first, up_events *out);

/* Every number in a JSON object as one scalar, whose tag is the keys that lead to it, with "/" between them;
 * all of them in one record. */
up_status up_events_write(up_events *events, int64_t step, const json_t *object);

void up_events_close(up_events *events); /* fine on a zeroed struct */

#endif

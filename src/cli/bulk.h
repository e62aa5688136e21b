/* bulk.h - many inputs: decoded by threads ahead of the encoder, handed over some at a time in their order;
 * what cannot be read is named and left out. */
#ifndef UP_CLI_BULK_H
#define UP_CLI_BULK_H

#include "cli/args.h"
#include "uniperceiver/uniperceiver.h"

/* Inputs that can be read among items [.. next): `count` of them, places[i] in the list. All items before
 * `next` are done with then. */
typedef up_status (*up_bulk_take)(void *context, const up_input *inputs, const int *places, int count,
                                  int next);

typedef struct up_bulk {
    up_session *session;
    const up_arg_list *items; /* of up_items_open: each an input of its own */
    const char *what;         /* for the line of progress */
    int first;                /* items before it were done by an earlier process */
    int slot;
    int strict; /* the first item that cannot be read ends the work; so does an only one */
    int most;   /* inputs at a time; 0: as many as fill the encoder */
    int as_is;  /* texts go on as texts, left open where the command wants that */
    int quiet;
    int skipped, cut; /* items left out; texts longer than the model's limit */
} up_bulk;

/* The exit code is up_bulk_end's. */
up_status up_bulk_run(up_bulk *bulk, up_bulk_take take, void *context);

/* Say how many were left out or cut; answers the exit code: 1 after a failure or where some were left out. */
int up_bulk_end(const up_bulk *bulk, up_status status);

/* Features [count, D] of the items that can be read, malloc'ed; places [count]: which of the list they are.
 */
typedef struct up_bulk_features {
    float *rows;
    int *places, count;
} up_bulk_features;
up_status up_bulk_encode(up_bulk *bulk, up_side side, up_bulk_features *out);
void up_bulk_features_free(up_bulk_features *features);

#endif

/* serve.h - a model behind HTTP: a JSON interface (openapi.json, docs/serve.md) and a page on it. One thread
 * speaks HTTP (server.c), another owns the sessions and answers waiting requests in batches (queue.c). */
#ifndef UP_SERVE_SERVE_H
#define UP_SERVE_SERVE_H

#include "infer/index.h"
#include "uniperceiver/uniperceiver.h"

/* The model and the tuned tasks over it; requests choose by name. The first is the model, named "". */
typedef struct up_served {
    const char *name;
    up_session *session;
} up_served;

/* An index to search in, and the model that made it. */
typedef struct up_served_index {
    const up_index *index; /* NULL: none */
    up_session *session;
    int threads;
    int64_t pixels_most; /* of a picture that is shown */
} up_served_index;

typedef struct up_serve_options {
    const char *address; /* to listen at, as a number */
    int port;            /* 0: any that is free */
    const char *token;   /* wanted of every request for an answer; NULL: none */
    size_t body_most;    /* bytes of a request's body */
    int64_t pixels_most; /* of a picture or frame, as the sessions were opened with; for the page */
    int seconds;         /* for a request to arrive, and again to wait for its turn */
    int waiting_most;    /* requests that wait for their turn */
    int batch_most;      /* requests answered together */
    int batch_ms;        /* how long the first of a batch waits for others */
    up_served_index search;
} up_serve_options;

/* Serve until SIGINT or SIGTERM, then answer what was asked before and return UP_OK. Requests cut off by a
 * second signal: the process ends with exit code 1. The sessions must not be used meanwhile. */
up_status up_serve(const up_served *models, int count, const up_serve_options *options);

/* Whether an address, as a number, is this machine's own. */
int up_serve_is_loopback(const char *address);

#endif

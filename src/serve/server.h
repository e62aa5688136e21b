/* server.h - what the two files that speak HTTP share: exchange.c, one request; server.c, all of them. */
#ifndef UP_SERVE_SERVER_H
#define UP_SERVE_SERVER_H

#include "serve/queue.h"

#include <microhttpd.h>

typedef struct up_server up_server;

/* One connection; known to the watch that ends slow ones. */
typedef struct up_client {
    struct up_client *next, **link;
    int fd;
    double since;  /* it connected, began the request that is arriving, or had its last answer */
    int arriving;  /* a request's body */
    int answering; /* no longer watched: its request is complete */
    int requests;  /* that it has made */
} up_client;

struct up_server {
    const up_serve_options *options;
    const up_served *models;
    int count;
    char *about; /* what /model tells */
    struct MHD_Daemon *daemon;
    up_queue *queue;
    _Atomic int stopping;

    pthread_mutex_t lock; /* of the rest */
    up_client *clients;
    unsigned connected, connections_most;
    int answering; /* requests that are complete and whose answers are not yet sent */
    size_t bodies; /* bytes of bodies held */
};

enum { UP_SERVER_BODIES = 16 }; /* bodies of the greatest size that fit into memory at once */

/* exchange.c: the callbacks of libmicrohttpd. */
enum MHD_Result up_exchange_step(void *server, struct MHD_Connection *connection, const char *url,
                                 const char *method, const char *version, const char *data, size_t *size,
                                 void **exchange);
void up_exchange_end(void *server, struct MHD_Connection *connection, void **exchange,
                     enum MHD_RequestTerminationCode why);

#endif

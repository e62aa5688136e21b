/* loader.c - a ring of slots: iteration n lives in slot n mod count. Workers claim iterations in order, the
 * consumer takes them in order; so the stream is the same for any number of threads. */
#include "data/loader.h"
#include "files/clock.h"

#include <pthread.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_SIZE = 512 };

typedef struct ring_slot {
    void *work;
    int ready;
    up_status status;
    char message[MESSAGE_SIZE];
} ring_slot;

struct up_loader {
    up_loader_build build;
    void *context;
    ring_slot *slots;
    int count, threads, stop;
    int64_t claimed;  /* next iteration a worker will build */
    int64_t consumed; /* next iteration the consumer will take */
    pthread_mutex_t lock;
    pthread_cond_t room, ready;
    pthread_t *workers;
};

static void *work(void *argument) {
    up_loader *l = argument;
    pthread_mutex_lock(&l->lock);
    for (;;) {
        /* the slot handed to the consumer last (consumed - 1) is still in use */
        while (!l->stop && l->claimed >= l->consumed - 1 + l->count) pthread_cond_wait(&l->room, &l->lock);
        if (l->stop) break;
        int64_t iteration = l->claimed++;
        ring_slot *slot = &l->slots[iteration % l->count];
        pthread_mutex_unlock(&l->lock);
        up_status status = l->build(l->context, iteration, slot->work);
        pthread_mutex_lock(&l->lock);
        slot->status = status;
        if (status != UP_OK) snprintf(slot->message, sizeof slot->message, "%s", up_last_error());
        slot->ready = 1;
        pthread_cond_broadcast(&l->ready);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

up_status up_loader_create(up_loader_build build, void *context, void *const *slots, int count, int threads,
                           int64_t first, up_loader **out) {
    *out = NULL;
    if (threads < 1 || count < 2)
        return up_fail(UP_ERR_ARGUMENT, "loader", "%d threads, %d slots: wanted 1 and 2 or more", threads,
                       count);
    up_loader *l = calloc(1, sizeof *l);
    if (l) {
        l->slots = calloc((size_t)count, sizeof *l->slots);
        l->workers = calloc((size_t)threads, sizeof *l->workers);
    }
    if (!l || !l->slots || !l->workers) {
        if (l) {
            free(l->slots);
            free(l->workers);
            free(l);
        }
        return up_fail(UP_ERR_MEMORY, "loader", "%d slots wanted", count);
    }
    l->build = build;
    l->context = context;
    l->count = count;
    l->claimed = first;
    l->consumed = first;
    for (int i = 0; i < count; i++) l->slots[i].work = slots[i];
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->room, NULL);
    pthread_cond_init(&l->ready, NULL);
    for (; l->threads < threads; l->threads++)
        if (pthread_create(&l->workers[l->threads], NULL, work, l)) {
            up_loader_free(l);
            return up_fail(UP_ERR_MEMORY, "loader", "the system gave no thread");
        }
    *out = l;
    return UP_OK;
}

up_status up_loader_next(up_loader *l, void **work_out, double *waited) {
    double start = up_now();
    pthread_mutex_lock(&l->lock);
    ring_slot *slot = &l->slots[l->consumed % l->count];
    while (!slot->ready) pthread_cond_wait(&l->ready, &l->lock);
    slot->ready = 0;
    l->consumed++;
    pthread_cond_broadcast(&l->room);
    pthread_mutex_unlock(&l->lock);
    if (waited) *waited += up_now() - start;
    *work_out = slot->work;
    return slot->status == UP_OK ? UP_OK : up_fail_again(slot->status, slot->message);
}

void up_loader_free(up_loader *l) {
    if (!l) return;
    pthread_mutex_lock(&l->lock);
    l->stop = 1;
    pthread_cond_broadcast(&l->room);
    pthread_mutex_unlock(&l->lock);
    for (int i = 0; i < l->threads; i++) pthread_join(l->workers[i], NULL);
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->room);
    pthread_cond_destroy(&l->ready);
    free(l->slots);
    free(l->workers);
    free(l);
}

/* order.c - which task an iteration has, and which samples: functions of the seed alone (paper section 4.2:
 * each iteration samples one task and dataset). Iterations are counted over all ranks, so that any number of
 * ranks goes through the same ones. */
#include "train/trainer.h"
#include "uniperceiver/random.h"

#include <math.h>
#include <stdlib.h>

enum { PURPOSE_TASK = 1, PURPOSE_ORDER = 2 };

static double weights_of(const up_settings *s) {
    double total = 0;
    for (size_t i = 0; i < s->task_count; i++) total += s->tasks[i].weight;
    return total;
}

static int draw_task(const up_settings *s, int64_t draw, double total) {
    up_rng rng = up_rng_make((uint64_t)s->seed, PURPOSE_TASK, (uint64_t)draw, 0);
    double x = up_rng_uniform(&rng) * total;
    int last = 0; /* rounding may leave x behind all of them */
    for (size_t i = 0; i < s->task_count; i++) {
        if (s->tasks[i].weight <= 0) continue;
        last = (int)i;
        x -= s->tasks[i].weight;
        if (x < 0) break;
    }
    return last;
}

/* Mixed: each iteration draws. Otherwise each step. */
static int64_t draw_of(const up_settings *s, const up_rounds *rounds, int64_t iteration) {
    if (s->mixed) return iteration;
    return rounds->step + (iteration - rounds->first) / (rounds->ranks * s->accumulate);
}

int up_order_task(const up_settings *s, const up_rounds *rounds, int64_t iteration) {
    return draw_task(s, draw_of(s, rounds, iteration), weights_of(s));
}

up_status up_order_make(const up_settings *s, const up_rounds *rounds, int64_t count, const int64_t *taken,
                        up_order_entry **out) {
    int64_t *next = calloc(s->task_count, sizeof *next);
    *out = count < INT64_MAX / (int64_t)sizeof **out ? malloc((size_t)(count + 1) * sizeof **out) : NULL;
    if (!next || !*out) {
        free(next);
        free(*out);
        *out = NULL;
        return up_fail(UP_ERR_MEMORY, "order of samples", "%lld iterations wanted", (long long)count);
    }
    double total = weights_of(s);
    for (size_t i = 0; i < s->task_count; i++) next[i] = taken ? taken[i] : 0;
    for (int64_t i = 0; i < count * rounds->ranks; i++) {
        int source = draw_task(s, draw_of(s, rounds, rounds->first + i), total);
        if (i % rounds->ranks == rounds->rank)
            (*out)[i / rounds->ranks] = (up_order_entry){source, next[source]};
        next[source] += s->tasks[source].batch;
    }
    free(next);
    return UP_OK;
}

size_t up_order_row(uint64_t seed, int source, const up_dataset *data, int64_t sample) {
    uint64_t epoch = (uint64_t)sample / data->count;
    up_rng rng = up_rng_make(seed, PURPOSE_ORDER, (uint64_t)source, epoch);
    uint64_t key = (uint64_t)up_rng_u32(&rng) << 32;
    key |= up_rng_u32(&rng);
    return up_dataset_order(data, key, (uint64_t)sample % data->count);
}

double up_learning_rate(const up_optimizer_settings *o, int64_t step, int64_t steps) {
    if (step < o->warmup) return o->lr * (double)(step + 1) / (double)o->warmup;
    double span = steps > o->warmup + 1 ? (double)(steps - 1 - o->warmup) : 1;
    double done = fmin(1, (double)(step - o->warmup) / span);
    return o->min_lr + 0.5 * (o->lr - o->min_lr) * (1 + cos(3.14159265358979323846 * done));
}

/* metrics.h - features in, scores out: nearest targets, ranks, accuracy, recall, overlap of words. Nothing
 * here knows a model; the products of features come from a backend, the rest is counting. */
#ifndef UP_EVAL_METRICS_H
#define UP_EVAL_METRICS_H

#include "uniperceiver/cosines.h"

typedef struct up_metric {
    double value, chance; /* chance: what a guess without looking would reach */
    double error;         /* standard error of the value */
    int64_t n;            /* what was counted */
} up_metric;

/* best [Q]: the nearest target of each query, of equal ones the first. x [Q, D], y [V, D], V >= 1, of
 * length 1. A feature that is not finite: UP_ERR_NUMERIC. */
up_status up_nearest(up_cosines *cosines, up_view x, up_view y, int32_t *best);

/* rank [Q]: how many targets of other groups are at least as near to a query as the nearest of its own group;
 * V where its group has none. Groups are numbers from 0: equal texts, or views of one row. */
up_status up_ranks(up_cosines *cosines, up_view x, up_view y, const int32_t *group_x, const int32_t *group_y,
                   int64_t *rank);

/* A share of hits: its error is that of a binomial share. */
up_metric up_share(int64_t hits, int64_t n, double chance);
/* How often the nearest target is the true one; labels of -1 are left out. Chance is 1 / targets. */
up_metric up_accuracy(const int32_t *best, const int32_t *labels, int64_t n, int64_t targets);
/* The same, where chance is the share of the most frequent label: what a constant answer would reach. */
up_status up_word_accuracy(const int32_t *best, const int32_t *labels, int64_t n, int64_t targets,
                           up_metric *out);
/* F1 of label 1 among labels 0 and 1. Chance is that of always saying 1; the error is that of the counts (the
 * delta method on the shares of right 1s and of mistakes). */
up_metric up_f1_metric(const int32_t *said, const int32_t *labels, int64_t n);
/* Recall at k of ranks; chance is that of a random order of the targets: one of the query's own group among
 * the first k. */
up_status up_recall(const int64_t *rank, const int32_t *group_x, int64_t n, const int32_t *group_y, int64_t v,
                    int64_t k, up_metric *out);

/* F1 of two bags of tokens: twice the tokens they share over those they have. */
double up_bag_f1(const int32_t *a, size_t m, const int32_t *b, size_t n);
/* Mean of own [n] and its standard error. */
up_metric up_mean(const double *own, int64_t n, double chance);

#endif

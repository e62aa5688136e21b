/* train.h - training and evaluation from a configuration file (docs/file-formats.md). */
#ifndef UNIPERCEIVER_TRAIN_H
#define UNIPERCEIVER_TRAIN_H

#include "uniperceiver/status.h"
#include <signal.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct up_train_options {
    size_t size;                 /* sizeof(up_train_options); 0 = that of version 0.1 */
    const char *backend;         /* NULL = "cpu" */
    int threads;                 /* 0 = all cores */
    int resume;                  /* 1: continue from the last checkpoint of the run's folder */
    int quiet;                   /* 1: neither progress nor reports (log.h) */
    volatile sig_atomic_t *stop; /* set by a signal handler, or by another thread with an atomic store: finish
                                    the step, write a checkpoint, return UP_ERR_INTERRUPTED. May be NULL */
    double time_limit; /* seconds within which training ends with a checkpoint and returns UP_ERR_INTERRUPTED;
                          0 = the configuration's */
    const char *tuned; /* evaluation: file of a tuned task over the model; NULL = the run's own, where
                          no model is named and it tuned one */
    const char *cache; /* evaluation: as in up_load_options */
} up_train_options;

/* Train as `config_path` says; `overrides` are "key=value" (dotted keys). Writes checkpoints, metrics.jsonl
 * and model.safetensors into the run's folder. */
UP_API up_status up_train(const char *config_path, const char *const *overrides, size_t count,
                          const up_train_options *options);

/* Evaluate a model on every evaluation that the configuration lists: a table on `stdout`, and a JSON list of
 * {task, trained, metric, value, chance, standard_error, n, tokens} in `json_path` (NULL: metrics.json in the
 * run's folder). `model_path` NULL: the run's result: model.safetensors, or tuned.safetensors over
 * what it tuned. */
UP_API up_status up_evaluate(const char *config_path, const char *const *overrides, size_t count,
                             const up_train_options *options, const char *model_path, const char *json_path);

/* One number of an evaluation. */
typedef struct up_result {
    char *task;                           /* the evaluation's name in the configuration */
    char *metric;                         /* e.g. "accuracy", "R@1 input to text" (docs/metrics.md) */
    int trained;                          /* 1: the model was trained on this kind of task */
    double value, chance, standard_error; /* chance: what a guess without looking would reach */
    int64_t n;                            /* what was counted */
    int64_t input_tokens, target_tokens;  /* encoded for the whole evaluation that it is from */
} up_result;
typedef struct up_results {
    up_result *list;
    size_t count;
} up_results;

/* up_evaluate with its numbers for the caller: nothing is printed on stdout, no file is written. Free with
 * up_results_free; after a failure there are none. */
UP_API up_status up_evaluate_results(const char *config_path, const char *const *overrides, size_t count,
                                     const up_train_options *options, const char *model_path,
                                     up_results *out);
UP_API void up_results_free(up_results *results); /* NULL is fine */

#ifdef __cplusplus
}
#endif
#endif

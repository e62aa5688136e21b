/* results.c - an evaluation's numbers for a program that asks for them (include/uniperceiver/train.h). */
#include "eval/eval.h"
#include "ref/given.h"

#include <stdlib.h>
#include <string.h>

static up_status copy_score(const up_score *score, up_result *out) {
    *out = (up_result){.task = strdup(score->task),
                       .metric = strdup(score->metric),
                       .trained = score->trained,
                       .value = score->number.value,
                       .chance = score->number.chance,
                       .standard_error = score->number.error,
                       .n = score->number.n,
                       .input_tokens = score->tokens.inputs,
                       .target_tokens = score->tokens.targets};
    return out->task && out->metric ? UP_OK : up_fail(UP_ERR_MEMORY, score->task, "no memory for its score");
}

static up_status copy_scores(const up_scores *scores, up_results *out) {
    out->list = calloc(scores->count + 1, sizeof *out->list);
    if (!out->list) return up_fail(UP_ERR_MEMORY, "results", "%zu wanted", scores->count);
    while (out->count < scores->count) {
        size_t i = out->count++; /* counted first: what is there of it is freed */
        UP_TRY(copy_score(&scores->list[i], &out->list[i]));
    }
    return UP_OK;
}

up_status up_evaluate_results(const char *config_path, const char *const *overrides, size_t count,
                              const up_train_options *options, const char *model_path, up_results *out) {
    up_evaluation e = {0};
    up_results results = {0};
    up_status status = UP_OK;
    UP_GIVEN(out);
    *out = results;
    UP_GO(up_evaluation_read(&e, config_path, overrides, count, options));
    UP_GO(up_evaluation_open(&e, model_path));
    UP_GO(up_evaluate_all(&e));
    UP_GO(copy_scores(&e.scores, &results));
    *out = results;
    results = (up_results){0};
done:
    up_results_free(&results);
    up_evaluation_close(&e);
    return status;
}

void up_results_free(up_results *results) {
    if (!results) return;
    for (size_t i = 0; i < results->count; i++) {
        free(results->list[i].task);
        free(results->list[i].metric);
    }
    free(results->list);
    *results = (up_results){0};
}

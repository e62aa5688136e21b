/* ranking.c - candidates by probability. */
#include "cli/ranking.h"
#include "cli/inputs.h"
#include "files/json.h"
#include "infer/session.h"

#include <stdio.h>
#include <stdlib.h>

static json_t *answer_of(const up_ranking *r, int i) {
    json_t *name = up_json_bytes(r->candidates[i]);
    return json_pack("{s:o, s:f}", r->word, name, "probability", (double)r->probabilities[i]);
}

static void tell_lines(const up_ranking *r, const int *order, int shown) {
    for (int i = 0; i < shown; i++)
        printf("%s%s%s\t%.6f\n", r->input ? r->input : "", r->input ? "\t" : "", r->candidates[order[i]],
               (double)r->probabilities[order[i]]);
}

static up_status tell_json(const up_ranking *r, const int *order, int shown, json_t *list) {
    int failed = 0;
    json_t *answers = json_array(), *object = json_object();
    for (int i = 0; i < shown; i++) failed |= json_array_append_new(answers, answer_of(r, order[i]));
    if (r->input) failed |= json_object_set_new_nocheck(object, "input", up_json_bytes(r->input));
    failed |= json_object_set_new(object, "answers", answers);
    failed |= json_array_append_new(list, object);
    return failed ? up_fail(UP_ERR_MEMORY, "ranking", "no memory for JSON") : UP_OK;
}

up_status up_ranking_tell(const up_ranking *r, json_t *list) {
    int shown = r->top && r->top < r->n ? r->top : r->n;
    int *order = malloc(((size_t)r->n + 1) * sizeof *order);
    if (!order) return up_fail(UP_ERR_MEMORY, "ranking", "no memory for %d candidates", r->n);
    up_status status = up_order_by_probability(r->probabilities, r->n, order);
    if (status == UP_OK && list) status = tell_json(r, order, shown, list);
    if (status == UP_OK && !list) tell_lines(r, order, shown);
    free(order);
    return status;
}

up_status up_cli_print_json(const json_t *value) {
    char *text = json_dumps(value, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    if (!text) return up_fail(UP_ERR_MEMORY, "output", "no memory for JSON");
    up_json_restore_bytes(text);
    puts(text);
    free(text);
    return UP_OK;
}

/* report.c - scores as a table for people and as JSON for programs. */
#include "eval/eval.h"
#include "files/file.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void table_part(const up_scores *s, int trained, const char *title) {
    for (size_t i = 0; i < s->count; i++) {
        const up_score *x = &s->list[i];
        const up_metric *m = &x->number;
        if (x->trained != trained) continue;
        if (title) printf("%s\n", title);
        title = NULL;
        /* without spread of its own (all right or all wrong), chance's spread is the measure */
        double error = m->error > 0 || !m->n ? m->error : sqrt(m->chance * (1 - m->chance) / (double)m->n);
        double above = error > 0 ? (m->value - m->chance) / error : 0;
        printf("  %-34s %-18s %6.3f  %6.3f  %6.3f  %6.1f  %6lld\n", x->task, x->metric, m->value, m->chance,
               m->error, above, (long long)m->n);
    }
}

/* One line for each evaluation: its scores have the same counts, one after the other. */
static void table_tokens(const up_scores *s) {
    printf("\n  %-34s %18s  %18s\n", "tokens encoded", "of inputs", "of targets");
    for (size_t i = 0; i < s->count; i++) {
        const up_score *x = &s->list[i];
        if (i && s->list[i - 1].task == x->task) continue;
        printf("  %-34s %18lld  %18lld\n", x->task, (long long)x->tokens.inputs,
               (long long)x->tokens.targets);
    }
}

void up_report_table(const up_scores *s) {
    printf("\n  %-34s %-18s %6s  %6s  %6s  %6s  %6s\n", "task", "metric", "value", "chance", "error",
           "sigmas", "n");
    table_part(s, 1, "Tasks that were trained, on data that was not");
    table_part(s, 0, "Tasks that were never trained");
    printf("error: standard error of the value; sigmas: how many of them it stands above chance\n");
    table_tokens(s);
    printf("a target set that an evaluation before has used is not encoded again\n");
}

static json_t *score_json(const up_scores *s, const up_score *x) {
    const up_metric *m = &x->number;
    return json_pack("{s:s, s:b, s:s, s:f, s:s, s:f, s:f, s:f, s:I, s:{s:I, s:I}}", "task", x->task,
                     "trained", x->trained, "tune", s->tune ? s->tune : "none", "fraction", s->fraction,
                     "metric", x->metric, "value", m->value, "chance", m->chance, "standard_error", m->error,
                     "n", (json_int_t)m->n, "tokens", "inputs", (json_int_t)x->tokens.inputs, "targets",
                     (json_int_t)x->tokens.targets);
}

up_status up_report_json(const up_scores *s, const char *path) {
    json_t *list = json_array();
    char *text = NULL;
    up_status status = UP_OK;
    for (size_t i = 0; i < s->count; i++)
        if (json_array_append_new(list, score_json(s, &s->list[i])))
            UP_GO(up_fail(UP_ERR_MEMORY, path, "no memory for the scores"));
    size_t length = json_dumpb(list, NULL, 0, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    text = malloc(length + 1);
    if (!text || !length || json_dumpb(list, text, length, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) != length)
        UP_GO(up_fail(UP_ERR_MEMORY, path, "no memory for the scores"));
    text[length] = '\n';
    UP_GO(up_file_write(path, text, length + 1));
done:
    free(text);
    json_decref(list);
    return status;
}

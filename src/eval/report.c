/* report.c - scores as a table for people and as JSON for programs. */
#include "eval/eval.h"
#include "files/file.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

up_status up_scores_add(up_scores *s, up_score score) {
    if (s->count == s->capacity) {
        size_t room = s->capacity ? 2 * s->capacity : 16;
        up_score *grown = realloc(s->list, room * sizeof *grown);
        if (!grown) return up_fail(UP_ERR_MEMORY, "scores", "%zu wanted", room);
        s->list = grown;
        s->capacity = room;
    }
    s->list[s->count++] = score;
    return UP_OK;
}

static void table_part(const up_scores *s, int trained) {
    for (size_t i = 0; i < s->count; i++) {
        const up_score *x = &s->list[i];
        if (x->trained != trained) continue;
        /* without spread of its own (all right or all wrong), chance's spread is the measure */
        double error = x->error > 0 ? x->error : sqrt(x->chance * (1 - x->chance) / (double)x->n);
        double above = error > 0 ? (x->value - x->chance) / error : 0;
        printf("  %-34s %-18s %6.3f  %6.3f  %6.3f  %6.1f  %6lld\n", x->task, x->metric, x->value, x->chance,
               x->error, above, (long long)x->n);
    }
}

void up_report_table(const up_scores *s) {
    printf("\n  %-34s %-18s %6s  %6s  %6s  %6s  %6s\n", "task", "metric", "value", "chance", "error",
           "sigmas", "n");
    printf("Tasks that were trained, on data that was not\n");
    table_part(s, 1);
    printf("Tasks that were never trained\n");
    table_part(s, 0);
    printf("error: standard error of the value; sigmas: how many of them it stands above chance\n");
}

up_status up_report_json(const up_scores *s, const char *path) {
    json_t *list = json_array();
    char *text = NULL;
    up_status status = UP_OK;
    for (size_t i = 0; i < s->count; i++) {
        const up_score *x = &s->list[i];
        if (json_array_append_new(list,
                                  json_pack("{s:s, s:b, s:s, s:f, s:f, s:f, s:I}", "task", x->task, "trained",
                                            x->trained, "metric", x->metric, "value", x->value, "chance",
                                            x->chance, "standard_error", x->error, "n", (json_int_t)x->n)))
            UP_GO(up_fail(UP_ERR_MEMORY, path, "no memory for the scores"));
    }
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

/* params.c - the command params: parameter counts by group, as the paper's Table 9 counts them. */
#include "cli/args.h"
#include "cli/commands.h"
#include "uniperceiver/model.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { PAPER_PROMPTS = 10 /* a layer and side: paper appendix C */ };
static const up_param_group learned[] = {UP_GROUP_SPE, UP_GROUP_NORM, UP_GROUP_PROMPT, UP_GROUP_LINEAR_HEAD};
enum { LEARNED = sizeof learned / sizeof learned[0] };

/* 41472 -> "41,472" */
static const char *with_commas(int64_t n, char out[32]) {
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%lld", (long long)n), at = 0;
    for (int i = 0; i < length; i++) {
        out[at++] = digits[i];
        if ((length - 1 - i) % 3 == 0 && i + 1 < length) out[at++] = ',';
    }
    out[at] = 0;
    return out;
}

static void print_row(const char *name, int64_t count) {
    char text[32];
    printf("%-14s %15s\n", name, with_commas(count, text));
}

/* What Table 9 does not count: bias and alpha of the linear head. */
static int64_t beside(const up_params *p) {
    return p->head_bias < 0 ? 0 : p->list[p->head_bias].cols + p->list[p->head_alpha].cols;
}

static void print_rows(const int64_t counts[UP_GROUP_COUNT], const up_param_group *groups, int n,
                       int64_t total, int64_t more) {
    for (int i = 0; i < n; i++) print_row(up_param_group_name(groups[i]), counts[groups[i]]);
    print_row("total", total);
    if (more) print_row("not counted", more);
    if (more) printf("(Table 9 leaves out the linear head's bias and alpha)\n");
}

static up_status print_json(const int64_t counts[UP_GROUP_COUNT], const up_param_group *groups, int n,
                            int64_t total, int64_t more) {
    json_t *object = json_object();
    for (int i = 0; i < n; i++)
        json_object_set_new(object, up_param_group_name(groups[i]), json_integer(counts[groups[i]]));
    int failed = json_object_set_new(object, "total", json_integer(total));
    if (more) failed |= json_object_set_new(object, "head bias and alpha, not counted", json_integer(more));
    if (!failed) failed = json_dumpf(object, stdout, JSON_INDENT(2));
    json_decref(object);
    putchar('\n');
    return failed && !ferror(stdout) ? up_fail(UP_ERR_MEMORY, "params", "no memory for JSON") : UP_OK;
}

int up_cmd_params(int argc, char **argv) {
    const char *preset = NULL;
    int prompt_tuning = 0, json = 0;
    int64_t classes = 0, counts[UP_GROUP_COUNT], total = 0;
    const up_arg args[] = {
        {"preset", UP_ARG_TEXT, &preset, "NAME", "base, large, tiny, released-base or released-large", 1, 0,
         0},
        {"prompt-tuning", UP_ARG_SWITCH, &prompt_tuning, NULL,
         "only what prompt tuning learns, with 10 prompts", 0, 0, 0},
        {"classes", UP_ARG_WHOLE, &classes, "K", "classes of the linear head", 0, 0, 1 << 24},
        {"json", UP_ARG_SWITCH, &json, NULL, "as one JSON object", 0, 0, 0},
        {0}};
    const up_usage usage = {"params", "", "count a model's parameters by group (Table 9 of the paper)", args};
    int code = up_args_read(&usage, argc, argv, NULL);
    if (code != UP_ARGS_GO) return code;
    up_config config;
    up_params params = {0};
    up_param_group groups[UP_GROUP_COUNT];
    int n = prompt_tuning ? LEARNED : UP_GROUP_COUNT;
    up_status status = up_config_preset(preset, &config);
    if (status != UP_OK) return up_cli_end(status);
    if (prompt_tuning) config.prompts = PAPER_PROMPTS;
    config.classes = (int)classes;
    UP_GO(up_params_build(&config, &params));
    up_params_count(&params, counts);
    for (int i = 0; i < n; i++) {
        groups[i] = prompt_tuning ? learned[i] : (up_param_group)i;
        total += counts[groups[i]];
    }
    if (json)
        UP_GO(print_json(counts, groups, n, total, beside(&params)));
    else
        print_rows(counts, groups, n, total, beside(&params));
done:
    up_params_free(&params);
    return up_cli_end(status);
}

/* args.c - reading flags by table, and printing the help from it. */
#include "cli/args.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int up_args_wrong(const up_usage *usage, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "uniperceiver: %s: ", usage->command);
    vfprintf(stderr, format, args);
    fprintf(stderr, " (see uniperceiver %s --help)\n", usage->command);
    va_end(args);
    return 2;
}

static void print_help(const up_usage *usage) {
    printf("uniperceiver %s%s%s%s\n  %s\n", usage->command, usage->args->name ? " [flags]" : "",
           *usage->rest ? " " : "", usage->rest, usage->summary);
    if (usage->args->name) printf("\n");
    for (const up_arg *a = usage->args; a->name; a++) {
        int used = printf("  --%s%s%s%s", a->name, a->value ? " " : "", a->value ? a->value : "",
                          a->kind == UP_ARG_MANY ? "..." : "");
        printf("%*s%s%s\n", used < 26 ? 26 - used : 1, "", a->help, a->required ? " (required)" : "");
    }
}

static int add_item(up_arg_list *list, const char *flag, const char *value) {
    up_arg_item *grown = realloc(list->items, ((size_t)list->count + 1) * sizeof *grown);
    if (!grown) {
        fprintf(stderr, "uniperceiver: arguments: no memory\n");
        return 1;
    }
    list->items = grown;
    list->items[list->count++] = (up_arg_item){flag, value};
    return UP_ARGS_GO;
}

void up_arg_list_free(up_arg_list *list) {
    free(list->items);
    *list = (up_arg_list){0};
}

static const up_arg *find(const up_usage *usage, const char *name, size_t length) {
    for (const up_arg *a = usage->args; a->name; a++)
        if (strlen(a->name) == length && !memcmp(a->name, name, length)) return a;
    return NULL;
}

static int set_value(const up_usage *usage, const up_arg *a, const char *value) {
    char *end;
    errno = 0;
    switch (a->kind) {
    case UP_ARG_SWITCH:
        *(int *)a->to = 1;
        return UP_ARGS_GO;
    case UP_ARG_TEXT:
        *(const char **)a->to = value;
        return UP_ARGS_GO;
    case UP_ARG_EACH:
    case UP_ARG_MANY:
        return add_item(a->to, a->name, value);
    case UP_ARG_WHOLE:
        *(int64_t *)a->to = strtoll(value, &end, 10);
        if (errno || end == value || *end || *(int64_t *)a->to < a->min || *(int64_t *)a->to > a->max)
            return up_args_wrong(usage, "--%s: \"%s\" is not a whole number from %lld to %lld", a->name,
                                 value, (long long)a->min, (long long)a->max);
        return UP_ARGS_GO;
    }
    return UP_ARGS_GO;
}

/* One flag at argv[*i], with its value or values behind it; *i is left at the last one used. */
static int read_flag(const up_usage *usage, int argc, char **argv, int *i) {
    const char *name = argv[*i] + 2, *equals = strchr(name, '=');
    const up_arg *a = find(usage, name, equals ? (size_t)(equals - name) : strlen(name));
    if (!a) return up_args_wrong(usage, "unknown flag %s", argv[*i]);
    if (a->kind == UP_ARG_SWITCH && equals) return up_args_wrong(usage, "--%s takes no value", a->name);
    if (a->kind == UP_ARG_SWITCH) return set_value(usage, a, NULL);
    if (equals) return set_value(usage, a, equals + 1);
    if (*i + 1 >= argc) return up_args_wrong(usage, "--%s wants %s", a->name, a->value);
    int code = set_value(usage, a, argv[++*i]);
    while (a->kind == UP_ARG_MANY && code == UP_ARGS_GO && *i + 1 < argc && strncmp(argv[*i + 1], "--", 2))
        code = set_value(usage, a, argv[++*i]);
    return code;
}

static int check_required(const up_usage *usage, int argc, char **argv) {
    for (const up_arg *a = usage->args; a->name; a++) {
        int given = !a->required;
        size_t length = strlen(a->name);
        for (int i = 1; i < argc && !given; i++)
            given = !strncmp(argv[i], "--", 2) && !strncmp(argv[i] + 2, a->name, length) &&
                    (!argv[i][2 + length] || argv[i][2 + length] == '=');
        if (!given) return up_args_wrong(usage, "--%s %s is missing", a->name, a->value);
    }
    return UP_ARGS_GO;
}

int up_args_read(const up_usage *usage, int argc, char **argv, up_arg_list *rest) {
    int flags = 1, code = UP_ARGS_GO;
    for (int i = 1; i < argc && code == UP_ARGS_GO; i++) {
        if (flags && !strcmp(argv[i], "--help")) {
            print_help(usage);
            return 0;
        }
        if (flags && !strcmp(argv[i], "--"))
            flags = 0;
        else if (flags && !strncmp(argv[i], "--", 2))
            code = read_flag(usage, argc, argv, &i);
        else if (rest)
            code = add_item(rest, NULL, argv[i]);
        else
            code = up_args_wrong(usage, "unexpected argument \"%s\"", argv[i]);
    }
    return code == UP_ARGS_GO ? check_required(usage, argc, argv) : code;
}

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

/* There is room for the next power of two. */
int up_arg_list_add(up_arg_list *list, const char *flag, const char *value) {
    size_t count = (size_t)list->count;
    if (!(count & (count - 1))) {
        up_arg_item *grown = realloc(list->items, (count ? 2 * count : 1) * sizeof *grown);
        if (!grown) return 1;
        list->items = grown;
    }
    list->items[list->count++] = (up_arg_item){flag, value};
    return 0;
}

static int add_item(up_arg_list *list, const char *flag, const char *value) {
    if (!up_arg_list_add(list, flag, value)) return UP_ARGS_GO;
    fprintf(stderr, "uniperceiver: arguments: no memory\n");
    return 1;
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

/* --- what a misspelt name is near to --- */

enum { NAME = 32 };

static int least(int a, int b) {
    return a < b ? a : b;
}

/* Letters to put in, leave out, replace or swap with the next (Damerau 1964, Levenshtein 1966). */
static int distance(const char *a, const char *b) {
    int n = (int)strlen(a), m = (int)strlen(b), d[NAME + 1][NAME + 1];
    if (n > NAME || m > NAME) return NAME;
    for (int i = 0; i <= n; i++)
        for (int j = 0; j <= m; j++) {
            if (!i || !j) {
                d[i][j] = i + j;
                continue;
            }
            d[i][j] = least(d[i - 1][j - 1] + (a[i - 1] != b[j - 1]), least(d[i - 1][j], d[i][j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d[i][j] = least(d[i][j], d[i - 2][j - 2] + 1);
        }
    return d[n][m];
}

void up_args_nearer(const char *given, const char *name, int *best, const char **near) {
    int far = distance(given, name), most = (int)strlen(given) < 5 ? 1 : 2;
    if (far > most || (*near && far >= *best)) return;
    *best = far;
    *near = name;
}

static int unknown_flag(const up_usage *usage, const char *flag) {
    const char *near = NULL;
    char name[NAME + 2];
    int best = 0;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(flag + 2, "="), flag + 2);
    for (const up_arg *a = usage->args; a->name; a++) up_args_nearer(name, a->name, &best, &near);
    if (near) return up_args_wrong(usage, "unknown flag %s; did you mean --%s?", flag, near);
    return up_args_wrong(usage, "unknown flag %s", flag);
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
    if (!a) return unknown_flag(usage, argv[*i]);
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
        if (flags && (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))) {
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

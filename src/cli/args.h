/* args.h - a table-driven reader of flags, for what argp and popt do not have: flags whose order among each
 * other is kept in one list, several values behind one flag, ranges of numbers, and what a misspelt name is
 * near to. A command lists its flags with where their values go; reading
 * checks them and prints the help from the same table. "--flag value" and "--flag=value" are the same, "--"
 * ends the flags. */
#ifndef UP_CLI_ARGS_H
#define UP_CLI_ARGS_H

#include <stdint.h>

typedef enum up_arg_kind {
    UP_ARG_SWITCH, /* int: 1 where given */
    UP_ARG_TEXT,   /* const char * */
    UP_ARG_WHOLE,  /* int64_t in min..max */
    UP_ARG_EACH,   /* up_arg_list: a value each time the flag is given; lists may be shared, the order is kept
                    */
    UP_ARG_MANY    /* up_arg_list: all values up to the next flag */
} up_arg_kind;

typedef struct up_arg {
    const char *name; /* without the dashes; NULL ends the table */
    up_arg_kind kind;
    void *to;
    const char *value, *help; /* the value's name, and one line */
    int required;
    int64_t min, max; /* WHOLE */
} up_arg;

typedef struct up_arg_item {
    const char *flag, *value; /* flag: the row's name */
} up_arg_item;
typedef struct up_arg_list {
    int count;
    up_arg_item *items; /* freed with up_arg_list_free */
} up_arg_list;

/* A command's name, what may stand behind its flags ("" or e.g. "[TEXT...]"), what it does, and its flags. */
typedef struct up_usage {
    const char *command, *rest, *summary;
    const up_arg *args;
} up_usage;

/* Read argv[1..argc-1]; what is no flag goes to `rest` (NULL: nothing may). Answers UP_ARGS_GO, or the exit
 * code to end with: 0 after --help, 2 after a message about wrong usage. */
enum { UP_ARGS_GO = -1 };
int up_args_read(const up_usage *usage, int argc, char **argv, up_arg_list *rest);
void up_arg_list_free(up_arg_list *list);
/* One more item; 1: no memory. */
int up_arg_list_add(up_arg_list *list, const char *flag, const char *value);

/* Wrong usage found by the command itself: prints the message and the hint, answers 2. */
int up_args_wrong(const up_usage *usage, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* For names one by one: *near becomes `name` if it is as little misspelt as none before it. */
void up_args_nearer(const char *given, const char *name, int *best, const char **near);

#endif

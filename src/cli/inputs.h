/* inputs.h - what the commands that use a model share: the flags of a model, inputs from flags, lists of
 * lines, ranking. */
#ifndef UP_CLI_INPUTS_H
#define UP_CLI_INPUTS_H

#include "cli/args.h"
#include "infer/index.h"
#include "uniperceiver/uniperceiver.h"

typedef struct up_cli_model {
    const char *path, *tuned, *backend, *vocabulary, *precision;
    const char *cache; /* of commands that choose words */
    int64_t threads, max_pixels;
} up_cli_model;

/* Rows of a table of flags. */
#define UP_CLI_MODEL_ROWS(m)                                                                                 \
    {"model", UP_ARG_TEXT, &(m).path, "FILE", "model to use", 1, 0, 0},                                      \
        {"tuned", UP_ARG_TEXT, &(m).tuned, "FILE", "a tuned task to lay over the model", 0, 0, 0},           \
        {"backend", UP_ARG_TEXT, &(m).backend, "NAME", "ref, cpu (default) or cuda", 0, 0, 0},               \
        {"threads", UP_ARG_WHOLE, &(m).threads, "N", "threads; 0, the default, is all cores", 0, 0, 4096},   \
        {"precision", UP_ARG_TEXT, &(m).precision, "TYPE", UP_CLI_PRECISION_HELP, 0, 0, 0},                  \
        {"vocab", UP_ARG_TEXT, &(m).vocabulary, "FILE", "merges instead of the built-in ones", 0, 0, 0}, {   \
        "max-pixels", UP_ARG_WHOLE, &(m).max_pixels, "N", "refuse larger pictures", 0, 1, INT64_MAX          \
    }
#define UP_CLI_PRECISION_HELP "of the activations: f32 (default), bf16 or f16"
#define UP_CLI_CACHE_HELP     "where the vocabulary's features are kept (default: beside the model); or none"

up_status up_cli_open(const up_cli_model *model, up_session **out);
/* "f32", "bf16" or "f16"; NULL counts as f32. */
up_status up_cli_precision(const char *name, up_dtype *out);

/* An index whose features are of this model (up_weights_digest). */
up_status up_cli_index_open(const char *path, up_session *session, up_index **out);
/* 1: a file that begins as an index does. */
int up_cli_is_index(const char *path);

/* Whole numbers from 0 between white space; malloc'ed. `what` is named in messages. */
up_status up_cli_ids_read(const char *what, const char *text, int32_t **ids, size_t *count);

/* Parts read from the flags text, image, video, ids or path (a picture or video, by its content): each holds
 * its file; - is what standard input holds. */
typedef struct up_cli_parts {
    up_part *list;
    void **memory;
    int count;
} up_cli_parts;
up_status up_cli_parts_read(const up_arg_item *items, int count, up_cli_parts *out);
void up_cli_parts_free(up_cli_parts *parts);

/* Inputs that are compared at a time. */
enum { UP_CLI_AT_ONCE = 64 };

/* The lines of a file (-: of standard input) that are not empty, without white space around them. Free with
 * up_cli_lines_free. */
typedef struct up_cli_lines {
    char *text;
    const char **list;
    int count;
} up_cli_lines;
up_status up_cli_lines_read(const char *path, up_cli_lines *out);
void up_cli_lines_free(up_cli_lines *lines);

/* The same from "a,b,c". */
up_status up_cli_split(const char *text, up_cli_lines *out);

/* Each of them once: labels, answers, candidates. */
up_status up_cli_lines_distinct(const char *name, const up_cli_lines *lines);

typedef enum up_cli_kind { UP_FILE_MODEL, UP_FILE_IMAGE, UP_FILE_VIDEO, UP_FILE_OTHER } up_cli_kind;
/* What a file seems to be: by its first bytes, pictures also by the ending of their name. */
up_cli_kind up_cli_kind_of(const char *path, const unsigned char *bytes, size_t size);

/* The same by the ending of the name alone. */
up_cli_kind up_cli_kind_named(const char *path);

#endif

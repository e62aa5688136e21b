/* items.h - what a command works on, one item a row: files, folders with all that is in them, lists of files
 * or texts, standard input. */
#ifndef UP_CLI_ITEMS_H
#define UP_CLI_ITEMS_H

#include "cli/args.h"
#include "uniperceiver/status.h"

/* Rows of a table of flags; what stands behind the flags goes to the same list. */
#define UP_CLI_ITEM_ROWS(given)                                                                                \
    {"text", UP_ARG_EACH, &(given), "TEXT", "a text; -: each line of standard input", 0, 0, 0},                \
        {"texts", UP_ARG_EACH, &(given), "FILE[:COLUMN]", "texts, one a line, or a column of a TSV", 0, 0, 0}, \
        {"image", UP_ARG_EACH, &(given), "PATH", "a picture, pixels [3, S, S] as .npy, or a folder; -: stdin", \
         0,       0,           0},                                                                             \
        {"video", UP_ARG_EACH, &(given), "PATH", "the same of videos; .npy is [frames, 3, S, S]", 0, 0, 0},    \
    {                                                                                                          \
        "list", UP_ARG_EACH, &(given), "FILE[:COLUMN]",                                                        \
            "names of pictures and videos, one a line; -: stdin", 0, 0, 0                                      \
    }
#define UP_CLI_STRICT_ROW(strict)                                                                            \
    { "strict", UP_ARG_SWITCH, &(strict), NULL, "stop at the first input that cannot be read", 0, 0, 0 }

/* Items with the flag text, image, video, ids or path (a picture or a video, by its content). */
typedef struct up_items {
    up_arg_list list;
    char **memory;
    size_t owned;
    int passed; /* files in folders that are no pictures or videos by their names */
} up_items;

/* Open the folders and lists among `given`, in its order. A folder's files come sorted by name, hidden ones
 * left out. A list's names are as they stand there; those of a TSV's column are relative to its folder. */
up_status up_items_open(const up_arg_list *given, up_items *out);
void up_items_free(up_items *items);

#endif

/* pickle.h - Python's pickles, read as data: dictionaries, lists, tuples, texts, numbers, and the names of
 * what a pickle would have called. Nothing is ever called, imported or built: a call is a value that names
 * its function and its arguments, and the caller decides which of those it knows. */
#ifndef UP_FILES_PICKLE_H
#define UP_FILES_PICKLE_H

#include "uniperceiver/status.h"
#include <stdint.h>

typedef enum up_pickle_kind {
    UP_PICKLE_NONE,
    UP_PICKLE_BOOL,
    UP_PICKLE_INT,
    UP_PICKLE_FLOAT,
    UP_PICKLE_TEXT,       /* of str, bytes and whole numbers beyond 64 bits */
    UP_PICKLE_LIST,       /* lists, tuples and sets: items */
    UP_PICKLE_DICT,       /* items: key, value, key, value, .. */
    UP_PICKLE_GLOBAL,     /* text: "module.name" */
    UP_PICKLE_PERSISTENT, /* items: the id */
    UP_PICKLE_CALL        /* items: function and arguments; what is done to its result later is left out */
} up_pickle_kind;

typedef struct up_pickle_value {
    up_pickle_kind kind;
    size_t at; /* offset of its opcode in the pickle */
    int64_t whole;
    double real;
    const char *text; /* [size] in the pickle; of a global memory of its own */
    size_t size;
    struct up_pickle_value **items; /* values may be in several places, and in themselves */
    size_t count, room;
} up_pickle_value;

typedef struct up_pickle up_pickle;

/* `data` is borrowed and must outlive it; `path` is named in messages. Protocols 2 to 5; an opcode outside of
 * what PyTorch's files use is an error with its number and offset. At most 2^20 values. */
up_status up_pickle_open(const char *path, const void *data, size_t size, up_pickle **out);
void up_pickle_close(up_pickle *pickle); /* NULL is fine */
const up_pickle_value *up_pickle_root(const up_pickle *pickle);
/* A list of all globals in the order of the pickle, whether or not the root reaches them. */
const up_pickle_value *up_pickle_globals(const up_pickle *pickle);

/* 1: a text or the name of a global, and equal to this one. */
int up_pickle_is(const up_pickle_value *value, up_pickle_kind kind, const char *text);
/* The last value of a key in a dictionary, or NULL. */
const up_pickle_value *up_pickle_get(const up_pickle_value *dict, const char *key);

#endif

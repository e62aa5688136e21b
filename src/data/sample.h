/* sample.h - one sample as its file tells it: named values. A name may have several values (captions of one
 * picture, answers of several people). A value is a text, or a member of a shard, whose bytes lie there. */
#ifndef UP_DATA_SAMPLE_H
#define UP_DATA_SAMPLE_H

#include "uniperceiver/status.h"
#include <stdint.h>

typedef struct up_value {
    size_t name, text;     /* where they begin in the sample's memory; both end in NUL */
    int shard;             /* -1: a text; otherwise the shard of a member, whose name is the text */
    uint64_t offset, size; /* of the member's bytes in the shard */
} up_value;

/* Its memory is used again from sample to sample. */
typedef struct up_sample {
    up_value *values;
    size_t count, room;
    char *memory;
    size_t used, capacity;
} up_sample;

void up_sample_clear(up_sample *sample);
void up_sample_free(up_sample *sample);

/* Add a text; at most 1 MiB of it: more is no sample, and its tokens would take minutes. */
enum { UP_VALUE_MOST = 1 << 20 };
up_status up_sample_text(up_sample *sample, const char *name, const char *text, size_t size);
up_status up_sample_member(up_sample *sample, const char *name, const char *member, int shard,
                           uint64_t offset, uint64_t size);

/* Name of a value that says why the sample cannot be read: a shard's, of which a part is broken. */
#define UP_SAMPLE_BROKEN "!broken"

/* How many values a name has, and the k-th of them. */
size_t up_sample_count(const up_sample *sample, const char *name);
const up_value *up_sample_value(const up_sample *sample, const char *name, size_t k);
static inline const char *up_value_text(const up_sample *sample, const up_value *value) {
    return sample->memory + value->text;
}

/* "a, b, c": the distinct names, cut to `room`. */
void up_sample_names(const up_sample *sample, char *out, size_t room);

#endif

/* given.h - what a public function asks of its arguments before it looks into them: pointers that it needs
 * are there, lists are no longer than nothing. */
#ifndef UP_REF_GIVEN_H
#define UP_REF_GIVEN_H

#include "uniperceiver/status.h"
#include <stdint.h>

/* A pointer that is needed; NULL is the caller's mistake. */
up_status up_given(const void *pointer, const char *what);
/* The same for a list of n, which is needed unless n is 0. */
up_status up_given_list(const void *list, int64_t n, const char *what);
/* The first of `count` pointers that is NULL, by its place in "name, name, name". */
up_status up_given_each(const char *names, const void *const *pointers, size_t count);

/* Options whose first member is a size_t, their size as the caller was compiled: `out` [size] becomes what is
 * known of them, the rest 0. A size of 0 is that of the first version, `first` bytes; NULL are all defaults.
 * What a later version has set and this one does not know is refused. */
up_status up_options_take(const char *what, const void *given, size_t first, void *out, size_t size);
/* The bytes of a struct up to the end of a member. */
#define UP_BYTES_TO(type, member) (offsetof(type, member) + sizeof((type){0}.member))

/* Return UP_ERR_ARGUMENT where one of the pointers is NULL. */
#define UP_GIVEN(...)                                                                                        \
    do {                                                                                                     \
        const void *const up_given_[] = {__VA_ARGS__};                                                       \
        UP_TRY(up_given_each(#__VA_ARGS__, up_given_, sizeof up_given_ / sizeof *up_given_));                \
    } while (0)

#endif

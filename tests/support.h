/* support.h - what every CUnit program of the suite shares: its main, the paths of the tree, comparisons. */
#ifndef UP_TESTS_SUPPORT_H
#define UP_TESTS_SUPPORT_H

#include <CUnit/CUnit.h>
#include <stddef.h>
#include <stdint.h>

typedef struct up_test {
    const char *name;
    void (*run)(void);
} up_test;

/* Each program defines its table, ended by a row of NULL, and its suite's name. */
extern const up_test up_tests[];
extern const char *const up_suite_name;

/* A program may define it: why none of its tests can run here, or NULL. It ends with UP_TEST_SKIPPED then,
 * having printed the reason. Left out, the tests always run. */
extern const char *up_suite_lacks(void) __attribute__((weak));
enum { UP_TEST_SKIPPED = 77 };

/* "<source tree>/<relative>" in one of a few static buffers. */
const char *up_test_path(const char *relative);

/* The seed of random cases: the environment's UP_TEST_SEED, or a fixed default; printed on failure by the
 * caller. */
uint64_t up_test_seed(void);

/* ||a - b|| / ||b|| over n values, in double; NaN or infinity in a where b is finite gives infinity. */
double up_test_relative_error(const float *a, const double *b, size_t n);

/* Assert UP_OK and print the message of a failure. */
#define UP_ASSERT_OK(call)                                                                                   \
    do {                                                                                                     \
        int up_status_ = (int)(call);                                                                        \
        if (up_status_ != 0) fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, up_last_error());            \
        CU_ASSERT_EQUAL_FATAL(up_status_, 0);                                                                \
    } while (0)

#endif

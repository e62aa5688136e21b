/* support.c - main of every CUnit program: runs the table, prints failures, and lets the exit code be the
 * verdict. */
#include "tests/support.h"
#include "uniperceiver/status.h"

#include <CUnit/Basic.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

const char *up_test_path(const char *relative) {
    static char paths[8][1024];
    static int next;
    const char *root = getenv("UP_SOURCE_DIR");
    char *path = paths[next++ & 7];
    snprintf(path, sizeof paths[0], "%s/%s", root ? root : ".", relative);
    return path;
}

uint64_t up_test_seed(void) {
    const char *text = getenv("UP_TEST_SEED");
    return text ? strtoull(text, NULL, 0) : 20211202u;
}

double up_test_relative_error(const float *a, const double *b, size_t n) {
    double diff = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(a[i]) && isfinite(b[i])) return INFINITY;
        diff += (a[i] - b[i]) * (a[i] - b[i]);
        norm += b[i] * b[i];
    }
    return norm > 0 ? sqrt(diff / norm) : sqrt(diff);
}

/* Arguments: names of the tests to run; none = all. */
static int wanted(const char *name, int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], name)) return 1;
    return argc == 1;
}

int main(int argc, char **argv) {
    const char *lacking = up_suite_lacks ? up_suite_lacks() : NULL;
    if (lacking) {
        printf("%s: skipped: %s\n", up_suite_name, lacking);
        return UP_TEST_SKIPPED;
    }
    if (CU_initialize_registry() != CUE_SUCCESS) return 2;
    CU_pSuite suite = CU_add_suite(up_suite_name, NULL, NULL);
    for (const up_test *test = up_tests; test->name; test++)
        if (wanted(test->name, argc, argv)) CU_add_test(suite, test->name, test->run);
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failures = CU_get_number_of_failures(), asserted = CU_get_number_of_asserts();
    CU_cleanup_registry();
    return failures || !asserted; /* a run without an assertion proves nothing */
}

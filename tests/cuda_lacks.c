/* cuda_lacks.c - programs that test the CUDA backend are skipped where there is none to test: no GPU, no
 * driver, no cuBLAS. */
#include "tests/support.h"
#include "uniperceiver/backend.h"

const char *up_suite_lacks(void) {
    up_backend *b = NULL;
    up_status status = up_backend_create("cuda", 0, &b);
    if (status == UP_OK) up_backend_free(b);
    return status == UP_ERR_UNSUPPORTED ? up_last_error() : NULL;
}

/* backends.c - the backends by name. */
#include "uniperceiver/backend.h"
#include "ref/given.h"

#include <string.h>

static up_status create_ref(int threads, up_backend **out) {
    (void)threads; /* the reference has one */
    return up_backend_ref(out);
}

static up_status create_cuda(int threads, up_backend **out) {
    (void)threads; /* the device has its own */
#ifdef UP_WITH_CUDA
    return up_backend_cuda(out);
#else
    (void)out;
    return up_fail(UP_ERR_UNSUPPORTED, "backend cuda", "not built");
#endif
}

static const struct {
    const char *name;
    up_status (*create)(int threads, up_backend **out);
} backends[] = {{"ref", create_ref}, {"cpu", up_backend_cpu}, {"cuda", create_cuda}};

up_status up_backend_create(const char *name, int threads, up_backend **out) {
    UP_GIVEN(name, out);
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
        if (!strcmp(name, backends[i].name)) return backends[i].create(threads, out);
    return up_fail(UP_ERR_ARGUMENT, "backend", "'%s' is unknown; wanted ref, cpu or cuda", name);
}

void up_backend_free(up_backend *backend) {
    if (backend) backend->ops->destroy(backend);
}

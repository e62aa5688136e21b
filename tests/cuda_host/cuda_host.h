/* cuda_host.h - what tests may ask the host executor, beyond CUDA. Its environment is in README.md. */
#ifndef UP_CUDA_HOST_H
#define UP_CUDA_HOST_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 1 where the kernels of this program were compiled in the checked mode. */
int up_cuda_host_checked(void);
/* How many of the 2-byte units of device memory still hold the pattern of new memory (as f32, f16 and bf16 a
 * NaN). Waits for the device. */
size_t up_cuda_host_is_poison(const void *device, size_t bytes);
/* Allocations of device memory, and bytes of them, that are not freed. */
size_t up_cuda_host_allocations(size_t *bytes);
/* Kernels that were run so far. */
size_t up_cuda_host_kernels(void);

#ifdef __cplusplus
}
#endif

#endif

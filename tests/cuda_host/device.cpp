/* device.cpp - what the device is, and launches. */
#include "executor.h"

#include <map>

static std::map<const void *, size_t> shared_limits; /* of kernels that were allowed more than 48 KiB */
static constexpr size_t SHARED_DEFAULT = 48 << 10;

/* The most shared memory of a block, by compute capability. */
static size_t shared_most() {
    const int capability = up_settings_get().capability;
    return (size_t)(capability >= 90 ? 227 : capability >= 80 ? 163 : capability >= 75 ? 64 : 96) << 10;
}

cudaError_t cudaGetDeviceCount(int *count) {
    *count = 1;
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int *device) {
    *device = 0;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
    return up_error(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}
cudaError_t cudaDriverGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaDeviceReset() {
    return cudaDeviceSynchronize();
}
cudaError_t cudaDeviceGetPCIBusId(char *id, int length, int) {
    snprintf(id, (size_t)length, "0000:00:00.0");
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device) {
    if (device != 0) return up_error(cudaErrorInvalidDevice);
    *p = cudaDeviceProp{};
    snprintf(p->name, sizeof p->name, "host executor, not a GPU");
    p->totalGlobalMem = up_settings_get().memory;
    p->major = up_settings_get().capability / 10;
    p->minor = up_settings_get().capability % 10;
    p->sharedMemPerBlock = SHARED_DEFAULT;
    p->sharedMemPerBlockOptin = shared_most();
    p->sharedMemPerMultiprocessor = shared_most() + 1024;
    p->multiProcessorCount =
        4; /* few, so that grids that loop over more work than they have blocks do loop */
    p->warpSize = warpSize;
    p->maxThreadsPerBlock = 1024;
    p->maxThreadsPerMultiProcessor = 2048;
    p->regsPerBlock = p->regsPerMultiprocessor = 65536;
    p->l2CacheSize = 6 << 20;
    p->maxGridSize[0] = 0x7fffffff;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
    p->maxThreadsDim[2] = 64;
    p->asyncEngineCount = 1;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device) {
    cudaDeviceProp p;
    const cudaError_t error = cudaGetDeviceProperties(&p, device);
    if (error) return error;
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
        *value = p.maxThreadsPerBlock;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = (int)p.sharedMemPerBlock;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = (int)p.sharedMemPerBlockOptin;
        break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *value = (int)p.sharedMemPerMultiprocessor;
        break;
    case cudaDevAttrWarpSize:
        *value = p.warpSize;
        break;
    case cudaDevAttrMultiProcessorCount:
        *value = p.multiProcessorCount;
        break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
        *value = p.maxThreadsPerMultiProcessor;
        break;
    case cudaDevAttrComputeCapabilityMajor:
        *value = p.major;
        break;
    case cudaDevAttrComputeCapabilityMinor:
        *value = p.minor;
        break;
    case cudaDevAttrMemoryPoolsSupported:
        *value = 1;
        break;
    default:
        return up_error(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

cudaError_t up_cuda_host_set_shared(const void *kernel, cudaFuncAttribute attribute, int value) {
    const auto lock = up_lock();
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    if (value < 0 || (size_t)value > shared_most()) return up_error(cudaErrorInvalidValue);
    shared_limits[kernel] = (size_t)value;
    return cudaSuccess;
}

cudaError_t up_cuda_host_occupancy(int *blocks, int threads, size_t shared) {
    if (threads < 1 || threads > 1024) return up_error(cudaErrorInvalidValue);
    const size_t by_shared = (shared_most() + 1024) / (shared + 1024), by_threads = 2048 / (size_t)threads;
    *blocks = (int)(by_shared < by_threads ? by_shared : by_threads);
    return cudaSuccess;
}

static cudaError_t judge_launch(const up_launch_record &l) {
    const uint64_t threads = (uint64_t)l.block.x * l.block.y * l.block.z;
    const auto limit = shared_limits.find(l.kernel);
    if (threads == 0 || threads > 1024 || l.block.z > 64) return cudaErrorInvalidConfiguration;
    if (l.grid.x == 0 || l.grid.y == 0 || l.grid.z == 0) return cudaErrorInvalidConfiguration;
    if (l.grid.x > 0x7fffffff || l.grid.y > 65535 || l.grid.z > 65535) return cudaErrorInvalidConfiguration;
    if (l.shared >
        (limit == shared_limits.end() || limit->second < SHARED_DEFAULT ? SHARED_DEFAULT : limit->second))
        return cudaErrorInvalidValue;
    return l.call.size() > 4096 ? cudaErrorInvalidValue : cudaSuccess;
}

cudaError_t up_cuda_host_launch(const void *kernel, void (*run)(const void *call), const void *call,
                                size_t bytes, dim3 grid, dim3 block, size_t shared, cudaStream_t stream) {
    const auto lock = up_lock();
    const char *from = static_cast<const char *>(call);
    const up_launch_record launch = {kernel, run, std::vector<char>(from, from + bytes), grid, block, shared};
    const cudaError_t error = judge_launch(launch);
    if (error) return up_error(error);
    up_operation o;
    o.kernel = kernel;
    o.run = [launch] { up_run_kernel(launch); };
    return up_error(up_enqueue(stream, std::move(o)));
}

/* errors.cpp - settings, the executor's lock and random numbers, errors of CUDA's kind, and reports of bugs.
 */
#include "executor.h"

#include <dlfcn.h>
#include <link.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static long long setting(const char *name, long long otherwise) {
    const char *text = getenv(name);
    return text && *text ? atoll(text) : otherwise;
}

const up_settings &up_settings_get() {
    static const up_settings settings = {
        (unsigned)setting("UP_CUDA_HOST_SEED", 1),
        (int)setting("UP_CUDA_HOST_SM", 80),
        (size_t)setting("UP_CUDA_HOST_MEMORY", 16 << 10) << 20,
        setting("UP_CUDA_HOST_UNINIT", 1) != 0,
    };
    return settings;
}

std::unique_lock<std::recursive_mutex> up_lock() {
    static auto *mutex = new std::recursive_mutex;
    return std::unique_lock<std::recursive_mutex>(*mutex);
}

unsigned up_random() {
    static uint64_t state = up_settings_get().seed * 0x9e3779b97f4a7c15ull + 1;
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)(state >> 33);
}

/* ---- CUDA's errors ---- */
static thread_local cudaError_t last_error;

cudaError_t up_error(cudaError_t error) {
    if (error != cudaSuccess) last_error = error;
    return error;
}
cudaError_t cudaPeekAtLastError() {
    return last_error;
}
cudaError_t cudaGetLastError() {
    const cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

static const struct {
    cudaError_t error;
    const char *name, *text;
} error_table[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection", "invalid copy direction for memcpy"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorHostMemoryAlreadyRegistered, "cudaErrorHostMemoryAlreadyRegistered",
     "part or all of the requested memory range is already mapped"},
    {cudaErrorHostMemoryNotRegistered, "cudaErrorHostMemoryNotRegistered",
     "pointer does not correspond to a registered memory region"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureMerge, "cudaErrorStreamCaptureMerge",
     "operation would result in a merge of separate capture sequences"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
     "capture was not ended in the same stream as it began"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {cudaErrorCapturedEvent, "cudaErrorCapturedEvent",
     "operation not permitted on an event last recorded in a capturing stream"},
};

const char *cudaGetErrorName(cudaError_t error) {
    for (const auto &row : error_table)
        if (row.error == error) return row.name;
    return "unrecognized error code";
}
const char *cudaGetErrorString(cudaError_t error) {
    for (const auto &row : error_table)
        if (row.error == error) return row.text;
    return "unrecognized error code";
}

/* ---- reports ---- */
/* Asks addr2line (binutils, which a compiler comes with); where there is none, the bare address is what is
 * known. */
std::string up_place_of_code(const void *address, bool function) {
    Dl_info info;
    struct link_map *map = nullptr;
    char text[512];
    snprintf(text, sizeof text, "%p", address);
    if (!dladdr1(address, &info, reinterpret_cast<void **>(&map), RTLD_DL_LINKMAP) || !map) return text;
    char file[512] = "";
    if (*map->l_name)
        snprintf(file, sizeof file, "%s", map->l_name);
    else if (readlink("/proc/self/exe", file, sizeof file - 1) < 0)
        return text;
    char command[1024];
    snprintf(command, sizeof command, "addr2line -f -C -e '%s' 0x%zx 2>/dev/null", file,
             (size_t)((const char *)address - (const char *)map->l_addr));
    FILE *pipe = popen(command, "r");
    if (!pipe) return text;
    std::string lines[2];
    for (std::string &line : lines)
        if (fgets(text, sizeof text, pipe)) line = std::string(text, strcspn(text, "\n"));
    pclose(pipe);
    const std::string &answer = lines[function ? 0 : 1];
    if (answer.empty() || answer[0] == '?') snprintf(text, sizeof text, "%p", address);
    return answer.empty() || answer[0] == '?' ? text : answer;
}

std::string up_name_of_kernel(const void *kernel) {
    std::string name = up_place_of_code(kernel, true);
    size_t end = name.size(); /* the parameters are what the last closing parenthesis ends */
    for (int depth = 0; end > 0 && name.back() == ')'; end--) {
        depth += (name[end - 1] == ')') - (name[end - 1] == '(');
        if (depth == 0) break;
    }
    if (end && end < name.size()) name.resize(end - 1);
    return name.compare(0, 5, "void ") ? name : name.substr(5);
}

static void print_place(FILE *to) {
    const unsigned t = up_thread_now.thread;
    const unsigned x = t % blockDim.x, y = t / blockDim.x % blockDim.y, z = t / blockDim.x / blockDim.y;
    fprintf(to, "kernel %s, block (%u,%u,%u), thread (%u,%u,%u): ", up_name_of_kernel(up_thread_now.kernel).c_str(),
            blockIdx.x, blockIdx.y, blockIdx.z, x, y, z);
}

void up_report(const char *format, ...) {
    fflush(stdout);
    fprintf(stderr, "cuda host executor: ");
    if (up_in_kernel) print_place(stderr);
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    fflush(stderr);
    abort();
}

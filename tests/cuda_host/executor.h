/* executor.h - what the parts of the executor know of each other. One lock (`up_lock`) is held through every
 * call of the runtime, so that all of this is used by one thread at a time. */
#ifndef UP_EXECUTOR_H
#define UP_EXECUTOR_H

#include "cuda_host.h"
#include "cuda_runtime.h"

#include <functional>
#include <memory>
#include <mutex>
#include <stdio.h>
#include <string>
#include <vector>

/* ---- errors.cpp ---- */
struct up_settings {
    unsigned seed;      /* UP_CUDA_HOST_SEED: order of blocks, threads and streams */
    int capability;     /* UP_CUDA_HOST_SM: 70, 80 or 90 */
    size_t memory;      /* UP_CUDA_HOST_MEMORY in MiB: of the device */
    bool uninitialised; /* UP_CUDA_HOST_UNINIT=0: reads of memory that nobody wrote are no error */
};
const up_settings &up_settings_get();
std::unique_lock<std::recursive_mutex> up_lock();
unsigned up_random();                    /* 31 bits */
cudaError_t up_error(cudaError_t error); /* records it as the thread's last one unless it is cudaSuccess */
/* Prints "cuda host executor: [kernel, block, thread:] message" and aborts: what is reported so is a bug of
 * the program that a real GPU may hide. */
[[noreturn]] void up_report(const char *format, ...) __attribute__((format(printf, 1, 2)));
std::string up_place_of_code(const void *address, bool function); /* "file:line", or the function's name */

std::string up_name_of_kernel(const void *kernel); /* without its parameters */

/* ---- memory.cpp ---- */
struct up_allocation {
    char *at; /* what the program got; its end, on a boundary of 256 bytes, is the region's */
    size_t bytes;
    char *region; /* pages; a page that is never accessible follows */
    size_t region_bytes;
    unsigned long long number;
};
constexpr unsigned short UP_POISON = 0x7fa5;
constexpr size_t UP_RANGE = (size_t)32 << 30; /* bytes of addresses for device memory */
extern char *up_range;
void up_poison(void *at, size_t bytes); /* at: even */
bool up_is_device(const void *at);      /* inside the address range of device memory */
const up_allocation *up_allocation_of(const void *at,
                                      size_t bytes); /* that holds all of these bytes, or NULL */
std::string up_describe_address(const void *at);
bool up_is_pinned(const void *at, size_t bytes);
void up_free_now(void *at);
/* Device memory is accessible while one of these lives. */
struct up_opened {
    up_opened();
    ~up_opened();
};
void up_install_fault_handler(); /* for the calling thread */

/* ---- fibre.cpp ---- */
struct up_fibre {
    void *context;
    char *low, *high; /* its stack */
};
up_fibre *up_fibre_create(void (*entry)());
void up_fibre_switch(up_fibre *from, up_fibre *to);
bool up_is_fibre_guard(const void *at);

/* ---- block.cpp ---- */
struct up_launch_record {
    const void *kernel;
    void (*run)(const void *call);
    std::vector<char> call;
    dim3 grid, block;
    size_t shared;
};
struct up_running { /* what runs now */
    const void *kernel;
    up_fibre *fibre;
    const char *call, *call_end;
    char *shared, *shared_end;
    unsigned thread, threads; /* within the block */
};
extern up_running up_thread_now;
extern thread_local bool up_in_kernel; /* this thread of the host runs it */
void up_run_kernel(const up_launch_record &launch);
bool up_is_shared_room(const void *at); /* or the guard behind it */
/* A warp operation of all 32 lanes: when each has given its `mine`, complete(all of them, by lane) is called
 * once. */
void up_warp_together(const char *what, void *mine, void (*complete)(void **lanes), const char *file,
                      int line);

/* ---- streams.cpp ---- */
typedef std::vector<uint64_t> up_clock; /* by stream: how far it is known to be done */
struct up_place {                       /* of an operation: the n-th of a stream */
    unsigned stream;
    uint64_t position;
};
struct up_pinned { /* host memory that an operation reads late; rows 0: none */
    const char *at;
    size_t pitch, width, rows;
    uint64_t sum;
};
struct up_operation {
    std::string what;
    const void *kernel = nullptr; /* named by it instead */
    std::function<void()> run;
    up_pinned source = {};
    std::vector<up_place> after;  /* besides the operations before it in its stream */
    std::vector<int> after_nodes; /* the same inside a capture */
    up_clock clock;
    up_place place = {};
};
std::string up_name_of(const up_operation &operation);
cudaError_t up_enqueue(cudaStream_t stream, up_operation operation);
void up_finish_all();

/* ---- check.cpp: does nothing where the kernels are not instrumented ---- */
enum up_access { UP_READ, UP_WRITE, UP_ATOMIC };
void up_check_allocated(const up_allocation &a);
void up_check_freed(const up_allocation &a);
void up_check_operation(const up_operation &operation); /* begins */
void up_check_idle(
    const up_clock &host); /* no operation is left in any queue; what the host has waited for */
void up_check_block();     /* a block begins */
void up_check_barrier();   /* all its threads are there */
void up_check_warp_barrier(unsigned warp);
/* The running thread touches memory in the code at `code`. */
void up_check_thread(const void *at, size_t bytes, up_access access, const void *code);
/* An operation that is no kernel touches device memory. Copies hand on which bytes were never written. */
void up_check_range(const void *at, size_t bytes, up_access access);
void up_check_copied(void *to, const void *from, size_t bytes);

#endif

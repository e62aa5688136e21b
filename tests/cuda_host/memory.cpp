/* memory.cpp - device memory that the host cannot touch, pinned memory, and what is said when someone touches
 * the wrong place.
 *
 * Device memory is one range of addresses. Each allocation is some pages of it, with a page behind them that
 * is never accessible; between the allocation and the edges of its pages lie red zones, whose pattern is
 * looked at when it is freed. All pages are inaccessible except while operations of the device run. */
#include "executor.h"

#include <map>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

namespace {
constexpr size_t ALIGN = 256, LARGE = 4 << 20;
constexpr unsigned char RED = 0xdb;
size_t page;
char *cursor;
std::map<const char *, up_allocation> live; /* by region */
std::map<const char *, size_t> pinned;
std::map<const char *, size_t> registered;
size_t bytes_live;
unsigned long long allocations;
int opened;
} // namespace
char *up_range;

void up_poison(void *at, size_t bytes) {
    unsigned short *unit = static_cast<unsigned short *>(at);
    for (size_t i = 0; i < bytes / 2; i++) unit[i] = UP_POISON;
    if (bytes % 2) static_cast<unsigned char *>(at)[bytes - 1] = UP_POISON & 0xff;
}

/* ---- where an address lies ---- */
bool up_is_device(const void *at) {
    const char *p = static_cast<const char *>(at);
    return up_range && p >= up_range && p < up_range + UP_RANGE;
}

static const up_allocation *region_before(const char *p) {
    auto next = live.upper_bound(p);
    if (next == live.begin()) return nullptr;
    return &std::prev(next)->second;
}

const up_allocation *up_allocation_of(const void *at, size_t bytes) {
    const char *p = static_cast<const char *>(at);
    const up_allocation *a = region_before(p);
    return a && p >= a->at && p + bytes <= a->at + a->bytes ? a : nullptr;
}

std::string up_describe_address(const void *at) {
    const char *p = static_cast<const char *>(at);
    char text[160];
    if (!up_is_device(at)) {
        snprintf(text, sizeof text, "address %p, which is no device memory", at);
        return text;
    }
    auto next = live.upper_bound(p);
    const up_allocation *a = region_before(p), *b = next == live.end() ? nullptr : &next->second;
    if (a && p >= a->at && p < a->at + a->bytes)
        snprintf(text, sizeof text, "byte %zu of device allocation %llu of %zu bytes", (size_t)(p - a->at),
                 a->number, a->bytes);
    else if (a && p >= a->at && p < a->region + a->region_bytes + page)
        snprintf(text, sizeof text, "byte %zu of device allocation %llu of %zu bytes: behind its end",
                 (size_t)(p - a->at), a->number, a->bytes);
    else if ((a && p >= a->region && p < a->at) || (b && p >= b->region - page))
        snprintf(text, sizeof text, "%zu bytes before the start of a device allocation",
                 (size_t)((a && p < a->at ? a->at : b->at) - p));
    else
        snprintf(text, sizeof text, "address %p of device memory that is not allocated, or was freed", at);
    return text;
}

/* ---- open and closed ---- */
static void protect(const up_allocation &a, int how) {
    if (mprotect(a.region, a.region_bytes, how)) up_report("mprotect of device memory fails");
}

up_opened::up_opened() {
    if (opened++) return;
    for (const auto &a : live) protect(a.second, PROT_READ | PROT_WRITE);
}

up_opened::~up_opened() {
    if (--opened) return;
    for (const auto &a : live) protect(a.second, PROT_NONE);
}

/* ---- allocation ---- */
static void report_leaks() {
    if (live.empty()) return;
    fprintf(stderr,
            "cuda host executor: leak: %zu allocations of device memory, %zu bytes, were not freed; the "
            "first is number %llu\n",
            live.size(), bytes_live, live.begin()->second.number);
    fflush(nullptr);
    _exit(1);
}

static void begin() {
    if (up_range) return;
    page = (size_t)sysconf(_SC_PAGESIZE);
    void *room = mmap(nullptr, UP_RANGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) up_report("no address range for device memory");
    up_range = static_cast<char *>(room);
    cursor = up_range + page;
    up_install_fault_handler();
    atexit(report_leaks);
}

/* The first gap behind the last allocation, so that an address is used again as late as possible. */
static char *find_room(size_t bytes) {
    for (int round = 0; round < 2; round++) {
        char *at = cursor;
        for (auto next = live.lower_bound(at); at + bytes <= up_range + UP_RANGE; ++next) {
            if (next == live.end() || at + bytes <= next->second.region) return at;
            at = next->second.region + next->second.region_bytes + page;
        }
        cursor = up_range + page;
    }
    return nullptr;
}

static cudaError_t allocate(void **pointer, size_t bytes) {
    begin();
    if (bytes > up_settings_get().memory - bytes_live) return cudaErrorMemoryAllocation;
    const size_t used = (bytes + ALIGN - 1) / ALIGN * ALIGN, pages = (used + ALIGN + page - 1) / page * page;
    char *region = find_room(pages + page);
    if (!region || mprotect(region, pages, PROT_READ | PROT_WRITE)) return cudaErrorMemoryAllocation;
    const up_allocation a = {region + pages - used, bytes, region, pages, ++allocations};
    cursor = region + pages + page;
    if (bytes >= LARGE) madvise(region, pages, MADV_HUGEPAGE); /* opening and closing is by page */
    memset(region, RED, (size_t)(a.at - region));
    up_poison(a.at, bytes);
    memset(a.at + bytes, RED, used - bytes);
    live[region] = a;
    bytes_live += bytes;
    up_check_allocated(a);
    if (!opened) protect(a, PROT_NONE);
    *pointer = a.at;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **pointer, size_t bytes) {
    const auto lock = up_lock();
    if (!pointer) return up_error(cudaErrorInvalidValue);
    *pointer = nullptr;
    if (bytes == 0) return cudaSuccess;
    return up_error(allocate(pointer, bytes));
}

static void check_red_zones(const up_allocation &a) {
    const char *end = a.region + a.region_bytes;
    for (const char *p = a.region; p < end; p++) {
        if (p == a.at) p += a.bytes;
        if (p < end && (unsigned char)*p != RED)
            up_report("something wrote to %s", up_describe_address(p).c_str());
    }
}

void up_free_now(void *at) {
    const up_opened open;
    const up_allocation a = *up_allocation_of(at, 0);
    check_red_zones(a);
    up_check_freed(a);
    live.erase(a.region);
    bytes_live -= a.bytes;
    madvise(a.region, a.region_bytes, MADV_DONTNEED);
    protect(a, PROT_NONE);
}

cudaError_t cudaFree(void *pointer) {
    const auto lock = up_lock();
    if (!pointer) return cudaSuccess;
    const up_allocation *a = up_allocation_of(pointer, 0);
    if (!a || a->at != pointer) return up_error(cudaErrorInvalidValue);
    up_finish_all();
    up_free_now(pointer);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
    const auto lock = up_lock();
    *total = up_settings_get().memory;
    *free = *total - bytes_live;
    return cudaSuccess;
}

size_t up_cuda_host_allocations(size_t *bytes) {
    const auto lock = up_lock();
    if (bytes) *bytes = bytes_live;
    return live.size();
}

size_t up_cuda_host_is_poison(const void *device, size_t bytes) {
    const auto lock = up_lock();
    up_finish_all();
    const up_opened open;
    const unsigned short *unit = static_cast<const unsigned short *>(device);
    size_t count = 0;
    for (size_t i = 0; i < bytes / 2; i++) count += unit[i] == UP_POISON;
    return count;
}

/* ---- pinned memory ---- */
static bool holds(const std::map<const char *, size_t> &ranges, const char *p, size_t bytes) {
    auto next = ranges.upper_bound(p);
    if (next == ranges.begin()) return false;
    --next;
    return p + bytes <= next->first + next->second;
}

bool up_is_pinned(const void *at, size_t bytes) {
    const char *p = static_cast<const char *>(at);
    return holds(pinned, p, bytes) || holds(registered, p, bytes);
}

cudaError_t cudaHostAlloc(void **pointer, size_t bytes, unsigned) {
    const auto lock = up_lock();
    if (!pointer) return up_error(cudaErrorInvalidValue);
    *pointer = nullptr;
    if (bytes == 0) return cudaSuccess;
    if (posix_memalign(pointer, 4096, bytes)) return up_error(cudaErrorMemoryAllocation);
    up_poison(*pointer, bytes);
    pinned[static_cast<char *>(*pointer)] = bytes;
    return cudaSuccess;
}
cudaError_t cudaMallocHost(void **pointer, size_t bytes) {
    return cudaHostAlloc(pointer, bytes, 0);
}

cudaError_t cudaFreeHost(void *pointer) {
    const auto lock = up_lock();
    if (!pointer) return cudaSuccess;
    if (!pinned.count(static_cast<char *>(pointer))) return up_error(cudaErrorInvalidValue);
    up_finish_all();
    pinned.erase(static_cast<char *>(pointer));
    free(pointer);
    return cudaSuccess;
}

cudaError_t cudaHostRegister(void *pointer, size_t bytes, unsigned) {
    const auto lock = up_lock();
    if (!pointer || bytes == 0) return up_error(cudaErrorInvalidValue);
    if (!registered.emplace(static_cast<char *>(pointer), bytes).second)
        return up_error(cudaErrorHostMemoryAlreadyRegistered);
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *pointer) {
    const auto lock = up_lock();
    if (!registered.count(static_cast<char *>(pointer))) return up_error(cudaErrorHostMemoryNotRegistered);
    up_finish_all();
    registered.erase(static_cast<char *>(pointer));
    return cudaSuccess;
}

/* ---- faults ---- */
static struct sigaction before;

static void on_fault(int signal, siginfo_t *info, void *) {
    const void *at = info->si_addr;
    sigaction(SIGSEGV, &before, nullptr); /* a fault in here is the end */
    if (up_is_fibre_guard(at)) up_report("the stack of a thread is full");
    if (up_in_kernel && up_is_shared_room(at))
        up_report("touches shared memory behind its %zu bytes", (size_t)(up_thread_now.shared_end - up_thread_now.shared));
    if (up_in_kernel) up_report("touches %s", up_describe_address(at).c_str());
    if (up_is_device(at))
        up_report("code of the host touches device memory: %s", up_describe_address(at).c_str());
    (void)signal; /* not ours: the instruction runs again, and whoever handled such signals before gets it */
}

void up_install_fault_handler() {
    static bool installed;
    static thread_local std::unique_ptr<char[]> stack;
    if (!stack) {
        constexpr size_t bytes = 128 << 10;
        stack.reset(new char[bytes]);
        stack_t alternative = {};
        alternative.ss_sp = stack.get();
        alternative.ss_size = bytes;
        sigaltstack(&alternative, nullptr);
    }
    if (installed) return;
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaction(SIGSEGV, &action, &before);
    installed = true;
}

/* block.cpp - runs a kernel: its blocks one after another, the threads of a block as fibres that are switched
 * where they wait, at barriers and warp operations. Whoever comes last completes the operation for all and
 * goes on.
 *
 * A fibre runs thread after thread until one has to wait; so a kernel without barriers runs on one stack. */
#include "executor.h"

#include <sys/mman.h>
#include <unistd.h>

up_running up_thread_now;
thread_local bool up_in_kernel;
uint3 threadIdx __attribute__((section("up_index"))), blockIdx __attribute__((section("up_index")));
dim3 blockDim __attribute__((section("up_index"))), gridDim __attribute__((section("up_index")));

namespace {
enum wait { RUNS, AT_BARRIER, AT_WARP, EXITED, NOT_BEGUN };
enum operation { BARRIER, SYNC_WARP, SHUFFLE, VOTE, TOGETHER };

struct thread {
    up_fibre *fibre;
    uint3 index;
    enum wait wait;
    /* what it waits at: */
    enum operation operation;
    const char *what, *file;
    int line;
    unsigned mask;
    int kind, lane, width; /* of a shuffle */
    uint64_t value, result;
    void *mine;
};

constexpr unsigned LIMIT = 1024;
thread threads[LIMIT];
unsigned ready[LIMIT], ready_first, ready_count; /* a ring of threads that may go on */
unsigned begun, exited, at_barrier, at_warp[LIMIT / 32];
bool backwards; /* threads begin with the last */
std::vector<up_fibre *> idle;
up_fibre *main_fibre;
const up_launch_record *launched;
char *shared_room;
constexpr size_t SHARED = 256 << 10;
size_t kernels_run;

thread &self() {
    return threads[up_thread_now.thread];
}
} // namespace

size_t up_cuda_host_kernels(void) {
    const auto lock = up_lock();
    return kernels_run;
}

/* ---- who goes on ---- */
static void make_ready(unsigned t) {
    threads[t].wait = RUNS;
    ready[(ready_first + ready_count++) % LIMIT] = t;
}

static void become(unsigned t) {
    up_thread_now.thread = t;
    threadIdx = threads[t].index;
}

static std::string name_of_thread(unsigned t) {
    char text[64];
    snprintf(text, sizeof text, "thread (%u,%u,%u)", threads[t].index.x, threads[t].index.y,
             threads[t].index.z);
    return text;
}

static std::string state_of_thread(unsigned t) {
    if (t >= up_thread_now.threads)
        return "lane " + std::to_string(t % 32) + " does not exist: the block has no such thread";
    const thread &o = threads[t];
    if (o.wait == EXITED) return name_of_thread(t) + " has ended";
    if (o.wait != AT_BARRIER && o.wait != AT_WARP) return name_of_thread(t) + " is elsewhere";
    char mask[32] = "";
    if (o.wait == AT_WARP) snprintf(mask, sizeof mask, " with mask 0x%x", o.mask);
    return name_of_thread(t) + " is at " + o.what + mask + ", " + o.file + ":" + std::to_string(o.line);
}

/* All threads that have not ended wait: says what for. */
[[noreturn]] static void report_deadlock() {
    for (unsigned t = 0; t < up_thread_now.threads; t++) {
        const thread &o = threads[t];
        if (o.wait != AT_WARP) continue;
        const unsigned missing = o.mask & ~at_warp[t / 32], lane = (unsigned)__builtin_ctz(missing);
        up_thread_now.thread = t;
        up_report("%s with mask 0x%x at %s:%d: a lane of the mask is missing: %s", o.what, o.mask, o.file,
                  o.line, state_of_thread(t / 32 * 32 + lane).c_str());
    }
    unsigned waits = 0, other = 0;
    while (threads[waits].wait != AT_BARRIER) waits++;
    while (threads[other].wait == AT_BARRIER) other++;
    up_thread_now.thread = waits;
    up_report("%s at %s:%d is not reached by all threads: %s", threads[waits].what, threads[waits].file,
              threads[waits].line, state_of_thread(other).c_str());
}

static void work();

/* Leaves the fibre for another one; comes back when a thread of it, or a new one, may run. */
static void leave(up_fibre *from) {
    up_fibre *to;
    if (ready_count) {
        const unsigned t = ready[ready_first];
        ready_first = (ready_first + 1) % LIMIT;
        ready_count--;
        become(t);
        to = threads[t].fibre;
    } else if (begun < up_thread_now.threads) {
        if (idle.empty()) idle.push_back(up_fibre_create(work));
        to = idle.back();
        idle.pop_back();
    } else if (exited == up_thread_now.threads) {
        to = main_fibre;
    } else {
        report_deadlock();
    }
    up_thread_now.fibre = to;
    up_fibre_switch(from, to);
}

/* What every fibre runs. */
static void work() {
    up_fibre *fibre = up_thread_now.fibre;
    for (;;) {
        if (begun == up_thread_now.threads || ready_count) {
            idle.push_back(fibre);
            leave(fibre);
            continue;
        }
        const unsigned t = backwards ? up_thread_now.threads - 1 - begun : begun;
        begun++;
        threads[t].fibre = fibre;
        threads[t].wait = RUNS;
        become(t);
        launched->run(up_thread_now.call);
        threads[t].wait = EXITED;
        exited++;
    }
}

/* ---- barriers ---- */
static void same_barrier(const thread &first) {
    const thread &me = self();
    if (me.line == first.line && me.file == first.file && me.what == first.what) return;
    up_report("%s at %s:%d while %s: threads of a block are at different barriers", me.what, me.file, me.line,
              state_of_thread((unsigned)(&first - threads)).c_str());
}

/* Waits for the block; *true_values: how many gave a value that is not 0. */
static unsigned barrier(const char *what, int value, const char *file, int line) {
    static unsigned first, true_values;
    thread &me = self();
    me.what = what;
    me.file = file;
    me.line = line;
    if (at_barrier == 0) first = up_thread_now.thread;
    if (at_barrier == 0) true_values = 0;
    if (at_barrier > 0) same_barrier(threads[first]);
    true_values += value != 0;
    if (++at_barrier < up_thread_now.threads) {
        me.wait = AT_BARRIER;
        leave(me.fibre);
        return (unsigned)me.result;
    }
    at_barrier = 0;
    up_check_barrier();
    for (unsigned t = 0; t < up_thread_now.threads; t++) {
        threads[t].result = true_values;
        if (t != up_thread_now.thread) make_ready(t);
    }
    return true_values;
}

void __syncthreads(const char *file, int line) {
    barrier("__syncthreads", 0, file, line);
}
int __syncthreads_or(int value, const char *file, int line) {
    return barrier("__syncthreads_or", value, file, line) > 0;
}
int __syncthreads_and(int value, const char *file, int line) {
    return barrier("__syncthreads_and", value, file, line) == up_thread_now.threads;
}
int __syncthreads_count(int value, const char *file, int line) {
    return (int)barrier("__syncthreads_count", value, file, line);
}

/* ---- warp operations ---- */
/* The lane that `lane` of a shuffle reads; segments of `width` lanes, as PTX defines shfl.sync. */
static unsigned source_lane(const thread &o, unsigned lane) {
    const int width = o.width, start = (int)lane & ~(width - 1), end = start + width - 1;
    int from = 0;
    if (o.kind == UP_SHUFFLE_INDEX) return (unsigned)(start | (o.lane & (width - 1)));
    if (o.kind == UP_SHUFFLE_UP) from = (int)lane - o.lane;
    if (o.kind == UP_SHUFFLE_DOWN) from = (int)lane + o.lane;
    if (o.kind == UP_SHUFFLE_XOR) from = (int)lane ^ o.lane;
    const bool outside = o.kind == UP_SHUFFLE_UP ? from < start : from > end;
    return outside ? lane : (unsigned)from;
}

static void shuffle(thread *lanes, unsigned mask) {
    for (unsigned l = 0; l < 32; l++) {
        if (!(mask >> l & 1)) continue;
        const unsigned from = source_lane(lanes[l], l);
        if (!(mask >> from & 1))
            up_report("%s at %s:%d: lane %u reads lane %u, which is missing in the mask 0x%x", lanes[l].what,
                      lanes[l].file, lanes[l].line, l, from, mask);
        lanes[l].result = lanes[from].value;
    }
}

static void vote(thread *lanes, unsigned mask) {
    uint64_t ballot = 0;
    for (unsigned l = 0; l < 32; l++)
        if (mask >> l & 1 && lanes[l].value) ballot |= 1u << l;
    for (unsigned l = 0; l < 32; l++)
        if (mask >> l & 1) lanes[l].result = ballot;
}

static void together(thread *lanes, void (*complete)(void **)) {
    void *all[32];
    for (unsigned l = 0; l < 32; l++) all[l] = lanes[l].mine;
    complete(all);
}

/* All lanes of the mask wait at the same place for the same thing, or it is reported. */
static void same_operation(thread *lanes, unsigned mask) {
    const thread &me = self();
    for (unsigned l = 0; l < 32; l++) {
        if (!(mask >> l & 1)) continue;
        const thread &o = lanes[l];
        if (o.mask == me.mask && o.line == me.line && o.file == me.file && o.what == me.what &&
            o.kind == me.kind)
            continue;
        up_report("%s with mask 0x%x at %s:%d while %s: lanes of one mask are at different operations",
                  me.what, me.mask, me.file, me.line, state_of_thread((unsigned)(&o - threads)).c_str());
    }
}

/* Waits until all lanes of me.mask are here; the last one does it for all. */
static uint64_t warp(enum operation operation, const char *what, unsigned mask, const char *file, int line,
                     void (*complete)(void **) = nullptr) {
    thread &me = self();
    const unsigned number = up_thread_now.thread / 32, lane = up_thread_now.thread % 32;
    thread *lanes = &threads[number * 32];
    me.operation = operation;
    me.what = what;
    me.mask = mask;
    me.file = file;
    me.line = line;
    if (!(mask >> lane & 1))
        up_report("%s at %s:%d: the mask 0x%x lacks the caller's lane %u", what, file, line, mask, lane);
    at_warp[number] |= 1u << lane;
    if ((at_warp[number] & mask) != mask) {
        me.wait = AT_WARP;
        leave(me.fibre);
        return me.result;
    }
    same_operation(lanes, mask);
    if (operation == SYNC_WARP && mask == ~0u) up_check_warp_barrier(number);
    if (operation == SHUFFLE) shuffle(lanes, mask);
    if (operation == VOTE) vote(lanes, mask);
    if (operation == TOGETHER) together(lanes, complete);
    at_warp[number] &= ~mask;
    for (unsigned l = 0; l < 32; l++)
        if (mask >> l & 1 && l != lane) make_ready(number * 32 + l);
    return me.result;
}

void __syncwarp(unsigned mask, const char *file, int line) {
    warp(SYNC_WARP, "__syncwarp", mask, file, line);
}

uint64_t up_cuda_host_exchange(up_cuda_host_shuffle kind, unsigned mask, uint64_t value, int lane, int width,
                               const char *file, int line) {
    static const char *const names[] = {"__shfl_sync", "__shfl_up_sync", "__shfl_down_sync",
                                        "__shfl_xor_sync"};
    thread &me = self();
    if (width < 1 || width > 32 || width & (width - 1))
        up_report("%s at %s:%d: width %d", names[kind], file, line, width);
    me.kind = kind;
    me.value = value;
    me.lane = lane;
    me.width = width;
    return warp(SHUFFLE, names[kind], mask, file, line);
}

static unsigned ballot(const char *what, unsigned mask, int value, const char *file, int line) {
    self().value = value != 0;
    return (unsigned)warp(VOTE, what, mask, file, line);
}
unsigned __ballot_sync(unsigned mask, int value, const char *file, int line) {
    return ballot("__ballot_sync", mask, value, file, line);
}
int __any_sync(unsigned mask, int value, const char *file, int line) {
    return ballot("__any_sync", mask, value, file, line) != 0;
}
int __all_sync(unsigned mask, int value, const char *file, int line) {
    return ballot("__all_sync", mask, value, file, line) == mask;
}
unsigned __activemask() {
    return 1u << up_thread_now.thread % 32;
}

void up_warp_together(const char *what, void *mine, void (*complete)(void **lanes), const char *file,
                      int line) {
    self().mine = mine;
    warp(TOGETHER, what, ~0u, file, line, complete);
}

/* ---- atomics: a switch never falls between the read and the write ---- */
#define UP_ATOMIC(name, type, next)                                                                          \
    type name(type *address, type value) {                                                                   \
        up_check_thread(address, sizeof *address, UP_ATOMIC, __builtin_return_address(0));                   \
        const type old = *address;                                                                           \
        *address = next;                                                                                     \
        return old;                                                                                          \
    }
UP_ATOMIC(atomicAdd, int, (int)((unsigned)old + (unsigned)value))
UP_ATOMIC(atomicAdd, unsigned, old + value)
UP_ATOMIC(atomicAdd, unsigned long long, old + value)
UP_ATOMIC(atomicAdd, float, old + value)
UP_ATOMIC(atomicAdd, double, old + value)
UP_ATOMIC(atomicMax, int, old > value ? old : value)
UP_ATOMIC(atomicMax, unsigned, old > value ? old : value)
UP_ATOMIC(atomicMin, int, old < value ? old : value)
UP_ATOMIC(atomicMin, unsigned, old < value ? old : value)
UP_ATOMIC(atomicOr, unsigned, old | value)
UP_ATOMIC(atomicAnd, unsigned, old &value)
UP_ATOMIC(atomicExch, int, value)
UP_ATOMIC(atomicExch, unsigned, value)
UP_ATOMIC(atomicExch, float, value)

template <class T> static T compare_and_swap(T *address, T compare, T value) {
    up_check_thread(address, sizeof *address, UP_ATOMIC, __builtin_return_address(0));
    const T old = *address;
    if (old == compare) *address = value;
    return old;
}
int atomicCAS(int *address, int compare, int value) {
    return compare_and_swap(address, compare, value);
}
unsigned atomicCAS(unsigned *address, unsigned compare, unsigned value) {
    return compare_and_swap(address, compare, value);
}
unsigned long long atomicCAS(unsigned long long *address, unsigned long long compare,
                             unsigned long long value) {
    return compare_and_swap(address, compare, value);
}

/* ---- shared memory: ends at a page that is not accessible ---- */
void *up_cuda_host_shared() {
    return up_thread_now.shared;
}

bool up_is_shared_room(const void *at) {
    const char *p = static_cast<const char *>(at);
    return shared_room && p >= shared_room && p < shared_room + SHARED + (64 << 10);
}

static void lay_out_shared(size_t bytes) {
    if (!shared_room) {
        void *room =
            mmap(nullptr, SHARED + (64 << 10), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (room == MAP_FAILED) up_report("no memory for shared memory");
        shared_room = static_cast<char *>(room);
        mprotect(shared_room + SHARED, 64 << 10, PROT_NONE);
    }
    up_thread_now.shared = shared_room + SHARED - (bytes + 127) / 128 * 128;
    up_thread_now.shared_end = up_thread_now.shared + bytes;
}

/* ---- blocks and grids ---- */
static void run_block() {
    for (unsigned t = 0; t < up_thread_now.threads; t++) threads[t].wait = NOT_BEGUN;
    begun = exited = at_barrier = ready_first = ready_count = 0;
    memset(at_warp, 0, sizeof at_warp);
    up_poison(up_thread_now.shared, (size_t)(up_thread_now.shared_end - up_thread_now.shared));
    up_check_block();
    leave(main_fibre);
}

static void number_threads(dim3 block) {
    up_thread_now.threads = block.x * block.y * block.z;
    for (unsigned t = 0; t < up_thread_now.threads; t++)
        threads[t].index = make_uint3(t % block.x, t / block.x % block.y, t / block.x / block.y);
}

/* Blocks run from a random one on, all forwards or all backwards. */
static void run_blocks(dim3 grid) {
    const uint64_t count = (uint64_t)grid.x * grid.y * grid.z, start = up_random() % count;
    backwards = up_random() & 1;
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t b = (backwards ? count - 1 - i + start : i + start) % count;
        blockIdx = make_uint3((unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y),
                              (unsigned)(b / grid.x / grid.y));
        run_block();
    }
}

void up_run_kernel(const up_launch_record &launch) {
    if (!main_fibre) main_fibre = up_fibre_create(nullptr);
    up_install_fault_handler();
    launched = &launch;
    up_thread_now.kernel = launch.kernel;
    up_thread_now.call = launch.call.data();
    up_thread_now.call_end = up_thread_now.call + launch.call.size();
    number_threads(launch.block);
    blockDim = launch.block;
    gridDim = launch.grid;
    lay_out_shared(launch.shared);
    up_in_kernel = true;
    run_blocks(launch.grid);
    up_in_kernel = false;
    kernels_run++;
}

/* check.cpp - watches every access of kernels to memory. In the checked mode the .cu files are compiled with
 * -fsanitize=thread, but the functions that such code calls at each access are the ones below, not those of
 * libtsan.
 *
 * Every access is looked up: device memory that is allocated, the block's shared memory, the thread's own
 * stack, the arguments, constants; anything else is reported. For device and shared memory a shadow knows of
 * each byte whether it was written, and of each two bytes who wrote and who read them last (neighbouring
 * bytes count as one place). Who: a thread in an epoch. Epochs are counted up at each operation, block and
 * barrier, so that a number says what it was in.
 *
 *   same block, same epoch    a race, unless it is one thread, both are atomic, or a __syncwarp lies between
 * two lanes another block             a race, unless both are atomic another operation         a race, unless
 * its place in the streams orders it before (clocks, streams.cpp) */
#include "executor.h"

#include <deque>
#include <link.h>
#include <sys/mman.h>

namespace {
enum state : unsigned char { NOTHING, NEW, WRITTEN };
enum {
    ONE_ATOMIC = 1,
    WARP_READ = 1,
    BLOCK_READ = 2,
    OTHER_BLOCKS = 4
}; /* flags of the last write and the last read */
struct mark {
    uint64_t epoch : 40, thread : 10, warp_epoch : 11, flags : 3;
};
struct shadow {
    mark write, read;
};
struct past {       /* an operation that ran */
    uint64_t first; /* epoch */
    up_place place;
    up_operation operation; /* for its name and clock */
};

bool checking;
unsigned char *states; /* a byte of device memory each */
shadow *shadows;       /* two bytes each */
unsigned char shared_states[256 << 10];
shadow shared_shadows[128 << 10];
uint64_t epoch = 1, block_first, operation_first, safe; /* before epoch `safe` all operations are ordered */
unsigned warp_epochs[32];
std::deque<past> pasts;
up_operation current;
} // namespace

int up_cuda_host_checked(void) {
    return checking;
}

/* ---- epochs ---- */
static bool is_ordered(const past &p) {
    return p.place.stream == current.place.stream ||
           (p.place.stream < current.clock.size() && current.clock[p.place.stream] >= p.place.position);
}

void up_check_operation(const up_operation &operation) {
    if (!checking) return;
    current.what = operation.what;
    current.kernel = operation.kernel;
    current.clock = operation.clock;
    current.place = operation.place;
    operation_first = block_first = safe = ++epoch;
    for (const past &p : pasts)
        if (p.first < safe && !is_ordered(p)) safe = p.first;
    pasts.push_back({epoch, current.place, current});
}

void up_check_idle(const up_clock &host) {
    while (!pasts.empty()) {
        const up_place &p = pasts.front().place;
        if (p.stream >= host.size() || host[p.stream] < p.position) return;
        pasts.pop_front();
    }
}

void up_check_block() {
    if (!checking) return;
    block_first = ++epoch;
    memset(warp_epochs, 0, sizeof warp_epochs);
    const size_t bytes = (size_t)(up_thread_now.shared_end - up_thread_now.shared);
    memset(shared_states, NEW, bytes);
    memset(shared_shadows, 0, (bytes + 1) / 2 * sizeof *shared_shadows);
}

void up_check_barrier() {
    if (!checking) return;
    epoch++;
    memset(warp_epochs, 0, sizeof warp_epochs);
}

void up_check_warp_barrier(unsigned warp) {
    warp_epochs[warp] = (warp_epochs[warp] + 1) % 2048;
}

/* ---- device memory comes and goes ---- */
static void *reserve(size_t bytes) {
    void *room =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) up_report("no address range for what is known of device memory");
    return room;
}

static shadow *shadow_of(const void *at) {
    return shadows + ((const char *)at - up_range) / 2;
}
static unsigned char *state_of(const void *at) {
    return states + ((const char *)at - up_range);
}

static void forget(const up_allocation &a, enum state state) {
    const size_t bytes = a.region_bytes;
    memset(state_of(a.at), state, a.bytes);
    const uintptr_t from = ((uintptr_t)shadow_of(a.region) + 4095) & ~(uintptr_t)4095;
    const uintptr_t to = (uintptr_t)shadow_of(a.region + bytes) & ~(uintptr_t)4095;
    madvise(reinterpret_cast<void *>(from), to - from, MADV_DONTNEED);
}

void up_check_allocated(const up_allocation &a) {
    if (!checking) return;
    if (!states) {
        states = static_cast<unsigned char *>(reserve(UP_RANGE));
        shadows = static_cast<shadow *>(reserve(UP_RANGE / 2 * sizeof(shadow)));
    }
    forget(a, NEW);
}

void up_check_freed(const up_allocation &a) {
    if (checking) forget(a, NOTHING);
}

/* ---- races ---- */
namespace {
struct touch { /* an access that is being judged */
    const char *at;
    up_access access;
    const void *code; /* NULL: an operation that is no kernel */
    const char *where;
};
} // namespace

static std::string place_of(const touch &t) {
    if (!t.code) return up_name_of(current) + " ";
    return "at " + up_place_of_code(static_cast<const char *>(t.code) - 1, false) + " ";
}
static const char *verb(const touch &t) {
    return t.access == UP_READ ? "reads" : t.access == UP_WRITE ? "writes" : "adds to";
}
static std::string named(const touch &t) {
    if (up_is_device(t.at)) return up_describe_address(t.at);
    return "byte " + std::to_string(t.at - up_thread_now.shared) + " of shared memory";
}

[[noreturn]] static void report_race(const touch &t, const mark &m, const char *past_verb) {
    const std::string what = place_of(t) + verb(t) + " " + named(t);
    if (m.epoch >= block_first)
        up_report("race: %s, which thread %u of the block %s with no barrier between", what.c_str(),
                  (unsigned)m.thread, past_verb);
    if (m.epoch >= operation_first)
        up_report("race: %s, which another block of the kernel %s", what.c_str(), past_verb);
    const past *other = nullptr;
    for (const past &p : pasts)
        if (p.first <= m.epoch) other = &p;
    up_report("race: %s (stream %u), which %s (stream %u) %s, and no event or wait orders the two",
              what.c_str(), current.place.stream, up_name_of(other->operation).c_str(), other->place.stream,
              past_verb);
}

/* Whether what `m` tells of happened before what happens now. */
static bool is_before(const mark &m) {
    if (m.epoch < safe) return true;
    if (m.epoch >= operation_first) {
        if (m.epoch < block_first) return false;
        if (m.epoch < epoch) return true;
        const unsigned me = up_in_kernel ? up_thread_now.thread : 0;
        return (m.thread == me && !(m.flags & (WARP_READ | BLOCK_READ))) ||
               (m.thread / 32 == me / 32 && m.warp_epoch != warp_epochs[me / 32] && !(m.flags & BLOCK_READ));
    }
    const past *other = nullptr;
    for (const past &p : pasts)
        if (p.first <= m.epoch) other = &p;
    return !other || is_ordered(*other);
}

static mark mark_now(unsigned flags) {
    const unsigned thread = up_in_kernel ? up_thread_now.thread : 0;
    return {epoch, thread, warp_epochs[thread / 32], flags};
}

/* The last write's flag is another one than the reads': is_before must not take it for several readers. */
static mark without_flags(mark m) {
    m.flags = 0;
    return m;
}

static void note_read(mark &read) {
    const mark old = read;
    unsigned flags = 0;
    if (old.epoch >= operation_first && (old.epoch < block_first || old.flags & OTHER_BLOCKS))
        flags |= OTHER_BLOCKS;
    if (old.epoch == epoch) {
        flags |= old.flags & (WARP_READ | BLOCK_READ);
        if (old.thread != up_thread_now.thread)
            flags |= old.thread / 32 == up_thread_now.thread / 32 ? WARP_READ : BLOCK_READ;
    }
    read = mark_now(flags);
}

static void judge(shadow &s, const touch &t) {
    const bool atomic = t.access == UP_ATOMIC;
    if (!(atomic && s.write.flags & ONE_ATOMIC) && !is_before(without_flags(s.write)))
        report_race(t, s.write, "wrote");
    if (t.access == UP_READ) {
        note_read(s.read);
        return;
    }
    if (s.read.flags & OTHER_BLOCKS && s.read.epoch >= operation_first)
        report_race(t, s.read, "or another block read");
    if (!is_before(s.read)) report_race(t, s.read, "read");
    s.write = mark_now(atomic ? ONE_ATOMIC : 0);
}

/* ---- every access ---- */
static void judge_all(unsigned char *state, shadow *s, touch t, size_t bytes, bool thread) {
    for (size_t i = 0; i < bytes; i++) {
        t.at++;
        if (state[i] == WRITTEN) continue;
        t.at--;
        if (state[i] == NOTHING) up_report("%s%s %s", place_of(t).c_str(), verb(t), named(t).c_str());
        if (thread && t.access != UP_WRITE && up_settings_get().uninitialised)
            up_report("%s%s %s, which nobody has written", place_of(t).c_str(), verb(t), named(t).c_str());
        if (t.access != UP_READ) state[i] = WRITTEN;
        t.at++;
    }
    t.at -= bytes;
    const size_t units = ((uintptr_t)t.at % 2 + bytes + 1) / 2;
    for (size_t i = 0; i < units; i++, t.at += 2) judge(s[i], t);
}

static int add_read_only(struct dl_phdr_info *info, size_t, void *list) {
    auto *ranges = static_cast<std::vector<std::pair<const char *, const char *>> *>(list);
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) &p = info->dlpi_phdr[i];
        const char *from = reinterpret_cast<const char *>(info->dlpi_addr + p.p_vaddr);
        if ((p.p_type == PT_LOAD && !(p.p_flags & PF_W)) || p.p_type == PT_GNU_RELRO)
            ranges->push_back({from, from + p.p_memsz});
    }
    return 0;
}

static bool is_read_only(const char *at) {
    static std::vector<std::pair<const char *, const char *>> ranges;
    if (ranges.empty()) dl_iterate_phdr(add_read_only, &ranges);
    for (const auto &r : ranges)
        if (at >= r.first && at < r.second) return true;
    return false;
}

extern "C" char __start_up_index[], __stop_up_index[];
extern "C" char __start_up_constant[] __attribute__((weak)), __stop_up_constant[] __attribute__((weak));

/* What a kernel may read besides its memory. */
static bool may_read(const char *at) {
    return (at >= up_thread_now.call && at < up_thread_now.call_end) || (at >= __start_up_index && at < __stop_up_index) ||
           (at >= __start_up_constant && at < __stop_up_constant) || is_read_only(at);
}

void up_check_thread(const void *at, size_t bytes, up_access access, const void *code) {
    if (!checking || !up_in_kernel) return;
    const char *p = static_cast<const char *>(at);
    if (p >= up_thread_now.fibre->low && p < up_thread_now.fibre->high) return;
    const touch t = {p, access, code, nullptr};
    if (p >= up_thread_now.shared && p + bytes <= up_thread_now.shared_end) {
        const size_t i = (size_t)(p - up_thread_now.shared);
        judge_all(shared_states + i, shared_shadows + i / 2, t, bytes, true);
    } else if (up_is_device(p) && states) {
        judge_all(state_of(p), shadow_of(p), t, bytes, true);
    } else if (up_is_shared_room(p)) {
        up_report("%s%s byte %td of shared memory, of which the block has %td", place_of(t).c_str(), verb(t),
                  p - up_thread_now.shared, up_thread_now.shared_end - up_thread_now.shared);
    } else if (access != UP_READ || !may_read(p)) {
        up_report("%s%s %s", place_of(t).c_str(), verb(t), up_describe_address(p).c_str());
    }
}

void up_check_range(const void *at, size_t bytes, up_access access) {
    if (!checking || !up_is_device(at) || bytes == 0) return;
    judge_all(state_of(at), shadow_of(at), {static_cast<const char *>(at), access, nullptr, nullptr}, bytes,
              false);
}

void up_check_copied(void *to, const void *from, size_t bytes) {
    if (!checking) return;
    if (from) memmove(state_of(to), state_of(from), bytes);
}

/* ---- what instrumented code calls ---- */
#define UP_SEEN(name, bytes, access)                                                                         \
    extern "C" void __tsan_##name(void *at) {                                                                \
        up_check_thread(at, bytes, access, __builtin_return_address(0));                                     \
    }
#define UP_SEEN_SIZES(kind, access)                                                                          \
    UP_SEEN(kind##1, 1, access)                                                                              \
    UP_SEEN(kind##2, 2, access)                                                                              \
    UP_SEEN(kind##4, 4, access)                                                                              \
    UP_SEEN(kind##8, 8, access)                                                                              \
    UP_SEEN(kind##16, 16, access)                                                                            \
    UP_SEEN(unaligned_##kind##2, 2, access)                                                                  \
    UP_SEEN(unaligned_##kind##4, 4, access)                                                                  \
    UP_SEEN(unaligned_##kind##8, 8, access)                                                                  \
    UP_SEEN(unaligned_##kind##16, 16, access)                                                                \
    extern "C" void __tsan_##kind##_range(void *at, size_t bytes) {                                          \
        up_check_thread(at, bytes, access, __builtin_return_address(0));                                     \
    }
UP_SEEN_SIZES(read, UP_READ)
UP_SEEN_SIZES(write, UP_WRITE)
extern "C" void __tsan_init() {
    checking = true;
}
extern "C" void __tsan_func_entry(void *) {}
extern "C" void __tsan_func_exit() {}
extern "C" void __tsan_vptr_update(void **at, void *) {
    up_check_thread(at, sizeof *at, UP_WRITE, __builtin_return_address(0));
}
extern "C" void __tsan_vptr_read(void **at) {
    up_check_thread(at, sizeof *at, UP_READ, __builtin_return_address(0));
}

/* clang makes such calls of copies of structs and of loops that fill; the linker leads them here
 * (CMakeLists.txt). Where neither end is memory of the device, the executor itself may be the caller. */
static void see(const void *at, size_t bytes, up_access access, const void *code) {
    if (up_in_kernel && (up_is_device(at) || up_is_shared_room(at))) up_check_thread(at, bytes, access, code);
}
extern "C" void *__real_memcpy(void *to, const void *from, size_t bytes);
extern "C" void *__real_memmove(void *to, const void *from, size_t bytes);
extern "C" void *__real_memset(void *to, int value, size_t bytes);
extern "C" void *__wrap_memcpy(void *to, const void *from, size_t bytes) {
    see(from, bytes, UP_READ, __builtin_return_address(0));
    see(to, bytes, UP_WRITE, __builtin_return_address(0));
    return __real_memcpy(to, from, bytes);
}
extern "C" void *__wrap_memmove(void *to, const void *from, size_t bytes) {
    see(from, bytes, UP_READ, __builtin_return_address(0));
    see(to, bytes, UP_WRITE, __builtin_return_address(0));
    return __real_memmove(to, from, bytes);
}
extern "C" void *__wrap_memset(void *to, int value, size_t bytes) {
    see(to, bytes, UP_WRITE, __builtin_return_address(0));
    return __real_memset(to, value, bytes);
}

/* Atomics of C++ in the host's part of the files (also in the guards of static variables). */
#define UP_ATOMICS(bits, type)                                                                               \
    extern "C" type __tsan_atomic##bits##_load(const volatile type *a, int) {                                \
        return __atomic_load_n(a, __ATOMIC_SEQ_CST);                                                         \
    }                                                                                                        \
    extern "C" void __tsan_atomic##bits##_store(volatile type *a, type v, int) {                             \
        __atomic_store_n(a, v, __ATOMIC_SEQ_CST);                                                            \
    }                                                                                                        \
    extern "C" type __tsan_atomic##bits##_exchange(volatile type *a, type v, int) {                          \
        return __atomic_exchange_n(a, v, __ATOMIC_SEQ_CST);                                                  \
    }                                                                                                        \
    extern "C" type __tsan_atomic##bits##_fetch_add(volatile type *a, type v, int) {                         \
        return __atomic_fetch_add(a, v, __ATOMIC_SEQ_CST);                                                   \
    }                                                                                                        \
    extern "C" type __tsan_atomic##bits##_fetch_sub(volatile type *a, type v, int) {                         \
        return __atomic_fetch_sub(a, v, __ATOMIC_SEQ_CST);                                                   \
    }                                                                                                        \
    extern "C" int __tsan_atomic##bits##_compare_exchange_strong(volatile type *a, type *c, type v, int,     \
                                                                 int) {                                      \
        return __atomic_compare_exchange_n(a, c, v, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                  \
    }
UP_ATOMICS(8, unsigned char)
UP_ATOMICS(16, unsigned short)
UP_ATOMICS(32, unsigned)
UP_ATOMICS(64, unsigned long)

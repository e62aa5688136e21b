/* machine.c - the processor's description, and micro-kernels for what it can do at most. Each kernel is many
 * independent chains of one instruction, so that its latency is hidden; nothing is read from memory. */
#include "bench/machine.h"
#include "bench/common.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#define X86 1
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#else
#define X86 0
#endif

/* ---- what the processor has ---- */

static const char *const isa_names[UP_ISA_COUNT] = {"base", "avx2", "avx512"};

const char *up_isa_name(up_isa isa) {
    return isa_names[isa];
}

#if X86
static int cpuid_bit(unsigned leaf, unsigned part, int word, int bit) {
    unsigned r[4] = {0};
    if (!__get_cpuid_count(leaf, part, &r[0], &r[1], &r[2], &r[3])) return 0;
    return (int)(r[word] >> bit & 1);
}
static int has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
static int has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
static int has_avx512_bf16(void) {
    return has_avx512() && cpuid_bit(7, 1, 0, 5);
}
/* The kernel gives the tiles to a process that asks for them (Documentation/x86/xstate). */
static int has_amx_bf16(void) {
    enum { REQUEST = 0x1023, TILE_DATA = 18 };
    int there = has_avx512() && cpuid_bit(7, 0, 3, 22) && cpuid_bit(7, 0, 3, 24);
    return there && syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}
#else
static int has_avx2(void) {
    return 0;
}
static int has_avx512(void) {
    return 0;
}
static int has_avx512_bf16(void) {
    return 0;
}
static int has_amx_bf16(void) {
    return 0;
}
#endif

int up_isa_here(up_isa isa) {
    return isa == UP_ISA_BASE || (isa == UP_ISA_AVX2 ? has_avx2() : has_avx512());
}

up_isa up_isa_named(const char *name) {
    for (int isa = 0; isa < UP_ISA_COUNT; isa++)
        if (!strcmp(name, isa_names[isa]) && up_isa_here((up_isa)isa)) return (up_isa)isa;
    up_bench_die("--isa: not one that this processor runs; wanted base, avx2 or avx512");
}

/* What the backend calls AVX-512 on a processor that multiplies bf16, too. */
static const char with_bf16[] = "avx512bf16";

up_isa up_isa_chosen(void) {
    const char *wanted = getenv("UP_CPU_ISA");
    if (wanted && !strcmp(wanted, with_bf16)) return UP_ISA_AVX512;
    for (int isa = UP_ISA_COUNT - 1; isa > 0; isa--)
        if (up_isa_here((up_isa)isa) && (!wanted || !strcmp(wanted, isa_names[isa]))) return (up_isa)isa;
    return UP_ISA_BASE;
}

void up_isa_force(up_isa isa) {
    setenv("UP_CPU_ISA", isa == UP_ISA_AVX512 && has_avx512_bf16() ? with_bf16 : isa_names[isa], 1);
    if (isa == UP_ISA_AVX512) return;
    setenv("ONEDNN_MAX_CPU_ISA", isa == UP_ISA_AVX2 ? "AVX2" : "SSE41", 1);
    setenv("DNNL_MAX_CPU_ISA", isa == UP_ISA_AVX2 ? "AVX2" : "SSE41", 1);
    setenv("OPENBLAS_CORETYPE", isa == UP_ISA_AVX2 ? "Haswell" : "Prescott", 1);
}

/* The value of a line "name : value" of /proc/cpuinfo. */
static void cpuinfo(const char *name, char *out, size_t room) {
    char line[8192];
    FILE *file = fopen("/proc/cpuinfo", "re");
    snprintf(out, room, "unknown");
    while (file && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (!colon || strncmp(line, name, strlen(name)) != 0) continue;
        colon[1 + strcspn(colon + 1, "\n")] = 0;
        snprintf(out, room, "%s", colon + 1 + strspn(colon + 1, " "));
        break;
    }
    if (file) fclose(file);
}

static void read_features(up_machine *m) {
    const struct {
        const char *name;
        int here;
    } all[] = {{"avx2+fma", has_avx2()},
               {"avx512f+bw+dq+vl", has_avx512()},
               {"avx512_bf16", has_avx512_bf16()},
               {"amx_bf16", has_amx_bf16()}};
    size_t used = 0;
    m->features[0] = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].here)
            used += (size_t)snprintf(m->features + used, sizeof m->features - used, "%s%s", used ? " " : "",
                                     all[i].name);
    if (!used) snprintf(m->features, sizeof m->features, "none of those asked for");
}

/* The first word of a file of /sys/devices/system/cpu/cpu0/cache; "" where there is none. */
static const char *cache_word(int index, const char *name, char word[32]) {
    char path[96];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/%s", index, name);
    FILE *file = fopen(path, "re");
    if (!file || fscanf(file, "%31s", word) != 1) word[0] = 0;
    if (file) fclose(file);
    return word;
}

/* Data or unified cache of a level, in bytes, as the kernel lists them (sysconf tells another processor's on
 * some virtual machines); 0: none, or not told. */
static long cache_size(int level) {
    char word[32];
    for (int index = 0; *cache_word(index, "level", word); index++)
        if (atoi(word) == level && strcmp(cache_word(index, "type", word), "Instruction") != 0)
            return atol(cache_word(index, "size", word)) << 10; /* "48K" */
    return 0;
}

void up_machine_read(up_machine *m) {
    struct utsname system;
    cpu_set_t set;
    memset(m, 0, sizeof *m);
    cpuinfo("model name", m->model, sizeof m->model);
    read_features(m);
    m->l1d = cache_size(1);
    m->l2 = cache_size(2);
    m->l3 = cache_size(3);
    m->processors =
        sched_getaffinity(0, sizeof set, &set) ? (int)sysconf(_SC_NPROCESSORS_ONLN) : CPU_COUNT(&set);
    m->memory_gib = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / (1 << 30);
    if (uname(&system) == 0) snprintf(m->system, sizeof m->system, "%s %s", system.sysname, system.release);
}

void up_machine_json(FILE *to, const up_machine *m) {
    fprintf(to, "\"machine\": {\"model\": ");
    up_bench_json_text(to, m->model);
    fprintf(to, ", \"features\": ");
    up_bench_json_text(to, m->features);
    fprintf(to, ", \"system\": ");
    up_bench_json_text(to, m->system);
    fprintf(to, ", \"l1d\": %ld, \"l2\": %ld, \"l3\": %ld, \"processors\": %d, \"memory_gib\": %.1f}", m->l1d,
            m->l2, m->l3, m->processors, m->memory_gib);
}

/* ---- multiply-adds: each kernel does `rounds` of UNROLL instructions and returns a value that depends on
 * all of them. The factors are read from memory that the compiler cannot know. ---- */

enum { CHAINS = 12 }; /* 2 a cycle of latency 4 and 5, and of 6; they fit the 16 registers of AVX2 */

static volatile float factor = 0.5f, term = 0.25f;

typedef float vector4 __attribute__((vector_size(16)));

static double fma_base(int64_t rounds) {
    const vector4 zero = {0};
    vector4 sum[CHAINS], a = zero + factor, b = zero + term;
    for (int k = 0; k < CHAINS; k++) sum[k] = zero + (float)k;
    for (int64_t i = 0; i < rounds; i++) {
#pragma GCC unroll 12
        for (int k = 0; k < CHAINS; k++) sum[k] = sum[k] * a + b;
    }
    for (int k = 1; k < CHAINS; k++) sum[0] += sum[k];
    return (double)(sum[0][0] + sum[0][1] + sum[0][2] + sum[0][3]);
}

#if X86
__attribute__((target("avx2,fma"))) static double fma_avx2(int64_t rounds) {
    __m256 sum[CHAINS], a = _mm256_set1_ps(factor), b = _mm256_set1_ps(term);
    float out[8];
    for (int k = 0; k < CHAINS; k++) sum[k] = _mm256_set1_ps((float)k);
    for (int64_t i = 0; i < rounds; i++) {
#pragma GCC unroll 12
        for (int k = 0; k < CHAINS; k++) sum[k] = _mm256_fmadd_ps(sum[k], a, b);
    }
    for (int k = 1; k < CHAINS; k++) sum[0] = _mm256_add_ps(sum[0], sum[k]);
    _mm256_storeu_ps(out, sum[0]);
    return (double)(out[0] + out[7]);
}

__attribute__((target("avx512f"))) static double fma_avx512(int64_t rounds) {
    __m512 sum[CHAINS], a = _mm512_set1_ps(factor), b = _mm512_set1_ps(term);
    for (int k = 0; k < CHAINS; k++) sum[k] = _mm512_set1_ps((float)k);
    for (int64_t i = 0; i < rounds; i++) {
#pragma GCC unroll 12
        for (int k = 0; k < CHAINS; k++) sum[k] = _mm512_fmadd_ps(sum[k], a, b);
    }
    for (int k = 1; k < CHAINS; k++) sum[0] = _mm512_add_ps(sum[0], sum[k]);
    return (double)_mm512_reduce_add_ps(sum[0]);
}

/* 0x3c00 is 2^-7 as bf16: sums grow slowly, and nothing becomes a denormal. */
__attribute__((target("avx512f,avx512bf16"))) static double dot_avx512_bf16(int64_t rounds) {
    __m512 sum[CHAINS];
    __m512bh a = (__m512bh)_mm512_set1_epi32(factor > 0 ? 0x3c003c00 : 0);
    for (int k = 0; k < CHAINS; k++) sum[k] = _mm512_set1_ps((float)k);
    for (int64_t i = 0; i < rounds; i++) {
#pragma GCC unroll 12
        for (int k = 0; k < CHAINS; k++) sum[k] = _mm512_dpbf16_ps(sum[k], a, a);
    }
    for (int k = 1; k < CHAINS; k++) sum[0] = _mm512_add_ps(sum[0], sum[k]);
    return (double)_mm512_reduce_add_ps(sum[0]);
}

/* Four sums of 16 x 16 out of two tiles of 16 x 32 on each side. */
__attribute__((target("amx-tile,amx-bf16"))) static double tile_amx_bf16(int64_t rounds) {
    enum { TILES = 8, ROWS = 16, BYTES = 64 };
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } shape = {.palette = 1};
    float out[ROWS * BYTES / 4];
    for (int k = 0; k < TILES; k++) {
        shape.bytes[k] = BYTES;
        shape.rows[k] = ROWS;
    }
    memset(out, 0, sizeof out);
    _tile_loadconfig(&shape);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, out, BYTES);
    _tile_loadd(5, out, BYTES);
    _tile_loadd(6, out, BYTES);
    _tile_loadd(7, out, BYTES);
    for (int64_t i = 0; i < rounds; i++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, out, BYTES);
    _tile_release();
    return (double)out[0];
}
#endif

typedef struct kernel {
    const char *instruction;
    double (*run)(int64_t rounds);
    double flop; /* of a round */
} kernel;

static kernel kernel_of(up_isa isa, up_dtype dtype) {
#if X86
    static const kernel vector[] = {{"mulps, addps", fma_base, CHAINS * 4 * 2.0},
                                    {"vfmadd ymm", fma_avx2, CHAINS * 8 * 2.0},
                                    {"vfmadd zmm", fma_avx512, CHAINS * 16 * 2.0}};
    if (isa == UP_ISA_AVX512 && dtype == UP_BF16 && has_amx_bf16())
        return (kernel){"tdpbf16ps", tile_amx_bf16, 4 * 16 * 16 * 32 * 2.0};
    if (isa == UP_ISA_AVX512 && dtype == UP_BF16 && has_avx512_bf16())
        return (kernel){"vdpbf16ps zmm", dot_avx512_bf16, CHAINS * 32 * 2.0};
    return vector[isa];
#else
    (void)isa;
    (void)dtype;
    return (kernel){"multiply-add of 4 floats", fma_base, CHAINS * 4 * 2.0};
#endif
}

const char *up_machine_instruction(up_isa isa, up_dtype dtype) {
    return kernel_of(isa, dtype).instruction;
}

/* ---- the same work in several threads, which begin together ---- */

typedef struct job {
    pthread_barrier_t *start;
    double (*run)(int64_t rounds); /* a kernel, or NULL: a stream */
    int64_t rounds;
    up_stream stream;
    float *a, *b, *c;
    size_t count;              /* floats of each */
    double busy, began, ended; /* processor time; the clock */
    double result;
} job;

static double thread_time(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Plain loops, which every compiler turns into vectors of the build's own width: memory is the limit. Several
 * sums, so that no chain of additions is. */
static double stream_once(const job *j) {
    float *restrict a = j->a;
    const float *restrict b = j->b, *restrict c = j->c;
    float sum[32] = {0};
    switch (j->stream) {
    case UP_STREAM_READ:
        for (size_t i = 0; i + 32 <= j->count; i += 32)
            for (size_t k = 0; k < 32; k++) sum[k] += b[i + k];
        break;
    case UP_STREAM_COPY:
        memcpy(a, b, j->count * sizeof *a);
        break;
    default:
        for (size_t i = 0; i < j->count; i++) a[i] = b[i] + 0.5f * c[i];
        break;
    }
    for (int k = 1; k < 32; k++) sum[0] += sum[k];
    return (double)sum[0] + (double)a[j->count / 2];
}

static void *work(void *context) {
    job *j = context;
    pthread_barrier_wait(j->start);
    double before = thread_time();
    j->began = up_bench_now();
    j->result = j->run ? j->run(j->rounds) : stream_once(j);
    j->ended = up_bench_now();
    j->busy = thread_time() - before;
    return NULL;
}

/* One round of all jobs; `amount` is what each does. */
static up_rate run_jobs(job *jobs, int threads, double amount) {
    pthread_barrier_t start;
    pthread_t *handles = up_bench_room((size_t)threads, sizeof *handles);
    double busy = 0, began = INFINITY, ended = 0;
    pthread_barrier_init(&start, NULL, (unsigned)threads);
    for (int t = 0; t < threads; t++) {
        jobs[t].start = &start;
        if (pthread_create(&handles[t], NULL, work, &jobs[t])) up_bench_die("no thread could be started");
    }
    for (int t = 0; t < threads; t++) {
        pthread_join(handles[t], NULL);
        busy += jobs[t].busy;
        began = fmin(began, jobs[t].began);
        ended = fmax(ended, jobs[t].ended);
    }
    pthread_barrier_destroy(&start);
    free(handles);
    return (up_rate){1e-9 * amount * threads / (ended - began), 1e-9 * amount * threads / busy};
}

static void keep_best(up_rate *best, up_rate one) {
    if (one.all > best->all) best->all = one.all;
    if (one.core > best->core) best->core = one.core;
}

enum { ROUNDS = 8 };

up_rate up_machine_flops(up_isa isa, up_dtype dtype, int threads, double seconds) {
    kernel k = kernel_of(isa, dtype);
    job *jobs = up_bench_room((size_t)threads, sizeof *jobs);
    up_rate best = {0};
    for (int t = 0; t < threads; t++) jobs[t] = (job){.run = k.run, .rounds = 100000};
    up_rate first = run_jobs(jobs, threads, k.flop * 100000);
    int64_t rounds = 1 + (int64_t)(1e9 * first.core * seconds / ROUNDS / k.flop);
    for (int t = 0; t < threads; t++) jobs[t].rounds = rounds;
    for (int i = 0; i < ROUNDS; i++) keep_best(&best, run_jobs(jobs, threads, k.flop * (double)rounds));
    free(jobs);
    return best;
}

const char *up_stream_name(up_stream stream) {
    static const char *const names[] = {"read", "copy", "triad"};
    return names[stream];
}

up_rate up_machine_bandwidth(up_stream stream, int threads) {
    const size_t least = 64u << 20, most = 256u << 20;
    size_t bytes = 4 * (size_t)cache_size(3);
    bytes = bytes < least ? least : bytes > most ? most : bytes;
    size_t count = bytes / sizeof(float) / (size_t)threads;
    job *jobs = up_bench_room((size_t)threads, sizeof *jobs);
    up_rate best = {0};
    for (int t = 0; t < threads; t++) {
        float *arrays[3];
        for (int k = 0; k < 3; k++) {
            arrays[k] = up_bench_room(count, sizeof(float));
            for (size_t i = 0; i < count; i++) arrays[k][i] = 1; /* pages of its own */
        }
        jobs[t] = (job){.stream = stream, .a = arrays[0], .b = arrays[1], .c = arrays[2], .count = count};
    }
    double amount = (double)(count * sizeof(float)) * (1 + (int)stream);
    for (int i = 0; i < ROUNDS; i++) keep_best(&best, run_jobs(jobs, threads, amount));
    for (int t = 0; t < threads; t++) {
        free(jobs[t].a);
        free(jobs[t].c);
        free((void *)jobs[t].b);
    }
    free(jobs);
    return best;
}

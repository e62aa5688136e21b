/* dispatch.c - which kernels this processor runs. UP_CPU_ISA=base|avx2|avx512|avx512bf16 forces one (the
 * tests run them all). */
#include "backend_cpu/cpu.h"

#include <stdlib.h>
#include <string.h>

static int any(void) {
    return 1;
}
#ifdef UP_X86
static int has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
static int has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
static int has_avx512bf16(void) {
    return has_avx512() && __builtin_cpu_supports("avx512bf16");
}
#endif

static const struct {
    const char *name;
    int (*here)(void);
    void (*fill)(up_cpu_kernels *out);
} sets[] = {/* best first */
#ifdef UP_X86
            {"avx512bf16", has_avx512bf16, up_cpu_kernels_avx512bf16},
            {"avx512", has_avx512, up_cpu_kernels_avx512},
            {"avx2", has_avx2, up_cpu_kernels_avx2},
#endif
            {"base", any, up_cpu_kernels_base}};

up_status up_cpu_choose_kernels(up_cpu_kernels *out) {
    const char *wanted = getenv("UP_CPU_ISA");
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        if (wanted && strcmp(wanted, sets[i].name)) continue;
        if (sets[i].here()) {
            sets[i].fill(out);
            return UP_OK;
        }
        if (wanted) return up_fail(UP_ERR_UNSUPPORTED, "UP_CPU_ISA", "this processor has no %s", wanted);
    }
    return up_fail(UP_ERR_ARGUMENT, "UP_CPU_ISA",
                   "'%s' is unknown; wanted base, avx2, avx512 or avx512bf16 (x86-64)", wanted);
}

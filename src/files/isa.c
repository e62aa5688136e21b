/* isa.c - asks the processor and the environment once. */
#include "files/isa.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

up_isa up_isa_best(void) {
#if defined __x86_64__ && defined __GNUC__
    if (!__builtin_cpu_supports("avx2")) return UP_ISA_BASE;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni"))
        return UP_ISA_AVX512;
    return UP_ISA_AVX2;
#else
    return UP_ISA_BASE;
#endif
}

static up_isa chosen;

static void choose(void) {
    static const char *const names[] = {
        [UP_ISA_BASE] = "base", [UP_ISA_AVX2] = "avx2", [UP_ISA_AVX512] = "avx512"};
    const char *wanted = getenv("UP_CPU_ISA");
    chosen = up_isa_best();
    for (int isa = UP_ISA_BASE; wanted && isa < (int)chosen; isa++)
        if (!strcmp(wanted, names[isa])) chosen = (up_isa)isa;
}

up_isa up_isa_here(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, choose);
    return chosen;
}

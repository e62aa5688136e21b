/* mode.c - the processor's floating point mode while operations run: round to nearest, no traps, denormal
 * numbers are 0. Moments and gradients that fade away would else cost some hundred cycles each. What the
 * caller had set decides nothing, and the caller has it again afterwards. */
#include "backend_cpu/cpu.h"

#ifdef UP_X86
unsigned up_cpu_enter(void) {
    enum { MASKED = 0x1f80, FLUSH = 0x8000, DENORMALS_ARE_ZERO = 0x40 };
    unsigned before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(MASKED | FLUSH | DENORMALS_ARE_ZERO);
    return before;
}

void up_cpu_leave(unsigned before) {
    __builtin_ia32_ldmxcsr(before);
}
#else
/* Other processors compute with denormal numbers as they come. */
unsigned up_cpu_enter(void) {
    return 0;
}

void up_cpu_leave(unsigned before) {
    (void)before;
}
#endif

/* table.c - the table of one instruction set, put together from the kernel files. */
#include "backend_cpu/kernels/vector.h"

#define UP_STRING_(a) #a
#define UP_STRING(a)  UP_STRING_(a)

void UP_K(kernels)(up_cpu_kernels *out) {
    out->name = UP_STRING(UP_ISA);
    UP_K(fill_product)(out);
    UP_K(fill_pack)(out);
    UP_K(fill_finish)(out);
    UP_K(fill_rows)(out);
    UP_K(fill_convert)(out);
    UP_K(fill_loss)(out);
    UP_K(fill_update)(out);
    UP_K(fill_attention)(out);
}

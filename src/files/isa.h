/* isa.h - the vector instructions that the data path may use on this processor. */
#ifndef UP_FILES_ISA_H
#define UP_FILES_ISA_H

typedef enum up_isa {
    UP_ISA_BASE,  /* what the compiler was told, no more */
    UP_ISA_AVX2,  /* AVX2 */
    UP_ISA_AVX512 /* AVX-512 F, BW, DQ, VL, VBMI and VNNI (Ice Lake, Zen 4 and later) */
} up_isa;

/* The best set here, or a lesser one where UP_CPU_ISA=base|avx2|avx512 asks for it. Every path of the data
 * path gives the same bytes, so a name that is unknown or asks for more than there is needs no error here.
 * Asked once: a later change of the environment changes nothing. */
up_isa up_isa_here(void);

/* The best set that the processor has, whatever the environment says. */
up_isa up_isa_best(void);

#endif

/* The state in which bf16 kernels run (bf16.h), and which kernels: those of the level in use. */
#include "core/kernel/bf16.h"

#if defined __x86_64__
#include <immintrin.h>
#endif

struct bf16_state bf16_begin(void)
{
    struct bf16_state s = {.k = bf16_kernels_of(cpu_level())};

#if defined __x86_64__
    s.control = _mm_getcsr();
#endif
    s.k->begin();
    return s;
}

void bf16_end(struct bf16_state s)
{
    s.k->end();
#if defined __x86_64__
    _mm_setcsr(s.control);
#endif
}

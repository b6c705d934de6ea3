/* Winograd transforms for the three code paths; the bodies are in wino_kernel.inc. */
#include "core/kernel/wino_kernel.h"

#include "core/kernel/lanes.h"

/* Points a, b and what follows from them (wino_kernel.h). */
#define WA 0.625F
#define WB 1.5F
#define WA2 (WA * WA)
#define WB2 (WB * WB)
#define WA3 (WA * WA2)
#define WB3 (WB * WB2)
#define WQ (WA2 + WB2)
#define WR (WA2 * WB2)
#define WG0 (1 / WR)
#define WGA (1 / (2 * WA2 * (WA2 - WB2)))
#define WGB (1 / (2 * WB2 * (WB2 - WA2)))

#if defined __x86_64__
#define PATH(name) name##_avx512
#define TARGET TARGET_avx512
#include "core/kernel/wino_kernel.inc"

#define PATH(name) name##_avx2
#define TARGET TARGET_avx2
#include "core/kernel/wino_kernel.inc"
#endif

#define PATH(name) name##_generic
#define TARGET TARGET_generic
#include "core/kernel/wino_kernel.inc"

const struct wino_kernels *wino_kernels_of(enum cpu_path path, int64_t points)
{
    return points == 6 ? CPU_KERNELS(path, wino6) : CPU_KERNELS(path, wino5);
}

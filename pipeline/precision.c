/*
 * --precision. `auto` takes bf16 only where it is both fast and shown to be accurate: inference on AMX.
 * Attacks and training stay fp32 under `auto` until full runs in both precisions have been compared.
 */
#include "pipeline/precision.h"

#include "core/base/cpu.h"

enum exec_precision precision_of(int32_t choice, bool gradients)
{
    if (choice == PRECISION_AUTO)
        return !gradients && cpu_level() == CPU_AMX ? EXEC_BF16 : EXEC_FP32;
    return choice == PRECISION_BF16 ? EXEC_BF16 : EXEC_FP32;
}

void precision_note(const struct linnet_listener *l, enum exec_precision p)
{
    char text[CPU_TEXT];

    if (p != EXEC_BF16 || cpu_level() == CPU_AMX)
        return;
    if (cpu_level() == CPU_AVX512BF16 && cpu_has_fast_bf16())
        listener_note(l, "bf16 without AMX: the same bits by AVX512-BF16, not faster than fp32 "
                         "where 3x3 convolutions prevail");
    else
        listener_note(l, "bf16 without AMX: the same bits, slower than fp32 (%s)",
                      cpu_describe(text));
}

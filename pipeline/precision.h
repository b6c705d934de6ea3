#ifndef PIPELINE_PRECISION_H
#define PIPELINE_PRECISION_H
/* The option --precision: what activations are computed in. */
#include "core/exec/exec.h"
#include "pipeline/listener.h"
#include "pipeline/options.h"

enum precision_choice { PRECISION_AUTO, PRECISION_FP32, PRECISION_BF16 };
#define PRECISION_ROW(field, dflt)                                                                          \
    OPTION(                                                                                                 \
        "precision", 0, OPTION_CHOICE, field, "auto|fp32|bf16",                                             \
        "activations and their products; auto: bf16 for inference where the machine has AMX (default " dflt \
        ")")

/* What a choice means, with what the network can do: gradients are fp32 unless bf16 is asked for. */
enum exec_precision precision_of(int32_t choice, bool gradients);
/* Says what bf16 costs without AMX. */
void precision_note(const struct linnet_listener *l, enum exec_precision p);
#endif

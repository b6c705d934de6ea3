#ifndef PIPELINE_NETWORK_H
#define PIPELINE_NETWORK_H
/* The handle struct linnet_model: an opened model and what runs it. */
#include "core/exec/exec.h"
#include "pipeline/linnet.h"
#include "pipeline/model.h"

struct linnet_model {
    struct model m;
    struct linnet_info info;
    int32_t precision;                   /* enum precision_choice */
    struct exec *infer, *gradient;       /* made when they are first needed */
    int64_t infer_holds, gradient_holds; /* images they have memory for */
};
#endif

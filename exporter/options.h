#ifndef EXPORTER_OPTIONS_H
#define EXPORTER_OPTIONS_H
/* What a caller may ask of the exporter. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mask_form { MASK_WHERE, MASK_PRELU, MASK_GATHER, MASK_CHANNEL };
enum export_target { EXPORT_ANY, EXPORT_CRYPTEN, EXPORT_EZPC, EXPORT_MOTION2NX };
struct export_options {
    enum mask_form form;
    int64_t opset;      /* 0: 17 */
    bool fold_bn;       /* fold BN that came with the file too (inserted BN is always folded) */
    bool strip_softmax; /* the output is the logits even if the file had a Softmax */
    bool external_data; /* tensors go into PATH.data even if they fit into one file */
    size_t max_file;    /* bytes of one file, beyond which they do; 0: 1.9 GB */
    enum export_target target; /* the written file must pass lint for it */
};
#endif

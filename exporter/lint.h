#ifndef EXPORTER_LINT_H
#define EXPORTER_LINT_H
/*
 * What the importer of a private-inference tool would refuse, or read differently, in an ONNX file.
 * The rules are read off the tools' sources (lint.c says which version).
 */
#include "core/base/mem.h"
#include "exporter/options.h"

struct lint_finding {
    const char *node, *op; /* "" where the whole file is meant */
    const char *message, *hint;
};
struct lint_report { /* release it in every case */
    struct arena *arena;
    struct lint_finding *finding; /* at most LINT_MAX */
    int32_t n;
};
#define LINT_MAX 200

/* "crypten", "ezpc", "motion2nx"; "" for EXPORT_ANY. */
const char *lint_target_name(enum export_target target);
/* 0 also where there are findings; a code where the bytes are no ONNX model. */
int lint_bytes(const uint8_t *bytes, size_t len, enum export_target target,
               struct lint_report *out) MUST_CHECK;
void lint_release(struct lint_report *r);
#endif

#ifndef PIPELINE_LISTENER_H
#define PIPELINE_LISTENER_H
/* Speaking to the caller's listener (linnet.h), who may be NULL or leave callbacks out. */
#include <stdbool.h>

#include "core/base/err.h"
#include "pipeline/linnet.h"

void listener_note(const struct linnet_listener *l, const char *fmt, ...) ERR_PRINTF(2, 3);
void listener_detail(const struct linnet_listener *l, const char *fmt, ...) ERR_PRINTF(2, 3);
/* A task begins, goes on (done in [0,1]), ends. */
void listener_begin(const struct linnet_listener *l, const char *task);
void listener_progress(const struct linnet_listener *l, const char *task, double done,
                       const char *fmt, ...) ERR_PRINTF(4, 5);
void listener_end(const struct linnet_listener *l, const char *task);
void listener_plan(const struct linnet_listener *l, const struct linnet_stage *stage, int n);
/* Shall we stop? */
bool listener_stops(const struct linnet_listener *l);
#endif

#ifndef RUNTIME_COST_FIT_H
#define RUNTIME_COST_FIT_H
/*
 * Constants of the cost model (cost.h) for the machine at hand: a second of measuring, two parties in two
 * threads over TCP on loopback, with cpu_threads() as the run will have them. What nothing here
 * measures keeps its built-in value; name, date, CPU and revision are filled in. folder: an existing one, for files that are gone again. ERR_IO,
 * ERR_NET, ERR_NOMEM and what the protocols return.
 */
#include "runtime/cost/machine.h"

int cost_fit(const char *folder, struct cost_machine *out) MUST_CHECK;
#endif

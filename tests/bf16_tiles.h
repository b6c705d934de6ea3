#ifndef TESTS_BF16_TILES_H
#define TESTS_BF16_TILES_H
/* The kernels of core/kernel/bf16_amx.inc, the source that runs on AMX, compiled for tiles in memory: what a
 * machine without AMX can test of it. The tile instructions do what Intel's manual says and prototypes
 * measured bit by bit, and refuse what the hardware refuses (a tile that is not configured, shapes that do
 * not fit, one tile twice in a product). */
#include "core/kernel/bf16.h"

const struct bf16_kernels *bf16_kernels_on_tiles(void);
/* Products of tiles since the program began, on all threads. */
int64_t bf16_tile_products(void);
#endif

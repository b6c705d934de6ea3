/*
 * What messages between ranks cost on this machine or cluster, for the model of trainer/CLUSTER.md:
 *
 *     mpirun -n R bench_ranks
 *
 * prints one line of JSON: bytes a second of a gather (each rank has 1/R of 16 MB and ends with all of it; counted are
 * the bytes that a rank receives) and seconds of one of 64 bytes, medians of 31 turns. tests/bench_ranks.py reads it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/cpu.h"
#include "core/base/mem.h"
#include "core/base/ranks.h"

#define TURNS 31
#define LARGE (16 << 20)
#define SMALL 64

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Median of the seconds of a gather of n bytes by all ranks. */
static double gather_seconds(uint8_t *data, int64_t n)
{
    int64_t first[RANKS_MOST + 1];
    double seconds[TURNS];

    for (int r = 0; r <= ranks_count(); r++)
        first[r] = ranks_first(n, r);
    for (int i = -2; i < TURNS; i++) { /* two to warm up */
        ranks_meet();
        const double start = cpu_seconds();
        ranks_gather(data, 4, first);
        if (i >= 0)
            seconds[i] = cpu_seconds() - start;
    }
    qsort(seconds, TURNS, sizeof *seconds, ascending);
    return seconds[TURNS / 2];
}

int main(void)
{
    if (ranks_begin() < 0)
        return 1;
    const double ranks = ranks_count();
    uint8_t *data = mem_array(LARGE, 1);

    if (data == NULL)
        return 1;
    const double large = gather_seconds(data, LARGE / 4), small = gather_seconds(data, SMALL / 4);

    if (ranks_index() == 0)
        printf("{\"ranks\": %d, \"bytes_per_s\": %.4g, \"wait_s\": %.4g}\n", ranks_count(),
               LARGE * (ranks - 1) / ranks / large, small);
    mem_free(data);
    ranks_end();
    return 0;
}

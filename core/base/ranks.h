#ifndef CORE_BASE_RANKS_H
#define CORE_BASE_RANKS_H
/*
 * The processes that work on one task together, its ranks: index 0 ... count - 1. Two
 * implementations, of which the build takes one: ranks_one.c knows only this process; ranks_mpi.c
 * (make MPI=1) is MPI, where the program was started by mpirun or srun.
 *
 * Every rank runs the same program on the same options and holds the same model. What is summed over
 * images is cut into blocks by a rule that does not know the number of ranks (EXEC_BLOCKS of
 * core/exec/run.h); a rank works on consecutive blocks, and sums are completed in the order of blocks.
 * So the number of ranks changes no bit. Only rank 0 writes files (file.h) and speaks (cli/).
 *
 * All functions but index and count are collective: every rank calls them in the same order, from the
 * thread that called ranks_begin, outside parallel regions. There are no error codes: a rank that is lost
 * takes the others with it. Sizes are in bytes, multiples of 4.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

#define RANKS_MOST 16 /* EXEC_BLOCKS: more would have nothing to do */

/* First thing in main, and last. ERR_ARG: more ranks than RANKS_MOST. ranks_end waits for all. */
int ranks_begin(void) MUST_CHECK;
void ranks_end(void);
/* Ends every rank with this exit code, now; returns where there is no other one. */
void ranks_abort(int code);

int ranks_count(void);
int ranks_index(void);
/* First of n parts that is rank r's; r = ranks_count(): n. */
int64_t ranks_first(int64_t n, int r);

/* The smallest code of all: a failure of one is everybody's. */
int ranks_agree(int rc) MUST_CHECK;
/* Waits for all. */
void ranks_meet(void);
/* data: rank r has written units [first[r], first[r + 1]) of `unit` bytes; now all have all. first:
 * [ranks_count() + 1]. */
void ranks_gather(void *data, size_t unit, const int64_t *first);
/* Sums over the ranks; the smallest and the largest byte at each place. */
void ranks_sum(int64_t *data, size_t n);
void ranks_least(uint8_t *data, size_t n);
void ranks_most(uint8_t *data, size_t n);
/* Was any rank asked to stop? Where ranks are split, also one of another group: it is known some calls later. */
bool ranks_asked(bool here);
/* Divides the ranks into groups of consecutive ones, as even as can be, 1 <= groups <= ranks_count(). Until
 * ranks_join a group is all there is: count, index and what is collective are the group's, and its index 0 writes
 * files. Returns which group is ours. A group that fails does not join: it ends all (ranks_abort). */
int ranks_split(int groups);
void ranks_join(void); /* of all ranks; waits for the other groups */
/* Bytes that this rank has received in gathers and chains. */
int64_t ranks_received(void);

/*
 * Ordered sums that go on while the caller computes. data holds where the sum starts; it visits the ranks
 * in their order, each adds its part, and all get the result:
 *
 *     struct ranks_chain *c = NULL;
 *     TRY(ranks_chain_new(&c));
 *     TRY(ranks_chain_put(c, data, bytes, add, ctx));    // add(ctx, data) runs once, in a later call
 *     ranks_chain_poll(c);                               // now and then
 *     ranks_chain_finish(c);                             // all data that were put are complete
 *     ranks_chain_free(c);
 *
 * data and ctx are the caller's and stay until the end. Limit: bytes below 8 GiB.
 */
struct ranks_chain;
typedef void ranks_add_fn(void *ctx, void *data);
int ranks_chain_new(struct ranks_chain **out) MUST_CHECK;
void ranks_chain_free(struct ranks_chain *c); /* NULL is fine */
int ranks_chain_put(struct ranks_chain *c, void *data, size_t bytes, ranks_add_fn *add,
                    void *ctx) MUST_CHECK;
void ranks_chain_poll(struct ranks_chain *c);
void ranks_chain_finish(struct ranks_chain *c);
#endif

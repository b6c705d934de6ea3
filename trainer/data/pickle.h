#ifndef TRAINER_DATA_PICKLE_H
#define TRAINER_DATA_PICKLE_H
/*
 * A reader for the pickles of the CIFAR batches: one dict whose keys are strings and whose values are
 * lists of integers or one array of bytes. Nothing is ever called: numpy's three names are taken as
 * the words "an array of u1 follows", every other opcode or name is an error with its offset.
 *
 *     struct pickle *p = NULL;
 *     TRY(pickle_read(data, len, "data_batch_1", &p));       // borrows data
 *     const int64_t *label; const uint8_t *pixel; int64_t n, dim[2];
 *     TRY(pickle_integers(p, "labels", &label, &n));
 *     TRY(pickle_bytes(p, "data", &pixel, dim));
 *     pickle_free(p);
 *
 * Protocols 0 to 4 as far as such files use them; at most PICKLE_MOST_ITEMS objects.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/mem.h"

#define PICKLE_MOST_ITEMS 1000000

struct pickle;
int pickle_read(const uint8_t *data, size_t len, const char *what, struct pickle **out) MUST_CHECK;
void pickle_free(struct pickle *p); /* NULL is fine */
FREE_AT(pickle_free, struct pickle)
/* The list of integers under a key; ERR_DATA names what is there instead. */
int pickle_integers(const struct pickle *p, const char *key, const int64_t **v,
                    int64_t *n) MUST_CHECK;
/* The array of rank 2, uint8, under a key: dim[0] x dim[1] bytes in C order. */
int pickle_bytes(const struct pickle *p, const char *key, const uint8_t **v,
                 int64_t dim[2]) MUST_CHECK;
#endif

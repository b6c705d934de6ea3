#ifndef TRAINER_DATA_SHARDS_H
#define TRAINER_DATA_SHARDS_H
/*
 * Tar files in the layout of WebDataset: members that follow each other and have one key, which is the
 * name up to the first dot of its last part, are a sample. Here a sample is an image (KEY.jpg, KEY.jpeg,
 * KEY.png) and its class as a decimal number (KEY.cls); members with other endings are counted and
 * skipped, and so are samples of which no part is meant.
 *
 *     shards:FILE.tar
 *     shards:DIR/train-{0000..0127}.tar     the numbers from 0000 to 0127; any number of braces
 *     shards:DIR                            DIR/x.tar in the order of their names, or the same in
 *                                           DIR/train and DIR/test or DIR/val (or valid, validation)
 *
 * The files are read once, header by header, for the place of each image; images keep the order of the
 * shards and of their members, and any of them is then read by its place. So the order of an epoch is the
 * same permutation of all images as for every other source, and a rank reads only its own. A read costs a
 * seek: for discs that dislike them, copy the shards.
 *
 * Refused, with the shard and the name: an image without class and the reverse, two of one kind in a
 * sample, a key that comes twice in a shard, a link, a class that is no number from 0 to 999,999, a
 * compressed shard, and whatever tar.h refuses. What is not an image is found when it is read.
 */
#include "trainer/data/tree.h"

/* "a{00..02}.tar" as a sorted list of names; a name without braces as it is. ERR_DATA. */
int shards_expand(const char *pattern, struct name_list *out) MUST_CHECK;
#endif

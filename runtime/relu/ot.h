#ifndef RUNTIME_RELU_OT_H
#define RUNTIME_RELU_OT_H
/*
 * Inside backend "ot": sizes and the layout of its states, between relu_ot.c (online) and
 * relu_ot_prepare.c (offline).
 *
 * A state is an array of 8-byte words: the sections below one after another. "Row" means n bits in
 * whole words; [..][n] of words otherwise.
 */
#include "runtime/relu/relu.h"
#include "runtime/relu/party.h"

#define OT_DIGIT 4 /* bits; radix 16 */

struct ot_size {
    size_t n, m, p;
    size_t row;   /* words of n bits */
    size_t words; /* p * n */
    size_t digits, ands;
    size_t transfers; /* per comparison and direction besides the leaves: ands + 1 */
};
struct ot_server {
    uint32_t *leaf;     /* [digits - 1][n], of digits 1 ...: pads of 16 pairs (lt, eq) */
    uint16_t *lowest;   /* [n], of digit 0: pads of 16 lt */
    uint64_t *lt, *eq;  /* [digits] rows: own shares of the leaves */
    uint64_t *triple;   /* [ands][3] rows */
    uint64_t *c2;       /* row: random bits with a2 + b2 = c2 * u */
    uint64_t *a2;       /* [p][n] */
    uint64_t *diff, *a; /* [p][n]: k0 - k1 and -k0 of the transfers of the multiplexer */
};
struct ot_client {
    uint64_t *u, *r;   /* [p][n], as given */
    uint64_t *lt, *eq; /* [digits] rows: pads of the chosen entries */
    uint64_t *triple;  /* [ands][3] rows */
    uint64_t *c;       /* row: random bits */
    uint64_t *b2;      /* [p][n] */
    uint64_t *key;     /* [p][n]: k_c of the transfers of the multiplexer */
};

struct ot_size ot_size_of(const struct relu_batch *b);
size_t ot_server_words(const struct ot_size *s);
size_t ot_client_words(const struct ot_size *s);
struct ot_server ot_server_in(const struct ot_size *s, uint64_t *at);
struct ot_client ot_client_in(const struct ot_size *s, uint64_t *at);

int ot_offline_server(struct relu_party *p, const struct relu_batch *b, uint8_t *state);
int ot_offline_client(struct relu_party *p, const struct relu_batch *b, const uint64_t *u,
                      const uint64_t *r, uint8_t *state);
#endif

#ifndef RUNTIME_RELU_WAYS_H
#define RUNTIME_RELU_WAYS_H
/*
 * What two parties agree on for the batches of a connection, public: where oblivious transfers come from
 * and which link the forms of comparisons are chosen for. The server decides and says so in its greeting;
 * both then shape their batches alike.
 */
#include "runtime/net/link.h"
#include "runtime/relu/relu.h"

#define RELU_MOST_RATE UINT64_C(10000000000000) /* bits per second */
#define RELU_MOST_RTT UINT64_C(60000000000)     /* ns */
enum relu_transfers { RELU_TRANSFERS_AUTO, RELU_TRANSFERS_SOFTSPOKEN, RELU_TRANSFERS_FERRET };

/*
 * For `images` (at least 1) offline phases of one set-up. link NULL, or one with more than RELU_MOST_RATE
 * (link_loopback): forms stay as they are by default. ferret: the server's transfers are silent, the
 * client's where that takes fewer bytes. auto: each direction is silent where that takes less time on the
 * link (where forms are the default ones, the first of the list) by the formula of cot.h. ahead: see struct
 * relu_ways.
 */
void relu_ways_choose(const struct relu_backend *k, enum relu_transfers how,
                      const struct link *link, const struct schedule *s, int64_t images, bool ahead,
                      struct relu_ways *out);
/* Images of a connection between two set-ups of the ReLU backend, or one lot. */
#define RELU_SHARED 16
/* What a server offers a client that says it will ask for so many images (0: it does not know), and whether
 * they are prepared ahead. */
struct relu_wish {
    int64_t images;
    bool ahead;
};
void relu_ways_offer(const struct relu_backend *k, enum relu_transfers how, const struct link *link,
                     const struct schedule *s, const struct relu_wish *wish, bool tagged,
                     struct relu_ways *out);
/* Sets the form of a batch. */
void relu_shape(const struct relu_backend *k, const struct relu_ways *w, struct relu_batch *b);
#endif

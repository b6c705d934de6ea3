#ifndef TESTS_TWO_PARTIES_H
#define TESTS_TWO_PARTIES_H
/* A sample program, a dealer's files, and a server in a thread at the other end of a transport. */
#include <pthread.h>

#include "runtime/model.h"
#include "runtime/party/party.h"
#include "tests/scratch.h"

#define PARTIES_IMAGES 6
#define PARTIES_INPUTS 32
#define PARTIES_CLASSES 3
#define PARTIES_SEED 42

struct parties {
    struct plan *plan;
    struct plan_weights *weights;
    struct pi_model *sim;
    struct prepared *server, *client;
    uint8_t hash[32];
    bool dealer;
    char dir[SCRATCH_TEXT], dealt_client[SCRATCH_TEXT], dealt_server[SCRATCH_TEXT];
    char bundles_client[SCRATCH_TEXT], bundles_server[SCRATCH_TEXT];
};
/* kept: ReLUs of 64. deals: correlations of a dealer; 0: linear steps by a backend without secrecy. */
void parties_open(struct parties *b, int kept, int deals, uint64_t weights_seed);
/* The same of another plan, which it owns. */
void parties_open_plan(struct parties *b, struct plan *plan, int deals, uint64_t weights_seed);
/* Correlations of a dealer with its own seed, for parties that were opened without one. */
void parties_deal(struct parties *b, int deals, int64_t seed);
/* Asserts that no secret memory is left. */
void parties_close(struct parties *b);
/* With the test seed. */
struct party_options parties_options(const struct parties *b, const struct relu_backend *relu,
                                     bool client);
/* Image i, and in fixed point. */
void parties_image(int i, float image[PARTIES_INPUTS], uint64_t x[PARTIES_INPUTS]);
/* Logits of sim2pc. */
void parties_expect(struct parties *b, int64_t y[PARTIES_IMAGES][PARTIES_CLASSES]);
int parties_best(const int64_t *y);

/* Serves one connection until goodbye or error. */
struct served {
    struct party_options o;
    struct transport t;
    int rc;
    struct cost_count phase[PHASES];
    char message[256];
    pthread_t thread;
};
void served_start(struct served *s);
void served_join(struct served *s);
#endif

#ifndef TESTS_COVERT_SESSION_H
#define TESTS_COVERT_SESSION_H
/* A client and a server that does not trust it (party/covert.h), in one process, one connection after another. */
#include "runtime/party/party.h"
#include "tests/two_parties.h"

struct covert_session {
    struct parties b;
    int64_t expected[PARTIES_IMAGES][PARTIES_CLASSES];
    struct covert_rules rules;
    struct served server;
    struct party_options o;
    struct transport t;
    uint8_t identity[32];
};

/* rules NULL: a server that trusts its clients. */
void covert_open(struct covert_session *s, const struct covert_rules *rules, bool label);
struct party *covert_connect(struct covert_session *s);
/* What ended the server's side. */
int covert_hang_up(struct covert_session *s, struct party *p);
/* Files of a folder whose names begin so. */
int64_t covert_count(const char *dir, const char *prefix);
/* Empties both folders. */
void covert_forget_files(struct covert_session *s);
/* Number of the bundle that the next query takes. */
int covert_next_number(struct covert_session *s);
int covert_ask(struct party *p, int image, uint64_t y[PARTIES_CLASSES]);
#endif

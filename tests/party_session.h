#ifndef TESTS_PARTY_SESSION_H
#define TESTS_PARTY_SESSION_H
/* A client's and a server's options and the line between them, with open comparisons (plain_relu.h). */
#include "tests/two_parties.h"

struct session {
    struct served server;
    struct party_options o;
    struct transport t;
};

struct session session_of(const struct parties *b);
/* The server serves one connection at the other end of s->t. */
void session_start(struct session *s);
void session_end(struct session *s);
/* Images from `first` on: the answers are those expected. */
void session_ask_all(struct party *p, int first, int64_t expected[PARTIES_IMAGES][PARTIES_CLASSES],
                     bool label);
#endif

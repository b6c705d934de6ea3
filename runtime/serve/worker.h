#ifndef RUNTIME_SERVE_WORKER_H
#define RUNTIME_SERVE_WORKER_H
/*
 * One client in a process of its own, and the two pipes between it and the server.
 *
 * The server forks for every client that has greeted; the child serves that connection and ends. So
 * whatever goes wrong there, a crash included, costs this client alone; its secrets never lie in the memory of a
 * process that talks to somebody else; and the weights, read only, are there once. The server runs no
 * parallel region, therefore its children may.
 *
 * What the child says is of one size and read whole (a pipe does not tear what is this short). The server
 * believes its lengths and texts no more than those of a peer.
 */
#include "runtime/net/tls.h"
#include "runtime/party/party.h"

#define WORKER_TEXT 304

enum worker_what {
    WORKER_GREETS, /* who it is, with TLS after the handshake: waits for leave to go on */
    WORKER_IDLE,   /* waits for a request */
    WORKER_BEGINS, /* waits for leave to begin one */
    WORKER_DONE,   /* it was answered, or not: what it took */
    WORKER_ENDS,   /* the connection is over, and why */
};
struct worker_says {
    int32_t what, rc;
    uint8_t work, known; /* enum party_work; known: the client showed a certificate */
    uint8_t id[SHA256_SIZE];
    int64_t images, answered; /* begun or done; of these answered, or bundles that are usable */
    int64_t opened;           /* and those that were made to be opened */
    struct cost_count phase[PHASES];
    char text[WORKER_TEXT];
};
enum worker_order { ORDER_GO, ORDER_LEAVE };
struct worker_told {
    uint8_t
        order;   /* GO: leave is given unless why is not 0; LEAVE: make way, unless in a request */
    uint8_t why; /* enum refusal */
    uint8_t threads; /* to work with */
};

struct worker_job {
    const struct party_options *party; /* refuse and begin are filled in here */
    struct tls_context *tls;           /* NULL: plain */
    double seconds;                    /* longest silence of the client */
    struct tcp *tcp;
    int says, told; /* ends of the pipes; says is written */
};
/* Serves the connection, in the child, and ends the child. */
_Noreturn void worker_serve(const struct worker_job *job);
#endif

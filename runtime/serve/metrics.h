#ifndef RUNTIME_SERVE_METRICS_H
#define RUNTIME_SERVE_METRICS_H
/*
 * The server's counters for a monitoring system: text exposition format 0.0.4 over HTTP/1.0, GET alone.
 * No counter has a label that says who asked.
 *
 * At most METRICS_POLLS - 1 readers at a time, each with METRICS_SECONDS for its request and the answer;
 * the newest pushes the oldest out.
 */
#include <poll.h>

#include "runtime/net/tcp.h"

#define METRICS_POLLS 5
#define METRICS_SECONDS 2

struct metrics;
struct server;
int metrics_open(const struct tcp_address *at, struct metrics **out) MUST_CHECK;
/* NULL is fine everywhere below. */
void metrics_close(struct metrics *m);
int metrics_port(const struct metrics *m);
int metrics_polls(const struct metrics *m, struct pollfd p[METRICS_POLLS]);
/* Answers who has asked; does not wait. */
void metrics_look(struct metrics *m, const struct server *s);
#endif

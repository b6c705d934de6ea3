#ifndef RUNTIME_NET_SYSTEM_H
#define RUNTIME_NET_SYSTEM_H
/*
 * What a service manager and a server tell each other: sockets that were opened for us (LISTEN_PID,
 * LISTEN_FDS; the first is descriptor 3) and when we are ready (NOTIFY_SOCKET). Both are protocols of
 * environment variables and datagrams; no library is needed.
 */
#include "core/base/err.h"

/* *fd: the one socket that was passed to this process, 0: none. ERR_ARG: more than one. */
int system_listen_fd(int *fd) MUST_CHECK;
/* "READY=1", "STOPPING=1", lines of STATUS=... To nobody where nobody wants to know; what cannot be
 * delivered is lost. */
void system_notify(const char *text);
#endif

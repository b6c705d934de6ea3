/* Service managers (system.h). */
#include "runtime/net/system.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FIRST 3

int system_listen_fd(int *fd)
{
    const char *pid = getenv("LISTEN_PID"), *n = getenv("LISTEN_FDS");

    *fd = 0;
    if (pid == NULL || n == NULL || strtol(pid, NULL, 10) != (long)getpid())
        return 0;
    if (strcmp(n, "1") != 0)
        return fail(ERR_ARG, "LISTEN_FDS=%s: one socket is expected", n);
    if (fcntl(FIRST, F_SETFD, FD_CLOEXEC) < 0)
        return fail(ERR_ARG, "LISTEN_FDS=1: descriptor %d: %s", FIRST, strerror(errno));
    *fd = FIRST;
    return 0;
}

void system_notify(const char *text)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t n = path == NULL ? 0 : strlen(path);
    int fd;

    if (n < 2 || n >= sizeof to.sun_path || (*path != '/' && *path != '@'))
        return;
    memcpy(to.sun_path, path, n);
    if (*path == '@') /* a name that is no file */
        to.sun_path[0] = '\0';
    if ((fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) < 0)
        return;
    (void)!sendto(fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&to,
                  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
    close(fd);
}

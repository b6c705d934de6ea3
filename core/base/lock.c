/* Locks on outputs; see lock.h. */
#define _DEFAULT_SOURCE /* flock, gethostname */
#include "core/base/lock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/base/ranks.h"

#define HOLDER_BYTES 256
#define TRIES 100 /* an owner that leaves takes the file away under us: then again */

struct lock {
    int fd;
    char *path;
};

static void write_holder(int fd)
{
    char host[128] = "", when[32] = "", text[HOLDER_BYTES];
    const time_t now = time(NULL);
    struct tm tm;

    (void)gethostname(host, sizeof host - 1);
    if (gmtime_r(&now, &tm) != NULL)
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S UTC", &tm);
    const int n =
        snprintf(text, sizeof text, "process %ld on %s since %s\n", (long)getpid(), host, when);
    /* The text is for people only: the lock holds without it. */
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)n, 0) != n)
        return;
}

static int say_holder(int fd, const char *what)
{
    char text[HOLDER_BYTES];
    const ssize_t n = pread(fd, text, sizeof text - 1, 0);

    text[n > 0 ? n : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return fail(ERR_IO, "%s: another run writes there (%s); wait for it, or take another -o", what,
                text[0] != '\0' ? text : "it does not say which");
}

/* Is the open file still the one with this name? */
static bool still_there(int fd, const char *path)
{
    struct stat a, b;

    return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

static int take(struct lock *l, const char *what)
{
    for (int i = 0; i < TRIES; i++) {
        l->fd = open(l->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
        if (l->fd < 0)
            return fail(ERR_IO, "cannot write %s: %s", l->path, strerror(errno));
        if (flock(l->fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
            return say_holder(l->fd, what);
        if (still_there(l->fd, l->path)) {
            write_holder(l->fd);
            return 0;
        }
        close(l->fd);
        l->fd = -1;
    }
    return fail(ERR_IO, "%s: its lock changes hands too fast", what);
}

static void drop(struct lock **l)
{
    if (*l == NULL)
        return;
    if ((*l)->fd >= 0)
        close((*l)->fd);
    mem_free((*l)->path);
    mem_free(*l);
}

int lock_take(const char *path, const char *what, struct lock **out)
{
    SCOPED(drop) struct lock *l = NULL;

    *out = NULL;
    if (ranks_index() > 0) /* the first has it for all */
        return 0;
    if ((l = mem_array(1, sizeof *l)) == NULL)
        return ERR_NOMEM;
    l->fd = -1;
    if ((l->path = mem_strdup(path)) == NULL)
        return ERR_NOMEM;
    TRY(take(l, what));
    *out = mem_hand_on(&l);
    return 0;
}

void lock_release(struct lock *l)
{
    if (l != NULL)
        unlink(l->path); /* while it is held: whoever comes now makes a new one */
    drop(&l);
}

/* ---- leftovers ----------------------------------------------------------------------------- */

void lock_remove_leftovers(const char *folder, const char *prefix)
{
    DIR *d = ranks_index() == 0 ? opendir(folder) : NULL;

    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;)
        if (strncmp(e->d_name, prefix, strlen(prefix)) == 0 && file_is_abandoned(e->d_name))
            (void)unlinkat(dirfd(d), e->d_name, 0);
    if (d != NULL)
        closedir(d);
}

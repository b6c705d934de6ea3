/* Single-use files (store.h). */
#define _DEFAULT_SOURCE /* flock */
#include "runtime/crypto/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/mem.h"
#include "core/base/sha256.h"

#define STORE_PATH 4096
#define USED ".used"

static int path_of(char path[STORE_PATH], const char *dir, const char *name, const char *suffix)
{
    int n = snprintf(path, STORE_PATH, "%s/%s%s", dir, name, suffix);

    return n < 0 || n >= STORE_PATH ? fail(ERR_LIMIT, "path '%s' is too long", dir) : 0;
}

int store_folder(const char *dir)
{
    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return fail(ERR_IO, "'%s': %s", dir, strerror(errno));
    return 0;
}

/* ---- writing ------------------------------------------------------------------------------ */

struct store_writer {
    struct file_writer *file;
    struct sha256 *hash;
};

void store_abort(struct store_writer *w)
{
    if (w == NULL)
        return;
    file_writer_abort(w->file);
    sha256_free(w->hash);
    mem_free(w);
}

int store_write(const char *dir, const char *name, struct store_writer **out)
{
    SCOPED(store_abort_at) struct store_writer *w = mem_array(1, sizeof *w);
    char path[STORE_PATH];

    if (w == NULL)
        return ERR_NOMEM;
    TRY(path_of(path, dir, name, ""));
    TRY(file_writer_open(path, FILE_PRIVATE, &w->file));
    TRY(sha256_new(&w->hash));
    *out = mem_hand_on(&w);
    return 0;
}

int store_append(struct store_writer *w, const void *bytes, size_t n)
{
    TRY(sha256_add(w->hash, bytes, n));
    return file_writer_append(w->file, bytes, n);
}

int store_commit(struct store_writer **w)
{
    SCOPED(store_abort_at) struct store_writer *own = mem_hand_on(w);
    uint8_t digest[SHA256_SIZE];

    TRY(sha256_end(own->hash, digest));
    TRY(file_writer_append(own->file, digest, sizeof digest));
    return file_writer_commit(&own->file);
}

/* ---- looking ------------------------------------------------------------------------------ */

static bool matches(const char *name, const char *prefix, const char *suffix)
{
    size_t n = strlen(name), p = strlen(prefix), s = strlen(suffix);

    return n >= p + s && n < STORE_NAME && memcmp(name, prefix, p) == 0 &&
           strcmp(name + n - s, suffix) == 0;
}

int store_each(const char *dir, const char *prefix, const char *suffix,
               int (*visit)(void *ctx, const char *name), void *ctx)
{
    DIR *d = opendir(dir);
    const struct dirent *e;
    int rc = 0;

    if (d == NULL)
        return fail(ERR_IO, "folder '%s': %s", dir, strerror(errno));
    while (rc == 0 && (e = readdir(d)) != NULL)
        if (matches(e->d_name, prefix, suffix))
            rc = visit(ctx, e->d_name);
    closedir(d);
    return rc;
}

static int keep_first(void *ctx, const char *name)
{
    char *best = ctx;

    if (*best == '\0' || strcmp(name, best) < 0)
        strcpy(best, name); /* matches() bounds it */
    return 0;
}

int store_next(const char *dir, const char *prefix, const char *suffix, char name[STORE_NAME])
{
    *name = '\0';
    TRY(store_each(dir, prefix, suffix, keep_first, name));
    return *name != '\0';
}

static int count_one(void *ctx, const char *name)
{
    int64_t *n = ctx;

    (void)name;
    ++*n;
    return 0;
}

int store_count(const char *dir, const char *prefix, const char *suffix, int64_t *n)
{
    *n = 0;
    return store_each(dir, prefix, suffix, count_one, n);
}

static int remove_one(void *ctx, const char *name)
{
    char path[STORE_PATH];

    TRY(path_of(path, ctx, name, ""));
    if (unlink(path) < 0 && errno != ENOENT)
        return fail(ERR_IO, "'%s': %s", path, strerror(errno));
    return 0;
}

/* Claimed by nobody any more. */
static int remove_used(void *ctx, const char *name)
{
    char path[STORE_PATH];
    bool held;
    int fd;

    TRY(path_of(path, ctx, name, ""));
    if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        return errno == ENOENT ? 0 : fail(ERR_IO, "'%s': %s", path, strerror(errno));
    held = flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
    close(fd);
    return held ? 0 : remove_one(ctx, name);
}

int store_reserve(const char *dir, const char *name, bool *taken)
{
    char path[STORE_PATH];
    int fd;

    TRY(path_of(path, dir, name, ""));
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    *taken = fd < 0 && errno == EEXIST;
    if (fd < 0)
        return *taken ? 0 : fail(ERR_IO, "'%s': %s", path, strerror(errno));
    close(fd);
    return 0;
}

static int remove_abandoned(void *ctx, const char *name)
{
    return file_is_abandoned(name) ? remove_one(ctx, name) : 0;
}

int store_drop(const char *dir, const char *name)
{
    return remove_one((void *)(uintptr_t)dir, name);
}

int store_sweep(const char *dir)
{
    TRY(store_each(dir, "", USED, remove_used, (void *)(uintptr_t)dir));
    return store_each(dir, "", "", remove_abandoned, (void *)(uintptr_t)dir);
}

static int remove_file(void *ctx, const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ? 0 : remove_one(ctx, name);
}

int store_remove(const char *dir)
{
    TRY(store_each(dir, "", "", remove_file, (void *)(uintptr_t)dir));
    return rmdir(dir) == 0 ? 0 : fail(ERR_IO, "'%s': %s", dir, strerror(errno));
}

/* ---- claiming ----------------------------------------------------------------------------- */

/* Of errno. */
static int refuse_claim(const char *path)
{
    return errno == ENOENT ? fail(ERR_DATA, "'%s': used before, or never made", path)
                           : fail(ERR_IO, "'%s': %s", path, strerror(errno));
}

static int sync_folder(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;

    if (fd < 0 || fsync(fd) < 0)
        rc = fail(ERR_IO, "folder '%s': %s", dir, strerror(errno));
    if (fd >= 0)
        close(fd);
    return rc;
}

int store_rename(const char *dir, const char *from, const char *to, bool *found)
{
    char old[STORE_PATH], new[STORE_PATH];

    TRY(path_of(old, dir, from, ""));
    TRY(path_of(new, dir, to, ""));
    *found = rename(old, new) == 0;
    if (!*found && errno != ENOENT)
        return fail(ERR_IO, "'%s': %s", old, strerror(errno));
    return *found ? sync_folder(dir) : 0;
}

static int read_exact(int fd, uint8_t *to, size_t n)
{
    while (n > 0) {
        ssize_t got = read(fd, to, n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return fail(ERR_FORMAT, "shorter than it must be");
        to += got;
        n -= (size_t)got;
    }
    return 0;
}

static int read_sealed(int fd, uint8_t *bytes, size_t size)
{
    uint8_t stated[SHA256_SIZE], digest[SHA256_SIZE], more;

    TRY(read_exact(fd, bytes, size));
    TRY(read_exact(fd, stated, sizeof stated));
    if (read(fd, &more, 1) != 0)
        return fail(ERR_FORMAT, "longer than it must be");
    TRY(sha256_bytes(bytes, size, digest));
    return memcmp(stated, digest, sizeof digest) == 0 ? 0 : fail(ERR_FORMAT, "damaged: wrong hash");
}

static int read_file(const char *path, size_t size, uint8_t **bytes)
{
    SECRET uint8_t *memory = secret_array(size, 1);
    int fd, rc;

    if (memory == NULL)
        return ERR_NOMEM;
    if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        return fail(ERR_IO, "'%s': %s", path, strerror(errno));
    rc = read_sealed(fd, memory, size);
    close(fd);
    if (rc < 0)
        return fail_context(rc, "'%s'", path);
    *bytes = mem_hand_on(&memory);
    return 0;
}

int store_read(const char *dir, const char *name, size_t size, uint8_t **bytes)
{
    char path[STORE_PATH];

    TRY(path_of(path, dir, name, ""));
    if (access(path, F_OK) < 0)
        return fail(ERR_DATA, "'%s': %s", path, strerror(errno));
    return read_file(path, size, bytes);
}

int store_head(const char *dir, const char *name, void *bytes, size_t n)
{
    char path[STORE_PATH];
    ssize_t got;
    int fd;

    TRY(path_of(path, dir, name, ""));
    if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        return fail(ERR_DATA, "'%s': used before, or never made", path);
    got = read(fd, bytes, n);
    close(fd);
    return got == (ssize_t)n ? 0 : fail(ERR_FORMAT, "'%s': damaged", path);
}

int store_claim(const char *dir, const char *name, size_t size, uint8_t **bytes)
{
    char path[STORE_PATH], used[STORE_PATH];
    int rc;

    TRY(path_of(path, dir, name, ""));
    TRY(path_of(used, dir, name, USED));
    if (rename(path, used) < 0)
        return refuse_claim(path);
    TRY(sync_folder(dir));
    rc = read_file(used, size, bytes);
    (void)unlink(used); /* store_sweep tries again */
    return rc;
}

/* Under its name and ours: another process that claims it waits for nothing, one that sweeps leaves it. */
static int open_locked(const char *path, int *fd)
{
    if ((*fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        return refuse_claim(path);
    if (flock(*fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    close(*fd);
    return errno == EWOULDBLOCK ? fail(ERR_DATA, "'%s': used before, or never made", path)
                                : fail(ERR_IO, "'%s': %s", path, strerror(errno));
}

int store_begin(const char *dir, const char *name, int *fd)
{
    char path[STORE_PATH], used[STORE_PATH];
    int rc;

    TRY(path_of(path, dir, name, ""));
    TRY(path_of(used, dir, name, USED));
    TRY(open_locked(path, fd));
    if (rename(path, used) < 0)
        rc = refuse_claim(path);
    else
        rc = sync_folder(dir);
    if (rc < 0)
        close(*fd);
    return rc;
}

int store_return(const char *dir, const char *name)
{
    char path[STORE_PATH], used[STORE_PATH];

    TRY(path_of(path, dir, name, ""));
    TRY(path_of(used, dir, name, USED));
    if (rename(used, path) < 0)
        return fail(ERR_IO, "'%s': %s", path, strerror(errno));
    return sync_folder(dir);
}

void store_finish(const char *dir, const char *name)
{
    char used[STORE_PATH];

    if (path_of(used, dir, name, USED) == 0)
        (void)unlink(used); /* store_sweep tries again */
}

/* ---- what was used ------------------------------------------------------------------------- */

/* Whether the list has the id; *size: bytes of whole ids. */
static int list_has(int fd, const uint8_t id[STORE_ID], off_t *size, bool *found)
{
    uint8_t ids[256 * STORE_ID];

    *size = 0;
    *found = false;
    for (;;) {
        ssize_t got = pread(fd, ids, sizeof ids, *size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail(ERR_IO, "%s", strerror(errno));
        for (ssize_t i = 0; i + STORE_ID <= got; i += STORE_ID)
            *found = *found || memcmp(ids + i, id, STORE_ID) == 0;
        *size += got / STORE_ID * STORE_ID;
        if (got < (ssize_t)sizeof ids)
            return 0;
    }
}

static int add_to_list(int fd, const uint8_t id[STORE_ID])
{
    bool found;
    off_t size;

    if (flock(fd, LOCK_EX) < 0)
        return fail(ERR_IO, "%s", strerror(errno));
    TRY(list_has(fd, id, &size, &found));
    if (found)
        return fail(ERR_DATA,
                    "a bundle that was used before has come back, from a copy of the folder");
    /* half of an id, where a machine stopped, was nobody's leave */
    if (ftruncate(fd, size) < 0 || pwrite(fd, id, STORE_ID, size) != STORE_ID || fsync(fd) < 0)
        return fail(ERR_IO, "%s", strerror(errno));
    return 0;
}

int store_mark_used(const char *dir, const uint8_t id[STORE_ID])
{
    char path[STORE_PATH];
    int fd, rc;

    TRY(path_of(path, dir, STORE_LIST, ""));
    if ((fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600)) < 0)
        return fail(ERR_IO, "'%s': %s", path, strerror(errno));
    rc = add_to_list(fd, id);
    close(fd);
    if (rc < 0)
        return fail_context(rc, "'%s'", path);
    return sync_folder(dir);
}

/*
 * Files: reading, mapping, opening beneath a folder, atomic writing.
 *
 * Beneath a folder: the path is walked component by component, each opened relative to the one
 * before with O_NOFOLLOW. That refuses symbolic links wherever they stand, and without ".." and
 * absolute paths nothing can lead out, whatever is renamed meanwhile (what openat2 with
 * RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS does in one call on newer Linux kernels).
 *
 * Writing:   path.tmp-PID-N  created (O_EXCL)  ->  append ...  ->  fsync  ->  rename to path
 *            removed on every failure; only a killed process leaves it behind.
 *
 * Limits: a new file does not take over owner, mode or extended attributes of the old one.
 */
#include "core/base/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/mem.h"
#include "core/base/ranks.h"

#define READ_STEP ((size_t)64 << 10)
#define WRITE_BUFFER ((size_t)256 << 10)
#define TEMP_TRIES 1000
#define PATH_BYTES 4096

static int fail_io(const char *verb, const char *path)
{
    return fail(ERR_IO, "cannot %s %s: %s", verb, path, strerror(errno));
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

/* The caller looks at the kind of file before it reads: opening a FIFO that nobody writes to must not
 * block. */
static int open_read(const char *path, int *fd)
{
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    return *fd < 0 ? fail_io("open", path) : 0;
}

/* Reads up to n bytes, less only at the end of the file. */
static int read_full(int fd, const char *path, uint8_t *dst, size_t n, size_t *got)
{
    size_t at = 0;

    while (at < n) {
        ssize_t step = read(fd, dst + at, n - at);
        if (step < 0 && errno == EINTR)
            continue;
        if (step < 0)
            return fail_io("read", path);
        if (step == 0)
            break;
        at += (size_t)step;
    }
    *got = at;
    return 0;
}

/* size: what to ask for first, and one byte more, which shows the end. */
static int read_all(int fd, const char *path, size_t size, size_t limit, uint8_t **data,
                    size_t *len)
{
    OWNED uint8_t *bytes = NULL;
    size_t n = 0, cap = 0, step = size < limit ? size + 1 : READ_STEP, got = 0;

    do {
        uint8_t *more = mem_resize(bytes, cap + step + 1, 1);
        if (more == NULL)
            return ERR_NOMEM;
        bytes = more;
        cap += step;
        TRY(read_full(fd, path, bytes + n, cap - n, &got));
        n += got;
        if (n > limit)
            return fail(ERR_LIMIT, "%s: more than %zu bytes", path, limit);
        step = cap;
    } while (n == cap);
    bytes[n] = 0;
    *data = mem_hand_on(&bytes);
    *len = n;
    return 0;
}

/* *size: bytes of the regular file. */
static int check_regular(int fd, const char *path, size_t *size)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return fail_io("read", path);
    *size = (size_t)st.st_size;
    if (S_ISREG(st.st_mode))
        return 0;
    return fail(ERR_IO, "cannot read %s: %s", path,
                S_ISDIR(st.st_mode) ? "it is a folder" : "not a regular file");
}

int file_read(const char *path, size_t limit, uint8_t **data, size_t *len)
{
    SCOPED(close_fd) int fd = -1;
    size_t size;

    TRY(open_read(path, &fd));
    TRY(check_regular(fd, path, &size));
    return read_all(fd, path, size, limit, data, len);
}

int file_map_fd(int fd, const char *name, struct file_map *out)
{
    static const uint8_t nothing[1] = {0};
    size_t len;

    TRY(check_regular(fd, name, &len));
    void *data = len > 0 ? mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    if (data == MAP_FAILED)
        return fail_io("map", name);
    *out = (struct file_map){.data = data != NULL ? data : nothing, .len = len};
    return 0;
}

int file_check_private(const char *path)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return errno == ENOENT ? 0 : fail_io("look at", path);
    if (st.st_uid != geteuid())
        return fail(ERR_ARG, "'%s' is a secret, but belongs to user %ld, not %ld, who runs this",
                    path, (long)st.st_uid, (long)geteuid());
    if ((st.st_mode & 066) != 0)
        return fail(ERR_ARG, "'%s' is a secret, but others may %s it (mode %03o); chmod go-rwx it",
                    path, (st.st_mode & 022) != 0 ? "write" : "read",
                    (unsigned)(st.st_mode & 0777));
    return 0;
}

int file_is_new(const char *path, const char *const *input, int n)
{
    struct stat out, in;

    for (int i = 0; i < n && stat(path, &out) == 0; i++)
        if (input[i] != NULL && stat(input[i], &in) == 0 && S_ISREG(in.st_mode) &&
            in.st_dev == out.st_dev && in.st_ino == out.st_ino)
            return fail(ERR_ARG, "'%s' is an input and would be overwritten; give another name",
                        path);
    return 0;
}

int file_map_open(const char *path, struct file_map *out)
{
    SCOPED(close_fd) int fd = -1;

    TRY(open_read(path, &fd));
    return file_map_fd(fd, path, out);
}

void file_map_close(struct file_map *m)
{
    if (m->len > 0)
        munmap((void *)(uintptr_t)m->data, m->len);
    *m = (struct file_map){0};
}

int file_at_open(const char *path, struct file_at *out)
{
    SCOPED(close_fd) int fd = -1;
    size_t len;
    char *copy;

    TRY(open_read(path, &fd));
    TRY(check_regular(fd, path, &len));
    if ((copy = mem_strdup(path)) == NULL)
        return ERR_NOMEM;
    *out = (struct file_at){copy, fd, len};
    fd = -1;
    return 0;
}

void file_at_rest(struct file_at *f)
{
    if (f->path != NULL && f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}

static int read_place(int fd, const char *path, uint64_t offset, uint8_t *out, size_t n)
{
    while (n > 0) {
        const ssize_t step = pread(fd, out, n, (off_t)offset);
        if (step < 0 && errno == EINTR)
            continue;
        if (step < 0)
            return fail_io("read", path);
        if (step == 0)
            return fail(ERR_IO, "cannot read %s: it ends at byte %" PRIu64 ", %zu bytes early",
                        path, offset, n);
        out += step;
        offset += (uint64_t)step;
        n -= (size_t)step;
    }
    return 0;
}

int file_at_read(const struct file_at *f, uint64_t offset, void *out, size_t n)
{
    SCOPED(close_fd) int own = -1;
    size_t len;

    if (offset > INT64_MAX - n)
        return fail(ERR_IO, "cannot read %s: there is no byte %" PRIu64, f->path, offset);
    if (f->fd >= 0)
        return read_place(f->fd, f->path, offset, out, n);
    TRY(open_read(f->path, &own));
    TRY(check_regular(own, f->path, &len));
    return read_place(own, f->path, offset, out, n);
}

void file_at_close(struct file_at *f)
{
    file_at_rest(f);
    mem_free(f->path);
    *f = (struct file_at){0};
}

/* Copies the next component of *rest (without slashes) and moves on. False: "..", empty, or "." */
static bool next_component(const char **rest, char name[PATH_BYTES], bool *last)
{
    size_t n = strcspn(*rest, "/");

    memcpy(name, *rest, n);
    name[n] = '\0';
    *last = (*rest)[n] == '\0';
    *rest += *last ? n : n + 1;
    return n > 0 && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* Opens `name` in the folder `at`, as a folder or as the regular file at the end. */
static int open_component(int at, const char *name, bool last)
{
    const int kind = last ? O_NONBLOCK : O_DIRECTORY; /* a fifo must not block the open */

    return openat(at, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | kind);
}

static int check_opened(int fd, const char *relative, unsigned flags)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return fail_io("open", relative);
    if (!S_ISREG(st.st_mode))
        return fail(ERR_IO, "cannot open %s: not a regular file", relative);
    if ((flags & FILE_SINGLE_LINK) != 0 && st.st_nlink != 1)
        return fail(ERR_IO, "cannot open %s: it has %" PRIuMAX " hard links, only 1 is allowed",
                    relative, (uintmax_t)st.st_nlink);
    return 0;
}

/* Descends from `folder`, which it closes, component by component: what a name was when it
 * was checked and what is opened are the same thing. */
static int open_beneath(int folder, const char *relative, unsigned flags, int *fd)
{
    SCOPED(close_fd) int at = folder;
    char name[PATH_BYTES];
    const char *rest = relative;
    bool last = false;

    while (!last) {
        if (!next_component(&rest, name, &last))
            return fail(ERR_IO, "cannot open '%s': not a plain path below its folder", relative);
        int next = open_component(at, name, last);
        if (next < 0)
            return errno == ELOOP || errno == ENOTDIR
                       ? fail(ERR_IO, "cannot open %s: '%s' is a link or no folder", relative, name)
                       : fail(ERR_IO, "cannot open %s: %s", relative, strerror(errno));
        close(at);
        at = next;
    }
    TRY(check_opened(at, relative, flags));
    *fd = at;
    at = -1;
    return 0;
}

static int check_length(const char *relative)
{
    if (strlen(relative) < PATH_BYTES)
        return 0;
    return fail(ERR_IO, "a file name of %zu bytes is too long", strlen(relative));
}

int file_open_beneath_fd(int folder, const char *relative, unsigned flags, int *fd)
{
    TRY(check_length(relative));
    const int at = fcntl(folder, F_DUPFD_CLOEXEC, 0);
    if (at < 0)
        return fail_io("open folder of", relative);
    return open_beneath(at, relative, flags, fd);
}

struct file_writer {
    char *path, *temp;
    int fd;        /* -1 after close */
    int status;    /* 0 or the first error */
    bool pending;  /* the temporary exists */
    bool silent;   /* nothing is written */
    size_t filled; /* bytes waiting in buffer */
    uint64_t size; /* bytes appended */
    uint8_t buffer[WRITE_BUFFER];
};

bool file_is_abandoned(const char *name)
{
    const char *mark = NULL;
    long pid;
    int n, end = 0;

    for (const char *at = name; (at = strstr(at, ".tmp-")) != NULL; at++)
        mark = at;
    if (mark == NULL || mark[5] < '1' || mark[5] > '9' ||
        sscanf(mark, ".tmp-%9ld-%9d%n", &pid, &n, &end) != 2 || mark[end] != '\0')
        return false;
    return kill((pid_t)pid, 0) < 0 && errno == ESRCH;
}

/* Creates path.tmp-PID-N with the first N that is free. */
static int create_temp(struct file_writer *w, enum file_access access)
{
    const size_t room = strlen(w->path) + 48;
    const mode_t mode = access == FILE_PRIVATE ? 0600 : 0666;

    if ((w->temp = mem_array(room, 1)) == NULL)
        return ERR_NOMEM;
    for (int i = 0; i < TEMP_TRIES; i++) {
        snprintf(w->temp, room, "%s.tmp-%ld-%d", w->path, (long)getpid(), i);
        w->fd = open(w->temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
        if (w->fd >= 0) {
            w->pending = true;
            return 0;
        }
        if (errno != EEXIST)
            break;
    }
    return fail_io("write", w->path);
}

int file_writer_open(const char *path, enum file_access access, struct file_writer **out)
{
    const bool silent = ranks_index() > 0; /* a rank that does not write */
    SCOPED(file_writer_abort_at) struct file_writer *w = NULL;
    struct stat st;

    if (!silent && lstat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
        return fail(ERR_IO, "cannot write %s: it exists and is not a regular file", path);
    if ((w = mem_array(1, sizeof *w)) == NULL)
        return ERR_NOMEM;
    w->fd = -1;
    w->silent = silent;
    if (!silent && (w->path = mem_strdup(path)) == NULL)
        return ERR_NOMEM;
    if (!silent)
        TRY(create_temp(w, access));
    *out = mem_hand_on(&w);
    return 0;
}

int file_can_write(const char *path)
{
    struct file_writer *w = NULL;

    TRY(file_writer_open(path, FILE_PRIVATE, &w));
    file_writer_abort(w);
    return 0;
}

static int write_full(struct file_writer *w, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t step = write(w->fd, data, len);
        if (step < 0 && errno == EINTR)
            continue;
        if (step < 0)
            return w->status = fail_io("write", w->path);
        data += step;
        len -= (size_t)step;
    }
    return 0;
}

static int flush(struct file_writer *w)
{
    size_t n = w->filled;

    w->filled = 0;
    return write_full(w, w->buffer, n);
}

/* A status from before may have lost its message to another failure since. */
static int repeat_failure(const struct file_writer *w)
{
    return fail(w->status, "cannot write %s: an earlier write failed", w->path);
}

int file_writer_append(struct file_writer *w, const void *data, size_t len)
{
    if (w->status < 0)
        return repeat_failure(w);
    w->size += len;
    if (w->silent)
        return 0;
    if (len > WRITE_BUFFER - w->filled)
        TRY(flush(w));
    if (len >= WRITE_BUFFER)
        return write_full(w, data, len);
    if (len > 0)
        memcpy(w->buffer + w->filled, data, len);
    w->filled += len;
    return 0;
}

uint64_t file_writer_size(const struct file_writer *w)
{
    return w->size;
}

/* Makes the rename itself durable. Best effort: the new file is complete either way. */
static void sync_folder(char *path)
{
    char *slash = strrchr(path, '/');

    if (slash != NULL)
        slash[slash == path ? 1 : 0] = '\0';
    int fd = open(slash != NULL ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)fsync(fd);
    close(fd);
}

static int finish(struct file_writer *w)
{
    if (w->status < 0)
        return repeat_failure(w);
    if (w->silent)
        return 0;
    TRY(flush(w));
    if (fsync(w->fd) != 0)
        return fail_io("write", w->path);
    int fd = w->fd;
    w->fd = -1;
    if (close(fd) != 0)
        return fail_io("write", w->path);
    if (rename(w->temp, w->path) != 0)
        return fail_io("replace", w->path);
    w->pending = false;
    sync_folder(w->path);
    return 0;
}

int file_writer_commit(struct file_writer **w)
{
    int rc = finish(*w);

    file_writer_abort(*w);
    *w = NULL;
    return rc;
}

void file_writer_abort(struct file_writer *w)
{
    if (w == NULL)
        return;
    if (w->fd >= 0)
        close(w->fd);
    if (w->pending)
        unlink(w->temp);
    mem_free(w->temp);
    mem_free(w->path);
    mem_free(w);
}

int file_write_atomic(const char *path, enum file_access access, const void *data, size_t len)
{
    SCOPED(file_writer_abort_at) struct file_writer *w = NULL;

    TRY(file_writer_open(path, access, &w));
    TRY(file_writer_append(w, data, len));
    return file_writer_commit(&w);
}

/* Tapes (tape.h). */
#define _GNU_SOURCE /* O_TMPFILE */
#include "runtime/crypto/tape.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "runtime/crypto/pieces.h"
#include "runtime/crypto/prg.h"

#define TAPE_PATH 4096

struct tape {
    uint64_t size, at;        /* bytes in all; put so far */
    uint8_t *memory;          /* all of them, or NULL */
    struct seal *seal;        /* in a file */
    uint8_t *piece, *closed;  /* that is being put: SEAL_PIECE bytes, and sealed SEAL_TAG more */
    int fd;                   /* -1: none */
    uint64_t origin;          /* of the first piece in the file */
    struct file_writer *file; /* record */
    struct pieces *pieces;    /* NULL: nothing was taken yet */
    bool named, check;        /* named: by its user; check: no key, tags are checksums */
    int rc;                   /* the first failure */
    char why[256], name[128];
};

static int tape_new(uint64_t size, struct tape **out)
{
    struct tape *t = secret_array(1, sizeof *t);

    if (t == NULL)
        return ERR_NOMEM;
    t->size = size;
    t->fd = -1;
    *out = t;
    return 0;
}

void tape_free(struct tape *t)
{
    if (t == NULL)
        return;
    pieces_close(t->pieces);
    if (t->fd >= 0)
        close(t->fd);
    file_writer_abort(t->file);
    seal_free(t->seal);
    secret_free(t->piece);
    mem_free(t->closed);
    secret_free(t->memory);
    secret_free(t);
}

/* Keeps the failure whose message was just written. */
static void keep_failure(struct tape *t, int rc)
{
    if (t->rc == 0) {
        t->rc = rc;
        snprintf(t->why, sizeof t->why, "%s", err_message());
    }
}

int tape_check(const struct tape *t)
{
    return t->rc < 0 ? fail(t->rc, "%s", t->why) : 0;
}

uint8_t *tape_bytes(struct tape *t)
{
    return t->memory;
}

int tape_memory(uint64_t size, struct tape **out)
{
    SCOPED(tape_free_at) struct tape *t = NULL;

    if (size > SIZE_MAX / 2)
        return fail(ERR_LIMIT, "the prepared material of one image does not fit in memory");
    TRY(tape_new(size, &t));
    if ((t->memory = secret_array((size_t)size, 1)) == NULL)
        return ERR_NOMEM;
    *out = mem_hand_on(&t);
    return 0;
}

int tape_nowhere(uint64_t size, struct tape **out)
{
    return tape_new(size, out);
}

/* ---- files -------------------------------------------------------------------------------- */

/* For putting. */
static int begin_pieces(struct tape *t, const uint8_t key[SEAL_KEY], const uint8_t salt[SEAL_SALT],
                        const void *head, size_t n)
{
    if ((t->piece = secret_array(SEAL_PIECE, 1)) == NULL ||
        (t->closed = mem_array(SEAL_PIECE + SEAL_TAG, 1)) == NULL)
        return ERR_NOMEM;
    return seal_new(key, salt, head, n, &t->seal);
}

static int draw(uint8_t *bytes, size_t n)
{
    SCOPED(prg_free_at) struct prg *rng = NULL;

    TRY(prg_new_random(&rng));
    prg_bytes(rng, bytes, n);
    return 0;
}

static int open_unnamed(const char *dir, int *fd)
{
    char path[TAPE_PATH];
    int n;

    *fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (*fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
        return *fd >= 0
                   ? 0
                   : fail(ERR_IO, "'%s': %s (TMPDIR names another folder)", dir, strerror(errno));
    n = snprintf(path, sizeof path, "%s/linnet-XXXXXX", dir);
    if (n < 0 || n >= (int)sizeof path)
        return fail(ERR_LIMIT, "path '%s' is too long", dir);
    if ((*fd = mkostemp(path, O_CLOEXEC)) < 0)
        return fail(ERR_IO, "'%s': %s (TMPDIR names another folder)", dir, strerror(errno));
    (void)unlink(path);
    return 0;
}

int tape_spool(const char *dir, uint64_t size, struct tape **out)
{
    SCOPED(tape_free_at) struct tape *t = NULL;
    SECRET uint8_t *secret = secret_array(SEAL_KEY + SEAL_SALT, 1);

    if (secret == NULL)
        return ERR_NOMEM;
    if (dir == NULL && ((dir = getenv("TMPDIR")) == NULL || *dir == '\0'))
        dir = "/var/tmp";
    TRY(tape_new(size, &t));
    snprintf(t->name, sizeof t->name, "%s", dir);
    TRY(draw(secret, SEAL_KEY + SEAL_SALT));
    TRY(begin_pieces(t, secret, secret + SEAL_KEY, NULL, 0));
    TRY(open_unnamed(dir, &t->fd));
    *out = mem_hand_on(&t);
    return 0;
}

static const uint8_t no_key[SEAL_KEY];

static int begin_record(struct tape *t, const struct tape_file *f)
{
    uint8_t salt[SEAL_SALT];
    char path[TAPE_PATH];
    int n = snprintf(path, sizeof path, "%s/%s", f->dir, f->name);

    if (n < 0 || n >= (int)sizeof path)
        return fail(ERR_LIMIT, "path '%s' is too long", f->dir);
    t->named = true;
    TRY(draw(salt, sizeof salt));
    TRY(begin_pieces(t, f->key != NULL ? f->key : no_key, salt, f->head, f->n));
    TRY(file_writer_open(path, FILE_PRIVATE, &t->file));
    TRY(file_writer_append(t->file, f->head, f->n));
    return file_writer_append(t->file, salt, sizeof salt);
}

int tape_record(const struct tape_file *f, uint64_t size, struct tape **out)
{
    SCOPED(tape_free_at) struct tape *t = NULL;

    TRY(tape_new(size, &t));
    TRY(begin_record(t, f));
    *out = mem_hand_on(&t);
    return 0;
}

int tape_commit(struct tape **t)
{
    int rc = tape_check(*t);

    if (rc == 0 && (*t)->at != (*t)->size)
        rc = fail(ERR_IO, "%llu bytes of %llu are there", (unsigned long long)(*t)->at,
                  (unsigned long long)(*t)->size);
    if (rc == 0 && (*t)->named)
        rc = file_writer_commit(&(*t)->file);
    tape_free(*t);
    *t = NULL;
    return rc;
}

uint64_t tape_file_size(size_t head, uint64_t size)
{
    return head + SEAL_SALT + seal_size(size);
}

/* ---- putting ------------------------------------------------------------------------------ */

static int write_all(struct tape *t, const uint8_t *bytes, size_t n)
{
    while (n > 0) {
        ssize_t done = write(t->fd, bytes, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return fail(ERR_IO, "a spool file in '%s': %s (TMPDIR names another folder)", t->name,
                        strerror(errno));
        bytes += done;
        n -= (size_t)done;
    }
    return 0;
}

/* The piece that ends at t->at. */
static int close_piece(struct tape *t)
{
    uint64_t piece = (t->at - 1) / SEAL_PIECE;
    size_t n = seal_piece_bytes(t->size, piece);

    TRY(seal_close(t->seal, piece, seal_is_last(t->size, piece), t->piece, n, t->closed));
    return t->file != NULL ? file_writer_append(t->file, t->closed, n + SEAL_TAG)
                           : write_all(t, t->closed, n + SEAL_TAG);
}

static void put_pieces(struct tape *t, const uint8_t *bytes, size_t n)
{
    while (n > 0 && t->rc == 0) {
        size_t at = (size_t)(t->at % SEAL_PIECE), step = SEAL_PIECE - at;
        int rc = 0;

        step = n < step ? n : step;
        memcpy(t->piece + at, bytes, step);
        bytes += step;
        n -= step;
        t->at += step;
        if (t->at % SEAL_PIECE == 0 || t->at == t->size)
            rc = close_piece(t);
        if (rc < 0)
            keep_failure(t, rc);
    }
}

void tape_put(struct tape *t, const void *bytes, size_t n)
{
    if (t->rc < 0 || n == 0)
        return;
    if (n > t->size - t->at) {
        keep_failure(t, fail(ERR_ARG, "more than was to be put"));
        return;
    }
    if (t->seal != NULL) {
        put_pieces(t, bytes, n);
        return;
    }
    if (t->memory != NULL)
        memcpy(t->memory + t->at, bytes, n);
    t->at += n;
}

/* ---- taking ------------------------------------------------------------------------------- */

static int begin_taking(struct tape *t)
{
    const struct pieces_file f = {t->fd, t->origin, t->size, t->seal, t->check, t->name};

    return pieces_open(&f, &t->pieces);
}

static int take_pieces(struct tape *t, uint64_t at, uint8_t *to, size_t n)
{
    if (t->pieces == NULL)
        TRY(begin_taking(t));
    while (n > 0) {
        size_t from = (size_t)(at % SEAL_PIECE), step = SEAL_PIECE - from;
        const uint8_t *bytes;

        step = n < step ? n : step;
        TRY(pieces_at(t->pieces, at / SEAL_PIECE, &bytes));
        memcpy(to, bytes + from, step);
        at += step;
        to += step;
        n -= step;
    }
    return 0;
}

int tape_take(struct tape *t, uint64_t at, void *to, size_t n)
{
    TRY(tape_check(t));
    if (n > t->at || at > t->at - n ||
        (t->memory == NULL && (t->fd < 0 || t->at < t->size))) /* a file is read when it is whole */
        return fail(ERR_ARG, "more than was put");
    if (n == 0)
        return 0;
    if (t->memory == NULL)
        return take_pieces(t, at, to, n);
    memcpy(to, t->memory + at, n);
    wipe(t->memory + at, n);
    return 0;
}

/* ---- opening ------------------------------------------------------------------------------ */

static int begin_reading(struct tape *t, const struct tape_file *f)
{
    uint8_t salt[SEAL_SALT];
    struct stat st;

    snprintf(t->name, sizeof t->name, "%s", f->name);
    t->at = t->size;
    t->check = f->key == NULL;
    t->origin = f->n + SEAL_SALT;
    if (fstat(t->fd, &st) < 0)
        return fail(ERR_IO, "'%s': %s", f->name, strerror(errno));
    if ((uint64_t)st.st_size != tape_file_size(f->n, t->size))
        return fail(ERR_FORMAT, "'%s': %s than it must be", f->name,
                    (uint64_t)st.st_size < tape_file_size(f->n, t->size) ? "shorter" : "longer");
    TRY(pieces_read(t->fd, t->name, f->n, salt, sizeof salt));
    return seal_new(f->key != NULL ? f->key : no_key, salt, f->head, f->n, &t->seal);
}

static int into_memory(struct tape *t)
{
    SECRET uint8_t *memory = secret_array((size_t)t->size, 1);
    int rc = memory == NULL ? ERR_NOMEM : take_pieces(t, 0, memory, (size_t)t->size);

    pieces_close(t->pieces);
    t->pieces = NULL;
    TRY(rc);
    t->memory = mem_hand_on(&memory); /* the file stays open: it may be locked */
    return 0;
}

int tape_open(const struct tape_file *f, int fd, bool small, uint64_t size, struct tape **out)
{
    SCOPED(tape_free_at) struct tape *t = NULL;
    int rc = tape_new(size, &t);

    if (rc < 0) {
        close(fd);
        return rc;
    }
    t->fd = fd;
    TRY(begin_reading(t, f));
    if (small)
        TRY(into_memory(t));
    *out = mem_hand_on(&t);
    return 0;
}

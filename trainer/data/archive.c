/* Members of archives; see archive.h. Nothing is written to disk. */
#include "trainer/data/archive.h"

#include <string.h>

#include <archive.h>
#include <archive_entry.h>

#include "core/base/mem.h"

#define BLOCK ((size_t)1 << 16)

void archive_files_free(struct archive_files *f)
{
    if (f == NULL)
        return;
    for (int32_t i = 0; i < f->n; i++) {
        mem_free(f->v[i].name);
        mem_free(f->v[i].data);
    }
    mem_free(f->v);
    mem_free(f);
}

bool archive_is_name(const char *path)
{
    static const char *const end[] = {".tar", ".tar.gz", ".tgz", ".tar.xz", ".zip"};
    const size_t n = strlen(path);

    for (size_t i = 0; i < sizeof end / sizeof end[0]; i++)
        if (n > strlen(end[i]) && strcmp(path + n - strlen(end[i]), end[i]) == 0)
            return true;
    return false;
}

const char *archive_base(const char *name)
{
    const char *slash = strrchr(name, '/');

    return slash != NULL ? slash + 1 : name;
}

const struct archive_file *archive_files_find(const struct archive_files *f, const char *base)
{
    for (int32_t i = 0; i < f->n; i++)
        if (strcmp(archive_base(f->v[i].name), base) == 0)
            return &f->v[i];
    return NULL;
}

static int add_file(struct archive_files *f, const char *name, struct archive_file **out)
{
    TRY(mem_grow(&f->v, (size_t)f->n + 1, &f->cap, sizeof *f->v));
    f->v[f->n] = (struct archive_file){.name = mem_strdup(name)};
    if (f->v[f->n].name == NULL)
        return ERR_NOMEM;
    *out = &f->v[f->n++];
    return 0;
}

static int reading_failed(const char *path, struct archive *a)
{
    const char *why = archive_error_string(a);

    return fail(ERR_DATA, "'%s': archive: %s", path, why != NULL ? why : "cannot be read");
}

/* Grows with what comes, not with what the header claims. */
static int read_member(const char *path, struct archive *a, struct archive_file *m, size_t *budget)
{
    size_t cap = 0;

    for (;;) {
        if (m->len == cap)
            TRY(mem_grow(&m->data, m->len + BLOCK, &cap, 1));
        const la_ssize_t got = archive_read_data(a, m->data + m->len, cap - m->len);
        if (got < 0)
            return reading_failed(path, a);
        if (got == 0)
            return 0;
        if ((size_t)got > *budget)
            return fail(ERR_DATA, "'%s': archive: more than %zu bytes", path, ARCHIVE_MOST_BYTES);
        *budget -= (size_t)got;
        m->len += (size_t)got;
    }
}

/* The name as it is used here; NULL for what is neither a regular file nor a folder. */
static const char *name_of(struct archive_entry *e)
{
    const char *name = archive_entry_pathname(e);

    if (archive_entry_filetype(e) != AE_IFREG && archive_entry_filetype(e) != AE_IFDIR)
        return NULL;
    while (name != NULL && name[0] == '.' && name[1] == '/')
        name += 2;
    return name != NULL && *name != '\0' ? name : NULL;
}

static int read_members(const char *path, struct archive *a, archive_want_fn *want, const void *ctx,
                        struct archive_files *f)
{
    size_t budget = ARCHIVE_MOST_BYTES;
    struct archive_file *m = NULL;
    struct archive_entry *e;
    int status;

    for (int32_t seen = 0; (status = archive_read_next_header(a, &e)) == ARCHIVE_OK; seen++) {
        const char *name = name_of(e);
        const bool is_file = archive_entry_filetype(e) == AE_IFREG;
        if (seen >= ARCHIVE_MOST_MEMBERS)
            return fail(ERR_DATA, "'%s': archive: more than %d members", path,
                        ARCHIVE_MOST_MEMBERS);
        if (name == NULL || (want != NULL && (!is_file || !want(ctx, name))))
            continue;
        TRY(add_file(f, name, &m));
        if (want != NULL)
            TRY(read_member(path, a, m, &budget));
    }
    return status == ARCHIVE_EOF ? 0 : reading_failed(path, a);
}

static void close_archive(struct archive **a)
{
    if (*a != NULL)
        archive_read_free(*a);
}

int archive_files_read(const char *path, archive_want_fn *want, const void *ctx,
                       struct archive_files **out)
{
    SCOPED(archive_files_free_at) struct archive_files *f = mem_array(1, sizeof *f);
    SCOPED(close_archive) struct archive *a = archive_read_new();

    if (f == NULL || a == NULL)
        return fail(ERR_NOMEM, "out of memory");
    archive_read_support_filter_gzip(a); /* not all: some filters start another program */
    archive_read_support_filter_xz(a);
    archive_read_support_format_tar(a);
    archive_read_support_format_zip(a);
    if (archive_read_open_filename(a, path, BLOCK) != ARCHIVE_OK)
        return reading_failed(path, a);
    TRY(read_members(path, a, want, ctx, f));
    *out = mem_hand_on(&f);
    return 0;
}

/* Inputs and outputs of a command; see files.h. */
#include "cli/files.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/file.h"

#define PATH_BYTES 4096
#define MOST_LEVELS 256 /* folders above an output that are looked at */

/* What linnet leaves in a folder and reads from there. */
static const char *const in_folder[] = {"model.onnx",
                                        "model.adv.onnx",
                                        "model.pi",
                                        "model.pi.weights",
                                        "checkpoint.safetensors",
                                        "teacher.safetensors",
                                        "metrics.jsonl",
                                        "metrics.csv",
                                        "report.json",
                                        "sweep.json",
                                        "config.json"};

static bool same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* "DIR/x" -> "DIR", "x" -> "."; false where it is too long. */
static bool parent_of(const char *path, char out[PATH_BYTES])
{
    size_t n = strlen(path);

    while (n > 1 && path[n - 1] == '/')
        n--;
    while (n > 0 && path[n - 1] != '/')
        n--;
    if (n == 0)
        return snprintf(out, PATH_BYTES, ".") > 0;
    return snprintf(out, PATH_BYTES, "%.*s", (int)n, path) < PATH_BYTES;
}

static size_t trailing_slashes(const char *path)
{
    size_t n = strlen(path), k = 0;

    while (k + 1 < n && path[n - 1 - k] == '/')
        k++;
    return k;
}

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

/* ---- an output and an input ---------------------------------------------------------------- */

/* Is the output `path` somewhere below the folder? */
static bool lies_below(const char *path, const struct stat *folder)
{
    char at[PATH_BYTES];
    struct stat now, above;
    size_t n;

    if (!parent_of(path, at) || stat(at, &now) != 0)
        return false;
    for (int level = 0; level < MOST_LEVELS; level++, now = above) {
        if (same(&now, folder))
            return true;
        n = strlen(at);
        if (snprintf(at + n, sizeof at - n, "/..") >= (int)(sizeof at - n) ||
            stat(at, &above) != 0 || same(&above, &now))
            return false;
    }
    return false;
}

/* Is the output `path` a file of the folder that an argument names? */
static bool is_of_folder(const struct stat *out, const char *folder)
{
    char path[PATH_BYTES];
    struct stat st;

    for (size_t i = 0; i < sizeof in_folder / sizeof in_folder[0]; i++)
        if (snprintf(path, sizeof path, "%s/%s", folder, in_folder[i]) < PATH_BYTES &&
            stat(path, &st) == 0 && same(out, &st))
            return true;
    return false;
}

static int refuse(const struct cli_file *out, const struct cli_file *in, const char *path)
{
    return fail(ERR_ARG,
                "%s '%s' is an input, %s '%s', and would be overwritten; give another name",
                out->what, out->path, in->what, path);
}

static int check_path(const struct cli_file *out, const struct cli_file *in, const char *path)
{
    struct stat o, i;

    if (stat(out->path, &o) != 0 || stat(path, &i) != 0)
        return 0;
    if (same(&o, &i) && (S_ISREG(i.st_mode) || in->kind == CLI_SOURCE))
        return refuse(out, in, path);
    if (!S_ISDIR(i.st_mode) || !S_ISREG(o.st_mode))
        return 0;
    if (in->kind == CLI_TEXT ? is_of_folder(&o, path) : lies_below(out->path, &i))
        return refuse(out, in, path);
    return 0;
}

/* "npy:x.npy,y.npy": what follows the colon, in pieces, unless the text is a path as it stands. */
static int check_source(const struct cli_file *out, const struct cli_file *in)
{
    const char *rest = in->path, *colon = strchr(rest, ':');
    char piece[PATH_BYTES];
    struct stat st;

    if (stat(rest, &st) != 0 && colon != NULL)
        rest = colon + 1;
    if (stat(rest, &st) == 0)
        return check_path(out, in, rest);
    while (*rest != '\0') {
        const size_t n = strcspn(rest, ",");

        if (snprintf(piece, sizeof piece, "%.*s", (int)(n < PATH_BYTES ? n : 0), rest) > 0)
            TRY(check_path(out, in, piece));
        rest += n + (rest[n] == ',');
    }
    return 0;
}

static int check_pair(const struct cli_file *out, const struct cli_file *in)
{
    TRY(check_source(out, in)); /* an argument may be either */
    return check_path(out, in, in->path);
}

/* ---- outputs ------------------------------------------------------------------------------- */

static bool is_output(const struct cli_file *f)
{
    return f->kind == CLI_OUTPUT || f->kind == CLI_FOLDER;
}

/* They may not exist yet: one name in one folder. */
static int check_outputs(const struct cli_file *a, const struct cli_file *b)
{
    char pa[PATH_BYTES], pb[PATH_BYTES];
    struct stat sa, sb;

    if (a->kind != CLI_OUTPUT || b->kind != CLI_OUTPUT ||
        strcmp(name_of(a->path), name_of(b->path)) != 0)
        return 0;
    if (!parent_of(a->path, pa) || !parent_of(b->path, pb) || stat(pa, &sa) != 0 ||
        stat(pb, &sb) != 0 || !same(&sa, &sb))
        return 0;
    return fail(ERR_ARG, "%s and %s both write '%s'; give two names", a->what, b->what, b->path);
}

/* Does `f` lie in a folder that is an output too, and is made before anything goes there? */
static bool is_in_new_folder(const struct cli_file *f, const struct cli_file *all, int32_t n)
{
    char folder[PATH_BYTES];
    struct stat st;

    if (!parent_of(f->path, folder) || stat(folder, &st) == 0)
        return false;
    for (int32_t i = 0; i < n; i++) {
        const size_t len = strlen(all[i].path) - trailing_slashes(all[i].path);

        if (all[i].kind == CLI_FOLDER && strlen(folder) - trailing_slashes(folder) == len &&
            strncmp(folder, all[i].path, len) == 0)
            return true;
    }
    return false;
}

/* A folder that does not exist is made in the one above it, but there may be several to make. */
static int check_writable(const struct cli_file *f)
{
    char folder[PATH_BYTES], probe[PATH_BYTES];
    struct stat st;

    if (f->kind == CLI_OUTPUT)
        return file_can_write(f->path) < 0 ? fail_context(ERR_IO, "%s", f->what) : 0;
    if (stat(f->path, &st) == 0 && !S_ISDIR(st.st_mode))
        return fail(ERR_IO, "%s '%s' is a file; give a folder", f->what, f->path);
    const bool there = stat(f->path, &st) == 0;
    const int len = (int)(strlen(f->path) - trailing_slashes(f->path));

    if (!parent_of(f->path, folder) || snprintf(probe, sizeof probe, "%.*s%s", len, f->path,
                                                there ? "/.linnet.lock" : "") >= PATH_BYTES)
        return fail(ERR_ARG, "%s: the path is too long", f->what);
    if (!there && stat(folder, &st) != 0)
        return 0; /* its command makes it, or says why not */
    return file_can_write(probe) < 0 ? fail_context(ERR_IO, "%s", f->what) : 0;
}

int cli_files_check(const struct cli_file *f, int32_t n)
{
    for (int32_t o = 0; o < n; o++)
        for (int32_t i = 0; i < n; i++)
            if (is_output(&f[o]) && !is_output(&f[i]))
                TRY(check_pair(&f[o], &f[i]));
    for (int32_t a = 0; a < n; a++)
        for (int32_t b = a + 1; b < n; b++)
            TRY(check_outputs(&f[a], &f[b]));
    for (int32_t o = 0; o < n; o++)
        if (is_output(&f[o]) && !is_in_new_folder(&f[o], f, n))
            TRY(check_writable(&f[o]));
    return 0;
}

/* Writers that several tasks share; see outputs.h. */
#include "pipeline/outputs.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/ranks.h"
#include "core/base/minmax.h"
#include "core/base/version.h"
#include "core/graph/pass.h"
#include "exporter/lower/lower.h"
#include "linearizer/linearizer.h"
#include "pipeline/listener.h"
#include "pipeline/package_check.h"
#include "pipeline/source.h"
#include "trainer/data/normalize.h"

#define PATH_BYTES 4096

int output_path(const char *dir, const char *name, char *buf, size_t size)
{
    const int n = snprintf(buf, size, "%s/%s", dir, name);

    if (n < 0 || (size_t)n >= size)
        return fail(ERR_LIMIT, "'%.200s...': path is longer than %zu bytes", dir, size);
    return 0;
}

int output_writable(const char *path)
{
    const char *slash = strrchr(path, '/');
    char dir[4096];

    snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
    if (access(dir, W_OK) < 0)
        return fail(ERR_IO, "'%s': its folder cannot be written: %s", path, strerror(errno));
    return 0;
}

int output_folder(const char *path)
{
    struct stat st;

    if (ranks_index() > 0) /* the first makes it */
        return 0;
    if (mkdir(path, 0777) == 0)
        return 0;
    const int why = errno; /* stat says another one */
    if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
        return fail(ERR_IO, "'%s': cannot make this folder: %s", path, strerror(why));
    return 0;
}

int output_claim(const char *folder, struct lock **out)
{
    char path[PATH_BYTES], what[PATH_BYTES + 16];

    *out = NULL;
    TRY(output_folder(folder));
    TRY(output_path(folder, ".linnet.lock", path, sizeof path));
    snprintf(what, sizeof what, "folder '%s'", folder);
    TRY(lock_take(path, what, out));
    lock_remove_leftovers(folder, "");
    return 0;
}

int output_claim_stem(const char *stem, struct lock **out)
{
    const char *slash = strrchr(stem, '/'), *name = slash != NULL ? slash + 1 : stem;
    char folder[PATH_BYTES], path[PATH_BYTES], prefix[PATH_BYTES];

    *out = NULL;
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - stem) + 1 : 1,
             slash ? stem : ".");
    if (snprintf(path, sizeof path, "%s/.%s.lock", folder, name) >= PATH_BYTES)
        return fail(ERR_LIMIT, "'%.200s...': path is longer than %d bytes", stem, PATH_BYTES);
    TRY(lock_take(path, stem, out));
    snprintf(prefix, sizeof prefix, "%s.", name);
    lock_remove_leftovers(folder, prefix);
    return 0;
}

/* ---- models -------------------------------------------------------------------------------- */

/* "CIFAR-10 binary folder, 10 classes, 45000 images": a source without the paths in quotes. */
static int set_data(struct graph *g, const struct dataset *d)
{
    const size_t kind = strcspn(d->source, "'(");
    char text[128];

    snprintf(text, sizeof text, "%.*s, %d classes, %lld images", (int)(kind < 64 ? kind : 64),
             d->source, (int)d->classes, (long long)d->n);
    char *gap = strstr(text, " ,");
    if (gap != NULL)
        memmove(gap, gap + 1, strlen(gap));
    return graph_set_meta(g, "linnet.data", text);
}

static int set_eps(struct graph *g, double eps)
{
    char text[64];

    snprintf(text, sizeof text, "%g/255", 255 * eps);
    return graph_set_meta(g, "linnet.eps", text);
}

/* A model that is trained again must not keep the accuracy that it came with. */
static int set_share(struct graph *g, const char *key, double share, int64_t n, const char *split)
{
    char text[64] = "not measured";

    if (n > 0)
        snprintf(text, sizeof text, "%.2f %% of %lld %s images", 100 * share, (long long)n, split);
    return n > 0 || graph_get_meta(g, key) != NULL ? graph_set_meta(g, key, text) : 0;
}

/* What was trained with one branch is no longer the one that its model was cut from, but by --deploy
 * single, which has said so already. */
static int set_branch(struct graph *g, int branch, bool trained)
{
    const char *had = graph_get_meta(g, "linnet.branch");
    const bool two_branches = graph_branches(g) == 2;

    if (!two_branches &&
        (!trained || had == NULL || strcmp(had, model_deploy_name(DEPLOY_SINGLE)) == 0))
        return 0;
    return graph_set_meta(g, "linnet.branch", model_branch_name(two_branches ? branch : 0));
}

static int set_facts(struct graph *g, int branch, const struct output_facts *f)
{
    const struct output_accuracy *a = &f->accuracy[branch];
    char text[64];

    snprintf(text, sizeof text, "%lld", (long long)f->seed);
    TRY(graph_set_meta(g, "linnet.seed", text));
    if (f->data != NULL)
        TRY(set_data(g, f->data));
    if (f->eps > 0 || (f->data != NULL && graph_get_meta(g, "linnet.eps") != NULL))
        TRY(set_eps(g, f->eps));
    TRY(set_share(g, "linnet.accuracy.clean", a->clean, a->n, f->split));
    TRY(set_share(g, "linnet.accuracy.pgd", a->attacked, a->n_attack, f->split));
    if (f->recipe != NULL)
        TRY(graph_set_meta(g, "linnet.recipe", f->recipe));
    if (f->removed != NULL || graph_get_meta(g, "linnet.removed") != NULL)
        TRY(graph_set_meta(g, "linnet.removed", f->removed));
    snprintf(text, sizeof text, "%lld/%lld", (long long)f->budget, (long long)f->total);
    return f->total > 0 ? graph_set_meta(g, "linnet.relus", text) : 0;
}

static int set_provenance(const struct model *m, struct graph *g)
{
    char hex[SHA256_HEX];

    if (graph_get_meta(g, "linnet.version") != NULL)
        return 0; /* one of our own files: carried through unchanged */
    TRY(graph_set_meta(g, "linnet.source_sha256", sha256_hex(m->sha256, hex)));
    return graph_set_meta(g, "linnet.version", LINNET_VERSION);
}

int output_branch(const struct model *m, const struct graph *g, int branch,
                  const struct output_facts *facts, struct graph **out)
{
    SCOPED(graph_free_at) struct graph *b = NULL;

    TRY(graph_clone(g, &b));
    TRY(set_provenance(m, b));
    TRY(set_branch(b, branch, facts != NULL && facts->data != NULL));
    if (facts != NULL)
        TRY(set_facts(b, branch, facts));
    TRY(pass_select_branch(b, branch));
    TRY(mask_simplify(b));
    *out = mem_hand_on(&b);
    return 0;
}

#define TRIM_IMAGES 1000 /* of the calibration set, where bits were taken away */

static void say_failure(const struct linnet_listener *l, const struct lower_failure *f)
{
    listener_note(
        l,
        "an answer is garbage with a chance of at most 1 in %.0f (bound), about 1 in %.0f (largest calibrated values)",
        1 / f->bound, 1 / f->calibrated);
    if (f->trimmed > 0)
        listener_note(l, "weights of %d layers have fewer bits for it: it was 1 in %.0f",
                      f->trimmed, 1 / f->untrimmed);
}

/* Whether weights with fewer bits give the labels of the float network. */
static int check_trimmed(const struct linnet_listener *l, const struct output_private *how,
                         const struct plan *p, const struct plan_weights *w,
                         const struct lower_failure *f)
{
    struct package_check check;
    SCOPED(pi_close_at) struct pi_model *pi = NULL;

    if (f->trimmed == 0)
        return 0;
    TRY(pi_prepare(p, w, PI_FIXED, &pi));
    TRY(package_check_run(l, how->network, how->branch, EXEC_FP32, pi, how->calib,
                          TRIM_IMAGES < how->n ? TRIM_IMAGES : how->n, &check));
    const double agreement = 100 * (double)check.agree / (double)check.n;
    if (agreement >= OUTPUT_AGREEMENT)
        return 0;
    return fail(
        ERR_GOAL,
        "an answer would be garbage with a chance of 1 in %.0f; weights that bring it to 1 in %.0f give only %.2f %% equal labels (at least %g): --max-failure %.2g takes the chance",
        1 / f->untrimmed, 1 / f->bound, agreement, OUTPUT_AGREEMENT, f->untrimmed * 1.01);
}

static int lower_checked(const struct linnet_listener *l, struct graph **branch,
                         const struct output_private *how, const struct lower_options *o,
                         struct plan **p, struct plan_weights **w)
{
    TRY(lower(*branch, o, p, w));
    graph_free(*branch);
    *branch = NULL;
    TRY(check_trimmed(l, how, *p, *w, o->failure));
    say_failure(l, o->failure);
    return 0;
}

int output_pi(const struct linnet_listener *l, const struct model *m, struct graph **branch,
              const struct output_private *how, const char *dir)
{
    char pi[4096], weights[4096], hex[SHA256_HEX], norm[NORMALIZE_TEXT];
    uint8_t salt_bytes[PLAN_SALT];
    struct lower_failure failure;
    struct lower_options o = {.n_pixels = min_i64(how->n, how->calib->n),
                              .read = source_read,
                              .images = how->calib,
                              .publish_slopes = how->publish_slopes,
                              .max_failure = how->max_failure,
                              .failure = &failure,
                              .source_sha256 = sha256_hex(m->sha256, hex)};
    SCOPED(plan_free_at) struct plan *p = NULL;
    SCOPED(plan_weights_free_at) struct plan_weights *w = NULL;

    _Static_assert(PLAN_SALT == SHA256_SIZE, "--salt is read as a digest");
    o.normalize = normalize_text(&(*branch)->norm, norm);
    if (how->salt && sha256_parse(how->salt, salt_bytes) < 0)
        return fail(ERR_ARG, "--salt: must be 64 hexadecimal digits");
    o.salt = how->salt ? salt_bytes : NULL;
    TRY(output_path(dir, "model.pi", pi, sizeof pi));
    TRY(output_path(dir, "model.pi.weights", weights, sizeof weights));
    TRY(lower_checked(l, branch, how, &o, &p, &w));
    if (ranks_index() == 0) /* it reads again what it has written, and only the first writes */
        TRY(plan_write(p, w, pi, weights));
    if (p->relus_kept == 0)
        listener_note(l, "%s: no ReLU is left; keep %s secret", pi, weights);
    else
        listener_note(l, "%s: %lld ReLUs in %d layers; keep %s secret", pi,
                      (long long)p->relus_kept, p->relu_layers, weights);
    return 0;
}

static int output_one(const struct model *m, const struct graph *g,
                      const struct output_facts *facts, const char *stem, const char *tail,
                      int branch)
{
    const struct export_options opt = {.form = MASK_WHERE};
    SCOPED(graph_free_at) struct graph *b = NULL;
    char path[PATH_BYTES];

    if (snprintf(path, sizeof path, "%s%s.onnx", stem, tail) >= (int)sizeof path)
        return fail(ERR_LIMIT, "'%.200s...': path is longer than %zu bytes", stem, sizeof path);
    TRY(output_branch(m, g, branch, facts, &b));
    return onnx_export(b, &opt, path);
}

int output_branches(const struct model *m, const struct graph *g, const struct output_facts *facts,
                    const char *stem, int deployed)
{
    TRY(output_one(m, g, facts, stem, "", deployed));
    if (graph_branches(g) < 2)
        return 0;
    if (deployed != 0)
        TRY(output_one(m, g, facts, stem, ".clean", 0));
    return output_one(m, g, facts, stem, ".adv", 1);
}

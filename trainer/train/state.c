/*
 * Training state: best weights, checkpoint, resume.
 *
 * States in the file besides the graph's values:
 *     trainer.options    the fingerprint (train_config.c), with its final zero
 *     trainer.counters   struct train_counters
 *     trainer.velocity   momenta                      (not in the file of a finished stage)
 *     trainer.square     Adam's second moments        (the same; only with Adam)
 *     trainer.average    moving average of the weights (the same; only with ema)
 *     trainer.best       weights of the best epoch    (the same; only where a best one is chosen)
 *     hook.NAME          memory of the hooks
 *
 * Random numbers need no state: they are keyed by epoch and image.
 */
#include "trainer/train/state.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/cpu.h"
#include "core/base/ranks.h"
#include "core/base/sha256.h"
#include "trainer/train/checkpoint.h"

#define MAX_BLOBS 64
#define BLOB_NAME 128

_Static_assert(sizeof(struct train_counters) % 8 == 0, "no padding in a saved struct");

/* ---- best weights ---------------------------------------------------------------------------- */

size_t train_weights_bytes(const struct graph *g)
{
    return (size_t)(g->n_params + g->n_buffers + g->n_masks) * sizeof(float);
}

void train_copy(float *to, const float *from, int64_t n)
{
    if (n > 0)
        memcpy(to, from, (size_t)n * sizeof *to);
}

void train_keep_best(struct trainer *t)
{
    const struct graph *g = t->g;

    train_copy(t->best, g->params, g->n_params);
    train_copy(t->best + g->n_params, g->buffers, g->n_buffers);
    train_copy(t->best + g->n_params + g->n_buffers, g->masks, g->n_masks);
}

void train_restore_best(struct trainer *t)
{
    struct graph *g = t->g;

    train_copy(g->params, t->best, g->n_params);
    train_copy(g->buffers, t->best + g->n_params, g->n_buffers);
    train_copy(g->masks, t->best + g->n_params + g->n_buffers, g->n_masks);
    graph_touch(g);
}

/* ---- several ranks -------------------------------------------------------------------------- */

/* Options are those of one command line; images of a set may be in memory here and streamed there, so its labels
 * and records stand for them. */
static int add_start(const struct trainer *t, struct sha256 *h)
{
    const struct graph *g = t->g;
    char records[SHA256_HEX];

    TRY(data_hash_records(t->train, records));
    TRY(sha256_add(h, records, strlen(records) + 1));
    TRY(sha256_add(h, t->train->labels, (size_t)t->train->n * sizeof *t->train->labels));
    TRY(sha256_add(h, &t->at, sizeof t->at));
    TRY(sha256_add(h, g->params, (size_t)g->n_params * sizeof *g->params));
    TRY(sha256_add(h, g->buffers, (size_t)g->n_buffers * sizeof *g->buffers));
    return sha256_add(h, g->masks, (size_t)g->n_masks * sizeof *g->masks);
}

int train_same_start(const struct trainer *t)
{
    uint8_t least[SHA256_SIZE], most[SHA256_SIZE];
    SCOPED(sha256_free_at) struct sha256 *h = NULL;

    if (ranks_count() == 1)
        return 0;
    TRY(sha256_new(&h));
    TRY(add_start(t, h));
    TRY(sha256_end(h, least));
    memcpy(most, least, sizeof most);
    ranks_least(least, sizeof least);
    ranks_most(most, sizeof most);
    if (memcmp(least, most, sizeof most) == 0)
        return 0;
    return fail(
        ERR_ARG,
        "stage '%s': the ranks do not begin with the same model, data and state. Hint: all of them must see the same files, those of -o too",
        t->cfg.stage);
}

/* ---- saving ---------------------------------------------------------------------------------- */

/* What is saved until the stage is over; data NULL: this training has none. */
#define PENDING 4
static void list_pending(const struct trainer *t, struct train_blob v[PENDING])
{
    const size_t n = (size_t)t->optim.n * sizeof(float);
    const size_t params = (size_t)t->g->n_params * sizeof(float);

    v[0] = (struct train_blob){"trainer.velocity", t->optim.velocity, n};
    v[1] = (struct train_blob){"trainer.square", t->optim.square, n};
    v[2] = (struct train_blob){"trainer.average", t->average, params};
    v[3] = (struct train_blob){"trainer.best", t->best, train_weights_bytes(t->g)};
}

struct blob_list {
    struct checkpoint_blob v[MAX_BLOBS + PENDING + 2];
    char name[MAX_BLOBS][BLOB_NAME];
    int32_t n;
};

static void add_blob(struct blob_list *l, const char *name, const void *data, size_t bytes)
{
    l->v[l->n++] = (struct checkpoint_blob){name, data, bytes};
}

static void list_blobs(const struct trainer *t, bool done, struct blob_list *l)
{
    struct train_blob pending[PENDING];
    add_blob(l, "trainer.options", t->fingerprint, strlen(t->fingerprint) + 1);
    add_blob(l, "trainer.counters", &t->at, sizeof t->at);
    list_pending(t, pending);
    for (int i = 0; i < PENDING && !done; i++)
        if (pending[i].data != NULL)
            add_blob(l, pending[i].name, pending[i].data, pending[i].bytes);
    for (int32_t i = 0; i < t->hooks.n_blobs; i++) {
        snprintf(l->name[i], BLOB_NAME, "hook.%s", t->hooks.blobs[i].name);
        add_blob(l, l->name[i], t->hooks.blobs[i].data, t->hooks.blobs[i].bytes);
    }
}

int train_save(struct trainer *t, bool done)
{
    if (t->cfg.checkpoint == NULL)
        return 0;
    OWNED struct blob_list *l = mem_array(1, sizeof *l);
    if (l == NULL)
        return ERR_NOMEM;
    list_blobs(t, done, l);
    const struct checkpoint c = {
        .stage = t->cfg.stage,
        .epoch = (int32_t)t->at.epoch,
        .step = t->at.step,
        .done = done,
        .config = t->cfg.config_json,
        .graph = t->g,
        .structure = t->cfg.structure,
        .structure_len = t->cfg.structure_len,
        .blob = l->v,
        .n_blob = l->n,
    };
    const int rc = checkpoint_save(t->cfg.checkpoint, &c);
    t->saved = cpu_seconds();
    return rc;
}

/* ---- resuming -------------------------------------------------------------------------------- */

/* Names the first option in which the two texts differ; both are words with blanks between, and one may have
 * more of them. */
static int options_differ(const char *had, size_t len, const char *now)
{
    size_t at = 0, start = 0;

    while (at < len && now[at] != '\0' && had[at] == now[at]) {
        at++;
        if (now[at - 1] == ' ')
            start = at;
    }
    if (at < len && now[at] == '\0' && had[at] == ' ')
        return fail(ERR_ARG, "it was written with '%.*s', now it is without",
                    (int)strcspn(had + at + 1, " "), had + at + 1);
    if ((at == len || had[at] == '\0') && now[at] == ' ')
        return fail(ERR_ARG, "it was written without '%.*s'", (int)strcspn(now + at + 1, " "),
                    now + at + 1);
    const int old_len = (int)strcspn(had + start, " "), new_len = (int)strcspn(now + start, " ");
    return fail(ERR_ARG, "it was written with '%.*s', now it is '%.*s'", old_len, had + start,
                new_len, now + start);
}

/* Are the texts the same but for the hash of the data? */
static bool only_data_differ(const char *had, const char *now)
{
    const char *a = strstr(had, " data="), *b = strstr(now, " data=");

    return a != NULL && b != NULL && a - had == b - now &&
           memcmp(had, now, (size_t)(a - had)) == 0 &&
           strcmp(a + 1 + strcspn(a + 1, " "), b + 1 + strcspn(b + 1, " ")) == 0;
}

/* A run may go on with images in memory that were streamed, or the reverse (--data-memory): what they are
 * named by then is the other thing. */
static int try_other_name(struct trainer *t, const char *had, size_t len)
{
    OWNED char *other = NULL;

    if (only_data_differ(had, t->fingerprint) &&
        (other = train_fingerprint(&t->cfg, t->g, t->teacher, t->train, true)) == NULL)
        return ERR_DATA;
    if (other == NULL || strcmp(had, other) != 0)
        return options_differ(had, len, t->fingerprint);
    mem_free(t->fingerprint);
    t->fingerprint = mem_hand_on(&other);
    return 0;
}

/* The same model to start from: its file travels inside the checkpoint. */
static int check_structure(const struct trainer *t, const struct checkpoint_file *f)
{
    size_t len = 0;
    const uint8_t *had = checkpoint_structure(f, &len);

    if (t->cfg.structure == NULL ||
        (had != NULL && len == t->cfg.structure_len && memcmp(had, t->cfg.structure, len) == 0))
        return 0;
    return fail(ERR_ARG, "it was trained from another model file");
}

static int check_options(struct trainer *t, const struct checkpoint_file *f)
{
    size_t len;
    const char *had = checkpoint_blob(f, "trainer.options", &len);

    if (had == NULL || len == 0 || had[len - 1] != '\0')
        return fail(ERR_ARG, "it is not the state of a training run");
    if (strcmp(checkpoint_info(f)->stage, t->cfg.stage) != 0)
        return fail(ERR_ARG, "it belongs to stage '%.40s', not to '%s'", checkpoint_info(f)->stage,
                    t->cfg.stage);
    if (strcmp(had, t->fingerprint) != 0)
        TRY(try_other_name(t, had, len));
    return check_structure(t, f);
}

static int check_counters(const struct trainer *t, const struct train_counters *at)
{
    const int64_t epoch = at->step / t->per_epoch, rest = at->step % t->per_epoch;
    const bool pending = (rest == 0 && at->epoch == epoch - 1) || /* the epoch's end is still due */
                         (at->soft.closed && at->epoch == epoch + 1); /* it came early */

    if (at->step < 0 || at->step > t->steps || at->epoch < 0 || (at->epoch != epoch && !pending) ||
        at->counted < 0 || at->correct < 0 || at->correct > at->counted || at->loss_steps < 0)
        return fail(ERR_FORMAT, "checkpoint: the counters contradict each other");
    return 0;
}

static int read_hooks(const struct trainer *t, const struct checkpoint_file *f)
{
    char name[BLOB_NAME];

    for (int32_t i = 0; i < t->hooks.n_blobs; i++) {
        const struct train_blob *b = &t->hooks.blobs[i];
        snprintf(name, sizeof name, "hook.%s", b->name);
        TRY(checkpoint_read_blob(f, name, b->data, b->bytes));
    }
    return 0;
}

static int read_state(struct trainer *t, const struct checkpoint_file *f)
{
    struct train_blob pending[PENDING];
    struct train_counters at;

    TRY(check_options(t, f));
    TRY(checkpoint_read_blob(f, "trainer.counters", &at, sizeof at));
    TRY(check_counters(t, &at));
    if (checkpoint_info(f)->done && at.epoch != t->cfg.epochs && !at.soft.closed)
        return fail(ERR_FORMAT, "checkpoint: it says that it is done, but steps are missing");
    list_pending(t, pending);
    for (int i = 0; i < PENDING && !checkpoint_info(f)->done; i++)
        if (pending[i].data != NULL)
            TRY(checkpoint_read_blob(f, pending[i].name, pending[i].data, pending[i].bytes));
    TRY(read_hooks(t, f));
    TRY(checkpoint_read_graph(f, t->g));
    t->at = at;
    t->done = checkpoint_info(f)->done != 0;
    return 0;
}

int trainer_resume(struct trainer *t)
{
    struct checkpoint_file *f = NULL;
    int rc;

    if (t->cfg.checkpoint == NULL || access(t->cfg.checkpoint, F_OK) != 0)
        return 0;
    if ((rc = checkpoint_open(t->cfg.checkpoint, &f)) < 0)
        return rc;
    if ((rc = read_state(t, f)) < 0)
        fail_context(rc, "cannot continue from '%s'", t->cfg.checkpoint);
    checkpoint_close(f);
    return rc < 0 ? rc : 1;
}

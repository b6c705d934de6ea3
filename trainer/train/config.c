/*
 * Options of a training: defaults, what contradicts what, and the fingerprint by which a resumed
 * run knows that it continues the same training.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/op/op.h"
#include "core/base/sha256.h"
#include "trainer/corrupt/augmix.h"
#include "trainer/data/normalize.h"
#include "trainer/train/state.h"

#define MAX_EPOCHS (1 << 24) /* what a random stream can tell apart */
#define FINGERPRINT_MAX 8192
#define MORE_MAX 512

struct train_config train_defaults(void)
{
    return (struct train_config){
        .stage = "train",
        .epochs = 240,
        .batch = 128,
        .bn_shards = 1,
        .lr = 0.05,
        .momentum = 0.9,
        .weight_decay = 5e-4,
        .decay_norm = true,
        .schedule = OPTIM_STEP,
        .clean = true,
        .attack = pgd_defaults(7),
        .crop = true,
        .crop_pad = 4,
        .gamma = 1,
        .tau = 4,
        .at_domains = 2,
        .soft = soft_defaults(),
        .val_every = 1,
        .val_attack = pgd_defaults(7),
        .select = TRAIN_SELECT_LAST,
        .checkpoint_seconds = 600,
    };
}

/* ---- checks ---------------------------------------------------------------------------------- */

static int in_range(const char *name, double v, double lo, double hi)
{
    if (!(v >= lo && v <= hi))
        return fail(ERR_ARG, "training: %s is %g, allowed are %g to %g", name, v, lo, hi);
    return 0;
}

static int check_ranges(const struct train_config *c)
{
    TRY(in_range("epochs", c->epochs, 1, MAX_EPOCHS - 1));
    TRY(in_range("batch", c->batch, 1, 1 << 16));
    TRY(in_range("lr", c->lr, 0, 1e6));
    TRY(in_range("momentum", c->momentum, 0, 1));
    TRY(in_range("weight decay", c->weight_decay, 0, 1e3));
    TRY(in_range("warm-up epochs", c->warmup_epochs, 0, c->epochs));
    TRY(in_range("crop padding", c->crop_pad, 0, 1024));
    TRY(in_range("gamma", c->gamma, 0, 1e6));
    TRY(in_range("alpha", c->alpha, 0, 1e6));
    TRY(in_range("tau", c->tau, 1e-3, 1e3));
    TRY(in_range("beta", c->beta, 0, 1e9));
    TRY(in_range("domains of attention transfer", c->at_domains, 1, 3));
    TRY(in_range("lambda", c->soft.lambda, 0, 1e3));
    TRY(in_range("rate of the masks", c->soft.rate, 0, 1e12));
    TRY(in_range("factor of lambda", c->soft.factor, 1, 1e3));
    TRY(in_range("mask threshold", c->soft.threshold, 0, 1));
    TRY(in_range("adversarial share", c->adversarial_share, 0, 1));
    TRY(in_range("label smoothing", c->label_smoothing, 0, 1));
    TRY(in_range("trades", c->trades, 0, 1e6));
    TRY(in_range("ema", c->ema, 0, 1));
    TRY(in_range("share of extra images", c->extra_share, 0, 1));
    TRY(in_range("validation cadence", c->val_every, 0, MAX_EPOCHS));
    TRY(in_range("attack eps", c->attack.eps, 0, 1));
    TRY(in_range("attack steps", c->attack.steps, 0, PGD_MAX_STEPS));
    TRY(in_range("checkpoint steps", (double)c->checkpoint_steps, 0, 1e15));
    return in_range("checkpoint seconds", c->checkpoint_seconds, 0, 1e9);
}

static int check_pass(const struct train_config *c, enum exec_precision p, int64_t images)
{
    const int32_t wanted = c->bn_shards;

    if (images == 0 || exec_shards(p, images, wanted) == wanted)
        return 0;
    if (p == EXEC_BF16)
        return fail(
            ERR_ARG,
            "training: %d shards of batch norm, but %" PRId64
            " images a pass (batch %d) cannot be cut into them: in bf16 a shard is blocks of 32 images, the last one at least %d images. Hint: a larger batch, fewer shards or fp32",
            (int)wanted, images, (int)c->batch, EXEC_SHARD_LEAST);
    return fail(ERR_ARG,
                "training: %d shards of batch norm need %d images each, but a pass has %" PRId64
                " (batch %d). Hint: a larger batch or fewer shards",
                (int)wanted, EXEC_SHARD_LEAST, images, (int)c->batch);
}

int train_check_shards(const struct train_config *c, enum exec_precision p)
{
    TRY(check_pass(c, p, batch_clean_count(c, c->batch)));
    return check_pass(c, p, batch_adv_count(c, c->batch));
}

static int check_shards(const struct train_config *c)
{
    if (c->bn_shards < 1 || c->bn_shards > EXEC_SHARDS_MOST || EXEC_SHARDS_MOST % c->bn_shards != 0)
        return fail(ERR_ARG, "training: %d shards of batch norm; they must divide %d",
                    (int)c->bn_shards, EXEC_SHARDS_MOST);
    return 0;
}

static int check_stage(const char *stage)
{
    const char *letters = "abcdefghijklmnopqrstuvwxyz0123456789_-";

    if (stage == NULL || *stage == '\0' || strspn(stage, letters) != strlen(stage))
        return fail(ERR_ARG, "training: the stage's name '%s' must be of a-z, 0-9, _ and -",
                    stage != NULL ? stage : "");
    return 0;
}

static int check_domains(const struct train_config *c, const struct train_hooks *hooks)
{
    const bool other = c->clean || c->augment != TRAIN_AUGMENT_NONE;

    if (!other && !c->adversarial)
        return fail(ERR_ARG, "training: clean, augmented and adversarial images are all off");
    if (other && c->adversarial && c->batch < 2)
        return fail(ERR_ARG,
                    "training: batch %d cannot be split between clean and adversarial images",
                    (int)c->batch);
    if (!c->clean && (hooks->batch != NULL || hooks->gradients != NULL || c->beta > 0 ||
                      c->n_student_taps > 0 || c->n_teacher_taps > 0))
        return fail(ERR_ARG, "training: activations are read in the clean pass, which is off");
    return 0;
}

/* What the augmentations can work on. */
static int check_pictures(const struct train_config *c, const struct graph *g)
{
    const struct shape *in = &g->value[g->input].shape;
    const int64_t side = in->dim[2] > in->dim[3] ? in->dim[2] : in->dim[3];
    const bool augmix = c->augment == TRAIN_AUGMENT_AUGMIX;
    const bool corrupt = c->augment == TRAIN_AUGMENT_CORRUPT;

    if (augmix && (side > AUGMIX_MAX_SIDE || in->dim[1] > AUGMIX_MAX_CHANNELS))
        return fail(ERR_ARG, "training: AugMix works on at most %d channels and %d pixels a side",
                    AUGMIX_MAX_CHANNELS, AUGMIX_MAX_SIDE);
    if (corrupt && (side > CORRUPT_MAX_SIDE || in->dim[1] != 3))
        return fail(ERR_ARG,
                    "training: corruptions work on 3 channels and at most %d pixels a side",
                    CORRUPT_MAX_SIDE);
    return 0;
}

/* Input and output of a network that teaches must be those of the student. */
static int check_teacher(const struct graph *g, const struct graph *teacher)
{
    if (teacher == NULL)
        return 0;
    if (!shape_equal(&g->value[g->input].shape, &teacher->value[teacher->input].shape) ||
        !shape_equal(&g->value[g->output].shape, &teacher->value[teacher->output].shape))
        return fail(ERR_ARG, "training: teacher and student differ in input or output shape");
    return 0;
}

static int check_signals(const struct train_config *c, const struct graph *g,
                         const struct graph *teacher)
{
    for (int i = 0; i < TRAIN_DOMAINS; i++) {
        const struct graph *s = c->signal[i].g != NULL ? c->signal[i].g : teacher;

        if (c->alpha > 0 && s == NULL)
            return fail(ERR_ARG, "training: alpha is %g, but there is no teacher", c->alpha);
        if (s != NULL && c->signal[i].branch > 0 && graph_branches(s) < 2)
            return fail(ERR_ARG, "training: the teacher has no branch %d", c->signal[i].branch);
        TRY(check_teacher(g, s));
    }
    return 0;
}

static int check_losses(const struct train_config *c, const struct graph *g,
                        const struct graph *teacher)
{
    if (c->gamma + c->alpha <= 0)
        return fail(ERR_ARG, "training: gamma and alpha are both 0, so there is no loss");
    TRY(check_signals(c, g, teacher));
    if (c->n_teacher_taps > 0 && teacher == NULL)
        return fail(ERR_ARG, "training: activations of a teacher are wanted, but there is none");
    if (c->trades > 0 && !c->adversarial)
        return fail(ERR_ARG, "training: trades is %g, but there are no adversarial images",
                    c->trades);
    return check_teacher(g, teacher);
}

/* Images that are not of the training split. */
static int check_extra(const struct train_config *c)
{
    if (c->extra == NULL && c->extra_share > 0)
        return fail(ERR_ARG,
                    "training: extra images have a share of each batch, but there are none");
    if (c->extra != NULL && (c->extra->n < 1 || batch_extra_count(c, c->batch) < 1 ||
                             batch_extra_count(c, c->batch) >= c->batch))
        return fail(ERR_ARG,
                    "training: extra images are %g of a batch of %d; some and not all must be",
                    c->extra_share, (int)c->batch);
    return 0;
}

static int check_attention(const struct train_config *c, const struct graph *g,
                           const struct graph *teacher)
{
    if (c->beta <= 0)
        return 0;
    if (c->trades > 0 && c->at_domains > 2)
        return fail(ERR_ARG,
                    "training: attention transfer of adversarial images does not go with trades");
    if (teacher == NULL)
        return fail(ERR_ARG, "training: beta is %g, but there is no teacher", c->beta);
    if (c->n_at < 1)
        return fail(
            ERR_ARG,
            "training: beta is %g, but the network has no stage whose maps could be compared",
            c->beta);
    for (int32_t i = 0; i < c->n_at; i++)
        if (!shape_equal(&g->value[c->at_student[i]].shape,
                         &teacher->value[c->at_teacher[i]].shape))
            return fail(ERR_ARG, "training: the maps '%s' of student and teacher differ in shape",
                        g->value[c->at_student[i]].name);
    return 0;
}

static int check_soft(const struct train_config *c, const struct graph *g)
{
    int32_t soft = 0;

    for (int32_t n = 0; n < g->n_node; n++) {
        if (g->node[n].op != &op_masked_relu)
            continue;
        if ((g->node[n].p.masked_relu.soft != 0) != c->soft.on)
            return fail(ERR_ARG, "training: the mask of node '%s' is %s, but soft masks are %s",
                        g->node[n].name, c->soft.on ? "hard" : "soft", c->soft.on ? "on" : "off");
        soft++;
    }
    if (c->soft.on && soft == 0)
        return fail(ERR_ARG, "training: soft masks are on, but the network has no mask");
    if (c->soft.on && c->ema > 0)
        return fail(ERR_ARG, "training: soft masks are not averaged; leave ema out");
    if (c->soft.on && c->select != TRAIN_SELECT_LAST)
        return fail(ERR_ARG, "training: with soft masks the last epoch is kept, not the best one");
    return 0;
}

static int check_validation(const struct train_config *c, bool have_val)
{
    const bool attack = c->select == TRAIN_SELECT_PGD || c->select == TRAIN_SELECT_MEAN;

    if ((c->val_every > 0 || c->select != TRAIN_SELECT_LAST) && !have_val)
        return fail(ERR_ARG, "training: validation is on, but there are no validation images");
    if (c->select != TRAIN_SELECT_LAST && c->val_every == 0)
        return fail(ERR_ARG, "training: the best epoch is wanted, but validation is off");
    if (attack && c->val_attack_limit <= 0)
        return fail(
            ERR_ARG,
            "training: the best epoch under attack is wanted, but the validation attack is off");
    return 0;
}

int train_config_check(const struct train_config *cfg, const struct graph *g,
                       const struct graph *teacher, const struct train_hooks *hooks, bool have_val)
{
    TRY(check_stage(cfg->stage));
    TRY(check_ranges(cfg));
    TRY(check_shards(cfg));
    TRY(check_domains(cfg, hooks));
    TRY(check_pictures(cfg, g));
    TRY(check_losses(cfg, g, teacher));
    TRY(check_extra(cfg));
    TRY(check_attention(cfg, g, teacher));
    TRY(check_soft(cfg, g));
    return check_validation(cfg, have_val);
}

/* ---- fingerprint ----------------------------------------------------------------------------- */

/* One hash over the blocks of a graph. */
static int hash_numbers(const struct graph *g, char text[SHA256_HEX])
{
    SCOPED(sha256_free_at) struct sha256 *h = NULL;
    uint8_t digest[SHA256_SIZE];

    TRY(sha256_new(&h));
    TRY(sha256_add(h, g->params, (size_t)g->n_params * sizeof(float)));
    TRY(sha256_add(h, g->buffers, (size_t)g->n_buffers * sizeof(float)));
    TRY(sha256_add(h, g->masks, (size_t)g->n_masks * sizeof(float)));
    TRY(sha256_end(h, digest));
    sha256_hex(digest, text);
    return 0;
}

/* What names the images: the pixels of those in memory, the records of those that are streamed. `other`: the
 * other way round, where it can be said. */
static int hash_data(const struct dataset *d, bool other, char text[SHA256_HEX])
{
    if (data_is_streamed(d) == other)
        return data_hash_pixels(d, text);
    TRY(data_hash_records(d, text));
    return strcmp(text, "none") == 0 ? data_hash_pixels(d, text) : 0;
}

static void soft_digits(const struct soft_params *p, char *text, size_t size)
{
    snprintf(text, size, "%d/%d/%.17g/%.17g/%.17g/%.17g/%" PRId64 "/%" PRId64, p->on, (int)p->rule,
             p->rate, p->lambda, p->factor, p->threshold, p->patience, p->budget);
}

static void attack_digits(const struct pgd_params *p, char *text, size_t size)
{
    snprintf(text, size, "%.17g/%.17g/%d/%d", p->eps, p->alpha, (int)p->steps, p->random_start);
}

/* Options that came later are named only where they are on, so that older states can be continued. */
static int more_options(const struct train_config *c, const struct dataset *d, char *text,
                        size_t size)
{
    char hash[TRAIN_DOMAINS][SHA256_HEX] = {"teacher", "teacher"}, data[SHA256_HEX] = "none";
    int n = 0;

    for (int i = 0; i < TRAIN_DOMAINS; i++)
        if (c->signal[i].g != NULL)
            TRY(hash_numbers(c->signal[i].g, hash[i]));
    if (c->extra != NULL)
        TRY(hash_data(c->extra, false, data));
    text[0] = '\0';
    if (c->signal[0].g || c->signal[1].g || c->signal[0].branch || c->signal[1].branch ||
        c->tap_branch)
        n += snprintf(text, size, " targets=%.16s/%d/%.16s/%d/%d", hash[0], c->signal[0].branch,
                      hash[1], c->signal[1].branch, c->tap_branch);
    if (c->label_smoothing > 0)
        n += snprintf(text + n, size - (size_t)n, " label-smoothing=%.17g", c->label_smoothing);
    if (c->trades > 0)
        n += snprintf(text + n, size - (size_t)n, " trades=%.17g", c->trades);
    if (c->ema > 0)
        n += snprintf(text + n, size - (size_t)n, " ema=%.17g", c->ema);
    if (c->extra != NULL)
        n += snprintf(text + n, size - (size_t)n, " extra=%.16s/%.17g", data, c->extra_share);
    if (d->draws)
        n += snprintf(text + n, size - (size_t)n, " random-crop=1");
    if (c->bn_shards > 1)
        snprintf(text + n, size - (size_t)n, " bn-shards=%d", (int)c->bn_shards);
    return 0;
}

char *train_fingerprint(const struct train_config *c, const struct graph *g,
                        const struct graph *teacher, const struct dataset *d, bool other)
{
    char text[FINGERPRINT_MAX], hash[SHA256_HEX] = "none", data[SHA256_HEX];
    char attack[96], val_attack[96], soft[160], norm[NORMALIZE_TEXT], more[MORE_MAX];

    if ((teacher != NULL && hash_numbers(teacher, hash) < 0) || hash_data(d, other, data) < 0 ||
        more_options(c, d, more, sizeof more) < 0)
        return NULL;
    soft_digits(&c->soft, soft, sizeof soft);
    attack_digits(&c->attack, attack, sizeof attack);
    attack_digits(&c->val_attack, val_attack, sizeof val_attack);
    int n = snprintf(
        text, sizeof text,
        "stage=%s seed=%" PRIu64
        " epochs=%d batch=%d lr=%.17g momentum=%.17g decay=%.17g nesterov=%d decay_norm=%d schedule=%d warmup=%.17g clean=%d augment=%d corruptions=%s adversarial=%d attack=%s crop=%d/%d aligned=%d gamma=%.17g alpha=%.17g tau=%.17g share=%.17g optimizer=%d beta=%.17g at_domains=%d soft=%s normalize=%s val=%d/%" PRId64
        "/%" PRId64 " val_attack=%s select=%d banks=%d images=%" PRId64
        " data=%.16s teacher=%s%s%s%s%s",
        c->stage, c->seed, (int)c->epochs, (int)c->batch, c->lr, c->momentum, c->weight_decay,
        c->nesterov, c->decay_norm, (int)c->schedule, c->warmup_epochs, c->clean, (int)c->augment,
        c->corruptions != NULL ? c->corruptions : "", c->adversarial, attack, c->crop,
        (int)c->crop_pad, c->aligned, c->gamma, c->alpha, c->tau, c->adversarial_share,
        (int)c->optimizer, c->beta, (int)c->at_domains, soft, normalize_text(&g->norm, norm),
        (int)c->val_every, c->val_limit, c->val_attack_limit, val_attack, (int)c->select,
        graph_branches(g), d->n, data, hash, more,
        c->precision == EXEC_BF16 ? " precision=bf16" : "", c->options != NULL ? " " : "",
        c->options != NULL ? c->options : "");
    if (n < 0 || n >= FINGERPRINT_MAX) {
        fail(ERR_LIMIT, "training: the options are longer than %d characters", FINGERPRINT_MAX);
        return NULL;
    }
    return mem_strdup(text);
}

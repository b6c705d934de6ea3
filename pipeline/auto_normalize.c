/*
 * The normalisation of a model, from a text or found out.
 *
 * Every preset of trainer/data/normalize.h is tried on the same training images. Of those whose
 * accuracy is within a percent of the best, the one with the lowest cross-entropy wins: a model often
 * knows its training images by heart, then accuracy says little. Then the colours are
 * swapped (RGB - BGR) and the image is turned (height - width) under that preset: linnet does not
 * feed a model that way, but an accuracy that rises tells the user what the model expects.
 *
 * --normalize auto takes 1,000 images. Where nobody said anything, as many of them as the presets can
 * be tried on in a few seconds.
 *
 * Presets that differ by a percent in their numbers may differ by less than the noise of so few images.
 * The winner is clear where the model does better than guessing and, image by image, either the
 * cross-entropy or the hits of every other preset are worse by three standard errors. Where training
 * would follow and it is not clear, the contenders alone are tried on more and more images, up to 16,000.
 * A contender that is left then is either as good as the winner (three standard errors above their
 * difference in accuracy are still within a percent): the winner is taken, and the user hears that the
 * two cannot be told apart. Or the images are too few to say even that: refused.
 */
#include "pipeline/auto_normalize.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/exec/exec.h"
#include "pipeline/listener.h"
#include "trainer/data/normalize.h"

#define TASK "normalisation"
#define MOST_IMAGES 1000
#define MOST_TO_DECIDE 16000 /* images for presets that 1,000 do not tell apart */
#define DECIDE_MACS 2e13     /* what one of them may cost */
#define CLOSE 0.01           /* of accuracy: no difference worth a decision */
#define SWAP_GAIN 0.05       /* of accuracy: what a swap must gain to be told */
#define FEWEST_IMAGES 64
#define FEWEST_TO_JUDGE 50 /* images: fewer do not tell a model from guessing */
#define GUESS_MACS 1e12    /* what all presets together may cost where nobody asked for it */
#define CLEAR 3.0          /* standard errors */
#define LIST_TEXT 512
#define SCORES_LIMIT ((size_t)1 << 20) /* bytes */

int normalize_set(struct graph *g, const char *text)
{
    const int64_t channels = g->value[g->input].shape.dim[1];
    struct input_norm norm;
    char canonical[NORMALIZE_TEXT];

    if (strcmp(text, "auto") == 0)
        return fail(
            ERR_ARG,
            "--normalize auto needs images of --data here; name a preset (cifar10, imagenet, none, 255 ...) or give m,m,m/s,s,s");
    TRY(normalize_parse(text, &norm));
    if (norm.channels > 0 && norm.channels != channels)
        return fail(ERR_ARG, "--normalize %s: has %d channels, the model's input has %lld", text,
                    norm.channels, (long long)channels);
    g->norm = norm;
    return graph_set_meta(g, "linnet.normalize", normalize_text(&norm, canonical));
}

struct score {
    const char *name;      /* of the preset */
    double accuracy, loss; /* mean cross-entropy */
    float *losses;         /* [n] by image */
    uint8_t *hit;          /* [n]: 1 where the model is right */
    int64_t n;             /* images tried */
};
struct trial { /* images and what the model says about them */
    const struct linnet_listener *l;
    const char *path;
    struct graph *g;
    struct exec *e;
    struct arena *arena; /* of the scores */
    const struct dataset *d;
    int64_t n, most, classes; /* images tried; that may be tried where it is not clear */
    int64_t first, block;     /* images in x: [first, first + block) */
    float *x, *logits;
    struct score score[NORMALIZE_PRESETS];
    int32_t n_score;
};

static double cross_entropy(const float *z, int64_t k, int32_t label)
{
    double top = z[0], sum = 0;

    for (int64_t i = 1; i < k; i++)
        top = z[i] > top ? z[i] : top;
    for (int64_t i = 0; i < k; i++)
        sum += exp(z[i] - top);
    return log(sum) + top - z[label];
}

static int32_t largest(const float *z, int64_t k)
{
    int32_t at = 0;

    for (int32_t i = 1; i < k; i++)
        if (z[i] > z[at])
            at = i;
    return at;
}

/* Room for most images. */
static int score_open(struct trial *t, struct score *s, int64_t most)
{
    *s = (struct score){.name = s->name};
    if ((s->losses = arena_array(t->arena, (size_t)most, sizeof *s->losses)) == NULL ||
        (s->hit = arena_array(t->arena, (size_t)most, sizeof *s->hit)) == NULL)
        return ERR_NOMEM;
    return 0;
}

/* Adds the images of the block. */
static int try_images(struct trial *t, struct score *s)
{
    double correct = s->accuracy * (double)s->n, loss = s->loss * (double)s->n;

    TRY(exec_infer(t->e, t->x, t->block, 0, t->logits));
    for (int64_t i = 0; i < t->block; i++, s->n++) {
        const float *z = t->logits + i * t->classes;
        const int32_t label = t->d->labels[t->first + i];

        s->hit[s->n] = largest(z, t->classes) == label;
        s->losses[s->n] = (float)cross_entropy(z, t->classes, label);
        correct += s->hit[s->n];
        loss += s->losses[s->n];
    }
    s->accuracy = correct / (double)s->n;
    s->loss = loss / (double)s->n;
    return 0;
}

/* A graph's norm is read when images go in; the executor keeps nothing of it. */
static int try_preset(struct trial *t, const struct normalize_preset *p)
{
    struct score *s = &t->score[t->n_score];

    if (listener_stops(t->l))
        return fail(ERR_INTERRUPTED, "stopped while presets of normalisation were tried");
    listener_progress(t->l, TASK, (double)t->n_score / NORMALIZE_PRESETS, "%s", p->name);
    t->g->norm = p->norm;
    s->name = p->name;
    TRY(score_open(t, s, t->most));
    TRY(try_images(t, s));
    t->n_score++;
    return 0;
}

static int try_presets(struct trial *t)
{
    const int64_t channels = t->g->value[t->g->input].shape.dim[1];
    int rc = 0;

    listener_begin(t->l, TASK);
    for (size_t k = 0; k < NORMALIZE_PRESETS && rc == 0; k++)
        if (normalize_preset[k].norm.channels == 0 || normalize_preset[k].norm.channels == channels)
            rc = try_preset(t, &normalize_preset[k]);
    listener_end(t->l, TASK);
    return rc;
}

/* ---- what the user should know --------------------------------------------------------------- */

static void swap_colours(struct trial *t, const struct shape *in)
{
    const int64_t plane = in->dim[2] * in->dim[3];

    for (int64_t i = 0; i < t->block; i++)
        for (int64_t k = 0; k < plane; k++) {
            float *p = t->x + i * 3 * plane + k, red = p[0];

            p[0] = p[2 * plane];
            p[2 * plane] = red;
        }
}

static void turn(struct trial *t, const struct shape *in)
{
    const int64_t side = in->dim[2];

    for (int64_t i = 0; i < t->block * in->dim[1]; i++)
        for (int64_t h = 0; h < side; h++)
            for (int64_t w = 0; w < h; w++) {
                float *p = t->x + i * side * side, v = p[h * side + w];

                p[h * side + w] = p[w * side + h];
                p[w * side + h] = v;
            }
}

/* Accuracy of the images changed by `change`, which undoes itself; -1 where that makes no sense. */
static int try_changed(struct trial *t, const struct shape *in, bool applies,
                       void (*change)(struct trial *, const struct shape *), double *accuracy)
{
    struct score s = {0};

    *accuracy = -1;
    if (!applies)
        return 0;
    TRY(score_open(t, &s, t->block));
    change(t, in);
    TRY(try_images(t, &s));
    change(t, in);
    *accuracy = s.accuracy;
    return 0;
}

/* One warning at most: images that are wrong in one way gain a little by the other too. */
static int warn_swaps(struct trial *t, const struct score *best)
{
    const struct shape *in = &t->g->value[t->g->input].shape;
    double colours, turned;

    TRY(try_changed(t, in, in->dim[1] == 3, swap_colours, &colours));
    TRY(try_changed(t, in, in->dim[2] == in->dim[3], turn, &turned));
    if (fmax(colours, turned) <= best->accuracy + SWAP_GAIN)
        return 0;
    if (colours >= turned)
        listener_note(
            t->l,
            "%s: warning[E1605]: with red and blue swapped the accuracy is %.1f %%: the model wants BGR. Hint: swap the input channels of its first layer",
            t->path, 100 * colours);
    else
        listener_note(
            t->l,
            "%s: warning[E1605]: with height and width swapped the accuracy is %.1f %%: the model was trained on turned images",
            t->path, 100 * turned);
    return 0;
}

/* Guessing gives 1 / classes; its noise is three standard deviations at most. */
static bool is_chance(double accuracy, int64_t n, int64_t classes)
{
    const double p = 1 / (double)classes;

    return accuracy < p + 3 * sqrt(p * (1 - p) / (double)n) + 0.02;
}

void normalize_warn_chance(const struct linnet_listener *l, const char *path, double accuracy,
                           int64_t n, int64_t classes)
{
    if (n >= FEWEST_TO_JUDGE && is_chance(accuracy, n, classes))
        listener_note(
            l,
            "%s: warning[E1604]: %.1f %% is what guessing one of %lld classes gives. Hint: the model is untrained, was trained on other classes or another order of them, wants another normalisation (--normalize auto tries the presets) or order of colours, or its export is broken (onnxscript 0.5.0 to 0.5.6 gave layers wrong biases)",
            path, 100 * accuracy, (long long)classes);
}

/* ---- the choice ------------------------------------------------------------------------------ */

/* The winner of those that were tried on all images, or the best of all but for `without`; NULL where
 * there is no other. */
static const struct score *best_of(const struct trial *t, const struct score *without)
{
    const struct score *best = NULL;
    const int64_t least = without == NULL ? t->n : 0;
    double top = 0;

    for (int32_t k = 0; k < t->n_score; k++)
        if (&t->score[k] != without && t->score[k].n >= least)
            top = fmax(top, t->score[k].accuracy);
    for (int32_t k = 0; k < t->n_score; k++) {
        const struct score *s = &t->score[k];

        if (s != without && s->n >= least && s->accuracy >= top - CLOSE &&
            (best == NULL || s->loss < best->loss))
            best = s;
    }
    return best;
}

/* Differences image by image: their mean and its standard error. */
struct spread {
    double mean, error;
};

static struct spread spread_of(double sum, double squares, double n)
{
    const double mean = sum / n;

    return (struct spread){mean, sqrt(fmax((squares / n - mean * mean) / n, 0))};
}

/* Cross-entropy that s has more than best, and share of hits that it has less. */
static void compare(const struct score *s, const struct score *best, struct spread *loss,
                    struct spread *hits)
{
    const double n = (double)s->n;
    double sum[2] = {0}, squares[2] = {0};

    for (int64_t i = 0; i < s->n; i++) {
        const double d[2] = {(double)s->losses[i] - best->losses[i], best->hit[i] - s->hit[i]};

        for (int k = 0; k < 2; k++) {
            sum[k] += d[k];
            squares[k] += d[k] * d[k];
        }
    }
    *loss = spread_of(sum[0], squares[0], n);
    *hits = spread_of(sum[1], squares[1], n);
}

static bool is_worse(const struct score *s, const struct score *best)
{
    struct spread loss, hits;

    if (s->n < best->n) /* it was worse when fewer images were tried */
        return true;
    compare(s, best, &loss, &hits);
    return loss.mean > CLEAR * loss.error || hits.mean > CLEAR * hits.error;
}

/* Whatever the noise of the images, either preset costs less than CLOSE against the other. */
static bool is_as_good(const struct score *s, const struct score *best)
{
    struct spread loss, hits;

    compare(s, best, &loss, &hits);
    /* as if one image more had made a difference: few images without any show little */
    return fabs(hits.mean) + CLEAR * hypot(hits.error, 1 / (double)s->n) < CLOSE;
}

/* A preset that may well be the right one instead; NULL where the choice is clear. */
static const struct score *rival_of(const struct trial *t, const struct score *best)
{
    const struct score *rival = NULL;

    for (int32_t k = 0; k < t->n_score; k++) {
        const struct score *s = &t->score[k];

        if (s != best && !is_worse(s, best) && (rival == NULL || s->loss < rival->loss))
            rival = s;
    }
    return rival;
}

static int read_block(struct trial *t, int64_t first, int64_t count)
{
    t->first = first;
    t->block = count;
    return data_images(t->d, first, count, first + count, t->x);
}

/* One more block of images for the winner and what may be right instead of it. */
static int try_more(struct trial *t)
{
    const struct score *best = best_of(t, NULL);
    bool goes_on[NORMALIZE_PRESETS];

    if (listener_stops(t->l))
        return fail(ERR_INTERRUPTED, "stopped while presets of normalisation were tried");
    for (int32_t k = 0; k < t->n_score; k++)
        goes_on[k] = &t->score[k] == best || !is_worse(&t->score[k], best);
    listener_progress(t->l, TASK, (double)t->n / (double)t->most, "%lld images", (long long)t->n);
    TRY(read_block(t, t->n, t->most - t->n < t->block ? t->most - t->n : t->block));
    for (int32_t k = 0; k < t->n_score; k++)
        if (goes_on[k]) {
            TRY(normalize_parse(t->score[k].name, &t->g->norm));
            TRY(try_images(t, &t->score[k]));
        }
    t->n += t->block;
    return 0;
}

/* Until the winner is clear, or no image is left. */
static int decide(struct trial *t)
{
    const int64_t first = t->block;
    int rc = 0;

    listener_begin(t->l, TASK);
    while (rc == 0 && t->n < t->most && rival_of(t, best_of(t, NULL)) != NULL)
        rc = try_more(t);
    listener_end(t->l, TASK);
    if (rc == 0 && t->first > 0)
        rc = read_block(t, 0, first);
    return rc;
}

static const char *list_scores(const struct trial *t, char *out, size_t size)
{
    size_t used = 0;

    out[0] = '\0';
    for (int32_t k = 0; k < t->n_score && used < size; k++)
        used += (size_t)snprintf(out + used, size - used, "%s%s %.1f", k > 0 ? ", " : "",
                                 t->score[k].name, 100 * t->score[k].accuracy);
    return out;
}

static int choose(struct trial *t)
{
    const struct score *best = best_of(t, NULL);
    char list[LIST_TEXT];

    TRY(normalize_set(t->g, best->name));
    listener_note(t->l, "%s: --normalize auto chooses %s, %.1f %% of %lld training images (%s)",
                  t->path, best->name, 100 * best->accuracy, (long long)t->n,
                  list_scores(t, list, sizeof list));
    TRY(warn_swaps(t, best));
    normalize_warn_chance(t->l, t->path, best->accuracy, t->n, t->classes);
    return 0;
}

/* Not one preset makes the model better than guessing: pixels stay as they are. */
static int guess_nothing(struct trial *t, bool sure)
{
    char list[LIST_TEXT];

    t->g->norm = (struct input_norm){0};
    list_scores(t, list, sizeof list);
    if (sure)
        return fail(
            ERR_ARG,
            "'%s': no --normalize and none in the file, and no preset makes the model better than guessing (%s); give --normalize, for an untrained model the one to train with",
            t->path, list);
    listener_note(
        t->l,
        "%s: no --normalize and none in the file, and no preset makes the model better than guessing (%s): pixels in [0,1] go in as they are",
        t->path, list);
    return 0;
}

static int guess(struct trial *t, bool sure, bool *found)
{
    TRY(decide(t));

    const struct score *best = best_of(t, NULL), *next = best_of(t, best);
    const struct score *rival = rival_of(t, best);
    char list[LIST_TEXT];

    *found = !is_chance(best->accuracy, t->n, t->classes);
    if (!*found)
        return guess_nothing(t, sure);
    if (sure && rival != NULL && !is_as_good(rival, best))
        return fail(
            ERR_ARG,
            "'%s': no --normalize and none in the file, and %lld training images do not tell '%s' (%.1f %%, cross-entropy %.4f) from '%s' (%.1f %%, %.4f); say which, --normalize %s if you do not know",
            t->path, (long long)t->n, best->name, 100 * best->accuracy, best->loss, rival->name,
            100 * rival->accuracy, rival->loss, best->name);
    TRY(normalize_set(t->g, best->name));
    if (next == NULL)
        return 0;
    listener_note(
        t->l,
        "%s: no --normalize and none in the file: '%s' is taken, the best preset on %lld training images with %.1f %%, cross-entropy %.4f; next '%s' with %.1f %%, %.4f (%s)",
        t->path, best->name, (long long)t->n, 100 * best->accuracy, best->loss, next->name,
        100 * next->accuracy, next->loss, list_scores(t, list, sizeof list));
    if (rival != NULL && is_as_good(rival, best))
        listener_note(
            t->l,
            "%s: warning: '%s' and '%s' are equally good to within %.0f %% of accuracy on %lld images; the one of lower cross-entropy is taken; --normalize says which",
            t->path, best->name, rival->name, 100 * CLOSE, (long long)best->n);
    else if (rival != NULL)
        listener_note(t->l, "%s: warning: it may be '%s' as well; --normalize says which", t->path,
                      rival->name);
    return warn_swaps(t, best);
}

/* ---- images ---------------------------------------------------------------------------------- */

/* first: images for all presets; most: for those that these do not tell apart. */
static int read_images(struct trial *t, int64_t first, int64_t most)
{
    const int64_t size = shape_elems(&t->g->value[t->g->input].shape);

    t->n = t->d->n < first ? t->d->n : first;
    t->most = t->d->n < most ? t->d->n : most;
    t->x = mem_aligned((size_t)(t->n * size), sizeof *t->x);
    t->logits = mem_aligned((size_t)(t->n * t->classes), sizeof *t->logits);
    if (t->x == NULL || t->logits == NULL)
        return ERR_NOMEM;
    return read_block(t, 0, t->n);
}

static int open_trial(struct trial *t, const struct dataset *d, int64_t first, int64_t most)
{
    t->d = d;
    t->classes = t->g->value[t->g->output].shape.dim[1];
    TRY(arena_new(SCORES_LIMIT, &t->arena));
    TRY(read_images(t, first, most));
    TRY(exec_new(t->g, EXEC_INFER, 64, NULL, &t->e));
    return try_presets(t);
}

static void close_trial(struct trial *t)
{
    exec_free(t->e);
    mem_free(t->x);
    mem_free(t->logits);
    arena_free(t->arena);
}

int normalize_auto(const struct linnet_listener *l, const char *path, const char *data,
                   const struct source_options *images, uint64_t seed, struct graph *g)
{
    SCOPED(data_close_at) struct dataset *d = NULL;
    SCOPED(close_trial) struct trial t = {.l = l, .path = path, .g = g};

    TRY(source_open(data, images, DATA_TRAIN, seed, g, &d));
    TRY(open_trial(&t, d, MOST_IMAGES, MOST_IMAGES));
    return choose(&t);
}

static int64_t affordable(const struct graph *g)
{
    const double macs = (double)graph_macs(g) * NORMALIZE_PRESETS;
    const double n = macs > 0 ? GUESS_MACS / macs : MOST_IMAGES;

    return n < FEWEST_IMAGES ? FEWEST_IMAGES : n > MOST_IMAGES ? MOST_IMAGES : (int64_t)n;
}

/* Images that may be needed to tell presets apart before a training, which costs far more. */
static int64_t enough(const struct graph *g)
{
    const double macs = (double)graph_macs(g), least = (double)affordable(g);
    const double n = macs > 0 ? DECIDE_MACS / macs : MOST_TO_DECIDE;

    return (int64_t)fmin(MOST_TO_DECIDE, fmax(n, least));
}

int normalize_guess(const struct linnet_listener *l, const char *path, const char *data,
                    const struct source_options *images, uint64_t seed, bool sure, struct graph *g,
                    bool *found)
{
    SCOPED(data_close_at) struct dataset *d = NULL;
    SCOPED(close_trial) struct trial t = {.l = l, .path = path, .g = g};

    *found = false;
    if (source_open(data, images, DATA_TRAIN, seed, g, &d) < 0) {
        data_close(d); /* a test set alone, perhaps */
        d = NULL;
        TRY(source_open(data, images, DATA_TEST, seed, g, &d));
    }
    TRY(open_trial(&t, d, affordable(g), sure ? enough(g) : affordable(g)));
    return guess(&t, sure, found);
}

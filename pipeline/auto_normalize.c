/*
 * The normalisation of a model, from a text or found out.
 *
 * --normalize auto:
 *
 * Every preset of trainer/data/normalize.h is tried on the first 1,000 training images. Of those whose
 * accuracy is within a percent of the best, the one with the lowest cross-entropy wins: a model often
 * knows its training images by heart, then accuracy says little. Then the colours are
 * swapped (RGB - BGR) and the picture is turned (height - width) under that preset: linnet does not
 * feed a model that way, but an accuracy that rises tells the user what the model expects.
 *
 * Presets that differ by a percent in their numbers differ by less than the noise of 1,000 images:
 * what is chosen is good, not certain.
 */
#include "pipeline/auto_normalize.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/exec/exec.h"
#include "pipeline/listener.h"
#include "trainer/data/normalize.h"

#define MOST_IMAGES 1000
#define CLOSE 0.01     /* of accuracy: no difference worth a decision */
#define SWAP_GAIN 0.05 /* of accuracy: what a swap must gain to be told */

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

struct trial { /* images and what the model says about them */
    struct graph *g;
    struct exec *e;
    int64_t n, classes;
    float *x, *logits;
    const int32_t *label;
};
struct score {
    double accuracy, loss; /* mean cross-entropy */
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

static int try_images(struct trial *t, struct score *s)
{
    int64_t correct = 0;
    double loss = 0;

    TRY(exec_infer(t->e, t->x, t->n, 0, t->logits));
    for (int64_t i = 0; i < t->n; i++) {
        const float *z = t->logits + i * t->classes;

        correct += largest(z, t->classes) == t->label[i];
        loss += cross_entropy(z, t->classes, t->label[i]);
    }
    *s = (struct score){(double)correct / (double)t->n, loss / (double)t->n};
    return 0;
}

/* A graph's norm is read when images go in; the executor keeps nothing of it. */
static int try_preset(struct trial *t, const char *text, struct score *s)
{
    TRY(normalize_set(t->g, text));
    return try_images(t, s);
}

/* ---- what the user should know --------------------------------------------------------------- */

static void swap_colours(struct trial *t, const struct shape *in)
{
    const int64_t plane = in->dim[2] * in->dim[3];

    for (int64_t i = 0; i < t->n; i++)
        for (int64_t k = 0; k < plane; k++) {
            float *p = t->x + i * 3 * plane + k, red = p[0];

            p[0] = p[2 * plane];
            p[2 * plane] = red;
        }
}

static void turn(struct trial *t, const struct shape *in)
{
    const int64_t side = in->dim[2];

    for (int64_t i = 0; i < t->n * in->dim[1]; i++)
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
    struct score s;

    *accuracy = -1;
    if (!applies)
        return 0;
    change(t, in);
    TRY(try_images(t, &s));
    change(t, in);
    *accuracy = s.accuracy;
    return 0;
}

/* One warning at most: images that are wrong in one way gain a little by the other too. */
static int warn_swaps(const struct linnet_listener *l, const char *path, struct trial *t,
                      const struct shape *in, const struct score *best)
{
    double colours, turned;

    TRY(try_changed(t, in, in->dim[1] == 3, swap_colours, &colours));
    TRY(try_changed(t, in, in->dim[2] == in->dim[3], turn, &turned));
    if (fmax(colours, turned) <= best->accuracy + SWAP_GAIN)
        return 0;
    if (colours >= turned)
        listener_note(
            l,
            "%s: warning[E1605]: with red and blue swapped the accuracy is %.1f %%: the model wants BGR. Hint: swap the input channels of its first layer",
            path, 100 * colours);
    else
        listener_note(
            l,
            "%s: warning[E1605]: with height and width swapped the accuracy is %.1f %%: the model was trained on turned images",
            path, 100 * turned);
    return 0;
}

/* Guessing gives 1 / classes; its noise is three standard deviations at most. */
static bool is_chance(const struct trial *t, const struct score *s)
{
    const double p = 1 / (double)t->classes;

    return s->accuracy < p + 3 * sqrt(p * (1 - p) / (double)t->n) + 0.02;
}

static void warn_chance(const struct linnet_listener *l, const char *path, const struct trial *t,
                        const struct score *best)
{
    if (is_chance(t, best))
        listener_note(
            l,
            "%s: warning[E1604]: %.1f %% is what guessing one of %lld classes gives. Hint: the model is untrained, was trained on other classes or another order of them, wants another normalisation (--normalize m,m,m/s,s,s) or order of colours, or its export is broken (onnxscript 0.5.0 to 0.5.6 gave layers wrong biases)",
            path, 100 * best->accuracy, (long long)t->classes);
}

/* ---- the choice ------------------------------------------------------------------------------ */

/* Index of the winner among the first n. */
static int32_t best_of(const struct score *s, int32_t n)
{
    double top = 0;
    int32_t best = -1;

    for (int32_t k = 0; k < n; k++)
        top = s[k].accuracy > top ? s[k].accuracy : top;
    for (int32_t k = 0; k < n; k++)
        if (s[k].accuracy >= top - CLOSE && (best < 0 || s[k].loss < s[best].loss))
            best = k;
    return best;
}

static int choose(const struct linnet_listener *l, const char *path, struct trial *t)
{
    const struct shape *in = &t->g->value[t->g->input].shape;
    struct score s[NORMALIZE_PRESETS];
    const char *name[NORMALIZE_PRESETS];
    char list[512] = "";
    int32_t n = 0;

    for (size_t k = 0; k < NORMALIZE_PRESETS; k++) {
        const struct normalize_preset *p = &normalize_preset[k];
        const size_t used = strlen(list);

        if (p->norm.channels != 0 && p->norm.channels != in->dim[1])
            continue;
        TRY(try_preset(t, p->name, &s[n]));
        name[n] = p->name;
        snprintf(list + used, sizeof list - used, "%s%s %.1f", n > 0 ? ", " : "", p->name,
                 100 * s[n].accuracy);
        n++;
    }
    const int32_t best = best_of(s, n);
    TRY(normalize_set(t->g, name[best]));
    listener_note(l, "%s: --normalize auto chooses %s, %.1f %% of %lld training images (%s)", path,
                  name[best], 100 * s[best].accuracy, (long long)t->n, list);
    TRY(warn_swaps(l, path, t, in, &s[best]));
    warn_chance(l, path, t, &s[best]);
    return 0;
}

static int read_images(struct trial *t, const struct dataset *d, const struct shape *in)
{
    const int64_t size = shape_elems(in);

    t->n = d->n < MOST_IMAGES ? d->n : MOST_IMAGES;
    t->label = d->labels;
    t->x = mem_aligned((size_t)(t->n * size), sizeof *t->x);
    t->logits = mem_aligned((size_t)(t->n * t->classes), sizeof *t->logits);
    if (t->x == NULL || t->logits == NULL)
        return ERR_NOMEM;
    for (int64_t i = 0; i < t->n; i++)
        data_image(d, i, t->x + i * size);
    return 0;
}

int normalize_auto(const struct linnet_listener *l, const char *path, const char *data,
                   const struct source_options *images, uint64_t seed, struct graph *g)
{
    const struct shape *in = &g->value[g->input].shape;
    struct trial t = {.g = g, .classes = g->value[g->output].shape.dim[1]};
    struct dataset *d = NULL;
    int rc;

    if ((rc = source_open(data, images, DATA_TRAIN, seed, g, &d)) < 0 ||
        (rc = read_images(&t, d, in)) < 0 || (rc = exec_new(g, EXEC_INFER, 64, NULL, 0, &t.e)) < 0)
        goto out;
    rc = choose(l, path, &t);
out:
    exec_free(t.e);
    mem_free(t.x);
    mem_free(t.logits);
    data_close(d);
    return rc;
}

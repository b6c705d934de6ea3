/*
 * Attack specifications: one table of keys says what each kind reads, prints and allows.
 */
#include "trainer/attack/spec.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/attack/apgd.h"
#include "trainer/attack/fab.h"
#include "trainer/attack/square.h"

#define SPEC_MAX 256

static const char *const kind_name[ATTACK_KINDS] = {
    [ATTACK_PGD] = "pgd",       [ATTACK_APGD_CE] = "apgd-ce", [ATTACK_APGD_DLR] = "apgd-dlr",
    [ATTACK_APGD_T] = "apgd-t", [ATTACK_FAB_T] = "fab-t",     [ATTACK_SQUARE] = "square",
};

const char *attack_kind_name(enum attack_kind kind)
{
    return kind_name[kind];
}

/* ---- keys ------------------------------------------------------------------------------------ */

enum field { REAL, COUNT, WORD };
#define KIND(k) (1u << ATTACK_##k)
#define APGD (KIND(APGD_CE) | KIND(APGD_DLR) | KIND(APGD_T))
#define ALL ((1u << ATTACK_KINDS) - 1)
#define AT(f) offsetof(struct attack_stage, f)

static const struct key {
    const char *name;
    unsigned kinds;
    enum field field;
    size_t at;
    double lo, hi;
    const char *word[2]; /* of a WORD: false, true */
} table[] = {
    {"eps", ALL, REAL, AT(eps), 0, 1, {0}},
    {"alpha", KIND(PGD), REAL, AT(alpha), 1e-9, 1, {0}},
    {"steps", ALL, COUNT, AT(steps), 0, SQUARE_MAX_QUERIES, {0}},
    {"restarts", ALL, COUNT, AT(restarts), 1, PGD_MAX_RESTARTS, {0}},
    {"start", KIND(PGD), WORD, AT(clean_start), 0, 0, {"random", "clean"}},
    {"targets", KIND(APGD_T) | KIND(FAB_T), COUNT, AT(targets), 1, 1000, {0}},
    {"rho", APGD, REAL, AT(rho), 0.01, 1, {0}},
    {"alpha_max", KIND(FAB_T), REAL, AT(alpha_max), 0.001, 1, {0}},
    {"eta", KIND(FAB_T), REAL, AT(eta), 1, 2, {0}},
    {"beta", KIND(FAB_T), REAL, AT(beta), 0.01, 1, {0}},
    {"p_init", KIND(SQUARE), REAL, AT(p_init), 0.001, 1, {0}},
    {"draws", KIND(SQUARE), WORD, AT(per_image), 0, 0, {"shared", "image"}},
};
#define N_KEYS ((int32_t)(sizeof table / sizeof table[0]))

static struct attack_stage defaults(enum attack_kind kind)
{
    const struct apgd_params a = apgd_defaults();
    const struct fab_params f = fab_defaults();
    const struct square_params q = square_defaults();
    const struct pgd_params p = pgd_defaults(20);

    switch (kind) {
    case ATTACK_PGD:
        return attack_spec_pgd(&p).stage[0];
    case ATTACK_FAB_T:
        return (struct attack_stage){.kind = kind,
                                     .eps = f.eps,
                                     .steps = f.steps,
                                     .restarts = f.restarts,
                                     .targets = f.targets,
                                     .alpha_max = f.alpha_max,
                                     .eta = f.eta,
                                     .beta = f.beta};
    case ATTACK_SQUARE:
        return (struct attack_stage){.kind = kind,
                                     .eps = q.eps,
                                     .steps = q.queries,
                                     .restarts = q.restarts,
                                     .p_init = q.p_init};
    default:
        return (struct attack_stage){.kind = kind,
                                     .eps = a.eps,
                                     .steps = a.steps,
                                     .restarts = a.restarts,
                                     .targets = kind == ATTACK_APGD_T ? a.targets : 0,
                                     .rho = a.rho};
    }
}

struct attack_spec attack_spec_pgd(const struct pgd_params *p)
{
    struct attack_spec s = {.n_stage = 1,
                            .stage = {{.kind = ATTACK_PGD,
                                       .eps = p->eps,
                                       .alpha = p->alpha,
                                       .steps = p->steps,
                                       .restarts = p->restarts,
                                       .clean_start = !p->random_start}}};

    snprintf(s.name, sizeof s.name, "pgd-%d", (int)p->steps);
    return s;
}

struct pgd_params attack_stage_pgd(const struct attack_stage *s)
{
    return (struct pgd_params){s->eps, s->alpha, s->steps, s->restarts, !s->clean_start};
}

/* ---- values ---------------------------------------------------------------------------------- */

/* "8/255" or "0.03" in lo ... hi; the whole text must be used. */
static int parse_number(const struct key *k, const char *text, double *out)
{
    char *end;
    double v = strtod(text, &end), d = 1;

    if (end != text && *end == '/') {
        const char *below = end + 1;
        d = strtod(below, &end);
        if (end == below)
            d = 0;
    }
    if (end == text || *end != '\0' || d == 0 || !(v / d >= k->lo && v / d <= k->hi))
        return fail(ERR_ARG, "attack: %s='%s' is not a number from %g to %g", k->name, text, k->lo,
                    k->hi);
    *out = v / d;
    return 0;
}

static int set_value(const struct key *k, const char *text, struct attack_stage *s)
{
    char *field = (char *)s + k->at;
    double v = 0;

    if (k->field == WORD) {
        const bool second = strcmp(text, k->word[1]) == 0;
        if (!second && strcmp(text, k->word[0]) != 0)
            return fail(ERR_ARG, "attack: %s='%s' is neither %s nor %s", k->name, text, k->word[0],
                        k->word[1]);
        *(bool *)field = second;
        return 0;
    }
    TRY(parse_number(k, text, &v));
    if (k->field == COUNT && v != floor(v))
        return fail(ERR_ARG, "attack: %s='%s' is not a whole number", k->name, text);
    if (k->field == COUNT)
        *(int32_t *)(void *)field = (int32_t)v;
    else
        *(double *)(void *)field = v;
    return 0;
}

static int refuse_key(const char *word, enum attack_kind kind)
{
    char known[160] = "";

    for (int32_t i = 0; i < N_KEYS; i++)
        if (table[i].kinds >> kind & 1) {
            const size_t n = strlen(known);
            snprintf(known + n, sizeof known - n, "%s%s", n > 0 ? ", " : "", table[i].name);
        }
    return fail(ERR_ARG, "attack %s: '%s' is not one of %s", kind_name[kind], word, known);
}

static int set_pair(char *pair, struct attack_stage *s)
{
    char *value = strchr(pair, '=');

    if (value == NULL)
        return fail(ERR_ARG, "attack: '%s' is not key=value", pair);
    *value++ = '\0';
    for (int32_t i = 0; i < N_KEYS; i++)
        if ((table[i].kinds >> s->kind & 1) && strcmp(pair, table[i].name) == 0)
            return set_value(&table[i], value, s);
    return refuse_key(pair, s->kind);
}

/* Cuts the next piece off *list at a comma; NULL at the end. */
static char *next_piece(char **list)
{
    char *piece = *list;

    if (piece != NULL && (*list = strchr(piece, ',')) != NULL)
        *(*list)++ = '\0';
    return piece;
}

/* ---- specifications -------------------------------------------------------------------------- */

static int parse_single(enum attack_kind kind, char *pairs, struct attack_spec *out)
{
    struct attack_stage *s = &out->stage[0];

    *s = defaults(kind);
    for (char *pair; (pair = next_piece(&pairs)) != NULL;)
        TRY(set_pair(pair, s));
    if (kind != ATTACK_SQUARE && s->steps > PGD_MAX_STEPS)
        return fail(ERR_ARG, "attack %s: steps=%d, at most %d", kind_name[kind], (int)s->steps,
                    PGD_MAX_STEPS);
    if (s->steps < 1)
        return fail(ERR_ARG, "attack %s: steps=%d, at least 1", kind_name[kind], (int)s->steps);
    out->n_stage = 1;
    if (kind == ATTACK_PGD)
        snprintf(out->name, sizeof out->name, "pgd-%d", (int)s->steps);
    else
        snprintf(out->name, sizeof out->name, "%s", kind_name[kind]);
    return 0;
}

static int suite_word(const char *word, struct attack_stage *s, bool *fast)
{
    char pair[SPEC_MAX];

    if (strncmp(word, "version=", 8) == 0)
        word += 8;
    if (strcmp(word, "fast") == 0 || strcmp(word, "standard") == 0) {
        *fast = *word == 'f';
        return 0;
    }
    if (strncmp(word, "eps=", 4) != 0)
        return fail(
            ERR_ARG,
            "attack autoattack: '%s' is not one of standard, fast, eps=...; single parts such as apgd-t take more",
            word);
    snprintf(pair, sizeof pair, "%s", word);
    return set_pair(pair, s);
}

static int parse_suite(char *words, struct attack_spec *out)
{
    struct attack_stage first = defaults(ATTACK_APGD_CE);
    bool fast = false;

    for (char *word; (word = next_piece(&words)) != NULL;)
        TRY(suite_word(word, &first, &fast));
    out->n_stage = fast ? 2 : 4;
    out->stage[0] = first;
    out->stage[1] = defaults(ATTACK_APGD_T);
    out->stage[2] = defaults(ATTACK_FAB_T);
    out->stage[3] = defaults(ATTACK_SQUARE);
    for (int32_t i = 0; i < out->n_stage; i++)
        out->stage[i].eps = first.eps;
    snprintf(out->name, sizeof out->name, "autoattack%s", fast ? ":fast" : "");
    return 0;
}

int attack_spec_parse(const char *text, struct attack_spec *out)
{
    const size_t head = strcspn(text, ":");
    struct attack_spec spec = {0};
    char copy[SPEC_MAX];
    int rc = ERR_ARG;

    if (strlen(text) >= sizeof copy)
        return fail(ERR_ARG, "attack: the text has more than %d characters", SPEC_MAX - 1);
    strcpy(copy, text);
    char *rest = text[head] == ':' ? copy + head + 1 : NULL;
    copy[head] = '\0';
    if (strcmp(copy, "autoattack") == 0)
        rc = parse_suite(rest, &spec);
    for (int kind = 0; spec.n_stage == 0 && kind < ATTACK_KINDS; kind++)
        if (strcmp(copy, kind_name[kind]) == 0)
            TRY(rc = parse_single((enum attack_kind)kind, rest, &spec));
    if (spec.n_stage == 0 && strcmp(copy, "autoattack") != 0)
        return fail(
            ERR_ARG,
            "attack '%s' is not one of pgd, autoattack, apgd-ce, apgd-dlr, apgd-t, fab-t, square",
            text);
    if (rc == 0)
        *out = spec;
    return rc;
}

/* ---- printing -------------------------------------------------------------------------------- */

bool attack_stage_value(const struct attack_stage *s, int32_t index, struct attack_value *out)
{
    for (int32_t i = 0; i < N_KEYS; i++) {
        const struct key *k = &table[i];
        const char *field = (const char *)s + k->at;

        if (!(k->kinds >> s->kind & 1) || index-- > 0)
            continue;
        *out = (struct attack_value){.key = k->name, .whole = k->field == COUNT};
        if (k->field == WORD)
            out->word = k->word[*(const bool *)field];
        else if (k->field == COUNT)
            out->number = *(const int32_t *)(const void *)field;
        else
            out->number = *(const double *)(const void *)field;
        return true;
    }
    return false;
}

const char *attack_stage_text(const struct attack_stage *s, char buf[ATTACK_TEXT])
{
    struct attack_value v;
    size_t n = (size_t)snprintf(buf, ATTACK_TEXT, "%s", kind_name[s->kind]);

    for (int32_t i = 0; attack_stage_value(s, i, &v) && n < ATTACK_TEXT; i++) {
        const char *before = i == 0 ? ":" : ",";
        if (v.word != NULL)
            n += (size_t)snprintf(buf + n, ATTACK_TEXT - n, "%s%s=%s", before, v.key, v.word);
        else
            n += (size_t)snprintf(buf + n, ATTACK_TEXT - n, "%s%s=%.9g", before, v.key, v.number);
    }
    return buf;
}

int64_t attack_stage_cost(const struct attack_stage *s, int64_t classes)
{
    const int64_t most = classes - 1, targets = s->targets < most ? s->targets : most;
    const int64_t steps = s->steps, restarts = s->restarts;

    switch (s->kind) {
    case ATTACK_PGD:
        return restarts * (3 * steps + 1);
    case ATTACK_FAB_T:
        return targets * restarts * 4 * steps + 2;
    case ATTACK_SQUARE:
        return restarts * (steps + 1) + 1;
    case ATTACK_APGD_T:
        return targets * restarts * 3 * (steps + 1) + 2;
    default:
        return restarts * 3 * (steps + 1) + 1;
    }
}

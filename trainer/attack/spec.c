/*
 * Attack specifications: the table of attacks, and reading and printing what it allows.
 */
#include "trainer/attack/spec.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/number.h"

#define SPEC_MAX 256
#define EPS (8.0 / 255)

#define DECLARE(NAME, name, word, stream) extern const struct attack_type attack_type_##name;
ATTACK_TABLE(DECLARE)
#define ENTRY(NAME, name, word, stream) [ATTACK_##NAME] = {word, &attack_type_##name},
static const struct {
    const char *word;
    const struct attack_type *type;
} table[ATTACK_KINDS] = {ATTACK_TABLE(ENTRY)};

static const struct {
    const char *version, *name;
    int32_t n;
    enum attack_kind kind[ATTACK_MAX_STAGES];
} suite[] = {
    {"standard", "autoattack", 4, {ATTACK_APGD_CE, ATTACK_APGD_T, ATTACK_FAB_T, ATTACK_SQUARE}},
    {"fast", "autoattack:fast", 2, {ATTACK_APGD_CE, ATTACK_APGD_T}},
};
#define N_SUITE (sizeof suite / sizeof suite[0])

const struct attack_type *attack_type(enum attack_kind kind)
{
    return table[kind].type;
}

const char *attack_kind_name(enum attack_kind kind)
{
    return table[kind].word;
}

/* ---- stages ---------------------------------------------------------------------------------- */

static const struct attack_key eps_key = {"eps", ATTACK_REAL, EPS, 0, 1, {0}};

/* The key of that name and where its value is; NULL if the attack has none. */
static const struct attack_key *find_key(struct attack_stage *s, const char *name, double **at)
{
    const struct attack_key *key = table[s->kind].type->key;

    *at = &s->eps;
    if (strcmp(name, eps_key.name) == 0)
        return &eps_key;
    for (int32_t i = 0; key[i].name != NULL; i++)
        if (strcmp(name, key[i].name) == 0) {
            *at = &s->value[i];
            return &key[i];
        }
    return NULL;
}

struct attack_stage attack_stage_defaults(enum attack_kind kind)
{
    struct attack_stage s = {.kind = kind, .eps = EPS};

    for (int32_t i = 0; table[kind].type->key[i].name != NULL; i++)
        s.value[i] = table[kind].type->key[i].start;
    return s;
}

double attack_stage_get(const struct attack_stage *s, const char *key)
{
    struct attack_stage copy = *s;
    double *at;

    return find_key(&copy, key, &at) != NULL ? *at : 0;
}

int32_t attack_stage_count(const struct attack_stage *s, const char *key)
{
    return (int32_t)attack_stage_get(s, key);
}

void attack_stage_set(struct attack_stage *s, const char *key, double v)
{
    double *at;

    if (find_key(s, key, &at) != NULL)
        *at = v;
}

struct attack_spec attack_spec_of(const struct attack_stage *s)
{
    struct attack_spec spec = {.n_stage = 1, .stage = {*s}};
    size_t n = (size_t)snprintf(spec.name, sizeof spec.name, "%s", table[s->kind].word);

    if (table[s->kind].type->counts_steps)
        snprintf(spec.name + n, sizeof spec.name - n, "-%d", attack_stage_count(s, "steps"));
    return spec;
}

/* ---- reading --------------------------------------------------------------------------------- */

static int parse_value(const struct attack_key *k, const char *text, double *out)
{
    double v;

    if (k->form == ATTACK_CHOICE) {
        const bool second = strcmp(text, k->word[1]) == 0;
        if (!second && strcmp(text, k->word[0]) != 0)
            return fail(ERR_ARG, "attack: %s='%s' is neither %s nor %s", k->name, text, k->word[0],
                        k->word[1]);
        *out = second;
        return 0;
    }
    if (!number_parse(text, &v) || !(v >= k->lo && v <= k->hi))
        return fail(ERR_ARG, "attack: %s='%s' is not a number from %g to %g", k->name, text, k->lo,
                    k->hi);
    if (k->form == ATTACK_COUNT && v != floor(v))
        return fail(ERR_ARG, "attack: %s='%s' is not a whole number", k->name, text);
    *out = v;
    return 0;
}

static int refuse_key(const char *word, enum attack_kind kind)
{
    char known[160] = "eps";

    for (const struct attack_key *k = table[kind].type->key; k->name != NULL; k++)
        snprintf(known + strlen(known), sizeof known - strlen(known), ", %s", k->name);
    return fail(ERR_ARG, "attack %s: '%s' is not one of %s", table[kind].word, word, known);
}

static int set_pair(char *pair, struct attack_stage *s)
{
    char *value = strchr(pair, '=');
    const struct attack_key *key;
    double *at;

    if (value == NULL)
        return fail(ERR_ARG, "attack: '%s' is not key=value", pair);
    *value++ = '\0';
    if ((key = find_key(s, pair, &at)) == NULL)
        return refuse_key(pair, s->kind);
    return parse_value(key, value, at);
}

/* Cuts the next piece off *list at a comma; NULL at the end. */
static char *next_piece(char **list)
{
    char *piece = *list;

    if (piece != NULL && (*list = strchr(piece, ',')) != NULL)
        *(*list)++ = '\0';
    return piece;
}

static int parse_single(enum attack_kind kind, char *pairs, struct attack_spec *out)
{
    struct attack_stage s = attack_stage_defaults(kind);

    for (char *pair; (pair = next_piece(&pairs)) != NULL;)
        TRY(set_pair(pair, &s));
    *out = attack_spec_of(&s);
    return 0;
}

static int suite_word(const char *word, size_t *index, double *eps)
{
    const char *version = strncmp(word, "version=", 8) == 0 ? word + 8 : word;

    for (size_t i = 0; i < N_SUITE; i++)
        if (strcmp(version, suite[i].version) == 0) {
            *index = i;
            return 0;
        }
    if (strncmp(word, "eps=", 4) == 0)
        return parse_value(&eps_key, word + 4, eps);
    return fail(
        ERR_ARG,
        "attack autoattack: '%s' is not one of standard, fast, eps=...; single parts such as apgd-t take more",
        word);
}

static int parse_suite(char *words, struct attack_spec *out)
{
    double eps = EPS;
    size_t index = 0;

    for (char *word; (word = next_piece(&words)) != NULL;)
        TRY(suite_word(word, &index, &eps));
    out->n_stage = suite[index].n;
    for (int32_t i = 0; i < out->n_stage; i++) {
        out->stage[i] = attack_stage_defaults(suite[index].kind[i]);
        out->stage[i].eps = eps;
    }
    snprintf(out->name, sizeof out->name, "%s", suite[index].name);
    return 0;
}

int attack_spec_parse(const char *text, struct attack_spec *out)
{
    const size_t head = strcspn(text, ":,");
    struct attack_spec spec = {0};
    char copy[SPEC_MAX];

    if (strlen(text) >= sizeof copy)
        return fail(ERR_ARG, "attack: the text has more than %d characters", SPEC_MAX - 1);
    strcpy(copy, text);
    char *rest = text[head] != '\0' ? copy + head + 1 : NULL;
    copy[head] = '\0';
    if (strcmp(copy, "autoattack") == 0)
        TRY(parse_suite(rest, &spec));
    for (int kind = 0; spec.n_stage == 0 && kind < ATTACK_KINDS; kind++)
        if (strcmp(copy, table[kind].word) == 0)
            TRY(parse_single((enum attack_kind)kind, rest, &spec));
    if (spec.n_stage == 0)
        return fail(ERR_ARG, "attack '%s' is not one of " ATTACK_WORDS, text);
    *out = spec;
    return 0;
}

/* ---- printing -------------------------------------------------------------------------------- */

bool attack_stage_value(const struct attack_stage *s, int32_t index, struct attack_value *out)
{
    const struct attack_key *k = index == 0 ? &eps_key : &table[s->kind].type->key[index - 1];

    if (k->name == NULL)
        return false;
    *out = (struct attack_value){.key = k->name,
                                 .number = index == 0 ? s->eps : s->value[index - 1],
                                 .whole = k->form == ATTACK_COUNT};
    if (k->form == ATTACK_CHOICE) {
        out->word = k->word[out->number != 0];
        out->number = 0;
    }
    return true;
}

const char *attack_stage_text(const struct attack_stage *s, char buf[ATTACK_TEXT])
{
    struct attack_value v;
    size_t n = (size_t)snprintf(buf, ATTACK_TEXT, "%s", table[s->kind].word);

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
    return table[s->kind].type->cost(s, classes);
}

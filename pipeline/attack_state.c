/* The state file of long attacks; see attack_state.h for its form. */
#include "pipeline/attack_state.h"

#include <stdio.h>
#include <string.h>

#include "core/base/json.h"
#include "core/base/file.h"
#include "core/base/mem.h"

#define FORMAT "linnet.attackstate/1"
#define MOST_BYTES ((size_t)1 << 28)

struct attack_state {
    char *path;
    json_t *root;
};

static void key_of(int branch, int32_t attack, char key[32])
{
    snprintf(key, 32, "%s/%d", branch == 1 ? "adv" : "clean", (int)attack);
}

/* The first key of `want` that `got` has otherwise; NULL if none. */
static const char *difference(json_t *want, json_t *got)
{
    const char *key;
    json_t *value;

    json_object_foreach(want, key,
                        value) if (!json_equal(value, json_object_get(got, key))) return key;
    return NULL;
}

static int read_existing(struct attack_state *s, json_t *identity)
{
    SCOPED(json_decref_at) json_t *root = NULL;
    const char *format = NULL, *differs;
    OWNED uint8_t *data = NULL;
    json_error_t e;
    size_t len;

    TRY(file_read(s->path, MOST_BYTES, &data, &len));
    root = json_loadb((const char *)data, len, JSON_REJECT_DUPLICATES, &e);
    json_t *mine = json_object_get(root, "identity");
    if (json_unpack(root, "{s:s}", "format", &format) < 0 || strcmp(format, FORMAT) != 0 ||
        !json_is_object(mine) || !json_is_object(json_object_get(root, "runs")))
        return fail(ERR_FORMAT, "'%s' is not a state file of an attack", s->path);
    if ((differs = difference(identity, mine)) != NULL ||
        (differs = difference(mine, identity)) != NULL)
        return fail(
            ERR_ARG,
            "--state %s: belongs to another evaluation ('%s' differs); name another file or remove it",
            s->path, differs);
    s->root = mem_hand_on(&root);
    return 0;
}

static bool exists(const char *path)
{
    FILE *f = fopen(path, "rb");

    if (f != NULL)
        fclose(f);
    return f != NULL;
}

int attack_state_open(const char *path, json_t *identity, struct attack_state **out)
{
    struct attack_state *s = mem_array(1, sizeof *s);
    int rc = 0;

    if (s == NULL || identity == NULL || (s->path = mem_strdup(path)) == NULL)
        rc = fail(ERR_NOMEM, "out of memory");
    else if (exists(path))
        rc = read_existing(s, identity);
    else if ((s->root = json_pack("{s:s,s:O,s:{}}", "format", FORMAT, "identity", identity,
                                  "runs")) == NULL)
        rc = fail(ERR_NOMEM, "out of memory");
    json_decref(identity);
    if (rc < 0)
        attack_state_close(s);
    else
        *out = s;
    return rc;
}

void attack_state_close(struct attack_state *s)
{
    if (s == NULL)
        return;
    json_decref(s->root);
    mem_free(s->path);
    mem_free(s);
}

int attack_state_load(const struct attack_state *s, int branch, int32_t attack,
                      struct attack_progress *p)
{
    const char *robust;
    json_int_t stage, next, v;
    json_t *run, *after;
    char key[32];

    key_of(branch, attack, key);
    if ((run = json_object_get(json_object_get(s->root, "runs"), key)) == NULL)
        return 0;
    if (json_unpack(run, "{s:I,s:I,s:s,s:o}", "stage", &stage, "next", &next, "robust", &robust,
                    "robust_after", &after) < 0 ||
        stage < 0 || stage > ATTACK_MAX_STAGES || next < 0 || next >= p->n ||
        strlen(robust) != (size_t)p->n || strspn(robust, "01") != (size_t)p->n ||
        json_array_size(after) != (size_t)stage)
        return fail(ERR_FORMAT, "'%s': run '%s' is damaged", s->path, key);
    p->stage = (int32_t)stage;
    p->next = next;
    for (int64_t i = 0; i < p->n; i++)
        p->robust[i] = robust[i] == '1';
    for (size_t i = 0; i < json_array_size(after); i++) {
        v = json_integer_value(json_array_get(after, i));
        p->robust_after[i] = v;
    }
    return 1;
}

static int write_file(const struct attack_state *s)
{
    OWNED char *text = json_spell(s->root, JSON_INDENT(1) | JSON_SORT_KEYS);

    if (text == NULL)
        return fail(ERR_NOMEM, "out of memory");
    return file_write_atomic(s->path, FILE_PUBLIC, text, strlen(text));
}

int attack_state_save(struct attack_state *s, int branch, int32_t attack,
                      const struct attack_progress *p)
{
    OWNED char *robust = mem_array((size_t)p->n + 1, 1);
    char key[32];

    if (robust == NULL)
        return ERR_NOMEM;
    for (int64_t i = 0; i < p->n; i++)
        robust[i] = p->robust[i] ? '1' : '0';
    json_t *after = json_array();
    for (int32_t i = 0; i < p->stage; i++)
        json_add(&after, json_integer((json_int_t)p->robust_after[i]));
    key_of(branch, attack, key);
    return json_object_set_new(json_object_get(s->root, "runs"), key,
                               json_pack("{s:i,s:I,s:s,s:o}", "stage", (int)p->stage, "next",
                                         (json_int_t)p->next, "robust", robust, "robust_after",
                                         after)) < 0
               ? fail(ERR_NOMEM, "out of memory")
               : write_file(s);
}

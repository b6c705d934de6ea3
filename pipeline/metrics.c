/* metrics.jsonl; see metrics.h. A last line without its newline is what a kill left: dropped. */
#include "pipeline/metrics.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "core/base/buf.h"
#include "core/base/json.h"
#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/base/ranks.h"

#define METRICS_LIMIT ((size_t)256 << 20)

static int remember(struct metrics *m, const char *text, size_t len)
{
    OWNED char *copy = mem_array(len + 1, 1);

    if (copy == NULL)
        return ERR_NOMEM;
    TRY(mem_grow(&m->line, (size_t)m->n + 1, &m->cap, sizeof *m->line));
    memcpy(copy, text, len);
    m->line[m->n++] = (struct metrics_line){mem_hand_on(&copy), json_loadb(text, len, 0, NULL)};
    return 0;
}

static int read_lines(struct metrics *m)
{
    OWNED uint8_t *bytes = NULL;
    size_t len = 0;

    TRY(file_read(m->path, METRICS_LIMIT, &bytes, &len));
    for (size_t at = 0; at < len;) {
        const char *text = (const char *)bytes + at, *end = memchr(text, '\n', len - at);

        if (end == NULL)
            break;
        TRY(remember(m, text, (size_t)(end - text)));
        at += (size_t)(end - text) + 1;
    }
    return 0;
}

/* The file with exactly the lines in memory, open to append. */
static int rewrite(struct metrics *m)
{
    SCOPED(file_writer_abort_at) struct file_writer *w = NULL;

    if (m->file)
        fclose(m->file);
    m->file = NULL;
    TRY(file_writer_open(m->path, FILE_PUBLIC, &w));
    for (int32_t i = 0; i < m->n; i++) {
        TRY(file_writer_append(w, m->line[i].text, strlen(m->line[i].text)));
        TRY(file_writer_append(w, "\n", 1));
    }
    TRY(file_writer_commit(&w));
    if ((m->file = fopen(m->path, "a")) == NULL)
        return fail(ERR_IO, "'%s': cannot be written: %s", m->path, strerror(errno));
    return 0;
}

int metrics_open(struct metrics *m, const char *path, bool keep)
{
    *m = (struct metrics){.path = mem_strdup(path)};
    if (m->path == NULL)
        return ERR_NOMEM;
    if (ranks_index() > 0)
        return 0;
    if (keep && access(path, F_OK) == 0)
        TRY(read_lines(m));
    return rewrite(m);
}

static void drop(struct metrics_line *l)
{
    mem_free(l->text);
    json_decref(l->root);
}

void metrics_close(struct metrics *m)
{
    if (m->file)
        fclose(m->file);
    for (int32_t i = 0; i < m->n; i++)
        drop(&m->line[i]);
    mem_free(m->line);
    mem_free(m->path);
    *m = (struct metrics){0};
}

int metrics_add(struct metrics *m, const char *json)
{
    TRY(remember(m, json, strlen(json)));
    if (fprintf(m->file, "%s\n", json) < 0 || fflush(m->file) != 0)
        return fail(ERR_IO, "'%s': cannot be written: %s", m->path, strerror(errno));
    return 0;
}

static bool is_of(const struct metrics_line *l, const char *key, const char *text)
{
    const char *value = json_string_value(json_object_get(l->root, key));

    return value && strcmp(value, text) == 0;
}

int metrics_rewind(struct metrics *m, const char *stage, int32_t epochs)
{
    int32_t kept = 0;

    for (int32_t i = 0; i < m->n; i++) {
        struct metrics_line *l = &m->line[i];

        if (is_of(l, "stage", stage) &&
            json_integer_value(json_object_get(l->root, "epoch")) > epochs)
            drop(l);
        else
            m->line[kept++] = *l;
    }
    if (kept == m->n)
        return 0;
    m->n = kept;
    return rewrite(m);
}

static double number(const struct metrics_line *l, const char *key)
{
    return json_number_value(json_object_get(l->root, key));
}

static json_t *stage_json(const struct metrics *m, int32_t first)
{
    const char *stage = json_string_value(json_object_get(m->line[first].root, "stage"));
    double images = 0, seconds = 0, loss = 0, epoch = 0;

    for (int32_t i = first; i < m->n; i++) {
        const struct metrics_line *l = &m->line[i];

        if (!is_of(l, "event", "epoch") || !is_of(l, "stage", stage))
            continue;
        images += number(l, "images");
        seconds += number(l, "seconds");
        epoch = number(l, "epoch");
        loss = number(l, "loss");
    }
    return json_pack("{s:s,s:I,s:f,s:f,s:f}", "name", stage, "epochs", (json_int_t)epoch, "seconds",
                     seconds, "images_per_s", seconds > 0 ? images / seconds : 0, "loss", loss);
}

/* Is line i the first epoch line of its stage? */
static bool begins_stage(const struct metrics *m, int32_t i)
{
    const char *stage = json_string_value(json_object_get(m->line[i].root, "stage"));

    if (!is_of(&m->line[i], "event", "epoch") || stage == NULL)
        return false;
    for (int32_t k = 0; k < i; k++)
        if (is_of(&m->line[k], "event", "epoch") && is_of(&m->line[k], "stage", stage))
            return false;
    return true;
}

json_t *metrics_stages(const struct metrics *m)
{
    json_t *list = json_array();

    for (int32_t i = 0; list && i < m->n; i++)
        if (begins_stage(m, i))
            json_add(&list, stage_json(m, i));
    return list;
}

json_t *metrics_events(const struct metrics *m, const char *event)
{
    json_t *list = json_array();

    for (int32_t i = 0; list && i < m->n; i++) {
        if (!is_of(&m->line[i], "event", event))
            continue;
        json_t *copy = json_copy(m->line[i].root);
        json_object_del(copy, "event");
        json_add(&list, copy);
    }
    return list;
}

/* ---- metrics.csv ----------------------------------------------------------------------------- */

#define CSV_LIMIT ((size_t)64 << 20)

typedef void csv_fn(void *ctx, const char *key, const json_t *v);

/* Every number and text of an object, one in it as "outer.inner". */
static void each_field(const json_t *o, csv_fn *say, void *ctx)
{
    const char *key, *inner;
    char name[128];
    json_t *v, *w;

    json_object_foreach((json_t *)o, key, v)
    {
        if (!json_is_object(v))
            say(ctx, key, v);
        json_object_foreach(v, inner, w)
        {
            snprintf(name, sizeof name, "%s.%s", key, inner);
            say(ctx, name, w);
        }
    }
}

static bool is_cell(const json_t *v)
{
    return json_is_number(v) || json_is_string(v) || json_is_boolean(v);
}

static void add_column(void *ctx, const char *key, const json_t *v)
{
    json_t **columns = ctx;

    if (*columns != NULL && is_cell(v) && json_object_get(*columns, key) == NULL)
        json_put(columns, key, json_null());
}

struct csv_row {
    const char *want;
    const json_t *found;
};

static void find_cell(void *ctx, const char *key, const json_t *v)
{
    struct csv_row *row = ctx;

    if (is_cell(v) && strcmp(key, row->want) == 0)
        row->found = v;
}

/* Texts are names of ours, without commas and quotes. */
static void put_cell(struct buf_writer *w, const json_t *v)
{
    char text[64] = "";

    if (json_is_integer(v))
        snprintf(text, sizeof text, "%lld", (long long)json_integer_value(v));
    else if (json_is_real(v))
        snprintf(text, sizeof text, "%.9g", json_real_value(v));
    else if (json_is_boolean(v))
        snprintf(text, sizeof text, "%d", json_is_true(v));
    else if (json_is_string(v))
        snprintf(text, sizeof text, "%s", json_string_value(v));
    buf_put_bytes(w, text, strlen(text));
}

static void put_row(struct buf_writer *w, json_t *columns, const json_t *line)
{
    const char *key, *gap = "";
    json_t *unused;

    json_object_foreach(columns, key, unused)
    {
        struct csv_row row = {key, NULL};

        buf_put_bytes(w, gap, strlen(gap));
        gap = ",";
        if (line == NULL) {
            buf_put_bytes(w, key, strlen(key));
            continue;
        }
        each_field(line, find_cell, &row);
        put_cell(w, row.found);
    }
    buf_put_u8(w, '\n');
}

int metrics_write_csv(const struct metrics *m)
{
    const char *tail = strrchr(m->path, '.');
    SCOPED(buf_release) struct buf_writer w = buf_writer_to(CSV_LIMIT);
    SCOPED(json_decref_at) json_t *columns = json_object();
    char path[4096];

    for (int32_t i = 0; i < m->n; i++)
        if (is_of(&m->line[i], "event", "epoch"))
            each_field(m->line[i].root, add_column, &columns);
    if (columns == NULL)
        return fail(ERR_NOMEM, "out of memory for metrics.csv");
    if (json_object_size(columns) == 0) /* nothing was trained */
        return 0;
    put_row(&w, columns, NULL);
    for (int32_t i = 0; i < m->n; i++)
        if (is_of(&m->line[i], "event", "epoch"))
            put_row(&w, columns, m->line[i].root);
    TRY(buf_status(&w));
    if (snprintf(path, sizeof path, "%.*s.csv", (int)(tail - m->path), m->path) >= (int)sizeof path)
        return fail(ERR_LIMIT, "metrics.csv: the path is too long");
    return file_write_atomic(path, FILE_PUBLIC, w.data, w.len);
}

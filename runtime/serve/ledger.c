/* Budgets and their file (ledger.h). Clients are found by a table with open addressing; their names are
 * hashes, so the first bytes are as good as any. */
#define _DEFAULT_SOURCE /* flock */
#include "runtime/serve/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/base/sha256.h"

#define DAY 86400
#define CHECK 16 /* digits */
#define LINE 256 /* longest record */
#define FIRST "linnet ledger 1\n"
#define FILE_MOST ((size_t)1 << 30)

static const char *const event_name[LEDGER_EVENTS] = {
    "begin-prepare", "begin-query", "usable", "answered", "aborted", "strike", "ban", "carried",
};

struct client {
    bool taken, banned;
    uint8_t id[LEDGER_ID];
    int64_t day, begun; /* of that day */
    int64_t strikes;
    double tokens, filled; /* images it may begin at once; when that was true */
};
struct ledger {
    struct ledger_rules rules;
    const char *path; /* NULL: none */
    int fd;
    off_t size; /* bytes of whole records */
    char check[CHECK + 1];
    size_t n, room; /* clients; slots, a power of two */
    struct client *client;
};

/* ---- clients ------------------------------------------------------------------------------ */

static struct client *slot_of(struct client *table, size_t room, const uint8_t id[LEDGER_ID])
{
    uint64_t h;
    size_t i;

    memcpy(&h, id, sizeof h);
    for (i = (size_t)h & (room - 1); table[i].taken; i = (i + 1) & (room - 1))
        if (memcmp(table[i].id, id, LEDGER_ID) == 0)
            break;
    return &table[i];
}

static int grow(struct ledger *l)
{
    size_t room = l->room == 0 ? 64 : 2 * l->room;
    struct client *table = mem_array(room, sizeof *table);

    if (table == NULL)
        return ERR_NOMEM;
    for (size_t i = 0; i < l->room; i++)
        if (l->client[i].taken)
            *slot_of(table, room, l->client[i].id) = l->client[i];
    mem_free(l->client);
    l->client = table;
    l->room = room;
    return 0;
}

static int find(struct ledger *l, const uint8_t id[LEDGER_ID], struct client **out)
{
    struct client *c;

    if (2 * (l->n + 1) > l->room)
        TRY(grow(l));
    c = slot_of(l->client, l->room, id);
    if (!c->taken) {
        *c = (struct client){.taken = true, .tokens = fmax(1, l->rules.rate)};
        memcpy(c->id, id, LEDGER_ID);
        l->n++;
    }
    *out = c;
    return 0;
}

static const struct client *look_up(const struct ledger *l, const uint8_t id[LEDGER_ID])
{
    const struct client *c = l->room == 0 ? NULL : slot_of(l->client, l->room, id);

    return c != NULL && c->taken ? c : NULL;
}

static int64_t day_of(double now)
{
    return (int64_t)floor(now / DAY);
}

bool ledger_banned(const struct ledger *l, const uint8_t id[LEDGER_ID])
{
    const struct client *c = look_up(l, id);

    return c != NULL && c->banned;
}

int64_t ledger_begun(const struct ledger *l, const uint8_t id[LEDGER_ID], double now)
{
    const struct client *c = look_up(l, id);

    return c != NULL && c->day == day_of(now) ? c->begun : 0;
}

int64_t ledger_strikes(const struct ledger *l, const uint8_t id[LEDGER_ID])
{
    const struct client *c = look_up(l, id);

    return c != NULL ? c->strikes : 0;
}

/* What a record says, whoever reads it: the same when it is made and when it is read again. */
static void apply(struct client *c, enum ledger_event event, int64_t count, int64_t day)
{
    if (event == LEDGER_BEGIN_PREPARE || event == LEDGER_BEGIN_QUERY || event == LEDGER_CARRIED) {
        c->begun = c->day == day ? c->begun + count : count;
        c->day = day;
    }
    if (event == LEDGER_STRIKE)
        c->strikes += count;
    if (event == LEDGER_BAN)
        c->banned = true;
}

/* ---- records ------------------------------------------------------------------------------ */

/* The check of a text that follows a record with the check `before`. */
static int check_of(const char before[CHECK], const char *text, size_t n, char out[CHECK + 1])
{
    char all[CHECK + LINE], hex[SHA256_HEX];
    uint8_t digest[SHA256_SIZE];

    memcpy(all, before, CHECK);
    memcpy(all + CHECK, text, n);
    TRY(sha256_bytes(all, CHECK + n, digest));
    memcpy(out, sha256_hex(digest, hex), CHECK);
    out[CHECK] = '\0';
    return 0;
}

/* Writes the record that follows `check`, which becomes its own. */
static int make_record(const uint8_t id[LEDGER_ID], enum ledger_event event, int64_t count,
                       double now, char check[CHECK + 1], char line[LINE])
{
    char hex[SHA256_HEX];
    int n = snprintf(line, LINE, "%" PRId64 " %s %s %" PRId64, (int64_t)now, sha256_hex(id, hex),
                     event_name[event], count);

    TRY(check_of(check, line, (size_t)n, check));
    snprintf(line + n, (size_t)(LINE - n), " %s\n", check);
    return 0;
}

struct record {
    int64_t time, count;
    enum ledger_event event;
    uint8_t id[LEDGER_ID];
};

static int fail_line(const char *path, int64_t number, const char *what)
{
    return fail(ERR_FORMAT, "ledger '%s', line %" PRId64 ": %s", path, number, what);
}

/* line without its end: "TIME ID EVENT COUNT CHECK", one space between two. */
static int read_record(const struct ledger *l, int64_t number, const char *line, size_t n,
                       char check[CHECK + 1], struct record *out)
{
    char text[LINE], id[SHA256_HEX], event[16], found[CHECK + 1], again[LINE];
    int used = 0;

    if (n >= LINE)
        return fail_line(l->path, number, "longer than a record");
    memcpy(text, line, n);
    text[n] = '\0';
    if (sscanf(text, "%" SCNd64 " %64[0-9a-f] %15[a-z-] %" SCNd64 " %16[0-9a-f]%n", &out->time, id,
               event, &out->count, found, &used) != 5 ||
        (size_t)used != n || sha256_parse(id, out->id) < 0)
        return fail_line(l->path, number, "not a record");
    for (out->event = 0; out->event < LEDGER_EVENTS; out->event++)
        if (strcmp(event, event_name[out->event]) == 0)
            break;
    if (out->event == LEDGER_EVENTS || out->count < 0 || out->count > INT32_MAX)
        return fail_line(l->path, number, "an event that this version does not know");
    TRY(make_record(out->id, out->event, out->count, (double)out->time, check, again));
    if (strlen(again) != n + 1 || memcmp(again, line, n) != 0)
        return fail_line(l->path, number,
                         "its check is wrong: the file was changed, or lines are missing");
    return 0;
}

/* Everything that is in the file; l->size: where whole records end. */
static int replay(struct ledger *l, const char *bytes, size_t n)
{
    size_t at = strlen(FIRST);
    int64_t number = 2;

    if (n < at || memcmp(bytes, FIRST, at) != 0)
        return fail_line(l->path, 1, "not a ledger of this version");
    while (at < n) {
        const char *end = memchr(bytes + at, '\n', n - at);
        struct record r;
        struct client *c;
        if (end == NULL)
            break; /* never finished, so that nobody was told to go on */
        TRY(read_record(l, number++, bytes + at, (size_t)(end - bytes) - at, l->check, &r));
        TRY(find(l, r.id, &c));
        apply(c, r.event, r.count, r.time / DAY);
        at = (size_t)(end - bytes) + 1;
    }
    l->size = (off_t)at;
    return 0;
}

/* ---- the file ----------------------------------------------------------------------------- */

static int fail_file(const struct ledger *l, const char *what)
{
    return fail(ERR_IO, "ledger '%s': %s: %s", l->path, what, strerror(errno));
}

static int write_all(struct ledger *l, const char *text, size_t n)
{
    while (n > 0) {
        ssize_t put = write(l->fd, text, n);
        if (put < 0 && errno != EINTR) {
            int e = errno;
            (void)!ftruncate(l->fd, l->size); /* no half of a record before the next one */
            errno = e;
            return fail_file(l, "write");
        }
        text += put > 0 ? put : 0;
        n -= put > 0 ? (size_t)put : 0;
    }
    return 0;
}

static int append(struct ledger *l, const uint8_t id[LEDGER_ID], enum ledger_event event,
                  int64_t count, double now, bool sync)
{
    char line[LINE], check[CHECK + 1];

    if (l->path == NULL)
        return 0;
    memcpy(check, l->check, sizeof check);
    TRY(make_record(id, event, count, now, check, line));
    TRY(write_all(l, line, strlen(line)));
    l->size += (off_t)strlen(line);
    memcpy(l->check, check, sizeof check);
    return sync && fdatasync(l->fd) < 0 ? fail_file(l, "sync") : 0;
}

static int hold(struct ledger *l)
{
    l->fd = open(l->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (l->fd < 0)
        return fail_file(l, "open");
    if (flock(l->fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    return errno == EWOULDBLOCK ? fail(ERR_IO, "ledger '%s': another server holds it", l->path)
                                : fail_file(l, "lock");
}

/* The same sums in a new file: today's images, strikes and bans. */
static int write_sums(struct ledger *l, struct file_writer *w, double now)
{
    char line[LINE], check[CHECK + 1] = "0000000000000000";

    TRY(file_writer_append(w, FIRST, strlen(FIRST)));
    for (size_t i = 0; i < l->room; i++) {
        const struct client *c = &l->client[i];
        const int64_t count[3] = {c->day == day_of(now) ? c->begun : 0, c->strikes, c->banned};
        const enum ledger_event event[3] = {LEDGER_CARRIED, LEDGER_STRIKE, LEDGER_BAN};
        for (int k = 0; k < 3 && c->taken; k++)
            if (count[k] > 0) {
                TRY(make_record(c->id, event[k], count[k], now, check, line));
                TRY(file_writer_append(w, line, strlen(line)));
            }
    }
    memcpy(l->check, check, sizeof check);
    l->size = (off_t)file_writer_size(w);
    return 0;
}

static int compact(struct ledger *l, double now)
{
    SCOPED(file_writer_abort_at) struct file_writer *w = NULL;

    TRY(file_writer_open(l->path, FILE_PRIVATE, &w));
    TRY(write_sums(l, w, now));
    TRY(file_writer_commit(&w));
    close(l->fd);
    return hold(l);
}

static int read_all(struct ledger *l, double now)
{
    OWNED uint8_t *bytes = NULL;
    size_t n = 0;

    TRY(hold(l));
    TRY(file_read(l->path, FILE_MOST, &bytes, &n));
    if (n == 0) {
        TRY(write_all(l, FIRST, strlen(FIRST)));
        l->size = (off_t)strlen(FIRST);
        return fsync(l->fd) < 0 ? fail_file(l, "sync") : 0;
    }
    TRY(replay(l, (const char *)bytes, n));
    if ((size_t)l->size < n && ftruncate(l->fd, l->size) < 0)
        return fail_file(l, "cut");
    return (size_t)l->size > LEDGER_COMPACT ? compact(l, now) : 0;
}

int ledger_open(const char *path, const struct ledger_rules *rules, double now, struct ledger **out)
{
    SCOPED(ledger_close_at) struct ledger *l = mem_array(1, sizeof *l);

    if (l == NULL)
        return ERR_NOMEM;
    l->rules = *rules;
    l->path = path;
    l->fd = -1;
    memset(l->check, '0', CHECK);
    if (path != NULL)
        TRY(read_all(l, now));
    *out = mem_hand_on(&l);
    return 0;
}

void ledger_close(struct ledger *l)
{
    if (l == NULL)
        return;
    if (l->fd >= 0)
        close(l->fd);
    mem_free(l->client);
    mem_free(l);
}

/* ---- what may begin ------------------------------------------------------------------------ */

/* Seconds until the client has an image to spend; a lot may run into debt, which it waits for afterwards. */
static double wait_for_tokens(const struct ledger *l, struct client *c, double now)
{
    const double most = fmax(1, l->rules.rate);

    if (l->rules.rate <= 0)
        return 0;
    if (c->filled > 0 && now > c->filled)
        c->tokens = fmin(most, c->tokens + (now - c->filled) * l->rules.rate);
    c->filled = now;
    return c->tokens >= 1 ? 0 : (1 - c->tokens) / l->rules.rate;
}

int ledger_begin(struct ledger *l, const uint8_t id[LEDGER_ID], enum ledger_event begin,
                 int64_t images, double now, enum ledger_verdict *verdict, double *wait)
{
    struct client *c;

    TRY(find(l, id, &c));
    *wait = wait_for_tokens(l, c, now);
    *verdict = LEDGER_GO;
    if (c->banned)
        *verdict = LEDGER_BANNED;
    else if (l->rules.per_day >= 0 && ledger_begun(l, id, now) + images > l->rules.per_day)
        *verdict = LEDGER_SPENT;
    else if (*wait > 0)
        *verdict = LEDGER_WAIT;
    if (*verdict != LEDGER_GO)
        return 0;
    TRY(append(l, id, begin, images, now, true));
    apply(c, begin, images, day_of(now));
    c->tokens -= (double)images;
    return 0;
}

int ledger_add(struct ledger *l, const uint8_t id[LEDGER_ID], enum ledger_event event,
               int64_t count, double now)
{
    struct client *c;
    int rc;

    TRY(find(l, id, &c));
    rc = append(l, id, event, count, now, event == LEDGER_STRIKE || event == LEDGER_BAN);
    apply(c, event, count, day_of(now)); /* it counts here, also where it cannot be written down */
    if (event == LEDGER_STRIKE && l->rules.strikes > 0 && c->strikes >= l->rules.strikes &&
        !c->banned) {
        int ban = ledger_add(l, id, LEDGER_BAN, 1, now);
        return rc < 0 ? rc : ban;
    }
    return rc;
}

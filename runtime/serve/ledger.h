#ifndef RUNTIME_SERVE_LEDGER_H
#define RUNTIME_SERVE_LEDGER_H
/*
 * What each client has begun, and what it may still begin.
 *
 * A client is 32 bytes, SHA-256 of its public key; clients without a certificate are one client, 32
 * zeros. A preparation or a query is charged when it begins, image by image, whether it is answered or
 * not: who leaves half-way has had what it came for.
 *
 * File: text, a record a line, appended and never changed; "linnet ledger 1" is the first line, then
 *
 *     TIME ID EVENT COUNT CHECK     1764342000 5f3a... begin-query 1 0b1c2d3e4f506172
 *
 * TIME in seconds since 1970, CHECK the first 16 digits of SHA-256(CHECK of the line before, this line up to
 * the space before CHECK), of the first line with sixteen 0. Records that charge, accuse or ban are on the disk before the
 * function that makes them returns: so after kill -9 or a crash of the machine, what was told to go on was
 * charged. A last line without its end was never answered for; it is cut off. Any other line that is wrong
 * is refused. A file beyond LEDGER_COMPACT bytes is summed up when it is opened. One process holds it.
 *
 * Days are those of UTC. Against somebody who puts an older copy of the file in its place it is no help.
 */
#include <stdbool.h>
#include <stdint.h>

#include "core/base/mem.h"

#define LEDGER_ID 32
#define LEDGER_COMPACT ((size_t)64 << 20)

struct ledger_rules {
    int64_t per_day; /* images a client may begin a day; below 0: any number */
    double rate;     /* and a second, on average; 0: any number */
    int64_t strikes; /* after so many it is banned; 0: never */
};
enum ledger_event {
    LEDGER_BEGIN_PREPARE,
    LEDGER_BEGIN_QUERY,
    LEDGER_USABLE,   /* bundles that were made */
    LEDGER_ANSWERED, /* images */
    LEDGER_ABORTED,  /* images begun and not answered */
    LEDGER_STRIKE,   /* a message that no honest client sends */
    LEDGER_BAN,
    LEDGER_CARRIED, /* images of a day, summed up */
    LEDGER_EVENTS
};
enum ledger_verdict { LEDGER_GO, LEDGER_WAIT, LEDGER_SPENT, LEDGER_BANNED };

struct ledger;
/* path: NULL keeps it in memory alone. ERR_FORMAT names the line. now: seconds since 1970, here and below. */
int ledger_open(const char *path, const struct ledger_rules *rules, double now,
                struct ledger **out) MUST_CHECK;
void ledger_close(struct ledger *l); /* NULL is fine */
FREE_AT(ledger_close, struct ledger)
/* Whether the client may begin `images` now. LEDGER_GO: it is charged, and that is on the disk.
 * LEDGER_WAIT: it may in *wait seconds; nothing is charged. */
int ledger_begin(struct ledger *l, const uint8_t id[LEDGER_ID], enum ledger_event begin,
                 int64_t images, double now, enum ledger_verdict *verdict, double *wait) MUST_CHECK;
/* Anything else that happened; a strike may add a ban. */
int ledger_add(struct ledger *l, const uint8_t id[LEDGER_ID], enum ledger_event event,
               int64_t count, double now) MUST_CHECK;
bool ledger_banned(const struct ledger *l, const uint8_t id[LEDGER_ID]);
/* Images that the client has begun today. */
int64_t ledger_begun(const struct ledger *l, const uint8_t id[LEDGER_ID], double now);
int64_t ledger_strikes(const struct ledger *l, const uint8_t id[LEDGER_ID]);
#endif

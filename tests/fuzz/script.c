/* See script.h. */
#include "tests/fuzz/script.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"

static int script_send(void *ctx, const void *bytes, size_t n)
{
    (void)ctx;
    fuzz_touch(bytes, n);
    return 0;
}

static int script_recv(void *ctx, void *bytes, size_t n)
{
    struct script *s = ctx;

    if (n > s->left)
        return fail(ERR_PEER, "the peer closed the connection");
    memcpy(bytes, s->at, n);
    s->at += n;
    s->left -= n;
    return 0;
}

static int script_flush(void *ctx)
{
    (void)ctx;
    return 0;
}

static void script_close(void *ctx)
{
    (void)ctx;
}

void script_open(struct script *s, const uint8_t *bytes, size_t n)
{
    *s = (struct script){.at = bytes,
                         .left = n,
                         .t = {.send = script_send,
                               .recv = script_recv,
                               .flush = script_flush,
                               .close = script_close,
                               .ctx = s}};
}

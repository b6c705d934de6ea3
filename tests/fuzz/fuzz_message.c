/*
 * Messages of the two-party protocol: one party (message_party.h, chosen by the first byte) hears the
 * rest of the input from its peer. Whatever it hears, it ends with an answer or with ERR_PEER, and keeps
 * no secret.
 */
#include <string.h>

#include "core/err.h"
#include "runtime/prg.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/message_party.h"

struct script {
    const uint8_t *at;
    size_t left;
};

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct script s = {data + 1, size > 0 ? size - 1 : 0};
    struct transport t = {script_send, script_recv, script_flush, script_close, &s, {0}, 0, 0};
    int rc;

    if (size == 0)
        return 0;
    rc = message_party(data[0], &t);
    fuzz_must(rc == 0 || rc == ERR_PEER || rc == ERR_NET || rc == ERR_UNSUPPORTED,
              "an error that is not the peer's");
    fuzz_must(rc == 0 || err_message()[0] != '\0', "an error without a message");
    fuzz_must(secret_alive() == 0, "a secret was kept");
    return 0;
}

/* The session of covert_session.h. */
#include "tests/covert_session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/crypto/store.h"

#define KEPT 4 /* ReLUs of the sample network */

void covert_open(struct covert_session *s, const struct covert_rules *rules, bool label)
{
    memset(s, 0, sizeof *s);
    parties_open(&s->b, KEPT, 0, 3);
    parties_expect(&s->b, s->expected);
    memset(s->identity, 7, sizeof s->identity);
    s->server.o = parties_options(&s->b, &relu_gc, false);
    s->o = parties_options(&s->b, NULL, true);
    s->server.o.bundles = s->b.bundles_server;
    s->server.o.identity = s->identity;
    s->server.o.label = label;
    s->server.o.max_bundles = 64;
    s->o.bundles = s->b.bundles_client;
    if (rules != NULL) {
        s->rules = *rules;
        s->server.o.covert = &s->rules;
    }
}

struct party *covert_connect(struct covert_session *s)
{
    struct party *p = NULL;

    assert_int_equal(transport_pair(&s->t, &s->server.t), 0);
    transport_pair_patience(&s->t, 600);
    served_start(&s->server);
    assert_int_equal(party_open(&s->o, &s->t, &p), 0);
    return p;
}

int covert_hang_up(struct covert_session *s, struct party *p)
{
    party_close(p);
    transport_close(&s->t);
    served_join(&s->server);
    return s->server.rc;
}

int64_t covert_count(const char *dir, const char *prefix)
{
    int64_t n;

    assert_int_equal(store_count(dir, prefix, "", &n), 0);
    return n;
}

void covert_forget_files(struct covert_session *s)
{
    const char *const dir[] = {s->b.bundles_client, s->b.bundles_server};

    for (int i = 0; i < 2; i++) {
        assert_int_equal(store_remove(dir[i]), 0);
        assert_int_equal(store_folder(dir[i]), 0);
    }
}

int covert_next_number(struct covert_session *s)
{
    char name[STORE_NAME];

    assert_int_equal(store_next(s->b.bundles_client, BUNDLE_PREFIX, BUNDLE_CLIENT, name), 1);
    return atoi(name + strlen(BUNDLE_PREFIX));
}

int covert_ask(struct party *p, int image, uint64_t y[PARTIES_CLASSES])
{
    float real[PARTIES_INPUTS];
    uint64_t x[PARTIES_INPUTS];

    parties_image(image, real, x);
    return party_query(p, x, y);
}

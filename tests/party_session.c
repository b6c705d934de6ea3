/* Sessions of the tests of two parties (party_session.h). */
#include "tests/party_session.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "tests/plain_relu.h"

struct session session_of(const struct parties *b)
{
    struct session s = {.server = {.o = parties_options(b, &plain_relu, false)},
                        .o = parties_options(b, &plain_relu, true)};

    return s;
}

void session_start(struct session *s)
{
    assert_int_equal(transport_pair(&s->t, &s->server.t), 0);
    served_start(&s->server);
}

void session_end(struct session *s)
{
    transport_close(&s->t);
    served_join(&s->server);
}

void session_ask_all(struct party *p, int first, int64_t expected[PARTIES_IMAGES][PARTIES_CLASSES],
                     bool label)
{
    for (int i = first; i < PARTIES_IMAGES; i++) {
        float image[PARTIES_INPUTS];
        uint64_t x[PARTIES_INPUTS], y[PARTIES_CLASSES];
        parties_image(i, image, x);
        assert_int_equal(party_query(p, x, y), 0);
        if (label)
            assert_int_equal(y[0], parties_best(expected[i]));
        else
            assert_memory_equal(y, expected[i], sizeof y);
    }
}

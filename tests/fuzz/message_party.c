/* See message_party.h. The program, its weights and both models are made once and kept. */
#include "tests/fuzz/message_party.h"

#include <string.h>

#include "runtime/party/party.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/script.h"
#include "tests/plain_relu.h"
#include "tests/plan_sample.h"

enum { KEPT = 16, INPUTS = 32, MAX_RESULTS = 8, SEED = 42, QUERIES = 1 };

static struct plan *plan;
static struct plan_weights *weights;
static struct prepared *model[2]; /* server, client */
static long kept;                 /* secret arrays of the two */

static void prepare_once(void)
{
    if (plan != NULL)
        return;
    plan = plan_sample(KEPT);
    weights = plan_sample_weights(plan, 3);
    fuzz_must(prepared_new(plan, weights, false, &model[0]) == 0 &&
                  prepared_new(plan, NULL, false, &model[1]) == 0,
              "a model of the sample");
    kept = secret_alive();
}

/* ---- a backend without secrets: the client says r, the server answers u ------------------------ */

static int64_t elements(int32_t step, bool out)
{
    const struct plan_step *s = &plan->step[step];

    return plan->tensor[out ? s->out : s->in[0]].count;
}

static int open_server(void *ctx, int32_t step, int64_t images, uint64_t *s)
{
    const size_t in = (size_t)elements(step, false) * 8, out = (size_t)elements(step, true) * 8;
    uint64_t r[4096];

    fuzz_must(in <= sizeof r, "the sample is small");
    for (int64_t i = 0; i < images; i++)
        TRY(transport_recv(ctx, r, in));
    TRY(transport_send(ctx, s, (size_t)images * out));
    return transport_flush(ctx);
}

static int open_client(void *ctx, int32_t step, int64_t images, const uint64_t *r, uint64_t *u)
{
    TRY(transport_send(ctx, r, (size_t)(images * elements(step, false)) * 8));
    return transport_recv(ctx, u, (size_t)(images * elements(step, true)) * 8);
}

static void open_close(void *ctx)
{
    (void)ctx;
}

static int open_plain(const struct linear_setup *o, struct linear_party *out)
{
    *out = (struct linear_party){o->t, open_server, open_client, open_close};
    return 0;
}

static const struct linear_backend plain_linear = {.code = 2, .name = "open", .open = open_plain};

/* ---- a session ---------------------------------------------------------------------------------- */

static int run_client(struct party *p)
{
    const uint64_t x[INPUTS] = {4096, 1, (uint64_t)-4096, 77};
    uint64_t y[MAX_RESULTS];

    fuzz_must(party_schedule(p)->results <= MAX_RESULTS, "the sample has three classes");
    for (int k = 0; k < QUERIES; k++)
        TRY(party_query(p, x, y));
    return 0;
}

static int run_server(struct party *p)
{
    int rc;

    while ((rc = party_answer(p, NULL, NULL)) > 0)
        ;
    return rc;
}

static int run_party(uint8_t choice, struct transport *t)
{
    static const struct relu_backend *const backend[4] = {&plain_relu, &relu_gc, &relu_ot,
                                                          &plain_relu};
    struct party_options o = {.client = choice & MESSAGE_CLIENT,
                              .linear = choice & 16 ? &linear_rlwe : &plain_linear,
                              .test_seed = SEED,
                              .relu = backend[choice >> 1 & 3],
                              .label = choice & MESSAGE_LABEL};
    struct party *p = NULL;
    int rc;

    prepare_once();
    o.model = model[o.client];
    if (o.client && o.relu != &plain_relu)
        o.relu = NULL; /* whatever the server says */
    memset(o.hash, 0x5a, sizeof o.hash);
    if ((rc = party_open(&o, t, &p)) == 0)
        rc = o.client ? run_client(p) : run_server(p);
    party_close(p);
    transport_close(t);
    return rc;
}

void message_session(uint8_t choice, const uint8_t *bytes, size_t n)
{
    struct script s;
    int rc;

    script_open(&s, bytes, n);
    rc = run_party(choice, &s.t);
    fuzz_must(rc == 0 || rc == ERR_PEER || rc == ERR_NET || rc == ERR_UNSUPPORTED,
              "an error that is not the peer's");
    fuzz_must(rc == 0 || err_message()[0] != '\0', "an error without a message");
    fuzz_must(secret_alive() == kept, "a secret was kept");
}

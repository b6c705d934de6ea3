/*
 * Both parties of one package, measured (report.h). Shares come from a test seed, so that the logits
 * must be those of sim2pc, bit for bit.
 */
#include <string.h>

#include "runtime/crypto/store.h"
#include "runtime/report.h"

static struct party_options options_of(const struct bench_case *b, const struct prepared *m,
                                       bool client)
{
    struct party_options o = {.model = m,
                              .client = client,
                              .linear = b->linear,
                              .dealer = b->linear->third_party ? b->folder[!client] : NULL,
                              .bundles = b->lot > 0 ? b->folder[!client] : NULL,
                              .max_bundles = b->queries,
                              .relu = b->relu,
                              .label = b->label,
                              .transfers = b->transfers,
                              .wish = {b->queries, b->ahead},
                              .link = b->link,
                              .test_seed = b->seed};

    memcpy(o.hash, b->plan->identity, sizeof o.hash);
    return o;
}

int bench_random(uint8_t seed, uint8_t *out, size_t n)
{
    const uint8_t key[PRG_SEED] = {seed};
    struct prg *rng = NULL;

    TRY(prg_new(key, &rng));
    prg_bytes(rng, out, n);
    prg_free(rng);
    return 0;
}

int bench_deal(const struct bench_case *b)
{
    return dealer_deal(b->plan, b->plan->identity, b->queries, b->seed, b->folder[0], b->folder[1],
                       NULL, NULL);
}

int bench_folders(const struct bench_case *b)
{
    for (int i = 0; i < 2; i++)
        TRY(bundle_folder(b->folder[i]));
    return 0;
}

void bench_remove_folders(const struct bench_case *b)
{
    for (int i = 0; i < 2; i++)
        if (b->folder[i] != NULL && store_remove(b->folder[i]) < 0)
            return; /* left in the folder for temporary files */
}

/* ---- the server --------------------------------------------------------------------------- */

int bench_serve(const struct bench_case *b, struct tcp_listener *l, double *linear_seconds)
{
    struct prepared *model = NULL;
    struct party_options o;
    struct party *p = NULL;
    struct tcp *tcp = NULL;
    struct transport line = {0};
    int rc;

    if ((rc = prepared_new(b->plan, b->weights, false, &model)) < 0 ||
        (rc = tcp_accept(l, b->seconds, NULL, NULL, &tcp)) < 0)
        goto out;
    tcp_transport(tcp, &line);
    o = options_of(b, model, false);
    if ((rc = party_open(&o, &line, &p)) < 0)
        goto out;
    while ((rc = party_answer(p, NULL, NULL)) > 0)
        ;
    *linear_seconds = party_account(p)->linear_seconds / (double)b->queries;
out:
    party_close(p);
    transport_close(&line);
    prepared_free(model);
    return rc;
}

/* ---- the client --------------------------------------------------------------------------- */

static int prepare_lots(const struct bench_case *b, struct party *p)
{
    for (int64_t at = 0; b->lot > 0 && at < b->queries; at += b->lot)
        TRY(party_prepare(p, b->queries - at < b->lot ? b->queries - at : b->lot));
    return 0;
}

static int ask_all(const struct bench_case *b, struct party *p, int64_t *out)
{
    size_t inputs = (size_t)b->plan->tensor[0].count, size = pi_input_size(b->plan, b->kind);
    size_t results = (size_t)party_schedule(p)->results;
    double *real = mem_array(inputs, sizeof *real);
    uint64_t *x = mem_array(inputs, sizeof *x);
    int rc = real == NULL || x == NULL ? ERR_NOMEM : 0;

    for (int64_t i = 0; i < b->queries && rc == 0; i++) {
        const uint8_t *image = (const uint8_t *)b->images + (size_t)i * size;
        if ((rc = pi_input_real(b->plan, b->kind, image, real)) < 0)
            break;
        pi_input_fixed(b->plan, real, x);
        rc = party_query(p, x, (uint64_t *)out + (size_t)i * results);
    }
    mem_free(real);
    mem_free(x);
    return rc;
}

int bench_ask(const struct bench_case *b, const struct tcp_address *at, int64_t *results,
              struct pi_report *report)
{
    struct prepared *model = NULL;
    struct party_options o;
    struct party *p = NULL;
    struct tcp *tcp = NULL;
    struct transport line = {0};
    int rc;

    if ((rc = prepared_new(b->plan, NULL, false, &model)) < 0 ||
        (rc = tcp_connect(at, b->seconds, &tcp)) < 0)
        goto out;
    tcp_transport(tcp, &line);
    o = options_of(b, model, true);
    if ((rc = party_open(&o, &line, &p)) == 0 && (rc = prepare_lots(b, p)) == 0 &&
        (rc = ask_all(b, p, results)) == 0)
        rc = pi_report_init(report, p, b->plan);
out:
    party_close(p);
    transport_close(&line);
    prepared_free(model);
    return rc;
}

int bench_check(const struct bench_case *b, const int64_t *logits, bool *equal)
{
    struct pi_model *m = NULL;
    size_t n = (size_t)(plan_classes(b->plan) * b->queries);
    int64_t *expected = mem_array(n, sizeof *expected);
    int rc = expected == NULL ? ERR_NOMEM : pi_prepare(b->plan, b->weights, PI_SIM2PC, &m);

    if (rc == 0)
        pi_simulate(m, (uint64_t)b->seed, b->linear, b->lot > 1 ? b->lot : 1);
    if (rc == 0 && (rc = pi_run_fixed(m, b->kind, b->images, b->queries, expected)) == 0)
        *equal = memcmp(logits, expected, n * sizeof *expected) == 0;
    mem_free(expected);
    pi_close(m);
    return rc;
}

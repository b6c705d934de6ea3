/*
 * Both parties of one package, measured (report.h). Shares come from a test seed, so that the logits
 * must be those of sim2pc, bit for bit.
 */
#include <string.h>

#include "runtime/crypto/store.h"
#include "runtime/report.h"

/* One party and what it stands on. */
struct side {
    struct prepared *model;
    struct party_options options;
    struct transport line;
    struct party *party;
};

static void side_close(struct side *y)
{
    party_close(y->party);
    transport_close(&y->line);
    prepared_free(y->model);
}

static int side_open(struct side *y, const struct bench_case *b, bool client, struct tcp *tcp)
{
    y->options =
        (struct party_options){.model = y->model,
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
    memcpy(y->options.hash, b->plan->identity, sizeof y->options.hash);
    tcp_transport(tcp, &y->line);
    return party_open(&y->options, &y->line, &y->party);
}

int bench_random(uint8_t seed, uint8_t *out, size_t n)
{
    const uint8_t key[PRG_SEED] = {seed};
    SCOPED(prg_free_at) struct prg *rng = NULL;

    TRY(prg_new(key, &rng));
    prg_bytes(rng, out, n);
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
    SCOPED(side_close) struct side y = {0};
    struct tcp *tcp = NULL;
    int rc;

    TRY(prepared_new(b->plan, b->weights, false, &y.model));
    TRY(tcp_accept(l, b->seconds, NULL, NULL, &tcp));
    TRY(side_open(&y, b, false, tcp));
    while ((rc = party_answer(y.party, NULL, NULL)) > 0)
        ;
    *linear_seconds = party_account(y.party)->linear_seconds / (double)b->queries;
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
    OWNED double *real = mem_array(inputs, sizeof *real);
    OWNED uint64_t *x = mem_array(inputs, sizeof *x);

    if (real == NULL || x == NULL)
        return ERR_NOMEM;
    for (int64_t i = 0; i < b->queries; i++) {
        TRY(pi_input_real(b->plan, b->kind, (const uint8_t *)b->images + (size_t)i * size, real));
        pi_input_fixed(b->plan, real, x);
        TRY(party_query(p, x, (uint64_t *)out + (size_t)i * results));
    }
    return 0;
}

int bench_ask(const struct bench_case *b, const struct tcp_address *at, int64_t *results,
              struct pi_report *report)
{
    SCOPED(side_close) struct side y = {0};
    struct tcp *tcp = NULL;

    TRY(prepared_new(b->plan, NULL, false, &y.model));
    TRY(tcp_connect(at, b->seconds, &tcp));
    TRY(side_open(&y, b, true, tcp));
    TRY(prepare_lots(b, y.party));
    TRY(ask_all(b, y.party, results));
    return pi_report_init(report, y.party, b->plan);
}

int bench_check(const struct bench_case *b, const int64_t *logits, bool *equal)
{
    SCOPED(pi_close_at) struct pi_model *m = NULL;
    size_t n = (size_t)(plan_classes(b->plan) * b->queries);
    OWNED int64_t *expected = mem_array(n, sizeof *expected);

    if (expected == NULL)
        return ERR_NOMEM;
    TRY(pi_prepare(b->plan, b->weights, PI_SIM2PC, &m));
    pi_simulate(m, (uint64_t)b->seed, b->linear, b->lot > 1 ? b->lot : 1);
    TRY(pi_run_fixed(m, b->kind, b->images, b->queries, expected));
    *equal = memcmp(logits, expected, n * sizeof *expected) == 0;
    return 0;
}

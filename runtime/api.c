/*
 * The public C API (pi.h) over packages (model.h) and parties (party/party.h).
 *
 * A session owns its transport, never the connection below it: a socket is borrowed (tcp_borrow),
 * callbacks have nothing to close. Names of options are data: one table, one setter.
 */
#include "runtime/pi.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/sha256.h"
#include "core/base/version.h"
#include "runtime/cost/cost.h"
#include "runtime/model.h"
#include "runtime/net/tcp.h"
#include "runtime/party/party.h"

#define TIMEOUT 60.0 /* seconds */
#define MAX_BUNDLES 100

_Static_assert((int)LINNET_PI_NOMEM == ERR_NOMEM && (int)LINNET_PI_DATA == ERR_DATA &&
                   (int)LINNET_PI_PEER == ERR_PEER && (int)LINNET_PI_INTERRUPTED == ERR_INTERRUPTED,
               "the codes are the same");
_Static_assert((int)LINNET_PI_NORMALIZED == PI_NORMALIZED && (int)LINNET_PI_SIM2PC == PI_SIM2PC &&
                   (int)LINNET_PI_ONLINE == PHASE_ONLINE,
               "so are kinds of input, modes and phases");

const char *linnet_pi_message(void)
{
    return err_message();
}

const char *linnet_pi_error_name(int code)
{
    return err_name(code);
}

const char *linnet_pi_version(void)
{
    return LINNET_VERSION;
}

FREE_AT(linnet_pi_close, struct linnet_pi_package)
FREE_AT(linnet_pi_options_free, struct linnet_pi_options)
FREE_AT(linnet_pi_end, struct linnet_pi_session)

/* ---- packages ----------------------------------------------------------------------------- */

struct linnet_pi_package {
    struct plan *plan;
    struct plan_weights *weights; /* NULL: a client's */
    struct prepared *prepared;    /* for sessions */
    struct pi_model *model;       /* of the last linnet_pi_run */
    struct linnet_pi_info info;
    char identity[SHA256_HEX];
};

static void fill_info(struct linnet_pi_package *p)
{
    const struct plan *plan = p->plan;
    const int64_t *dim = plan->tensor[0].dim;

    sha256_hex(plan->identity, p->identity);
    p->info = (struct linnet_pi_info){.channels = dim[0],
                                      .height = dim[1],
                                      .width = dim[2],
                                      .classes = plan_classes(plan),
                                      .relus_total = plan->relus,
                                      .relus_kept = plan->relus_kept,
                                      .macs = plan->macs,
                                      .model_id = plan->model_id,
                                      .branch = plan->branch,
                                      .identity = p->identity};
}

int linnet_pi_open(const char *model, const char *weights, struct linnet_pi_package **out)
{
    SCOPED(linnet_pi_close_at) struct linnet_pi_package *p = mem_array(1, sizeof *p);

    if (p == NULL)
        return ERR_NOMEM;
    TRY(plan_read(model, &p->plan));
    if (weights != NULL)
        TRY(plan_weights_read(p->plan, weights, &p->weights));
    TRY(prepared_new(p->plan, p->weights, false, &p->prepared));
    fill_info(p);
    *out = mem_hand_on(&p);
    return 0;
}

void linnet_pi_close(struct linnet_pi_package *p)
{
    if (p == NULL)
        return;
    pi_close(p->model);
    prepared_free(p->prepared);
    plan_weights_free(p->weights);
    plan_free(p->plan);
    mem_free(p);
}

const struct linnet_pi_info *linnet_pi_package_info(const struct linnet_pi_package *p)
{
    return &p->info;
}

const char *linnet_pi_label(const struct linnet_pi_package *p, int64_t class_index)
{
    return class_index >= 0 && class_index < p->plan->n_label ? p->plan->label[class_index] : NULL;
}

size_t linnet_pi_image_size(const struct linnet_pi_package *p, enum linnet_pi_input kind)
{
    return pi_input_size(p->plan, (enum pi_input)kind);
}

int linnet_pi_run(struct linnet_pi_package *p, enum linnet_pi_mode mode, uint64_t test_seed,
                  enum linnet_pi_input kind, const void *images, int64_t n, float *logits)
{
    if (p->weights == NULL)
        return fail(ERR_ARG, "this package was opened without its weights");
    if (p->model == NULL || p->model->mode != (enum pi_mode)mode) {
        pi_close(p->model);
        p->model = NULL;
        TRY(pi_prepare(p->plan, p->weights, (enum pi_mode)mode, &p->model));
    }
    pi_simulate(p->model, test_seed, linear_backend_with(false), 1);
    p->model->images = 0;
    return pi_run(p->model, (enum pi_input)kind, images, n, logits);
}

/* ---- options ------------------------------------------------------------------------------ */

struct linnet_pi_options {
    char *dealer, *bundles;
    const struct relu_backend *relu; /* NULL: the fastest */
    bool label, tally;
    int64_t max_bundles, test_seed;
};

int linnet_pi_options_new(struct linnet_pi_options **out)
{
    struct linnet_pi_options *o = mem_array(1, sizeof *o);

    if (o == NULL)
        return ERR_NOMEM;
    o->max_bundles = MAX_BUNDLES;
    o->test_seed = -1;
    o->tally = true;
    *out = o;
    return 0;
}

void linnet_pi_options_free(struct linnet_pi_options *o)
{
    if (o == NULL)
        return;
    mem_free(o->dealer);
    mem_free(o->bundles);
    mem_free(o);
}

static int set_text(const char *value, char **to)
{
    char *copy = mem_strdup(value);

    if (copy == NULL)
        return ERR_NOMEM;
    mem_free(*to);
    *to = copy;
    return 0;
}

static int set_count(const char *name, const char *value, int64_t *to)
{
    char *end;
    long long v = strtoll(value, &end, 10);

    if (end == value || *end != '\0' || v < 0)
        return fail(ERR_ARG, "option '%s': '%s' is no number from 0", name, value);
    *to = v;
    return 0;
}

static int set_relu(const char *value, const struct relu_backend **to)
{
    const struct relu_backend *r = relu_backend_find(value);

    if (r == NULL && strcmp(value, "auto") != 0)
        return fail(ERR_ARG, "option 'relu': there is no ReLU backend '%s'", value);
    *to = r;
    return 0;
}

static int set_reveal(const char *value, bool *label)
{
    if (strcmp(value, "logits") != 0 && strcmp(value, "label") != 0)
        return fail(ERR_ARG, "option 'reveal': 'logits' or 'label', not '%s'", value);
    *label = strcmp(value, "label") == 0;
    return 0;
}

static int set_tally(const char *value, bool *tally)
{
    if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0)
        return fail(ERR_ARG, "option 'tally': 'on' or 'off', not '%s'", value);
    *tally = strcmp(value, "on") == 0;
    return 0;
}

int linnet_pi_options_set(struct linnet_pi_options *o, const char *name, const char *value)
{
    if (value == NULL)
        return fail(ERR_ARG, "option '%s' needs a value", name);
    if (strcmp(name, "dealer") == 0)
        return set_text(value, &o->dealer);
    if (strcmp(name, "bundles") == 0)
        return set_text(value, &o->bundles);
    if (strcmp(name, "test-seed") == 0)
        return set_count(name, value, &o->test_seed);
    if (strcmp(name, "max-bundles") == 0)
        return set_count(name, value, &o->max_bundles);
    if (strcmp(name, "relu") == 0)
        return set_relu(value, &o->relu);
    if (strcmp(name, "reveal") == 0)
        return set_reveal(value, &o->label);
    if (strcmp(name, "tally") == 0)
        return set_tally(value, &o->tally);
    return fail(ERR_ARG, "there is no option '%s'; pi.h lists them", name);
}

const char *linnet_pi_relu_at(int index, const char **text)
{
    const struct relu_backend *const *all = relu_backends();

    for (int i = 0; all[i] != NULL; i++)
        if (i == index) {
            if (text != NULL)
                *text = all[i]->text;
            return all[i]->name;
        }
    return NULL;
}

const char *linnet_pi_linear_at(int index, const char **text)
{
    const struct linear_backend *const *all = linear_backends();

    for (int i = 0; all[i] != NULL; i++)
        if (i == index) {
            if (text != NULL)
                *text = all[i]->text;
            return all[i]->name;
        }
    return NULL;
}

/* ---- streams ------------------------------------------------------------------------------ */

static int stream_send(void *ctx, const void *bytes, size_t n)
{
    const struct linnet_pi_stream *s = ctx;

    return s->send(s->ctx, bytes, n) == 0 ? 0 : fail(ERR_NET, "the caller's stream does not send");
}

static int stream_recv(void *ctx, void *bytes, size_t n)
{
    const struct linnet_pi_stream *s = ctx;

    return s->recv(s->ctx, bytes, n) == 0 ? 0 : fail(ERR_NET, "the caller's stream has ended");
}

static int open_stream(const struct linnet_pi_stream *s, struct transport *out)
{
    struct tcp *tcp = NULL;

    if ((s->send == NULL) != (s->recv == NULL))
        return fail(ERR_ARG, "a stream needs both callbacks or none");
    if (s->send != NULL) {
        *out = (struct transport){
            .send = stream_send, .recv = stream_recv, .ctx = (void *)(uintptr_t)s};
        return 0;
    }
    TRY(tcp_borrow(s->fd, s->seconds > 0 ? s->seconds : TIMEOUT, &tcp));
    tcp_transport(tcp, out);
    return 0;
}

/* ---- sessions ----------------------------------------------------------------------------- */

struct linnet_pi_session {
    const struct linnet_pi_package *package;
    struct linnet_pi_options *o; /* a copy */
    struct party_options party_options;
    struct transport t;
    struct party *party;
    double *real;    /* client: an image */
    uint64_t *x, *y; /* in fixed point; results */
};

static int copy_options(const struct linnet_pi_options *from, struct linnet_pi_options **out)
{
    SCOPED(linnet_pi_options_free_at) struct linnet_pi_options *o = NULL;

    TRY(linnet_pi_options_new(&o));
    if (from != NULL) {
        *o = *from;
        o->dealer = o->bundles = NULL;
        if (from->dealer != NULL)
            TRY(set_text(from->dealer, &o->dealer));
        if (from->bundles != NULL)
            TRY(set_text(from->bundles, &o->bundles));
    }
    *out = mem_hand_on(&o);
    return 0;
}

static int fill_party(struct linnet_pi_session *s, bool client)
{
    const struct linnet_pi_options *o = s->o;
    const struct plan *plan = s->package->plan;

    s->party_options = (struct party_options){.model = s->package->prepared,
                                              .client = client,
                                              .linear = linear_backend_with(o->dealer != NULL),
                                              .dealer = o->dealer,
                                              .bundles = o->bundles,
                                              .max_bundles = o->max_bundles,
                                              .test_seed = o->test_seed,
                                              .tally = o->tally,
                                              .label = o->label};
    memcpy(s->party_options.hash, plan->identity, sizeof s->party_options.hash);
    if (o->bundles != NULL)
        TRY(bundle_folder(o->bundles));
    if (client || o->relu != NULL) {
        s->party_options.relu = client ? NULL : o->relu;
        return 0;
    }
    return cost_fastest_relu(plan,
                             &(struct cost_case){.linear = s->party_options.linear,
                                                 .expected = link_loopback(),
                                                 .label = o->label},
                             &s->party_options.relu);
}

static int start(struct linnet_pi_session *s, const struct linnet_pi_options *o, bool client,
                 const struct linnet_pi_stream *stream)
{
    TRY(copy_options(o, &s->o));
    TRY(fill_party(s, client));
    TRY(open_stream(stream, &s->t));
    TRY(party_open(&s->party_options, &s->t, &s->party));
    if (!client)
        return 0;
    s->real = secret_array((size_t)s->package->plan->tensor[0].count, sizeof *s->real);
    s->x = secret_array((size_t)s->package->plan->tensor[0].count, sizeof *s->x);
    s->y = secret_array((size_t)party_schedule(s->party)->results, sizeof *s->y);
    return s->real != NULL && s->x != NULL && s->y != NULL ? 0 : ERR_NOMEM;
}

static int new_session(const struct linnet_pi_package *p, const struct linnet_pi_options *o,
                       bool client, const struct linnet_pi_stream *stream,
                       struct linnet_pi_session **out)
{
    SCOPED(linnet_pi_end_at) struct linnet_pi_session *s = NULL;

    if (!client && p->weights == NULL)
        return fail(ERR_ARG, "a server needs a package that was opened with its weights");
    if ((s = mem_array(1, sizeof *s)) == NULL)
        return ERR_NOMEM;
    s->package = p;
    TRY(start(s, o, client, stream));
    *out = mem_hand_on(&s);
    return 0;
}

int linnet_pi_client(const struct linnet_pi_package *p, const struct linnet_pi_options *o,
                     const struct linnet_pi_stream *stream, struct linnet_pi_session **out)
{
    return new_session(p, o, true, stream, out);
}

int linnet_pi_server(const struct linnet_pi_package *p, const struct linnet_pi_options *o,
                     const struct linnet_pi_stream *stream, struct linnet_pi_session **out)
{
    return new_session(p, o, false, stream, out);
}

void linnet_pi_end(struct linnet_pi_session *s)
{
    if (s == NULL)
        return;
    party_close(s->party);
    transport_close(&s->t);
    secret_free(s->real);
    secret_free(s->x);
    secret_free(s->y);
    linnet_pi_options_free(s->o);
    mem_free(s);
}

int linnet_pi_label_only(const struct linnet_pi_session *s)
{
    return party_schedule(s->party)->label;
}

static int check_role(const struct linnet_pi_session *s, bool client)
{
    if (s->party_options.client == client)
        return 0;
    return fail(ERR_ARG, "this session is a %s's", client ? "server" : "client");
}

/* The class, and the logits where there are any. */
static void take_results(const struct linnet_pi_session *s, float *logits, int64_t *label)
{
    const struct plan *plan = s->package->plan;
    int64_t best = 0, classes = plan_classes(plan);

    if (linnet_pi_label_only(s)) {
        best = s->y[0] < (uint64_t)classes ? (int64_t)s->y[0] : -1;
    } else {
        for (int64_t k = 0; k < classes; k++) {
            best = (int64_t)s->y[k] > (int64_t)s->y[best] ? k : best;
            if (logits != NULL)
                logits[k] = (float)ldexp((double)(int64_t)s->y[k], -plan->scale);
        }
    }
    if (label != NULL)
        *label = best;
}

int linnet_pi_query(struct linnet_pi_session *s, enum linnet_pi_input kind, const void *image,
                    float *logits, int64_t *label)
{
    const struct plan *plan = s->package->plan;

    TRY(check_role(s, true));
    TRY(pi_input_real(plan, (enum pi_input)kind, image, s->real));
    pi_input_fixed(plan, s->real, s->x);
    TRY(party_query(s->party, s->x, s->y));
    take_results(s, logits, label);
    return 0;
}

int linnet_pi_prepare(struct linnet_pi_session *s, int64_t images)
{
    TRY(check_role(s, true));
    if (s->o->bundles == NULL)
        return fail(ERR_ARG, "option 'bundles' says where what is prepared goes; it is not set");
    return party_prepare(s->party, images);
}

int linnet_pi_answer(struct linnet_pi_session *s)
{
    TRY(check_role(s, false));
    return party_answer(s->party, NULL, NULL);
}

struct linnet_pi_count linnet_pi_counted(const struct linnet_pi_session *s,
                                         enum linnet_pi_phase phase)
{
    const struct cost_count *c = &party_account(s->party)->phase[phase];

    return (struct linnet_pi_count){c->sent, c->received, (double)c->flips / 2, c->seconds};
}

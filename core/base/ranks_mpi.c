/*
 * Ranks by MPI; see ranks.h. A program that no mpirun or srun has started does not start MPI: it works
 * alone, as fast as before.
 *
 * A chain's data visits rank 0, 1 ... R - 1 and then, as the result, 0, 1 ... R - 2: each rank receives it
 * at most twice, 2 (R - 1) times in all, which is what any sum for all must send. Data in flight are told
 * apart by their number, which is the tag; each moves on when its chain is polled.
 */
#include "core/base/ranks.h"

#include <limits.h>
#include <mpi.h>
#include <stdlib.h>

#include "core/base/mem.h"

#define UNIT ((size_t)4)
#define TAGS 8192 /* at least 32767 are allowed; two for each of those in flight */
#define STOP (2 * TAGS)

static struct {       /* MPI's state is the process's, and so is this */
    MPI_Comm comm;    /* of the group; MPI_COMM_WORLD where ranks are not split */
    int count, index; /* in it */
    int all, groups;
    bool on;
    bool tells; /* we were asked to stop, and other groups have been told */
    int told;   /* groups that have told us */
    int64_t received;
} world = {.count = 1, .all = 1, .groups = 1};

/* What a launcher leaves in the environment of those that it starts. */
static bool is_launched(void)
{
    static const char *const name[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE"};

    for (size_t i = 0; i < sizeof name / sizeof *name; i++)
        if (getenv(name[i]) != NULL)
            return true;
    return false;
}

int ranks_begin(void)
{
    int provided;

    if (!is_launched())
        return 0;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS ||
        provided < MPI_THREAD_FUNNELED)
        return fail(ERR_UNSUPPORTED, "this MPI cannot be used by a program with threads");
    world.on = true;
    world.comm = MPI_COMM_WORLD;
    MPI_Comm_size(MPI_COMM_WORLD, &world.count);
    MPI_Comm_rank(MPI_COMM_WORLD, &world.index);
    world.all = world.count;
    if (world.count > RANKS_MOST)
        return fail(ERR_ARG, "%d ranks: at most %d; give each more threads instead", world.count,
                    RANKS_MOST);
    return 0;
}

void ranks_end(void)
{
    if (world.on)
        MPI_Finalize();
    world.on = false;
}

void ranks_abort(int code)
{
    if (world.on && world.all > 1)
        MPI_Abort(MPI_COMM_WORLD, code);
}

int ranks_count(void)
{
    return world.count;
}

int ranks_index(void)
{
    return world.index;
}

int64_t ranks_first(int64_t n, int r)
{
    return n * r / world.count;
}

int ranks_agree(int rc)
{
    int least = rc;

    if (world.count > 1)
        MPI_Allreduce(&rc, &least, 1, MPI_INT, MPI_MIN, world.comm);
    return least == rc ? rc : fail(least, "another rank failed: %s", err_name(least));
}

void ranks_meet(void)
{
    if (world.count > 1)
        MPI_Barrier(world.comm);
}

/* Units are sent as one number of MPI each, so that their count stays small. */
void ranks_gather(void *data, size_t unit, const int64_t *first)
{
    int at[RANKS_MOST], n[RANKS_MOST];
    MPI_Datatype type;

    if (world.count == 1)
        return;
    for (int r = 0; r < world.count; r++) {
        at[r] = (int)first[r];
        n[r] = (int)(first[r + 1] - first[r]);
    }
    MPI_Type_contiguous((int)(unit / UNIT), MPI_INT32_T, &type);
    MPI_Type_commit(&type);
    MPI_Allgatherv(MPI_IN_PLACE, 0, type, data, n, at, type, world.comm);
    MPI_Type_free(&type);
    world.received += (int64_t)unit * (first[world.count] - n[world.index]);
}

static void reduce(void *data, size_t n, MPI_Datatype type, MPI_Op op)
{
    if (world.count > 1)
        MPI_Allreduce(MPI_IN_PLACE, data, (int)n, type, op, world.comm);
}

void ranks_sum(int64_t *data, size_t n)
{
    reduce(data, n, MPI_INT64_T, MPI_SUM);
}

void ranks_least(uint8_t *data, size_t n)
{
    reduce(data, n, MPI_UINT8_T, MPI_MIN);
}

void ranks_most(uint8_t *data, size_t n)
{
    reduce(data, n, MPI_UINT8_T, MPI_MAX);
}

/* ---- groups */

/* Rank, of all, that is the first of group g. */
static int first_of(int g)
{
    return world.all * g / world.groups;
}

int ranks_split(int groups)
{
    int g = 0;

    if (world.all == 1 || groups == 1)
        return 0;
    world.groups = groups;
    while (first_of(g + 1) <= world.index)
        g++;
    MPI_Comm_split(MPI_COMM_WORLD, g, world.index, &world.comm);
    MPI_Comm_size(world.comm, &world.count);
    MPI_Comm_rank(world.comm, &world.index);
    return g;
}

/* The first of a group tells the first of every other, once, by a message of no bytes. */
static void tell_groups(void)
{
    int me;

    MPI_Comm_rank(MPI_COMM_WORLD, &me);
    for (int g = 0; g < world.groups; g++)
        if (first_of(g) != me)
            MPI_Send(NULL, 0, MPI_BYTE, first_of(g), STOP, MPI_COMM_WORLD);
    world.tells = true;
}

static void hear(void)
{
    MPI_Recv(NULL, 0, MPI_BYTE, MPI_ANY_SOURCE, STOP, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    world.told++;
}

bool ranks_asked(bool here)
{
    int64_t asked = here;

    if (world.groups > 1 && world.index == 0) {
        int waits;

        for (;;) {
            MPI_Iprobe(MPI_ANY_SOURCE, STOP, MPI_COMM_WORLD, &waits, MPI_STATUS_IGNORE);
            if (!waits)
                break;
            hear();
        }
        asked += world.told;
    }
    ranks_sum(&asked, 1);
    if (asked > 0 && world.groups > 1 && world.index == 0 && !world.tells)
        tell_groups();
    return asked > 0;
}

/* What was told and not heard yet is received here, so that it does not stop what comes later. */
void ranks_join(void)
{
    int tells = world.tells, all_tell = 0;

    if (world.groups == 1)
        return;
    MPI_Allreduce(&tells, &all_tell, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    while (world.index == 0 && world.told < all_tell - tells)
        hear();
    MPI_Comm_free(&world.comm);
    world.comm = MPI_COMM_WORLD;
    MPI_Comm_rank(MPI_COMM_WORLD, &world.index);
    world.count = world.all;
    world.groups = 1;
    world.told = 0;
    world.tells = false;
}

int64_t ranks_received(void)
{
    return world.received;
}

/* ---- chains */

enum state {
    COMING,  /* the sum of the ranks before is on its way */
    LEAVING, /* with ours, to the next */
    RESULT,  /* all are in it; on its way to us */
    PASSING, /* and from us to the next */
    DONE
};
struct link {
    char *data;
    size_t bytes;
    ranks_add_fn *add;
    void *ctx;
    enum state state;
    MPI_Request request;
    int tag;
};
struct ranks_chain {
    struct link *link;
    size_t n, cap, first; /* those before first are done */
};

int ranks_chain_new(struct ranks_chain **out)
{
    return (*out = mem_array(1, sizeof **out)) != NULL ? 0 : ERR_NOMEM;
}

void ranks_chain_free(struct ranks_chain *c)
{
    if (c != NULL)
        mem_free(c->link);
    mem_free(c);
}

static int after(int r)
{
    return (r + 1) % world.count;
}

static int before(int r)
{
    return (r + world.count - 1) % world.count;
}

static void send(struct link *l, int way)
{
    MPI_Isend(l->data, (int)(l->bytes / UNIT), MPI_INT32_T, after(world.index), 2 * l->tag + way,
              world.comm, &l->request);
}

static void receive(struct link *l, int way)
{
    MPI_Irecv(l->data, (int)(l->bytes / UNIT), MPI_INT32_T, before(world.index), 2 * l->tag + way,
              world.comm, &l->request);
    world.received += (int64_t)l->bytes;
}

/* The ranks from here on: ours is added, or all are. */
static void add_own(struct link *l)
{
    l->add(l->ctx, l->data);
    l->state = world.index < world.count - 1 ? LEAVING : PASSING;
    send(l, l->state == PASSING);
}

/* What came has come, what was sent is sent. */
static void advance(struct link *l)
{
    switch (l->state) {
    case COMING:
        add_own(l);
        break;
    case LEAVING:
        l->state = RESULT;
        receive(l, 1);
        break;
    case RESULT:
        l->state = after(world.index) < world.count - 1 ? PASSING : DONE;
        if (l->state == PASSING)
            send(l, 1);
        break;
    case PASSING:
    case DONE:
        l->state = DONE;
        break;
    }
}

int ranks_chain_put(struct ranks_chain *c, void *data, size_t bytes, ranks_add_fn *add, void *ctx)
{
    struct link *l;

    if (world.count == 1) {
        add(ctx, data);
        return 0;
    }
    TRY(mem_grow(&c->link, c->n + 1, &c->cap, sizeof *c->link));
    l = &c->link[c->n];
    *l = (struct link){data, bytes, add, ctx, COMING, MPI_REQUEST_NULL, (int)(c->n % TAGS)};
    c->n++;
    if (world.index == 0)
        add_own(l);
    else
        receive(l, 0);
    return 0;
}

void ranks_chain_poll(struct ranks_chain *c)
{
    for (size_t i = c->first; i < c->n; i++) {
        struct link *l = &c->link[i];
        int ready = 1;

        while (l->state != DONE && ready) {
            MPI_Test(&l->request, &ready, MPI_STATUS_IGNORE);
            if (ready)
                advance(l);
        }
        if (i == c->first && l->state == DONE)
            c->first++;
    }
}

void ranks_chain_finish(struct ranks_chain *c)
{
    while (c->first < c->n)
        ranks_chain_poll(c);
    c->first = c->n = 0;
}

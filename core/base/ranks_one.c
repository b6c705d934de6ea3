/* A process that works alone; see ranks.h. */
#include "core/base/ranks.h"

#include "core/base/mem.h"

struct ranks_chain {
    char unused;
};

int ranks_begin(void)
{
    return 0;
}

void ranks_end(void)
{
}

void ranks_abort(int code)
{
    (void)code;
}

int ranks_count(void)
{
    return 1;
}

int ranks_index(void)
{
    return 0;
}

int64_t ranks_first(int64_t n, int r)
{
    return r > 0 ? n : 0;
}

int ranks_agree(int rc)
{
    return rc;
}

void ranks_meet(void)
{
}

void ranks_gather(void *data, size_t unit, const int64_t *first)
{
    (void)data, (void)unit, (void)first;
}

void ranks_sum(int64_t *data, size_t n)
{
    (void)data, (void)n;
}

void ranks_least(uint8_t *data, size_t n)
{
    (void)data, (void)n;
}

void ranks_most(uint8_t *data, size_t n)
{
    (void)data, (void)n;
}

bool ranks_asked(bool here)
{
    return here;
}

int ranks_split(int groups)
{
    (void)groups;
    return 0;
}

void ranks_join(void)
{
}

int64_t ranks_received(void)
{
    return 0;
}

int ranks_chain_new(struct ranks_chain **out)
{
    return (*out = mem_array(1, sizeof **out)) != NULL ? 0 : ERR_NOMEM;
}

void ranks_chain_free(struct ranks_chain *c)
{
    mem_free(c);
}

int ranks_chain_put(struct ranks_chain *c, void *data, size_t bytes, ranks_add_fn *add, void *ctx)
{
    (void)c, (void)bytes;
    add(ctx, data);
    return 0;
}

void ranks_chain_poll(struct ranks_chain *c)
{
    (void)c;
}

void ranks_chain_finish(struct ranks_chain *c)
{
    (void)c;
}

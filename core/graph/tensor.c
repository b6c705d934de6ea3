/*
 * Shapes: counts that cannot overflow, text, numpy broadcasting.
 */
#include "core/graph/tensor.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

struct shape shape_list(const int64_t *rank_and_dims)
{
    struct shape s = {.rank = (int32_t)rank_and_dims[0]};

    assert(rank_and_dims[0] >= 0 && rank_and_dims[0] <= SHAPE_MAX_RANK);
    for (int32_t i = 0; i < s.rank; i++)
        s.dim[i] = rank_and_dims[1 + i];
    return s;
}

bool shape_equal(const struct shape *a, const struct shape *b)
{
    if (a->rank != b->rank)
        return false;
    for (int32_t i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i])
            return false;
    return true;
}

bool shape_has_batch(const struct shape *s)
{
    return s->rank > 0 && s->dim[0] == SHAPE_BATCH;
}

int shape_count(const struct shape *s, int64_t *count)
{
    char text[SHAPE_TEXT];
    int64_t n = 1;

    if (s->rank < 0 || s->rank > SHAPE_MAX_RANK)
        return fail(ERR_LIMIT, "shape of rank %" PRId32 ", at most %d", s->rank, SHAPE_MAX_RANK);
    for (int32_t i = 0; i < s->rank; i++) {
        int64_t d = i == 0 && s->dim[0] == SHAPE_BATCH ? 1 : s->dim[i];
        if (d < 0)
            return fail(ERR_FORMAT, "shape %s: dimension %" PRId32 " is negative",
                        shape_text(s, text), i);
        if (d > 0 && n > SHAPE_MAX_COUNT / d)
            return fail(ERR_LIMIT, "shape %s: more than %" PRId64 " elements", shape_text(s, text),
                        SHAPE_MAX_COUNT);
        n *= d;
    }
    *count = n;
    return 0;
}

int64_t shape_elems(const struct shape *s)
{
    int64_t n = 1;

    for (int32_t i = shape_has_batch(s) ? 1 : 0; i < s->rank; i++)
        n *= s->dim[i];
    assert(n >= 0 && n <= SHAPE_MAX_COUNT);
    return n;
}

const char *shape_text(const struct shape *s, char buf[SHAPE_TEXT])
{
    size_t at = 0;

    /* 8 dims of 13 digits fit; larger (refused) dims are cut at the end of the buffer */
    buf[at++] = '[';
    for (int32_t i = 0; i < s->rank && i < SHAPE_MAX_RANK && at < SHAPE_TEXT - 1; i++) {
        const char *comma = i > 0 ? "," : "";
        int n = i == 0 && s->dim[0] == SHAPE_BATCH
                    ? snprintf(buf + at, SHAPE_TEXT - at, "%sN", comma)
                    : snprintf(buf + at, SHAPE_TEXT - at, "%s%" PRId64, comma, s->dim[i]);
        at += (size_t)n;
    }
    if (at > SHAPE_TEXT - 2)
        at = SHAPE_TEXT - 2;
    buf[at] = ']';
    buf[at + 1] = '\0';
    return buf;
}

/* Dimension i of s seen as an array of `rank` dims: missing ones in front are 1. */
static int64_t dim_of(const struct shape *s, int32_t rank, int32_t i)
{
    int32_t own = i - (rank - s->rank);

    return own < 0 ? 1 : s->dim[own];
}

int shape_broadcast(const struct shape *a, const struct shape *b, struct shape *out)
{
    struct shape r = {.rank = a->rank > b->rank ? a->rank : b->rank};
    char ta[SHAPE_TEXT], tb[SHAPE_TEXT];

    for (int32_t i = 0; i < r.rank; i++) {
        int64_t da = dim_of(a, r.rank, i), db = dim_of(b, r.rank, i);
        r.dim[i] = da == 1 ? db : da;
        bool batch_inside = r.dim[i] == SHAPE_BATCH && i > 0;
        if ((da != db && da != 1 && db != 1) || batch_inside)
            return fail(ERR_FORMAT, "shapes %s and %s cannot be broadcast", shape_text(a, ta),
                        shape_text(b, tb));
    }
    *out = r;
    return 0;
}

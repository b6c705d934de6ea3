/* Rounds of comparisons (tournament.h). */
#include "runtime/party/tournament.h"

#include <stddef.h>

int64_t tournament_pairs(const struct tournament *t)
{
    int64_t pairs = 0;

    for (int64_t g = 0; g < t->groups; g++)
        pairs += t->count[g] / 2;
    return pairs;
}

void tournament_round(const struct tournament *t, uint64_t *x, int64_t pairs)
{
    for (int k = 0; k < 2 && t->value[k] != NULL; k++) {
        uint64_t *to = x + k * pairs;
        for (int64_t g = 0; g < t->groups; g++) {
            const uint64_t *v = t->value[k] + g * t->stride;
            for (int32_t i = 0; i < t->count[g] / 2; i++)
                *to++ = v[2 * i] - v[2 * i + 1];
        }
    }
}

void tournament_advance(struct tournament *t, const uint64_t *z, int64_t pairs)
{
    for (int k = 0; k < 2 && t->value[k] != NULL; k++) {
        const uint64_t *from = z + k * pairs;
        for (int64_t g = 0; g < t->groups; g++) {
            uint64_t *v = t->value[k] + g * t->stride;
            int32_t n = t->count[g] / 2;
            for (int32_t i = 0; i < n; i++)
                v[i] = v[2 * i + 1] + *from++;
            if (t->count[g] % 2 == 1)
                v[n] = v[2 * n];
        }
    }
    for (int64_t g = 0; g < t->groups; g++)
        t->count[g] -= t->count[g] / 2;
}

int64_t tournament_skip(int32_t *count, int64_t groups)
{
    int64_t pairs = 0;

    for (int64_t g = 0; g < groups; g++) {
        pairs += count[g] / 2;
        count[g] -= count[g] / 2;
    }
    return pairs;
}

/* The registry of linear backends (linear.h). */
#include "runtime/linear/linear.h"

static const struct linear_backend *const backends[] = {&linear_rlwe, &linear_dealer, NULL};
_Static_assert(sizeof backends / sizeof *backends <= LINEAR_MAX_BACKENDS + 1,
               "cost_machine has room");

const struct linear_backend *const *linear_backends(void)
{
    return backends;
}

const struct linear_backend *linear_backend_with(bool third_party)
{
    const struct linear_backend *const *k = backends;

    while ((*k)->third_party != third_party)
        k++;
    return *k;
}

/* Two parties in one test (pair.h). */
#include "tests/pair.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/base/mem.h"

struct job {
    struct transport t;
    struct pair_half *half;
};

static void *work(void *arg)
{
    struct job *j = arg;

    mem_fail_at(j->half->fail_at);
    j->half->rc = j->half->run(&j->t, j->half->arg);
    j->half->allocations = mem_count();
    mem_fail_at(0);
    j->half->count = j->t.count;
    transport_close(&j->t);
    return NULL;
}

void pair_run(struct pair_half half[2])
{
    struct job job[2] = {{.half = &half[0]}, {.half = &half[1]}};
    pthread_t client;

    assert_int_equal(transport_pair(&job[0].t, &job[1].t), 0);
    assert_int_equal(pthread_create(&client, NULL, work, &job[1]), 0);
    work(&job[0]);
    assert_int_equal(pthread_join(client, NULL), 0);
}

#ifndef CORE_BASE_MEM_H
#define CORE_BASE_MEM_H
/*
 * Checked memory: every allocation of linnet goes through here.
 *
 * All functions that return memory return it zeroed, except where mem_resize and mem_aligned_grow
 * say otherwise, and NULL after fail() wrote the message (ERR_NOMEM, or ERR_LIMIT for a product that
 * overflows). Nothing here aborts.
 */
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

/* n * size zeroed bytes, overflow checked; n == 0 gives a valid pointer. Free with mem_free. */
void *mem_array(size_t n, size_t size);
/* The same, aligned to 64 bytes: float blocks that kernels touch. Free with mem_free. */
void *mem_aligned(size_t n, size_t size);
/* Grows to n * size bytes and keeps the content; new bytes are not zeroed. The old pointer stays
 * valid on failure. Not for mem_aligned pointers. */
void *mem_resize(void *p, size_t n, size_t size);
/* Grows a mem_aligned block, which may be NULL, to n * size bytes and keeps its first `used` bytes; what
 * follows them is not zeroed and takes no memory before it is written. A large block is never there
 * twice. 0 or ERR_NOMEM; then *p still holds the `used` bytes, maybe at another address, unaligned. */
int mem_aligned_grow(void **p, size_t used, size_t n, size_t size) MUST_CHECK;
/* Room for `need` elements in the list that *list (the address of its pointer) has *cap of; it doubles.
 * New ones are not zeroed. ERR_NOMEM: the list is as it was. */
int mem_grow(void *list, size_t need, size_t *cap, size_t size) MUST_CHECK;

char *mem_strdup(const char *s);
void mem_free(void *p);

/* Secret memory: keys, shares, weights. Zeroed, 64-byte aligned; secret_free wipes it. The whole pages
 * inside an array of 16 KiB or more stay out of core dumps and, as far as the system's limit on locked
 * memory goes, out of swap. */
void *secret_array(size_t n, size_t size);
void secret_free(void *p); /* NULL is fine */
/* Bytes of secret arrays that could not be locked so far, of all threads. */
long secret_unlocked(void);
/* Test hook: secret arrays that are alive, of all threads. */
long secret_alive(void);
/* Overwrites secrets so that the compiler cannot leave it out. NULL with n == 0 is fine. */
void wipe(void *p, size_t n);

/* Variables that are released when their block is left, on whichever way. They are initialised where they are
 * declared, with NULL or zeros at least; what is to stay is handed on: *out = mem_hand_on(&p).
 *
 *     OWNED float *x = mem_array(n, sizeof *x);
 *     SECRET uint64_t *key = secret_array(n, sizeof *key);
 *     SCOPED(plan_free_at) struct plan *p = NULL;
 *     SCOPED(buf_release) struct buf b = {0};
 */
#define SCOPED(release) __attribute__((cleanup(release)))
#define OWNED SCOPED(mem_free_at)
#define SECRET SCOPED(secret_free_at)
void mem_free_at(void *variable);
void secret_free_at(void *variable);
/* The value of a pointer variable, which is NULL from then on. */
void *mem_hand_on(void *variable);
/* Defines free_at for a pointer of that type, after the declaration of `free`. */
#define FREE_AT(free, type)                                                                        \
    static inline void free##_at(type **variable)                                                  \
    {                                                                                              \
        free(*variable);                                                                           \
    }

/* An arena: things that die together. Freed by one call. */
struct arena;
/* limit: most bytes the arena may hand out, 0 for no limit (ERR_LIMIT beyond). */
int arena_new(size_t limit, struct arena **out) MUST_CHECK;
void arena_free(struct arena *a); /* NULL is fine */
FREE_AT(arena_free, struct arena)
/* Zeroed, 16-byte aligned (64 where size >= 64). NULL after fail(). */
void *arena_array(struct arena *a, size_t n, size_t size);
char *arena_strdup(struct arena *a, const char *s);
char *arena_printf(struct arena *a, const char *fmt, ...) ERR_PRINTF(2, 3);
size_t arena_used(const struct arena *a);
/* ERR_NOMEM if any request was refused so far, by the arena's limit too: one check after several. */
int arena_status(const struct arena *a) MUST_CHECK;

/* Test hook: the n-th allocation from now (1 = next) fails; 0 switches it off. Per thread. */
void mem_fail_at(long n);
/* Allocations counted on this thread since the last mem_fail_at. */
long mem_count(void);
#endif

/*
 * Checked, zeroed memory, secret memory and arenas.
 *
 * An arena is a list of chunks; requests are cut from the newest one in address order:
 *
 *     arena -> chunk -> chunk -> NULL        chunk: [header, 64 bytes][a][pad][b][  free  ]
 *
 * A request that does not fit opens a chunk of its own size or of the usual size, whichever is
 * larger. Built with AddressSanitizer every request gets its own chunk, so that a write past an
 * array of an arena is seen like one past a malloc.
 *
 * Every public allocating function passes gate() once: that is where the test hook counts, so that
 * a request that an arena could serve without the system fails just as well.
 */
#define _DEFAULT_SOURCE /* madvise */
#include "core/base/mem.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEM_ALIGN 64
#define ARENA_SMALL_ALIGN 16
#if defined(__has_feature)
#if __has_feature(address_sanitizer) /* clang's way to say it */
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define ARENA_CHUNK 0
#else
#define ARENA_CHUNK ((size_t)64 << 10)
#endif

#define FIRST_ELEMENTS 16 /* of a list that grows */
#define HUGE_PAGE ((size_t)2 << 20)
#define HUGE_FROM (2 * HUGE_PAGE)        /* smaller requests are not worth it */
#define GROW_IN_PLACE ((size_t)32 << 20) /* allocations above have pages of their own */

struct chunk {
    struct chunk *next;
    void *base;        /* what to free: the chunk, or a bit before it */
    size_t size, used; /* payload bytes after the header */
};
_Static_assert(sizeof(struct chunk) <= MEM_ALIGN, "a chunk's header fits its place");

struct arena {
    struct chunk *chunks; /* newest first */
    size_t limit;         /* 0: none */
    size_t used;          /* bytes handed out, each request rounded up to its alignment */
    bool refused;         /* a request, at least one */
};

static _Thread_local long fail_at; /* test hook, 0: off */
static _Thread_local long count;

void mem_fail_at(long n)
{
    fail_at = n;
    count = 0;
}

long mem_count(void)
{
    return count;
}

/* Counts one request of n * size bytes; false after fail() where it must not be served. */
static bool gate(size_t n, size_t size, size_t *bytes)
{
    count++;
    if (__builtin_mul_overflow(n, size, bytes) || *bytes > PTRDIFF_MAX - 2 * MEM_ALIGN) {
        fail(ERR_LIMIT, "%zu elements of %zu bytes exceed the address space", n, size);
        return false;
    }
    if (count == fail_at) {
        fail(ERR_NOMEM, "out of memory (%zu bytes, refused by the test)", *bytes);
        return false;
    }
    return true;
}

static void *out_of_memory(size_t bytes)
{
    fail(ERR_NOMEM, "out of memory (%zu bytes)", bytes);
    return NULL;
}

/* Asks for large pages inside [p, p + bytes): hundreds of times fewer page faults. Advice only. */
static void *prefer_huge_pages(void *p, size_t bytes)
{
#ifdef MADV_HUGEPAGE
    if (bytes >= HUGE_FROM) {
        const uintptr_t from = ((uintptr_t)p + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
        const uintptr_t to = ((uintptr_t)p + bytes) / HUGE_PAGE * HUGE_PAGE;

        (void)madvise((void *)from, to - from, MADV_HUGEPAGE);
    }
#endif
    return p;
}

/* `bytes` zeroed bytes at a multiple of 64, or NULL after fail(). */
static void *aligned_zeroed(size_t bytes)
{
    void *p = NULL;

    if (posix_memalign(&p, MEM_ALIGN, bytes > 0 ? bytes : 1) != 0)
        return out_of_memory(bytes);
    return memset(prefer_huge_pages(p, bytes), 0, bytes > 0 ? bytes : 1);
}

void *mem_array(size_t n, size_t size)
{
    size_t bytes;

    if (!gate(n, size, &bytes))
        return NULL;
    void *p = calloc(1, bytes > 0 ? bytes : 1);
    return p != NULL ? p : out_of_memory(bytes);
}

void *mem_aligned(size_t n, size_t size)
{
    size_t bytes;

    return gate(n, size, &bytes) ? aligned_zeroed(bytes) : NULL;
}

void *mem_resize(void *p, size_t n, size_t size)
{
    size_t bytes;

    if (!gate(n, size, &bytes))
        return NULL;
    void *q = realloc(p, bytes > 0 ? bytes : 1);
    return q != NULL ? prefer_huge_pages(q, bytes) : out_of_memory(bytes);
}

int mem_grow(void *list, size_t need, size_t *cap, size_t size)
{
    size_t more = *cap > 0 ? 2 * *cap : FIRST_ELEMENTS;
    void *v;

    if (need <= *cap)
        return 0;
    more = more > need ? more : need;
    memcpy(&v, list, sizeof v);
    if ((v = mem_resize(v, more, size)) == NULL)
        return ERR_NOMEM;
    memcpy(list, &v, sizeof v);
    *cap = more;
    return 0;
}

/* From GROW_IN_PLACE on the system moves pages, not bytes, and keeps the place in the page; whatever
 * else realloc does, the alignment is looked at. */
int mem_aligned_grow(void **p, size_t used, size_t n, size_t size)
{
    size_t bytes;
    void *q;

    if (!gate(n, size, &bytes))
        return ERR_NOMEM;
    if (used >= GROW_IN_PLACE) {
        if ((q = realloc(*p, bytes)) == NULL) {
            out_of_memory(bytes);
            return ERR_NOMEM;
        }
        *p = q;
        if ((uintptr_t)q % MEM_ALIGN == 0) {
            prefer_huge_pages(q, bytes);
            return 0;
        }
    }
    if (posix_memalign(&q, MEM_ALIGN, bytes > 0 ? bytes : 1) != 0) {
        out_of_memory(bytes);
        return ERR_NOMEM;
    }
    prefer_huge_pages(q, bytes);
    if (used > 0)
        memcpy(q, *p, used);
    free(*p);
    *p = q;
    return 0;
}

char *mem_strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *copy = mem_array(n, 1);

    if (copy != NULL)
        memcpy(copy, s, n);
    return copy;
}

void mem_free(void *p)
{
    free(p);
}

/* The variable is a pointer of any type, which a void ** must not read. */
void *mem_hand_on(void *variable)
{
    void *p, *none = NULL;

    memcpy(&p, variable, sizeof p);
    memcpy(variable, &none, sizeof none);
    return p;
}

void mem_free_at(void *variable)
{
    mem_free(mem_hand_on(variable));
}

/* ---- secret memory ------------------------------------------------------------------------ */

#define SECRET_HEAD 64 /* the size, in front of the array; keeps the alignment */

#define SECRET_FROM ((size_t)16 << 10)

static atomic_long alive; /* for tests */
static atomic_long unlocked;

/* The whole pages of an array, which nobody else's secrets share. false: it is too small. */
static bool secret_pages(char *start, size_t bytes, void **from, size_t *n)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)start;
    const uintptr_t first = (at + page - 1) / page * page, end = (at + bytes) / page * page;

    if (bytes < SECRET_FROM || end <= first)
        return false;
    *from = start + (first - at);
    *n = end - first;
    return true;
}

static void secret_keep(char *start, size_t bytes)
{
    void *from;
    size_t n;

    if (!secret_pages(start, bytes, &from, &n))
        return;
    (void)madvise(from, n, MADV_DONTDUMP);
    if (mlock(from, n) < 0)
        atomic_fetch_add(&unlocked, (long)n);
}

/* The pages go back to the heap as they came. */
static void secret_let_go(char *start, size_t bytes)
{
    void *from;
    size_t n;

    if (!secret_pages(start, bytes, &from, &n))
        return;
    (void)munlock(from, n);
    (void)madvise(from, n, MADV_DODUMP);
}

void wipe(void *p, size_t n)
{
    if (n == 0)
        return;
    memset(p, 0, n);
    __asm__ __volatile__("" : : "r"(p) : "memory"); /* somebody may read it: the stores stay */
}

void *secret_array(size_t n, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(n, size, &bytes) ||
        __builtin_add_overflow(bytes, SECRET_HEAD, &bytes)) {
        fail(ERR_LIMIT, "%zu secrets of %zu bytes exceed the address space", n, size);
        return NULL;
    }
    char *p = mem_aligned(bytes, 1);
    if (p == NULL)
        return NULL;
    memcpy(p, &bytes, sizeof bytes);
    secret_keep(p, bytes);
    atomic_fetch_add(&alive, 1);
    return p + SECRET_HEAD;
}

void secret_free(void *p)
{
    char *start = p;
    size_t bytes;

    if (p == NULL)
        return;
    start -= SECRET_HEAD;
    memcpy(&bytes, start, sizeof bytes);
    wipe(start, bytes);
    secret_let_go(start, bytes);
    mem_free(start);
    atomic_fetch_sub(&alive, 1);
}

void secret_free_at(void *variable)
{
    secret_free(mem_hand_on(variable));
}

long secret_unlocked(void)
{
    return atomic_load(&unlocked);
}

long secret_alive(void)
{
    return atomic_load(&alive);
}

/* ---- arenas ------------------------------------------------------------------------------- */

int arena_new(size_t limit, struct arena **out)
{
    struct arena *a = mem_array(1, sizeof *a);

    if (a == NULL)
        return ERR_NOMEM;
    a->limit = limit;
    *out = a;
    return 0;
}

void arena_free(struct arena *a)
{
    if (a == NULL)
        return;
    for (struct chunk *c = a->chunks, *next; c != NULL; c = next) {
        next = c->next;
        free(c->base);
    }
    free(a);
}

/* Large ones come from calloc, which has zeros from the system and need not write them. */
static struct chunk *new_chunk(size_t bytes)
{
    struct chunk *c;
    char *base;

    if (bytes < HUGE_FROM) {
        if ((c = aligned_zeroed(bytes)) != NULL)
            c->base = c;
        return c;
    }
    if ((base = calloc(1, bytes + MEM_ALIGN)) == NULL)
        return out_of_memory(bytes);
    prefer_huge_pages(base, bytes);
    c = (struct chunk *)(void *)(base + MEM_ALIGN - (uintptr_t)base % MEM_ALIGN);
    c->base = base;
    return c;
}

/* Opens a chunk with room for `bytes`; false after fail(). A large request goes after the newest
 * chunk, whose free rest stays in use. */
static bool add_chunk(struct arena *a, size_t bytes, struct chunk **out)
{
    size_t size = bytes > ARENA_CHUNK ? bytes : ARENA_CHUNK;
    struct chunk *c = new_chunk(MEM_ALIGN + size);

    if (c == NULL)
        return false;
    c->size = size;
    if (a->chunks != NULL && size > ARENA_CHUNK) {
        c->next = a->chunks->next;
        a->chunks->next = c;
    } else {
        c->next = a->chunks;
        a->chunks = c;
    }
    *out = c;
    return true;
}

static void *arena_take(struct arena *a, size_t n, size_t size)
{
    size_t bytes;

    if (!gate(n, size, &bytes))
        return NULL;
    size_t align = bytes >= MEM_ALIGN ? MEM_ALIGN : ARENA_SMALL_ALIGN;
    size_t charge = bytes > 0 ? (bytes + align - 1) / align * align : align;
    if (a->limit > 0 && (charge > a->limit || a->used > a->limit - charge)) {
        fail(ERR_LIMIT, "%zu bytes more exceed the memory limit of %zu bytes (%zu in use)", bytes,
             a->limit, a->used);
        return NULL;
    }
    struct chunk *c = a->chunks;
    size_t start = c != NULL ? (c->used + align - 1) / align * align : 0;
    if (c == NULL || start > c->size || bytes > c->size - start || ARENA_CHUNK == 0) {
        if (!add_chunk(a, bytes, &c))
            return NULL;
        start = 0;
    }
    c->used = start + (bytes > 0 ? bytes : 1);
    a->used += charge;
    return (char *)c + MEM_ALIGN + start;
}

void *arena_array(struct arena *a, size_t n, size_t size)
{
    void *p = arena_take(a, n, size);

    a->refused = a->refused || p == NULL;
    return p;
}

int arena_status(const struct arena *a)
{
    return a->refused ? ERR_NOMEM : 0;
}

char *arena_strdup(struct arena *a, const char *s)
{
    size_t n = strlen(s) + 1;
    char *copy = arena_array(a, n, 1);

    if (copy != NULL)
        memcpy(copy, s, n);
    return copy;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap, again;
    char *text = NULL;

    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    if (n < 0) {
        fail(ERR_ARG, "text cannot be formatted");
        a->refused = true;
    } else if ((text = arena_array(a, (size_t)n + 1, 1)) != NULL) {
        vsnprintf(text, (size_t)n + 1, fmt, again);
    }
    va_end(again);
    va_end(ap);
    return text;
}

size_t arena_used(const struct arena *a)
{
    return a->used;
}

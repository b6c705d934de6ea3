/*
 * Correlated GGM trees (cggm.h). The two nodes of level 0 are k and k ^ delta; the children of a
 * node x are H(x) and x ^ H(x), so that the exclusive or of every level is delta. H(x) = p(s(x)) ^
 * s(x) with s(hi, lo) = (hi ^ lo, hi) and p = AES under a public key: circular correlation robust if
 * p is an ideal permutation (Guo, Katz, Wang, Yu, S&P 2020, section 7.3; Half-Tree, theorem 4.3).
 *
 * A level of n nodes lies at [0, n); its left children replace it, the right ones go to [n, 2n).
 *
 * The receiver's node on the path is zero throughout. Its sibling follows from the opened side:
 * it is what is missing in the exclusive or of the other nodes on that side. A node is put in when it
 * is used, one level later, by a mask over all of them, so that no access depends on the path.
 */
#include "runtime/crypto/cggm.h"

#include <string.h>

#include "core/base/cpu.h"

#define PIECE 256 /* nodes in flight: two buffers of 4 KiB */

typedef uint64_t lanes __attribute__((vector_size(16)));

struct cggm {
    lanes parent[PIECE], hashed[PIECE]; /* the array that holds them is on a boundary of 64 bytes */
    struct permutation *p;
    enum cpu_path path;
};

int cggm_new(struct cggm **out)
{
    SCOPED(cggm_free_at) struct cggm *c = secret_array(1, sizeof *c);

    if (c == NULL)
        return ERR_NOMEM;
    TRY(permutation_new(&c->p));
    c->path = cpu_best_path();
    *out = mem_hand_on(&c);
    return 0;
}

void cggm_free(struct cggm *c)
{
    if (c == NULL)
        return;
    permutation_free(c->p);
    secret_free(c);
}

void cggm_key(struct cggm *c, const uint8_t key[16])
{
    permutation_key(c->p, key);
}

static lanes load(const struct block *b)
{
    lanes v;

    memcpy(&v, b, sizeof v);
    return v;
}

static void store(struct block *b, lanes v)
{
    memcpy(b, &v, sizeof v);
}

struct hole {
    uint64_t path, beside; /* places of the node on the path, and of its sibling */
    lanes sibling;         /* which its place still lacks */
};

#define BLOCKS 1
#define PATH(name) name##_generic
#define TARGET
#include "runtime/crypto/cggm_kernel.inc"

#if defined __x86_64__
#define BLOCKS 2
#define PATH(name) name##_avx2
#define TARGET __attribute__((target("avx2")))
#include "runtime/crypto/cggm_kernel.inc"

#define BLOCKS 4
#define PATH(name) name##_avx512
#define TARGET __attribute__((target("avx512f,avx512dq")))
#include "runtime/crypto/cggm_kernel.inc"
#endif

static const struct {
    size_t least; /* nodes of a level */
    lanes (*level)(struct cggm *, struct block *, size_t, const struct hole *);
    void (*put)(struct block *, size_t, const struct hole *, lanes);
    void (*mark)(struct block *, size_t, uint64_t);
} kernels[] = {
    [CPU_GENERIC] = {1, level_generic, put_generic, mark_generic},
#if defined __x86_64__
    [CPU_AVX2] = {2, level_avx2, put_avx2, mark_avx2},
    [CPU_AVX512] = {4, level_avx512, put_avx512, mark_avx512},
#endif
};

/* Of the widest kernels that a level of n nodes fills. */
static enum cpu_path path_for(const struct cggm *c, size_t n)
{
    return n >= kernels[c->path].least ? c->path : CPU_GENERIC;
}

/* As cggm_kernel.inc says; without a hole for the sender. */
static lanes next_level(struct cggm *c, struct block *nodes, size_t n, const struct hole *hole)
{
    return kernels[path_for(c, n)].level(c, nodes, n, hole);
}

void cggm_mark(const struct cggm *c, int depth, uint64_t place, struct block *leaves)
{
    size_t n = (size_t)1 << depth;

    kernels[path_for(c, n)].mark(leaves, n, place);
}

/* ---- sender ------------------------------------------------------------------------------- */

void cggm_grow(struct cggm *c, int depth, struct block delta, struct block seed,
               struct block *leaves, struct block *left)
{
    const struct hole none = {UINT64_MAX, UINT64_MAX, {0, 0}};

    store(&leaves[0], load(&seed));
    store(&leaves[1], load(&seed) ^ load(&delta));
    left[0] = seed;
    for (int level = 1; level < depth; level++)
        store(&left[level], next_level(c, leaves, (size_t)1 << level, &none));
}

/* ---- receiver ----------------------------------------------------------------------------- */

void cggm_fill(struct cggm *c, int depth, uint32_t place, const struct block *opened,
               struct block *leaves)
{
    struct hole hole = {place & 1, ~place & 1, load(&opened[0])};
    lanes known = hole.sibling; /* exclusive or of all nodes but the hidden one */

    size_t all = (size_t)1 << depth;

    memset(leaves, 0, 2 * sizeof *leaves);
    for (int level = 1; level < depth; level++) {
        size_t n = (size_t)1 << level;
        uint64_t side = place >> level & 1;
        lanes left = next_level(c, leaves, n, &hole);
        lanes right = known & (lanes){side - 1, side - 1};

        /* of the side that is opened: the left one (side = 1), else left ^ known */
        hole.sibling = load(&opened[level]) ^ left ^ right;
        hole.path = place & (2 * n - 1);
        hole.beside = hole.path ^ n;
        known ^= hole.sibling;
    }
    kernels[path_for(c, all)].put(leaves, all, &hole, known);
    wipe(&hole, sizeof hole);
    wipe(&known, sizeof known);
}

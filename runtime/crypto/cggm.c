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

#include <stdbool.h>
#include <string.h>

#if defined __x86_64__
#include <immintrin.h>
#endif

#include "core/base/cpu.h"

#define PIECE 256 /* nodes in flight: two buffers of 4 KiB */

typedef uint64_t lanes __attribute__((vector_size(16)));

struct cggm {
    lanes parent[PIECE], hashed[PIECE]; /* the array that holds them is on a boundary of 64 bytes */
    struct permutation *p;
    bool wide; /* the CPU has AVX-512 */
};

int cggm_new(struct cggm **out)
{
    struct cggm *c = secret_array(1, sizeof *c);
    int rc;

    if (c == NULL)
        return ERR_NOMEM;
    if ((rc = permutation_new(&c->p)) < 0) {
        cggm_free(c);
        return rc;
    }
    c->wide = cpu_best_path() >= CPU_AVX512;
    *out = c;
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

/* All ones if a = b, else 0; both below 2^63. */
static uint64_t equal_mask(uint64_t a, uint64_t b)
{
    return (uint64_t)0 - (((a ^ b) - 1) >> 63);
}

struct hole {
    uint64_t path, beside; /* places of the node on the path, and of its sibling */
    lanes sibling;         /* which its place still lacks */
};

#if defined __x86_64__
#define WIDE __attribute__((target("avx512f,avx512dq")))

/* Four nodes at once, for levels of 4 nodes and more; as fill_level, and without a path as grow_level. */
WIDE static lanes level_wide(struct cggm *c, struct block *nodes, size_t n, const struct hole *hole)
{
    const __m512i four = _mm512_set1_epi64(4), path = _mm512_set1_epi64((long long)hole->path);
    const __m512i beside = _mm512_set1_epi64((long long)hole->beside);
    const __m512i sibling = _mm512_broadcast_i64x2((__m128i)hole->sibling);
    __m512i place = _mm512_set_epi64(3, 3, 2, 2, 1, 1, 0, 0), sum = _mm512_setzero_si512();
    __m512i *parent = (__m512i *)c->parent, *hashed = (__m512i *)c->hashed;

    for (size_t at = 0; at < n; at += PIECE) {
        size_t piece = n - at < PIECE ? n - at : PIECE;
        __m512i p = place;

        for (size_t k = 0; k < piece; k += 4, p = _mm512_add_epi64(p, four)) {
            __m512i node = _mm512_loadu_si512(&nodes[at + k]);
            __mmask8 lacks = _mm512_cmpeq_epi64_mask(p, beside);

            parent[k / 4] = _mm512_mask_xor_epi64(node, lacks, node, sibling);
        }
        permutation_hash(c->p, (struct block *)c->hashed, (struct block *)c->parent, piece);
        for (size_t k = 0; k < piece; k += 4, place = _mm512_add_epi64(place, four)) {
            __mmask8 known = _mm512_cmpneq_epi64_mask(place, path);
            __m512i left = _mm512_maskz_mov_epi64(known, hashed[k / 4]);

            _mm512_storeu_si512(&nodes[at + k], left);
            _mm512_storeu_si512(&nodes[n + at + k], _mm512_xor_si512(left, parent[k / 4]));
            sum = _mm512_xor_si512(sum, left);
        }
    }
    return (lanes)_mm_xor_si128(
        _mm_xor_si128(_mm512_extracti64x2_epi64(sum, 0), _mm512_extracti64x2_epi64(sum, 1)),
        _mm_xor_si128(_mm512_extracti64x2_epi64(sum, 2), _mm512_extracti64x2_epi64(sum, 3)));
}

/* As put_sibling. */
WIDE static void put_wide(struct block *nodes, size_t n, const struct hole *hole, lanes known)
{
    const __m512i four = _mm512_set1_epi64(4), path = _mm512_set1_epi64((long long)hole->path);
    const __m512i beside = _mm512_set1_epi64((long long)hole->beside);
    const __m512i sibling = _mm512_broadcast_i64x2((__m128i)hole->sibling);
    const __m512i hidden = _mm512_broadcast_i64x2((__m128i)known);
    __m512i p = _mm512_set_epi64(3, 3, 2, 2, 1, 1, 0, 0);

    for (size_t k = 0; k < n; k += 4, p = _mm512_add_epi64(p, four)) {
        __m512i node = _mm512_loadu_si512(&nodes[k]);

        node = _mm512_mask_xor_epi64(node, _mm512_cmpeq_epi64_mask(p, beside), node, sibling);
        node = _mm512_mask_xor_epi64(node, _mm512_cmpeq_epi64_mask(p, path), node, hidden);
        _mm512_storeu_si512(&nodes[k], node);
    }
}

static bool takes_wide(const struct cggm *c, size_t n)
{
    return c->wide && n >= 4;
}
#else
static void put_wide(struct block *nodes, size_t n, const struct hole *hole, lanes known)
{
    (void)nodes, (void)n, (void)hole, (void)known;
}
static bool takes_wide(const struct cggm *c, size_t n)
{
    (void)c, (void)n;
    return false;
}
static lanes level_wide(struct cggm *c, struct block *nodes, size_t n, const struct hole *hole)
{
    (void)c, (void)nodes, (void)n;
    return hole->sibling;
}
#endif

/* ---- sender ------------------------------------------------------------------------------- */

/* Children of nodes [n]; returns the exclusive or of the left ones. */
static lanes grow_level(struct cggm *c, struct block *nodes, size_t n)
{
    const struct hole none = {UINT64_MAX, UINT64_MAX, {0, 0}};
    lanes sum = {0, 0};

    if (takes_wide(c, n))
        return level_wide(c, nodes, n, &none);
    for (size_t at = 0; at < n; at += PIECE) {
        size_t piece = n - at < PIECE ? n - at : PIECE;

        permutation_hash(c->p, (struct block *)c->hashed, nodes + at, piece);
        for (size_t k = 0; k < piece; k++) {
            lanes left = c->hashed[k];

            store(&nodes[n + at + k], left ^ load(&nodes[at + k]));
            store(&nodes[at + k], left);
            sum ^= left;
        }
    }
    return sum;
}

void cggm_grow(struct cggm *c, int depth, struct block delta, struct block seed,
               struct block *leaves, struct block *left)
{
    store(&leaves[0], load(&seed));
    store(&leaves[1], load(&seed) ^ load(&delta));
    left[0] = seed;
    for (int level = 1; level < depth; level++)
        store(&left[level], grow_level(c, leaves, (size_t)1 << level));
}

/* ---- receiver ----------------------------------------------------------------------------- */

/* Children of nodes [n] with what the hole lacks put in; the path's children are zero again. Returns
 * the exclusive or of the left ones. */
static lanes fill_level(struct cggm *c, struct block *nodes, size_t n, const struct hole *hole)
{
    lanes sum = {0, 0};

    if (takes_wide(c, n))
        return level_wide(c, nodes, n, hole);
    for (size_t at = 0; at < n; at += PIECE) {
        size_t piece = n - at < PIECE ? n - at : PIECE;

        for (size_t k = 0; k < piece; k++) {
            uint64_t beside = equal_mask(at + k, hole->beside);

            c->parent[k] = load(&nodes[at + k]) ^ (hole->sibling & (lanes){beside, beside});
        }
        permutation_hash(c->p, (struct block *)c->hashed, (struct block *)c->parent, piece);
        for (size_t k = 0; k < piece; k++) {
            uint64_t known = ~equal_mask(at + k, hole->path);
            lanes left = c->hashed[k] & (lanes){known, known};

            store(&nodes[at + k], left);
            store(&nodes[n + at + k], left ^ c->parent[k]);
            sum ^= left;
        }
    }
    return sum;
}

/* Nodes of one level, [n], known up to the one beside the hole. */
static void put_sibling(const struct cggm *c, struct block *nodes, size_t n,
                        const struct hole *hole, lanes known)
{
    if (takes_wide(c, n)) {
        put_wide(nodes, n, hole, known);
        return;
    }
    for (size_t k = 0; k < n; k++) {
        uint64_t beside = equal_mask(k, hole->beside), path = equal_mask(k, hole->path);

        store(&nodes[k], load(&nodes[k]) ^ (hole->sibling & (lanes){beside, beside}) ^
                             (known & (lanes){path, path}));
    }
}

void cggm_fill(struct cggm *c, int depth, uint32_t place, const struct block *opened,
               struct block *leaves)
{
    struct hole hole = {place & 1, ~place & 1, load(&opened[0])};
    lanes known = hole.sibling; /* exclusive or of all nodes but the hidden one */

    memset(leaves, 0, 2 * sizeof *leaves);
    for (int level = 1; level < depth; level++) {
        size_t n = (size_t)1 << level;
        uint64_t side = place >> level & 1;
        lanes left = fill_level(c, leaves, n, &hole);
        lanes right = known & (lanes){side - 1, side - 1};

        /* of the side that is opened: the left one (side = 1), else left ^ known */
        hole.sibling = load(&opened[level]) ^ left ^ right;
        hole.path = place & (2 * n - 1);
        hole.beside = hole.path ^ n;
        known ^= hole.sibling;
    }
    put_sibling(c, leaves, (size_t)1 << depth, &hole, known);
    wipe(&hole, sizeof hole);
    wipe(&known, sizeof known);
}

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

#define PIECE 256 /* nodes in flight: three buffers of 4 KiB */

typedef uint64_t lanes __attribute__((vector_size(16)));

struct cggm {
    struct permutation *p;
    lanes parent[PIECE], mixed[PIECE], hashed[PIECE];
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

/* s(x) */
static lanes mix(lanes x)
{
    lanes high = {0, UINT64_MAX}, swapped = {x[1], x[0]};

    return swapped ^ (x & high);
}

static void hash_piece(struct cggm *c, size_t n)
{
    for (size_t k = 0; k < n; k++)
        c->mixed[k] = mix(c->parent[k]);
    permutation_run(c->p, (struct block *)c->hashed, (struct block *)c->mixed, n);
}

/* ---- sender ------------------------------------------------------------------------------- */

/* Children of nodes [n]; returns the exclusive or of the left ones. */
static lanes grow_level(struct cggm *c, struct block *nodes, size_t n)
{
    lanes sum = {0, 0};

    for (size_t at = 0; at < n; at += PIECE) {
        size_t piece = n - at < PIECE ? n - at : PIECE;

        for (size_t k = 0; k < piece; k++)
            c->parent[k] = load(&nodes[at + k]);
        hash_piece(c, piece);
        for (size_t k = 0; k < piece; k++) {
            lanes left = c->hashed[k] ^ c->mixed[k];

            store(&nodes[at + k], left);
            store(&nodes[n + at + k], left ^ c->parent[k]);
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

struct hole {
    uint64_t path, beside; /* places of the node on the path, and of its sibling */
    lanes sibling;         /* which its place still lacks */
};

/* Children of nodes [n] with what the hole lacks put in; the path's children are zero again. Returns
 * the exclusive or of the left ones. */
static lanes fill_level(struct cggm *c, struct block *nodes, size_t n, const struct hole *hole)
{
    lanes sum = {0, 0};

    for (size_t at = 0; at < n; at += PIECE) {
        size_t piece = n - at < PIECE ? n - at : PIECE;

        for (size_t k = 0; k < piece; k++) {
            uint64_t beside = equal_mask(at + k, hole->beside);

            c->parent[k] = load(&nodes[at + k]) ^ (hole->sibling & (lanes){beside, beside});
        }
        hash_piece(c, piece);
        for (size_t k = 0; k < piece; k++) {
            uint64_t known = ~equal_mask(at + k, hole->path);
            lanes left = (c->hashed[k] ^ c->mixed[k]) & (lanes){known, known};

            store(&nodes[at + k], left);
            store(&nodes[n + at + k], left ^ c->parent[k]);
            sum ^= left;
        }
    }
    return sum;
}

/* Nodes of one level, [n], known up to the one beside the hole. */
static void put_sibling(struct block *nodes, size_t n, const struct hole *hole, lanes known)
{
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
    put_sibling(leaves, (size_t)1 << depth, &hole, known);
    wipe(&hole, sizeof hole);
    wipe(&known, sizeof known);
}

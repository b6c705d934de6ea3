#!/usr/bin/env python3
"""What the known attacks on LPN with regular noise cost, for the parameter sets of runtime/crypto/ferret.c.

    lpn_estimate.py [N K T ...]      log2 of operations; without numbers: all sets of the table

N rows in T blocks of N/T with one error each, K secret bits. A check of plausibility, from formulas
that stand in the papers, not a proof. Not in here: BJMM (below SD-ISD by a few bits at most at these rates), AGB 2.0 (eprint 2025/1476).

    gauss   guess K rows without an error and solve; over N-T, K-T, since every block has even sums known
            (Liu, Wang, Yang, Yu, eprint 2022/712)
    isd     information set decoding with a birthday step (Stern/Dumer) on the same numbers (2022/712)
    perm    the same idea as gauss with one guess a block: the errors of a block avoid K-T chosen places
            (Esser, Santini, "Not Just Regular Decoding", eprint 2023/1568)
    agb     a Groebner basis after guessing: in F blocks MU places each without error (Briaud, Oygarden,
            EUROCRYPT 2023)
    hybrid  guess, then solve the quadratic equations that say that a block has one error by
            linearization; G blocks are tried out (eprint 2025/1284)
"""
import math
import sys

SETS = {
    "b10": (870400, 65536, 850),
    "b11": (2396160, 131072, 1170),
    "b12": (6225920, 262144, 1520),
    "b13": (15564800, 524288, 1900),
    "ferret-2020": (10180608, 124000, 4971),
    "mpz-2024": (2048000, 69559, 2000),
}


def log2_choose(n, k):
    if k < 0 or k > n:
        return -math.inf
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2)


def log2_sum(*terms):
    top = max(terms)
    return top + math.log2(sum(2.0 ** (t - top) for t in terms))


def gauss(n, k, t):
    return 2.8 * math.log2(min(k, n - k)) - (log2_choose(n - k, t) - log2_choose(n, t))


def isd_at(n, k, t, l, p):
    """One choice of p errors among k + l places, collisions on l bits."""
    half = log2_choose((k + l) // 2, p // 2)
    pairs = 2 * half - l
    step = log2_sum(2 * math.log2(n) - math.log2(math.log2(n)), 1 + half, 1 + pairs) + math.log2(n)
    chance = log2_choose(n - k - l, t - p) - log2_choose(n, t) + l + pairs
    return step - chance if chance < 0 else math.inf


def isd(n, k, t):
    return min(isd_at(n, k, t, l, p) for p in range(0, 40, 2) for l in range(0, 400, 2))


def perm(n, k, t):
    return 2 * math.log2(n - k) + math.log2(n) - t * math.log2(1 - (k - t) / n)


def series(n, k, t, f, mu, codim):
    """Coefficients 0 ... 4 of (1 + (b-mu-1) z)^f (1 + (b-1) z)^(t-f) [/ (1-z)^-1 ... (1+z)^(n-k)]."""
    b = n // t
    one = [math.comb(f, d) * (b - mu - 1) ** d for d in range(5)]
    two = [math.comb(t - f, d) * (b - 1) ** d for d in range(5)]
    product = [sum(one[i] * two[d - i] for i in range(d + 1)) for d in range(5)]
    if codim is None:
        return product
    minus = [(-1) ** d * math.comb(codim + d - 1, d) for d in range(5)]
    return [sum(product[i] * minus[d - i] for i in range(d + 1)) for d in range(5)]


def agb_at(n, k, t, f, mu):
    rank = series(n, k, t, f, mu, n - k - 1)
    degree = next((d for d in range(2, 5) if rank[d] < 1), None)
    if degree is None or f * mu >= k + 1:
        return math.inf
    columns = sum(series(n, k, t, f, mu, None)[1:degree + 1])
    return 2 * math.log2(columns) + math.log2(3 * (k + 1 - f * mu)) - f * math.log2(1 - mu * t / n)


def agb(n, k, t):
    """Over a grid of F and MU, then over finer ones around the least."""
    best, at = math.inf, (t // 2, n // t // 2)
    span = (t, n // t)
    while True:
        f_step, mu_step = max(1, span[0] // 60), max(1, span[1] // 60)
        for f in range(max(1, at[0] - span[0]), min(t, at[0] + span[0]) + 1, f_step):
            for mu in range(max(0, at[1] - span[1]), min(n // t - 1, at[1] + span[1], k // f) + 1, mu_step):
                cost = agb_at(n, k, t, f, mu)
                if cost < best:
                    best, least = cost, (f, mu)
        if f_step == mu_step == 1:
            return best
        at, span = least, (2 * f_step, 2 * mu_step)


def hybrid_at(n, k, t, u, f, g):
    b = n // t
    unknown = k - t - f - (t - g) * u
    rest = unknown - (b - 1) * g
    eliminated = max(1, n - k - (n - k) // (b - 1) * (b - u - 2))
    cost = math.log2(eliminated) + math.log2(n - k) + math.log2(max(1, eliminated + max(0, unknown)))
    if unknown > 0:
        equations = (t - f - g) * (b - u - 2) * (b - u - 1) / 2 + f * (b - u - 2) * (b - u - 3) / 2
        if rest < 0 or rest > math.sqrt(2 * equations) - 2:
            return math.inf
        if rest > 0:
            w = (b - 1) * g
            linearize = rest ** 4 * unknown ** 2 / 8 / math.log2(max(rest ** 2 / 2, 2))
            attempt = 1.25 * (2 * rest * rest * w + rest * w * w) + (2.5 * rest) ** 3 / math.log2(max(2.5 * rest, 2))
            cost = log2_sum(cost, math.log2(max(1, linearize)), math.log2(max(1, attempt)) + math.log2(b) * g)
    return cost - f * math.log2(1 - (u + 1) / b) - (t - g - f) * math.log2(1 - u / b)


def first_feasible(n, k, t, u, g):
    """Least f with a finite cost, None if there is none: more guesses only help."""
    low, high = 0, t - g - 1
    if hybrid_at(n, k, t, u, high, g) == math.inf:
        return None
    while low < high:
        middle = (low + high) // 2
        if hybrid_at(n, k, t, u, middle, g) < math.inf:
            high = middle
        else:
            low = middle + 1
    return low


def hybrid(n, k, t):
    best, b = math.inf, n // t
    for u in range(b - 2):
        for g in range(12):
            f = first_feasible(n, k, t, u, g)
            if f is not None:
                best = min([best] + [hybrid_at(n, k, t, u, x, g) for x in range(f, min(f + 200, t - g), 20)])
    return best


def estimate(n, k, t):
    r, b = n - k, n // t
    k, n = b * t - r, b * t  # whole blocks
    return {"gauss": gauss(n - t, k - t, t), "isd": isd(n - t, k - t, t), "perm": perm(n, k, t), "agb": agb(n, k, t),
            "hybrid": hybrid(n, k, t)}


def main(numbers):
    sets = SETS
    if numbers:
        sets = {"-".join(numbers[i:i + 3]): tuple(map(int, numbers[i:i + 3])) for i in range(0, len(numbers), 3)}
    for name, (n, k, t) in sets.items():
        bits = estimate(n, k, t)
        print(f"{name:12} {n:9} {k:7} {t:5}  " + "  ".join(f"{a} {v:.1f}" for a, v in bits.items()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

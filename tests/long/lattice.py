#!/usr/bin/env python3
"""Lattice estimate for the parameters of runtime/crypto/rlwe.c: how large the blocks of BKZ must be.

    python3 tests/long/lattice.py > tests/long/lattice.txt

Model. LWE with n secret coordinates, ternary and uniform (sigma_s^2 = 2/3), errors of centred binomial
distribution with 42 bits (sigma_e^2 = 10.5), modulus q, as many samples as the attacker likes (m).
BKZ with blocks of beta gives bases whose profile falls geometrically (GSA) with the root factor

    delta(beta) = ((pi beta)^(1/beta) beta / (2 pi e))^(1 / (2 (beta - 1))).

primal  uSVP on the embedding of Bai and Galbraith, secrets scaled by xi = sigma_e / sigma_s: dimension
        d = n + m + 1, volume q^m xi^n. Solved when the projection of the short vector is shorter than the
        Gram-Schmidt vector that BKZ leaves there ("2016 estimate", Alkim, Ducas, Poeppelmann, Schwabe,
        USENIX Security 2016; checked by Albrecht et al., ASIACRYPT 2017):

            sqrt(beta) sigma_e <= delta^(2 beta - d - 1) (q^m xi^n)^(1/d)

dual    a short vector of { (x, y / xi) : A^T x = y mod q }, dimension m + n, length
        l = delta^(d - 1) (q / xi)^(n/d); it tells LWE from uniform with an advantage
        4 exp(-2 (pi l sigma_e / q)^2); a sieve gives 2^(0.2075 beta) vectors at once (as in that paper).

Cost. core-SVP: one call of a sieve in dimension beta, 2^(0.292 beta) classical (Becker, Ducas, Gama,
Laarhoven 2016), 2^(0.265 beta) quantum. "standard": 8 d 2^(0.292 beta + 16.4), the model behind the
128 bits of the table in the Homomorphic Encryption Security Standard (2018).

Limits. No hybrid (guessing plus lattice) attack, no drop of coordinates, no dimensions for free, no
memory cost, no algebraic structure of the ring, m is not limited. Hybrid attacks matter for sparse
secrets; ours are not sparse. Published estimators model more and are the authority; this script is there
so that a change of parameters is seen, and so that anybody can check the claim in a second.
"""
import math

SIGMA_E, SIGMA_S = math.sqrt(10.5), math.sqrt(2 / 3)
XI = SIGMA_E / SIGMA_S


def log_delta(beta):
    return (math.log(math.pi * beta) / beta + math.log(beta / (2 * math.pi * math.e))) / (2 * (beta - 1))


def primal_margin(n, log_q, beta, m):
    """log of the right side over the left side: at least 0 where the attack works."""
    d = n + m + 1
    volume = (m * log_q + n * math.log(XI)) / d
    return (2 * beta - d - 1) * log_delta(beta) + volume - math.log(math.sqrt(beta) * SIGMA_E)


def best(f, low, high):
    """Arguments of the largest value of a function that rises, then falls."""
    while high - low > 2:
        a, b = low + (high - low) // 3, high - (high - low) // 3
        if f(a) < f(b):
            low = a
        else:
            high = b
    return max(range(low, high + 1), key=f)


def primal(n, log_q):
    low, high = 60, n  # smallest beta that works
    while low < high:
        beta = (low + high) // 2
        m = best(lambda m: primal_margin(n, log_q, beta, m), 1, 4 * n)
        if primal_margin(n, log_q, beta, m) >= 0:
            high = beta
        else:
            low = beta + 1
    m = best(lambda m: primal_margin(n, log_q, low, m), 1, 4 * n)
    return low, n + m + 1


def dual_cost(n, log_q, beta, m):
    """log2 of the cost in calls' units of core-SVP, classical."""
    d = n + m
    log_l = (d - 1) * log_delta(beta) + n / d * (log_q - math.log(XI))
    exponent = log_l + math.log(math.pi * SIGMA_E) - log_q
    advantage = 2 - 2 * math.exp(2 * exponent) / math.log(2) if exponent < 40 else -1e30
    return 0.292 * beta + max(0, -2 * advantage - 0.2075 * beta)


def dual(n, log_q):
    def at(beta):
        m = best(lambda m: -dual_cost(n, log_q, beta, m), 1, 4 * n)
        return dual_cost(n, log_q, beta, m), m

    beta = best(lambda beta: -at(beta)[0], 60, n)
    cost, m = at(beta)
    return beta, n + m, cost


def standard_cost(beta, d):
    return 0.292 * beta + 16.4 + math.log2(8 * d)


ROWS = [
    (4096, 80, "ours: one key, all uploads; what hides an answer"),
    (8192, 160, "ours up to protocol 1"),
    (4096, 109, "edge of the standard's table, 128 bits"),
    (8192, 218, "edge of the standard's table, 128 bits"),
    (2048, 54, "edge of the standard's table, 128 bits"),
    (4096, 120, "three of our primes: refused"),
]


def main():
    print("tests/long/lattice.py: ternary secret, sigma_e %.2f; model and limits in the script" % SIGMA_E)
    print("   n  log2 Q | primal: beta     d  classical quantum  standard | dual: beta     d  classical |")
    for n, bits, what in ROWS:
        beta, d = primal(n, bits * math.log(2))
        beta2, d2, cost = dual(n, bits * math.log(2))
        print(
            "%5d  %5d  | %12d %6d  %8.1f %7.1f  %8.1f | %10d %6d  %8.1f  | %s"
            % (n, bits, beta, d, 0.292 * beta, 0.265 * beta, standard_cost(beta, d), beta2, d2, cost, what)
        )


main()

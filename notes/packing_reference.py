# ruff: noqa: E741, N803, N806 (names as in the formulas)
# Reference of packing by automorphisms, exact modulo 2^64. Variances against the formula.
import os

os.environ["OMP_NUM_THREADS"] = "1"
import numpy as np

U = np.uint64
np.seterr(over="ignore")  # arithmetic modulo 2^64
rng = np.random.default_rng(7)


def negacyclic(p):  # matrix M with M @ q = p * q mod X^N + 1
    n = len(p)
    i = np.arange(n)
    d = i[:, None] - i[None, :]
    return np.where(d >= 0, p[d % n], (0 - p.astype(U))[d % n].astype(p.dtype)).astype(U)


def mul(p, q):
    return negacyclic(p.astype(U)) @ q.astype(U)


def auto(p, t):
    n = len(p)
    j = np.arange(n) * t % (2 * n)
    out = np.empty(n, U)
    out[j % n] = np.where(j < n, p, 0 - p)
    return out


def rotate(p, e):  # X^e p
    n = len(p)
    return np.concatenate([0 - p[n - e :], p[: n - e]]) if e else p


def gauss(n, s):
    return np.round(rng.normal(0, s * 2.0**64, n)).astype(np.int64).astype(U)


def enc(m, S, s):
    a = rng.integers(0, 2**64, len(S), dtype=U)
    return a, mul(a, S) + m + gauss(len(S), s)


def phase(ct, S):
    return ct[1] - mul(ct[0], S)


def digits(a, b, l):  # signed, level 1 first; a ~ sum d_i q / B^i
    x = (a + U(1 << (63 - b * l))) >> U(64 - b * l)
    out = []
    for _ in range(l):
        d = (x & U((1 << b) - 1)).astype(np.int64)
        x = x >> U(b)
        carry = d >= (1 << (b - 1))
        d = np.where(carry, d - (1 << b), d)
        x = x + carry.astype(U)
        out.append(d)
    return out[::-1]


def make_keys(S, b, l, s):
    n = len(S)
    keys = {}
    for L in range(1, n.bit_length()):
        t = 2**L + 1
        keys[t] = [enc((0 - auto(S, t)) << U(64 - b * i), S, s) for i in range(1, l + 1)]
    return keys


count = 0


def add_image(ct, diff, t, keys, b, l):  # ct + automorphism of diff, under S
    global count
    count += 1
    a, body = ct[0].copy(), ct[1] + auto(diff[1], t)
    for d, (ka, kb) in zip(digits(auto(diff[0], t), b, l), keys[t], strict=True):
        M = negacyclic(d.astype(U))
        a += M @ ka
        body += M @ kb
    return a, body


def lwe_to_glwe(mask, body, r):  # phase / 2^r in coefficient 0; mask of a sample extraction
    n = len(mask)
    half = U(1 << (r - 1))
    top = mask << U(64 - r)  # the low bits, at the top: 2^r clears them, and the mask stays uniform
    mask, body = ((mask + half) >> U(r)) + top, (body + half) >> U(r)
    a = np.concatenate([mask[:1], 0 - mask[:0:-1]])
    out = np.zeros(n, U)
    out[0] = body
    return a, out


def pack(cts, level, n, keys, b, l):  # cts: {index: glwe} of 2^level places
    if level == 0:
        return cts.get(0)
    even = pack({i // 2: c for i, c in cts.items() if i % 2 == 0}, level - 1, n, keys, b, l)
    odd = pack({i // 2: c for i, c in cts.items() if i % 2}, level - 1, n, keys, b, l)
    if even is None and odd is None:
        return None
    zero = (np.zeros(n, U), np.zeros(n, U))
    even = even or zero
    s = n // 2**level
    o = (rotate(odd[0], s), rotate(odd[1], s)) if odd else zero
    return add_image((even[0] + o[0], even[1] + o[1]), (even[0] - o[0], even[1] - o[1]), 2**level + 1, keys, b, l)


def run(n, m, b, l, s, trials, keysets):
    """Prints mean square error / formula, with the standard error between key sets: errors under one key are dependent."""
    global count
    r = n.bit_length() - 1
    lm = (m - 1).bit_length()
    ratios = []
    step = l * n * s * s * (4.0**b + 2) / 12 + 4.0 ** (-b * l) / 12 * n * 0.5
    formula = (n * n - 1) / 3 * step
    for _ in range(keysets):
        S = rng.integers(0, 2, n).astype(U)
        keys = make_keys(S, b, l, s)
        errs = []
        for _ in range(trials):
            mu = rng.integers(0, 2**64, m, dtype=U)
            cts = {}
            for i in range(m):
                a = rng.integers(0, 2**64, n, dtype=U)
                cts[i] = lwe_to_glwe(a, (a * S).sum(dtype=U) + mu[i], r)
            count = 0
            ct = pack(cts, lm, n, keys, b, l)
            for L in range(lm + 1, r + 1):
                ct = add_image(ct, ct, 2**L + 1, keys, b, l)
            errs.append((phase(ct, S)[:: n >> lm][:m] - mu).astype(np.int64) / 2.0**64)
        ratios.append(np.mean(np.square(errs)) / formula)
    print(
        f"N {n} m {m} l {l}: {count} keyswitches, variance / formula {np.mean(ratios):.3f} "
        f"+- {np.std(ratios) / np.sqrt(keysets):.3f}",
        flush=True,
    )


if __name__ == "__main__":
    # Rounding outweighs, twice; the key's errors outweigh, three times.
    for n, m, b, l, s, t, k in [
        (32, 32, 8, 3, 2.0**-40, 1, 1000),
        (32, 5, 8, 3, 2.0**-40, 5, 1000),
        (32, 32, 8, 6, 2.0**-36, 1, 1000),
        (32, 4, 8, 6, 2.0**-36, 5, 1000),
        (32, 1, 8, 6, 2.0**-36, 8, 1000),
    ]:
        run(n, m, b, l, s, t, k)

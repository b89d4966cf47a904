"""First roots of polynomials in multiprecision, isolated by Bernstein coefficients."""

from __future__ import annotations

import itertools
from math import comb

from flint import arb


class NotGenericError(ArithmeticError):
    """The system meets a tie or a situation this oracle does not treat."""


def value(series: list[arb], t: arb) -> arb:
    """Return the value of a polynomial, lowest coefficient first, as a plain number."""
    total = arb(0)
    for c in reversed(series):
        total = total * t + c
    return total.mid()


def split(b: list[arb]) -> tuple[list[arb], list[arb]]:
    """Return the Bernstein coefficients of both halves (de Casteljau)."""
    left, right = [b[0]], [b[-1]]
    while len(b) > 1:
        b = [((p + q) / 2).mid() for p, q in itertools.pairwise(b)]
        left.append(b[0])
        right.append(b[-1])
    return left, right[::-1]


def sign_variations(b: list[arb]) -> int:
    signs = [v > 0 for v in b if v != 0]
    return sum(p != q for p, q in itertools.pairwise(signs))


def first_root(series: list[arb], h: arb, zeros: int, bits: int) -> arb | None:
    """Return the first root in (0, h], not counting `zeros` roots at 0 itself."""
    p = series[zeros:]
    scaled = [(c * h**i).mid() for i, c in enumerate(p)]
    if abs(scaled[0]) > sum((abs(c) for c in scaled[1:]), arb(0)):
        return None
    degree = len(p) - 1
    b = [
        sum((scaled[q] * comb(i, q) / comb(degree, q) for q in range(i + 1)), arb(0)).mid()
        for i in range(degree + 1)
    ]
    stack = [(b, arb(0), arb(1))]
    while stack:
        b, low, width = stack.pop()
        count = sign_variations(b)
        if count == 1:
            return (refine(scaled, low, (low + width).mid(), bits) * h).mid()
        if count > 1:
            if width < arb(2) ** -80:
                raise NotGenericError("a double root")
            left, right = split(b)
            half = (width / 2).mid()
            stack += [(right, (low + half).mid(), half), (left, low, half)]
    return None


def refine(p: list[arb], low: arb, high: arb, bits: int) -> arb:
    """Return the one simple root in [low, high]: bisection, then Newton."""
    rising = value(p, high) > 0
    for _ in range(30):
        middle = ((low + high) / 2).mid()
        if (value(p, middle) > 0) == rising:
            high = middle
        else:
            low = middle
    x = ((low + high) / 2).mid()
    slope = [i * c for i, c in enumerate(p)][1:]
    for _ in range(2 + bits.bit_length()):
        x = (x - value(p, x) / value(slope, x)).mid()
    if not low <= x <= high:
        raise NotGenericError("Newton left its bracket")
    return x

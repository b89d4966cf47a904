"""Small vector functions over `arb` balls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flint import arb

ZERO = arb(0)
#: Bits of bounds, which are rounded up and need no more.
BOUND_BITS = 64


def dot(u: Iterable[arb], v: Iterable[arb]) -> arb:
    """Return ``sum u_i v_i``."""
    return sum((p * q for p, q in zip(u, v, strict=True)), ZERO)


def norm(v: Sequence[arb]) -> arb:
    """Return the Euclidean norm."""
    return sum((x * x for x in v), ZERO).sqrt()


def upper(x: arb) -> arb:
    """Return an exact upper bound of ``|x|``."""
    return x.abs_upper()


def size(v: Iterable[arb]) -> arb:
    """Return an exact upper bound of the Euclidean norm."""
    total = ZERO
    for x in v:
        u = x.abs_upper()
        total += u * u
    return total.sqrt().upper()


def widened(x: arb, by: arb) -> arb:
    """Return the ball with its radius enlarged by the exact non-negative number `by`."""
    return x + arb(0, by)


def to_float(x: arb) -> float:
    """Return the float64 nearest to the midpoint."""
    return float(x.mid())

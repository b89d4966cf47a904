"""Points of a box that a linear map sends to a given point, in exact arithmetic.

``{sum_g zeta_g n_g : low_g <= zeta_g <= high_g}`` is a zonotope; its facets are orthogonal to the
rays v of the arrangement of the n_g, so that b lies in it if and only if b is in their span and

    v . b <= sum_g max(low_g n_g . v, high_g n_g . v)    for all these rays v

(McMullen 1971, On zonotopes). No linear program is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from flint import fmpq, fmpq_mat, fmpz_mat

from flowsim.alignment._exact_faces import ExactArrangement, Integers, independent_rows

Interval = tuple[Fraction, Fraction]


def fractions_of(matrix: fmpq_mat) -> list[Fraction]:
    """Return the entries as Fractions."""
    return [Fraction(int(x.p), int(x.q)) for x in matrix.entries()]


def box_point(
    normals: Sequence[Integers], intervals: Sequence[Interval], target: Sequence[Fraction]
) -> list[Fraction] | None:
    """Return zeta in the box with ``n_g . sum zeta_h n_h = target_g``, None if there is none.

    Where it is not unique, one zeta after the other takes the middle of what is possible.

    Parameters
    ----------
    normals : (k, d) integers
        No two of them parallel.
    intervals : k pairs
        The ends ``low <= high``.
    target : (k,)
        ``n_g . b`` of a point b in the span of the normals.
    """
    b = _point(normals, target)
    zeta: dict[int, Fraction] = {}
    left = list(range(len(normals)))
    while len(independent := independent_rows([normals[g] for g in left])) < len(left):
        # Any normal outside a basis can be left out without changing the span.
        place = next(i for i in range(len(left)) if i not in independent)
        g = left.pop(place)
        found = _range(g, left, normals, intervals, b)
        if found is None:
            return None
        zeta[g] = (found[0] + found[1]) / 2
        b = [x - zeta[g] * c for x, c in zip(b, normals[g], strict=True)]
    N = fmpq_mat(fmpz_mat([list(normals[g]) for g in left]))
    solved = fractions_of((N * N.transpose()).solve(N * _column(b)))
    zeta.update(zip(left, solved, strict=True))
    if any(not low <= zeta[g] <= high for g, (low, high) in enumerate(intervals)):
        return None
    return [zeta[g] for g in range(len(normals))]


def _range(
    g: int,
    rest: Sequence[int],
    normals: Sequence[Integers],
    intervals: Sequence[Interval],
    b: Sequence[Fraction],
) -> Interval | None:
    """Return the interval of zeta_g for which ``b - zeta_g n_g`` is in the zonotope of the rest."""
    low, high = intervals[g]
    for ray in ExactArrangement([normals[h] for h in rest]).rays():
        for sign in (1, -1):
            s = sign * _dot(normals[g], ray.v)
            reach = sum(
                (max(sign * value * end for end in intervals[h])
                 for h, value in zip(rest, ray.values, strict=True)),
                Fraction(0),
            )  # fmt: skip
            room = sign * _dot(b, ray.v) - reach  # zeta_g s >= room
            if s > 0:
                low = max(low, room / s)
            elif s < 0:
                high = min(high, room / s)
            elif room > 0:
                return None
    return (low, high) if low <= high else None


def _point(normals: Sequence[Integers], target: Sequence[Fraction]) -> list[Fraction]:
    """Return the b in the span with ``n_g . b = target_g``."""
    basis = independent_rows(normals)
    N = fmpq_mat(fmpz_mat([list(normals[i]) for i in basis]))
    c = (N * N.transpose()).solve(_column([target[i] for i in basis]))
    return fractions_of(N.transpose() * c)


def _column(values: Sequence[Fraction]) -> fmpq_mat:
    return fmpq_mat(len(values), 1, [fmpq(x.numerator, x.denominator) for x in values])


def _dot(a: Sequence[Any], b: Sequence[Any]) -> Any:
    return sum(x * y for x, y in zip(a, b, strict=True))

"""Ball arithmetic: vectors and matrices of `flint.arb`, with rigorous bounds on eigenvalues.

Every bound here holds for all real numbers in the balls. Floating-point linear algebra only
proposes a basis; what is then said of it is proved.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from flint import arb, arb_mat, fmpq, fmpz

#: Bits of the balls' midpoints.
PRECISION = 192


class NotProvedError(Exception):
    """Something that a proof needs has not been shown; the text says what."""


def ball(x: Any) -> arb:
    """Return the ball of a number: exact for floats and integers, rounded for fractions."""
    if isinstance(x, Fraction):
        return arb(fmpq(x.numerator, x.denominator))
    return x if isinstance(x, arb) else arb(x)


def dyadic(mantissa: int, exponent: int) -> arb:
    """Return ``mantissa * 2**exponent``, exactly."""
    return arb((fmpz(mantissa), fmpz(exponent)))


def matrix(rows: Sequence[Sequence[Any]], columns: int = 0) -> arb_mat:
    """Return a matrix of balls; one without rows has so many `columns`."""
    if len(rows) == 0:
        return arb_mat(0, columns)
    return arb_mat([[ball(x) for x in row] for row in rows])


def identity(n: int) -> arb_mat:
    """Return the identity."""
    return arb_mat([[int(i == j) for j in range(n)] for i in range(n)])


def arb_column(v: Sequence[arb]) -> arb_mat:
    """Return a column vector of balls."""
    return arb_mat(len(v), 1, list(v))


def column(v: Sequence[Any]) -> arb_mat:
    """Return a column vector."""
    return arb_mat(len(v), 1, [ball(x) for x in v])


def entries(M: arb_mat) -> list[arb]:
    """Return a column or row vector's entries as a list."""
    return M.entries()


def dot(u: Sequence[arb], v: Sequence[arb]) -> arb:
    """Return ``u . v``."""
    total = arb(0)
    for x, y in zip(u, v, strict=True):
        total += x * y
    return total


def square(v: Sequence[arb]) -> arb:
    """Return ``v . v``."""
    total = arb(0)
    for x in v:
        total += x * x
    return total


def norm(v: Sequence[arb]) -> arb:
    """Return the Euclidean norm."""
    return square(v).sqrt()


def floats(M: arb_mat) -> np.ndarray:
    """Return the midpoints, rounded."""
    return np.array([float(x) for x in M.entries()]).reshape(M.nrows(), M.ncols())


def lower(x: arb) -> arb:
    """Return the lower end of a ball, as an exact ball."""
    return arb(x.lower())


def upper(x: arb) -> arb:
    """Return the upper end of a ball, as an exact ball."""
    return arb(x.upper())


def largest(balls: Sequence[arb]) -> arb:
    """Return an upper bound of all balls, at least 0."""
    top = arb(0)
    for x in balls:
        top = top.max(x)
    return upper(top)


def min_of(balls: Sequence[arb]) -> arb:
    """Return the least of some balls, of which there must be one."""
    least = balls[0]
    for x in balls[1:]:
        least = least.min(x)
    return least


def is_positive(x: arb) -> bool:
    """Whether every number in the ball is positive."""
    return bool(x > 0)


def eigenvalue_bounds(A: arb_mat) -> tuple[arb, arb]:
    """Return a lower and an upper bound of all eigenvalues of a symmetric matrix.

    In an approximate eigenbasis V, A is nearly diagonal: ``VᵀAV`` has its eigenvalues in
    Gershgorin's discs, and for ``x = Vc``, ``xᵀAx = cᵀ(VᵀAV)c`` while ``|x|²`` is within the
    eigenvalues of ``VᵀV`` of ``|c|²``.
    """
    n = A.nrows()
    if n == 0:
        raise ValueError("Argument `A` must have at least one row, but has none.")
    V = matrix(_eigenvectors(floats(A)).tolist())
    low, high = _gershgorin(V.transpose() * A * V)
    least, most = _gershgorin(V.transpose() * V)
    if not is_positive(least):
        raise NotProvedError("a basis of eigenvectors is singular to rounding")
    return (
        lower(low / (most if low > 0 else least)),
        upper(high / (least if high > 0 else most)),
    )


def _eigenvectors(A: np.ndarray) -> np.ndarray:
    """Return approximate eigenvectors, of a matrix whose rows may differ much in size."""
    if not np.all(np.isfinite(A)):
        raise NotProvedError("a matrix has entries outside of the range of float64")
    return np.linalg.eigh(0.5 * (A + A.T))[1]


def _gershgorin(A: arb_mat) -> tuple[arb, arb]:
    low, high = [], []
    for i, row in enumerate(A.tolist()):
        radius = arb(0)
        for j, x in enumerate(row):
            if j != i:
                radius += abs(x)
        low.append(row[i] - radius)
        high.append(row[i] + radius)
    least, most = low[0], high[0]
    for x in low[1:]:
        least = least.min(x)
    for x in high[1:]:
        most = most.max(x)
    return lower(least), upper(most)


def largest_eigenvalue(A: arb_mat) -> arb:
    """Return an upper bound, at least 0, of the eigenvalues of a symmetric matrix."""
    if A.nrows() == 0:
        return arb(0)
    return eigenvalue_bounds(A)[1].max(arb(0))

"""Least-squares limits of rational data in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from flowsim._distinct import sorted_rows
from flowsim.cells import Cells
from flowsim.data import Dataset

Row = list[Fraction]

#: Entries of the normal equations grow with n and d; beyond this size they cost seconds.
LARGEST = 40
#: Fractions with denominators of more bits are of no use to a reader.
LONGEST = 2000


def exact_limit_loss(data: Dataset, cells: Cells, codes: np.ndarray) -> Fraction | None:
    """Return the least-squares loss of neurons in the cells `codes` as a fraction.

    A neuron in a cell with coefficients c and slides S fits ``diag(c) X v`` with
    ``x_k . v = 0`` on S; the loss is that of the projection of y onto the complement of
    the span of them all. Only for rational data and a piecewise linear network whose
    slope is the exact value of its float; None for others, or beyond `LARGEST`.
    """
    if not data.rational or data.n > LARGEST:
        return None
    X = [list(row) for row in data.X_exact]
    y = list(data.y_exact)
    columns: list[Row] = []
    for code in sorted_rows(codes):
        side = code[cells.index] * cells.orientation.astype(int)
        slope = Fraction(cells.slope)
        c = [Fraction(1) if s > 0 else slope if s < 0 else Fraction(0) for s in side]
        for v in _null_space([X[k] for k in np.flatnonzero(side == 0)], data.d):
            columns.append([ck * _dot(row, v) for ck, row in zip(c, X, strict=True)])
    r = y
    for q in _orthogonal(columns):
        f = _dot(r, q) / _dot(q, q)
        r = [rk - f * qk for rk, qk in zip(r, q, strict=True)]
    normalisation = Fraction(round(cells.weight * cells.n), 2 * cells.n)
    found = normalisation * _dot(r, r)
    # Python refuses to write integers of more than 4300 digits.
    return found if found.denominator.bit_length() <= LONGEST else None


def _dot(a: Row, b: Row) -> Fraction:
    return sum((x * y for x, y in zip(a, b, strict=True)), Fraction(0))


def _orthogonal(columns: list[Row]) -> list[Row]:
    """Return an orthogonal basis of the columns' span (Gram-Schmidt, exact)."""
    basis: list[Row] = []
    for column in columns:
        rest = column
        for q in basis:
            f = _dot(rest, q) / _dot(q, q)
            rest = [x - f * z for x, z in zip(rest, q, strict=True)]
        if any(rest):
            basis.append(rest)
    return basis


def _null_space(rows: list[Row], d: int) -> list[Row]:
    """Return a basis of ``{v : row . v = 0}`` by Gauss-Jordan elimination."""
    rows = [list(row) for row in rows]
    pivots: list[int] = []
    for j in range(d):
        i = next((i for i in range(len(pivots), len(rows)) if rows[i][j]), None)
        if i is None:
            continue
        top = len(pivots)
        rows[top], rows[i] = rows[i], rows[top]
        rows[top] = [x / rows[top][j] for x in rows[top]]
        for k in range(len(rows)):
            if k != top and rows[k][j]:
                f = rows[k][j]
                rows[k] = [x - f * z for x, z in zip(rows[k], rows[top], strict=True)]
        pivots.append(j)
    basis = []
    for free in (j for j in range(d) if j not in pivots):
        v = [Fraction(int(j == free)) for j in range(d)]
        for i, j in enumerate(pivots):
            v[j] = -rows[i][free]
        basis.append(v)
    return basis

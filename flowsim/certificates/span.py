"""Exact linear algebra of what networks can fit: spans of integer columns, and membership."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from flint import fmpq_mat, fmpz_mat
from scipy.linalg import qr

from flowsim.certificates.balls import NotProvedError


@dataclass(frozen=True, eq=False)
class Span:
    """The span of independent integer columns (n, p), proved to be independent."""

    basis: fmpz_mat
    rows: list[int]  # p rows in which the basis is invertible

    @classmethod
    def of(cls, blocks: list[fmpz_mat]) -> Span:
        """Return the span of all columns of the blocks.

        Raises
        ------
        NotProvedError
            If the columns are dependent to rounding, but not exactly.
        """
        all_columns = [
            [int(block[i, j]) for i in range(block.nrows())]
            for block in blocks
            for j in range(block.ncols())
        ]
        picked, rows = _independent(all_columns)
        n = blocks[0].nrows()
        basis = fmpz_mat(n, len(picked), [all_columns[j][i] for i in range(n) for j in picked])
        span = cls(basis, rows)
        rest = [column for j, column in enumerate(all_columns) if j not in set(picked)]
        if rest and not span.contains(_from_columns(rest, n)):
            raise NotProvedError("the ranges of cells are dependent to rounding, but not exactly")
        return span

    @classmethod
    def empty(cls, n: int) -> Span:
        """Return the span of nothing."""
        return cls(fmpz_mat(n, 0), [])

    @property
    def size(self) -> int:
        """Dimension."""
        return self.basis.ncols()

    def contains(self, columns: fmpz_mat | fmpq_mat) -> bool:
        """Whether every column lies in the span, exactly."""
        if self.size == 0:
            return all(x == 0 for x in columns.entries())
        square = fmpq_mat(_rows_of(fmpq_mat(self.basis), self.rows))
        target = _rows_of(fmpq_mat(columns), self.rows)
        try:
            weights = square.solve(target)
        except ZeroDivisionError:
            raise NotProvedError(
                "the ranges of cells are dependent exactly, not to rounding"
            ) from None
        return fmpq_mat(self.basis) * weights == fmpq_mat(columns)


def _rows_of(M: fmpq_mat, rows: list[int]) -> fmpq_mat:
    width = M.ncols()
    return fmpq_mat(len(rows), width, [M[i, j] for i in rows for j in range(width)])


def _from_columns(columns: list[list[int]], n: int) -> fmpz_mat:
    return fmpz_mat(n, len(columns), [column[i] for i in range(n) for column in columns])


def _independent(columns: list[list[int]]) -> tuple[list[int], list[int]]:
    """Return columns that are independent to rounding, and rows in which they are."""
    A = np.array([_unit(column) for column in columns]).T
    if A.size == 0:
        return [], []
    picked = _pivots(A)
    return picked, sorted(_pivots(A[:, picked].T))


#: Diagonal entries of R below this part of the first are rank deficiency.
RANK = 1e-10


def _pivots(A: np.ndarray) -> list[int]:
    found = qr(A, mode="r", pivoting=True, check_finite=False)
    R, order = np.asarray(found[0]), np.asarray(found[-1])
    diagonal = np.abs(np.diagonal(R))
    rank = int(np.sum(diagonal > RANK * diagonal[0])) if diagonal.size and diagonal[0] > 0 else 0
    return sorted(int(j) for j in order[:rank])


def _unit(column: list[int]) -> np.ndarray:
    """Return integers of any size as floats, the largest of order one."""
    top = max((abs(x).bit_length() for x in column), default=0)
    shift = max(top - 400, 0)  # squares stay in range
    v = np.array([float(x >> shift) for x in column])
    size = np.linalg.norm(v)
    return v / size if size > 0.0 else v

"""Arrangements of rational hyperplanes, in exact arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import combinations

from flint import fmpz_mat

from flowsim.alignment._faces import Faces, Ray
from flowsim.data import Dataset

Integers = tuple[int, ...]


def primitive(row: Sequence[Fraction]) -> Integers:
    """Return the shortest integer vector in the direction of a rational one."""
    denominator = math.lcm(*(value.denominator for value in row))
    integers = [value.numerator * (denominator // value.denominator) for value in row]
    divisor = math.gcd(*integers)
    return tuple(value // divisor for value in integers)


def integer_normals(data: Dataset) -> list[Integers]:
    """Return the primitive integer normals of `data.normals`: directions of the first samples."""
    first: dict[int, int] = {}
    for k, g in enumerate(data.hyperplane.tolist()):
        first.setdefault(g, k)
    return [primitive(data.X_exact[first[g]]) for g in range(len(first))]


class ExactArrangement(Faces):
    """The central arrangement of integer normals (G, d), no two of them parallel.

    Its codes depend on the column space of the normals alone, so all coordinates beyond a basis
    of their columns are left out.
    """

    def __init__(self, normals: Sequence[Integers]) -> None:
        self.normals = list(normals)
        self.d = len(self.normals[0])
        self._columns = independent_rows(list(zip(*self.normals, strict=True)))
        self._matrix = fmpz_mat([[row[j] for j in self._columns] for row in self.normals])
        self.size, self.rank = len(self.normals), len(self._columns)
        self._local = {}

    def rays(self) -> Iterator[Ray]:
        seen: set[tuple[int, ...]] = set()
        for rows in combinations(range(self.size), self.rank - 1):
            v = self._orthogonal(rows)
            if v is None:
                continue
            values = [int(x) for x in (self._matrix * fmpz_mat([[x] for x in v])).entries()]
            on = tuple(g for g, value in enumerate(values) if value == 0)
            if len(on) > self.rank - 1:
                if on in seen:
                    continue
                seen.add(on)
            full = [0] * self.d
            for j, x in zip(self._columns, v, strict=True):
                full[j] = x
            yield Ray(tuple(full), tuple(values), on)

    def restricted(self, on: tuple[int, ...]) -> ExactArrangement:
        return ExactArrangement([self.normals[g] for g in on])

    def _orthogonal(self, rows: tuple[int, ...]) -> Integers | None:
        """Return a vector orthogonal to r - 1 rows, None if they are dependent."""
        if self.rank == 1:
            return (1,)
        if self.rank == 2:
            a, b = self._matrix[rows[0], 0], self._matrix[rows[0], 1]
            return -int(b), int(a)
        chosen = [[self._matrix[g, j] for j in range(self.rank)] for g in rows]
        basis, nullity = fmpz_mat(chosen).nullspace()
        if nullity != 1:
            return None
        v = [int(basis[j, 0]) for j in range(self.rank)]
        divisor = math.gcd(*v)
        return tuple(x // divisor for x in v)


def independent_rows(rows: Sequence[Integers]) -> list[int]:
    """Return the indices of the first maximal independent set of rows."""
    # The pivots of the reduced transpose.
    reduced, _, rank = fmpz_mat([list(column) for column in zip(*rows, strict=True)]).rref()
    pivots, j = [], 0
    for i in range(rank):
        while reduced[i, j] == 0:
            j += 1
        pivots.append(j)
    return pivots

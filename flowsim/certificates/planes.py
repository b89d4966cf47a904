"""The hyperplanes of exact data, and exact columns of what neurons in a cell can fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from flint import arb, arb_mat, fmpq, fmpq_mat, fmpz, fmpz_mat

from flowsim.certificates.balls import ball, matrix

Row = tuple[Fraction, ...]
#: A cell: for every hyperplane the side of its leader's vector that w is on, 1, 0 or -1.
Code = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Data:
    """Samples as fractions, a slope and the loss's weight; everything is exact.

    Hyperplane g is that of sample ``leader[g]``, and ``x_k = scale[k] x_leader`` for each of
    its samples: on the side where ``w . x_leader`` has the sign s, sample k has the sign
    ``s scale[k]``.
    """

    X: tuple[Row, ...]
    y: Row
    slope: Fraction
    weight: Fraction  # 1/n, or 2/n for the mean loss

    @property
    def n(self) -> int:
        return len(self.X)

    @property
    def d(self) -> int:
        return len(self.X[0])

    @cached_property
    def _grouped(self) -> tuple[list[int], list[int], list[Fraction]]:
        place: dict[tuple[int, ...], int] = {}
        leader, plane, scale = [], [], []
        for k, row in enumerate(self.X):
            line = _primitive(row)
            g = place.setdefault(line, len(leader))
            if g == len(leader):
                leader.append(k)
            first = self.X[leader[g]]
            i = next(i for i, x in enumerate(first) if x)
            plane.append(g)
            scale.append(row[i] / first[i])
        return leader, plane, scale

    @property
    def leader(self) -> list[int]:
        """First sample of each hyperplane."""
        return self._grouped[0]

    @property
    def plane(self) -> list[int]:
        """Hyperplane of each sample."""
        return self._grouped[1]

    @property
    def scale(self) -> list[Fraction]:
        """``x_k`` over its leader."""
        return self._grouped[2]

    @property
    def planes(self) -> int:
        """Number of hyperplanes."""
        return len(self.leader)

    @cached_property
    def members(self) -> list[list[int]]:
        """Samples of each hyperplane."""
        out: list[list[int]] = [[] for _ in self.leader]
        for k, g in enumerate(self.plane):
            out[g].append(k)
        return out

    @cached_property
    def x(self) -> arb_mat:
        """X as balls."""
        return matrix(self.X)

    @cached_property
    def normal(self) -> list[list[arb]]:
        """Each hyperplane's leading vector, as balls."""
        return [[ball(v) for v in self.X[k]] for k in self.leader]

    @cached_property
    def normal_size(self) -> list[arb]:
        """Norms of these."""
        return [sum((v * v for v in row), arb(0)).sqrt() for row in self.normal]

    def coefficients(self, code: Code) -> list[Fraction]:
        """Return sigma' at each sample in a cell; 0 on hyperplanes of code 0."""
        if code not in self._coefficients:
            values = {1: Fraction(1), 0: Fraction(0), -1: self.slope}
            sides = zip(self.plane, self._signs, strict=True)
            self._coefficients[code] = [values[code[g] * sign] for g, sign in sides]
        return self._coefficients[code]

    def factors(self, code: Code) -> list[arb]:
        """Return `coefficients` as balls."""
        if code not in self._factors:
            known = {c: ball(c) for c in (Fraction(1), Fraction(0), self.slope)}
            self._factors[code] = [known[c] for c in self.coefficients(code)]
        return self._factors[code]

    @cached_property
    def _factors(self) -> dict[Code, list[arb]]:
        return {}

    @cached_property
    def _coefficients(self) -> dict[Code, list[Fraction]]:
        return {}

    @cached_property
    def _signs(self) -> list[int]:
        return [1 if s > 0 else -1 for s in self.scale]

    @cached_property
    def _columns(self) -> dict[tuple[Code, tuple[int, ...]], fmpz_mat]:
        return {}

    def kink(self, g: int) -> list[tuple[int, Fraction]]:
        """Return ``|s_k|`` on the samples of hyperplane g: how outputs bend there."""
        return [(k, abs(self.scale[k])) for k in self.members[g]]

    def columns(self, code: Code, held: Sequence[int]) -> fmpz_mat:
        """Return integer columns that span ``diag(c) X v``, v orthogonal to the planes `held`."""
        key = (code, tuple(held))
        if key not in self._columns:
            self._columns[key] = self._made_columns(code, held)
        return self._columns[key]

    def _made_columns(self, code: Code, held: Sequence[int]) -> fmpz_mat:
        denominator = self.slope.denominator
        c = [int(ck * denominator) for ck in self.coefficients(code)]
        rows = [[ck * x for x in row] for ck, row in zip(c, self._integer_rows, strict=True)]
        return fmpz_mat(rows) * self.free(held)

    def free(self, held: Sequence[int]) -> fmpz_mat:
        """Return integer columns that span the complement of some hyperplanes' normals."""
        return _null_space([self._integer_rows[self.leader[g]] for g in held], self.d)

    def independent(self, planes: Sequence[int]) -> bool:
        """Whether the normals of some hyperplanes are linearly independent, exactly."""
        rows = [self._integer_rows[self.leader[g]] for g in planes]
        return not rows or fmpz_mat(rows).rank() == len(rows)

    @property
    def unit(self) -> int:
        """``diag(c) X free`` is `columns` over this."""
        return self._common * self.slope.denominator

    def kink_column(self, g: int) -> fmpq_mat:
        """Return `kink` as an exact column (n, 1)."""
        column = [Fraction(0)] * self.n
        for k, size in self.kink(g):
            column[k] = size
        return rational_column(column)

    @cached_property
    def _common(self) -> int:
        return math.lcm(*(x.denominator for row in self.X for x in row))

    @cached_property
    def _integer_rows(self) -> list[list[int]]:
        return [[int(x * self._common) for x in row] for row in self.X]


def rational_column(v: Sequence[Fraction]) -> fmpq_mat:
    """Return an exact column vector."""
    return fmpq_mat(len(v), 1, [fmpq(x.numerator, x.denominator) for x in v])


def _primitive(row: Row) -> tuple[int, ...]:
    """Return the primitive integer vector of the line through `row`."""
    common = math.lcm(*(x.denominator for x in row))
    whole = [int(x * common) for x in row]
    divisor = math.gcd(*whole)
    first = next(x for x in whole if x)
    return tuple(x // (divisor if first > 0 else -divisor) for x in whole)


def _null_space(rows: list[list[int]], d: int) -> fmpz_mat:
    """Return integer columns that span the complement of the rows."""
    if not rows:
        return fmpz_mat(d, d, [int(i == j) for i in range(d) for j in range(d)])
    basis, nullity = fmpz_mat(rows).nullspace()
    kept = [[basis[i, j] for j in range(int(nullity))] for i in range(d)]
    for j in range(int(nullity)):  # entries may share large factors
        divisor = fmpz(0)
        for i in range(d):
            divisor = divisor.gcd(kept[i][j])
        for i in range(d):
            kept[i][j] = kept[i][j] // divisor
    return fmpz_mat(d, int(nullity), [x for row in kept for x in row])

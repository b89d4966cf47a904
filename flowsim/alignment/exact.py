"""Extremal vectors of rational data, every decision in exact arithmetic.

The n_g are the primitive integer normals of the hyperplanes, and hyperplane g contributes the
rational multiple q_g^+ or q_g^- of n_g to the field D on its two sides, anything between if it
contains w. See `flowsim.alignment.extremal` for the definitions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from operator import mul
from typing import Any, NamedTuple

from flint import fmpq_mat, fmpz_mat

from flowsim.alignment._exact_faces import (
    ExactArrangement,
    Integers,
    independent_rows,
    integer_normals,
)
from flowsim.alignment._faces import Code, Ray
from flowsim.alignment._zonotope import box_point, fractions_of
from flowsim.alignment.roles import Role, role
from flowsim.data import Dataset


@dataclass(frozen=True)
class ExactExtremal:
    """The exact values of an extremal vector.

    Attributes
    ----------
    D : tuple of Fraction (d,)
    multipliers : dict
        The coefficient eta of each sliding sample.
    norm_squared : Fraction
        ``|D|^2``.
    sign : {+1, -1}
        The sign of ``w . D``.
    """

    D: tuple[Fraction, ...]
    multipliers: dict[int, Fraction]
    norm_squared: Fraction
    sign: int

    @property
    def norm(self) -> Any:
        """``|D|``, a SymPy expression."""
        import sympy

        return sympy.sqrt(
            sympy.Rational(self.norm_squared.numerator, self.norm_squared.denominator)
        )

    @property
    def G(self) -> Any:
        """``w . D = +-|D|``, a SymPy expression."""
        return self.sign * self.norm


class Found(NamedTuple):
    """One critical direction: its code (G,), sign of w . D, role and exact values."""

    code: Code
    role: Role
    value: ExactExtremal


class Enumeration(NamedTuple):
    """All critical directions with D != 0, codes of cells with D = 0, number of faces visited."""

    found: list[Found]
    zero: list[Code]
    visited: int


def enumerate_exactly(data: Dataset, negative_slope: float, loss: str) -> Enumeration:
    """Find all extremal vectors of the data, with floats taken as their binary values.

    Float samples that share a hyperplane up to rounding are taken to lie on it.
    """
    system = _System(data, Fraction(negative_slope), loss)
    found: dict[Code, Found] = {}
    zero: set[Code] = set()
    visited = 0
    for ray in system.arrangement.rays():
        for sign in (1, -1):
            code = [sign * ((value > 0) - (value < 0)) for value in ray.values]
            base = system.field(code)
            for local in system.arrangement.around(ray.on):
                visited += 1
                for g, side in zip(ray.on, local, strict=True):
                    code[g] = side
                system.visit(ray, code, base, found, zero)
    return Enumeration(list(found.values()), sorted(zero), visited)


class _System:
    """Integer normals and integer multiples of q on both sides, ``q = plus / scale``."""

    def __init__(self, data: Dataset, slope: Fraction, loss: str) -> None:
        self.normals = integer_normals(data)
        self.arrangement = ExactArrangement(self.normals)
        self.d = data.d
        self.index = data.hyperplane.tolist()
        self.orientation = data.orientation.tolist()
        self.slope = slope
        plus, minus = self._sides(data, Fraction(2 if loss == "mean" else 1, data.n))
        self.scale = math.lcm(*(q.denominator for q in plus + minus))
        self.plus = [int(q * self.scale) for q in plus]
        self.minus = [int(q * self.scale) for q in minus]
        self._matrix = fmpz_mat([list(row) for row in self.normals])
        self._projectors: dict[Integers, list[list[int]]] = {}

    def _sides(self, data: Dataset, weight: Fraction) -> tuple[list[Fraction], list[Fraction]]:
        plus = [Fraction(0)] * len(self.normals)
        minus = [Fraction(0)] * len(self.normals)
        for k, g in enumerate(self.index):
            j = max(range(self.d), key=lambda j: abs(self.normals[g][j]))
            moment = weight * data.y_exact[k] * data.X_exact[k][j] / self.normals[g][j]
            on_plus = self.orientation[k] > 0
            plus[g] += moment * (1 if on_plus else self.slope)
            minus[g] += moment * (self.slope if on_plus else 1)
        return plus, minus

    def field(self, code: list[int]) -> Integers:
        """Return ``scale D`` without what the hyperplanes with code 0 contribute."""
        row = [
            self.plus[g] if side > 0 else self.minus[g] if side else 0
            for g, side in enumerate(code)
        ]
        return tuple(int(x) for x in (fmpz_mat([row]) * self._matrix).entries())

    def visit(
        self,
        ray: Ray,
        code: list[int],
        base: Integers,
        found: dict[Code, Found],
        zero: set[Code],
    ) -> None:
        """Decide whether the face `code` at a ray holds its own +D or -D.

        `base` is the field of all hyperplanes but those through the ray.
        """
        D = list(base)
        for g in ray.on:
            if side := code[g]:
                q = self.plus[g] if side > 0 else self.minus[g]
                D = [x + q * c for x, c in zip(D, self.normals[g], strict=True)]
        on = tuple(g for g in ray.on if code[g] == 0)
        if on:
            D = [_dot(row, D) for row in self._projector(on)]
        if not any(D):
            if not on:
                zero.add(tuple(code))
            return
        tau = self._consistent(ray, code, D)
        if tau and (key := tuple(code)) not in found and (face := self._decide(code, on, tau)):
            found[key] = face

    def _consistent(self, ray: Ray, code: list[int], D: list[int]) -> int:
        """Return tau if ``tau D`` lies in the face, 0 if neither D nor -D does."""
        tau = 0
        for g in (*ray.on, *range(len(code))):
            if side := code[g]:
                s = side * _dot(self.normals[g], D)
                here = (s > 0) - (s < 0)
                if here == 0 or here == -tau:
                    return 0
                tau = here
        return tau

    def _projector(self, on: Integers) -> list[list[int]]:
        """Return a positive multiple of the projector orthogonal to some normals."""
        if on not in self._projectors:
            rows = [self.normals[g] for g in on]
            B = fmpq_mat(fmpz_mat([list(rows[i]) for i in independent_rows(rows)]))
            P = B.transpose() * (B * B.transpose()).inv() * B
            numerator, denominator = P.numer_denom()
            self._projectors[on] = [
                [int(denominator) * (i == j) - int(numerator[i, j]) for j in range(self.d)]
                for i in range(self.d)
            ]
        return self._projectors[on]

    def _decide(self, code: list[int], on: Integers, tau: int) -> Found | None:
        """Return the extremal vector of a face, None if its multipliers leave their intervals."""
        base = fmpq_mat(fmpz_mat([[x] for x in self.field(code)]))
        local = _Local(self, on)
        zeta = local.multipliers(base)
        if zeta is None:
            return None
        D = [x / self.scale for x in fractions_of(base)]
        for g, z in zip(on, zeta, strict=True):
            D = [x + z * c / self.scale for x, c in zip(D, self.normals[g], strict=True)]
        multipliers: dict[int, Fraction] = {}
        for k, g in enumerate(self.index):
            if g in on:
                jump = self.plus[g] - self.minus[g]
                s = (zeta[on.index(g)] - self.minus[g]) / jump if jump else Fraction(1, 2)
                multipliers[k] = s if self.orientation[k] > 0 else 1 - s
        value = ExactExtremal(tuple(D), multipliers, sum((x * x for x in D), Fraction(0)), tau)
        dimension = self.d - local.rank
        return Found(tuple(code), role(local.changes(zeta), tau, dimension), value)


class _Local:
    """The hyperplanes through a direction."""

    def __init__(self, system: _System, on: Integers) -> None:
        self.normals = [system.normals[g] for g in on]
        self.plus = [system.plus[g] for g in on]
        self.minus = [system.minus[g] for g in on]
        self.rank = len(independent_rows(self.normals)) if on else 0
        self.independent = self.rank == len(on)

    @cached_property
    def rays(self) -> list[Ray]:
        return list(ExactArrangement(self.normals).rays())

    def multipliers(self, base: fmpq_mat) -> list[Fraction] | None:
        """Solve ``n_g . (base + sum zeta n) = 0`` with each zeta between its q^- and q^+."""
        if not self.normals:
            return []
        intervals = [
            (Fraction(min(q)), Fraction(max(q))) for q in zip(self.plus, self.minus, strict=True)
        ]
        N = fmpq_mat(fmpz_mat([list(row) for row in self.normals]))
        if not self.independent:
            return box_point(self.normals, intervals, [-x for x in fractions_of(N * base)])
        zeta = fractions_of((N * N.transpose()).solve(N * base * -1))
        inside = all(low <= z <= high for z, (low, high) in zip(zeta, intervals, strict=True))
        return zeta if inside else None

    def changes(self, zeta: list[Fraction]) -> list[Fraction]:
        """Return the first-order changes of G along the rays around the direction."""
        up = [q - z for q, z in zip(self.plus, zeta, strict=True)]
        down = [q - z for q, z in zip(self.minus, zeta, strict=True)]
        if self.independent:
            return up + [-x for x in down]
        return [
            sum(
                (
                    s * (a if sign * s > 0 else b) * sign
                    for s, a, b in zip(ray.values, up, down, strict=True)
                ),
                Fraction(0),
            )
            for ray in self.rays
            for sign in (1, -1)
        ]


def _dot(a: Any, b: Any) -> int:
    return sum(map(mul, a, b))

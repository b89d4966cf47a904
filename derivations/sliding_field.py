"""The field of a sliding neuron: the element of minimal norm, which has no normal velocity."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import sympy

from derivations._derivation import Derivation, print_derivation
from derivations.linear_flow import Numbers

CLAIM = "On hyperplanes that attract, the minimal-norm D is the projected one or leaves by a side"
SOURCE = (
    "Filippov 1988, Differential equations with discontinuous righthand sides, §4; minimal norm: "
    "Davis, Drusvyatskiy, Kakade & Lee 2020 (arXiv 1804.07795), Bolte & Pauwels 2021 "
    "(arXiv 1909.10300)"
)
USED_BY = (
    "flowsim/selection.py",
    "flowsim/cells.py (projector, multiplier_map)",
    "flowsim/alignment/extremal.py",
)


def derive(d: Derivation) -> None:
    """Derive the rule for one hyperplane, the projection for K, and what ends a slide."""
    _one_hyperplane(d)
    _independent_hyperplanes(d)
    _ends(d)


def _one_hyperplane(d: Derivation) -> None:
    a, g, plus, minus, s = sympy.symbols("a g q_+ q_- s", real=True, nonzero=True)
    d.say(
        "At ν·w = 0, ‖ν‖ = 1, the field is D₀ + ζν with ζ = q₊ on the + side, q₋ on the - side, "
        "and any ζ = s q₊ + (1 - s) q₋ with s in [0, 1] on the hyperplane. With g = ν·D₀ the "
        "velocity ν·w' of the margin on the two sides is"
    )
    fast, slow = a * (g + plus), a * (g + minus)
    d.show("v_+", fast)
    d.show("v_-", slow)
    r, n, size = sympy.symbols("r n x", real=True, nonzero=True)
    d.say(
        "One sample of norm |x| on the + side has q₊ = r|x|/n and q₋ = 0. The margin x·w has |x| "
        "times these velocities, which therefore differ by"
    )
    d.equal(
        "|x| (v_+ - v_-)",
        (size * (fast - slow)).subs({plus: r * size / n, minus: 0}),
        a * r * size**2 / n,
    )
    d.say(
        "A slide needs v₊ ≤ 0 ≤ v₋, not both 0, hence a (q₊ - q₋) < 0, for one sample a r < 0. Let "
        "it be so: the hyperplane attracts. Of the fields D₀ + ζν"
    )
    zeta = sympy.Symbol("zeta", real=True)
    square = sympy.Symbol("D_0^2") + 2 * zeta * g + zeta**2
    d.equal(r"\tfrac{d}{d\zeta} \|D_0 + \zeta\nu\|^2", square.diff(zeta), 2 * (g + zeta))
    d.say("so the one of least norm has ζ = -g: no normal velocity. In terms of s it is")
    share = slow / (slow - fast)
    d.equal("s q_+ + (1 - s) q_-", share * plus + (1 - share) * minus, -g)
    d.show("s = v_-/(v_- - v_+)", sympy.factor(share))
    d.say(
        "which lies in [0, 1] if and only if v₊ ≤ 0 ≤ v₋, as v₋ - v₊ > 0. Otherwise both have one "
        "sign. In s, the squared norm has the slope"
    )
    mixed = g + s * plus + (1 - s) * minus
    slope = 2 * (g + zeta) * (plus - minus)
    between = s * fast + (1 - s) * slow
    d.equal("a ν·D - v(s)", a * mixed - between, sympy.Integer(0))
    d.equal(
        r"\tfrac{d}{ds} \|D\|^2 - 2 v(s) (v_+ - v_-)/a^2",
        slope.subs(zeta, mixed - g) - 2 * between * (fast - slow) / a**2,
        sympy.Integer(0),
    )
    d.say(
        "with v(s) = s v₊ + (1 - s) v₋. Since v₊ < v₋, it falls with s where both are positive: s "
        "= 1, the + side, into which the neuron crosses; and s = 0, the - side, where both are "
        "negative. The minimal norm is the rule of Filippov."
    )


def _independent_hyperplanes(d: Derivation) -> None:
    N: Any = sympy.Matrix(2, 3, sympy.symbols("N_11 N_12 N_13 N_21 N_22 N_23", real=True))
    D = sympy.Matrix(sympy.symbols("D_1:4", real=True))
    z: Any = sympy.Matrix(sympy.symbols("zeta_1:3", real=True))
    d.say("K independent hyperplanes at once, the rows of N (K, d); here K = 2, d = 3. Let")
    gram = N * N.T
    det, lift = gram.det(), N.T * gram.adjugate()  # (N Nᵀ)⁻¹ = adj/det; times det: polynomials
    d.say("ζ* = -(N Nᵀ)⁻¹ N D₀ and D_K = D₀ + Nᵀζ* = D₀ - Nᵀ(N Nᵀ)⁻¹ N D₀.")
    d.holds("N D_K = 0", (det * N * D - N * lift * N * D).expand().is_zero_matrix)
    whole = D + N.T * z
    square = whole.dot(whole)
    gradient = sympy.Matrix([square]).jacobian(z).T
    d.holds(
        r"\nabla_\zeta \|D_0 + N^T\zeta\|^2 = 2 N (D_0 + N^T\zeta)",
        (gradient - 2 * N * whole).expand().is_zero_matrix,
    )
    hessian = sympy.hessian(square, list(z))
    d.holds(
        r"\nabla^2_\zeta \|D_0 + N^T\zeta\|^2 = 2 N N^T",
        (hessian - 2 * gram).expand().is_zero_matrix,
    )
    minors = sum(N[:, list(pair)].det() ** 2 for pair in ((0, 1), (0, 2), (1, 2)))
    d.equal(r"\det N N^T - \sum \mathrm{minors}^2", det - minors, sympy.Integer(0))
    d.say(
        "The Hessian is positive definite for independent rows, so ζ* is the only minimiser. The "
        "projection keeps N w = 0, since (N w)' = a N D_K, and it is D for the neuron's flow: z' = "
        "M(D_K) z, again a boost that keeps a² - ‖w‖²."
    )
    rest = lift * N  # det (I - P)
    d.holds(
        "P^2 = P = P^T with D_K = P D_0",
        (rest * rest - det * rest).expand().is_zero_matrix
        and (rest - rest.T).expand().is_zero_matrix,
    )


def _ends(d: Derivation) -> None:
    a, side, slope = sympy.symbols("a s g", real=True, nonzero=True)
    kappa = sympy.Symbol("kappa", positive=True)
    d.say(
        "If ζ* leaves the box between the q₊ and q₋ of every hyperplane, the minimiser over the "
        "box has some ζ_g at an end, ζ_g = q^s on the side s = ±1. For a convex function it is "
        "that (Karush, Kuhn, Tucker) where D = D₀ + Nᵀζ satisfies, for each hyperplane,"
    )
    d.say(
        "inside: ν_g·D = 0; at an end: the slope along the way into the box, (q^{-s} - q^s) ν_g·D, "
        "is not negative."
    )
    d.say(
        "Attracting means s a (q^s - q^{-s}) = -κ < 0, so q^{-s} - q^s = κ/(s a) and with g = "
        "ν_g·D, s² = 1"
    )
    left = (kappa / (side * a) * slope * a**2 / kappa).subs(1 / side, side)
    d.equal("(q^{-s} - q^s)\\, g \\; a^2/\\kappa", left, side * a * slope)
    d.say(
        "The condition at an end is s (a ν_g·D) ≥ 0: the margin's velocity points to that side (or "
        "is 0, a tie, and the neuron slides on). So the neuron leaves hyperplane g by the side s "
        "whose q^s its multiplier has reached, and all hyperplanes are decided together. The "
        "answer is unique, as the norm is strictly convex in D, and in ζ for independent rows."
    )
    _example(d)


def _example(d: Derivation) -> None:
    d.say(
        "Five points, r = y, at w ∝ (2, 3), on the hyperplane of x₁ = (-3/2, 1), samples 2 to 5 "
        "on. There is one multiplier, η in [0, 1] times r₁x₁/n:"
    )
    X, y = _five_points()
    base = [sum((y[k] * X[k][i] for k in range(1, 5)), Fraction()) / 5 for i in (0, 1)]
    field, zeta = minimal_norm(base, [X[0]], [0], [y[0] / 5])
    d.equal(
        "D_0^T",
        sympy.Matrix([list(map(sympy.Rational, base))]),
        sympy.Matrix([[sympy.Rational(4, 25), 0]]),
    )
    d.equal(
        "D_K^T",
        sympy.Matrix([list(map(sympy.Rational, field))]),
        sympy.Matrix([[sympy.Rational(16, 325), sympy.Rational(24, 325)]]),
    )
    d.equal(r"\eta", sympy.Rational(zeta[0] / (y[0] / 5)), sympy.Rational(48, 91))


def _five_points() -> tuple[list[list[Fraction]], list[Fraction]]:
    inputs = [Fraction(text) for text in ("-3/2", "-1", "0", "1/4", "2")]
    labels = [Fraction(text) for text in ("7/10", "-3/10", "-3/10", "2/5", "1/5")]
    return [[x, Fraction(1)] for x in inputs], labels


def minimal_norm(
    D0: Numbers, N: Sequence[Numbers] | np.ndarray, low: Numbers, high: Numbers
) -> tuple[list[Fraction], list[Fraction]]:
    """Return D = D0 + Nᵀζ of minimal norm over low ≤ ζ ≤ high, and ζ, in exact arithmetic.

    Enumerates the 3^K active sets; floats are taken at their binary value. For dependent rows ζ is
    one of the minimisers, with the free rows independent.

    Parameters
    ----------
    D0 : (d,)
    N : (K, d), rows of any length
    low, high : (K,)
    """
    base = [Fraction(x) for x in D0]
    rows = [[Fraction(x) for x in row] for row in N]
    ends = [(Fraction(x), Fraction(y)) for x, y in zip(low, high, strict=True)]
    for places in product((0, -1, 1), repeat=len(rows)):
        zeta = [ends[g][max(place, 0)] if place else Fraction() for g, place in enumerate(places)]
        free = [g for g, place in enumerate(places) if place == 0]
        held = _combine(base, rows, zeta)
        gram = [[_dot(rows[g], rows[h]) for h in free] for g in free]
        solved = _solve(gram, [-_dot(rows[g], held) for g in free])
        if solved is None:
            continue
        for g, value in zip(free, solved, strict=True):
            zeta[g] = value
        field = _combine(base, rows, zeta)
        inside = all(lo <= value <= hi for (lo, hi), value in zip(ends, zeta, strict=True))
        if inside and all(
            place * _dot(row, field) <= 0 for row, place in zip(rows, places, strict=True)
        ):
            return field, zeta
    raise ValueError("Arguments `low` and `high` must bound a box, but some low exceeds its high.")


def _dot(left: Sequence[Fraction], right: Sequence[Fraction]) -> Fraction:
    return sum((x * y for x, y in zip(left, right, strict=True)), Fraction())


def _combine(
    base: Sequence[Fraction], rows: Sequence[Sequence[Fraction]], zeta: Sequence[Fraction]
) -> list[Fraction]:
    return [
        base[i] + sum((value * row[i] for value, row in zip(zeta, rows, strict=True)), Fraction())
        for i in range(len(base))
    ]


def _solve(A: list[list[Fraction]], b: list[Fraction]) -> list[Fraction] | None:
    """Solve A x = b by Gauss-Jordan elimination; None for a singular A."""
    table = [[*row, value] for row, value in zip(A, b, strict=True)]
    for i in range(len(table)):
        pivot = next((k for k in range(i, len(table)) if table[k][i] != 0), None)
        if pivot is None:
            return None
        table[i], table[pivot] = table[pivot], table[i]
        table[i] = [value / table[i][i] for value in table[i]]
        for k in range(len(table)):
            if k != i:
                factor = table[k][i]
                table[k] = [x - factor * y for x, y in zip(table[k], table[i], strict=True)]
    return [row[-1] for row in table]


def main() -> None:
    """Print the derivation."""
    print_derivation(__name__)


if __name__ == "__main__":
    main()

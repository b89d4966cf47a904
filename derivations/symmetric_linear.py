"""Symmetric data with a linear teacher: one field for all cells, and a logistic loss."""

from __future__ import annotations

from itertools import product
from typing import Any

import mpmath
import sympy

from derivations._derivation import Derivation, print_derivation

CLAIM = "On ±(1, 1), ±(1, −1) with y = x₁ two aligned neurons fit by a logistic law"
SOURCE = "elementary"
USED_BY = ("flowsim/datasets.py (symmetric_linear)",)

INPUTS = ((1, 1), (1, -1), (-1, -1), (-1, 1))


def derive(d: Derivation) -> None:
    """Show that D is one for all cells, then reduce and solve the flow of the corners."""
    _one_field(d)
    _reduce(d)
    _solve(d)


def _one_field(d: Derivation) -> None:
    d.say("Antipodal inputs ±x₁, …, ±x_q (n = 2q), labels β·x, and a linear network, h(x) = "
          "α·x: the residual is (β − α)·x. A w on no hyperplane of the data has exactly one of "
          "each pair on, and (b·x)x is the same for x and −x. So D is one for all cells. For "
          "d = 2, q = 3 and b = β − α:")  # fmt: skip
    b = sympy.Matrix(sympy.symbols("b_1 b_2", real=True))
    points = [sympy.Matrix(sympy.symbols(f"x_{k}1 x_{k}2", real=True)) for k in (1, 2, 3)]
    covariance = sum((x * x.T for x in points), sympy.zeros(2, 2)) / 3
    fields = [
        sum((b.dot(s * x) * s * x for s, x in zip(signs, points, strict=True)), sympy.zeros(2, 1))
        / 6
        for signs in product((1, -1), repeat=3)
    ]
    same = all((D - covariance * b / 2).expand().is_zero_matrix for D in fields)
    d.holds("D = Σb/2 in all 8 cells, where Σ = (1/n) Σ_k x_k x_kᵀ over all samples", same)


def _reduce(d: Derivation) -> None:
    d.say("The corners ±(1, 1), ±(1, −1) with y = x₁, and two neurons (a, w) = (u, u e₁) and "
          "(−u, −u e₁), u > 0. They output p(x₁)₊ and −p(−x₁)₊ with p = u², so that h(x) = p x₁ "
          "on both sides. As long as u > 0 no w·x_k = ±u vanishes: both neurons keep their "
          "cells.")  # fmt: skip
    u = sympy.Symbol("u", positive=True)
    p = u**2
    neurons = [(u, sympy.Matrix([u, 0])), (-u, sympy.Matrix([-u, 0]))]
    samples = [sympy.Matrix(x) for x in INPUTS]
    outputs = [sum(a * sympy.Max(0, w.dot(x)) for a, w in neurons) for x in samples]
    residual = [x[0] - h for x, h in zip(INPUTS, outputs, strict=True)]
    d.equal("the residuals", sympy.Matrix(residual), (1 - p) * sympy.Matrix([1, 1, -1, -1]))
    a, w, D = u, sympy.zeros(2, 1), sympy.zeros(2, 1)
    for sign, (a, w) in zip((1, -1), neurons, strict=True):
        on = [(r, x) for r, x in zip(residual, samples, strict=True) if w.dot(x).is_positive]
        D = sum((r * x for r, x in on), sympy.zeros(2, 1)) / 4
        name = "of the first" if sign > 0 else "of the second"
        d.equal(f"D {name}", D, sympy.Matrix([(1 - p) / 2, 0]))
        d.equal(f"a' {name}", w.dot(D), sign * u * (1 - p) / 2)
        d.equal(f"w' {name}", a * D, sign * sympy.Matrix([u * (1 - p) / 2, 0]))
    d.say("Both say u' = u(1 − p)/2, so the form of the network is kept, u stays positive, and")
    q = sympy.Symbol("p", positive=True)
    growth = sympy.expand((w.dot(D) * w + a * (a * D)).dot(sympy.Matrix([1, 0])))
    d.equal("p' = a' w₁ + a w₁'", growth.subs(u, sympy.sqrt(q)), q * (1 - q))
    total = sympy.expand(sum(r**2 for r in residual) / 8)
    d.equal("L = (1/2n) Σ r²", total.subs(u, sympy.sqrt(q)), (1 - q) ** 2 / 2)


def _solve(d: Derivation) -> None:
    t, scale = sympy.symbols("t lambda", positive=True)
    p = 1 / (1 + (scale**-2 - 1) * sympy.exp(-t))
    d.show("p(t)", p)
    d.equal("its p' − p(1 − p)", p.diff(t) - p * (1 - p), sympy.Integer(0))
    d.equal("its p(0)", p.subs(t, 0), scale**2)
    d.say("The loss (1 − p)²/2 from λ = 1e-3:")
    for time, digits in ((10, "0.478680461715"), (15, "0.0274355388828")):
        d.holds(f"L({time}) = {digits}", mpmath.nstr(loss(time, "0.001"), 12) == digits)


def loss(t: Any, scale: Any) -> Any:
    """Return L(t) = (1 − p)²/2, p = 1/(1 + (λ⁻² − 1)e^{−t}), an mpf of 50 digits.

    Parameters
    ----------
    t : number or decimal string
        Time of the flow of L = (1/2n) Σ r².
    scale : number or decimal string
        λ: the neurons start at (λ, λ e₁) and (−λ, −λ e₁).
    """
    with mpmath.workdps(60):
        ratio = (mpmath.mpmathify(scale) ** -2 - 1) * mpmath.exp(-mpmath.mpmathify(t))
        value = (ratio / (1 + ratio)) ** 2 / 2  # 1 − p without cancellation
    with mpmath.workdps(50):
        return +value


def main() -> None:
    """Print the derivation."""
    print_derivation(__name__)


if __name__ == "__main__":
    main()

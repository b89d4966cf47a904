"""Least squares on the two half-spaces of a teacher is a stationary point."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import sympy
from numpy.typing import ArrayLike

from derivations._derivation import Derivation, print_derivation

CLAIM = "The least-squares fits on two half-spaces are a local minimum of the loss"
SOURCE = (
    "Boursier & Flammarion, Simplicity bias and optimization threshold in two-layer ReLU networks, "
    "ICML 2025 (arXiv 2410.02348), section 4; the steps here are elementary"
)
USED_BY = (
    "flowsim/datasets.py (half_spaces)",
    "flowsim/stationarity/limits.py (feature_range, attainable_range)",
)

#: A small antipodal example: inputs U and −U, labels x₁ plus a perturbation.
EXAMPLE_INPUTS = ((1, 1), (1, -1), (2, 1), (-1, -1), (-1, 1), (-2, -1))
EXAMPLE_LABELS = tuple(map(Fraction, ("3/2", "1/2", "2", "-1/2", "-3/2", "-5/2")))


def derive(d: Derivation) -> None:
    """Identify D = 0 with the normal equations, then check a rational example in all parts."""
    _normal_equations(d)
    _floor(d)
    _example(d)


def _normal_equations(d: Derivation) -> None:
    d.say("Let a teacher β* split the inputs: H₊ = {k : β*·x_k > 0} and H₋ = {k : β*·x_k < 0}. "
          "Neurons of a first group are on exactly at H₊, those of a second one exactly at H₋. "
          "On H₊ then h(x) = v₊·x with v₊ = Σ a_j w_j over the first group, on H₋ likewise "
          "h(x) = v₋·x, and each group's D is minus the gradient of its own half of the loss. "
          "For two generic samples of H₊, d = 2:")  # fmt: skip
    n = sympy.Symbol("n", positive=True)
    unknowns = sympy.symbols("v_1 v_2", real=True)
    v = sympy.Matrix(unknowns)
    X = sympy.Matrix(2, 2, sympy.symbols("x_11 x_12 x_21 x_22", real=True))
    y = sympy.Matrix(sympy.symbols("y_1 y_2", real=True))
    r = y - X * v
    half = (r.T * r)[0] / (2 * n)
    D = X.T * r / n
    gradient = sympy.Matrix([half.diff(c) for c in unknowns])
    d.equal("D + gradient of (1/2n) Σ (y_k − v·x_k)²", D + gradient, sympy.zeros(2, 1))
    d.equal("its Hessian − XᵀX/n", sympy.hessian(half, unknowns) - X.T * X / n, sympy.zeros(2, 2))
    d.say("A neuron's gradient is (−w·D, −aD). With a ≠ 0 it is zero exactly if D = 0: the "
          "normal equations of least squares on H₊, and on H₋. Where X₊ᵀX₊ and X₋ᵀX₋ are regular "
          "the only solution is v₊ = β₊, v₋ = β₋, the two OLS fits, and the loss is their "
          "residual sum of squares over 2n.")  # fmt: skip
    d.say("If β₊ is positive on H₊ and negative on H₋, a > 0 and w along β₊ is on exactly at H₊; "
          "if β₋ is too, a < 0 and w along −β₋ is on exactly at H₋. Then "
          "h(x) = (β₊·x)₊ − (−β₋·x)₊ is such a stationary point.")  # fmt: skip
    d.say("All w·x_k ≠ 0, so near this point the cells are the same, the loss is a function of "
          "(v₊, v₋) alone, and that function is convex: it is nowhere smaller nearby, whatever "
          "the neurons do. The point is a local minimum.")  # fmt: skip


def _floor(d: Derivation) -> None:
    d.say("It need not be a global one. With b(x) = h(x) − h(−x), which σ(u) − σ(−u) = u makes "
          "linear, a pair ±x with labels y, y' and residuals r, r' has")  # fmt: skip
    u, r, s = sympy.symbols("u r s", real=True)
    relu = sympy.Max(0, u) - sympy.Max(0, -u)
    odd = all(relu.subs(u, value) == value for value in (-2, 0, 3))
    d.holds("σ(u) − σ(−u) = u at u = −2, 0, 3, one of each sign", odd)
    d.equal("r² + r'² − (r − r')²/2", r**2 + s**2 - (r - s) ** 2 / 2, (r + s) ** 2 / 2)
    d.say("and r − r' = (y − y') − b·x. So L ≥ (1/4n) Σ_pairs (y − y' − b·x)² ≥ the least-squares "
          "value of this, with equality for r = −r'.")  # fmt: skip


def _example(d: Derivation) -> None:
    X, y = EXAMPLE_INPUTS, EXAMPLE_LABELS
    d.say("Example: x = ±(1, 1), ±(1, −1), ±(2, 1), β* = (1, 0), in rational arithmetic.")
    d.show("y", sympy.Matrix([[sympy.Rational(v.numerator, v.denominator) for v in y]]))
    plus, minus, loss = ols_halves(X, y, (1, 0))
    for name, beta in ((r"\beta_+", plus), (r"\beta_-", minus)):
        d.show(name, sympy.Matrix([[sympy.Rational(v.numerator, v.denominator) for v in beta]]))
        signs = all((_dot(beta, x) > 0) == (x[0] > 0) and _dot(beta, x) != 0 for x in X)
        d.holds(f"{name} has the signs of β* on all inputs", signs)
    d.equal("L", sympy.sympify(str(loss)), sympy.Rational(5, 168))
    group = ((Fraction(1), plus), (Fraction(-1), [-v for v in minus]))
    residual = [
        yk - sum(a * max(Fraction(0), _dot(w, x)) for a, w in group)
        for x, yk in zip(X, y, strict=True)
    ]
    fields = [
        [sum(r * x[i] for r, x in zip(residual, X, strict=True) if _dot(w, x) > 0) for i in (0, 1)]
        for _, w in group
    ]
    d.holds("D = 0 for (1, β₊) and for (−1, −β₋)", fields == [[0, 0], [0, 0]])
    d.holds("(1/2n) Σ r² of this network is L", sum(r * r for r in residual) / 12 == loss)
    floor = floor_antipodal(X[:3], y[:3], y[3:])
    d.show("the floor", sympy.sympify(str(floor)))
    d.holds("0 < floor < L", 0 < floor < loss)
    even = sympy.Matrix([[abs(_dot(w, x)) for w in ((1, 0), (0, 1), (1, 1))] for x in X[:3]])
    d.show(r"(|w_i \cdot x_k|) for w = (1, 0), (0, 1), (1, 1)", even)
    d.holds("it is regular", even.det() != 0)
    d.say("With |w·x| = σ(w·x) + σ(−w·x) and b·x = σ(b·x) − σ(−b·x), networks of 6 + 2 neurons "
          "output any even values plus any linear function, and so attain the floor. The local "
          "minimum is spurious.")  # fmt: skip


def ols_halves(
    X: ArrayLike | Sequence[Sequence[Fraction | int]],
    y: ArrayLike | Sequence[Fraction | int],
    beta: ArrayLike | Sequence[Fraction | int],
) -> tuple[list[Fraction], list[Fraction], Fraction]:
    """Return (β₊, β₋, loss): least squares on β·x > 0 and on β·x < 0, exactly.

    Parameters
    ----------
    X : (n, d)
        Inputs; floats count as their binary values.
    y : (n,)
        Labels.
    beta : (d,)
        The teacher that splits the inputs.

    Returns
    -------
    beta_plus, beta_minus : list of Fraction (d,)
    loss : Fraction
        (1/2n) Σ r², both halves together.

    Raises
    ------
    ValueError
        If β·x_k = 0 for a sample, or a half does not determine its fit.
    """
    rows, labels, teacher = [_exact(row) for row in _rows(X)], _exact(y), _exact(beta)
    side = [_dot(teacher, row) for row in rows]
    if 0 in side:
        raise ValueError("Argument `beta` must vanish on no input, but it does.")
    fits, squares = [], Fraction(0)
    for sign in (1, -1):
        half = [k for k, s in enumerate(side) if s * sign > 0]
        fit = _least_squares([rows[k] for k in half], [labels[k] for k in half])
        squares += sum((labels[k] - _dot(fit, rows[k])) ** 2 for k in half)
        fits.append(fit)
    return fits[0], fits[1], squares / (2 * len(rows))


def floor_antipodal(
    U: ArrayLike | Sequence[Sequence[Fraction | int]],
    y: ArrayLike | Sequence[Fraction | int],
    y_opposite: ArrayLike | Sequence[Fraction | int],
) -> Fraction:
    """Return min_b (1/4n) Σ (y_k − y'_k − b·x_k)², n = 2q: no network's loss is smaller.

    Parameters
    ----------
    U : (q, d)
        Inputs x_k; the data also hold all −x_k.
    y, y_opposite : (q,)
        Labels of x_k and of −x_k.
    """
    rows = [_exact(row) for row in _rows(U)]
    odd = [p - m for p, m in zip(_exact(y), _exact(y_opposite), strict=True)]
    fit = _least_squares(rows, odd)
    squares = sum(((v - _dot(fit, x)) ** 2 for v, x in zip(odd, rows, strict=True)), Fraction(0))
    return squares / (8 * len(rows))


def _rows(values: Any) -> list[Any]:
    return list(values)


def _exact(values: Any) -> list[Fraction]:
    return [Fraction(v) for v in (values.tolist() if isinstance(values, np.ndarray) else values)]


def _dot(u: Sequence[Fraction | int], v: Sequence[Fraction | int]) -> Fraction:
    return sum((Fraction(p) * q for p, q in zip(u, v, strict=True)), Fraction(0))


def _least_squares(X: list[list[Fraction]], y: list[Fraction]) -> list[Fraction]:
    """Solve the normal equations by Gauss-Jordan elimination."""
    d = len(X[0]) if X else 0
    rows = [
        [sum((x[i] * x[j] for x in X), Fraction(0)) for j in range(d)]
        + [sum((x[i] * v for x, v in zip(X, y, strict=True)), Fraction(0))]
        for i in range(d)
    ]
    for i in range(d):
        pivot = next((k for k in range(i, d) if rows[k][i] != 0), None)
        if pivot is None:
            raise ValueError("Argument `X` must determine the fit on each half, but it does not.")
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [v / rows[i][i] for v in rows[i]]
        for k in range(d):
            if k != i:
                rows[k] = [v - rows[k][i] * p for v, p in zip(rows[k], rows[i], strict=True)]
    if not d:
        raise ValueError("Argument `X` must determine the fit on each half, but it does not.")
    return [row[d] for row in rows]


def main() -> None:
    """Print the derivation."""
    print_derivation(__name__)


if __name__ == "__main__":
    main()

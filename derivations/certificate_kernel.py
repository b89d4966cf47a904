"""How far a kernel shrinks, and how far neurons are from hyperplanes, whatever their gap is."""

from __future__ import annotations

import math

import sympy

from derivations._derivation import Derivation, print_derivation

CLAIM = "Neurons that are not balanced: K(t) ⪰ (1 − ρ(e^Δ − 1))² K(0), and their angular margins"
SOURCE = "elementary (the triangle inequality in K's norm; a lift to d + 1 dimensions)"
USED_BY = (
    "flowsim/certificates/contraction.py (_check_turning)",
    "flowsim/certificates/placed.py (Placed)",
    "flowsim/certificates/sides.py (check_sides)",
)


def derive(d: Derivation) -> None:
    """Derive the bound of z, that of the kernel and its integral, and the margins."""
    _growth(d)
    _kernel(d)
    _integral(d)
    _margins(d)


def _growth(d: Derivation) -> None:
    d.say("z = (a, w) obeys z' = M(D)z. For d = 2, M(D) and its eigenvalues:")
    D1, D2, x = sympy.symbols("D_1 D_2 x", real=True)
    M = sympy.Matrix([[0, D1, D2], [D1, 0, 0], [D2, 0, 0]])
    d.show("M(D)", M)
    d.equal("det(x − M)", (x * sympy.eye(3) - M).det(), x * (x**2 - D1**2 - D2**2))
    d.say("So the symmetric M has the norm ‖D‖ (for every d: it acts in the plane of a and "
          "D). With ℓ = ∫‖D‖, ‖z‖ ≤ e^ℓ‖z(0)‖, and ‖z − z(0)‖ ≤ ∫‖D‖‖z‖ dt ≤ ∫_0^ℓ e^x dx "
          "‖z(0)‖:")  # fmt: skip
    ell = sympy.Symbol("ell", positive=True)
    d.equal(r"\int_0^\ell e^x dx", sympy.integrate(sympy.exp(x), (x, 0, ell)), sympy.exp(ell) - 1)


def _kernel(d: Derivation) -> None:
    d.say("For a vector v, f = a²‖v‖² + (w·v)² is the square of the norm of the vector (av, "
          "w·v), which is linear in z. Of a change δ = (δ_a, δ_w) of z it is at most "
          "‖δ‖‖v‖:")  # fmt: skip
    da, p, q, v1, v2 = sympy.symbols("delta_a delta_1 delta_2 v_1 v_2", real=True)
    dw, v = sympy.Matrix([p, q]), sympy.Matrix([v1, v2])
    rest = (da**2 + dw.dot(dw)) * v.dot(v) - da**2 * v.dot(v) - dw.dot(v) ** 2
    d.equal(
        "‖δ‖²‖v‖² − δ_a²‖v‖² − (δ_w·v)²", sympy.expand(rest), sympy.expand((p * v2 - q * v1) ** 2)
    )
    d.say("while √f(0) ≥ |a(0)|‖v‖. So √f(t) ≥ √f(0) − (e^ℓ − 1)‖z(0)‖‖v‖ ≥ (1 − ρ(e^ℓ − "
          "1))√f(0) with ρ = ‖z(0)‖/|a(0)|. The same holds for f = a²‖v‖². K's form is ω "
          "Σ_j f_j with v = B̂_jᵀe: with the largest ρ and ℓ ≤ Δ of the core, K(t) ⪰ "
          "g(Δ)²K(0), g(x) = 1 − ρ(e^x − 1), as long as it is positive. a keeps its sign "
          "then, too.")  # fmt: skip
    a, w, t = sympy.symbols("a w t", positive=True)
    d.say("The bound is sharp to first order for ‖w‖ ≫ |a|. With w against D, ‖D‖ = 1:")
    moved = a * sympy.cosh(t) - w * sympy.sinh(t)
    d.equal("a(t)/a(0)", sympy.series(moved / a, t, 0, 2).removeO(), 1 - w * t / a)
    d.say("where the bound is 1 − t√(1 + w²/a²).")


def _integral(d: Derivation) -> None:
    d.say("The bootstrap of `certificate` needs q < ∫_0^Δ g²:")
    rho, x, Delta = sympy.symbols("rho x Delta", positive=True)
    integral = sympy.integrate(sympy.expand((1 - rho * (sympy.exp(x) - 1)) ** 2), (x, 0, Delta))
    formula = (
        (1 + rho) ** 2 * Delta
        - 2 * rho * (1 + rho) * (sympy.exp(Delta) - 1)
        + rho**2 * (sympy.exp(2 * Delta) - 1) / 2
    )
    d.equal(r"\int_0^\Delta (1 - \rho(e^x - 1))^2 dx", integral, formula)
    d.equal("to second order", sympy.series(formula, Delta, 0, 3).removeO(), Delta - rho * Delta**2)
    end = sympy.log(1 + 1 / rho)
    d.equal("g at ln(1 + 1/ρ)", 1 - rho * (sympy.exp(end) - 1), sympy.Integer(0))
    d.say("For balanced neurons ρ = √2, and 2ρ exceeds κ = 3/√2: their own bound is better.")
    d.holds("2√2 > 3/√2", bool(2 * sympy.sqrt(2) > 3 / sympy.sqrt(2)))


def _margins(d: Derivation) -> None:
    d.say("Margins. Where a² ≥ ‖w‖² the neuron is W = (w, c), c² = a² − ‖w‖², in one "
          "dimension more, ‖W‖ = |a|, and hyperplane k has the normal (x, 0). The sine of "
          "the angle between them:")  # fmt: skip
    w1, w2, x1, x2 = sympy.symbols("w_1 w_2 x_1 x_2", real=True)
    a, D1, D2 = sympy.symbols("a D_1 D_2", positive=True)
    c = sympy.sqrt(a**2 - w1**2 - w2**2)
    W, normal = sympy.Matrix([w1, w2, c]), sympy.Matrix([x1, x2, 0])
    sine = W.dot(normal) / sympy.sqrt(W.dot(W)) / sympy.sqrt(normal.dot(normal))
    d.equal("sin φ", sympy.simplify(sine), (w1 * x1 + w2 * x2) / (a * sympy.sqrt(x1**2 + x2**2)))
    d.say("It turns at most by ∫‖D‖ (`certificate`). Where ‖w‖ > |a| the direction of w moves at")
    w, D = sympy.Matrix([w1, w2]), sympy.Matrix([D1, D2])
    size = sympy.sqrt(w.dot(w))
    turn = a * D / size - w * a * w.dot(D) / size**3
    d.equal("speed²", turn.dot(turn), a**2 / w.dot(w) * (D.dot(D) - w.dot(D) ** 2 / w.dot(w)))
    d.say("which is at most ‖D‖² again. So sin φ = |x·w|/(‖x‖ max(|a|, ‖w‖)), and the side "
          "of the hyperplane is kept while ∫‖D‖ < φ. As c is constant, and ‖w‖² ≥ −gap, "
          "neither kind can reach z = 0 in a finite length.")  # fmt: skip


def kernel_bound(rho: float, turning: float) -> float:
    """Return g(Δ) = 1 − ρ(e^Δ − 1): K(t) ⪰ g²K(0) where it is positive."""
    return 1 - rho * math.expm1(turning)


def room(rho: float, turning: float) -> float:
    """Return ∫_0^Δ g²: q must be below it."""
    top = 1 + rho
    return (
        top * top * turning
        - 2 * rho * top * math.expm1(turning)
        + rho * rho * math.expm1(2 * turning) / 2
    )


def main() -> None:
    """Print the derivation."""
    print_derivation(__name__)


if __name__ == "__main__":
    main()

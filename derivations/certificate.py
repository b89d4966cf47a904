"""Contraction to a least-squares limit, with a bound on how far neurons turn."""

from __future__ import annotations

import math

import numpy as np
import sympy
from numpy.typing import ArrayLike

from derivations._derivation import Derivation, print_derivation

CLAIM = "Near its end the loss contracts to a least-squares value, and no neuron turns far"
SOURCE = "elementary (a length argument of Łojasiewicz's kind)"
USED_BY = (
    "flowsim/certificates/contraction.py (contraction)",
    "flowsim/stationarity/limits.py (feature_range, least_squares_residual)",
    "flowsim/stationarity/classify.py (classify: limit_loss)",
)

#: Largest rate of log vᵀ(a²I + wwᵀ)v in units of ‖D‖, for |a| ≥ ‖w‖.
KERNEL_CONSTANT = 3 / math.sqrt(2)


def derive(d: Derivation) -> None:
    """Derive dissipation, the kernel's rate, the bootstrap and the rate; check an example."""
    _dissipation(d)
    _kernel(d)
    _turning(d)
    _bootstrap(d)
    _example(d)


def _dissipation(d: Derivation) -> None:
    d.say("Neuron j contributes diag(c_j)X P_j (a_j w_j) = B_j a_j w_j to the outputs, P_j the "
          "projector of its slides. Let V contain the ranges of all B_j, r* = (I − P_V)y and "
          "e = r − r*. As long as the cells hold the outputs lie in V, so e does, and as "
          "r* ⊥ V")  # fmt: skip
    e1, e2, e3, s3 = sympy.symbols("e_1 e_2 e_3 s_3", real=True)
    e, star = sympy.Matrix([e1, e2, 0]), sympy.Matrix([0, 0, s3])
    d.equal("‖r‖² − ‖r*‖²", (e + star).dot(e + star) - star.dot(star), e.dot(e))
    d.say("(written out for V the first two of three coordinates) and D_j = B_jᵀr/n = B_jᵀe/n. "
          "With E = ‖e‖/√n the loss is L = ‖r*‖²/2n + E²/2, hence (E²/2)' = L' = −‖θ'‖². A "
          "neuron's share of ‖θ'‖² is (w·D)² + a²‖D‖², a quadratic form of e:")  # fmt: skip
    a, n = sympy.symbols("a n", positive=True)
    w = sympy.Matrix(sympy.symbols("w_1 w_2", real=True))
    B = sympy.Matrix(3, 2, sympy.symbols("b_11 b_12 b_21 b_22 b_31 b_32", real=True))
    e = sympy.Matrix([e1, e2, e3])
    D = B.T * e / n
    kernel = B * (a**2 * sympy.eye(2) + w * w.T) * B.T / n
    share = w.dot(D) ** 2 + a**2 * D.dot(D)
    d.equal("(w·D)² + a²‖D‖² − eᵀKe/n with K = B(a²I + wwᵀ)Bᵀ/n",
            sympy.expand(share - (e.T * kernel * e)[0] / n), sympy.Integer(0))  # fmt: skip
    d.say("So with K the sum over a core of neurons, v² = eᵀKe/n for the core's speed v, and "
          "(E²/2)' ≤ −v².")  # fmt: skip


def _kernel(d: Derivation) -> None:
    d.say("How fast K can change: for a fixed v let f = vᵀ(a²I + wwᵀ)v.")
    a, D1, D2, w1, w2 = sympy.symbols("a D_1 D_2 w_1 w_2", real=True)
    v, w, D = sympy.Matrix([1, 0]), sympy.Matrix([w1, w2]), sympy.Matrix([D1, D2])
    f = a**2 * v.dot(v) + w.dot(v) ** 2
    rate = f.diff(a) * w.dot(D) + sum(f.diff(c) * a * Dc for c, Dc in ((w1, D1), (w2, D2)))
    pull = w + w.dot(v) * v
    d.equal("f' along the flow, ‖v‖ = 1", rate, sympy.expand(2 * a * D.dot(pull)))
    d.say("This is 2a D·(w + (w·v)v). By Cauchy and Schwarz |f'| ≤ 2|a|‖D‖‖w + (w·v)v|, with "
          "equality for one direction of D. With a = 1 (f'/f depends on w/a only), s = ‖w‖ ≤ 1 "
          "and p = w·v ≤ s:")  # fmt: skip
    s, p, u = sympy.symbols("s p u", nonnegative=True)
    length = pull.dot(pull).subs(w2, sympy.sqrt(s**2 - w1**2)).subs(w1, p)
    d.equal("‖w + (w·v)v‖²", length, s**2 + 3 * p**2)
    square = 4 * length / (1 + p**2) ** 2
    d.show("the largest (f'/(f‖D‖))²", sympy.simplify(square))
    d.say("It grows with s, so s = 1; with u = p² in [0, 1]:")
    square = sympy.simplify(square.subs(s, 1)).subs(p, sympy.sqrt(u))
    d.equal("its derivative in u", square.diff(u), 4 * (1 - 3 * u) / (1 + u) ** 3)
    best = sympy.Rational(1, 3)
    d.equal("its largest value, at u = 1/3", square.subs(u, best), (3 / sympy.sqrt(2)) ** 2)
    d.holds("the ends u = 0 and u = 1 give 4", square.subs(u, 0) == 4 and square.subs(u, 1) == 4)
    d.say("So |d log f/dt| ≤ κ‖D‖ with κ = 3/√2, attained by |a| = ‖w‖ and cos²(w, v) = 1/3. (If "
          "wwᵀ is dropped, f = a²‖v‖² has the smaller constant 2.) With Δ(t) the largest "
          "∫‖D_j‖ of a core neuron, K(t) ⪰ e^{−κΔ}K(0).")  # fmt: skip


def _turning(d: Derivation) -> None:
    d.say("∫‖D‖ bounds the angle that a neuron turns by. In one dimension more, "
          "W = (w, c) with c² = a² − ‖w‖² constant has ‖W‖ = |a| and W' = a(D, 0), and its "
          "direction moves at")  # fmt: skip
    a = sympy.Symbol("a", positive=True)
    w1, w2, D1, D2 = sympy.symbols("w_1 w_2 D_1 D_2", real=True)
    c = sympy.sqrt(a**2 - w1**2 - w2**2)
    W, velocity = sympy.Matrix([w1, w2, c]), a * sympy.Matrix([D1, D2, 0])
    turn = velocity / a - W * (w1 * D1 + w2 * D2) / a**2  # (W/|a|)', with a' = w·D
    d.equal("speed² of the direction", sympy.simplify(turn.dot(turn)),
            D1**2 + D2**2 - (w1 * D1 + w2 * D2) ** 2 / a**2)  # fmt: skip
    d.say("which is at most ‖D‖². So if each angle between W_j and a hyperplane exceeds the bound "
          "below, and every slide's multiplier stays admissible, no cell is ever left. With "
          "V = Rⁿ only the core must be watched. (Neurons that are not balanced are in "
          "`certificate_kernel`, slides and walls in `certificate_walls`.)")  # fmt: skip


def _bootstrap(d: Derivation) -> None:
    d.say("Let μ be the least eigenvalue of K(0) on V, τ_j = ‖K(0)^{−1/2}B_j‖/√n, τ their "
          "maximum over the core. From K(t) ⪰ e^{−κΔ}K(0):")  # fmt: skip
    d.say("(1) v² = eᵀKe/n ≥ μe^{−κΔ}E², so EE' ≤ −v² gives E' ≤ −√μ e^{−κΔ/2} v;")
    d.say("(2) ‖D_j‖ = ‖B_jᵀK^{−1/2} K^{1/2}e‖/n ≤ τ_j e^{κΔ/2} v, as ‖K^{1/2}e‖ = √n v.")
    d.say("Divide: with Δ_j ≤ τ_jΔ/τ, −dΔ/dE ≤ (τ/√μ)e^{κΔ}, hence with q = τE₀/√μ")
    kappa, q, mu, x, Delta = sympy.symbols("kappa q mu x Delta", positive=True)
    integral = sympy.integrate(sympy.exp(-kappa * x), (x, 0, Delta))
    d.equal(r"\int_0^\Delta e^{-\kappa x} dx", integral, (1 - sympy.exp(-kappa * Delta)) / kappa)
    d.say("is at most τ(E₀ − E)/√μ ≤ q. If κq < 1 then")
    bound = -sympy.log(1 - kappa * q) / kappa
    d.show("the bound on Δ", bound)
    d.equal("the integral up to it", integral.subs(Delta, bound), q)
    d.say("The worst K is e^{−κΔ} = 1 − κq times K(0). By (1), (E²/2)' ≤ −μ(1 − κq)E²:")
    d.equal(
        "the rate of L − L_∞ = E²/2", 2 * mu * sympy.exp(-kappa * bound), 2 * mu * (1 - kappa * q)
    )
    d.say("and ∫v dt ≤ E₀/√(μ(1 − κq)) is finite: the core converges, and L → ‖r*‖²/2n.")


def _example(d: Derivation) -> None:
    d.say("Example: one sample and an aligned balanced neuron (one_sample), q₁ = a‖w‖ at first, "
          "ρ = y/(q₁X) ≥ 1. Then K = 2q₁X², τ = 1/√(2q₁), E₀ = q₁X(ρ − 1), so that")  # fmt: skip
    rho, kappa = sympy.symbols("rho kappa", positive=True)
    q1, X = sympy.symbols("q_1 X", positive=True)
    q = q1 * X * (rho - 1) / sympy.sqrt(2 * q1) / sympy.sqrt(2 * q1 * X**2)
    d.equal("q", q, (rho - 1) / 2)
    d.say("The exact ∫‖D‖ is ½ ln ρ, as q' = 2q‖D‖. To first order in ρ − 1 the bound is exact:")
    h = sympy.Symbol("h", positive=True)
    bound = -sympy.log(1 - kappa * h / 2) / kappa
    d.equal("bound", sympy.series(bound, h, 0, 3).removeO(), h / 2 + kappa * h**2 / 8)
    d.equal("exact", sympy.series(sympy.log(1 + h) / 2, h, 0, 3).removeO(), h / 2 - h**2 / 4)


def turning_bound(mu: float, tau: float, E0: float) -> float:
    """Return Δ = −ln(1 − κq)/κ, q = τE₀/√μ: no core neuron turns farther; inf if κq ≥ 1.

    Parameters
    ----------
    mu : float
        Least eigenvalue of K on V.
    tau : float
        Largest τ_j = ‖K^{−1/2}B_j‖/√n.
    E0 : float
        ‖r − r*‖/√n.
    """
    contraction = KERNEL_CONSTANT * tau * E0 / math.sqrt(mu)
    return -math.log1p(-contraction) / KERNEL_CONSTANT if contraction < 1 else math.inf


def rate(mu: float, tau: float, E0: float) -> float:
    """Return 2μ(1 − κq): L − L∞ decays at least as fast as e^{−rate·t}; 0 if κq ≥ 1.

    Arguments are those of `turning_bound`.
    """
    return 2 * mu * max(0.0, 1 - KERNEL_CONSTANT * tau * E0 / math.sqrt(mu))


def kernel_rate(a: float, w: ArrayLike, v: ArrayLike, D: ArrayLike) -> float:
    """Return d log vᵀ(a²I + wwᵀ)v / dt along a' = w·D, w' = aD."""
    w, v, D = (np.asarray(value, dtype=float) for value in (w, v, D))
    value = a * a * float(v @ v) + float(w @ v) ** 2
    change = 2 * a * (float(w @ D) * float(v @ v) + float(w @ v) * float(D @ v))
    return change / value


def main() -> None:
    """Print the derivation."""
    print_derivation(__name__)


if __name__ == "__main__":
    main()

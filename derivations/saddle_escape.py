"""A tiny neuron leaves a saddle after ln(1/size)/γ."""

from __future__ import annotations

import math
from collections.abc import Sequence

import sympy

from derivations._derivation import Derivation, print_derivation

CLAIM = "A tiny neuron of size s leaves a saddle at time ln(1/s)/γ + O(1), γ = sign(a)ψ*(u)"
SOURCE = (
    "elementary; for the phenomenon see Jacot, Ged, Şimşek, Hongler & Gabriel, Saddle-to-saddle "
    "dynamics in deep linear networks (arXiv 2106.15933)"
)
USED_BY = ("flowsim/stationarity/classify.py (_classify_moving, _free_neurons)",)


def derive(d: Derivation) -> None:
    """Derive the growth rate, the eigenvalues, the O(1) of a misalignment, and a closed form."""
    _growth(d)
    _misaligned(d)
    _closed_form(d)


def _growth(d: Derivation) -> None:
    d.say("Heavy neurons rest at the residual r*: D = 0 in their cells. A tiny neuron changes the "
          "residual by O(‖z‖²) only, so to first order it feels D(u) = (1/n) Σ r*_k σ'(u·x_k) x_k, "
          "constant in its cell, u = w/‖w‖. With ψ*(u) = (1/n) Σ r*_k σ(u·x_k):")  # fmt: skip
    x = [sympy.Matrix(sympy.symbols(f"x_{k}1 x_{k}2", real=True)) for k in (1, 2)]
    u = sympy.Matrix(sympy.symbols("u_1 u_2", real=True))
    r1, r2 = sympy.symbols("r_1 r_2", real=True)
    D = (r1 * x[0] + r2 * x[1]) / 2
    psi = (r1 * u.dot(x[0]) + r2 * u.dot(x[1])) / 2
    d.equal("u·D − ψ*(u) (two samples, both on)", sympy.expand(u.dot(D) - psi), sympy.Integer(0))
    a, s = sympy.symbols("a s", positive=True)
    D = sympy.Matrix(sympy.symbols("D_1 D_2", real=True))
    w = s * u
    d.equal("(‖w‖²/2)' / ‖w‖²", sympy.expand(w.dot(a * D) / s**2), sympy.expand(a / s * u.dot(D)))
    d.say("For a balanced neuron a/s = sign(a): its size grows at sign(a) ψ*(u) = γ. Aligned means "
          "that D is parallel to u; then u stays, γ = sign(a)ψ*(u) = ±‖D‖ is constant, and "
          "s(t) = s(0)e^{γt} reaches the order of 1 at ln(1/s(0))/γ.")  # fmt: skip
    D1, D2, D3 = sympy.symbols("D_1 D_2 D_3", real=True)
    D = sympy.Matrix([D1, D2, D3])
    M = sympy.zeros(4, 4)
    M[0, 1:], M[1:, 0] = D.T, D
    x_, g = sympy.Symbol("x"), sympy.Symbol("gamma", positive=True)
    characteristic = M.charpoly(x_).as_expr().subs(D1**2, g**2 - D2**2 - D3**2)
    d.say("The linearisation there is z' = M(D)z for z = (a, w); for d = 3 and γ = ‖D‖")
    d.equal("its characteristic polynomial", sympy.expand(characteristic), x_**2 * (x_**2 - g**2),
            sympy.expand)  # fmt: skip
    d.say("so the largest eigenvalue is γ = ‖D‖ > 0: a strict saddle.")


def _misaligned(d: Derivation) -> None:
    d.say("Not aligned, but in the same cell at an angle φ to the direction u = ±D/‖D‖ that it "
          "turns to: the part of z along the growing eigenvector (1, u) is exactly e^{γt} times "
          "what it was. For a > 0 (a < 0 mirrors D), s = a = ‖w‖ and ψ = φ/2:")  # fmt: skip
    a, w1, g, s, psi = sympy.symbols("a w_1 gamma s psi", positive=True)
    along = a + w1  # u = e₁, D = γu
    flow = along.diff(a) * g * w1 + along.diff(w1) * g * a
    d.equal("(a + w·u)' / (a + w·u)", flow / along, g)
    start = along.subs({a: s, w1: s * sympy.cos(2 * psi)})
    d.equal("a + w·u", start, 2 * s * sympy.cos(psi) ** 2)
    d.say("Once aligned it is 2s(t). So s(t) = s(0) cos²ψ e^{γt}, and the size S is reached at")
    target = sympy.Symbol("S", positive=True)
    time = sympy.log(target / s) / g - 2 * sympy.log(sympy.cos(psi)) / g
    d.show("t", time)
    d.equal("size then", s * sympy.cos(psi) ** 2 * sympy.exp(g * time), target)
    d.say("The correction does not depend on s(0). Other corrections are bounded too: the "
          "residual's way to r* and the tiny neuron's own effect, O(s²), have finite integrals up "
          "to a fixed size S.")  # fmt: skip


def _closed_form(d: Derivation) -> None:
    d.say("A case that can be solved: of n samples the heavy neurons fit all but one, x with "
          "label y > 0, at which they are off; the tiny neuron is balanced, a > 0, along x, and on "
          "at x alone. (Two samples at an obtuse angle and one neuron along each do it.) Then no "
          "neuron feels the others, r = y − qX with q = a‖w‖, X = ‖x‖, and as in "
          "one_sample")  # fmt: skip
    q, q0, X, y, n, t = sympy.symbols("q q_0 X y n t", positive=True)
    r = y - q * X
    growth = 2 * q * X * r / n
    gamma = y * X / n
    d.equal("γ = ψ*(x/X)", gamma, sympy.expand(sympy.limit(growth / (2 * q), q, 0)))
    limit = y / X
    d.equal("q'", growth, 2 * gamma * q * (1 - q / limit))
    solution = limit / (1 + (limit / q0 - 1) * sympy.exp(-2 * gamma * t))
    rest = solution.diff(t) - growth.subs(q, solution)
    d.equal(
        "q' − 2γq(1 − qX/y) of q(t) = (y/X)/(1 + (y/(Xq₀) − 1)e^{−2γt})", rest, sympy.Integer(0)
    )
    half = sympy.log(limit / q0 - 1) / (2 * gamma)
    d.show("t_{1/2}", half)
    d.equal("q there", solution.subs(t, half), limit / 2)
    scale = sympy.Symbol("lambda", positive=True)
    d.say("From a = ‖w‖ = λ, q₀ = λ², this is ln(1/λ)/γ plus a bounded correction:")
    offset = (half.subs(q0, scale**2) + sympy.log(scale) / gamma).subs({X: 1, y: 3, n: 2})
    offset = sympy.logcombine(sympy.expand_log(offset, force=True), force=True)
    d.equal("t_{1/2} − ln(1/λ)/γ as λ → 0, for X = 1, y = 3, n = 2",
            sympy.limit(offset, scale, 0), sympy.log(3) / 3)  # fmt: skip
    d.say("which is ln(y/X)/(2γ) in general.")


def escape_time(gamma: float, size: float, angle: float = 0.0, target: float = 1.0) -> float:
    """Return when a balanced tiny neuron reaches a size: (ln(S/s) − 2 ln cos(φ/2))/γ.

    Exact for a constant D, up to the neuron's final misalignment (size²/target²); in a network
    right up to O(1).

    Parameters
    ----------
    gamma : float
        ‖D‖ = sign(a) ψ*(u) at the direction u that the neuron turns to, positive.
    size : float
        |a| = ‖w‖ at the start.
    angle : float
        Angle φ in radians between w and u.
    target : float
        The size S to reach.
    """
    return (math.log(target / size) - 2 * math.log(math.cos(angle / 2))) / gamma


def half_time(x: Sequence[float], y: float, size: float, n: int) -> float:
    """Return when a‖w‖ is half its limit y/‖x‖, in the case solved in closed form.

    Parameters
    ----------
    x : sequence (d,)
        The sample that the heavy neurons leave alone; `y` is its label, positive.
    size : float
        a = ‖w‖ of the tiny neuron, along x.
    n : int
        Number of samples.
    """
    X = math.hypot(*x)
    return n * math.log(y / (X * size**2) - 1) / (2 * y * X)


def main() -> None:
    """Print the derivation."""
    print_derivation(__name__)


if __name__ == "__main__":
    main()

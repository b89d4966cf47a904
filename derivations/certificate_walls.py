"""Why slides stay slides, and why no neuron passes through a wall."""

from __future__ import annotations

from fractions import Fraction

import sympy

from derivations._derivation import Derivation, print_derivation

CLAIM = "Slides hold while multipliers are inside, and walls while they are strong enough"
SOURCE = "elementary (monotone operators: subgradients of a convex function)"
USED_BY = ("flowsim/certificates/forces.py (Forces)",)


def derive(d: Derivation) -> None:
    """Derive the kink, slides, that solutions do not separate, walls, and what T may be."""
    _kink(d)
    _slides(d)
    _unique(d)
    _walls(d)
    _edges(d)


def _kink(d: Derivation) -> None:
    d.say("Samples x_k = s_k x share a hyperplane with normal x. On the side ±x·w > 0 "
          "sample k has the coefficient 1 if ±s_k > 0, else the slope s, and adds ω c s_k "
          "r_k x to the field. Between the sides this changes by:")  # fmt: skip
    s, omega, r = sympy.symbols("s omega r", real=True)
    size = sympy.Symbol("sigma", positive=True)
    d.equal("s_k = |s_k|", omega * size * r * (1 - s), omega * (1 - s) * size * r)
    d.equal("s_k = −|s_k|", omega * (-size) * r * (s - 1), omega * (1 - s) * size * r)
    d.say("So u⁺ − u⁻ = ω(1 − s) b·r with b_k = |s_k|, for parallel and antipodal samples alike.")


def _slides(d: Derivation) -> None:
    d.say("Let a neuron be near the hyperplanes of two independent normals, rows of N, with "
          "q = Nw, and D = D₀ + u₁x₁ + u₂x₂. The multipliers that hold it on both are ζ = "
          "−(NNᵀ)⁻¹N D₀. Its squared distance from their intersection, qᵀ(NNᵀ)⁻¹q, "
          "falls:")  # fmt: skip
    x1, x2, x3, y1, y2, y3 = sympy.symbols("x_1 x_2 x_3 y_1 y_2 y_3", real=True)
    a, u1, u2 = sympy.symbols("a u_1 u_2", real=True)
    N = sympy.Matrix([[x1, x2, x3], [y1, y2, y3]])
    D0 = sympy.Matrix(sympy.symbols("d_1 d_2 d_3", real=True))
    q = sympy.Matrix(sympy.symbols("q_1 q_2", real=True))
    gram = (N * N.T).inv()
    zeta = -gram * N * D0
    D = D0 + N.T * sympy.Matrix([u1, u2])
    change = (q.T * gram * N * (a * D))[0]
    claimed = a * (q[0] * (u1 - zeta[0]) + q[1] * (u2 - zeta[1]))
    d.equal("½ d/dt qᵀ(NNᵀ)⁻¹q − a Σ q_g(u_g − ζ_g)", sympy.simplify(change - claimed),
            sympy.Integer(0))  # fmt: skip
    d.say("For q_g > 0, u_g = u_g⁺, for q_g < 0 it is u_g⁻. If σu_g⁺ < σζ_g < σu_g⁻ with σ "
          "= sign(a), every term is negative where q_g ≠ 0: whatever solution is looked at, "
          "it stays there, and D is the projection of D₀.")  # fmt: skip


def _unique(d: Derivation) -> None:
    d.say("With walls among the hyperplanes the neuron may leave some. Given a(t), r(t) and "
          "what all other hyperplanes add, two solutions from one point have")  # fmt: skip
    d.say("½ d/dt ‖w₁ − w₂‖² = a Σ_g (u_g(q₁) − u_g(q₂))(q₁ − q₂).")
    gap, p, n = sympy.symbols("delta p n", positive=True)
    d.say("On one side of g the term is 0. On two sides, q₁ = p > 0 > q₂ = −n, and "
          "attraction a(u⁺ − u⁻) = −δ < 0:")  # fmt: skip
    term = -gap * (p + n)
    d.holds("the term −δ(p + n) is negative", bool(term.is_negative))
    d.say("(On the hyperplane u is between u⁺ and u⁻, and the term is not positive either.) "
          "So they never separate: a solution that is found is the solution.")  # fmt: skip


def _walls(d: Derivation) -> None:
    d.say("It is found by projection onto the tangent cone of {q_g = 0 on slides, ±q_g ≥ 0 "
          "on walls}. For one wall, on the side + say, D_c has u⁺, and ζ = −x·D_c/‖x‖² "
          "would hold it there:")  # fmt: skip
    x1, x2, d1, d2, jump, a = sympy.symbols("x_1 x_2 d_1 d_2 j a", real=True)
    x, Dc = sympy.Matrix([x1, x2]), sympy.Matrix([d1, d2])
    zeta = -x.dot(Dc) / x.dot(x)
    d.equal("x·(aD_c)", a * x.dot(Dc), -a * zeta * x.dot(x))
    behind = a * x.dot(Dc + jump * x)
    d.equal("x·a(D_c + jx), j = u⁻ − u⁺", sympy.expand(behind),
            a * x.dot(x) * (jump - zeta))  # fmt: skip
    d.say("Where σζ ≤ 0 it leaves the wall to its own side. Where 0 < σζ the wall holds it, "
          "and that is a choice between u⁺ and u⁻ if and only if σζ ≤ σ(u⁻ − u⁺): then the "
          "field behind the wall pushes back.")  # fmt: skip
    d.say("With more walls the reaction is a combination of normals of touched walls with "
          "x·w' = 0, all of one sign. If they are dependent with the slides' normals, one "
          "moves along a dependence until a coefficient of a wall is zero (slides alone are "
          "independent): so independent sets suffice, and each is checked.")  # fmt: skip


def _edges(d: Derivation) -> None:
    d.say("A slide whose multiplier tends to an end, ζ → u⁺, is a wall with that side as "
          "its own. Then D_c with u⁺ has no part along x in the limit: r* is orthogonal to "
          "the features of that side's cell, and V contains them.")  # fmt: skip
    x1, x2, d1, d2, u = sympy.symbols("x_1 x_2 d_1 d_2 u", real=True)
    x, D0 = sympy.Matrix([x1, x2]), sympy.Matrix([d1, d2])
    zeta = -x.dot(D0) / x.dot(x)
    d.equal("x·(D₀ + u⁺x) with u⁺ = ζ", x.dot(D0 + u * x).subs(u, zeta), sympy.Integer(0))


def multipliers(normals: list[list[int]], field: list[int]) -> list[Fraction]:
    """Return ζ with x_h·(D + Σ ζ_g x_g) = 0 for independent normals, exactly."""
    N = sympy.Matrix(normals)
    zeta = -(N * N.T).inv() * N * sympy.Matrix(field)
    return [Fraction(int(x.p), int(x.q)) for x in zeta]


def main() -> None:
    """Print the derivation."""
    print_derivation(__name__)


if __name__ == "__main__":
    main()

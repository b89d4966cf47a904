"""What an Euler step does to a² − ‖w‖², and the sign flips that follow."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import sympy

from derivations._derivation import Derivation, print_derivation

CLAIM = "An Euler step lowers a² − ‖w‖² by h²(a²‖D‖² − (w·D)²), and so flips signs of a"
SOURCE = "elementary"
USED_BY = ("flowsim/engines/piecewise/expansion.py (advance)",)

#: Two orthogonal samples with negative labels, and a balanced neuron with a > 0 that both excite.
FLIP_INPUTS = ((1, 0), (0, 1))
FLIP_LABELS = (-2, -2)
FLIP_START = (Fraction(1), (Fraction(12, 13), Fraction(5, 13)))

Neuron = tuple[Fraction, tuple[Fraction, ...]]


def derive(d: Derivation) -> None:
    """Expand one step, solve a run with constant D, and follow a neuron whose sign flips."""
    _one_step(d)
    _many_steps(d)
    _flip(d)


def _one_step(d: Derivation) -> None:
    d.say("One step of size h: a⁺ = a + h w·D, w⁺ = w + h a D. The terms in h cancel:")
    a, h = sympy.symbols("a h", real=True)
    w1, w2, w3, D1, D2, D3 = sympy.symbols("w_1:4 D_1:4", real=True)
    w, D = sympy.Matrix([w1, w2, w3]), sympy.Matrix([D1, D2, D3])
    new_a, new_w = a + h * w.dot(D), w + h * a * D
    change = new_a**2 - new_w.dot(new_w) - a**2 + w.dot(w)
    exact = h**2 * (w.dot(D) ** 2 - a**2 * D.dot(D))
    d.equal("change − h²((w·D)² − a²‖D‖²), d = 3", sympy.expand(change - exact), sympy.Integer(0))
    d.say("For |a| ≥ ‖w‖ this is at most 0, by Cauchy and Schwarz; for |a| = ‖w‖ it is "
          "−h²a²‖D‖² sin²φ, φ the angle between w and D:")  # fmt: skip
    s, g = sympy.symbols("s g", positive=True)
    phi = sympy.Symbol("varphi", real=True)
    balanced = {w1: s * sympy.cos(phi), w2: s * sympy.sin(phi), w3: 0, a: s}
    along = {D1: g, D2: 0, D3: 0}
    d.equal(
        "change, balanced", exact.subs(along).subs(balanced), -((h * s * g * sympy.sin(phi)) ** 2)
    )


def _many_steps(d: Derivation) -> None:
    d.say("In a time T there are T/h such steps: the error is O(h) in all. With a constant D, of "
          "norm g along e₁, it can be summed. After k steps a ± w₁ have been multiplied by "
          "(1 ± hg)^k and w₂ not at all, so for a balanced start")  # fmt: skip
    h, g, T = sympy.symbols("h g T", positive=True)
    a, w1, w2 = sympy.symbols("a w_1 w_2", real=True)
    for sign, name in ((1, "a + w₁"), (-1, "a − w₁")):
        step = (a + h * w1 * g) + sign * (w1 + h * a * g)
        d.equal(f"{name} after a step", sympy.factor(step), (1 + sign * h * g) * (a + sign * w1))
    gap = w2**2 * ((1 - h**2 * g**2) ** (T / h) - 1)  # a² − w₁² = w₂² at the start
    d.show("a^2 - \\|w\\|^2", gap)
    d.equal("its limit over h as h → 0", sympy.limit(gap / h, h, 0), -(w2**2) * g**2 * T)
    d.say("Once |a| < ‖w‖, nothing keeps a from passing 0.")


def _flip(d: Derivation) -> None:
    d.say("Example: x = (1, 0), (0, 1), y = (−2, −2), a = 1, w = (12/13, 5/13), r frozen at y. "
          "The flow: D = (−1, −1), until w₂ = 0. There a = w₁, as a² = w₁² + w₂², and below, where "
          "sample 2 is off, D = (−1, 0) keeps w₂. So w₂ stays 0, and a = w₁ decreases like e^{−t} "
          "to 0; a is positive for ever.")  # fmt: skip
    d.say("Euler's method with h = 1/2 passes w₂ = 0 and goes on with D = (−1, 0):")
    path = flip_path(Fraction(1, 2), 4)
    for k, (a, w) in enumerate(path):
        d.show(f"(a, w)_{k}", sympy.Matrix([[_rational(v) for v in (a, *w)]]))
    d.equal("a₄", _rational(path[-1][0]), sympy.Rational(-17, 208))
    a, w = path[0]
    d.equal("the change of a² − ‖w‖² in the first step",
            _rational(gap_change(a, w, (Fraction(-1), Fraction(-1)), Fraction(1, 2))),
            sympy.Rational(-49, 676))  # fmt: skip
    d.say("From there a falls like −e^t, where the flow has a → 0. (If r is not frozen the neuron "
          "goes on to fit the label −2 of sample 1, which the flow never does.) Smaller steps "
          "delay it:")  # fmt: skip
    for denominator, count in ((2, 4), (4, 9), (8, 21)):
        signs = [a > 0 for a, _ in flip_path(Fraction(1, denominator), count)]
        d.holds(f"h = 1/{denominator}: a first negative after {count} steps",
                all(signs[:-1]) and not signs[-1])  # fmt: skip


def gap_change(
    a: Fraction | float, w: Sequence[Fraction | float], D: Sequence[Fraction | float],
    h: Fraction | float,
) -> Fraction:  # fmt: skip
    """Return how an Euler step changes a² − ‖w‖²: h²((w·D)² − a²‖D‖²), exactly.

    Parameters
    ----------
    a, w, D : number, (d,), (d,)
        Neuron and field; floats count as their binary values.
    h : number
        The step: a + h w·D, w + h a D.
    """
    along = sum((Fraction(p) * Fraction(q) for p, q in zip(w, D, strict=True)), Fraction(0))
    square = sum((Fraction(q) ** 2 for q in D), Fraction(0))
    return Fraction(h) ** 2 * (along**2 - Fraction(a) ** 2 * square)


def flip_path(h: Fraction, steps: int) -> list[Neuron]:
    """Return the neuron of the example after 0, …, `steps` Euler steps of size h, exactly."""
    a, w = FLIP_START
    path: list[Neuron] = [(a, w)]
    for _ in range(steps):
        D = [Fraction(0), Fraction(0)]
        for x, y in zip(FLIP_INPUTS, FLIP_LABELS, strict=True):
            if w[0] * x[0] + w[1] * x[1] > 0:
                D = [D[i] + Fraction(y * x[i], 2) for i in (0, 1)]
        a, w = (
            a + h * (w[0] * D[0] + w[1] * D[1]),
            (w[0] + h * a * D[0], w[1] + h * a * D[1]),
        )
        path.append((a, w))
    return path


def _rational(value: Fraction) -> sympy.Expr:
    return sympy.Rational(value.numerator, value.denominator)


def main() -> None:
    """Print the derivation."""
    print_derivation(__name__)


if __name__ == "__main__":
    main()

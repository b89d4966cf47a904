"""One sample and an aligned balanced neuron: a logistic law."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mpmath
import sympy

from derivations._derivation import Derivation, print_derivation

CLAIM = "On one sample, q = a‖w‖ of an aligned balanced neuron obeys a logistic law"
SOURCE = "elementary"
USED_BY = ("flowsim/datasets.py (one_sample)",)


def derive(d: Derivation) -> None:
    """Reduce the flow to q' = 2|x|q(y − q|x|), solve it, and evaluate x = (3, 4), y = 2."""
    t, y, X, q0, s = sympy.symbols("t y X q_0 s", positive=True)
    d.say("One sample x with label y > 0, X = ‖x‖, and one neuron with a > 0 and w = s x/X, "
          "s > 0. It is on, so h(x) = a s X and D = r x, r = y − a s X, for L = r²/2.")  # fmt: skip
    a, r = sympy.symbols("a r", real=True)
    x = X * sympy.Matrix([sympy.cos(t), sympy.sin(t)])  # any direction
    w, D = s * x / X, r * x
    d.equal("the part of w' = aD across w", a * D - (a * D).dot(w) * w / s**2, sympy.zeros(2, 1))
    a_rate, s_rate = w.dot(D), a * D.dot(x) / X
    d.equal("a'", a_rate, s * X * r)
    d.equal("s'", s_rate, a * X * r)
    d.say("So w stays on the ray of x. Balanced means a = s, and stays so; then q = a s = s².")
    Q = sympy.Symbol("q", positive=True)
    rate = (s * a_rate + a * s_rate).subs(a, s).subs(s, sympy.sqrt(Q)).subs(r, y - Q * X)
    d.equal("q'", rate, 2 * Q * X * (y - Q * X))
    d.say("This is a logistic law with limit y/X and rate 2yX:")
    limit = y / X
    solution = limit / (1 + (limit / q0 - 1) * sympy.exp(-2 * y * X * t))
    d.show("q(t)", solution)
    rest = solution.diff(t) - 2 * solution * X * (y - solution * X)
    d.equal("its q' − 2Xq(y − Xq)", rest, sympy.Integer(0))
    d.equal("its q(0)", solution.subs(t, 0), q0)
    d.equal("its limit", sympy.limit(solution.subs({y: 2, X: 5, q0: 1}), t, sympy.oo),
            limit.subs({y: 2, X: 5}))  # fmt: skip
    d.say("For x = (3, 4), y = 2 and a = ‖w‖ = 0.005 at the start, q(0) = 0.005²:")
    numbers = {y: 2, X: 5}
    d.equal("limit", limit.subs(numbers), sympy.Rational(2, 5))
    d.equal("rate", (2 * y * X).subs(numbers), sympy.Integer(20))
    for time, digits in (("0.5", "0.231702258835"), ("1", "0.399986809876")):
        value = mpmath.nstr(q(time, "0.000025", (3, 4), 2), 12)
        d.holds(f"q({time}) = {digits}", value == digits)


def q(t: Any, q0: Any, x: Sequence[Any], y: Any) -> Any:
    """Return q(t) = a‖w‖ of an aligned balanced neuron on one sample, an mpf of 50 digits.

    Parameters
    ----------
    t, q0, y : number or decimal string
        Time of the flow of L = r²/2, q at time 0, and label; q0 and y positive.
    x : sequence (d,)
        The input.
    """
    with mpmath.workdps(60):
        t, q0, y = (mpmath.mpmathify(value) for value in (t, q0, y))
        X = mpmath.sqrt(mpmath.fsum(mpmath.mpmathify(value) ** 2 for value in x))
        value = y / X / (1 + (y / X / q0 - 1) * mpmath.exp(-2 * y * X * t))
    with mpmath.workdps(50):
        return +value


def main() -> None:
    """Print the derivation."""
    print_derivation(__name__)


if __name__ == "__main__":
    main()

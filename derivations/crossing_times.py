"""When a neuron meets a hyperplane while its field is constant, without cancellation."""

from __future__ import annotations

from typing import Any

import mpmath
import sympy

from derivations._derivation import Derivation, print_derivation
from derivations.linear_flow import DIGITS, Numbers, number

CLAIM = "With constant D every margin is A e^{|D|t} + B e^{-|D|t} + C: crossings are closed forms"
SOURCE = "elementary, from linear_flow"
USED_BY = ("flowsim/alignment/walk.py",)

a, p, dp, beta, rho = sympy.symbols("a p dp beta rho", real=True, nonzero=True)
t = sympy.Symbol("t", real=True)
E = sympy.Symbol("E", positive=True)


def derive(d: Derivation) -> None:
    """Derive the quadratic, its root without cancellation, the order of hits, two exact times."""
    _quadratic(d)
    _root(d)
    _order(d)
    _examples(d)


def _quadratic(d: Derivation) -> None:
    c = sympy.Symbol("c", real=True)
    u, v = a + p, a - p
    d.say(
        "Let a > 0; else (a, D) → (-a, -D), which leaves w(t) as it is. With ρ = |D|, e = D/ρ, p = "
        "w·e and w⊥ = w - p e, linear_flow gives p(t) = (u e^{ρt} - v e^{-ρt})/2 with u = a + p "
        "and v = a - p, while w⊥ stays. With β = ν·e and E = e^{ρt} the margin is"
    )
    margin = beta * (u * E - v / E) / 2 + c
    d.show(r"\nu·w(t)", margin)
    d.say("with c = ν·w⊥: A = βu/2, B = -βv/2, C = c. It vanishes where A E² + C E + B = 0.")
    d.equal(
        "E \\, (ν·w) - (A E^2 + C E + B)",
        E * margin - (beta * u / 2 * E**2 + c * E - beta * v / 2),
        sympy.Integer(0),
    )
    d.equal(r"\nu·w(0)", margin.subs(E, 1), beta * p + c)


def _root(d: Derivation) -> None:
    m = sympy.Symbol("m", real=True)
    d.say(
        "A margin m at time 0 vanishes where p has grown by dp = -m/β, whatever w⊥ is. Call the "
        "values there p* = p + dp and a* = sqrt(p*² + uv), as uv = a² - p² is constant."
    )
    d.equal(r"m + \beta\,dp", (m + beta * dp).subs(dp, -m / beta), sympy.Integer(0))
    hit = p + dp
    risen = sympy.sqrt(hit**2 + a**2 - p**2)
    u, v, u_hit, v_hit = a + p, a - p, risen + hit, risen - hit
    d.equal("u^* v^* - uv", u_hit * v_hit - u * v, sympy.Integer(0))
    d.say(
        "Since u* = u E and v* = v/E, E - 1 is (u* - u)/u and (v - v*)/v*. Their differences "
        "cancel when dp is small; a* - a = dp (p* + p)/(a* + a) takes dp out of them:"
    )
    grown = dp * (u_hit + u) / ((risen + a) * u)
    shrunk = dp * (v_hit + v) / ((risen + a) * v_hit)
    d.equal(
        "a^* - a - dp (p^* + p)/(a^* + a)",
        risen - a - dp * (hit + p) / (risen + a),
        sympy.Integer(0),
    )
    d.equal("E - 1 - dp (u^* + u)/((a^* + a) u)", u_hit / u - 1 - grown, sympy.Integer(0))
    d.equal("E - 1 - dp (v^* + v)/((a^* + a) v^*)", v / v_hit - 1 - shrunk, sympy.Integer(0))
    d.say(
        "Then t = log1p(E - 1)/ρ. Every sum has terms of one sign: for p ≥ 0 the form with u, for "
        "p* ≤ 0 the one with v; where one of u, v cancels, it is uv over the other:"
    )
    d.equal("u - uv/(a - p)", u - (a**2 - p**2) / (a - p), sympy.Integer(0))
    d.say(
        "The cell's own constants give uv without cancellation: uv = (a² - ‖w‖²) + ‖w⊥‖², with a² "
        "- ‖w‖² conserved and zero for a balanced neuron."
    )


def _order(d: Derivation) -> None:
    d.say(
        "While a > 0, p grows strictly: p' = ρ a. So hyperplanes are met in the order of their dp "
        "and the next one is that with the smallest positive dp: no root is needed to know it. If "
        "uv > 0 then a* > |p*|, a never vanishes and every dp > 0 is reached. If uv = 0 the same "
        "holds for p = a, while for p = -a only p* < 0 is reached: p tends to 0."
    )
    u, v = a + p, a - p
    rising = (u * sympy.exp(rho * t) - v * sympy.exp(-rho * t)) / 2
    size = (u * sympy.exp(rho * t) + v * sympy.exp(-rho * t)) / 2
    d.equal("p' - ρ a", rising.diff(t) - rho * size, sympy.Integer(0))
    d.equal("a^2 - p^2 - uv", size**2 - rising**2 - u * v, sympy.Integer(0))
    d.say(
        "If uv < 0 (possible only for |a| < ‖w‖) and p > 0, a grows and every dp > 0 is reached. "
        "If uv < 0 and p < 0, a falls to 0 at E² = -v/u, where p = -sqrt(-uv): hyperplanes with p* "
        "beyond this are not reached. Then a changes sign and p turns back."
    )
    g, h = sympy.symbols("g h", positive=True)
    d.say("With v = g > 0 and u = -h < 0:")
    turn = sympy.sqrt(g / h)
    d.equal("a(E = sqrt(g/h))", (-h * turn + g / turn) / 2, sympy.Integer(0))
    d.equal("p(E = sqrt(g/h))", (-h * turn - g / turn) / 2, -sympy.sqrt(g * h))


def _examples(d: Derivation) -> None:
    half = sympy.Rational(1, 2)
    d.say("Orthogonal pair, X = (-1/2, 1), (2, 1), y = (-1, 1), r = y, a > 0 at 90°: both on.")
    X = [sympy.Matrix([-half, 1]), sympy.Matrix([2, 1])]
    D = (-X[0] + X[1]) / 2
    d.equal("D^T", D.T, sympy.Matrix([[sympy.Rational(5, 4), 0]]))
    d.say("p = 0, a = u = v = 1, and x₁·w = 1 - p/2 vanishes at p* = 2, E = u* = 2 + √5:")
    time = sympy.log(2 + sympy.sqrt(5)) / sympy.Rational(5, 4)
    d.show("t", time)
    found = crossing_time(1, [0, 1], [1.25, 0], [-0.5, 1])
    d.holds("crossing_time agrees to 50 digits", _agree(found, time))
    d.say("XOR, ±(1, 1) → 1 and ±(1, -1) → -1, r = y, a > 0 at 0°: (1, 1) and (1, -1) are on.")
    D = (sympy.Matrix([1, 1]) - sympy.Matrix([1, -1])) / 4
    d.equal("D^T", D.T, sympy.Matrix([[0, half]]))
    d.say("p = 0, a = u = v = 1, and (1, -1)·w = 1 - p vanishes at p* = 1, at 45°, E = 1 + √2:")
    time = 2 * sympy.asinh(1)
    d.show("t", time)
    d.equal(
        "e^{t/2}",
        sympy.exp(sympy.log(1 + sympy.sqrt(2))),
        sympy.exp(time / 2).rewrite(sympy.log),
        sympy.simplify,
    )
    found = crossing_time(1, [1, 0], [0, 0.5], [1, -1])
    d.holds("crossing_time agrees to 50 digits", _agree(found, time))


def _agree(found: Any, exact: sympy.Expr) -> bool:
    with mpmath.workdps(DIGITS):
        value = mpmath.mpf(str(sympy.N(exact, DIGITS + 5)))
        return found is not None and bool(abs(found / value - 1) < mpmath.mpf(10) ** -50)


def crossing_time(a: Any, w: Numbers, D: Numbers, nu: Numbers, digits: int = DIGITS) -> Any:
    """Return the first t > 0 (an mpf) at which nu·w(t) = 0 while D stays constant, or None.

    Solves A E² + C E + B = 0 for E = e^{|D|t} as it stands, in twice the digits. Any sign of a, and
    times after a has changed sign too. A start on the hyperplane, nu·w = 0, is no crossing.
    """
    with mpmath.workdps(2 * digits):
        a, w, D, nu = number(a), *([number(x) for x in row] for row in (w, D, nu))
        rho = mpmath.sqrt(mpmath.fdot(D, D))
        margin, along = mpmath.fdot(nu, w), mpmath.fdot(nu, D)
        if along == 0:  # so is D = 0
            return None
        p, beta = mpmath.fdot(w, D) / rho, along / rho
        A, B = beta * (a + p) / 2, -beta * (a - p) / 2
        C = margin - beta * p
        if margin == 0:  # one root is E = 1, their product is B/A
            roots = [B / A] if A != 0 else []
        elif A == 0:
            roots = [-B / C] if C != 0 else []
        else:
            inside = C**2 - 4 * A * B
            root = mpmath.sqrt(inside) if inside >= 0 else None
            roots = [] if root is None else [(-C - root) / (2 * A), (-C + root) / (2 * A)]
        times = [mpmath.log(E) / rho for E in roots if E > 1]
    with mpmath.workdps(digits):
        return +min(times) if times else None


def sign_change_time(a: Any, w: Numbers, D: Numbers, digits: int = DIGITS) -> Any:
    """Return the first t > 0 (an mpf) at which a(t) = 0 while D stays constant, or None."""
    with mpmath.workdps(2 * digits):
        a, w, D = number(a), *([number(x) for x in row] for row in (w, D))
        rho = mpmath.sqrt(mpmath.fdot(D, D))
        if rho == 0:
            return None
        p = mpmath.fdot(w, D) / rho
        if a + p == 0 or (square := (p - a) / (a + p)) <= 1:
            return None
        time = mpmath.log(square) / (2 * rho)
    with mpmath.workdps(digits):
        return +time


def main() -> None:
    """Print the derivation."""
    print_derivation(__name__)


if __name__ == "__main__":
    main()

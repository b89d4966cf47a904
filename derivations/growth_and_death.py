"""How fast neurons grow in early alignment, and how they die."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import mpmath
import sympy

from derivations._derivation import Derivation, print_derivation
from derivations.crossing_times import crossing_time
from derivations.linear_flow import DIGITS, flow

CLAIM = "An aligned balanced neuron grows or shrinks as e^{±|D|t}; death takes a finite time"
SOURCE = "Boursier & Flammarion, arXiv 2401.10791, theorem 1 (its time τ); else elementary"
USED_BY = (
    "flowsim/alignment/walk.py",
    "flowsim/alignment/flow.py",
    "flowsim/alignment/extremal.py",
    "flowsim/selection.py",
)

#: The three points of arXiv 2401.10791, section 5: (x, y), to which the bias 1 belongs.
THREE_POINTS = (
    (Fraction(-3, 4), Fraction(11, 10)),
    (Fraction(-1, 2), Fraction(1, 10)),
    (Fraction(1, 8), Fraction(4, 5)),
)


def derive(d: Derivation) -> None:
    """Derive the growth laws, the time scale of alignment, and when and where a neuron dies."""
    _growth(d)
    _time_scale(d)
    _death(d)
    _chain(d)


def _growth(d: Derivation) -> None:
    a, p = sympy.symbols("a p", positive=True)
    rho, half = sympy.symbols("rho h", positive=True)
    phi = 2 * half
    t = sympy.Symbol("t", real=True)
    d.say(
        "|a|' = σ w·D with σ = sign a. For a balanced neuron, |a| = ‖w‖, at the angle φ from σD, "
        "this is |a|' = |D| cos φ |a|: the rate lies between -|D| and |D|. At rest at w = τ‖w‖ "
        "D/|D| it is στ|D|: the size is e^{|D|t} if σ = τ and e^{-|D|t} if not."
    )
    d.say("For constant D, u = |a| + σp and v = |a| - σp (linear_flow) give from any angle φ₀ = 2h")
    grown = ((a + p) * sympy.exp(rho * t) + (a - p) * sympy.exp(-rho * t)) / 2
    size = (grown / a).subs(p, a * sympy.cos(phi))
    claimed = sympy.cos(half) ** 2 * sympy.exp(rho * t)
    claimed += sympy.sin(half) ** 2 * sympy.exp(-rho * t)
    d.equal("|a(t)|/|a(0)|", size, claimed)
    tangent = sympy.tan(half) * sympy.exp(-rho * t)  # of φ(t)/2, see directional_dynamics
    cosine, sine = (1 - tangent**2) / (1 + tangent**2), 2 * tangent / (1 + tangent**2)
    d.equal(
        r"(\ln |a|)' - \rho \cos\varphi", claimed.diff(t) / claimed - rho * cosine, sympy.Integer(0)
    )
    d.equal(
        r"\lim_{t\to\infty} e^{-\rho t} |a(t)|/|a(0)|",
        sympy.limit((sympy.exp(-rho * t) * claimed).expand(), t, sympy.oo),
        sympy.cos(half) ** 2,
    )
    d.say(
        "That is ln|a(t)/a(0)| → ρt + 2 ln cos(φ₀/2): turning costs a neuron a constant factor. As "
        "w⊥ is constant, the size is also sin φ₀/sin φ(t):"
    )
    d.equal(
        r"|a(t)/a(0)| \sin\varphi - \sin\varphi_0",
        claimed * sine - sympy.sin(phi),
        sympy.Integer(0),
    )


def _time_scale(d: Derivation) -> None:
    size, epsilon, rate = sympy.symbols("lambda epsilon D_max", positive=True)
    d.say(
        "While r = y an aligned neuron of size λ reaches 1 at t = ln(1/λ)/|D|. As no rate exceeds "
        "D_max, the largest |D| of all directions, at τ = ε ln(1/λ)/D_max every neuron of size λ "
        "is still of size λ^{1-ε} at most: outputs are O(λ^{2-2ε}) and r = y is a good model."
    )
    tau = epsilon * sympy.log(1 / size) / rate
    d.show("τ", tau)
    d.equal(
        "λ e^{D_{max} τ}",
        size * sympy.exp(rate * tau),
        size ** (1 - epsilon),
        lambda rest: sympy.simplify(sympy.expand_log(sympy.powsimp(rest))),
    )
    one = sympy.log(1 / size) / rate
    d.equal("λ e^{|D| t} at ln(1/λ)/|D|", size * sympy.exp(rate * one), sympy.Integer(1))


def _death(d: Derivation) -> None:
    a, P, r, n, x = sympy.symbols("a P r n x", positive=True)
    d.say(
        "Let sample x be the last that is on: D = r x/n. Its margin has the velocity a r |x|²/n, "
        "negative if and only if a r < 0. On the off side all samples are off and D = 0, the "
        "element of minimal norm on the hyperplane: a neuron that arrives stays there for ever."
    )
    d.say(
        "It arrives from P = x·w/|x| > 0 when p = -P, measured along σD, has risen to p* = 0 "
        "(crossing_times): dp = P, u = |a| - P, a*² = uv = a² - P². While |a| > P,"
    )
    u, risen = a - P, sympy.sqrt(a**2 - P**2)
    growth = P * (risen + u) / ((risen + a) * u)
    b, c = sympy.symbols("b c", positive=True)  # u = b², v = c² spare the roots
    there = {a: (b**2 + c**2) / 2, P: (c**2 - b**2) / 2}
    d.equal(
        "E - sqrt(v/u)",
        sympy.simplify((1 + growth - sympy.sqrt((a + P) / u)).subs(there)),
        sympy.Integer(0),
    )
    rate = r * x / n
    time = sympy.log((a + P) / (a - P)) / (2 * rate)
    d.show("t", time)
    d.equal(r"\tanh(|D| t)", sympy.tanh(rate * time).rewrite(sympy.exp), P / a)
    d.say(
        "so t = artanh(P/|a|)/|D|, finite if and only if P < |a|. With |a| ≥ ‖w‖ ≥ P it is finite "
        "unless |a| = ‖w‖ = P, a balanced neuron along x, which shrinks for ever; then a keeps its "
        "sign and a* > 0. If ‖w‖ = P < |a|, w⊥ = 0 and the neuron arrives at w = 0. If P > |a| "
        "(only for |a| < ‖w‖) a passes 0 first and the neuron turns back."
    )


def _chain(d: Derivation) -> None:
    S = sympy.sqrt
    d.say(
        "Three points x = -3/4, -1/2, 1/8, y = 11/10, 1/10, 4/5, r = y; a = -‖w‖ at 120°. It turns "
        "towards -D, leaves sample 3, then 2, then 1, its last one. D in turn, with rays on the "
        "hyperplanes of 3, 2, 1:"
    )
    X = [sympy.Matrix([sympy.Rational(x), 1]) for x, _ in THREE_POINTS]
    y = [sympy.Rational(label) for _, label in THREE_POINTS]
    fields: list[Any] = [
        sum((y[k] * X[k] for k in range(on)), sympy.zeros(2, 1)) / 3 for on in (3, 2, 1)
    ]
    rays = [
        sympy.Matrix([-1, S(3)]) / 2,
        sympy.Matrix([-8, 1]) / S(65),
        sympy.Matrix([-2, -1]) / S(5),
        sympy.Matrix([-4, -3]) / 5,
    ]
    for name, found, exact in zip(
        ("D_{111}", "D_{110}", "D_{100}"),
        fields,
        ((-31, 80, 120), (-35, 48, 120), (-33, 44, 120)),
        strict=True,
    ):
        d.equal(f"{name}^T", found.T, sympy.Matrix([[exact[0], exact[1]]]) / exact[2])
    d.holds(
        "the rays are orthogonal to x_3, x_2, x_1",
        all(ray.dot(X[k]) == 0 for ray, k in zip(rays[1:], (2, 1, 0), strict=True)),
    )
    death = death_of_case_2()
    total, ratio = sympy.Integer(0), sympy.Integer(1)
    d.say(
        "In each cell t = ln(T₀/T)/|D|, T = tan(φ/2) = sin φ/(1 + cos φ) with φ the angle to -D, "
        "before and after, and the size is multiplied by sin φ₀/sin φ:"
    )
    for i, field in enumerate(fields):
        rho = S(field.dot(field))
        sines = [abs(ray[0] * field[1] - ray[1] * field[0]) for ray in rays[i : i + 2]]
        tangents = [
            sine / (rho - ray.dot(field)) for sine, ray in zip(sines, rays[i : i + 2], strict=True)
        ]
        quotient = sympy.radsimp(tangents[0]) / sympy.radsimp(tangents[1])
        d.show("|D|", rho)
        d.show("T_0", sympy.radsimp(tangents[0]))
        d.show("T", sympy.radsimp(tangents[1]))
        total += sympy.log(quotient) / rho
        ratio *= sines[0] / sines[1]
        text = ("2.86316155", "4.21863444", "4.61317490")[i]
        d.holds(
            f"t_{i + 1} = {text}, by the closed form and by crossing_time",
            _agree(death.times[i], total, text),
        )
    d.equal(r"\|w\|/\|w_0\|", ratio, 3839 * (80 - 31 * S(3)) / 797790)
    d.holds("which is 0.1265876552", _agree(death.ratio, ratio, "0.1265876552"))
    d.say("It stays there, at 180° + arctan(3/4) = 216.86989765°.")


def _agree(found: Any, exact: sympy.Expr, text: str) -> bool:
    """Whether a number agrees with an expression to 50 digits and with its printed digits."""
    with mpmath.workdps(DIGITS):
        value = mpmath.mpf(str(sympy.N(exact, DIGITS + 5)))
        unit = mpmath.mpf(10) ** -len(text.split(".")[1])
        close = abs(found / value - 1) < mpmath.mpf(10) ** -50
        return bool(close and abs(value - mpmath.mpf(text)) <= unit / 2)


class Death(NamedTuple):
    """How a neuron died, in mpf numbers."""

    times: tuple[Any, ...]
    """When it left each sample, the last being its death."""
    angles: tuple[Any, ...]
    """Directions of w then, in degrees within [0, 360)."""
    ratio: Any
    """‖w‖ at its death over ‖w‖ at the start."""


def death_of_case_2(digits: int = DIGITS) -> Death:
    """Follow the neuron a = -‖w‖ at 120° of the three points, r = y, to its death.

    Goes from hyperplane to hyperplane by `crossing_time` and `flow`; times are in units of the flow
    of L = (1/2n) Σ r².
    """
    with mpmath.workdps(digits):
        z = [mpmath.mpf(-1), mpmath.mpf(-1) / 2, mpmath.sqrt(3) / 2]
        now, times, angles, on = mpmath.mpf(0), [], [], [0, 1, 2]
        while on:
            D = [
                sum(y * x for x, y in (THREE_POINTS[k] for k in on)) / 3,
                Fraction(sum(THREE_POINTS[k][1] for k in on), 3),
            ]
            hits = [(crossing_time(z[0], z[1:], D, [THREE_POINTS[k][0], 1], digits), k) for k in on]
            wait, k = min((time, k) for time, k in hits if time is not None)
            z = flow(z, D, wait, digits)
            on.remove(k)
            now += wait
            times.append(now)
            angles.append(mpmath.degrees(mpmath.atan2(z[2], z[1])) % 360)
        return Death(tuple(times), tuple(angles), mpmath.hypot(z[1], z[2]))


def main() -> None:
    """Print the derivation."""
    print_derivation(__name__)


if __name__ == "__main__":
    main()

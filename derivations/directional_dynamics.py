"""How the direction of one neuron turns: gradient ascent on the sphere."""

from __future__ import annotations

from typing import Any

import mpmath
import sympy

from derivations._derivation import Derivation, print_derivation
from derivations.linear_flow import DIGITS, number

CLAIM = "A balanced neuron's direction ascends sign(a) w·D(w), by tan(φ/2) = tan(φ₀/2) e^{-|D|t}"
SOURCE = (
    "Maennel, Bousquet & Gelly 2018 (arXiv 1803.08367); Boursier & Flammarion, arXiv 2401.10791"
)
USED_BY = ("flowsim/alignment/walk.py", "flowsim/alignment/flow.py")


def derive(d: Derivation) -> None:
    """Derive s' and the law of the angle from a' = w·D, w' = a D, for d = 3 and constant D."""
    _direction(d)
    _half_angle(d)
    _any_neuron(d)
    _examples(d)


def _direction(d: Derivation) -> None:
    t = sympy.Symbol("t", real=True)
    a = sympy.Function("a", real=True)(t)
    w: Any = sympy.Matrix([sympy.Function(f"w_{i}", real=True)(t) for i in (1, 2, 3)])
    D: Any = sympy.Matrix(sympy.symbols("D_1:4", real=True))
    flow = {a.diff(t): w.dot(D), **{w[i].diff(t): a * D[i] for i in range(3)}}
    size = sympy.sqrt(w.dot(w))
    s = w / size
    tangent = D - s.dot(D) * s
    d.say("Let s = w/‖w‖ and κ = a/‖w‖. From a' = w·D, w' = a D, whatever D is:")
    d.equal(
        r"\|w\|' / \|w\| - \kappa\, s·D",
        size.diff(t).subs(flow) / size - a / size * s.dot(D),
        sympy.Integer(0),
    )
    d.equal(
        r"s' - \kappa\,(D - (s·D) s)", s.diff(t).subs(flow) - a / size * tangent, sympy.zeros(3, 1)
    )
    ratio = (a / size).diff(t).subs(flow) - s.dot(D) * (1 - a**2 / size**2)
    d.equal(r"\kappa' - (1 - \kappa^2)\, s·D", ratio, sympy.Integer(0))
    d.say(
        "A balanced neuron keeps κ = σ, the sign of a, so s' = σ (D - (s·D) s). Inside a cell D is "
        "constant and D - (s·D) s is the gradient of G(s) = s·D on the sphere: the direction "
        "ascends σG, and G is continuous across hyperplanes, where what switches is 0:"
    )
    d.equal("(σG)' - |D - (s·D) s|^2", tangent.dot(D) - tangent.dot(tangent), sympy.Integer(0))


def _half_angle(d: Derivation) -> None:
    rho, phi = sympy.symbols("rho phi", positive=True)
    t = sympy.Symbol("t", real=True)
    d.say(
        "Let φ be the angle from s to σD and ρ = |D|. Then cos φ = σ s·D/ρ has the derivative -sin "
        "φ φ' = |κ| (ρ² - (s·D)²)/ρ, so that"
    )
    kappa = sympy.Symbol("kappa", positive=True)
    turn = -kappa * (rho**2 - (rho * sympy.cos(phi)) ** 2) / rho / sympy.sin(phi)
    d.equal(r"\varphi'", turn, -kappa * rho * sympy.sin(phi))
    d.say("For a balanced neuron |κ| = 1 and the half angle is an exponential:")
    half = sympy.tan(phi / 2)
    rate = half.diff(phi) * (-rho * sympy.sin(phi)) / half
    d.equal(r"(\ln\tan\tfrac{\varphi}{2})'", rate, -rho)
    start = sympy.Symbol("phi_0", positive=True)
    solution = 2 * sympy.atan(sympy.tan(start / 2) * sympy.exp(-rho * t))
    d.show(r"\varphi(t)", solution)
    d.equal(
        r"\varphi' + \rho \sin\varphi",
        sympy.expand_trig(
            solution.diff(t) + rho * 2 * sympy.sin(solution / 2) * sympy.cos(solution / 2)
        ),
        sympy.Integer(0),
    )


def _any_neuron(d: Derivation) -> None:
    rho, kappa, phi = sympy.symbols("rho kappa phi_0", positive=True)
    t = sympy.Symbol("t", real=True)
    grown = (kappa + sympy.cos(phi)) * sympy.exp(rho * t)
    shrunk = (kappa - sympy.cos(phi)) * sympy.exp(-rho * t)
    cotangent = (grown - shrunk) / (2 * sympy.sin(phi))
    d.say(
        "For any other neuron w⊥ is constant and p = w·D/ρ follows from u = |a| + p and v = |a| - "
        "p (linear_flow), D replaced by σD. With |κ| = |a|/‖w‖ at the start, while a keeps its "
        "sign,"
    )
    d.show(r"\cot\varphi(t)", cotangent)
    slope = cotangent.diff(t).subs(t, 0)
    d.equal(r"\varphi'(0)", -slope * sympy.sin(phi) ** 2, -kappa * rho * sympy.sin(phi))
    d.say("so a dominated neuron, |κ| ≥ 1, turns faster. At |κ| = 1 it is the half-angle law:")
    half = sympy.tan(phi / 2) * sympy.exp(-rho * t)
    balanced = cotangent.subs(kappa, 1).subs(phi, 2 * sympy.atan(sympy.tan(phi / 2)))
    d.equal(
        r"\cot\varphi - \tfrac12 (\cot\tfrac{\varphi}{2} - \tan\tfrac{\varphi}{2})",
        sympy.expand_trig(balanced - (1 / half - half) / 2),
        sympy.Integer(0),
    )


def _examples(d: Derivation) -> None:
    d.say(
        "Three points, r = y, all samples on: D = (-31/120, 2/3) at 111.18134950°. Balanced "
        "neurons with a > 0 started at 45°, 60° and 150° are then, at t = 1 and t = 5, at"
    )
    stated = {
        45: ("75.81712021", "109.08921266"),
        60: ("84.80925471", "109.64371219"),
        150: ("130.74091084", "112.31261199"),
    }
    with mpmath.workdps(DIGITS):
        across, along = mpmath.mpf(-31) / 120, mpmath.mpf(2) / 3
        target, rate = mpmath.atan2(along, across), mpmath.hypot(across, along)
        for start, texts in stated.items():
            for t, text in zip((1, 5), texts, strict=True):
                turned = angle(mpmath.radians(start) - target, rate, t)
                found = mpmath.degrees(target + turned)
                close = bool(abs(found - mpmath.mpf(text)) < mpmath.mpf("5.001e-9"))
                d.holds(f"{start}° → {text}° at t = {t}", close)


def angle(phi0: Any, rate: Any, t: Any, ratio: Any = 1, digits: int = DIGITS) -> Any:
    """Return the angle between w and sign(a) D at time t: radians, an mpf, with the sign of phi0.

    cot φ = ((κ + cos φ₀) e^{ρt} - (κ - cos φ₀) e^{-ρt}) / (2 sin φ₀), while a keeps its sign.

    Parameters
    ----------
    phi0 : angle at time 0 in radians
    rate : ρ = |D|
    t : time
    ratio : κ = |a|/‖w‖ at time 0; 1 for a balanced neuron
    """
    with mpmath.workdps(digits):
        phi0, exponent, ratio = number(phi0), number(rate) * number(t), number(ratio)
        along = (ratio + mpmath.cos(phi0)) * mpmath.exp(exponent)
        along -= (ratio - mpmath.cos(phi0)) * mpmath.exp(-exponent)
        return mpmath.atan2(mpmath.sin(phi0), along / 2)


def main() -> None:
    """Print the derivation."""
    print_derivation(__name__)


if __name__ == "__main__":
    main()

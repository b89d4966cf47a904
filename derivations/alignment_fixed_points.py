"""Where directions come to rest in early alignment, whom they attract, and who grows there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cmp_to_key
from typing import Any, NamedTuple

import numpy as np
import sympy

from derivations._derivation import Derivation, print_derivation

CLAIM = (
    "Fixed directions are w = ±D/|D|; sign(a) = σ is attracted iff σG has a strict maximum there"
)
SOURCE = (
    "extremal vectors: Maennel, Bousquet & Gelly 2018 (arXiv 1803.08367), Boursier & Flammarion "
    "(arXiv 2401.10791); stability: elementary, from directional_dynamics and sliding_field"
)
USED_BY = ("flowsim/alignment/extremal.py", "flowsim/alignment/flow.py")

Vector = tuple[Fraction, Fraction]
Rows = Sequence[Sequence[Any]] | np.ndarray
Labels = Sequence[Any] | np.ndarray


def derive(d: Derivation) -> None:
    """Derive fixed points and stability inside cells, on hyperplanes and for ties; examples."""
    _interior(d)
    _boundary(d)
    _ties(d)
    _examples(d)


def _interior(d: Derivation) -> None:
    D: Any = sympy.Matrix(sympy.symbols("D_1:4", real=True))
    s: Any = sympy.Matrix(sympy.symbols("s_1:4", real=True))
    sigma = sympy.Symbol("sigma", real=True, nonzero=True)
    rho = sympy.sqrt(D.dot(D))
    d.say(
        "For |a| = ‖w‖ and r = y the direction s = w/‖w‖ obeys s' = σ (D - (s·D) s), σ = sign a. "
        "Inside a cell D is constant, and s rests where D is parallel to s, D = 0 or s = τ D/|D| "
        "with τ = ±1: the critical points of G(w) = w·D(w) on the sphere. In d = 3:"
    )
    velocity = sigma * (D - s.dot(D) * s)
    tangents = [sympy.Matrix([D[1], -D[0], 0]), sympy.Matrix([0, D[2], -D[1]])]
    for tau in (1, -1):
        at = dict(zip(s, tau * D / rho, strict=True))
        still = velocity.subs(at).applyfunc(sympy.simplify)
        d.holds(f"s' = 0 at s = τ D/|D|, τ = {tau}", still.is_zero_matrix)
        jacobian = velocity.jacobian(s).subs(at)
        rest = sympy.Matrix.hstack(*[jacobian * v + sigma * tau * rho * v for v in tangents])
        d.holds("J v = -σ τ |D| v for all v ⊥ D", rest.applyfunc(sympy.simplify).is_zero_matrix)
    d.say("with J the linearisation there: the eigenvalue -στ|D|, d - 1 times.")
    d.say(
        "So s = τ D/|D| attracts the sign σ = τ and repels the other. As ‖w‖'/‖w‖ = σ s·D = σ τ "
        "|D|, those that it attracts grow at the rate |D|."
    )


def _boundary(d: Derivation) -> None:
    sigma = sympy.Symbol("sigma", real=True, nonzero=True)
    zeta, plus, minus, mu = sympy.symbols("zeta q_+ q_- mu", real=True)
    along = sympy.Symbol("G_K", real=True)
    d.say(
        "On the hyperplanes of a slide set S the field is D_K = D₀ + Σ ζ_g ν_g with ν_g·D_K = 0 "
        "and ζ_g between q_g^+ and q_g^-; s rests at τ D_K/|D_K|. Within the face {ν_g·s = 0} the "
        "above holds with D_K. Off the face, with μ_g = ν_g·w, one hyperplane gives G the term q^± "
        "μ, that is"
    )
    base = along - zeta * mu  # w·D_0 = w·D_K - ζ μ
    d.equal("w·D - w·D_K  (μ > 0)", base + plus * mu - along, (plus - zeta) * mu)
    d.equal("w·D - w·D_K  (μ < 0)", base + minus * mu - along, (minus - zeta) * mu)
    d.say(
        "a kink: with ζ = q₋ + η (q₊ - q₋), 0 < η < 1, σG grows off the face, on either side, at "
        "the rates"
    )
    eta = sympy.Symbol("eta", positive=True)
    kink = sigma * (plus - minus)
    inside = minus + eta * (plus - minus)
    d.equal("σ (q_+ - ζ)", sigma * (plus - inside), (1 - eta) * kink, sympy.expand)
    d.equal("-σ (q_- - ζ)", -sigma * (minus - inside), eta * kink, sympy.expand)
    d.say(
        "which are both negative if and only if σ (q₊ - q₋) < 0. Near s, with θ the angle moved "
        "within the face, and all g in S,"
    )
    d.say(
        "σG/‖w‖ = σ τ |D_K| cos θ sqrt(1 - O(μ²)) - Σ_g c_g^± |μ_g|, all c_g^± > 0 if all σ (q_g^+ "
        "- q_g^-) < 0."
    )
    d.say(
        "The kinks are of first order, the sphere of second. So σG has a strict local maximum at s "
        "if and only if every g in S has σ (q_g^+ - q_g^-) < 0 and σ = τ, the last unless the face "
        "is one-dimensional, d - |S| = 1, and leaves no θ. As (σG)' = ‖s'‖² along the flow, a "
        "strict maximum attracts; if one g has the other sign, or σ ≠ τ and d - |S| > 1, σG rises "
        "in some direction and the point does not attract."
    )
    d.say(
        "Neurons of sign σ at s have ‖w‖'/‖w‖ = σ s·D_K = σ τ |D_K|: they grow if and only if σ = "
        "τ. A one-dimensional face can so attract neurons that shrink."
    )


def _ties(d: Derivation) -> None:
    theta = sympy.Symbol("theta", real=True)
    rho, c = sympy.symbols("rho c", positive=True)
    product = sympy.Symbol("στ", real=True)
    d.say(
        "A tie: ζ is at an end, say ζ = q₋, and the rate on that side is 0: D_K is the field of "
        "the cell there. In d = 2, at the angle θ from s, σG/‖w‖ is"
    )
    off, on = product * rho * sympy.cos(theta), product * rho * sympy.cos(theta) - c * theta
    d.show("μ < 0", off)
    d.show("μ > 0", on)
    d.equal("second derivative at 0, μ < 0", off.diff(theta, 2).subs(theta, 0), -product * rho)
    d.equal("first derivative at 0, μ > 0", on.diff(theta).subs(theta, 0), -c)
    d.say(
        "On the side of the tie the sphere's curvature decides: a maximum, and attraction, if also "
        "σ = τ; with σ = -τ that side repels."
    )


def _examples(d: Derivation) -> None:
    half, one = Fraction(1, 2), Fraction(1)
    d.say(
        "Orthogonal pair, X = (-1/2, 1), (2, 1), y = (-1, 1). By enumeration, D and η (the part of "
        "a sliding sample that is on), 1 on, 0 sliding, -1 off:"
    )
    X, y = [(-half, 1), (2, 1)], [-1, 1]
    found = extremal_vectors_2d(X, y)
    _list(d, found, X, y)
    expected = [((0, 1), (one, half)), ((1, 0), (half * half, -half))]
    d.holds(
        "two, both ties",
        [(v.pattern, v.D) for v in found] == expected
        and all(set(v.eta.values()) <= {0, 1} for v in found),
    )
    d.say("Five points, x = -3/2, -1, 0, 1/4, 2, y = 7/10, -3/10, -3/10, 2/5, 1/5:")
    inputs = [Fraction(text) for text in ("-3/2", "-1", "0", "1/4", "2")]
    X = [(x, Fraction(1)) for x in inputs]
    y = [Fraction(text) for text in ("7/10", "-3/10", "-3/10", "2/5", "1/5")]
    found = extremal_vectors_2d(X, y)
    _list(d, found, X, y)
    roles = {v.pattern: attracted(X, y, v) for v in found}
    d.holds(
        "those in cells attract a > 0, those on hyperplanes a < 0",
        all(signs == ((-1,) if 0 in pattern else (1,)) for pattern, signs in roles.items())
        and len(found) == 7,
    )
    d.say("All have τ = 1: the neurons with a < 0 that rest on a hyperplane shrink there.")
    d.holds("all τ = 1", all(v.tau == 1 for v in found))


def _list(d: Derivation, found: list[Extremal], X: Rows, y: Labels) -> None:
    for v in found:
        field = f"({v.D[0]}, {v.D[1]})"
        share = "".join(f", η_{k + 1} = {value}" for k, value in v.eta.items())
        signs = ", ".join("a > 0" if sign > 0 else "a < 0" for sign in attracted(X, y, v))
        pattern = " ".join(map(str, v.pattern))
        d.holds(
            f"pattern {pattern}: D = {field}{share}, τ = {v.tau}, attracts {signs or 'none'}",
            _satisfies(X, y, v),
        )


class Extremal(NamedTuple):
    """A nonzero extremal vector at one critical direction w = tau D/|D|."""

    pattern: tuple[int, ...]
    """Code of each sample: 1 on, 0 on the hyperplane, -1 off."""
    D: Vector
    eta: dict[int, Fraction]
    """For each sample with code 0 the part in [0, 1] that is on."""
    norm_squared: Fraction
    tau: int


def extremal_vectors_2d(X: Rows, y: Labels) -> list[Extremal]:
    """Return all nonzero extremal vectors for d = 2, in exact arithmetic.

    Cuts the circle into the rays on hyperplanes and the arcs between them, sorted exactly, and
    looks at each; floats are taken at their binary value. Samples of one hyperplane share one s in
    [0, 1]: eta is s on its + side and 1 - s on the other, + being the side of the first of them. If
    every s gives the same field, s = 1/2. One entry for each critical direction, by its angle.
    """
    rows = [_vector(row) for row in X]
    labels = [Fraction(value) for value in y]
    rays = _rays(rows)
    found = []
    for i, ray in enumerate(rays):
        found += _on_ray(rows, labels, ray)
        following = rays[(i + 1) % len(rays)]
        turn = _cross(ray, following)
        # Opposite neighbours: all samples share one line, the arc is a half-plane.
        middle = (ray[0] + following[0], ray[1] + following[1]) if turn else (-ray[1], ray[0])
        found += _in_arc(rows, labels, middle)
    return found


def attracted(X: Rows, y: Labels, v: Extremal) -> tuple[int, ...]:
    """Return the signs of a whose balanced neurons an extremal direction attracts, for d = 2."""
    if not v.eta:
        return (v.tau,)
    rows = [_vector(row) for row in X]
    w = (v.tau * v.D[0], v.tau * v.D[1])
    normal = rows[min(v.eta)]
    fields = [_one_sided(rows, y, w, normal, side) for side in (1, -1)]
    # Rate at which G grows off the ray on the + and on the - side.
    right, left = _dot(normal, fields[0]), -_dot(normal, fields[1])
    return tuple(
        sign
        for sign in (1, -1)
        if all(sign * rate < 0 or (rate == 0 and sign == v.tau) for rate in (right, left))
    )


def _on_ray(rows: list[Vector], y: list[Fraction], ray: Vector) -> list[Extremal]:
    pattern = tuple(_sign(_dot(row, ray)) for row in rows)
    held = [k for k, code in enumerate(pattern) if code == 0]
    normal = rows[held[0]]
    plus, minus = (_one_sided(rows, y, ray, normal, side) for side in (1, -1))
    fast, slow = _dot(normal, plus), _dot(normal, minus)
    if fast != slow:
        share = slow / (slow - fast)
    elif fast == 0:
        share = Fraction(1, 2)
    else:
        return []
    if not 0 <= share <= 1:
        return []
    D = tuple(share * p + (1 - share) * m for p, m in zip(plus, minus, strict=True))
    eta = {k: share if _dot(rows[k], normal) > 0 else 1 - share for k in held}
    return _entry(pattern, (D[0], D[1]), eta, ray)


def _in_arc(rows: list[Vector], y: list[Fraction], middle: Vector) -> list[Extremal]:
    pattern = tuple(_sign(_dot(row, middle)) for row in rows)
    D = _sum(rows, y, [k for k, code in enumerate(pattern) if code > 0])
    return [
        entry
        for tau in (1, -1)
        if pattern == tuple(tau * _sign(_dot(row, D)) for row in rows)
        for entry in _entry(pattern, D, {}, (tau * D[0], tau * D[1]))
    ]


def _entry(
    pattern: tuple[int, ...], D: Vector, eta: dict[int, Fraction], w: Vector
) -> list[Extremal]:
    norm_squared = _dot(D, D)
    tau = _sign(_dot(D, w))
    return [Extremal(pattern, D, eta, norm_squared, tau)] if norm_squared else []


def _rays(rows: list[Vector]) -> list[Vector]:
    """Return the distinct directions on hyperplanes, counter-clockwise from angle 0."""
    distinct = {}
    for x, z in rows:
        scale = math.lcm(x.denominator, z.denominator)
        integers = (int(-z * scale), int(x * scale))
        divisor = math.gcd(*integers)
        for sign in (1, -1):
            ray = (Fraction(sign * integers[0], divisor), Fraction(sign * integers[1], divisor))
            distinct[ray] = ray

    def lower(ray: Vector) -> int:
        return int(ray[1] < 0 or (ray[1] == 0 and ray[0] < 0))

    def order(left: Vector, right: Vector) -> int:
        return (lower(left) - lower(right)) or _sign(_cross(right, left))

    return sorted(distinct, key=cmp_to_key(order))


def _one_sided(rows: Sequence[Vector], y: Labels, w: Vector, normal: Vector, side: int) -> Vector:
    """Return D beside the direction w, where normal·w has the given sign."""
    signs = [_sign(_dot(row, w)) or side * _sign(_dot(row, normal)) for row in rows]
    return _sum(rows, [Fraction(value) for value in y], [k for k, s in enumerate(signs) if s > 0])


def _sum(rows: Sequence[Vector], y: Sequence[Fraction], on: Sequence[int]) -> Vector:
    n = len(rows)
    first, second = (sum((y[k] * rows[k][i] for k in on), Fraction()) / n for i in (0, 1))
    return first, second


def _satisfies(X: Rows, y: Labels, v: Extremal) -> bool:
    """Whether v is what the definition asks for: D of its pattern and eta, parallel to its w."""
    rows = [_vector(row) for row in X]
    weights = [v.eta.get(k, Fraction(max(code, 0))) for k, code in enumerate(v.pattern)]
    labels = [Fraction(value) * weight for value, weight in zip(y, weights, strict=True)]
    signs = tuple(_sign(v.tau * _dot(row, v.D)) for row in rows)
    admissible = all(0 <= weight <= 1 for weight in weights)
    return admissible and signs == v.pattern and _sum(rows, labels, range(len(rows))) == v.D


def _vector(row: Sequence[Any] | np.ndarray) -> Vector:
    first, second = (Fraction(value) for value in row)
    return first, second


def _dot(left: Vector, right: Vector) -> Fraction:
    return left[0] * right[0] + left[1] * right[1]


def _cross(left: Vector, right: Vector) -> Fraction:
    return left[0] * right[1] - left[1] * right[0]


def _sign(value: Fraction) -> int:
    return (value > 0) - (value < 0)


def main() -> None:
    """Print the derivation."""
    print_derivation(__name__)


if __name__ == "__main__":
    main()

"""Given its field D, one neuron's flow is a one-parameter group of so(1, d)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import sympy
from numpy.typing import ArrayLike

from derivations._derivation import Derivation, print_derivation

CLAIM = "For constant D the flow is exp(tM) = I + sinh(|D|t)/|D| M + (cosh(|D|t) - 1)/|D|² M²"
SOURCE = "elementary; M(D) generates a boost of so(1, d)"
USED_BY = ("flowsim/alignment/walk.py", "flowsim/engines/piecewise/expansion.py")

#: Decimal digits of the numeric functions.
DIGITS = 60


def derive(d: Derivation) -> None:
    """Write down exp(tM) for d = 3, check that it solves the flow, and give its components."""
    D = sympy.Matrix(sympy.symbols("D_1:4", real=True))
    t = sympy.Symbol("t", real=True)
    M = sympy.Matrix(sympy.BlockMatrix([[sympy.zeros(1, 1), D.T], [D, sympy.zeros(3, 3)]]))
    J = sympy.diag(1, -1, -1, -1)
    d.say(
        "One neuron z = (a, w) in d = 3 with its field D: a' = w·D and w' = a D, that is z' = M z. "
        "With J = diag(1, -1, -1, -1) the flow keeps zᵀJz = a² - ‖w‖², since M is in so(1, d):"
    )
    d.show("M", M)
    d.holds("M^T J + J M = 0", (M.T * J + J * M).is_zero_matrix)
    d.holds(r"M^3 = \|D\|^2 M", (M**3 - D.dot(D) * M).expand().is_zero_matrix)
    _exponential(d, M, D, t)
    _components(d, D, t)
    d.say(
        "exp(tM) is linear: c z with c > 0 goes to c exp(tM) z, whose margins are c times those of "
        "z, so c z meets the same hyperplanes at the same times and has the same D in every cell. "
        "Neurons that are positive multiples of each other stay so for ever."
    )


def _exponential(d: Derivation, M: sympy.Matrix, D: sympy.Matrix, t: sympy.Symbol) -> None:
    rho = sympy.sqrt(D.dot(D))
    group = sympy.eye(4) + sympy.sinh(rho * t) / rho * M
    group += (sympy.cosh(rho * t) - 1) / rho**2 * M**2
    d.say(
        "So the series of exp(tM) closes after M². With E(t) = I + sinh(|D|t)/|D| M + (cosh(|D|t) "
        "- 1)/|D|² M²:"
    )
    d.holds("E(0) = I", group.subs(t, 0) == sympy.eye(4))
    residual = group.diff(t) - M * group
    d.holds("E' = M E", residual.applyfunc(sympy.simplify).is_zero_matrix)
    # Polynomials in D, |D|, sinh and cosh, modulo |D|² = D·D and cosh² = 1 + sinh².
    J, size = sympy.diag(1, -1, -1, -1), sympy.Symbol("rho", positive=True)
    sinh, cosh = sympy.symbols("sinh cosh", real=True)
    group = sympy.eye(4) + sinh / size * M + (cosh - 1) / size**2 * M**2
    kept = (size**4 * (group.T * J * group - J)).expand()
    relations = [D.dot(D) - size**2, cosh**2 - sinh**2 - 1]
    kept = kept.applyfunc(lambda entry: sympy.reduced(entry, relations, *D, cosh, sinh, size)[1])
    d.holds("E^T J E = J", kept.is_zero_matrix)


def _components(d: Derivation, D: sympy.Matrix, t: sympy.Symbol) -> None:
    a = sympy.Function("a")(t)
    w: Any = sympy.Matrix([sympy.Function(f"w_{i}")(t) for i in (1, 2, 3)])
    rho = sympy.sqrt(D.dot(D))
    e = D / rho
    flow = {a.diff(t): w.dot(D), **{w[i].diff(t): a * D[i] for i in range(3)}}
    p = w.dot(e)
    u, v, across = a + p, a - p, w - p * e
    d.say("In components, with e = D/|D|, p = w·e, u = a + p, v = a - p and w⊥ = w - p e:")
    d.equal("u' - |D| u", u.diff(t).subs(flow) - rho * u, sympy.Integer(0))
    d.equal("v' + |D| v", v.diff(t).subs(flow) + rho * v, sympy.Integer(0))
    d.equal(r"w_\perp'", across.diff(t).subs(flow), sympy.zeros(3, 1))
    d.equal(r"uv - \|w_\perp\|^2", u * v - across.dot(across), a**2 - w.dot(w))
    d.say("That is u = u₀ e^{|D|t} and v = v₀ e^{-|D|t}, with w⊥ and uv = a² - p² constant.")


def exponential(D: ArrayLike, t: float) -> np.ndarray:
    """Return exp(t M(D)), shape (d+1, d+1), in float64; rows and columns are (a, w)."""
    D = np.asarray(D, dtype=np.float64)
    rho = float(np.linalg.norm(D))
    M = np.zeros((D.size + 1, D.size + 1))
    M[0, 1:] = M[1:, 0] = D
    if rho == 0.0:
        return np.eye(D.size + 1)
    # cosh x - 1 = 2 sinh²(x/2) does not cancel.
    square = 2.0 * np.sinh(0.5 * rho * t) ** 2 / rho**2
    return np.eye(D.size + 1) + np.sinh(rho * t) / rho * M + square * (M @ M)


#: What a vector of numbers may be.
Numbers = Sequence[Any] | np.ndarray


def number(value: Any) -> Any:
    """Return an int, float, decimal string, Fraction or mpf as an mpf of the working precision."""
    if isinstance(value, Fraction):
        return mpmath.mpf(value.numerator) / value.denominator
    return mpmath.mpf(value.item() if isinstance(value, np.generic) else value)


def flow(z: Numbers, D: Numbers, t: Any, digits: int = DIGITS) -> list[Any]:
    """Return exp(t M(D)) z for z = (a, w) as mpf numbers; floats are taken at binary value."""
    with mpmath.workdps(digits):
        a, *w = map(number, z)
        field, time = [number(entry) for entry in D], number(t)
        rho = mpmath.sqrt(mpmath.fsum(entry**2 for entry in field))
        if rho == 0:
            return [a, *w]
        p = mpmath.fdot(w, field) / rho
        u, v = (a + p) * mpmath.exp(rho * time), (a - p) * mpmath.exp(-rho * time)
        shift = ((u - v) / 2 - p) / rho
        moved = [entry + shift * along for entry, along in zip(w, field, strict=True)]
        return [(u + v) / 2, *moved]


def main() -> None:
    """Print the derivation."""
    print_derivation(__name__)


if __name__ == "__main__":
    main()

"""First zeros of the conditions, proved: none before, one inside the bracket, transversal.

An interval is free of zeros where the polynomial's mean-value form exceeds the error. A
zero is claimed where the polynomial is monotone and its values at both ends of a narrow bracket
exceed the error, with different signs; that the *true* function falls inside the bracket, so that
it vanishes only once and transversally, is proved from its derivative over a box of true states.
"""

from __future__ import annotations

from dataclasses import dataclass

from flint import arb, arb_poly, ctx

from flowsim.engines.validated.balls import BOUND_BITS
from flowsim.engines.validated.conditions import Condition
from flowsim.engines.validated.step import Step
from flowsim.engines.validated.undecided import Undecided

#: Intervals shorter than this part of the step are not divided again.
DEEPEST = 60
#: A bracket that is too narrow for the errors is made wider by 16 so many times.
WIDENINGS = 24


@dataclass(frozen=True, eq=False)
class Root:
    """The first zero of a condition: inside the ball `tau`, and `low` and `high` are its ends."""

    condition: Condition
    low: arb
    high: arb

    @property
    def tau(self) -> arb:
        """The bracket as a ball."""
        return self.low.union(self.high)


def first_root(step: Step, f: Condition, until: arb) -> Root | None:
    """Return the first zero of a condition in ``(0, until]``; None if there is none.

    Raises
    ------
    Undecided
        If neither can be proved.
    """
    start = _leaving(step, f, until) if f.vanishing else arb(0)
    if not f.vanishing and _clearly_positive(f, until):
        return None
    if not f.at(start) > 0:
        raise _undecided(f, start, "is zero up to its error where it should be positive")
    slope = f.poly.derivative()
    pending = [(start, until, 0)]
    while pending:
        low, high, depth = pending.pop()
        whole = low.union(high)
        middle = whole.mid()
        steepness = slope(whole)
        if f.poly(middle) + steepness * (whole - middle) - f.error > 0:
            continue
        if steepness > 0 or (steepness < 0 and f.poly(high) > f.error):
            continue  # monotone, and positive at the lower end
        if steepness < 0 and f.poly(high) < -f.error:
            return _bracketed(step, f, slope, low, high)
        if depth == DEEPEST:
            raise _undecided(f, whole, "touches zero, or nearly so")
        pending += [(middle, high, depth + 1), (low, middle, depth + 1)]
    return None


def _clearly_positive(f: Condition, until: arb) -> bool:
    """Whether the constant term exceeds all others on the step: cheap, and mostly true."""
    coefficients = f.poly.coeffs()
    if not coefficients:
        return False
    with ctx.workprec(BOUND_BITS):
        total = arb(0)
        for c in reversed(coefficients[1:]):
            total = total * until + abs(c)
        return bool(coefficients[0] - (total * until + f.error) > 0)


def _leaving(step: Step, f: Condition, until: arb) -> arb:
    """Return a time up to which a function that vanishes at the start is proved to be positive."""
    derivative = f.slope if f.vanishing == 1 else f.curvature
    assert derivative is not None
    part = until
    for _ in range(40):
        part = part / 8
        if derivative(step.box(arb(0).union(part))) > 0:
            # Too close to the start the polynomial cannot tell positive from zero.
            if f.at(part) > 0:
                return part
            break
    raise _undecided(f, arb(0), "does not provably leave zero")


def _bracketed(step: Step, f: Condition, slope: arb_poly, low: arb, high: arb) -> Root:
    """Narrow the bracket of a zero to the error, and prove that it is transversal."""
    finest = step.h * arb(2) ** (4 - ctx.prec)  # where the polynomial's own rounding begins
    x = _zero(f.poly, slope, low, high, finest)
    width = (2 * (f.error + f.poly(x).abs_upper()) / abs(slope(x)).mid() + finest).upper()
    for _ in range(WIDENINGS):
        left, right = max(low, (x - width).mid()), min(high, (x + width).mid())
        if f.poly(left) > f.error and f.poly(right) < -f.error:
            break
        width = 16 * width
    else:
        raise _undecided(f, low.union(high), "is zero, but not provably once")
    if not f.slope(step.box(left.union(right))) < 0:
        raise _undecided(f, left.union(right), "is zero, but not provably transversally")
    return Root(f, left, right)


def _zero(poly: arb_poly, slope: arb_poly, low: arb, high: arb, finest: arb) -> arb:
    """Return nearly the zero of a function that falls from `low` to `high` (Newton, bisection)."""
    x = low.union(high).mid()
    for _ in range(200):
        value = poly(x)
        if value > 0:
            low = x
        elif value < 0:
            high = x
        else:
            break
        new = (x - value / slope(x)).mid()
        if not low < new < high:
            new = low.union(high).mid()
        if abs(new - x) <= finest:
            return new
        x = new
    return x


def _undecided(f: Condition, tau: arb, what: str) -> Undecided:
    name = {
        "margin": "its margin",
        "slide": "the distance of its slide's multiplier from an end",
        "sign": "its output weight",
    }[f.kind]
    return Undecided(f"{name} {what}", tau, f.neurons[0], f.plane)

"""The functions of time whose zeros are events, positive while the cells hold.

Each is a polynomial with a bound on the distance of the true function from it on the step:
margins ``c nu . w_j``, the distances of a slide's multiplier from its ends, and ``a_j`` where
it can change its sign.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flint import arb, arb_poly, ctx

from flowsim.engines.validated.balls import BOUND_BITS, dot
from flowsim.engines.validated.expansion import Group
from flowsim.engines.validated.state import Box
from flowsim.engines.validated.step import Step

MARGIN, SLIDE, SIGN = "margin", "slide", "sign"


@dataclass(frozen=True, eq=False)
class Condition:
    """One function; `neurons` are those that its zero concerns.

    Attributes
    ----------
    poly : arb_poly
    error : arb
        Bound of ``|f - poly|`` on the step.
    slope : callable
        Of a box of states: f'.
    vanishing : int
        How many derivatives of f, itself included, are exactly zero at the start.
    exits : tuple of (plane, side)
        Of slides: the ends that are reached where f vanishes.
    curvature : callable
        Of a box: f''.
    """

    kind: str
    neurons: tuple[int, ...]
    plane: int
    side: int
    poly: arb_poly
    error: arb
    slope: Callable[[Box], arb]
    vanishing: int = 0
    exits: tuple[tuple[int, int], ...] = ()
    curvature: Callable[[Box], arb] | None = None

    def at(self, tau: arb) -> arb:
        """Return a ball of the true value."""
        return self.poly(tau) + arb(0, self.error)


def conditions(step: Step) -> Iterator[Condition]:
    """Yield the conditions of all moving neurons."""
    for group in step.groups:
        code = group.cell.code
        for j in group.neurons:
            if step.state.neurons[j].twin != j:
                continue  # its zeros are those of its twin
            for g, c in enumerate(code):
                if c:
                    yield _margin(step, j, g, c)
            if step.state.neurons[j].gap < 0:
                yield _sign(step, j)
        signs = {step.state.neurons[j].sign for j in group.neurons}
        for exits in group.cell.exits:
            for sign in signs:
                yield _slide(step, group, exits, sign)


def _margin(step: Step, j: int, g: int, c: int) -> Condition:
    nu = step.system.ball_normals[g]
    poly = arb_poly([])
    for p, v in enumerate(nu):
        poly = poly + c * v * step.poly(j, p + 1)
    with ctx.workprec(BOUND_BITS):
        error = (step.system.normal_size[g] * (step.tails[j] + step.errors[j])).upper()
    return Condition(
        MARGIN, (j,), g, c, poly, error,
        slope=lambda box: c * box.margin_rate(j, g),
        vanishing=step.state.neurons[j].fresh.get(g, 0),
        curvature=lambda box: c * box.margin_acceleration(j, g),
    )  # fmt: skip


def _sign(step: Step, j: int) -> Condition:
    neuron = step.state.neurons[j]
    with ctx.workprec(BOUND_BITS):
        error = (step.tails[j] + step.errors[j]).upper()
    return Condition(
        SIGN, (j,), -1, neuron.sign, neuron.sign * step.poly(j, 0), error,
        slope=lambda box: neuron.sign * box.sign_rate(j),
        vanishing=neuron.fresh.get(-1, 0),
    )  # fmt: skip


def _slide(step: Step, group: Group, exits: list[tuple[int, int]], sign: int) -> Condition:
    """Return the distance of the multiplier from an end: ``+-sign (zeta - q^(+-)) > 0``."""
    g, side = exits[0]
    row = group.cell.gaps[g, side]
    assert row is not None
    factor = side * sign
    poly = arb_poly([])
    for v, series in zip(row, step.r_polys, strict=True):
        poly = poly + factor * v * series
    with ctx.workprec(BOUND_BITS):
        errors = (t + e for t, e in zip(step.r_tail, step.r_error, strict=True))
        error = dot((abs(v).upper() for v in row), errors).upper()
    return Condition(
        SLIDE,
        tuple(j for j in group.neurons if step.state.neurons[j].sign == sign),
        g, side, poly, error,
        slope=lambda box: factor * dot(row, box.rate()),
        exits=tuple(exits),
    )  # fmt: skip

"""The functions of time whose zeros are events, positive while the cells hold.

Each is a polynomial with a bound on the distance of the true function from it on the step:
margins ``c nu . w_j``, the distances of a slide's multiplier from its ends, and ``a_j`` where
it can change its sign.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flint import arb, arb_poly, ctx

from flowsim.engines.validated.balls import BOUND_BITS, ZERO, dot
from flowsim.engines.validated.state import Box, known_cell
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
        for g in group.cell.slides:
            for sign in signs:
                yield from _slide(step, group, g, sign)


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


def _slide(step: Step, group, g: int, sign: int) -> Iterator[Condition]:
    """Yield the distances of the multiplier from both ends: ``+-sign (zeta - q^(+-)) > 0``."""
    members = tuple(j for j in group.neurons if step.state.neurons[j].sign == sign)
    for side in (-1, 1):
        row = known_cell(step.system, group.cell.code).gaps[g, side]
        if row is None:  # at this end for as long as the cell lasts
            continue
        factor = side * sign
        poly = arb_poly([])
        for v, series in zip(row, step.r_polys, strict=True):
            poly = poly + factor * v * series
        with ctx.workprec(BOUND_BITS):
            error = sum(
                (abs(v).upper() * (t + e)
                 for v, t, e in zip(row, step.r_tail, step.r_error, strict=True)), ZERO,
            ).upper()  # fmt: skip
        yield Condition(
            SLIDE, members, g, side, poly, error,
            slope=lambda box, row=row, factor=factor: factor * dot(row, box.rate()),
        )  # fmt: skip

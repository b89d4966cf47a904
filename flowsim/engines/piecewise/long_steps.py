"""When a step by collocation is tried instead of a Taylor step, and how long it is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from flowsim.engines.piecewise import collocation

if TYPE_CHECKING:
    from flowsim.engines.piecewise.expander import Expansion
    from flowsim.engines.piecewise.integrator import Integrator

#: Taylor steps of full length, one after another, before collocation is tried.
CALM = 8
#: It costs as much as so many Taylor steps.
COST = 16.0
#: It is not tried below so many: a shorter one pays where it lets fast modes decay.
LEAST = 4.0
#: Steps grow by at most this factor.
GROWTH = 4.0
#: Errors this small leave room for twice the step.
PLENTY = 0.25
#: Attempts to wait after one that was not worth its cost.
PAUSE = 64


class LongSteps:
    """What the last steps say about the next one."""

    def __init__(self) -> None:
        self._calm = 0
        self._next = 0.0
        self._taylor = np.inf

    def worth(self, flow: Integrator, e: Expansion, limit: float) -> bool:
        """Whether to try a long step where a Taylor step may be `e.step`."""
        self._taylor = e.step
        size = len(e.active) * flow.cells.d
        return (
            self._calm >= CALM
            and e.order == flow.order
            and not flow.frozen
            and not flow.every_event
            and min(size, flow.cells.n) <= collocation.LARGEST
            and COST * e.step < min(limit, flow.outlook)
        )

    def expand(self, flow: Integrator, e: Expansion, limit: float) -> Expansion:
        """Return the expansion over a long step, or that of the Taylor step again."""
        h = _power(min(max(self._next, 2.0 * COST * e.step), limit, flow.outlook))
        modes = collocation.Modes.of(flow, e)
        while h >= LEAST * self._taylor:
            error = collocation.collocate(flow, e, h, modes)
            order = min(collocation.STAGES, flow.order - 2)
            # Where Newton's method fails, or all is exact, the error says nothing.
            factor = 0.9 * error ** (-1.0 / order) if 0.0 < error < np.inf else 0.1
            factor = GROWTH if error == 0.0 else factor
            # Rounding grows with the step itself, and may be all that is seen.
            factor = max(factor, 2.0 if error <= PLENTY else 1.0) if error <= 1.0 else factor
            self._next = h * min(factor, GROWTH)
            if error <= 1.0:
                e.step = h
                flow.expander.write_sides(e.r, e.ends)
                return e
            h = _power(min(self._next, 0.5 * h)) if self._next > 0.0 else 0.0
        self._calm = -PAUSE
        return flow.expand()

    def note(self, step: float, tau: float) -> None:
        """Note that a step could have been `step` long and was `tau`."""
        self._calm = self._calm + 1 if tau >= 0.99 * step or tau >= COST * self._taylor else 0


def _power(h: float) -> float:
    """Return the power of two at or below h: of such units nothing is rounded."""
    return math.ldexp(0.5, math.frexp(min(h, 2.0**1000))[1])

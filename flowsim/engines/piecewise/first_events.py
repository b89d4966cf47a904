"""Every neuron's first event in a step, in arrays that are used again by the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowsim.cells import TOUCH
from flowsim.engines.piecewise import detection, slides
from flowsim.engines.piecewise.detection import NOTHING
from flowsim.engines.piecewise.step import Step

if TYPE_CHECKING:
    from flowsim.engines.piecewise.expander import Expansion
    from flowsim.engines.piecewise.integrator import Integrator


class FirstEvents:
    """What m neurons meet first; the arrays are valid until the next step looks.

    Attributes
    ----------
    x : (m,)
        Where, in units; infinite for neurons that meet nothing.
    what, where, side : (m,) int64
        See `detection`; of the others they mean nothing.
    kinks : (m,)
        See `detection.kink`; 0 where there is none.
    """

    def __init__(self, m: int) -> None:
        self.x, self.kinks = np.full(m, np.inf), np.zeros(m)
        self.what, self.where = np.full(m, NOTHING), np.full(m, -1)
        self.side = np.zeros(m, np.int64)
        self._found = np.zeros(0, np.int64)

    def forget(self) -> None:
        """Let no neuron meet anything: few did, so the arrays are not filled anew."""
        found = self._found
        self.x[found], self.what[found], self.kinks[found] = np.inf, NOTHING, 0.0

    def note(self) -> None:
        """Note which neurons meet something, once they have been looked at."""
        self._found = np.flatnonzero(self.x < np.inf)

    def until(self, x: float) -> np.ndarray:
        """Return the neurons that meet something by `x`, by time."""
        coming = self._found[self.x[self._found] <= x]
        return coming[np.argsort(self.x[coming], kind="stable")]


def scan(flow: Integrator, e: Expansion, h: float, within: float) -> Step:
    """Return an empty step of length `h` with the neurons' first events, and their kinks.

    All events up to `within` are found, and some later ones; what is found of one does not
    depend on `within`.
    """
    state, groups, found = flow.state, flow.groups, flow.first_events
    # Where nothing moves the polynomials are constants, the same over any stretch.
    span = h / e.unit if np.isfinite(e.step) else 1.0
    near = min(span, within / e.unit)
    found.forget()
    step = Step(e, h, found.x, found.what, found.where, found.side, found.kinks)
    jumps = np.abs(e.ends[1, :, 0] - e.ends[0, :, 0])
    flow.blocks.each_member(
        len(e.members), detection.scan,
        lambda u0, u1: (
            span, near, e.unit, flow.normals, state.code, e.active, e.start, e.members, u0, u1,
            state.z, e.mass, e.first, e.A, e.W, e.D, state.balance, state.sign, TOUCH, flow.table,
            flow.spread, flow.planes, jumps, step.x, step.what, step.where,
            step.kinks,
        ),
        looks=True,
    )  # fmt: skip
    if np.any(groups.slide_count[e.active]):
        slides.scan_slides(
            span, e.active, e.start, e.members, state.sign, groups.slides,
            groups.slide_count, groups.multipliers, e.ends, e.base, e.tie, flow.table,
            step.x, step.what, step.where, step.side,
        )  # fmt: skip
    found.note()
    return step


def watch_dependent(flow: Integrator, step: Step) -> None:
    """Let the step end where slides on dependent hyperplanes end."""
    e = step.e
    # In an endless step nothing moves, so nothing ends.
    watched = flow.groups.dependent if np.isfinite(step.tau) else set()
    if not watched:
        return
    for q in np.flatnonzero(np.isin(e.active, list(watched))):
        block = e.members[e.start[q] : e.start[q + 1]].copy()
        step.tau, step.cause = flow.switching.dependent_end(block, e.residual, step.tau, step.cause)

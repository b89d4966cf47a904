"""The neurons that stay in their cells in a step: moved all at once, beside the others' walk."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING

import numpy as np

from flowsim._cores import available_cores
from flowsim.engines.piecewise import motion
from flowsim.engines.piecewise.blocks import pool
from flowsim.state import State

if TYPE_CHECKING:
    from flowsim.engines.piecewise.expander import Expansion
    from flowsim.engines.piecewise.integrator import Integrator


def move(flow: Integrator, e: Expansion, x: float, walks: np.ndarray) -> tuple[State, float]:
    """Return the state after `x` units, with all neurons but those that walk, and the drift."""
    groups, state = flow.groups, flow.moving()
    drifts = flow.blocks.each_member(
        len(e.members), motion.ride,
        lambda u0, u1: (
            x, e.unit, e.active, e.start, e.members, walks, u0, u1, flow.state.z,
            flow.state.exponent, state.z, state.exponent,
            e.first, e.A, e.W, e.D, e.fades, groups.projected, groups.projector, state.balance,
            state.gap, state.gap_exponent, state.sign,
        ),
    )  # fmt: skip
    return state, max(drifts, default=0.0)


def move_beside(
    flow: Integrator, e: Expansion, x: float, walks: np.ndarray
) -> Future[tuple[State, float]] | None:
    """Let `move` go on while the others walk, if it is worth a thread and needs only one."""
    if available_cores() == 1 or not flow.blocks.alone(len(e.members)):
        return None
    return pool().submit(move, flow, e, x, walks)

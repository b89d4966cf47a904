"""Steps in closed form, where neurons are too small to move the residual.

With the residual constant the flow of a neuron is a chain of hyperbolic arcs
(`flowsim.alignment.flow`), for any length of time: from lambda = 1e-3000 as quickly as from 1e-6.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from flowsim._rows import norms
from flowsim.alignment import motion, neurons
from flowsim.alignment._chunks import walk_on
from flowsim.alignment._limits import fields_of
from flowsim.alignment._log import scaled_events
from flowsim.cells import TOUCH
from flowsim.engines.piecewise.step import Moved, Step
from flowsim.events import Events
from flowsim.state import State

if TYPE_CHECKING:
    from flowsim.engines.piecewise.expander import Expansion
    from flowsim.engines.piecewise.integrator import Integrator

#: A step in closed form is at least so many Taylor steps long.
CLOSED = 4.0
#: Sums of squares below this may have lost some to underflow.
SMALLEST = 1e-250


def step_of(flow: Integrator, e: Expansion, limit: float, tolerance: float) -> Step | None:
    """Return a step in which the residual does not change, if it is worth it."""
    if flow.every_event or flow.frozen:
        return None
    tau = min(reach(flow, e, tolerance), limit)
    if not tau > CLOSED * e.step or not np.isfinite(e.step):
        return None
    e.r[1:] = 0.0
    found = walk(flow, e.r[0], tau)
    if found is None:
        return None
    nothing = np.zeros(0, np.int64)
    return Step(
        e, tau, np.zeros(0), nothing, nothing, nothing, np.zeros(0), moved=Moved(found[0]),
        rate=largest_rate(flow, e), events=found[1],
    )  # fmt: skip


def after(flow: Integrator, step: Step, tau: float) -> tuple[State, Events]:
    """Return the state after the first `tau` of a step in closed form, and the events."""
    if tau < step.tau:
        found = walk(flow, step.e.r[0], tau)
        assert found is not None  # the whole step has been walked
        return found
    assert step.moved is not None
    assert step.events is not None
    return step.moved.state, step.events


def largest_rate(flow: Integrator, e: Expansion) -> float:
    """Return a bound on ``|D|`` in any cell."""
    return flow.cells.weight * float(np.sum(np.abs(e.r[0]) * flow.cells.norms))


def reach(flow: Integrator, e: Expansion, tolerance: float) -> float:
    """Return for how long the neurons' output turns no neuron by more than `tolerance`.

    Neurons grow at most as e^{Rt}, R = `largest_rate`, so that they change the field by at most
    S e^{2Rt}, S = weight sum_k |x_k|^2 sum_j |z_j|^2, and turn by at most S e^{2Rt} / 2R. Large
    neurons may be at rest meanwhile, up to rounding, as they are at a saddle.
    """
    cells = flow.cells
    rate = largest_rate(flow, e)
    moves = e.rates() > cells.rounding(e.r[0])
    if not np.any(moves) or not rate > 0.0:
        return 0.0
    if np.all(moves) and e.spread > SMALLEST:
        log_spread = np.log(e.spread)
    else:
        moving = e.members[np.repeat(moves, np.diff(e.start))]
        log_spread = np.log(cells.weight * np.sum(cells.norms**2)) + _log_mass(flow.state, moving)
    return float((np.log(2.0 * rate * tolerance) - log_spread) / (2.0 * rate))


def _log_mass(state: State, neurons: np.ndarray) -> float:
    """Return the logarithm of ``sum |z_j|^2``, squares of sizes may underflow."""
    size = norms(state.z[neurons])
    log_size = np.log(size) + state.exponent[neurons] * np.log(2.0)
    top = log_size.max()
    return float(2.0 * top + np.log(np.sum(np.exp(2.0 * (log_size - top)))))


def walk(flow: Integrator, r: np.ndarray, tau: float) -> tuple[State, Events] | None:
    """Return the state after `tau` with the residual constant, and the events (from time 0).

    None if a neuron's events pile up.
    """
    cells = replace(flow.cells, y=r, rtol=0.0)
    walked = walk_on(flow.state, cells, tau)
    z, whole = walked.z, walked.whole
    if np.any(whole[:, neurons.STATUS] == neurons.STUCK):
        return None
    fields, rank = fields_of(cells, walked.codes)
    motion.advance(
        tau, z, walked.real, whole, fields, rank, walked.cell, cells.tie(r),
        np.zeros(len(z), dtype=np.int64), np.empty(len(z)),
    )  # fmt: skip
    z[:, 0] *= whole[:, neurons.SIGN]
    code = walked.codes[walked.cell]
    state = replace(
        flow.state, z=z, exponent=whole[:, neurons.EXPONENT].copy(),
        sign=whole[:, neurons.SIGN].copy(), fate=whole[:, neurons.FATE].copy(), code=code,
        fresh=(np.abs(z[:, 1:] @ cells.normals.T) <= TOUCH) & (code != 0),
    )  # fmt: skip
    return state, scaled_events(walked.rows, walked.times, cells)

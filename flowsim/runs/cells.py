"""Runs of two-layer ReLU networks, on the piecewise engine or on a stepper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from flowsim._arguments import system
from flowsim.alignment.flow import AlignmentFlow, until
from flowsim.alignment.phase import end_rule
from flowsim.assemble import solution_of_cells
from flowsim.cells import Cells
from flowsim.data import Dataset
from flowsim.engines.cell_flow import CellFlow
from flowsim.engines.frozen import FrozenProblem
from flowsim.engines.piecewise import Integrator, integrate
from flowsim.engines.problem import Driver
from flowsim.engines.record import Flow, Limits, Progress, StateStore
from flowsim.engines.relu import known_rtol, run_cells
from flowsim.engines.user_events import UserEvents
from flowsim.engines.user_watch import UserWatch
from flowsim.network import TwoLayerReLU
from flowsim.runs.run import Run
from flowsim.state import State


def prepare_cells(
    net: TwoLayerReLU,
    data: Dataset,
    settings: dict[str, Any],
    stepper: Callable[[float], Any] | None,
    user: UserEvents,
    report: Callable[[Progress], None] | None,
) -> Run:
    """Return the run of a two-layer ReLU network; without a `stepper` it is piecewise."""
    system(net, data)
    if not np.all(np.isfinite(net.a)) or not np.all(np.isfinite(net(data.X))):
        raise ValueError(
            "Argument `net` must have finite weights and outputs on the data, but some overflow."
        )
    rtol, frozen = settings["rtol"], settings["residual"] == "frozen"
    known = rtol if stepper is None else known_rtol(settings)
    cells = Cells.of(data, net.negative_slope, settings["loss"], net(data.X), known)
    state = State.of(net, cells)
    store = StateStore(settings["state_bytes"])
    watch = UserWatch(user, net) if user else None
    ends = until(net, data, loss=settings["loss"], record=False)
    rest = (_limits(settings, cells), end_rule(ends, settings, cells), store, report, watch)
    if stepper is None:
        # A user's functions have kinks where neurons change their cells: no step goes across them.
        every_event = bool(settings["every_event"]) or watch is not None
        integrator = Integrator(cells, state, rtol, frozen, every_event)
        start = lambda: _at_once(lambda: integrate(integrator, *rest))  # noqa: E731
        return Run(start, None, _finish(net, data, settings, integrator, store, ends))
    flow = CellFlow(cells, state, frozen)
    problem = FrozenProblem(traceable=settings["engine"] == "diffrax")
    return Run(
        lambda: run_cells(flow, problem, *rest),
        lambda: stepper(rtol),
        _finish(net, data, settings, flow, store, ends),
    )


def _limits(settings: dict[str, Any], cells: Cells) -> Limits:
    return Limits(
        float(np.ldexp(settings["t1"], cells.time_exponent)),
        settings["stationary_rtol"],
        settings["max_steps"],
        settings["max_seconds"],
    )


def _at_once(run: Callable[[], Any]) -> Driver:
    """Return a driver that makes no requests."""
    return run()
    yield


def _finish(
    net: TwoLayerReLU, data: Dataset, settings: dict[str, Any], flow: Flow, store: StateStore,
    ends: AlignmentFlow,
) -> Callable[[Any], Any]:  # fmt: skip
    return lambda record: solution_of_cells(net, data, settings, flow, record, store, ends)

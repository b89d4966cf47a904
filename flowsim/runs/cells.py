"""Runs of two-layer ReLU networks, on the piecewise engine or on a stepper."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim._arguments import system
from flowsim.alignment.ahead import Ahead
from flowsim.alignment.phase import end_rule
from flowsim.assemble import solution_of_cells
from flowsim.cells import Cells
from flowsim.data import Dataset
from flowsim.engines.alignment_watch import AlignmentWatch
from flowsim.engines.cell_flow import CellFlow
from flowsim.engines.frozen import FrozenProblem
from flowsim.engines.record import Flow, Limits, Progress
from flowsim.engines.relu import known_rtol, run_cells
from flowsim.engines.state_store import StateStore, policy_for
from flowsim.engines.user_events import UserEvents
from flowsim.engines.user_watch import UserWatch
from flowsim.events import EventLog
from flowsim.network import TwoLayerReLU
from flowsim.runs.piecewise import Going, piecewise_run
from flowsim.runs.resumed import resumed
from flowsim.runs.run import Run
from flowsim.runs.saving import Saving
from flowsim.solution import Solution
from flowsim.state import State

if TYPE_CHECKING:
    from flowsim.certificates.watch import EndWatch


def prepare_cells(
    net: TwoLayerReLU,
    data: Dataset,
    settings: dict[str, Any],
    stepper: Callable[[float], Any] | None,
    user: UserEvents,
    report: Callable[[Progress], None] | None,
    saving: Saving | None = None,
    earlier: Solution | None = None,
) -> Run:
    """Return the run of a two-layer ReLU network; without a `stepper` it is piecewise.

    Such a run may be saved on the way, and go on from where an earlier one has ended.
    """
    system(net, data)
    if not np.all(np.isfinite(net.a)) or not np.all(np.isfinite(net(data.X))):
        raise ValueError(
            "Argument `net` must have finite weights and outputs on the data, but some overflow."
        )
    known = settings["rtol"] if stepper is None else known_rtol(settings)
    cells = Cells.of(data, net.negative_slope, settings["loss"], net(data.X), known)
    state = State.of(net, cells)
    settings = {**settings, "states": settings["states"] or policy_for(state, settings)}
    ahead = Ahead(net, data, settings["loss"])
    limits, rule = _limits(settings, cells), end_rule(ahead, settings, cells)
    watch = UserWatch(user, net) if user else None
    if stepper is None:
        # A user's functions have kinks where neurons change their cells: no step goes across them.
        every_event = bool(settings["every_event"]) or watch is not None
        going = (
            Going.at_start(state, cells, settings, every_event=every_event)
            if earlier is None
            else resumed(earlier, cells, settings, every_event=every_event)
        )
        flow, store = going.integrator, going.store
        ending = AlignmentWatch(rule, flow, state, ended=not np.isnan(going.record.alignment_time))
        finish = _finish(net, data, settings, flow, store, ahead)
        end = _end_watch(data, cells, settings)
        return piecewise_run(going, (limits, ending, report, watch), finish, saving, end)
    store = StateStore(settings["state_bytes"], settings["states"])
    flow = CellFlow(cells, state, settings["residual"] == "frozen")
    problem = FrozenProblem(traceable=settings["engine"] == "diffrax")
    log = EventLog(settings["event_bytes"])
    return Run(
        lambda: run_cells(flow, problem, limits, rule, store, report, watch, log),
        lambda: stepper(settings["rtol"]),
        _finish(net, data, settings, flow, store, ahead),
    )


def _limits(settings: dict[str, Any], cells: Cells) -> Limits:
    return Limits(
        float(np.ldexp(settings["t1"], cells.time_exponent)),
        settings["stationary_rtol"],
        settings["max_steps"],
        settings["max_seconds"],
    )


def _end_watch(data: Dataset, cells: Cells, settings: dict[str, Any]) -> EndWatch | None:
    """Return what looks for a proof on the way, where one is to end the run."""
    if settings["end"] != "certificate" or settings["residual"] == "frozen":
        return None
    from flowsim.certificates.certify import Certifier
    from flowsim.certificates.watch import EndWatch

    return EndWatch(Certifier(data, cells))


def _finish(
    net: TwoLayerReLU, data: Dataset, settings: dict[str, Any], flow: Flow, store: StateStore,
    ahead: Ahead,
) -> Callable[[Any], Any]:  # fmt: skip
    return lambda record: solution_of_cells(net, data, settings, flow, record, store, ahead)

"""From the record of a two-layer ReLU network's run, on any engine, to its Solution."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from flowsim._cores import available_cores
from flowsim._rows import squares
from flowsim.alignment.ahead import Ahead
from flowsim.alignment.end import Alignment
from flowsim.alignment.phase import alignment_of
from flowsim.cells import Cells
from flowsim.data import Dataset
from flowsim.endings import final_of
from flowsim.engines.cell_flow import CellFlow
from flowsim.engines.piecewise import Integrator
from flowsim.engines.piecewise.restart import restart_of
from flowsim.engines.record import Flow, Record
from flowsim.engines.state_store import StateStore, Stored
from flowsim.events import Event, Events
from flowsim.network import TwoLayerReLU
from flowsim.plateaus import plateau_indices
from flowsim.provenance import provenance
from flowsim.solution import Final, History, Restart, Solution, States
from flowsim.state import State

A = TypeVar("A")
B = TypeVar("B")

#: How often the store of states has joined its bins.
HALVINGS = "halvings"


def solution_of_cells(
    net: TwoLayerReLU,
    data: Dataset,
    settings: dict[str, Any],
    flow: Flow,
    record: Record,
    store: StateStore,
    ahead: Ahead,
) -> Solution:
    """Return the Solution of a run that has ended, or of one that goes on.

    Parameters
    ----------
    net, data : TwoLayerReLU, Dataset
        What the run started from.
    settings : dict
        The options of `simulate`.
    flow : Flow
        The final state.
    record, store : Record, StateStore
        What the engine has kept.
    ahead : Ahead
        Where the closed form takes the initialisation.
    """
    cells = flow.cells
    to_time = lambda s: np.ldexp(np.asarray(s), -cells.time_exponent)  # noqa: E731
    history = History(
        t=to_time(record.time),
        loss=np.ldexp(record.loss, 2 * cells.y_exponent),
        speed=np.ldexp(record.speed, 2 * cells.y_exponent + cells.time_exponent),
        rate=np.ldexp(record.rate, cells.time_exponent),
        alive=np.array(record.alive, dtype=np.int64),
    )
    status = record.status or "running"
    final, aligned = _at_once(
        lambda: final_of(net, data, flow, record, history),
        lambda: _alignment(record, settings, ahead, cells),
    )
    return Solution(
        data=data,
        initial=net,
        settings={**settings, **_work(flow)},
        status=status,
        message=message(status, settings, final),
        events=_events(record, history, settings, cells),
        history=history,
        states=_states(store.ended(record.step, flow), flow.whole(), cells),
        alignment=aligned,
        final=final,
        audit=_audit(net, data, flow, record, history, final, settings),
        provenance=provenance(),
        restart=_restart(flow, store),
    )


def _at_once(first: Callable[[], A], second: Callable[[], B]) -> tuple[A, B]:
    """Return the results of two functions, the second in a thread of its own if there is a core.

    Of many neurons either takes seconds, and most of the second is in kernels.
    """
    if available_cores() == 1:
        return first(), second()
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(copy_context().run, second)
        return first(), beside.result()


def _events(record: Record, history: History, settings: dict[str, Any], cells: Cells) -> Events:
    """Return the table, with the events that only the whole history tells."""
    late = []
    if settings["residual"] == "full":
        late = [Event(record.time[i], "plateau") for i in plateau_indices(history.speed)]
    if record.status in ("stationary", "certified"):
        late.append(Event(record.time[-1], record.status))
    return record.rows.table(-cells.time_exponent, late)


def _alignment(record: Record, settings: dict[str, Any], ahead: Ahead, cells: Cells) -> Alignment:
    """Return the end of the phase, which is looked at once: a run may be saved many times."""
    if record.alignment is None or not np.isfinite(record.alignment.end_time):
        end_time = float(np.ldexp(record.alignment_time, -cells.time_exponent))
        record.alignment = alignment_of(ahead, settings, end_time, record.alignment_state)
    return record.alignment


def _restart(flow: Flow, store: StateStore) -> Restart | None:
    if not isinstance(flow, Integrator):
        return None
    restart = restart_of(flow)
    return replace(restart, memory={**restart.memory, HALVINGS: float(store.halvings)})


def _work(flow: Flow) -> dict[str, Any]:
    """Return the work counts of a stepping engine."""
    return flow.work.summary() if isinstance(flow, CellFlow) else {}


def _states(rows: list[Stored], state: State, cells: Cells) -> States:
    return States(
        step=np.array([row.step for row in rows], dtype=np.int64),
        t=np.ldexp([row.time for row in rows], -cells.time_exponent),
        t_tail=np.ldexp([row.tail for row in rows], -cells.time_exponent),
        neurons=np.array([row.z for row in rows]),
        exponent=np.array([row.exponent for row in rows]) - cells.size_exponent,
        sign=np.array([row.sign for row in rows]),
        code=np.array([row.code for row in rows]),
        fate=np.array([row.fate for row in rows]),
        gap=state.gap.copy(),
        gap_exponent=state.gap_exponent - cells.size_exponent,
    )


def message(status: str, settings: dict[str, Any], final: Final) -> str:
    """Return a sentence on why a run has stopped, with the remedy."""
    kind = final.kind.replace("_", " ")
    if settings["residual"] == "frozen" and status == "t1":
        return f"The run has reached t1 = {settings['t1']:g} with the residual frozen at y."
    return {
        "running": "This is a checkpoint of a run that had not ended; flowsim.resume goes on "
        "from it.",
        "certified": f"It is proved where the flow goes: {kind} ({final.reason}).",
        "stationary": f"The flow has come to rest: {kind} ({final.reason}).",
        "t1": f"The run has reached t1 = {settings['t1']:g}; there the state is {kind} "
        f"({final.reason}). Raise t1 to go on.",
        "steps": f"The descent has taken its {settings.get('iterations')} steps; there the state "
        f"is {kind} ({final.reason}).",
        "max_steps": f"The run has used max_steps = {settings['max_steps']} steps before it "
        "came to rest; raise max_steps, set t1, or raise stationary_rtol.",
        "max_seconds": f"The run has used max_seconds = {settings['max_seconds']:g} before it "
        "came to rest; raise max_seconds, set t1, or raise stationary_rtol.",
        "zeno": "Events have piled up without progress in time; perturb the initialisation, or "
        "report these data as a defect.",
        "non_finite": "The state is no longer finite; check the scales of the data and of the "
        "initialisation.",
        "accepted": f"The state at t = {final.t:.6g} has been accepted.",
        "undecided": f"Nothing is proved beyond t = {final.t:.6g}.",
        "event": f"The run has been ended by a terminal event at t = {final.t:.6g}.",
        "step_underflow": "The step has fallen below the resolution of time; the flow is too "
        "fast at this scale for its elapsed time.",
    }[status]


def _audit(
    net: TwoLayerReLU, data: Dataset, flow: Flow, record: Record,
    history: History, final: Final, settings: dict[str, Any],
) -> dict[str, float]:  # fmt: skip
    """Measure what every exact run satisfies; all figures are relative and should be tiny."""
    audit = {"invariant_drift": _invariant_drift(flow.whole()), "correction": flow.drift}
    if settings["residual"] == "full":
        rises = np.diff(history.loss)
        audit["loss_increase"] = float(rises.max(initial=0.0) / max(history.loss[0], 1e-300))
        audit["dissipation"] = max(record.dissipation, 0.0)
        again = final.network.loss(data, loss=settings["loss"])
        audit["loss_recomputed"] = abs(again - final.loss) / max(history.loss[0], 1e-300)
    return {key: float(value) for key, value in audit.items()}


def _invariant_drift(state: State) -> float:
    """Return max_j |a^2 - ||w||^2 - const_j| / (a^2 + ||w||^2) at the end."""
    shift = np.clip(2 * (state.gap_exponent - state.exponent), -2000, 1000).astype(np.int32)
    const = np.ldexp(state.gap, shift)
    size = squares(state.z)
    gap = state.z[:, 0] ** 2 - squares(state.z[:, 1:]) - const
    return float(np.max(np.abs(gap[size > 0]) / size[size > 0], initial=0.0))

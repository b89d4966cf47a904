"""From the record of a two-layer ReLU network's run, on any engine, to its Solution."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from flowsim.alignment.flow import AlignmentFlow
from flowsim.alignment.phase import alignment_of
from flowsim.cells import Cells
from flowsim.data import Dataset
from flowsim.engines.cell_flow import CellFlow
from flowsim.engines.record import Flow, Record, StateStore, snapshot
from flowsim.events import ALIVE, Event, EventLog
from flowsim.network import TwoLayerReLU
from flowsim.plateaus import plateau_indices
from flowsim.provenance import provenance
from flowsim.solution import Final, History, Solution, States
from flowsim.state import State
from flowsim.stationarity.classify import Verdict, classify
from flowsim.stationarity.exact import exact_limit_loss


def solution_of_cells(
    net: TwoLayerReLU,
    data: Dataset,
    settings: dict[str, Any],
    flow: Flow,
    record: Record,
    store: StateStore,
    ends: AlignmentFlow,
) -> Solution:
    """Return the Solution of a run that has ended.

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
    ends : AlignmentFlow
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
    log, table = EventLog(), record.rows.table()
    log.extend(replace(table, t=to_time(table.t)))
    if settings["residual"] == "full":
        log += [Event(float(history.t[i]), "plateau") for i in plateau_indices(history.speed)]
    if record.status == "stationary":
        log.append(Event(float(history.t[-1]), "stationary"))
    final = _final(net, data, flow, record, history)
    return Solution(
        data=data,
        initial=net,
        settings={**settings, **_work(flow)},
        status=record.status,
        message=message(record.status, settings, final),
        events=log.table(),
        history=history,
        states=_states(store, cells),
        alignment=alignment_of(
            ends, settings, float(to_time(record.alignment_time)), record.alignment_state
        ),
        final=final,
        audit=_audit(net, data, flow, record, history, final, settings),
        provenance=provenance(),
    )


def _work(flow: Flow) -> dict[str, Any]:
    """Return the work counts of a stepping engine."""
    return flow.work.summary() if isinstance(flow, CellFlow) else {}


def _final(net: TwoLayerReLU, data: Dataset, flow: Flow, record: Record, history: History) -> Final:
    cells, state = flow.cells, flow.state
    frozen = flow.frozen
    if record.status == "non_finite":
        nan = float("nan")
        verdict = Verdict("unknown", nan, nan, "the state is not finite")
    else:
        stationary = record.status == "stationary"
        verdict = classify(snapshot(flow, flow.residual()), stationary=stationary)
    if frozen:
        verdict = Verdict(
            "not_stationary", float("nan"), verdict.floor_loss, "the residual was kept frozen"
        )
    unit = 2 * cells.y_exponent
    return Final(
        t=float(history.t[-1]),
        network=state.network(net, cells),
        loss=float(history.loss[-1]),
        gradient_norm=float(np.sqrt(history.speed[-1])),
        kind=verdict.kind,
        limit_loss=float(np.ldexp(verdict.limit_loss, unit)),
        floor_loss=float(np.ldexp(verdict.floor_loss, unit)),
        reason=verdict.reason,
        fate=state.fate.astype(np.int8),
        code=state.code.copy(),
        limit_loss_exact=_exact_limit(data, flow, verdict),
    )


def _exact_limit(data: Dataset, flow: Flow, verdict: Verdict) -> str:
    if not np.isfinite(verdict.limit_loss):
        return ""
    state = flow.state
    view = snapshot(flow, flow.residual())
    counted = (state.fate == ALIVE) & ~view.vanished(view.fields(view.r))
    exact = exact_limit_loss(data, flow.cells, state.code[counted])
    return "" if exact is None else str(exact)


def _states(store: StateStore, cells: Cells) -> States:
    states = [row[3] for row in store.rows]
    return States(
        step=np.array([row[0] for row in store.rows], dtype=np.int64),
        t=np.ldexp([row[1] for row in store.rows], -cells.time_exponent),
        t_tail=np.ldexp([row[2] for row in store.rows], -cells.time_exponent),
        neurons=np.array([s.z for s in states]),
        exponent=np.array([s.exponent for s in states]) - cells.size_exponent,
        sign=np.array([s.sign for s in states], dtype=np.int8),
        code=np.array([s.code for s in states]),
        fate=np.array([s.fate for s in states], dtype=np.int8),
        gap=states[0].gap,
        gap_exponent=states[0].gap_exponent - cells.size_exponent,
    )


def message(status: str, settings: dict[str, Any], final: Final) -> str:
    """Return a sentence on why a run has stopped, with the remedy."""
    kind = final.kind.replace("_", " ")
    if settings["residual"] == "frozen" and status == "t1":
        return f"The run has reached t1 = {settings['t1']:g} with the residual frozen at y."
    return {
        "stationary": f"The flow has come to rest: {kind} ({final.reason}).",
        "t1": f"The run has reached t1 = {settings['t1']:g}; there the state is {kind} "
        f"({final.reason}). Raise t1 to go on.",
        "max_steps": f"The run has used max_steps = {settings['max_steps']} steps before it "
        "came to rest; raise max_steps, set t1, or raise stationary_rtol.",
        "max_seconds": f"The run has used max_seconds = {settings['max_seconds']:g} before it "
        "came to rest; raise max_seconds, set t1, or raise stationary_rtol.",
        "zeno": "Events have piled up without progress in time; perturb the initialisation, or "
        "report these data as a defect.",
        "non_finite": "The state is no longer finite; check the scales of the data and of the "
        "initialisation.",
        "event": f"The run has been ended by a terminal event at t = {final.t:.6g}.",
        "step_underflow": "The step has fallen below the resolution of time; the flow is too "
        "fast at this scale for its elapsed time.",
    }[status]


def _audit(
    net: TwoLayerReLU, data: Dataset, flow: Flow, record: Record,
    history: History, final: Final, settings: dict[str, Any],
) -> dict[str, float]:  # fmt: skip
    """Measure what every exact run satisfies; all figures are relative and should be tiny."""
    audit = {"invariant_drift": _invariant_drift(flow.state), "correction": flow.drift}
    if settings["residual"] == "full":
        rises = np.diff(history.loss)
        audit["loss_increase"] = float(rises.max(initial=0.0) / max(history.loss[0], 1e-300))
        audit["dissipation"] = max(record.dissipation, 0.0)
        again = final.network.loss(data, loss=settings["loss"])
        audit["loss_recomputed"] = abs(again - final.loss) / max(history.loss[0], 1e-300)
    return {key: float(value) for key, value in audit.items()}


def _invariant_drift(state: State) -> float:
    """Return max_j |a^2 - ||w||^2 - const_j| / (a^2 + ||w||^2) at the end."""
    square = state.z**2
    shift = np.clip(2 * (state.gap_exponent - state.exponent), -2000, 1000).astype(np.int32)
    const = np.ldexp(state.gap, shift)
    size = np.sum(square, axis=1)
    gap = square[:, 0] - np.sum(square[:, 1:], axis=1) - const
    return float(np.max(np.abs(gap[size > 0]) / size[size > 0], initial=0.0))

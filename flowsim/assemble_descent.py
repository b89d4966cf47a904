"""From the record of a descent to its Solution."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from flowsim.alignment.ahead import Ahead
from flowsim.alignment.end import Alignment
from flowsim.alignment.phase import alignment_of
from flowsim.assemble import message
from flowsim.assemble_model import no_alignment
from flowsim.cells import Cells
from flowsim.data import Dataset
from flowsim.engines.descent.config import Descent
from flowsim.engines.descent.driver import DescentRecord
from flowsim.engines.descent.machine import Machine
from flowsim.engines.descent.measure import snapshot_of, state_of
from flowsim.engines.descent.problem import network_at
from flowsim.events import Event
from flowsim.network import TwoLayerReLU
from flowsim.plateaus import plateau_indices
from flowsim.provenance import provenance
from flowsim.solution import DescentStates, Final, History, Solution
from flowsim.stationarity import hessian
from flowsim.stationarity.classify import Verdict, classify


def solution_of_descent(
    net: Any,
    data: Dataset | None,
    settings: dict[str, Any],
    engine: Descent,
    machine: Machine,
    record: DescentRecord,
    ahead: Ahead | None,
) -> Solution:
    """Return the Solution of a descent that has ended, or of one that goes on.

    Parameters
    ----------
    net, data : TwoLayerReLU or model, Dataset or None
        What the run started from.
    settings : dict
        The options of `simulate`, and those of the engine.
    engine, machine : Descent, Machine
    record : DescentRecord
    ahead : Ahead, optional
        Where the closed form takes the initialisation of a TwoLayerReLU.
    """
    history = History(
        t=np.array(record.time),
        loss=np.array([seen.loss for seen in record.seen]),
        speed=np.array([seen.speed for seen in record.seen]),
        rate=np.array([seen.rate for seen in record.seen]),
        alive=np.array([seen.alive for seen in record.seen], dtype=np.int64),
    )
    status = record.status or "running"
    final = _final(net, data, settings, machine, record, history)
    late = [Event(record.time[i], "plateau") for i in plateau_indices(history.speed)]
    if status == "stationary":
        late.append(Event(record.time[-1], "stationary"))
    again = _loss(net, data, settings, machine, final)
    return Solution(
        data=data,
        initial=net,
        settings={**settings, "iterations": record.iteration[-1]},
        status=status,
        message=_message(status, {**settings, "iterations": record.iteration[-1]}, final),
        events=record.rows.table(0, late),
        history=history,
        states=_states(record, engine),
        alignment=_alignment(net, data, settings, machine, record, ahead),
        final=final,
        audit={"loss_recomputed": abs(again - final.loss) / max(history.loss[0], 1e-300)},
        provenance=provenance(),
    )


def _message(status: str, settings: dict[str, Any], final: Final) -> str:
    """Return a sentence on why a descent has stopped: what diverges here has too large steps."""
    if status != "non_finite":
        return message(status, settings, final)
    rate = settings["learning_rate"]
    steps = "the optimizer's own" if rate == -1.0 else rate if rate == "schedule" else f"{rate:g}"
    return (
        f"The descent has diverged by step {settings['iterations']}, with the learning rate "
        f"{steps}; make it smaller, or check the scales of the data and of the initialisation."
    )


def _states(record: DescentRecord, engine: Descent) -> DescentStates:
    rows = [row for row, _ in record.states]
    packed = [state for _, state in record.states]
    return DescentStates(
        step=np.array(rows, dtype=np.int64),
        iteration=np.array([state.iteration for state in packed], dtype=np.int64),
        t=np.array([state.t for state in packed]),
        t_tail=np.array([state.tail for state in packed]),
        parameters=np.array([state.params for state in packed]),
        memory=np.array([state.memory for state in packed]),
        history_iteration=np.array(record.iteration, dtype=np.int64),
        engine=engine,
    )


def _final(
    net: Any, data: Dataset | None, settings: dict[str, Any], machine: Machine,
    record: DescentRecord, history: History,
) -> Final:  # fmt: skip
    params = machine.unflat(record.states[-1][1].params)
    relu = isinstance(net, TwoLayerReLU)
    code, fate = np.zeros((0, 0), np.int8), np.zeros(0, np.int8)
    lowest = highest = float("nan")
    if relu:
        assert data is not None
        network: Any = network_at(machine.start, params, net)
        snapshot = snapshot_of(network, data, _cells(net, data, settings))
        code, fate = snapshot.code.copy(), snapshot.fate.astype(np.int8)
        verdict = _verdict(record, settings, lambda rests: classify(snapshot, stationary=rests))
    else:
        objective = machine.start.objective
        assert objective is not None
        network = objective.model(params)
        verdict = _verdict(
            record, settings,
            lambda rests: _of_model(objective, params, rests, float(history.loss[0])),
        )  # fmt: skip
        if record.status == "stationary":
            ends = hessian.spectrum(objective.functional, params, objective.args)
            lowest, highest = float(ends.lowest), float(ends.highest)
    exponent = 0 if not relu else 2 * _cells(net, data, settings).y_exponent
    last = record.states[-1][0]  # but for a loss that is not finite, the end of the run
    return Final(
        t=float(history.t[last]),
        network=network,
        loss=float(history.loss[last]),
        gradient_norm=float(np.sqrt(history.speed[last])),
        kind=verdict.kind,
        limit_loss=float(np.ldexp(verdict.limit_loss, exponent)),
        floor_loss=float(np.ldexp(verdict.floor_loss, exponent)),
        reason=verdict.reason,
        fate=fate,
        code=code,
        lowest_curvature=lowest,
        highest_curvature=highest,
    )


def _verdict(record: DescentRecord, settings: dict[str, Any], classified: Any) -> Verdict:
    """Return the verdict of the flow that would go on from the last state."""
    nan = float("nan")
    if record.status == "non_finite":
        return Verdict("unknown", nan, nan, "the loss is not finite")
    if settings["residual"] == "frozen":
        return Verdict("not_stationary", nan, nan, "the residual was kept frozen")
    return classified(record.status == "stationary")


def _of_model(objective: Any, params: Any, rests: bool, initial_loss: float) -> Verdict:
    if not rests:
        nan = float("nan")
        return Verdict("not_stationary", nan, nan, "the parameters are still moving")
    return hessian.classify(
        objective.functional, params, objective.args, stationary=True, initial_loss=initial_loss
    )


def _cells(net: TwoLayerReLU, data: Any, settings: dict[str, Any]) -> Cells:
    return Cells.of(data, net.negative_slope, settings["loss"], net(data.X), settings["rtol"])


def _loss(
    net: Any, data: Dataset | None, settings: dict[str, Any], machine: Machine, final: Final
) -> float:
    """Return the loss of the final network again, on another way for a TwoLayerReLU."""
    if isinstance(net, TwoLayerReLU):
        r = final.network.residual(data)
        factor = 1.0 if settings["loss"] == "mean" else 0.5
        return factor * float(np.mean(r * r))
    return final.loss


def _alignment(
    net: Any, data: Dataset | None, settings: dict[str, Any], machine: Machine,
    record: DescentRecord, ahead: Ahead | None,
) -> Alignment:  # fmt: skip
    if record.alignment is not None:
        return record.alignment
    if ahead is None:
        d = 0 if data is None else data.d
        return replace(no_alignment(settings, d), end_time=record.alignment_time)
    state = None
    if record.alignment_params is not None and np.all(np.isfinite(record.alignment_params)):
        there = network_at(machine.start, machine.unflat(record.alignment_params), net)
        state = state_of(there, _cells(net, data, settings))
    return alignment_of(ahead, settings, record.alignment_time, state)

"""A solution taken apart again into what its run goes on with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from flowsim._event_rows import BLOCK
from flowsim.assemble import HALVINGS
from flowsim.cells import Cells
from flowsim.engines.piecewise.restart import integrator_at, recall
from flowsim.engines.record import Record
from flowsim.engines.restore import stored
from flowsim.engines.state_store import StateStore
from flowsim.events import EventLog, Events, kind_code
from flowsim.runs.piecewise import Going
from flowsim.solution import Solution, States

#: Events that are made of the whole history at the end.
_LATE = ("plateau", "stationary", "certified")


def resumed(
    solution: Solution, cells: Cells, settings: dict[str, Any], *, every_event: bool
) -> Going:
    """Return the run of the piecewise engine that goes on where `solution` ends."""
    assert isinstance(solution.states, States)  # of a two-layer ReLU network
    integrator = integrator_at(solution.states, -1, cells, settings, every_event=every_event)
    integrator.drift = float(solution.audit["correction"])
    record, store = _record(solution, cells, settings), _store(solution.states, cells, settings)
    if solution.restart is not None:
        recall(integrator, solution.restart)
        store.halvings = int(solution.restart.memory.get(HALVINGS, 0))
    return Going(integrator, record, store, begun=True)


def _record(solution: Solution, cells: Cells, settings: dict[str, Any]) -> Record:
    """Return the record up to the last state, which is noted again as the run goes on."""
    history, exponent = solution.history, cells.time_exponent
    alignment = solution.alignment
    return Record(
        time=np.ldexp(history.t[:-1], exponent).tolist(),
        loss=np.ldexp(history.loss[:-1], -2 * cells.y_exponent).tolist(),
        speed=np.ldexp(history.speed[:-1], -2 * cells.y_exponent - exponent).tolist(),
        rate=np.ldexp(history.rate[:-1], -exponent).tolist(),
        alive=history.alive[:-1].tolist(),
        rows=_log_of(solution.events, cells, settings["event_bytes"]),
        alignment_time=float(np.ldexp(alignment.end_time, exponent)),
        alignment=alignment,
        dissipation=float(solution.audit.get("dissipation", 0.0)),
    )


def _log_of(events: Events, cells: Cells, budget: int) -> EventLog:
    log = EventLog(budget)
    late = [kind_code(kind) for kind in _LATE]
    for start in range(0, len(events), BLOCK):
        part = events.select(np.arange(start, min(start + BLOCK, len(events))))
        part = part.select(~np.isin(part.kind_code, late))
        log.extend(replace(part, t=np.ldexp(part.t, cells.time_exponent)))
    return log


def _store(states: States, cells: Cells, settings: dict[str, Any]) -> StateStore:
    """Return the stored states but for the last one, which is offered again."""
    store = StateStore(settings["state_bytes"], settings["states"])
    store.rows = [stored(states, row, cells) for row in range(len(states.t) - 1)]
    return store

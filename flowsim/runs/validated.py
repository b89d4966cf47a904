"""Runs of the rigorous engine: its midpoints as a Solution, its enclosures beside them."""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flowsim._arguments import system as check_system
from flowsim.alignment.ahead import Ahead
from flowsim.assemble import solution_of_cells
from flowsim.cells import Cells
from flowsim.data import Dataset
from flowsim.engines.record import REPORT_EVERY, Progress, Record, progress_of, snapshot
from flowsim.engines.state_store import StateStore, policy_for
from flowsim.engines.validated.config import Validated
from flowsim.engines.validated.enclose import Limits, check_end, check_sizes, follow
from flowsim.engines.validated.result import EnclosedState, Enclosure
from flowsim.engines.validated.state import BallState
from flowsim.events import ALIVE, Event, EventLog
from flowsim.network import TwoLayerReLU
from flowsim.runs.run import Run
from flowsim.solution import Solution
from flowsim.state import State

#: What an enclosure's status is called in a Solution, where the names differ.
STATUS = {"at_rest": "stationary"}


def prepare_validated(
    net: Any, data: Any, settings: dict[str, Any], engine: Validated,
    report: Callable[[Progress], None] | None,
) -> Run:  # fmt: skip
    """Return the run of a two-layer ReLU network by the rigorous engine.

    Raises
    ------
    ValueError, TypeError
        If they do not fit together.
    """
    (check_sizes if engine.rigorous else check_system)(net, data)
    proves = engine.rigorous and engine.accept is None and settings["end"] == "certificate"
    if proves:
        engine = replace(engine, accept=lambda state: recorder.certifies(data, state))
    check_end(settings["t1"], engine)
    cells = Cells.of(data, net.negative_slope, settings["loss"], net(data.X))
    start = State.of(net, cells)
    settings = {
        **settings, "engine": "validated", "solver": "balls" if engine.rigorous else "taylor",
        "every_event": 1, "states": settings["states"] or policy_for(start, settings),
    }  # fmt: skip
    limits = Limits(
        settings["t1"], settings["residual"], settings["loss"], settings["max_steps"],
        settings["max_seconds"],
    )  # fmt: skip
    recorder = Recorder(net, cells, start, settings, report)
    ahead = Ahead(net, data, settings["loss"])

    def driver() -> Generator[Any, Any, Enclosure]:
        return follow(net, data, engine, limits, recorder.begin)
        yield

    return Run(driver, None, lambda found: recorder.solution(data, ahead, found))


@dataclass(eq=False)
class BallFlow:
    """The midpoints of a rigorous run; `flowsim.engines.record.Flow` has the attributes."""

    cells: Cells
    state: State
    frozen: bool
    time: float = 0.0
    tail: float = 0.0
    drift: float = 0.0

    def residual(self) -> np.ndarray:
        """Return the residual (n,) of the present state, or y where it is frozen."""
        if self.frozen:
            return self.cells.y.copy()
        live = self.state.fate == ALIVE
        z, mass = self.state.z[live], self.state.mass[live]
        features = self.cells.coefficients(self.state.code[live]) * (z[:, 1:] @ self.cells.X.T)
        return self.cells.y - (mass * z[:, 0]) @ features

    def whole(self) -> State:
        """Return the state of all neurons."""
        return self.state

    def return_to(self, state: State) -> None:
        """Put all neurons back where they were."""
        self.state = state


class Recorder:
    """Keeps the history and the states of a run, in float64 and scaled units.

    A run that begins again at a higher precision is recorded anew.
    """

    def __init__(
        self, net: TwoLayerReLU, cells: Cells, start: State, settings: dict[str, Any],
        report: Callable[[Progress], None] | None,
    ) -> None:  # fmt: skip
        self.net, self.start, self.settings, self.report = net, start, settings, report
        self.flow = BallFlow(cells, start, settings["residual"] == "frozen")
        self.record, self.store, self.reported = Record(), StateStore(0), 0.0

    def begin(self) -> Callable[[BallState], None]:
        """Return what is told the states of an attempt."""
        self.record = Record(rows=EventLog(self.settings["event_bytes"]))
        self.store = StateStore(self.settings["state_bytes"], self.settings["states"])
        self.reported = clock.monotonic()
        return self.note

    def note(self, balls: BallState) -> None:
        """Note a state."""
        flow, record, cells = self.flow, self.record, self.flow.cells
        flow.state = self._state(balls)
        time = balls.t.mid()
        flow.time = float(np.ldexp(float(time), cells.time_exponent))
        flow.tail = float(np.ldexp(float((balls.t - float(time)).mid()), cells.time_exponent))
        r = flow.residual()
        state = flow.state
        D = snapshot(flow, r).fields(r)
        along = np.einsum("ij,ij->i", state.z[:, 1:], D)
        size = np.sum(D * D, axis=1)
        record.time.append(flow.time)
        record.loss.append(0.5 * cells.weight * float(r @ r))
        record.speed.append(float(state.mass @ (along**2 + state.z[:, 0] ** 2 * size)))
        record.rate.append(float(np.sqrt(size.max(initial=0.0))))
        record.alive.append(int(np.sum(state.fate == ALIVE)))
        self.store.offer(record.step, flow)
        now = clock.monotonic()
        if self.report is not None and now - self.reported >= REPORT_EVERY:
            self.report(progress_of(record, flow))
            self.reported = now

    def _state(self, balls: BallState) -> State:
        """Return the midpoints, put back onto their constants, in the cells that are proved."""
        z = np.array([[float(v.mid()) for v in neuron.z] for neuron in balls.neurons])
        like = TwoLayerReLU(z[:, 0], z[:, 1:], self.net.negative_slope)
        state = State.of(like, self.flow.cells)
        for name in ("gap", "gap_exponent", "balance"):
            setattr(state, name, getattr(self.start, name).copy())
        state.sign = np.array([neuron.sign for neuron in balls.neurons], dtype=np.int64)
        state.code = np.array([neuron.code for neuron in balls.neurons], dtype=np.int8)
        state.fate = np.array([neuron.fate for neuron in balls.neurons], dtype=np.int64)
        self.flow.drift = max(self.flow.drift, state.settle())
        return state

    def certifies(self, data: Dataset, state: EnclosedState) -> bool:
        """Whether it is proved, for every state in the enclosure, where the flow goes."""
        self._certify(data, state, saddles=False)
        certificate = self.record.certificate
        return certificate is not None and certificate.proved

    def _certify(self, data: Dataset, state: EnclosedState, *, saddles: bool) -> None:
        """Keep the certificate of an enclosure, of which the present state has the midpoints."""
        from flowsim.certificates.certify import Certifier

        certifier = Certifier(data, self.flow.cells)
        # Balanced neurons of floats are so up to rounding only, of one sign or the other.
        balance = np.array([(gap > 0) - (gap < 0) for gap in state.gap], dtype=np.int64)
        middle = replace(self.flow.state, balance=balance)
        self.record.certificate = certifier.certify(
            middle, self.flow.residual(), float(state.t.mid()), saddles=saddles, enclosure=state,
        )  # fmt: skip

    def solution(self, data: Dataset, ahead: Ahead, found: Enclosure) -> Solution:
        """Return the Solution of a run that has ended."""
        record, cells = self.record, self.flow.cells
        record.status = STATUS.get(found.status, found.status)
        for e in found.events:
            t = float(np.ldexp(float(e.t.mid()), cells.time_exponent))
            record.rows.append(Event(t, e.kind, e.neuron, e.sample, e.before, e.after))
        if found.status == "accepted" and record.certificate is not None:
            record.status = "certified"
        elif found.rigorous and not self.flow.frozen:
            self._certify(data, found.state, saddles=True)
        settings = {**self.settings, "precision": found.precision, "order": found.order}
        solution = solution_of_cells(self.net, data, settings, self.flow, record, self.store, ahead)
        own = record.status in ("t1", "certified")
        message = solution.message if own else found.message
        return replace(solution, message=message, enclosure=found)

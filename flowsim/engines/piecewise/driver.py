"""Drive the integrator to its end: stop conditions, records, stored states."""

from __future__ import annotations

import time as clock
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from flowsim.alignment.end import EndRule
from flowsim.engines.piecewise.alignment_watch import AlignmentWatch
from flowsim.engines.piecewise.integrator import Expansion, Integrator
from flowsim.events import ALIVE, Event
from flowsim.state import State
from flowsim.stationarity.classify import Snapshot, at_rest

#: Consecutive restarts without progress in time, a neuron, before a run counts as Zeno.
ZENO_PER_NEURON = 4
#: Seconds between progress reports.
REPORT_EVERY = 0.1
#: Rates this many times over the tolerance are not worth a least-squares problem.
CHECK_EVERY = 8
#: Speeds below this have lost digits to underflow and cannot be audited.
SMALLEST_SPEED = 1e-280


@dataclass(frozen=True)
class Progress:
    """Where a run is; handed to the progress callback."""

    phase: str
    t: float
    loss: float
    loss0: float
    events: int
    steps: int
    rate: float
    alive: int


@dataclass(frozen=True)
class Limits:
    """When to stop (scaled time)."""

    t1: float
    stationary_rtol: float
    max_steps: int
    max_seconds: float


class StateStore:
    """Stored states within a memory budget: every `stride`-th step, stride doubling."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.stride = 1
        self.rows: list[tuple[int, float, float, State]] = []

    def offer(self, step: int, integrator: Integrator) -> None:
        """Keep the state of `step` if its turn has come; thin when the budget is full."""
        if step % self.stride:
            return
        self.rows.append((step, integrator.time, integrator.tail, integrator.state.copy()))
        if len(self.rows) > 2 and len(self.rows) * _bytes(integrator.state) > self.budget:
            self.stride *= 2
            self.rows = [row for row in self.rows if row[0] % self.stride == 0]


def _bytes(state: State) -> int:
    return state.z.nbytes + state.exponent.nbytes + state.code.nbytes + 2 * len(state.z)


@dataclass(eq=False)
class Record:
    """What a run leaves behind (scaled units)."""

    time: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    speed: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    alive: list[int] = field(default_factory=list)
    rows: list[Event] = field(default_factory=list)
    status: str = ""
    alignment_time: float = float("nan")
    alignment_state: State | None = None
    dissipation: float = 0.0


def integrate(
    integrator: Integrator,
    limits: Limits,
    rule: EndRule,
    store: StateStore,
    report: Callable[[Progress], None] | None = None,
) -> Record:
    """Integrate until a stop condition holds; always says which."""
    record = Record(rows=integrator.start())
    watch = AlignmentWatch(rule, integrator)
    began = reported = clock.monotonic()
    idle = 0
    patience = ZENO_PER_NEURON * len(integrator.state.z) + 100
    while True:
        e = integrator.expand()
        if not (np.all(np.isfinite(e.r[0])) and np.all(np.isfinite(e.D[:, 0]))):
            _return_to_last_state(record, store, integrator)
            record.status = "non_finite"
            break
        _note(record, integrator, e)
        step = len(record.time) - 1
        store.offer(step, integrator)
        now = clock.monotonic()
        if report is not None and now - reported >= REPORT_EVERY:
            report(_progress(record, integrator))
            reported = now
        record.status = _stop(integrator, e, limits, step, now - began)
        if record.status:
            break
        if idle > patience:
            record.status = "zeno"
            break
        h = min(e.step, limits.t1 - integrator.time - integrator.tail)
        if not integrator.time + h > integrator.time:
            record.status = "step_underflow"
            break
        tau, cause = integrator.first_event(e, h)
        if np.isinf(tau):  # nothing moves and nothing ever will
            record.status = "stationary"
            break
        if watch.waits and (x := watch.end_within(integrator, e, tau)) is not None:
            record.alignment_time = integrator.time + x
            record.alignment_state = integrator.moved(e, x)
            record.rows.append(Event(record.alignment_time, "alignment_end"))
        before = integrator.time
        integrator.advance(e, tau)
        if limits.t1 - integrator.time - integrator.tail <= 4e-16 * integrator.time:
            integrator.time, integrator.tail = limits.t1, 0.0  # what is left is no step
        idle = idle + 1 if integrator.time - before <= 4e-16 * before else 0
        if cause is not None:
            record.rows += integrator.switch(cause)
    if store.rows[-1][0] != len(record.time) - 1:
        store.rows.append(
            (len(record.time) - 1, integrator.time, integrator.tail, integrator.state.copy())
        )
    if report is not None:
        report(_progress(record, integrator))
    return record


def _return_to_last_state(record: Record, store: StateStore, integrator: Integrator) -> None:
    """Undo what came after the last stored state: it ends in something that is not finite."""
    if not store.rows:
        raise ValueError(
            "Argument `net` must have finite outputs and fields on the data, but its squares "
            "overflow; choose a smaller scale."
        )
    step, integrator.time, integrator.tail, state = store.rows[-1]
    integrator.state = state.copy()
    for series in (record.time, record.loss, record.speed, record.rate, record.alive):
        del series[step + 1 :]
    record.rows = [row for row in record.rows if row.t <= integrator.time]


def _note(record: Record, integrator: Integrator, e: Expansion) -> None:
    r0 = e.r[0]
    weight = integrator.cells.weight
    speed = integrator.speed(e)
    rates = e.rates()
    record.time.append(integrator.time)
    record.loss.append(0.5 * weight * float(r0 @ r0))
    record.speed.append(speed)
    record.rate.append(float(rates.max(initial=0.0)))
    record.alive.append(int(np.sum(integrator.state.fate == ALIVE)))
    if not integrator.frozen and speed > SMALLEST_SPEED:
        # dL/dt from the residual's own series against -|theta'|^2 from the neurons',
        # beyond what the rounding of D, and of its projection onto slides, explains.
        slope = weight * float(r0 @ e.r[1]) / e.unit
        size = float(np.sum(integrator.state.mass[integrator.state.fate == ALIVE]))
        noise = integrator.cells.rounding(r0) * np.sqrt(size)
        pressed = np.sqrt(size) * float(np.linalg.norm(e.base[:, 0], axis=1).max(initial=0.0))
        excess = abs(slope + speed) - (2 * np.sqrt(speed) + pressed + noise) * noise
        record.dissipation = max(record.dissipation, excess / speed)


def _stop(integrator: Integrator, e: Expansion, limits: Limits, step: int, seconds: float) -> str:
    if integrator.time + integrator.tail >= limits.t1:
        return "t1"
    if _may_rest(integrator, e, limits, step) and at_rest(
        snapshot(integrator, e.r[0]), limits.stationary_rtol
    ):
        return "stationary"
    if step >= limits.max_steps:
        return "max_steps"
    if seconds >= limits.max_seconds:
        return "max_seconds"
    return ""


def _may_rest(integrator: Integrator, e: Expansion, limits: Limits, step: int) -> bool:
    """Spare the full test: all rates are small, or so many that only vanishing ones are not."""
    if integrator.frozen or limits.stationary_rtol == 0.0:
        return False
    cells = integrator.cells
    bound = limits.stationary_rtol * cells.rate_scale * cells.weight * cells.n
    if np.all(e.rates() <= bound):
        return True
    if step % CHECK_EVERY:
        return False
    # All fast groups must consist of light neurons for them to be vanishing ones.
    heavy = e.rates() > bound
    mass = integrator.state.mass
    return all(
        np.all(mass[e.members[e.start[q] : e.start[q + 1]]] < 1e-12) for q in np.flatnonzero(heavy)
    )


def snapshot(integrator: Integrator, r: np.ndarray) -> Snapshot:
    """Return the present state as the verdict needs it."""
    s = integrator.state
    return Snapshot(integrator.cells, s.z, s.mass, s.sign, s.balance == 0, s.code, s.fate, r.copy())


def _progress(record: Record, integrator: Integrator) -> Progress:
    aligned = not np.isnan(record.alignment_time)
    cells = integrator.cells
    return Progress(
        phase="descent" if aligned else "alignment",
        t=float(np.ldexp(record.time[-1], -cells.time_exponent)),
        loss=float(np.ldexp(record.loss[-1], 2 * cells.y_exponent)),
        loss0=float(np.ldexp(record.loss[0], 2 * cells.y_exponent)),
        events=len(record.rows),
        steps=len(record.time) - 1,
        rate=float(np.ldexp(record.rate[-1], cells.time_exponent)),
        alive=record.alive[-1],
    )

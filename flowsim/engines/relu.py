"""The flow of a two-layer ReLU network on any stepping engine, cell by cell.

A stepper integrates the frozen field of the present cells (`flowsim.engines.frozen`) until a
margin may have changed sign inside a step. The first sign change is located on the step's
interpolant, which double crossings cannot hide from, and landed on with the method itself;
then the rules shared by all engines (`flowsim.engines.switching`) choose the next cells.
"""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Generator
from types import MappingProxyType
from typing import Any

import numpy as np

from flowsim.alignment.end import EndRule
from flowsim.cells import EPS, TOUCH
from flowsim.engines.alignment_watch import AlignmentWatch
from flowsim.engines.cell_flow import CellFlow
from flowsim.engines.frozen import FrozenCell, FrozenProblem
from flowsim.engines.problem import Advance, Driver, Land, Steps
from flowsim.engines.record import (
    REPORT_EVERY,
    ZENO_PER_NEURON,
    Limits,
    Progress,
    Record,
    progress_of,
    return_to_last_state,
    snapshot,
)
from flowsim.engines.state_store import StateStore
from flowsim.engines.stretch import Found, Split, Stretch
from flowsim.engines.switching import Cause
from flowsim.engines.user_watch import UserWatch
from flowsim.events import ALIVE, Event, EventLog
from flowsim.stationarity.classify import at_rest

#: Newton steps on the time of an event; the interpolant's root is close already.
LANDINGS = 6
#: Steps to ask for at a time: between them a run looks whether it rests, or its time is up.
CHUNK = 64
#: Neurons are put back onto their constants when one may have shrunk by this exponent.
SHRINK = 3.0
#: No method's steps in float64 err by less, whatever tolerance is asked for.
FLOOR = 1e-14
#: What errors of a run come to, in tolerances of a step, with methods that control them loosely.
ERRORS = MappingProxyType({"BDF": 32.0, "LSODA": 16.0, "RK23": 8.0})
#: Terms that cancel in the audit of dL/dt are known to this many ulp of their sum.
AUDIT_ULP = 256
#: Squared speeds below this have lost digits to underflow and cannot be audited.
SMALLEST_SPEED = 1e-280


def known_rtol(settings: dict[str, Any]) -> float:
    """Return what a state of a run is known up to, relative to each neuron: ties follow it."""
    return max(settings["rtol"] * ERRORS.get(settings["solver"], 1.0), FLOOR)


def run_cells(
    flow: CellFlow,
    problem: FrozenProblem,
    limits: Limits,
    rule: EndRule,
    store: StateStore,
    report: Callable[[Progress], None] | None = None,
    user: UserWatch | None = None,
    rows: EventLog | None = None,
) -> Driver:
    """Drive a run to its end; a generator of requests that returns its `Record`."""
    return _Run(
        flow, problem, limits, rule, store, report, user, EventLog() if rows is None else rows
    ).run()


class _Run:
    """One run; its methods are the phases of a pass through its loop."""

    def __init__(
        self, flow: CellFlow, problem: FrozenProblem, limits: Limits, rule: EndRule,
        store: StateStore, report: Callable[[Progress], None] | None, user: UserWatch | None,
        rows: EventLog,
    ) -> None:  # fmt: skip
        self.flow, self.problem, self.limits, self.store = flow, problem, limits, store
        self.report, self.user = report, user
        self.record = Record(rows=rows)
        self.record.rows += flow.switching.start(flow.time)
        self.watch = AlignmentWatch(rule, flow)
        self.began = self.reported = clock.monotonic()
        self.idle = 0
        self.h: float | None = None

    def run(self) -> Driver:
        record, flow = self.record, self.flow
        self._note_here()
        while not record.status:
            cell = flow.cell()
            velocity = FrozenProblem(False).field(0.0, flow.state.z, cell)
            record.status = self._stop() or self._unmoving(velocity)
            if record.status:
                break
            before = flow.time
            yield from self._advance(cell, self._reach(velocity))
            self.idle = self.idle + 1 if flow.time - before <= 4e-16 * before else 0
            self._tell()
        if record.status == "non_finite":
            return_to_last_state(record, self.store, flow)
        if self.report is not None:
            self.report(progress_of(record, flow))
        return record

    # -- stopping ---------------------------------------------------------------------

    def _stop(self) -> str:
        flow, limits = self.flow, self.limits
        if not np.all(np.isfinite(flow.state.z)):
            return "non_finite"
        if flow.time + flow.tail >= limits.t1:
            return "t1"
        if self._rests():
            return "stationary"
        if self.record.step >= limits.max_steps:
            return "max_steps"
        if clock.monotonic() - self.began >= limits.max_seconds:
            return "max_seconds"
        return "zeno" if self.idle > ZENO_PER_NEURON * len(flow.state.z) + 100 else ""

    def _rests(self) -> bool:
        if self.flow.frozen or self.limits.stationary_rtol == 0.0:
            return False
        return at_rest(snapshot(self.flow, self.flow.residual()), self.limits.stationary_rtol)

    def _unmoving(self, velocity: np.ndarray) -> str:
        """Where no neuron moves, none ever will: go to t1 at once, or rest."""
        if np.any(velocity):
            return ""
        if not np.isfinite(self.limits.t1):
            return "stationary"
        self.flow.time, self.flow.tail = self.limits.t1, 0.0
        self._note_here()
        return "t1"

    # -- one answer of the stepper -----------------------------------------------------

    def _reach(self, velocity: np.ndarray) -> float:
        """Return the longest time to go on without putting neurons back onto their constants.

        Errors off ``a^2 - ||w||^2 = const`` grow as the inverse square of a neuron that shrinks.
        `FrozenProblem.leaves` sees those that begin to shrink later.
        """
        z = self.flow.state.z
        size = np.sum(z * z, axis=1)
        shrinking = -np.sum(z * velocity, axis=1) / np.where(size > 0.0, size, 1.0)
        fastest = float(np.max(shrinking, initial=0.0))
        left = self.limits.t1 - self.flow.time - self.flow.tail
        return min(left, SHRINK / fastest) if fastest > 0.0 else left

    def _advance(self, cell: FrozenCell, span: float) -> Generator[Any, Any, None]:
        """Ask for steps in the present cells, and go through them until something happens."""
        flow, limits = self.flow, self.limits
        slides_depend = bool(flow.switching.groups.dependent)
        steps: Steps = yield Advance(
            self.problem,
            flow.state.z.copy(),
            cell,
            span,
            self.h,
            1 if slides_depend else min(limits.max_steps - self.record.step, CHUNK),
        )
        flow.work.add(steps)
        self.h = steps.h
        last = len(steps.t) - 1
        for i in range(1, last + 1):
            e = Stretch(cell, steps.y[i - 1], steps.y[i], float(steps.t[i] - steps.t[i - 1]))
            found = e.first_event() if steps.left and i == last else None
            ended = yield from self._take(e, found, steps, i, slides_depend)
            if ended:
                flow.settle()  # a rest inside the answer ends it as its end would
                return
        if steps.failure:
            self.record.status = steps.failure
        flow.settle()

    def _take(
        self, e: Stretch, found: Found | None, steps: Steps, i: int, slides_depend: bool
    ) -> Generator[Any, Any, bool]:
        """Take one step, or the part of it before an event; return whether to look around."""
        flow = self.flow
        tau, z, cause = e.h, e.z_end, None
        if found is not None:
            tau, z = yield from self._land(e, found)
            cause = self._cause(found, e.cell)
        if slides_depend:
            tau, cause, z = yield from self._dependent(e, tau, cause, z)
        flow.state.z = e.z.copy()
        if self.user is not None:
            end = yield from self._watch_user(e, tau)
            if end is not None:
                tau, z = end
                cause, self.record.status = None, "event"
        if self.watch.waits:
            yield from self._watch_alignment(e, tau)
        flow.state.z = z.copy()
        flow.forward(tau, self.limits.t1)
        if cause is not None:
            self._switch(cause)
            self._note_here()
            return True
        if self.record.status:
            self._note_here()
            return True
        self._note({name: float(values[i]) for name, values in steps.observed.items()})
        return bool(self._may_rest(steps.observed["rate"][i]) and self._rests())

    def _watch_user(
        self, e: Stretch, tau: float
    ) -> Generator[Any, Any, tuple[float, np.ndarray] | None]:
        """Note the user's events in the first `tau` of the step; return where one ends the run."""
        flow, user = self.flow, self.user
        assert user is not None
        for hit, refining in user.inside(flow, e, tau):
            at, z = 0.0, e.z
            try:
                at = next(refining)
                while True:
                    z = yield Land(self.problem, e.z, e.cell, at)
                    at = refining.send(user.network(flow.moved(Stretch(e.cell, e.z, z, at), at)))
            except StopIteration as stop:
                at = stop.value
            self.record.rows.append(hit.row(flow.time + at))
            if hit.terminal:
                z = (yield Land(self.problem, e.z, e.cell, at)) if at > 0.0 else e.z
                return at, z
        return None

    def _watch_alignment(self, e: Stretch, tau: float) -> Generator[Any, Any, None]:
        """Note the end of the alignment phase if it lies in the first `tau` of the step."""
        x = self.watch.end_within(self.flow, e, tau)
        if x is None:
            return
        inside: Stretch | Split = e
        if 0.0 < x < e.h:
            z = yield Land(self.problem, e.z, e.cell, x)
            inside = Split.of(e, x, z)
            x = self.watch.end_within(self.flow, inside, e.h) or x
        record = self.record
        record.alignment_time = self.flow.time + x
        record.alignment_state = self.flow.moved(inside, x)
        record.rows.append(Event(record.alignment_time, "alignment_end"))

    def _may_rest(self, rate: float) -> bool:
        cells = self.flow.cells
        bound = self.limits.stationary_rtol * cells.rate_scale * cells.weight * cells.n
        return bool(rate <= bound)

    def _land(self, e: Stretch, found: Found) -> Generator[Any, Any, tuple[float, np.ndarray]]:
        """Return the time and the state of an event, by Newton on the method's own steps."""
        tau, z = found.tau, e.z
        for _ in range(LANDINGS):
            if tau <= 0.0:
                return 0.0, e.z
            z = yield Land(self.problem, e.z, e.cell, tau)
            value, slope = e.excess(found, z)
            if abs(value) <= 0.25 * TOUCH or not slope < 0.0:
                return tau, z
            better = min(max(tau - value / slope, 0.0), e.h)
            if abs(better - tau) <= 4.0 * EPS * tau:
                return tau, z
            tau = better
        z = yield Land(self.problem, e.z, e.cell, tau)
        return tau, z

    def _dependent(
        self, e: Stretch, tau: float, cause: Cause | None, z: np.ndarray
    ) -> Generator[Any, Any, tuple[float, Cause | None, np.ndarray]]:
        """Look whether slides on dependent hyperplanes end inside the step."""
        switching = self.flow.switching
        ends, reason = tau, cause
        for slot in sorted(switching.groups.dependent):
            block = np.flatnonzero(switching.groups.slot == slot)
            ends, reason = switching.dependent_end(block, e.residual, ends, reason)
        if ends < tau:
            z = yield Land(self.problem, e.z, e.cell, ends)
        return ends, reason, z

    # -- events and records ------------------------------------------------------------

    def _cause(self, found: Found, cell: FrozenCell) -> Cause:
        j = found.neuron
        if found.what != "slide":
            plane = found.column if found.what == "margin" else -1
            return Cause(found.what, np.array([j]), plane)
        width = cell.plane.shape[1]
        slot = self.flow.switching.groups.slot
        side = 1 if found.column < width else -1
        plane = int(cell.plane[j, found.column % width])
        return Cause("slide", np.flatnonzero(slot == slot[j]), plane, side)

    def _switch(self, cause: Cause) -> None:
        """Put the neuron exactly where its event is, so that it cannot fire again; switch."""
        flow = self.flow
        j = int(cause.neurons[0])
        if cause.what == "margin":
            normal = flow.cells.normals[cause.plane]
            w = flow.state.z[j, 1:]
            w -= float(normal @ w) * normal
        elif cause.what == "sign":
            flow.state.z[j, 0] = 0.0
        flow.settle()
        self.record.rows += flow.switching.switch(cause, flow.time)

    def _note_here(self) -> None:
        problem, cell = FrozenProblem(False), self.flow.cell()
        z = self.flow.state.z
        observed = problem.observe(z, problem.field(0.0, z, cell), cell)
        self._note({name: float(value) for name, value in observed.items()})

    def _note(self, observed: dict[str, float]) -> None:
        record, flow = self.record, self.flow
        record.time.append(flow.time)
        record.loss.append(observed["loss"])
        record.speed.append(observed["speed"])
        record.rate.append(observed["rate"])
        record.alive.append(int(np.sum(flow.state.fate == ALIVE)))
        self.store.offer(self.record.step, flow)
        speed = observed["speed"]
        if not flow.frozen and speed > SMALLEST_SPEED:
            excess = abs(observed["slope"] + speed) - AUDIT_ULP * EPS * observed["noise"]
            record.dissipation = max(record.dissipation, excess / speed)

    def _tell(self) -> None:
        now = clock.monotonic()
        if self.report is not None and now - self.reported >= REPORT_EVERY:
            self.report(progress_of(self.record, self.flow))
            self.reported = now

"""Drive a descent to its end: stop conditions, events, records, stored states."""

from __future__ import annotations

import time as clock
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flowsim.alignment.end import Alignment, EndRule
from flowsim.engines.descent.loop import Going, Watch
from flowsim.engines.descent.machine import Machine, Packed
from flowsim.engines.descent.measure import Seen
from flowsim.engines.record import REPORT_EVERY, Progress
from flowsim.events import EventLog, Events, kind_code

#: States and rows of the history in a decade of steps, unless all are asked for.
A_DECADE = 32
#: Seconds that a compiled call may take before the host looks around.
CALL = 0.5
#: Of rows of the history every so many are tested for rest where rates are large.
LOOK_EVERY = 8


@dataclass(eq=False)
class DescentRecord:
    """What a descent leaves behind, in the user's units."""

    iteration: list[int] = field(default_factory=list)
    time: list[float] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    states: list[tuple[int, Packed]] = field(default_factory=list)  # with rows of the history
    rows: EventLog = field(default_factory=EventLog)
    status: str = ""
    alignment_time: float = float("nan")
    alignment_params: np.ndarray | None = None
    alignment: Alignment | None = None  # of the run that this one goes on with


@dataclass(frozen=True, eq=False)
class Plan:
    """When to stop, and what to keep.

    Attributes
    ----------
    steps : int
        The last step; `asked` says that it is the run's end and no budget.
    see : callable
        Returns `Seen` of parameters.
    rests : callable
        Returns whether parameters are at rest, given what has been seen of them and whether to
        look closely.
    policy, budget : str, int
        Which states are stored, and their bytes.
    """

    steps: int
    asked: bool
    t1: float
    max_seconds: float
    see: Callable[[Any], Seen]
    rests: Callable[[Any, Seen, bool], bool]
    policy: str
    budget: int
    units: int


def descend(
    machine: Machine,
    plan: Plan,
    rule: EndRule | None,
    record: DescentRecord,
    report: Callable[[Progress], None] | None = None,
    checkpoint: Callable[[DescentRecord], None] | None = None,
) -> DescentRecord:
    """Take steps until a stop condition holds; always says which.

    Parameters
    ----------
    machine : Machine
    plan : Plan
    rule : EndRule, optional
        What ends the alignment phase, in the user's units; None for nothing.
    record : DescentRecord
        Empty, or that of a run to go on with.
    report, checkpoint : callable, optional
        Called now and then with a `Progress`, and with the record.
    """
    return _Descent(machine, plan, rule, record, report, checkpoint).run()


class _Descent:
    """One descent."""

    def __init__(
        self, machine: Machine, plan: Plan, rule: EndRule | None, record: DescentRecord,
        report: Callable[[Progress], None] | None,
        checkpoint: Callable[[DescentRecord], None] | None,
    ) -> None:  # fmt: skip
        self.machine, self.plan, self.record = machine, plan, record
        self.report, self.checkpoint = report, checkpoint
        self.rule = rule if np.isnan(record.alignment_time) else None
        self.began = self.reported = clock.monotonic()
        self.chunk = 64

    def run(self) -> DescentRecord:
        record = self.record
        going = self.machine.first
        if record.states:
            going = self.machine.unpacked(record.states[-1][1])
            record.status = ""
        else:
            going = self._looked(going)
            self._note(going)
        record.status = self._stop(going)
        while not record.status:
            going = self._advance(going, self._next(int(going.step)))
            record.status = self._stop(going)
            self._tell()
        return record

    # -- steps ------------------------------------------------------------------------

    def _next(self, step: int) -> int:
        """Return the next step to record."""
        if self.plan.policy == "all":
            return min(step + 1, self.plan.steps)
        index = int(np.floor(A_DECADE * np.log10(max(step, 1)) + 1e-9))
        after = step
        while after <= step:
            index += 1
            after = round(10 ** (index / A_DECADE))
        return min(after, self.plan.steps)

    def _advance(self, going: Going, goal: int) -> Going:
        """Take steps up to `goal`, and record the last one."""
        until = self.plan.t1 * (1.0 - 4e-16)
        while int(going.step) < goal and float(going.time) < until:
            last = min(goal, int(going.step) + self.chunk)
            before, started = int(going.step), clock.monotonic()
            going = self._emptied(self.machine.go(going, last, until, self._watch()))
            taken, seconds = int(going.step) - before, clock.monotonic() - started
            if taken == last - before and seconds < 0.5 * CALL:
                self.chunk *= 2
            elif seconds > 2 * CALL and self.chunk > 1:
                self.chunk //= 2
            self._tell()
            if clock.monotonic() - self.began >= self.plan.max_seconds:
                break
        going = self._looked(going)  # a state that is stored has nothing left to be noted
        self._note(going)
        return going

    def _watch(self) -> Watch | None:
        if self.rule is None:
            return None
        return self.machine.watch(self.rule)

    def _emptied(self, going: Going) -> Going:
        """Take note of events, and let the loop go on."""
        record = self.record
        if bool(going.departed):
            record.alignment_time = float(going.time)
            record.alignment_params = self.machine.packed(going).params
            record.rows.extend(_single(record.alignment_time, "alignment_end"))
            self.rule = None
        events = self.machine.events(going)
        if len(events):
            record.rows.extend(events)
        if len(events) or bool(going.departed):
            going = self.machine.emptied(going)
        return going

    def _looked(self, going: Going) -> Going:
        """Look for events of the present state, which steps have not."""
        watch = self._watch()
        while True:
            found = self.machine.look(going, watch)
            ended = not (bool(found.departed) or bool(found.halted) or int(found.changes.count))
            going = self._emptied(found)
            if ended:
                return going
            watch = self._watch()

    # -- records ----------------------------------------------------------------------

    def _note(self, going: Going) -> None:
        """Add a row to the history, and store the state."""
        record = self.record
        step, time = int(going.step), float(going.time)
        seen = self.plan.see(self.machine.params(going))  # before a row: Ctrl-C leaves none half
        record.iteration.append(step)
        record.time.append(time)
        record.seen.append(seen)
        if np.isfinite(record.seen[-1].loss):
            self._keep(going)

    def _keep(self, going: Going) -> None:
        """Store a state; the latest one always is, since a run that is cut short goes on there."""
        record, row = self.record, len(self.record.iteration) - 1
        if record.states and record.states[-1][0] == row:
            return
        packed = self.machine.packed(going)
        size, count = packed.params.nbytes + packed.memory.nbytes, len(record.states) + 1
        if self.plan.policy == "ends":
            del record.states[1:]
        elif count > 2 and count * size > self.plan.budget:
            record.states = record.states[::2]
        record.states.append((row, packed))

    def _stop(self, going: Going) -> str:
        plan, seen = self.plan, self.record.seen[-1]
        if not np.isfinite(seen.loss):
            return "non_finite"
        close = len(self.record.seen) % LOOK_EVERY == 0
        if plan.rests(self.machine.params(going), seen, close):
            return "stationary"
        if float(going.time) >= plan.t1 * (1.0 - 4e-16):
            return "t1"
        if int(going.step) >= plan.steps:
            return "steps" if plan.asked else "max_steps"
        if clock.monotonic() - self.began >= plan.max_seconds:
            return "max_seconds"
        return ""

    def _tell(self) -> None:
        now = clock.monotonic()
        if self.report is not None and now - self.reported >= REPORT_EVERY:
            self.report(self._progress())
            self.reported = now
        if self.checkpoint is not None:
            self.checkpoint(self.record)

    def _progress(self) -> Progress:
        record, seen = self.record, self.record.seen
        return Progress(
            phase="descent" if self.rule is None else "alignment",
            t=record.time[-1],
            loss=seen[-1].loss,
            loss0=seen[0].loss,
            events=len(record.rows),
            steps=record.iteration[-1],
            rate=seen[-1].rate,
            alive=self.plan.units if seen[-1].alive < 0 else seen[-1].alive,
        )


def _single(t: float, kind: str) -> Events:
    none = np.full(1, -1)
    return Events(
        np.array([t]), np.array([kind_code(kind)], np.int8), none.astype(np.int32),
        none.astype(np.int32), none.astype(np.int8), none.astype(np.int8),
    )  # fmt: skip

"""What every engine keeps of a run: limits, records, progress."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from flowsim.cells import Cells
from flowsim.events import EventLog
from flowsim.state import State
from flowsim.stationarity.classify import Snapshot

if TYPE_CHECKING:
    from flowsim.alignment.end import Alignment
    from flowsim.certificates.certificate import Certificate
    from flowsim.engines.state_store import StateStore

#: Consecutive restarts without progress in time, a neuron, before a run counts as Zeno.
ZENO_PER_NEURON = 4
#: Seconds between progress reports.
REPORT_EVERY = 0.1


class Flow(Protocol):
    """The present state of a run on an engine, in the scaled units of `Cells`."""

    cells: Cells
    state: State
    frozen: bool
    time: float
    tail: float
    drift: float

    def residual(self) -> np.ndarray:
        """Return the residual (n,) of the present state, or y where it is frozen."""
        ...

    def whole(self) -> State:
        """Return the state of all neurons; in `state` some may go on as one."""
        ...

    def return_to(self, state: State) -> None:
        """Put all neurons back where they were, as the end of a run."""
        ...


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


@dataclass(eq=False)
class Record:
    """What a run leaves behind (scaled units).

    `status` is empty while it goes on; `alignment` is the end of the phase, once it has been
    looked at.
    """

    time: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    speed: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    alive: list[int] = field(default_factory=list)
    rows: EventLog = field(default_factory=EventLog)
    status: str = ""
    alignment_time: float = float("nan")
    alignment_state: State | None = None
    alignment: Alignment | None = None
    dissipation: float = 0.0
    certificate: Certificate | None = None

    @property
    def step(self) -> int:
        """Number of the last step noted."""
        return len(self.time) - 1

    def back_to(self, step: int) -> None:
        """Forget the steps after `step`; events are not touched."""
        for series in (self.time, self.loss, self.speed, self.rate, self.alive):
            del series[step + 1 :]


def snapshot(flow: Flow, r: np.ndarray) -> Snapshot:
    """Return the present state as the verdict needs it."""
    s = flow.whole()
    return Snapshot(flow.cells, s.z, s.mass, s.sign, s.balance == 0, s.code, s.fate, r.copy())


def progress_of(record: Record, flow: Flow) -> Progress:
    """Return where a run is, in the user's units."""
    aligned = not np.isnan(record.alignment_time)
    cells = flow.cells
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


def return_to_last_state(record: Record, store: StateStore, flow: Flow) -> None:
    """Undo what came after the last state: it ends in something that is not finite."""
    last = store.latest
    if last is None:
        raise ValueError(
            "Argument `net` must have finite outputs and fields on the data, but its squares "
            "overflow; choose a smaller scale."
        )
    flow.time, flow.tail = last.time, last.tail
    present = flow.whole()
    flow.return_to(last.state(present.gap, present.gap_exponent, flow.cells))
    record.back_to(last.step)
    record.rows.until(flow.time)

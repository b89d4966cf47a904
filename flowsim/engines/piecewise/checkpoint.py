"""Checkpoints of a run: saved between steps now and then, and when the run is interrupted."""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from flowsim.engines.piecewise.integrator import Integrator
from flowsim.engines.piecewise.restart import recall, restart_of
from flowsim.engines.record import Record
from flowsim.engines.state_store import StateStore
from flowsim.solution import Restart
from flowsim.state import State


@dataclass(frozen=True, eq=False)
class _Held:
    """The run between two steps."""

    step: int
    events: int
    alignment_time: float
    time: float
    tail: float
    drift: float
    state: State
    restart: Restart


class Checkpoint:
    """Save a run every so many seconds, first before its first step.

    Parameters
    ----------
    integrator, record, store : Integrator, Record, StateStore
        Of the run.
    seconds : float
        From the end of one save to the next.
    save : callable
        Saves the run as its integrator, record and store have it.
    """

    def __init__(
        self, integrator: Integrator, record: Record, store: StateStore, seconds: float,
        save: Callable[[], None],
    ) -> None:  # fmt: skip
        self.integrator, self.record, self.store = integrator, record, store
        self.seconds, self.save = seconds, save
        self._saved = float("-inf")
        self._held: _Held | None = None

    def offer(self) -> None:
        """Hold the present state, which is between two steps, and save the run if it is time."""
        flow, record = self.integrator, self.record
        self._held = _Held(
            record.step, len(record.rows), record.alignment_time,
            flow.time, flow.tail, flow.drift, flow.whole().copy(), restart_of(flow),
        )  # fmt: skip
        if clock.monotonic() - self._saved >= self.seconds:
            self.save()
            self._saved = clock.monotonic()

    @contextmanager
    def rescuing(self) -> Iterator[None]:
        """Save the run as it was before its last step if Ctrl-C interrupts the block."""
        try:
            yield
        except KeyboardInterrupt:
            if self._held is not None:
                self._return_to(self._held)
                self.save()
            raise

    def _return_to(self, held: _Held) -> None:
        """Undo what the interrupted step has done."""
        flow, record, store = self.integrator, self.record, self.store
        flow.return_to(held.state)
        flow.time, flow.tail = held.time, held.tail
        flow.drift = held.drift
        recall(flow, held.restart)
        record.status, record.alignment_time = "", held.alignment_time
        if np.isnan(held.alignment_time):
            record.alignment = record.alignment_state = None
        record.back_to(held.step)
        record.rows.first(held.events)
        store.rows = [row for row in store.rows if row.step <= held.step]

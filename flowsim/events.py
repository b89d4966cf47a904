"""What can happen along a gradient flow, in one vocabulary for all engines."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

import numpy as np

from flowsim._event_rows import COLUMNS, EVENT_BYTES, ROW, Rows, columns_of, in_time_order

#: Names of the event kinds; an event's integer code is its index here.
EVENT_KINDS = (
    "pattern",  # one row a sample whose activation code changed: -1 off, 0 slide, 1 on
    "death",  # the neuron has left its last sample and never moves again
    "origin",  # w_j has reached 0 while a_j != 0
    "sign_change",  # a_j has passed through 0 (only where |a_j| < ||w_j||)
    "ambiguous",  # the flow is not unique here; the stated policy has chosen
    "alignment_end",  # the residual has left y by the stated relative amount
    "plateau",  # a local minimum in time of the speed: a saddle is passed
    "stationary",  # the flow has ended
    "user",  # component `sample` of the user's function `neuron` has crossed zero
    "certified",  # from here on no neuron leaves its cell, and the loss tends to a known limit
)

#: Names of a neuron's fates; its integer code is its index here.
FATES = (
    "alive",
    "dead",  # off on every sample (some at margin exactly 0: where it died)
    "origin",  # w_j = 0 with a_j != 0 and the zero field among its neighbours: it stays
    "zero",  # a_j = 0 and w_j = 0: it never moves
)
ALIVE, DEAD, ORIGIN, ZERO = range(4)


def kind_code(kind: str) -> int:
    """Return the integer code of an event kind."""
    if kind not in EVENT_KINDS:
        raise ValueError(
            f"Argument `kind` must be one of {', '.join(EVENT_KINDS)}, but is {kind!r}."
        )
    return EVENT_KINDS.index(kind)


@dataclass(frozen=True)
class Event:
    """One event; -1 stands where neuron, sample or codes do not apply."""

    t: float
    kind: str
    neuron: int = -1
    sample: int = -1
    before: int = -1
    after: int = -1


@dataclass(frozen=True, eq=False)
class Events:
    """A table of events ordered by time.

    Attributes
    ----------
    t : (E,) float64
        Time of the flow.
    kind_code : (E,) int8
        Index into `EVENT_KINDS`; `kind` has the names.
    neuron, sample : (E,) int32
        Who changed, -1 where not applicable.
    before, after : (E,) int8
        Activation codes of `pattern` events (-1 off, 0 slide, 1 on); signs of
        ``a_j`` for `sign_change`, of the function for `user`; -1 where not applicable.
    """

    t: np.ndarray
    kind_code: np.ndarray
    neuron: np.ndarray
    sample: np.ndarray
    before: np.ndarray
    after: np.ndarray

    @classmethod
    def from_rows(cls, rows: Iterable[Event]) -> Events:
        """Build the table; the sort by time is stable, so causes precede effects."""
        rows = sorted(rows, key=lambda row: row.t)
        return cls(
            t=np.array([row.t for row in rows], dtype=np.float64),
            kind_code=np.array([kind_code(row.kind) for row in rows], dtype=np.int8),
            neuron=np.array([row.neuron for row in rows], dtype=np.int32),
            sample=np.array([row.sample for row in rows], dtype=np.int32),
            before=np.array([row.before for row in rows], dtype=np.int8),
            after=np.array([row.after for row in rows], dtype=np.int8),
        )

    @property
    def kind(self) -> np.ndarray:
        """(E,) names of the kinds."""
        return np.array(EVENT_KINDS)[self.kind_code]

    def where(self, kind: str) -> Events:
        """Return the events of one kind."""
        return self.select(self.kind_code == kind_code(kind))

    def select(self, rows: np.ndarray) -> Events:
        """Return the events of a mask, or of indices."""
        return Events(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def __len__(self) -> int:
        return len(self.t)

    def __repr__(self) -> str:
        counts = np.bincount(self.kind_code, minlength=len(EVENT_KINDS))
        parts = [f"{EVENT_KINDS[i]}={c}" for i, c in enumerate(counts) if c]
        return f"Events({len(self)}: {', '.join(parts)})" if parts else "Events(0)"


class EventLog:
    """The events of a run that goes on: single rows and whole tables, in any order of time.

    Parameters
    ----------
    budget : int
        Bytes of events to keep in memory; more are in temporary files.
    """

    def __init__(self, budget: int = EVENT_BYTES) -> None:
        self._budget = budget
        self._rows = Rows(budget)

    def append(self, row: Event) -> None:
        """Add one event."""
        self._rows.append(_row(row))

    def extend(self, rows: Events | Iterable[Event]) -> None:
        """Add a table, or single events."""
        if isinstance(rows, Events):
            block = np.empty(len(rows), ROW)
            for name in COLUMNS:
                block[name] = getattr(rows, name)
            self._rows.extend(block)
        else:
            for row in rows:
                self.append(row)

    def __iadd__(self, rows: Iterable[Event]) -> EventLog:
        self.extend(rows)
        return self

    def __len__(self) -> int:
        return len(self._rows)

    def until(self, t: float) -> None:
        """Forget what is later than `t`."""
        self._keep(rows[rows["t"] <= t] for rows in self._rows.chunks())

    def first(self, count: int) -> None:
        """Forget what has come after the first `count` events."""
        ends = itertools.accumulate(len(rows) for rows in self._rows.chunks())
        self._keep(
            rows[: max(count - end + len(rows), 0)]
            for rows, end in zip(self._rows.chunks(), ends, strict=True)
        )

    def table(self, time_exponent: int = 0, late: Iterable[Event] = ()) -> Events:
        """Return all events by time; those of one time in the order in which they came.

        Parameters
        ----------
        time_exponent : int
            Times are multiplied by this power of two.
        late : iterable of Event
            Events that belong to the table, as if they had come last.
        """
        more = np.array([_row(row) for row in late], ROW)
        ordered = _scaled(in_time_order(self._rows, more), time_exponent)
        return Events(**columns_of(ordered, len(self) + len(more), self._budget))

    def _keep(self, chunks: Iterable[np.ndarray]) -> None:
        kept = Rows(self._budget)
        for rows in chunks:
            kept.extend(rows)
        self._rows = kept


def _scaled(chunks: Iterable[np.ndarray], exponent: int) -> Iterator[np.ndarray]:
    for rows in chunks:
        rows["t"] = np.ldexp(rows["t"], exponent)
        yield rows


def _row(event: Event) -> tuple[float, int, int, int, int, int]:
    """Return an event in the order of `COLUMNS`."""
    code = kind_code(event.kind)
    return event.t, event.neuron, event.sample, code, event.before, event.after

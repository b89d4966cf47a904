"""What a rigorous run has proved."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim.events import Event, Events

if TYPE_CHECKING:
    import os

    from flint import arb

#: How a rigorous run can end.
OUTCOMES = ("t1", "accepted", "at_rest", "undecided", "max_steps", "max_seconds")


@dataclass(frozen=True, eq=False)
class EnclosedEvent:
    """One event, as in `flowsim.events.Event`, with a ball that contains its time."""

    t: arb
    kind: str
    neuron: int
    sample: int = -1
    before: int = -1
    after: int = -1


@dataclass(frozen=True, eq=False)
class EnclosedState:
    """A state: the true one lies in the balls, its cells and fates are proved.

    Attributes
    ----------
    t : arb
        The time: exact at t1, else a ball, within which the true solution has this state.
    a : list (m) of arb
    W : list (m) of lists (d) of arb
    sign : tuple (m) of int
        Sign of ``a_j``.
    gap : tuple (m) of Fraction
        The conserved ``a_j^2 - ||w_j||^2``, exactly.
    code : ndarray (m, G) of int8
        Side of every neuron at every hyperplane, -1, 0 (slide) or 1, as in `flowsim.cells.Cells`.
    fate : ndarray (m,) of int8
        Index into `flowsim.events.FATES`.
    error : arb
        The true state of all moving neurons is within this (Euclidean) of the midpoints.
    """

    t: arb
    a: list[arb]
    W: list[list[arb]]
    sign: tuple[int, ...]
    gap: tuple[Fraction, ...]
    code: np.ndarray
    fate: np.ndarray
    error: arb


@dataclass(frozen=True, eq=False)
class Enclosure:
    """The result of `enclose`: everything in it is proved, if `rigorous`.

    Attributes
    ----------
    status : str
        "t1", "accepted" (by the callback), "at_rest" (no neuron moves, and none ever will),
        "undecided" (something could not be proved), "max_steps" or "max_seconds".
    message : str
        One sentence; of "undecided" runs what could not be proved, and where.
    events : tuple of EnclosedEvent
        All events up to the end, in their proved order.
    state : EnclosedState
        The state at the end.
    t1 : float
        The time asked for; infinite if none was.
    precision : int
        Bits of the run that succeeded, or of the last one.
    order : int
        Order of the Taylor polynomials.
    steps : int
    rigorous : bool
    """

    status: str
    message: str
    events: tuple[EnclosedEvent, ...]
    state: EnclosedState
    t1: float
    precision: int
    order: int
    steps: int
    rigorous: bool

    def table(self) -> Events:
        """Return the events with the midpoints of their times."""
        return Events.from_rows(
            Event(float(e.t.mid()), e.kind, e.neuron, e.sample, e.before, e.after)
            for e in self.events
        )

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the result as JSON with exact numbers; with `path`, write it there at once.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        from flowsim.engines.validated.serial import dumps, write

        text = dumps(self)
        if path is not None:
            write(text, path)
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        return Enclosure.from_json, (self.to_json(),)

    @staticmethod
    def from_json(source: str | os.PathLike[str]) -> Enclosure:
        """Read a result from JSON text, or from the file that a path names.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it holds no such result.
        """
        from flowsim.engines.validated.serial import loads, read

        text = source if isinstance(source, str) and source.lstrip().startswith("{") else None
        return loads(read(source) if text is None else text)

    def __repr__(self) -> str:
        kind = "rigorous" if self.rigorous else "not rigorous"
        return (
            f"Enclosure({self.status} at t = {float(self.state.t.mid()):.6g}, "
            f"{len(self.events)} events, {self.steps} steps, {self.precision} bits, {kind})"
        )

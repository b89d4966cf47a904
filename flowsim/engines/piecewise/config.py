"""The piecewise engine as an option of a run."""

from __future__ import annotations

from dataclasses import dataclass

from flowsim._arguments import flag


@dataclass(frozen=True)
class Piecewise:
    """Integrate with the event-driven Taylor engine, for two-layer (leaky) ReLU networks.

    The default for these: every event is a root of a Taylor polynomial, see docs/engine.md.

    Parameters
    ----------
    every_event : bool
        Restart the whole system at every event, instead of only where crossings would turn other
        neurons by more than the tolerance: far slower with many neurons, and within the
        tolerance the same.
    """

    every_event: bool = False

    def __post_init__(self) -> None:
        flag("every_event", self.every_event)
